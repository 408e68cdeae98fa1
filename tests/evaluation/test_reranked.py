"""Outcomes after a second look, against rankings worked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from patchwise.evaluation.datasets import Query
from patchwise.evaluation.metrics import positive_iou
from patchwise.evaluation.outcomes import Found, Missed, QueryOutcome
from patchwise.evaluation.reranked import reranked_outcome, reranked_scores
from patchwise.search import Hit

BOX = (0.0, 0.0, 10.0, 10.0)
QUERY = Query("q", Path("q.png"), None, {"b": (BOX,), "c": (BOX,), "e": (BOX,), "f": ()})
OUTCOME = QueryOutcome(
    "q",
    "",
    4,
    [
        Found("b", 2, 2, 0.8, (0, 0, 20, 20), 0.25, None, None),
        Found("c", 3, 3, 0.7, (0, 0, 20, 10), 0.5, None, None),
        Found("e", 5, 6, 0.5, BOX, 1.0, None, None),
    ],
    [Missed("f", None, None)],
)


def hit(score: float, box: tuple[float, float, float, float] = BOX) -> Hit:
    return Hit(1, "/p", score, box, 0, (0, 0), (20, 20), ())


def test_the_shortlist_takes_the_first_places_with_its_boxes_and_the_rest_stays() -> None:
    found = reranked_outcome(OUTCOME, QUERY, [("c", hit(0.9, BOX)), ("a", hit(0.85)), ("b", hit(0.6, (5, 0, 10, 10)))])
    assert [(item.image, item.rank, item.last_rank) for item in found.found] == [("c", 1, 1), ("b", 3, 3), ("e", 5, 6)]
    assert [item.iou for item in found.found] == [1.0, positive_iou((5, 0, 10, 10), [BOX]), 1.0]
    assert [item.score for item in found.found] == [0.9, 0.6, 0.5]
    assert found.missed == OUTCOME.missed
    assert found.positives == 4


def test_equal_scores_of_the_shortlist_tie_with_each_other_only() -> None:
    found = reranked_outcome(OUTCOME, QUERY, [("a", hit(0.9)), ("b", hit(0.5)), ("c", hit(0.5)), ("d", hit(0.4))])
    assert [(item.image, item.rank, item.last_rank) for item in found.found] == [("b", 2, 3), ("c", 3, 3), ("e", 5, 6)]


def test_a_shortlist_without_positives_changes_nothing() -> None:
    assert reranked_outcome(OUTCOME, QUERY, []) == replace(OUTCOME, found=list(OUTCOME.found))
    assert reranked_outcome(OUTCOME, QUERY, [("a", hit(1.0))]).found == OUTCOME.found


def test_a_positive_without_a_box_has_no_iou() -> None:
    outcome = replace(OUTCOME, found=[Found("f", 1, 1, 0.9, BOX, None, None, None)], missed=())
    assert reranked_outcome(outcome, QUERY, [("f", hit(0.95))]).found[0].iou is None


@pytest.mark.parametrize("second", [[0.9, 0.8], [0.2, 0.1], [0.1, 0.2]])
def test_a_ranking_falls_all_the_way_with_the_shortlist_in_front(second: list[float]) -> None:
    ids, scores = ["a", "b", "c", "d"], np.array([0.8, 0.7, 0.6, 0.5], dtype=np.float32)
    order, found = reranked_scores(ids, scores, [("b", hit(second[0])), ("a", hit(second[1]))])
    assert order == ["b", "a", "c", "d"]
    assert found[1] > found[2] > found[3]
    assert found[0] >= found[1]
    assert found[2:].tolist() == scores[2:].tolist()


def test_a_ranking_is_cut_as_deep_as_it_was() -> None:
    order, found = reranked_scores(["a"], np.array([0.8], dtype=np.float32), [("b", hit(0.5)), ("a", hit(0.4))])
    assert order == ["b"]
    assert found.tolist() == pytest.approx([0.5])
