"""Vectors in memory: the same as on disk after any changes, and read once only."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.codecs import train_codec
from patchwise.search import resident
from patchwise.search.resident import ResidentVectors
from patchwise.store import Snapshot, shards
from search.coded import encoded_picture, make_store, random_pictures

DIMENSION = 16
PLENTY = 10**9


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_SEGMENT_BYTES", 4 * DIMENSION * 10)
    monkeypatch.setattr(resident, "_ROWS_AT_ONCE", 12)
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * DIMENSION * 30)


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each run over a snapshot has read."""
    read: list[int] = []
    runs = Snapshot.runs

    def counted(snapshot: Snapshot, *how: object) -> object:
        for run in runs(snapshot, *how):
            read.append(len(run[2]))
            yield run

    monkeypatch.setattr(Snapshot, "runs", counted)
    return read


def held(vectors: ResidentVectors, max_rows: int = 7) -> dict[int, bytes]:
    """What each picture of the snapshot looks like in memory."""
    found: dict[int, bytes] = {}
    for block in vectors.blocks(max_rows):
        assert len(block.vectors) == block.starts[-1] and len(block.starts) == len(block.pictures) + 1
        assert len(block.vectors) <= max_rows or len(block.pictures) == 1
        for picture, (first, end) in zip(block.pictures.tolist(), itertools.pairwise(block.starts), strict=True):
            if picture >= 0:
                assert picture not in found
                found[picture] = block.vectors[first:end].tobytes()
    return found


def stored(snapshot: Snapshot) -> dict[int, bytes]:
    return {index: snapshot.vectors(index).astype(np.float32).tobytes() for index in range(len(snapshot))}


def of(snapshot: Snapshot, before: ResidentVectors | None = None) -> ResidentVectors:
    made = ResidentVectors.within(PLENTY, snapshot, before)
    assert made is not None
    return made


STEPS = st.one_of(
    st.tuples(st.just("add"), st.lists(st.integers(1, 14), min_size=1, max_size=4)),
    st.tuples(st.just("forget"), st.lists(st.integers(0, 30), min_size=1, max_size=5)),
    st.tuples(st.sampled_from(["compact", "codes only", "nothing"]), st.just([])),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=10), seed=st.integers(0, 2**16))
def test_any_changes_leave_in_memory_what_is_on_disk(steps: list[tuple[str, list[int]]], seed: int) -> None:
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "g", random_pictures([3, 8, 1, 12, 5], DIMENSION, seed))
        now = of(store.snapshot())
        for what, which in steps:
            if what == "codes only":
                vectors = np.concatenate(random_pictures([64], DIMENSION, seed))
                store.keep_only_codes(train_codec("SQ8", vectors))
            else:
                with store.writer() as writer:
                    if what == "add":
                        made = random_pictures(which, DIMENSION, seed + 1 + next(numbers))
                        writer.add([encoded_picture(f"new{next(numbers)}", vectors) for vectors in made])
                    elif what == "forget":
                        known = sorted(writer.catalogue.known())
                        writer.record(forgotten={known[place % len(known)] for place in which} if known else ())
                    elif what == "compact":
                        writer.compact()
            earlier, as_it_was = now, held(now)
            snapshot = store.snapshot()
            now = of(snapshot, earlier)
            assert held(now) == stored(snapshot)
            assert held(earlier) == as_it_was  # whoever searches it goes on undisturbed
        store.close()


def test_only_what_is_new_is_read(tmp_path: Path, rows_read: list[int]) -> None:
    with make_store(tmp_path / "g", random_pictures([9] * 12, DIMENSION)) as store:
        first = of(store.snapshot())
        assert sum(rows_read) == 108
        rows_read.clear()
        with store.writer() as writer:
            writer.record(forgotten=["/p/2"])
            writer.add([encoded_picture("new", random_pictures([4], DIMENSION)[0])])
        second = of(store.snapshot(), first)
        assert sum(rows_read) == 4
        rows_read.clear()
        with store.writer() as writer:
            writer.compact()
        snapshot = store.snapshot()
        assert held(of(snapshot, second)) == stored(snapshot)
        assert rows_read == []


def test_what_is_mostly_dead_is_let_go_of(tmp_path: Path) -> None:
    with make_store(tmp_path / "g", random_pictures([2] * 40, DIMENSION)) as store:
        first = of(store.snapshot())
        assert len(first._segments) == 8
        with store.writer() as writer:
            writer.record(forgotten=[f"/p/{number}" for number in range(40) if number % 5])
        snapshot = store.snapshot()
        second = of(snapshot, first)
        assert len(second._segments) == 2 and held(second) == stored(snapshot)


def test_two_later_states_of_one_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with make_store(tmp_path / "g", random_pictures([3], DIMENSION)) as store:
        first = of(store.snapshot())
        snapshots = []
        for name in ("one", "two"):
            with store.writer() as writer:
                writer.add([encoded_picture(name, random_pictures([2], DIMENSION, len(snapshots) + 5)[0])])
            snapshots.append(store.snapshot())
        later = [of(snapshot, first) for snapshot in snapshots]
        assert [held(each) for each in later] == [stored(snapshot) for snapshot in snapshots]


def test_the_limit_is_on_what_has_to_be_read(tmp_path: Path) -> None:
    with make_store(tmp_path / "g", random_pictures([9] * 4, DIMENSION)) as store:
        row = 4 * DIMENSION
        assert ResidentVectors.within(36 * row - 1, store.snapshot()) is None
        first = ResidentVectors.within(36 * row, store.snapshot())
        assert first is not None
        with store.writer() as writer:
            writer.add([encoded_picture("new", random_pictures([4], DIMENSION)[0])])
        assert ResidentVectors.within(4 * row - 1, store.snapshot(), first) is None
        assert ResidentVectors.within(4 * row, store.snapshot(), first) is not None


def test_an_empty_gallery(tmp_path: Path) -> None:
    with make_store(tmp_path / "g", random_pictures([2], DIMENSION)) as store:
        first = of(store.snapshot())
        with store.writer() as writer:
            writer.record(forgotten=["/p/0"])
            writer.compact()
        assert len(store.snapshot()) == 0
        assert held(of(store.snapshot(), first)) == {}
        assert held(of(store.snapshot())) == {}
