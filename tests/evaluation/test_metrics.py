"""Metrics against the poster's worked example, independent implementations, and their own inequalities."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rankings import POSTER as POSTER_RUN
from rankings import POSTER_IOU, POSTER_RANKS, found, outcome, random_run, run
from sklearn.metrics import average_precision_score

from patchwise.errors import UsageError
from patchwise.evaluation import average_precision, loc_score, mean_iou, pass_share
from patchwise.evaluation.metrics import (
    METRICS,
    average_precision_at,
    average_precision_trapezoid,
    found_share_at,
    last_tied_ranks,
    per_query,
    placed,
    positive_iou,
    query_average_precision,
    recall_at,
)
from patchwise.evaluation.outcomes import Missed, restricted

POSTER = np.array([1, 0, 1, 1, 0, 0, 1], dtype=bool)
POSTER_FLAG_IOU = np.array([0.174, 0, 0.391, 0.533, 0, 0, 0.461])

Rankings = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60).filter(
    lambda ranking: any(flag for flag, _ in ranking)
)


@pytest.mark.parametrize(
    ("relevant", "ious"),
    [(POSTER, POSTER_FLAG_IOU), (np.array(POSTER_RANKS), np.array(POSTER_IOU)), (POSTER_RANKS, POSTER_IOU)],
    ids=["flags", "ranks", "plain"],
)
def test_the_poster_example(relevant: npt.NDArray[np.bool_], ious: npt.NDArray[np.float64]) -> None:
    assert mean_iou(relevant, ious) == pytest.approx(0.390, abs=5e-4)
    assert average_precision(relevant, 4) == pytest.approx(0.747, abs=5e-4)
    assert average_precision(relevant, 4) == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 7) / 4)
    assert loc_score(relevant, ious, 4) == pytest.approx(0.2745, abs=5e-5)
    assert loc_score(relevant, ious, 4, delta=0.5) == pytest.approx(0.1875)
    assert loc_score(relevant, ious, 4, delta=0.3) == pytest.approx(0.497, abs=5e-4)
    assert pass_share(relevant, ious, 0.5) == 0.25
    assert pass_share(relevant, ious, 0.3) == 0.75


def test_the_poster_example_as_a_run() -> None:
    values = {name: column[0] for name, column in per_query(POSTER_RUN, delta=0.3).items()}
    assert tuple(values) == METRICS
    assert values["average_precision"] == values["average_precision_rectangle"] == pytest.approx(0.747, abs=5e-4)
    assert values["loc_score"] == pytest.approx(0.2745, abs=5e-5)
    assert values["loc_score_discrete"] == pytest.approx(0.497, abs=5e-4)
    assert values["mean_iou"] == pytest.approx(0.390, abs=5e-4)
    assert (values["pass_share"], values["recall_at_1"]) == (0.75, 1.0)
    assert per_query(POSTER_RUN)["loc_score_discrete"][0] == pytest.approx(0.1875)


def test_positives_never_retrieved_count_nothing() -> None:
    assert average_precision(POSTER, 8) == pytest.approx(average_precision(POSTER, 4) / 2)
    assert average_precision_trapezoid(POSTER, 8) == pytest.approx(average_precision_trapezoid(POSTER, 4) / 2)
    assert loc_score(POSTER, POSTER_FLAG_IOU, 8) == pytest.approx(loc_score(POSTER, POSTER_FLAG_IOU, 4) / 2)
    assert average_precision(np.zeros(5, bool), 3) == average_precision_trapezoid(np.zeros(5, bool), 3) == 0
    assert average_precision_at(np.zeros(5, bool), 3, 10) == average_precision_at([], 3, 10) == 0
    assert mean_iou(np.zeros(5, bool), np.ones(5)) == 0
    assert pass_share(np.zeros(5, bool), np.ones(5), 0.5) == 0


def test_delta_is_exceeded_not_reached() -> None:
    assert loc_score(np.array([True]), np.array([0.5]), 1, delta=0.5) == 0
    assert pass_share(np.array([True]), np.array([0.5]), 0.5) == 0


def test_recall_and_found_share() -> None:
    assert [recall_at(POSTER[1:], k) for k in (1, 2, 100)] == [0, 1, 1]
    assert [found_share_at(POSTER, 5, k) for k in (1, 2, 3, 6, 7)] == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.8])


def test_positive_iou_takes_the_best_box_or_the_one_around_all() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (30.0, 0.0, 40.0, 10.0)]
    assert positive_iou((0, 0, 10, 10), boxes) == 1
    assert positive_iou((0, 0, 10, 10), boxes, "enclosing") == pytest.approx(100 / 400)
    assert positive_iou((0, 0, 40, 10), boxes) == pytest.approx(100 / 400)
    assert positive_iou((0, 0, 40, 10), boxes, "enclosing") == 1
    with pytest.raises(UsageError, match="no boxes"):
        positive_iou((0, 0, 1, 1), [])


@pytest.mark.parametrize("positives", [0, 3, -1])
def test_impossible_counts_are_refused(positives: int) -> None:
    for metric in (average_precision, average_precision_trapezoid):
        with pytest.raises(UsageError, match="positives"):
            metric(POSTER, positives)
    with pytest.raises(UsageError, match="positives"):
        average_precision_at(POSTER, positives, 10)


@pytest.mark.parametrize("ranks", [[0, 1], [2, 2], [3, 1], [-1]])
def test_impossible_ranks_are_refused(ranks: list[int]) -> None:
    with pytest.raises(UsageError, match="rise from 1"):
        average_precision(ranks, 5)


def test_impossible_calls_are_refused() -> None:
    with pytest.raises(UsageError, match="7 ranks but 2"):
        loc_score(POSTER, np.zeros(2), 4)
    with pytest.raises(UsageError, match="at least 1"):
        average_precision_at(POSTER, 4, 0)
    with pytest.raises(UsageError, match="4 ranks but 1 last"):
        average_precision_at(POSTER, 4, 10, [1])
    with pytest.raises(UsageError, match="needs a depth"):
        query_average_precision(POSTER_RUN.outcomes[0], "at depth")
    with pytest.raises(UsageError, match="'triangle'"):
        query_average_precision(POSTER_RUN.outcomes[0], "triangle")


@given(Rankings)
def test_rectangles_equal_scikit_learn_and_never_fall_below_loc_score(ranking: list[tuple[bool, float]]) -> None:
    relevant, ious = (np.array(column) for column in zip(*ranking, strict=True))
    positives = int(relevant.sum())
    ours = average_precision(relevant, positives)
    assert ours == pytest.approx(average_precision_score(relevant, -np.arange(len(relevant))))
    assert loc_score(relevant, ious, positives) <= ours + 1e-12
    assert loc_score(relevant, np.ones(len(ious)), positives) == pytest.approx(ours)
    scores = [loc_score(relevant, ious, positives, delta) for delta in np.linspace(-0.01, 1, 12)]
    assert scores[0] == pytest.approx(ours)
    assert scores[-1] == 0
    assert all(a >= b for a, b in pairwise(scores))


@given(Rankings, st.integers(0, 20))
def test_ranks_say_the_same_as_flags_and_what_follows_does_not_matter(
    ranking: list[tuple[bool, float]], more: int
) -> None:
    relevant, ious = (np.array(column) for column in zip(*ranking, strict=True))
    longer, longer_ious = np.append(relevant, np.zeros(more, bool)), np.append(ious, np.ones(more))
    ranks, their_ious, positives = np.flatnonzero(relevant) + 1, ious[relevant], int(relevant.sum()) + 2
    for metric in (average_precision, average_precision_trapezoid):
        assert metric(relevant, positives) == metric(longer, positives) == metric(ranks, positives)
    for delta in (None, 0.5):
        expected = loc_score(relevant, ious, positives, delta)
        assert loc_score(longer, longer_ious, positives, delta) == expected
        assert loc_score(ranks, their_ious, positives, delta) == expected
    assert mean_iou(relevant, ious) == mean_iou(longer, longer_ious) == mean_iou(ranks, their_ious)


@given(Rankings)
def test_trapezoids_are_the_area_under_the_curve(ranking: list[tuple[bool, float]]) -> None:
    """numpy's integral over the whole precision-recall curve, which starts at precision 1 and recall 0."""
    relevant = np.array([flag for flag, _ in ranking])
    hits = np.cumsum(relevant)
    recall, precision = hits / hits[-1], hits / np.arange(1, len(hits) + 1)
    widths, heights = np.diff(recall, prepend=0), (precision + np.append(1.0, precision[:-1])) / 2
    assert average_precision_trapezoid(relevant, int(hits[-1])) == pytest.approx((widths * heights).sum())


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_continuous_loc_score_is_the_area_under_the_discrete_one(twentieths: list[int]) -> None:
    ranks = np.arange(1, 2 * len(twentieths), 2)
    ious = np.array(twentieths) / 20
    between = (np.arange(20) + 0.5) / 20
    area = np.mean([loc_score(ranks, ious, len(ranks), delta) for delta in between])
    assert loc_score(ranks, ious, len(ranks)) == pytest.approx(area)


def test_scikit_learn_agrees_on_a_thousand_rankings_with_ties() -> None:
    """The published definition of ILIAS, said again with scikit-learn: ties, cuts, positives that are not there."""
    generator = np.random.default_rng(3)
    largest = 0.0
    tied = cut = 0
    for _ in range(1000):
        length, k = int(generator.integers(1, 80)), int(generator.integers(1, 60))
        scores = np.sort(generator.integers(0, generator.choice([3, 10, 10**6]), length))[::-1] / 7
        relevant = generator.random(length) < generator.choice([0.05, 0.3, 0.9])
        positives = int(relevant.sum()) + int(generator.integers(0, 5))
        if positives == 0:
            continue
        ours = average_precision_at(relevant, positives, k, last_tied_ranks(scores)[relevant])
        kept, hit = scores[:k], relevant[:k]
        theirs = average_precision_score(hit, kept) * hit.sum() / min(k, positives) if hit.any() else 0.0
        largest = max(largest, abs(ours - theirs))
        tied += len(np.unique(kept)) < len(kept)
        cut += length > k and scores[k - 1] == scores[k]
    assert largest < 1e-12
    assert tied > 300
    assert cut > 50


@given(st.lists(st.integers(-3, 3), max_size=40))
def test_last_tied_rank_is_the_number_of_scores_at_least_as_high(values: list[int]) -> None:
    scores = np.sort(np.array(values, dtype=np.float64))[::-1]
    assert last_tied_ranks(scores).tolist() == [int((scores >= score).sum()) for score in scores]


def test_only_the_first_depth_images_of_a_run_count() -> None:
    hits = [found(1, 0.2), found(3, 0.8), found(9, 1.0)]
    values = {name: column[0] for name, column in per_query(run(outcome(hits), depth=5, rule="at depth")).items()}
    assert values["average_precision"] == pytest.approx((1 + 2 / 3) / 3)
    assert values["average_precision_rectangle"] == pytest.approx((1 + 2 / 3) / 3)
    assert values["loc_score"] == pytest.approx((0.2 + 2 / 3 * 0.8) / 3)
    assert values["mean_iou"] == pytest.approx(0.5)
    assert values["pass_share"] == 0.5
    # A ranking that is shorter than the positives cannot find them all: min(k, positives).
    assert per_query(run(outcome(hits), depth=1, rule="at depth"))["average_precision"][0] == 1


def test_ties_count_in_the_rule_of_ilias_only() -> None:
    tied = outcome([found(1, last_rank=4), found(3, last_rank=4)])
    assert query_average_precision(tied, "at depth", 10) == pytest.approx(2 / 4)
    assert query_average_precision(tied, "at depth", 3) == pytest.approx(2 / 3)
    assert query_average_precision(tied, "rectangle", 10) == pytest.approx((1 + 2 / 3) / 2)


def test_a_run_without_boxes_has_no_loc_score() -> None:
    without = run(
        outcome([found(1, None)], [Missed("m", None, None)]),
        outcome([], positives=3, query="nothing found, nothing listed"),
    )
    values = per_query(without)
    assert values["average_precision"].tolist() == [0.5, 0]
    for name in ("loc_score", "loc_score_discrete", "mean_iou", "pass_share"):
        assert np.isnan(values[name]).all()


def test_positives_without_a_place_are_taken_out_of_the_ranking_for_loc_score() -> None:
    part = outcome([found(1, None), found(2, 0.4), found(5, 0.6)], [Missed("a", None, None), Missed("b", 0.1, 0.1)])
    values = per_query(run(part))
    # Ranks 2 and 5 become 1 and 4; three positives have a place, of which two were found.
    assert values["loc_score"][0] == pytest.approx((1 * 0.4 + 2 / 4 * 0.6) / 3)
    assert values["average_precision"][0] == pytest.approx((1 + 1 + 3 / 5) / 5)
    judged = placed(part)
    assert judged is not None
    assert values["loc_score"][0] <= query_average_precision(judged, "rectangle")
    assert placed(outcome([found(1, None)], positives=3)) is None
    with pytest.raises(UsageError, match="not listed"):
        placed(outcome([found(1, None), found(2, 0.4)], positives=3))


@pytest.mark.parametrize("depth", [None, 20])
def test_loc_score_never_exceeds_the_rectangles_of_any_query(depth: int | None) -> None:
    for seed in range(1, 20):
        values = per_query(random_run(seed, quality=1, depth=depth))
        assert (values["loc_score"] <= values["average_precision_rectangle"] + 1e-12).all()
        assert (values["loc_score_discrete"] <= values["average_precision_rectangle"] + 1e-12).all()
        assert all(np.nanmin(column) >= 0 and np.nanmax(column) <= 1 for column in values.values())


def test_a_query_that_found_nothing_has_loc_score_0_and_no_mean_iou() -> None:
    values = per_query(run(outcome([found(1)]), outcome([], [Missed("m", 0.1, 0.1)], "empty")))
    assert values["loc_score"].tolist() == [0.5, 0]
    assert np.isnan(values["mean_iou"]).tolist() == [False, True]
    assert np.isnan(values["pass_share"]).tolist() == [False, True]


def test_restricting_moves_later_ranks_up() -> None:
    whole = outcome(
        [
            found(1, image="a"),
            found(2, image="b", last_rank=4),
            found(4, image="a2", last_rank=4),
            found(9, image="b2"),
        ],
        [Missed("a3", None, None)],
    )
    part = restricted(whole, lambda item: item.image.startswith("b"))
    assert part is not None
    assert [(item.rank, item.last_rank) for item in part.found] == [(1, 2), (7, 7)]
    assert (part.positives, part.missed) == (2, [])
    assert restricted(whole, lambda item: False) is None
    with pytest.raises(UsageError, match="not listed"):
        restricted(outcome([found(1)], positives=2), lambda item: True)
