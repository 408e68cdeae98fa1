"""Metrics against the poster's worked example, an independent implementation, and their own inequalities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from patchwise.errors import UsageError
from patchwise.evaluation import average_precision, loc_score, mean_iou, pass_share

# The poster's example: positives at ranks 1, 3, 4 and 7.
POSTER = np.array([1, 0, 1, 1, 0, 0, 1], dtype=bool)
POSTER_IOU = np.array([0.174, 0, 0.391, 0.533, 0, 0, 0.461])


def test_the_poster_example() -> None:
    assert mean_iou(POSTER, POSTER_IOU) == pytest.approx(0.390, abs=5e-4)
    assert average_precision(POSTER, 4) == pytest.approx(0.747, abs=1e-3)
    assert loc_score(POSTER, POSTER_IOU, 4) == pytest.approx(0.2745, abs=5e-5)
    assert loc_score(POSTER, POSTER_IOU, 4, delta=0.5) == pytest.approx(0.1875)
    assert loc_score(POSTER, POSTER_IOU, 4, delta=0.3) == pytest.approx(0.497, abs=1e-3)
    assert pass_share(POSTER, POSTER_IOU, 0.5) == 0.25
    assert pass_share(POSTER, POSTER_IOU, 0.3) == 0.75


def test_positives_never_retrieved_count_nothing() -> None:
    assert average_precision(POSTER, 8) == pytest.approx(average_precision(POSTER, 4) / 2)
    assert loc_score(POSTER, POSTER_IOU, 8) == pytest.approx(loc_score(POSTER, POSTER_IOU, 4) / 2)
    assert average_precision(np.zeros(5, bool), 3) == 0
    assert mean_iou(np.zeros(5, bool), np.ones(5)) == 0
    assert pass_share(np.zeros(5, bool), np.ones(5), 0.5) == 0


def test_delta_is_exceeded_not_reached() -> None:
    assert loc_score(np.array([True]), np.array([0.5]), 1, delta=0.5) == 0
    assert pass_share(np.array([True]), np.array([0.5]), 0.5) == 0


@pytest.mark.parametrize("positives", [0, 3, -1])
def test_impossible_counts_are_refused(positives: int) -> None:
    with pytest.raises(UsageError, match="positives"):
        average_precision(POSTER, positives)


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(UsageError, match="7 ranks but 2"):
        loc_score(POSTER, np.zeros(2), 4)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_equal_to_scikit_learn_and_never_below_loc_score(ranking: list[tuple[bool, float]]) -> None:
    relevant = np.array([flag for flag, _ in ranking])
    ious = np.array([iou for _, iou in ranking])
    positives = int(relevant.sum())
    if positives == 0:
        return
    ours = average_precision(relevant, positives)
    assert ours == pytest.approx(average_precision_score(relevant, -np.arange(len(relevant))))
    assert loc_score(relevant, ious, positives) <= ours + 1e-12
    assert loc_score(relevant, ious, positives, delta=0.5) <= ours + 1e-12
