"""Verify: every byte counts, and repair forgets exactly what is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.errors import GalleryDamaged
from patchwise.regions.base import REGION_DTYPE
from patchwise.store import Encoded, Store
from patchwise.store import shards as shards_module
from patchwise.store.shards import VECTORS

Contents = Callable[[Store], dict[str, tuple[bytes, bytes]]]
ROWS = 5  # of each picture
VECTOR_BYTES = 2 * 16


def shard_file(store: Store, suffix: str, shard: int = 1) -> Path:
    return store.folder / VECTORS / f"{shard:06d}{suffix}"


def flip(path: Path, position: int, mask: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ mask]))


def test_an_untouched_store_has_no_problems(filled: Store) -> None:
    report = filled.verify()
    assert report.ok and report.problems == [] and report.affected_files == [] and not report.repaired
    assert (report.images, report.distinct_images, report.regions) == (6, 6, 6 * ROWS)


def test_an_empty_store_has_no_problems(store: Store) -> None:
    assert store.verify().ok
    assert store.verify(repair=True).ok


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_one_flipped_bit_is_found_and_its_image_named(filled: Store, data: st.DataObject) -> None:
    suffix, row_bytes = data.draw(st.sampled_from([(".f16", VECTOR_BYTES), (".regions", REGION_DTYPE.itemsize)]))
    position = data.draw(st.integers(0, 6 * ROWS * row_bytes - 1))
    mask = 1 << data.draw(st.integers(0, 7))
    path = shard_file(filled, suffix)
    flip(path, position, mask)
    try:
        report = filled.verify()
        picture = position // (ROWS * row_bytes)
        assert not report.ok
        assert report.affected_files == [f"/p/{picture}"]
        assert report.problems == [f"/p/{picture}: its vectors are not as they were written"]
    finally:
        flip(path, position, mask)


def test_repair_drops_exactly_the_damaged_and_reindexing_brings_them_back(
    filled: Store, encoded: Callable[..., Encoded], contents: Contents
) -> None:
    before = contents(filled)
    with filled.writer() as writer:
        writer.add([encoded("/p/copy of 2", 2)])
    flip(shard_file(filled, ".f16"), 2 * ROWS * VECTOR_BYTES)
    flip(shard_file(filled, ".regions"), 4 * ROWS * REGION_DTYPE.itemsize + 3)
    report = filled.verify(repair=True)
    assert report.ok and report.repaired
    assert sorted(report.affected_files) == ["/p/2", "/p/4", "/p/copy of 2"]
    assert contents(filled) == {path: held for path, held in before.items() if path not in ("/p/2", "/p/4")}
    assert filled.verify().problems == []
    with filled.writer() as writer:
        writer.add([encoded("/p/2", 2), encoded("/p/4", 4)])
    assert contents(filled) == before
    assert filled.verify().problems == []


def test_damage_nobody_looks_at_any_more_is_found_too(filled: Store) -> None:
    with filled.writer() as writer:
        writer.record(forgotten=["/p/3"])
    flip(shard_file(filled, ".f16"), 3 * ROWS * VECTOR_BYTES)
    assert filled.verify().problems == ["a picture without files: its vectors are not as they were written"]
    report = filled.verify(repair=True)
    assert report.ok and report.affected_files == []
    assert filled.catalogue.counts()["images"] == 5
    assert filled.verify().problems == []


@pytest.mark.parametrize("suffix", [".f16", ".regions"])
@pytest.mark.parametrize("left", [0, 1, 2.5, 5.9])
def test_a_cut_shard_loses_only_what_was_cut_off(
    filled: Store, contents: Contents, encoded: Callable[..., Encoded], suffix: str, left: float
) -> None:
    before = contents(filled)
    row_bytes = VECTOR_BYTES if suffix == ".f16" else REGION_DTYPE.itemsize
    os.truncate(shard_file(filled, suffix), int(left * ROWS * row_bytes))
    lost = [f"/p/{picture}" for picture in range(6) if picture + 1 > left]

    report = filled.verify()
    assert not report.ok
    assert f"{shard_file(filled, suffix)}: vector shard is cut short" in report.problems[0]
    assert report.affected_files == lost
    with pytest.raises(GalleryDamaged):
        filled.snapshot()

    assert filled.verify(repair=True).ok
    assert filled.verify().problems == []
    assert contents(filled) == {path: held for path, held in before.items() if path not in lost}
    with filled.writer() as writer:
        writer.add([encoded(path, int(path[-1])) for path in lost])
    assert contents(filled) == before
    assert filled.verify().problems == []


@pytest.mark.parametrize("suffixes", [[".f16"], [".regions"], [".f16", ".regions"]])
def test_a_deleted_shard_loses_only_its_own_images(
    store: Store,
    contents: Contents,
    encoded: Callable[..., Encoded],
    monkeypatch: pytest.MonkeyPatch,
    suffixes: list[str],
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 2 * ROWS * VECTOR_BYTES)
    with store.writer() as writer:
        writer.add([encoded(f"/p/{seed}", seed) for seed in range(6)])
    assert store.catalogue.shards() == {1: 10, 2: 10, 3: 10}
    before = contents(store)
    for suffix in suffixes:
        shard_file(store, suffix, 2).unlink()

    report = store.verify()
    assert not report.ok
    assert report.affected_files == ["/p/2", "/p/3"]
    assert sum("vector shard is missing" in problem for problem in report.problems) == len(suffixes)

    assert store.verify(repair=True).ok
    assert store.verify().problems == []
    assert contents(store) == {path: held for path, held in before.items() if path not in ("/p/2", "/p/3")}
    with store.writer() as writer:
        writer.add([encoded("/p/2", 2), encoded("/p/3", 3)])
        assert writer.compact() == 0
    assert contents(store) == before
    assert store.verify().problems == []


def test_everything_gone_can_be_repaired_and_indexed_again(
    filled: Store, contents: Contents, encoded: Callable[..., Encoded]
) -> None:
    before = contents(filled)
    for path in (filled.folder / VECTORS).iterdir():
        path.unlink()
    assert len(filled.verify(repair=True).affected_files) == 6
    assert contents(filled) == {}
    with filled.writer() as writer:
        writer.add([encoded(f"/p/{seed}", seed) for seed in range(6)])
    assert contents(filled) == before
    assert filled.verify().problems == []


def test_a_tail_left_by_a_killed_run_is_no_problem(filled: Store) -> None:
    for suffix in (".f16", ".regions"):
        with shard_file(filled, suffix).open("ab") as file:
            file.write(b"never committed" * 100)
    shard_file(filled, ".f16", 7).write_bytes(b"a shard that no catalogue knows")
    assert filled.verify().problems == []


def test_a_catalogue_that_points_elsewhere_is_found(filled: Store) -> None:
    first, second, last = (filled.catalogue.contents()[index] for index in (0, 1, 5))
    with filled.catalogue.transaction():
        filled.catalogue.move_content(last.id, last.shard, last.first + 3)
        filled.catalogue.move_content(second.id, first.shard, first.first)
    report = filled.verify()
    assert "/p/5: its vectors lie beyond the end of their shard" in report.problems
    assert sorted(report.affected_files) == ["/p/1", "/p/5"]


def test_two_pictures_on_the_same_rows_are_found(filled: Store, encoded: Callable[..., Encoded]) -> None:
    first = filled.catalogue.contents()[0]
    with filled.catalogue.transaction():
        content = filled.catalogue.put_content(b"another", first)
        filled.catalogue.put_file("/twice", 1, 1, content)
    report = filled.verify()
    assert len(report.problems) == 1 and report.problems[0].endswith("overlaps the rows of another picture")


def test_a_region_outside_its_image_is_found(store: Store, encoded: Callable[..., Encoded]) -> None:
    good = encoded("/p/0", 0)
    with store.writer() as writer:
        writer.add([Encoded(*(good.path, 1, 1, good.digest, (39, 30), good.regions, good.vectors))])
    assert store.verify().problems == ["/p/0: a region lies outside the image"]


def test_a_broken_reference_is_found(filled: Store) -> None:
    filled.catalogue._run("PRAGMA foreign_keys = OFF")
    with filled.catalogue.transaction():
        filled.catalogue.put_file("/astray", 1, 1, 999)
    assert filled.verify().problems == ["catalogue: broken reference in table file"]
    report = filled.verify(repair=True)
    assert not report.repaired and not report.ok  # what repair cannot mend it does not claim to


def test_progress_counts_every_picture(filled: Store) -> None:
    seen: list[tuple[int, int]] = []
    filled.verify(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_compaction_meanwhile_is_not_called_damage(filled: Store, damaged: bool) -> None:
    """Another process compacts after the catalogue was read: real damage is still told from moved rows."""
    if damaged:
        flip(shard_file(filled, ".f16"), 4 * ROWS * VECTOR_BYTES)

    def compact_elsewhere(done: int, total: int) -> None:
        if done == 1:
            with Store(filled.folder) as other, other.writer() as writer:
                writer.record(forgotten=["/p/2"])
                writer.compact()

    report = filled.verify(progress=compact_elsewhere)
    assert report.affected_files == (["/p/4"] if damaged else [])
    assert len(report.problems) == damaged


def test_vectors_are_checked_without_the_encoder(filled: Store) -> None:
    """All bits of a vector matter, also those that make it no number."""
    path = shard_file(filled, ".f16")
    rows = np.fromfile(path, dtype="<f2")
    rows[:16] = np.nan
    rows.tofile(path)
    assert filled.verify().affected_files == ["/p/0"]
