"""Ctrl-C and kill -9 at random moments: nothing doubled, nothing lost but the batch in flight, the same hits."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.errors import GalleryNotFound

from .conftest import environment

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")]

PICTURES, REGIONS = 30, 5
INDEX_KILLS, COMPACT_KILLS, REMOVE_KILLS = 22, 10, 6
SCRIPT = Path(__file__).with_name("many_commits.py")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=SCRIPT.parent
    )


def complete(*arguments: object) -> float:
    """Run to the end; returns how long it took."""
    began = time.monotonic()
    process = start(*arguments)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return time.monotonic() - began


def interrupted(moment: float, how: signal.Signals, *arguments: object) -> bool:
    """Run until a moment, then send a signal; whether it came before the end."""
    process = start(*arguments)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        return False
    if how == signal.SIGINT:
        # The shell's code where the program answered; before it is entered, Python answers in its own way.
        python_answered = process.returncode == -signal.SIGINT or "Fatal Python error: init_" in err
        assert python_answered or (process.returncode == 130 and "Traceback" not in err), err
    else:
        assert process.returncode == -how, err
    return True


def state(gallery: Gallery) -> dict[str, bytes]:
    """Path to stored vectors; every picture once, every byte as it was written, no row more than that."""
    assert gallery.verify().problems == []
    info = gallery.info()
    assert info.images == info.distinct_images
    assert info.regions == REGIONS * info.images
    snapshot = gallery._store.snapshot()
    held = {path: snapshot.vectors(index).tobytes() for path, index in snapshot.paths(range(len(snapshot)))}
    assert len(held) == info.images
    return held


def assert_same(held: dict[str, bytes], reference: dict[str, bytes]) -> None:
    """The same images; vectors may differ by the rounding of another batch, as fp16 shows it."""
    assert set(held) == set(reference)
    for path, vectors in held.items():
        mine, theirs = (np.frombuffer(stored, "<f2").astype(np.float32) for stored in (vectors, reference[path]))
        np.testing.assert_allclose(mine, theirs, atol=1e-3)


def hits(gallery: Gallery, query: Image.Image) -> list[Any]:
    return [(hit.path, hit.box, hit.level) for hit in gallery.search(query, k=10)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import make_picture

    folder = tmp_path_factory.mktemp("kill") / "photos"
    folder.mkdir()
    for seed in range(PICTURES):
        make_picture(seed).save(folder / f"{seed:02d}.png")
    return folder


@pytest.fixture(scope="module")
def reference(photos: Path) -> tuple[Path, float]:
    """A gallery made without interruption, and how long that took."""
    gallery = photos.parent / "reference"
    took = complete("index", photos, "-g", gallery, "--regions", "pyramid:1")
    return gallery, took


def test_indexing_survives_every_kill(
    photos: Path, reference: tuple[Path, float], tmp_path: Path, picture: Callable[..., Image.Image]
) -> None:
    generator = random.Random(1)
    with Gallery.open(reference[0]) as whole:
        expected = state(whole)
        assert len(expected) == PICTURES
        expected_hits = [hits(whole, picture(seed)) for seed in range(0, PICTURES, 10)]
    kills = rounds = partial = 0
    while kills < INDEX_KILLS or rounds < 2:
        gallery = tmp_path / str(rounds)
        committed: dict[str, bytes] = {}
        while True:
            moment = reference[1] * generator.uniform(0.05, 0.8)
            how = generator.choice([signal.SIGINT, signal.SIGKILL])
            killed = interrupted(moment, how, "index", photos, "-g", gallery, "--regions", "pyramid:1")
            kills += killed
            try:
                with Gallery.open(gallery) as opened:
                    held = state(opened)
                    assert opened.info().dead_regions == 0
            except GalleryNotFound:
                held = {}
            for path, vectors in committed.items():
                assert held.get(path) == vectors, f"{path} was lost or changed by {how.name} after {moment:.3f} s"
            partial += 0 < len(held) - len(committed) < PICTURES and killed
            committed = held
            if not killed:
                break
        assert_same(committed, expected)
        with Gallery.open(gallery) as opened:
            assert [hits(opened, picture(seed)) for seed in range(0, PICTURES, 10)] == expected_hits
            assert len(opened) == PICTURES
        rounds += 1
    assert partial > 5  # most kills came while something was being stored


def test_compaction_survives_every_kill(
    reference: tuple[Path, float], tmp_path: Path, photos: Path, picture: Callable[..., Image.Image]
) -> None:
    generator = random.Random(2)
    kills = rounds = 0
    took = 0.0
    while kills < COMPACT_KILLS:
        gallery = tmp_path / str(rounds)
        shutil.copytree(reference[0], gallery)
        with Gallery.open(gallery) as opened:
            opened.remove(*(photos / f"{number:02d}.png" for number in generator.sample(range(1, PICTURES), 10)))
            before = state(opened)
            before_hits = opened.search(picture(0), k=99)
            assert opened.info().dead_regions == 10 * REGIONS
        if not took:
            shutil.copytree(gallery, tmp_path / "timed")
            took = complete("compact", "-g", tmp_path / "timed")
        killed = True
        while killed and kills < COMPACT_KILLS:
            how = generator.choice([signal.SIGINT, signal.SIGKILL])
            killed = interrupted(took * generator.uniform(0.3, 1.0), how, "compact", "-g", gallery)
            kills += killed
            with Gallery.open(gallery) as opened:
                assert state(opened) == before
                assert opened.search(picture(0), k=99) == before_hits
        with Gallery.open(gallery) as opened:
            opened.compact()
            assert state(opened) == before
            assert opened.search(picture(0), k=99) == before_hits
            assert opened.info().dead_regions == 0
            assert opened.info().vector_bytes == 20 * REGIONS * (2 * 256 + 22)
            assert opened.add(photos).added == 10
            assert len(state(opened)) == PICTURES
        rounds += 1


def test_removal_is_all_or_nothing(reference: tuple[Path, float], tmp_path: Path, photos: Path) -> None:
    generator = random.Random(3)
    shutil.copytree(reference[0], tmp_path / "g")
    with Gallery.open(tmp_path / "g") as opened:
        before = state(opened)
    shutil.copytree(reference[0], tmp_path / "timed")
    gone = [photos / f"{number:02d}.png" for number in range(15)]
    took = complete("remove", *gone, "-g", tmp_path / "timed")
    kills = attempts = 0
    while kills < REMOVE_KILLS and attempts < 3 * REMOVE_KILLS:
        attempts += 1
        how = generator.choice([signal.SIGINT, signal.SIGKILL])
        kills += interrupted(took * generator.uniform(0.5, 1.0), how, "remove", *gone, "-g", tmp_path / "g")
        with Gallery.open(tmp_path / "g") as opened:
            left = state(opened)
            assert left in (before, {path: held for path, held in before.items() if Path(path) not in gone})
            if left != before:
                assert opened.add(photos).encoded_regions == 0  # not compacted yet, so nothing needs encoding
                assert state(opened) == before
    assert kills >= REMOVE_KILLS // 2
