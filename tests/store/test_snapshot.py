"""Snapshots: live rows and pictures found again from rows of shards, from folders, and in passes over everything."""

from __future__ import annotations

import itertools
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.codecs import Codec
from patchwise.store import Encoded, Selection, Snapshot, Store, files
from patchwise.store import shards as shards_module
from patchwise.store import snapshot as snapshot_module
from patchwise.store.files import MappedRows
from store.conftest import DIMENSION, make_encoded


class Stopped(Exception):
    """Raised in the middle of a conversion."""


LEVELS = [1, 0, 3, 1, 2, 0, 1, 3, 1, 1]  # 5, 1, 30, 5, 14, ... regions


@pytest.fixture(params=["fp16", "codes", "both"])
def varied(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch, codec: Codec) -> Store:
    """Pictures of 1 to 30 regions in several shards, some of them dead; as vectors, as codes, or some of each."""
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 40 * 2 * DIMENSION)
    dead = ["/p/1", "/p/3", "/p/9"]
    with store.writer() as writer:
        writer.add([make_encoded(f"/p/{seed}", seed, level) for seed, level in enumerate(LEVELS)])
        writer.record(forgotten=dead)
    if request.param == "codes":
        store.keep_only_codes(codec)
    if request.param == "both":

        def stop_before_the_last_is_committed(done: int, total: int) -> None:
            if done == total:
                raise Stopped

        with pytest.raises(Stopped):
            store.keep_only_codes(codec, stop_before_the_last_is_committed)
    assert len(store.catalogue.shards()) > 2
    return store


def live_vectors(snapshot: Snapshot) -> np.ndarray:
    return np.concatenate([snapshot.vectors(index) for index in range(len(snapshot))])


def test_the_shards_of_the_fixture_are_what_it_says(
    varied: Store, request: pytest.FixtureRequest, codec: Codec
) -> None:
    snapshot = varied.snapshot()
    kinds = [snapshot.codec_digest(shard) for shard in snapshot.shards]
    wanted = {"fp16": {None}, "codes": {codec.digest}, "both": {None, codec.digest}}
    assert set(kinds) == wanted[request.node.callspec.params["varied"]]
    assert dict(snapshot.shards) == varied.catalogue.shards()


def test_vectors_are_what_was_stored_or_what_its_codes_say(varied: Store, codec: Codec) -> None:
    snapshot = varied.snapshot()
    assert live_vectors(snapshot).dtype == np.dtype("<f2")
    shard_of = {row.id: row.shard for row in varied.catalogue.contents()}
    for path, index in snapshot.paths(range(len(snapshot))):
        seed = int(path[3:])
        vectors = make_encoded(path, seed, LEVELS[seed]).vectors.astype("<f2")
        if snapshot.codec(shard_of[varied.catalogue.known()[path].content]) is not None:
            vectors = codec.vectors(codec.encode(vectors.astype(np.float32))).astype("<f2")
        assert snapshot.vectors(index).tobytes() == vectors.tobytes()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_gathered_rows_are_those_of_the_pictures(varied: Store, data: st.DataObject) -> None:
    snapshot = varied.snapshot()
    everything = live_vectors(snapshot)
    assert len(everything) == snapshot.rows
    rows = np.array(data.draw(st.lists(st.integers(0, snapshot.rows - 1), max_size=80)), dtype=np.int64)
    for order in (rows, np.sort(rows)):
        gathered = snapshot.gather(order)
        assert gathered.dtype == np.dtype("<f2") and gathered.shape == (len(rows), DIMENSION)
        assert gathered.tobytes() == everything[order].tobytes()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_of_pictures_are_theirs_one_after_the_other(varied: Store, data: st.DataObject) -> None:
    snapshot = varied.snapshot()
    pictures = np.array(data.draw(st.lists(st.integers(0, len(snapshot) - 1), max_size=20)), dtype=np.int64)
    expected = [row for picture in pictures for row in range(snapshot.starts[picture], snapshot.starts[picture + 1])]
    assert snapshot.rows_of(pictures).tolist() == expected


@pytest.mark.parametrize("row", [-1, 90])
def test_rows_that_are_not_live_are_refused(varied: Store, row: int) -> None:
    snapshot = varied.snapshot()
    assert snapshot.rows == 5 + 30 + 14 + 1 + 5 + 30 + 5
    with pytest.raises(IndexError, match="live rows are 0 to 89"):
        snapshot.gather(np.array([0, row, 3]))


def test_rows_of_a_shard_lead_to_pictures_and_live_rows(varied: Store) -> None:
    snapshot = varied.snapshot()
    index_of = {int(content): index for index, content in enumerate(snapshot._ids)}
    contents = varied.catalogue.contents(live_only=False)
    seen = []
    for shard, rows in snapshot.shards.items():
        expected = np.full((2, rows), -1)
        for content in contents:
            if content.shard == shard and content.id in index_of:
                picture = index_of[content.id]
                expected[0, content.first : content.first + content.rows] = picture
                expected[1, content.first : content.first + content.rows] = np.arange(
                    snapshot.starts[picture], snapshot.starts[picture + 1]
                )
        shuffled = np.random.default_rng(shard).permutation(rows)
        pictures, live = snapshot.live_rows(shard, shuffled)
        assert pictures.dtype == live.dtype == np.int64
        assert pictures.tolist() == expected[0, shuffled].tolist()
        assert live.tolist() == expected[1, shuffled].tolist()
        seen += live[live >= 0].tolist()
        with pytest.raises(IndexError, match=f"rows of shard {shard} are 0 to {rows - 1}"):
            snapshot.live_rows(shard, np.array([0, rows]))
        with pytest.raises(IndexError):
            snapshot.live_rows(shard, np.array([-1]))
    assert sorted(seen) == list(range(snapshot.rows))


def test_a_shard_of_dead_rows_only(varied: Store) -> None:
    with varied.writer() as writer:
        writer.record(forgotten=[f"/p/{seed}" for seed in range(10)])
    snapshot = varied.snapshot()
    assert snapshot.rows == 0 and dict(snapshot.shards) == varied.catalogue.shards()
    for shard in snapshot.shards:
        pictures, live = snapshot.live_rows(shard, np.array([0, 1]))
        assert pictures.tolist() == live.tolist() == [-1, -1]
    assert snapshot.gather(np.empty(0, dtype=np.int64)).shape == (0, DIMENSION)
    assert list(snapshot.runs(10)) == []


@pytest.mark.parametrize("max_rows", [1, 7, 31, 10**6])
@pytest.mark.parametrize("left_out", [[], [0], [2, 3], [6], list(range(7))], ids=str)
def test_runs_cover_what_is_chosen(varied: Store, max_rows: int, left_out: list[int]) -> None:
    snapshot = varied.snapshot()
    chosen = np.ones(len(snapshot), dtype=bool)
    chosen[left_out] = False
    seen: list[int] = []
    for first, end, vectors in snapshot.runs(max_rows, chosen):
        expected = np.concatenate([snapshot.vectors(index) for index in range(first, end)])
        np.testing.assert_array_equal(vectors, expected)
        seen += range(first, end)
    assert seen == np.flatnonzero(chosen).tolist()


@pytest.mark.parametrize("max_rows", [1, 7, 36, 1000])
def test_runs_cover_everything_in_order(varied: Store, max_rows: int) -> None:
    snapshot = varied.snapshot()
    expected = live_vectors(snapshot)
    shards = snapshot._shard
    place, picture = 0, 0
    for first, end, vectors in snapshot.runs(max_rows):
        assert first == picture and end > first
        assert len(set(shards[first:end])) == 1
        assert len(vectors) == snapshot.starts[end] - snapshot.starts[first]
        assert len(vectors) <= max_rows or end == first + 1
        assert vectors.tobytes() == expected[place : place + len(vectors)].tobytes()
        place, picture = place + len(vectors), end
    assert (place, picture) == (snapshot.rows, len(snapshot))


def test_a_block_of_a_run_may_be_kept(varied: Store) -> None:
    """Letting its memory go does not take its content away."""
    snapshot = varied.snapshot()
    kept = [vectors for _, _, vectors in snapshot.runs(20)]
    assert np.concatenate(kept).tobytes() == live_vectors(snapshot).tobytes()


def test_rows_of_a_shard_are_read_live_or_dead(varied: Store) -> None:
    snapshot = varied.snapshot()
    for shard, rows in snapshot.shards.items():
        stored = varied.shards.stored(shard, 0, rows, snapshot.codec_digest(shard))
        kept = snapshot.codec(shard)
        stored = stored if kept is None else kept.vectors(stored).astype("<f2")
        assert snapshot.shard_vectors(shard, 2, 5).tobytes() == stored[2:5].tobytes()
        snapshot.release(shard, 0, rows)
        assert snapshot.shard_vectors(shard, 0, rows).tobytes() == stored.tobytes()


def test_codes_are_mapped_as_stored(varied: Store, codec: Codec) -> None:
    snapshot = varied.snapshot()
    for shard, rows in snapshot.shards.items():
        if snapshot.codec_digest(shard) is None:
            with pytest.raises(ValueError, match=f"shard {shard} holds fp16 vectors"):
                snapshot.codes(shard)
            assert snapshot.codec(shard) is None
            continue
        codes = snapshot.codes(shard)
        assert codes.shape == (rows, codec.code_bytes) and codes.dtype == np.uint8 and not codes.flags.writeable
        assert codes.tobytes() == varied.shards.path(shard, ".codes").read_bytes()
        found = snapshot.codec(shard)
        assert found is not None and found.digest == codec.digest


# Folders


@pytest.fixture
def folders(store: Store, encoded: Callable[..., Encoded]) -> Store:
    with store.writer() as writer:
        paths = ["/a/0.png", "/a/b/1.png", "/a/b/2.png", "/ab/3.png", "/c/4.png"]
        writer.add([encoded(path, seed) for seed, path in enumerate(paths)])
        writer.add([encoded("/elsewhere/copy of 1.png", 1), encoded("/a/copy of 4.png", 4)])
    return store


@pytest.mark.parametrize(
    ("under", "expected"),
    [
        ([], set()),
        (["/"], {0, 1, 2, 3, 4}),
        (["/a"], {0, 1, 2, 4}),
        (["/a/b"], {1, 2}),
        (["/a/b/"], {1, 2}),
        (["/elsewhere", "/c"], {1, 4}),
        (["/a/b", "/a"], {0, 1, 2, 4}),
        (["/a/0.png"], {0}),
        (["/a/0"], set()),
        (["/nowhere"], set()),
    ],
)
def test_pictures_under_folders(folders: Store, under: list[str], expected: set[int]) -> None:
    snapshot = folders.snapshot()
    for _ in range(2):  # computed, then remembered
        allowed = snapshot.pictures(Selection(tuple(under)))
        assert allowed.dtype == np.bool_ and allowed.shape == (5,)
        assert set(np.flatnonzero(allowed)) == expected
    assert snapshot.is_any_selected(Selection(tuple(under))) == bool(expected)
    assert {index for _, index in snapshot.paths(range(5), Selection(tuple(under)))} == expected


def test_paths_under_a_folder_leave_out_copies_elsewhere(folders: Store) -> None:
    snapshot = folders.snapshot()
    assert sorted(snapshot.paths([1, 4, 3])) == [
        ("/a/b/1.png", 1),
        ("/a/copy of 4.png", 4),
        ("/ab/3.png", 3),
        ("/c/4.png", 4),
        ("/elsewhere/copy of 1.png", 1),
    ]
    assert sorted(snapshot.paths([1, 4, 3], Selection(("/a",)))) == [("/a/b/1.png", 1), ("/a/copy of 4.png", 4)]
    assert snapshot.paths([1, 4, 3], Selection(())) == []


def test_many_folders_are_no_problem_for_the_catalogue(folders: Store) -> None:
    snapshot = folders.snapshot()
    many = [f"/none/{number}" for number in range(2_000)] + ["/c"]
    assert np.flatnonzero(snapshot.pictures(Selection(tuple(many)))).tolist() == [4]
    assert snapshot.paths([4], Selection(tuple(many))) == [("/c/4.png", 4)]


def test_what_came_after_the_snapshot_is_not_under_any_folder(folders: Store) -> None:
    snapshot = folders.snapshot()
    with folders.writer() as writer:
        writer.add([make_encoded("/a/new.png", 9)])
    assert snapshot.pictures(Selection(("/a/new.png",))).tolist() == [False] * 5
    assert folders.snapshot().pictures(Selection(("/a/new.png",))).tolist() == [False] * 5 + [True]


def test_the_answer_for_a_folder_cannot_be_changed_by_accident(folders: Store) -> None:
    with pytest.raises(ValueError, match="read-only"):
        folders.snapshot().pictures(Selection(("/a",)))[0] = False


def test_what_was_asked_for_last_is_remembered_longest(folders: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "_SELECTIONS_REMEMBERED", 3)
    snapshot = folders.snapshot()
    asked: list[Selection] = []
    select = folders.catalogue.contents_selected
    monkeypatch.setattr(folders.catalogue, "contents_selected", lambda what: asked.append(what) or select(what))
    for name in ("/a", "/ab", "/c", "/a", "/a/b", "/a", "/c", "/ab", "/a"):
        expected = {"/a": [0, 1, 2, 4], "/ab": [3], "/c": [4], "/a/b": [1, 2]}[name]
        assert np.flatnonzero(snapshot.pictures(Selection((name,)))).tolist() == expected
    assert [what.under for what in asked] == [("/a",), ("/ab",), ("/c",), ("/a/b",), ("/ab",)]


def test_many_folders_are_looked_up_once(folders: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is checked by itself, and none of them takes the place of what is remembered of them all."""
    asked: list[Selection] = []
    select = folders.catalogue.contents_selected
    monkeypatch.setattr(folders.catalogue, "contents_selected", lambda what: asked.append(what) or select(what))
    snapshot = folders.snapshot()
    many = tuple(f"/a/{name}" for name in ("0.png", "b", "b/1.png", "copy of 4.png")) * 20
    for _ in range(3):
        assert all(snapshot.is_any_selected(Selection((one,))) for one in many)
        assert np.flatnonzero(snapshot.pictures(Selection(many))).tolist() == [0, 1, 2, 4]
    assert asked == [Selection(many)]


NAMES = st.text(st.sampled_from("ab/. -é\udcff"), min_size=1, max_size=5).map("/".__add__)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(NAMES, min_size=1, max_size=8, unique=True), under=st.lists(NAMES, max_size=3))
def test_folders_agree_with_their_definition(store: Store, paths: list[str], under: list[str]) -> None:
    with store.writer() as writer:
        writer.record(forgotten=list(store.catalogue.known()))
        writer.add([make_encoded(path, seed) for seed, path in enumerate(paths)])
    snapshot = store.snapshot()
    expected = [
        path
        for path in paths
        if any(path == root or os.fsencode(path).startswith(os.fsencode(root).rstrip(b"/") + b"/") for root in under)
    ]
    everything = range(len(snapshot))
    assert sorted(path for path, _ in snapshot.paths(everything, Selection(tuple(under)))) == sorted(expected)
    of_paths = dict(snapshot.paths(everything))
    assert set(np.flatnonzero(snapshot.pictures(Selection(tuple(under))))) == {of_paths[path] for path in expected}


# Memory


def resident_kilobytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssFile:"))


@pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(mmap, "MADV_DONTNEED")), reason="resident pages are counted on Linux"
)
def test_released_rows_take_no_memory_and_are_read_again(tmp_path: Path) -> None:
    values = np.arange(8 * 2**20, dtype="<u4").reshape(-1, 1024)  # 32 MiB
    values.tofile(tmp_path / "rows")
    mapped = MappedRows(tmp_path / "rows", "<u4", *values.shape)
    before = resident_kilobytes()
    assert int(mapped.array.astype(np.int64).sum()) == int(values.astype(np.int64).sum())
    grown = resident_kilobytes() - before
    assert grown > 30 * 1024
    mapped.release(0, len(values) // 2)
    assert resident_kilobytes() - before < grown * 0.6
    mapped.release(len(values) // 2, len(values))
    assert resident_kilobytes() - before < 2 * 1024
    assert np.array_equal(mapped.array, values)


@pytest.mark.parametrize("scattered", [False, True])
def test_advice_about_any_rows_changes_no_content(tmp_path: Path, scattered: bool) -> None:
    values = np.arange(64, dtype="<u2").reshape(-1, 4)
    values.tofile(tmp_path / "rows")
    mapped = MappedRows(tmp_path / "rows", "<u2", 10, 4, scattered=scattered)
    for first in range(10):
        mapped.fetch(first, first)
        mapped.fetch(first, first + 1)
        mapped.release(first, first + 1)
    mapped.fetch(0, 10)
    assert np.array_equal(mapped.array, values[:10])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 2_999), min_size=1, max_size=60), slow=st.booleans())
def test_rows_are_taken_alike_from_memory_and_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[int], slow: bool
) -> None:
    """Rows of 6,000 bytes lie across pages; what is slow is asked for ahead."""
    values = np.arange(3_000, dtype="<u2")[:, None] + np.arange(3_000, dtype="<u2")
    path = tmp_path / "rows"
    if not path.exists():
        values.tofile(path)
    asked: list[int] = []
    reads = itertools.count()
    monkeypatch.setattr(files, "_reads_from_disk", lambda: next(reads) if slow else 0)
    mapped = MappedRows(path, "<u2", 3_000, 3_000, scattered=True)
    fetch = mapped._fetch_each
    monkeypatch.setattr(mapped, "_fetch_each", lambda some: asked.append(len(some)) or fetch(some))
    taken = np.empty((len(rows), 3_000), dtype="<u2")
    mapped.take(np.array(rows, dtype=np.int64), taken)
    assert np.array_equal(taken, values[rows].reshape(-1, 3_000))
    assert asked == ([max(len(rows) - 8, 0)] if slow else [])
