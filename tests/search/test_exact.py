"""Exact search against brute force over the files, resident and streaming, in one block and in many."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conftest import FakeEncoder
from patchwise import Gallery
from patchwise.search import ExactSearcher, exact
from patchwise.store import Snapshot, Store
from search.conftest import Stored, ranked

RESIDENT = [None, 0, 10**9]


def picture_of(snapshot: Snapshot, stored: dict[str, Stored]) -> dict[str, int]:
    return {path: snapshot.index_of_path(path) for path in stored}


@pytest.fixture(params=[65_536, 20, 1], ids=lambda rows: f"blocks of {rows}")
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(exact, "_BLOCK_ROWS", request.param)
    return request.param


@pytest.mark.parametrize("resident_bytes", RESIDENT)
def test_scores_are_those_of_brute_force(
    snapshot: Snapshot, stored: dict[str, Stored], queries: np.ndarray, resident_bytes: int | None, block_rows: int
) -> None:
    searcher = ExactSearcher(snapshot, resident_bytes)
    together = searcher.scores(queries)
    one_by_one = np.concatenate([searcher.scores(query[None]) for query in queries])
    assert together.shape == (len(queries), len(snapshot))
    assert together.dtype == np.float32
    for path, index in picture_of(snapshot, stored).items():
        expected = [max(stored[path].scores(query)) for query in queries]
        np.testing.assert_allclose(together[:, index], expected, atol=2e-6)
        np.testing.assert_allclose(one_by_one[:, index], expected, atol=2e-6)


@pytest.mark.parametrize("resident_bytes", RESIDENT)
@pytest.mark.parametrize("k", [1, 2, 5, 11, 100])
def test_candidates_hold_the_best_and_all_that_tie(
    snapshot: Snapshot, stored: dict[str, Stored], queries: np.ndarray, resident_bytes: int | None, k: int
) -> None:
    index_of = picture_of(snapshot, stored)
    found = ExactSearcher(snapshot, resident_bytes).top(queries, k)
    assert len(found) == len(queries)
    for query, (candidates, scores) in zip(queries, found, strict=True):
        best = {index_of[path]: score for score, path, _ in ranked(stored, query)}
        order = sorted(best.values(), reverse=True)
        limit = order[min(k, len(order)) - 1]
        assert {index for index, score in best.items() if score >= limit - 1e-9} <= set(candidates.tolist())
        assert all(best[index] >= limit - 1e-4 for index in candidates.tolist())
        assert len(set(candidates.tolist())) == len(candidates)
        np.testing.assert_allclose(scores, [best[index] for index in candidates.tolist()], atol=2e-6)


def test_only_what_may_rank_is_a_candidate(snapshot: Snapshot, queries: np.ndarray) -> None:
    counts = [len(pictures) for pictures, _ in ExactSearcher(snapshot).top(queries[-20:], 2)]
    assert max(counts) < len(snapshot)
    assert min(counts) >= 2


@pytest.mark.parametrize("resident_bytes", RESIDENT)
def test_an_empty_gallery(tmp_path: Path, resident_bytes: int | None) -> None:
    Gallery.create(tmp_path / "g.pw", encoder=FakeEncoder()).close()
    with Store(tmp_path / "g.pw") as store:
        searcher = ExactSearcher(store.snapshot(), resident_bytes)
        query = np.eye(2, FakeEncoder.dimension, dtype=np.float32)
        assert [len(pictures) for pictures, _ in searcher.top(query, 5)] == [0, 0]
        assert searcher.scores(query).shape == (2, 0)


def test_no_query_at_all(snapshot: Snapshot) -> None:
    nothing = np.empty((0, FakeEncoder.dimension), dtype=np.float32)
    assert ExactSearcher(snapshot).top(nothing, 3) == []


def test_the_limit_decides_what_is_kept_in_memory(snapshot: Snapshot) -> None:
    needed = 4 * snapshot.rows * snapshot.dimension
    assert ExactSearcher(snapshot, needed).resident is not None
    assert ExactSearcher(snapshot, needed - 1).resident is None


@pytest.mark.parametrize("resident_bytes", RESIDENT)
@pytest.mark.parametrize(("rows", "waiting", "k"), [(1, 1, 3), (40, 200, 1), (64, 10**6, 4), (7, 50, 9)])
def test_block_by_block_it_keeps_the_same(
    snapshot: Snapshot,
    queries: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    resident_bytes: int | None,
    rows: int,
    waiting: int,
    k: int,
) -> None:
    """However small the blocks, and however often the best are picked in between."""
    searcher = ExactSearcher(snapshot, resident_bytes)
    scores = searcher.scores(queries)
    monkeypatch.setattr(exact, "_BLOCK_ROWS", rows)
    monkeypatch.setattr(exact, "_WAITING_SCORES", waiting)
    np.testing.assert_allclose(searcher.scores(queries), scores, atol=2e-6)
    for row, (pictures, found) in zip(scores, searcher.top(queries, k), strict=True):
        limit = np.sort(row)[-k]
        assert set(np.flatnonzero(row >= limit)) <= set(pictures.tolist()) <= set(np.flatnonzero(row >= limit - 2e-5))
        np.testing.assert_allclose(found, row[pictures], atol=2e-6)


MASKS = {
    "none": lambda count: np.zeros(count, dtype=bool),
    "one": lambda count: np.arange(count) == 4,
    "every other": lambda count: np.arange(count) % 2 == 0,
    "the last": lambda count: np.arange(count) > count - 4,
    "all": lambda count: np.ones(count, dtype=bool),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("resident_bytes", RESIDENT)
@pytest.mark.parametrize("k", [1, 3, 100])
def test_only_what_is_allowed_is_a_candidate(
    snapshot: Snapshot,
    stored: dict[str, Stored],
    queries: np.ndarray,
    resident_bytes: int | None,
    mask: str,
    k: int,
    block_rows: int,
) -> None:
    """The best of what is allowed, with all that tie, whatever better there is elsewhere."""
    index_of = picture_of(snapshot, stored)
    allowed = MASKS[mask](len(snapshot))
    searcher = ExactSearcher(snapshot, resident_bytes)
    found = searcher.top(queries, k, allowed)
    assert len(found) == len(queries)
    for query, (candidates, scores) in zip(queries, found, strict=True):
        best = {index_of[path]: score for score, path, _ in ranked(stored, query) if allowed[index_of[path]]}
        assert set(candidates.tolist()) <= set(best) and len(set(candidates.tolist())) == len(candidates)
        if not best:
            continue
        limit = sorted(best.values(), reverse=True)[min(k, len(best)) - 1]
        assert {index for index, score in best.items() if score >= limit - 1e-9} <= set(candidates.tolist())
        assert all(best[index] >= limit - 1e-4 for index in candidates.tolist())
        np.testing.assert_allclose(scores, [best[index] for index in candidates.tolist()], atol=2e-6)
    assert searcher.top(queries[:0], k, allowed) == []


def test_everything_allowed_is_as_if_nothing_was_said(snapshot: Snapshot, queries: np.ndarray) -> None:
    searcher = ExactSearcher(snapshot)
    everything = np.ones(len(snapshot), dtype=bool)
    for k in (1, 4, 100):
        for one, other in zip(searcher.top(queries, k), searcher.top(queries, k, everything), strict=True):
            assert set(one.pictures.tolist()) == set(other.pictures.tolist())
            order, other_order = np.argsort(one.pictures), np.argsort(other.pictures)
            np.testing.assert_allclose(one.scores[order], other.scores[other_order], atol=2e-6)


@pytest.mark.parametrize("resident_bytes", RESIDENT)
def test_threads_that_allow_different_pictures_each_get_their_own(
    snapshot: Snapshot, queries: np.ndarray, resident_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "_PICKED", 0.0)
    searcher = ExactSearcher(snapshot, resident_bytes)
    generator = np.random.default_rng(0)
    masks = [None, *(generator.random(len(snapshot)) < share for share in (0.2, 0.5, 0.8, 1.0))]
    asked = [(queries[first : first + 3], k, mask) for first in range(6) for k in (1, 4) for mask in masks]
    alone = [searcher.top(*each) for each in asked]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda each: searcher.top(*each), asked))
    for one, other in zip(alone, together, strict=True):
        assert [set(each.pictures.tolist()) for each in one] == [set(each.pictures.tolist()) for each in other]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_one_pass_serves_those_who_allow_much(
    snapshot: Snapshot, queries: np.ndarray, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, passes = ExactSearcher(snapshot), []
    one_pass = searcher._pass
    monkeypatch.setattr(searcher, "_pass", lambda *asked: passes.append(1) or one_pass(*asked))
    allowed = np.cumsum(np.diff(snapshot.starts)) <= share * snapshot.rows
    searcher.top(queries, 3, allowed)
    assert len(passes) == (share > exact._PICKED)
