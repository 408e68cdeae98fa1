"""Vector shards: what is appended is read back, what is not committed does not count, what is missing is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from patchwise.errors import GalleryDamaged, StorageFull
from patchwise.regions import Pyramid, View
from patchwise.store import shards as module
from patchwise.store.shards import VECTORS, Shards, checksum

DIMENSION = 6


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    (tmp_path / VECTORS).mkdir()
    return Shards(tmp_path, DIMENSION)


def rows(seed: int, level: int = 1) -> tuple[np.ndarray, np.ndarray]:
    table = Pyramid(level).regions(View((50 + seed, 40))).table
    vectors = np.random.default_rng(seed).normal(size=(len(table), DIMENSION)).astype("<f2")
    return vectors, table


def test_rows_are_read_back_as_they_were_appended(shards: Shards) -> None:
    first, second = rows(1), rows(2)
    shards.append(1, 0, *first)
    shards.append(1, 5, *second)
    assert shards.stored(1, 0, 5).tobytes() == first[0].tobytes()
    assert shards.stored(1, 5, 5).tobytes() == second[0].tobytes()
    assert shards.regions(1, 5, 5).table.tobytes() == second[1].tobytes()
    assert shards.vectors(1, 10).read(0, 10).tobytes() == first[0].tobytes() + second[0].tobytes()
    assert shards.vectors(1, 10).read(0, 10).shape == (10, DIMENSION)
    assert shards.ids_on_disk() == [1]
    assert shards.bytes_on_disk() == 10 * (2 * DIMENSION + 22)


def test_the_files_are_what_the_documentation_says(shards: Shards) -> None:
    vectors, table = rows(1)
    shards.append(1, 0, vectors, table)
    assert (shards.folder / "000001.f16").read_bytes() == vectors.astype("<f2").tobytes()
    assert (shards.folder / "000001.regions").read_bytes() == table.tobytes()


@pytest.mark.parametrize("tail", [b"", b"x", b"left over from a killed run" * 99])
def test_a_tail_that_was_never_committed_is_overwritten(shards: Shards, tail: bytes) -> None:
    first, second = rows(1), rows(2)
    shards.append(1, 0, *first)
    for suffix in (".f16", ".regions"):
        with shards.path(1, suffix).open("ab") as file:
            file.write(tail)
    assert shards.problems(1, 5) == []
    shards.append(1, 5, *second)
    assert shards.path(1).stat().st_size == 10 * 2 * DIMENSION
    assert shards.path(1, ".regions").stat().st_size == 10 * 22
    assert shards.stored(1, 0, 10).tobytes() == first[0].tobytes() + second[0].tobytes()


def test_a_missing_shard_is_named_with_what_to_do(shards: Shards) -> None:
    shards.append(1, 0, *rows(1))
    shards.path(1, ".regions").unlink()
    assert shards.problems(1, 5) == [(shards.path(1, ".regions"), "vector shard is missing")]
    with pytest.raises(GalleryDamaged, match=r"000001\.regions: vector shard is missing") as raised:
        shards.check({1: 5})
    assert "patchwise verify --repair" in str(raised.value)
    assert "backup" in str(raised.value)


def test_a_short_shard_is_named_with_its_sizes(shards: Shards) -> None:
    shards.append(1, 0, *rows(1))
    os.truncate(shards.path(1), 31)
    with pytest.raises(GalleryDamaged, match=r"000001\.f16: vector shard is cut short: 31 bytes instead of 60"):
        shards.check({1: 5})
    with pytest.raises(GalleryDamaged, match="fewer than its 5 committed rows"):
        shards.append(1, 5, *rows(2))
    assert shards.path(1).stat().st_size == 31


def test_longer_files_and_uncommitted_shards_are_no_problem(shards: Shards) -> None:
    shards.append(1, 0, *rows(1))
    shards.append(2, 0, *rows(2))
    shards.check({1: 3})
    shards.check({})
    assert shards.ids_on_disk() == [1, 2]


def test_removal_leaves_nothing_and_may_be_repeated(shards: Shards) -> None:
    shards.append(1, 0, *rows(1))
    shards.append(2, 0, *rows(2))
    shards.remove(1)
    shards.remove(1)
    assert [path.name for path in sorted(shards.folder.iterdir())] == ["000002.f16", "000002.regions"]


def test_rows_per_shard_follow_from_the_size(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shards.rows_per_shard == module.SHARD_BYTES // (2 * DIMENSION)
    monkeypatch.setattr(module, "SHARD_BYTES", 1)
    assert shards.rows_per_shard == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("suffix", [".f16", ".regions"])
def test_a_disk_that_refuses_leaves_the_committed_rows(
    shards: Shards, monkeypatch: pytest.MonkeyPatch, number: int, suffix: str
) -> None:
    first = rows(1)
    shards.append(1, 0, *first)
    really = os.fsync
    target = os.stat(shards.path(1, suffix)).st_ino

    def refuse(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == target:
            raise OSError(number, os.strerror(number))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageFull, match="run the same command again") as raised:
        shards.append(1, 5, *rows(2))
    assert str(shards.path(1, suffix)) in str(raised.value)
    assert os.strerror(number) in str(raised.value)
    monkeypatch.undo()
    assert shards.stored(1, 0, 5).tobytes() == first[0].tobytes()
    second = rows(3)
    shards.append(1, 5, *second)
    assert shards.stored(1, 0, 10).tobytes() == first[0].tobytes() + second[0].tobytes()


def test_the_checksum_sees_every_byte() -> None:
    vectors, table = rows(1)
    before = checksum(vectors, table)
    for array in (vectors, table):
        raw = array.view(np.uint8).reshape(-1)
        for position in range(len(raw)):
            raw[position] ^= 1
            assert checksum(vectors, table) != before
            raw[position] ^= 1
    assert checksum(vectors, table) == before
