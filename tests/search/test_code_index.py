"""Segments of codes: where each row lies, and the nearest of each against products one by one."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.codecs import Codec, train_codec
from patchwise.search import CodeIndex, code_index
from patchwise.store import Snapshot, Store, shards
from search.coded import clustered_pictures, encoded_picture, index_of, live_vectors, make_store, unit

DIMENSION = 16
COUNTS = [9, 40, 3, 1, 26, 14, 33] * 3
SEGMENT = 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 90 rows at most, and two dead pictures."""
    made = tmp_path_factory.mktemp("codes") / "g"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 2 * DIMENSION * 90)
        with make_store(made, clustered_pictures(COUNTS, DIMENSION)) as store, store.writer() as writer:
            writer.record(forgotten=["/p/4", "/p/9"])
    return made


@pytest.fixture(scope="module")
def snapshot(folder: Path) -> Snapshot:
    return Store(folder).snapshot()


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_index, "_SEGMENT_ROWS", SEGMENT)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return unit(np.random.default_rng(4).normal(size=(4, DIMENSION)))


def code_scores(snapshot: Snapshot, index: CodeIndex, shard: int, queries: np.ndarray) -> np.ndarray:
    """Products of queries with each decoded row of a shard, live or dead: (Q, rows)."""
    vectors = snapshot.shard_vectors(shard, 0, snapshot.shards[shard]).astype(np.float32)
    return queries @ index.codec.decode(index.codec.encode(vectors)).T


def test_segments_cover_every_row_once(snapshot: Snapshot) -> None:
    index = index_of(snapshot, "SQ8")
    assert len(snapshot.shards) > 2
    covered = [
        (shard, row)
        for shard, first, rows in zip(index.shards.tolist(), index.firsts.tolist(), index.rows.tolist(), strict=True)
        for row in range(first, first + rows)
    ]
    assert covered == [(shard, row) for shard, rows in snapshot.shards.items() for row in range(rows)]
    assert len(index) == len(index.rows) and index.rows.max() == SEGMENT
    shard, row = np.array(covered).T
    expected = np.repeat(np.arange(len(index)), index.rows)
    np.testing.assert_array_equal(index.segments_of(shard, row), expected)
    backwards = index.segments_of(shard[::-1], row[::-1])
    np.testing.assert_array_equal(backwards, expected[::-1])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_stretches_are_cut_where_segments_end(snapshot: Snapshot, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_index, "_SEGMENT_ROWS", data.draw(st.sampled_from([7, SEGMENT, 1000])))
        index = index_of(snapshot, "SQ8")
    stretches = []
    for _ in range(data.draw(st.integers(0, 6))):
        shard = data.draw(st.sampled_from(sorted(snapshot.shards)))
        first = data.draw(st.integers(0, snapshot.shards[shard] - 1))
        stretches.append((shard, first, data.draw(st.integers(1, snapshot.shards[shard] - first))))
    columns = np.array(stretches, dtype=np.int64).reshape(-1, 3).T
    of_stretch, of_segment, counts = index.pieces(*columns)
    found = sorted(zip(of_stretch.tolist(), of_segment.tolist(), counts.tolist(), strict=True))
    expected: dict[tuple[int, int], int] = {}
    for number, (shard, first, rows) in enumerate(stretches):  # row by row
        segments = index.segments_of(np.full(rows, shard), np.arange(first, first + rows))
        for segment in segments.tolist():
            expected[number, segment] = expected.get((number, segment), 0) + 1
    assert found == sorted((*place, rows) for place, rows in expected.items())


@pytest.mark.parametrize("codec", ["SQ8", "pq:8", "RQ4x4", "fastscan:8", "ivf:8:3"])
def test_the_nearest_of_each_segment(snapshot: Snapshot, queries: np.ndarray, codec: str) -> None:
    """All of them down to a floor, which those left out stay at or below."""
    index = index_of(snapshot, codec)
    rounding = 2e-5 if codec in ("SQ8", "pq:8", "RQ4x4") else 0.03  # 8-bit tables of a fast scan
    depths = np.array([3, 0, 500, 1] * len(index))[: len(index)]
    answers = index.scan(queries, depths)
    assert len(answers) == len(queries)
    for query, nearest in zip(queries, answers, strict=True):
        assert len(nearest) == len(index)
        for number, found in enumerate(nearest):
            shard, first, rows = int(index.shards[number]), int(index.firsts[number]), int(index.rows[number])
            scores = code_scores(snapshot, index, shard, query[None])[0]
            assert len(found.rows) == len(found.scores) == len(set(found.rows.tolist())) == min(depths[number], rows)
            assert ((found.rows >= first) & (found.rows < first + rows)).all()
            np.testing.assert_allclose(found.scores, scores[found.rows], atol=rounding)
            assert (np.diff(found.scores) <= 0).all()
            left = np.setdiff1d(np.arange(first, first + rows), found.rows)
            if depths[number] == 0 or not len(left):
                assert found.floor == -np.inf
            else:
                assert found.floor == found.scores[-1]
                assert scores[left].max() <= found.floor + 2 * rounding


@pytest.mark.parametrize("coded", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("codec", ["fastscan:8", "SQ8"])
def test_rows_without_codes_are_encoded_first(
    snapshot: Snapshot, queries: np.ndarray, codec: str, coded: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_index, "_ENCODED_AT_ONCE", 4)
    trained = train_codec(codec, live_vectors(snapshot))
    whole, partly = index_of(snapshot, trained), index_of(snapshot, trained, coded)
    depths = np.full(len(whole), 9)
    for one, other in zip(whole.scan(queries, depths), partly.scan(queries, depths), strict=True):
        for known, made in zip(one, other, strict=True):
            np.testing.assert_array_equal(known.rows, made.rows)
            np.testing.assert_array_equal(known.scores, made.scores)
            assert known.floor == made.floor


def test_few_lists_hold_some_of_the_rows(snapshot: Snapshot, queries: np.ndarray) -> None:
    """What no list that was looked at holds is left out, and there is no floor that could bring it back."""
    index = index_of(snapshot, "ivf:8:6")
    everything = np.full(len(index), SEGMENT * 100)
    counts = []
    for lists in (1, 3, 6, 99):
        answers = index.scan(queries, everything, lists)
        assert all(found.floor == -np.inf for nearest in answers for found in nearest)
        counts.append(sum(len(found.rows) for nearest in answers for found in nearest))
    assert counts == sorted(counts) and counts[0] < counts[1] < counts[2]
    assert counts[2] == counts[3] == len(queries) * index.rows.sum()


def test_inverted_lists_are_cut_up_as_little_as_can_be(snapshot: Snapshot) -> None:
    index = index_of(snapshot, "ivf:8:6")
    assert len(index) == len(snapshot.shards)  # each shard in one piece
    assert len(index) < len(index_of(snapshot, "fastscan:8"))


def test_no_query_and_nothing_to_look_for(snapshot: Snapshot, queries: np.ndarray) -> None:
    index = index_of(snapshot, "SQ8")
    assert index.scan(queries[:0], np.full(len(index), 3)) == []
    for nearest in index.scan(queries, np.zeros(len(index), dtype=np.int64)):
        assert all(len(found.rows) == 0 and found.floor == -np.inf for found in nearest)


def scores_of_live_rows(snapshot: Snapshot, index: CodeIndex, query: np.ndarray) -> dict[tuple[int, int], float]:
    """Code score by shard and row, as a scan of everything tells."""
    found = {}
    segments = index.scan(query[None], index.rows)[0] if len(index) else []
    for shard, nearest in zip(index.shards.tolist(), segments, strict=True):
        _, live = snapshot.live_rows(shard, nearest.rows)
        scores = zip(nearest.rows[live >= 0].tolist(), nearest.scores[live >= 0].tolist(), strict=True)
        found.update({(shard, row): score for row, score in scores})
    return found


CHANGES = st.one_of(
    st.tuples(st.just("add"), st.lists(st.integers(1, 30), min_size=1, max_size=3)),
    st.tuples(st.just("forget"), st.lists(st.integers(0, 30), min_size=1, max_size=6)),
    st.tuples(st.sampled_from(["forget all", "compact"]), st.just([])),
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(CHANGES, max_size=8),
    name=st.sampled_from(["SQ8", "ivf:8:2"]),
    coded=st.lists(st.floats(0, 1), min_size=9, max_size=9),
)
def test_an_index_that_goes_on_from_an_earlier_one_says_the_same(
    queries: np.ndarray, changes: list[tuple[str, list[int]]], name: str, coded: list[float]
) -> None:
    """Even where the number of a shard comes back for other rows."""
    codec = train_codec(name, np.concatenate(clustered_pictures(COUNTS, DIMENSION)))
    numbers, shares = itertools.count(), iter(coded)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 2 * DIMENSION * 60)
        store = make_store(Path(folder) / "g", clustered_pictures([9, 20, 30, 3], DIMENSION))
        index = index_of(store.snapshot(), codec, next(shares))
        for what, which in changes:
            with store.writer() as writer:
                known = sorted(writer.catalogue.known())
                if what == "add":
                    made = clustered_pictures(which, DIMENSION, 10 + next(numbers))
                    writer.add([encoded_picture(f"new{next(numbers)}", vectors) for vectors in made])
                elif what == "compact":
                    writer.compact()
                else:
                    gone = known if what == "forget all" else {known[place % len(known)] for place in which if known}
                    writer.record(forgotten=gone)
            snapshot = store.snapshot()
            index = index_of(snapshot, codec, next(shares), index)
            assert index.rows.sum() == sum(snapshot.shards.values())
            fresh = index_of(snapshot, codec)
            for query in queries[:2]:
                expected = scores_of_live_rows(snapshot, fresh, query)
                assert len(expected) == snapshot.rows
                assert scores_of_live_rows(snapshot, index, query) == pytest.approx(expected, abs=1e-5)
        store.close()


def test_only_what_is_new_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = clustered_pictures([20] * 6, DIMENSION)
    codec = train_codec("SQ8", np.concatenate(pictures))
    with make_store(tmp_path / "g", pictures) as store:
        first = CodeIndex(store.snapshot(), codec, lambda _: np.empty((0, DIMENSION), dtype=np.uint8))
        with store.writer() as writer:
            writer.record(forgotten=["/p/1"])
            writer.add([encoded_picture("new", clustered_pictures([4], DIMENSION, 3)[0])])
        encoded: list[int] = []
        encode = Codec.encode
        monkeypatch.setattr(
            Codec, "encode", lambda self, vectors: encoded.append(len(vectors)) or encode(self, vectors)
        )
        second = CodeIndex(store.snapshot(), codec, lambda _: np.empty((0, DIMENSION), dtype=np.uint8), first)
        assert encoded == [4]
        assert second.rows.tolist() == [*first.rows.tolist()[:-1], first.rows[-1] + 4]
        assert [ours is theirs for ours, theirs in zip(second._segments, first._segments, strict=True)] == (
            [True] * (len(first) - 1) + [False]
        )
