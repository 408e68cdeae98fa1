"""Galleries of many shards, of which each keeps files open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from patchwise.store import Store
from patchwise.store import shards as shards_module
from store.conftest import DIMENSION, make_encoded

pytest.importorskip("resource")

SHARDS = 60
OPENED = """
import resource, sys
from pathlib import Path
import numpy
from patchwise.errors import GalleryError
from patchwise.store import Store
soft, hard = map(int, sys.argv[2:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
with Store(Path(sys.argv[1])) as store:
    try:
        snapshot = store.snapshot()
    except GalleryError as error:
        print(type(error).__name__, error)
    else:
        print(len(snapshot), snapshot.gather(numpy.arange(snapshot.rows)).shape, len(snapshot.regions(0)))
        print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 2 * len(snapshot.shards))
"""


@pytest.fixture
def many(store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 2 * DIMENSION)
    with store.writer() as writer:
        writer.add([make_encoded(f"/p/{seed}", seed) for seed in range(SHARDS)])
    assert len(store.snapshot().shards) == SHARDS
    return store.folder


def opened(folder: Path, soft: int, hard: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", OPENED, str(folder), str(soft), str(hard)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_limit_of_open_files_is_raised_where_it_may_be(many: Path) -> None:
    assert opened(many, 50, 1_000) == f"{SHARDS} ({5 * SHARDS}, {DIMENSION}) 5\nTrue\n"


def test_no_more_files_than_the_system_allows(many: Path) -> None:
    said = opened(many, 50, 90)
    assert said.startswith(f"GalleryError {many}/vectors: {2 * SHARDS} files have to be open at once")
    assert f"ulimit -n {4 * SHARDS + 64}" in said
