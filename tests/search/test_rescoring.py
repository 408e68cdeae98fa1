"""Cosines of chosen rows against sums in double precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchwise.search import rescoring
from patchwise.search.rescoring import row_scores
from patchwise.store import Snapshot, shards
from search.coded import live_vectors, make_store, random_pictures, unit


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    """Shards of 40 rows, and dead pictures in between."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 33 * 40)
    with make_store(tmp_path / "g", random_pictures([7, 1, 30, 5, 12, 3] * 4, 33)) as store:
        with store.writer() as writer:
            writer.record(forgotten=["/p/1", "/p/3", "/p/8", "/p/23"])
        return store.snapshot()


def queries(count: int) -> np.ndarray:
    return unit(np.random.default_rng(1).normal(size=(count, 33)))


ORDERS = {
    "all": lambda rows, draw: np.arange(rows),
    "backwards": lambda rows, draw: np.arange(rows)[::-1],
    "shuffled": lambda rows, draw: draw.permutation(rows),
    "some": lambda rows, draw: np.sort(draw.choice(rows, rows // 3, replace=False)),
    "twice": lambda rows, draw: draw.integers(0, rows, 2 * rows),
    "one": lambda rows, draw: np.array([rows - 1]),
    "none": lambda rows, draw: np.empty(0, dtype=np.int64),
}


@pytest.mark.parametrize("at_once", [1, 13, 2048])
@pytest.mark.parametrize("order", ORDERS)
def test_scores_are_products_in_double_precision(
    snapshot: Snapshot, order: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescoring, "_ROWS_AT_ONCE", at_once)
    vectors = live_vectors(snapshot).astype(np.float64)
    rows = ORDERS[order](snapshot.rows, np.random.default_rng(2))
    for query in queries(3):
        scores = row_scores(snapshot, rows, query)
        assert scores.shape == rows.shape and scores.dtype == np.float32
        np.testing.assert_allclose(scores, vectors[rows] @ query.astype(np.float64), atol=1e-6, rtol=0)


def test_the_order_of_rows_does_not_change_a_score(snapshot: Snapshot) -> None:
    (query,) = queries(1)
    everything = row_scores(snapshot, np.arange(snapshot.rows), query)
    shuffled = np.random.default_rng(0).permutation(snapshot.rows)
    np.testing.assert_array_equal(row_scores(snapshot, shuffled, query), everything[shuffled])


def test_rows_that_are_the_same_get_the_same_score(tmp_path: Path) -> None:
    """All tie, so that their order says nothing about where they belong."""
    (one,) = random_pictures([1], 33)
    snapshot = make_store(tmp_path / "g", [np.repeat(one, 20, axis=0), -np.repeat(one, 20, axis=0)]).snapshot()
    scores = row_scores(snapshot, np.arange(40), unit(one)[0])
    assert len(set(scores[:20].tolist())) == len(set(scores[20:].tolist())) == 1
    np.testing.assert_allclose(scores[::20], [1, -1], atol=1e-3)  # stored as fp16


def test_rows_that_are_not_there_are_told(snapshot: Snapshot) -> None:
    with pytest.raises(IndexError):
        row_scores(snapshot, np.array([snapshot.rows]), queries(1)[0])


def test_a_query_may_be_a_row_of_many(snapshot: Snapshot) -> None:
    """Not contiguous in memory."""
    columns = np.asfortranarray(queries(4))
    rows = np.arange(snapshot.rows)
    np.testing.assert_array_equal(row_scores(snapshot, rows, columns[2]), row_scores(snapshot, rows, queries(4)[2]))
