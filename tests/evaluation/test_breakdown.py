"""Breakdowns against a worked example, ILIAS's definition with scikit-learn, and the undivided figures."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from rankings import POSTER, found, outcome, random_run, run
from sklearn.metrics import average_precision_score

from patchwise.errors import UsageError
from patchwise.evaluation.breakdown import (
    AREA_EDGES,
    DELTAS,
    ILIAS_EDGES,
    breakdown,
    by_area,
    by_attribute,
    by_centre_distance,
    loc_score_curve,
)
from patchwise.evaluation.metrics import last_tied_ranks, per_query
from patchwise.evaluation.outcomes import Found, Missed

# Small objects at ranks 1 and 4, one missed; large ones at ranks 2 and 6. A second query has large ones only.
MIXED = run(
    outcome(
        [found(1, 0.5, share=0.02), found(2, 0.8, share=0.4), found(4, 0.25, share=0.02), found(6, 0.6, share=0.3)],
        [Missed("m", 0.01, 0.5)],
    ),
    outcome([found(2, 1.0, share=0.9)], query="large only"),
)


def test_a_bin_is_a_question_of_its_own() -> None:
    small, large = by_area(MIXED, (0, 0.1, 1.1))
    # Without the large one at rank 2 the small ones are at 1 and 3; the third was not found.
    assert small.positives == 3
    assert small.average_precision.mean == pytest.approx((1 + 2 / 3) / 3)
    assert small.loc_score.mean == pytest.approx((0.5 + 2 / 3 * 0.25) / 3)
    assert small.mean_iou.mean == pytest.approx(0.375)
    assert small.average_precision.queries == 1
    # Without the small ones the large ones are at 1 and 4; the other query's stays at 2.
    assert (large.positives, large.average_precision.queries) == (3, 2)
    assert large.average_precision.mean == pytest.approx(((1 + 2 / 4) / 2 + 1 / 2) / 2)
    assert large.loc_score.mean == pytest.approx(((0.8 + 2 / 4 * 0.6) / 2 + 1 / 2) / 2)


def test_one_bin_for_all_is_the_undivided_figure() -> None:
    whole = random_run(1)
    values = per_query(whole)
    for bins in (by_area(whole, (0, np.inf)), by_centre_distance(whole, (0, np.inf))):
        assert bins[0].positives == sum(outcome.positives for outcome in whole.outcomes)
        for name in ("average_precision", "loc_score", "mean_iou"):
            assert getattr(bins[0], name).mean == pytest.approx(np.nanmean(values[name]))


def test_every_positive_is_in_one_bin_and_runs_share_their_bins() -> None:
    first, second = by_area(random_run(1)), by_area(random_run(2))
    assert len(first) == len(AREA_EDGES) - 1
    assert sum(one.positives for one in first) == sum(outcome.positives for outcome in random_run(1).outcomes)
    assert [one.positives for one in first] == [one.positives for one in second]
    assert [one.mean_iou for one in first] != [one.mean_iou for one in second]


def test_an_edge_belongs_to_the_bin_above() -> None:
    edges = run(outcome([found(1, share=0.1)]))
    assert [one.positives for one in by_area(edges, (0, 0.1, 0.2))] == [0, 1]
    empty = by_area(edges, (0, 0.1, 0.2))[0]
    assert empty.average_precision.queries == 0
    assert np.isnan(empty.loc_score.mean)


def test_the_distance_counts_in_half_diagonals() -> None:
    bins = by_centre_distance(run(outcome([found(1, distance=0.05), found(2, distance=0.99)])))
    assert [one.positives for one in bins] == [1, 0, 0, 0, 0, 0, 1]


def test_scale_and_clutter_are_broken_down_as_ilias_does() -> None:
    """Its published rule with scikit-learn: drop the positives of other bins from the list, then take AP@k."""
    generator = np.random.default_rng(7)
    outcomes, lists, clutter = [], [], {}
    for number in range(60):
        positives = {f"{number}-{n}": float(generator.integers(0, 80)) for n in range(int(generator.integers(1, 12)))}
        clutter.update(positives)
        there = [name for name in positives if generator.random() < 0.8]
        names = np.array([*there, *(f"d{n}" for n in range(40))])[generator.permutation(40 + len(there))]
        scores = np.sort(generator.integers(0, 30, len(names)))[::-1] / 3
        last = last_tied_ranks(scores)
        hits = [
            Found(name, rank, int(last[rank - 1]), float(scores[rank - 1]), None, None, None, None)
            for rank, name in enumerate(names, 1)
            if name in positives
        ]
        missed = [Missed(name, None, None) for name in positives if name not in there]
        outcomes.append(outcome(hits, missed, f"q{number}"))
        lists.append((names, scores, positives))
    k = 20
    bins = by_attribute(
        run(*outcomes, depth=k, rule="at depth"),
        {name: {"clutter": value} for name, value in clutter.items()},
        "clutter",
    )
    for one, (low, high) in zip(bins, pairwise(ILIAS_EDGES["clutter"]), strict=True):
        values = []
        for names, scores, positives in lists:
            inside = [name for name, value in positives.items() if low <= value < high]
            if inside:
                kept = np.array([name in inside or name not in positives for name in names])
                hit, score = np.isin(names[kept], inside)[:k], scores[kept][:k]
                ap = average_precision_score(hit, score) * hit.sum() / min(k, len(inside)) if hit.any() else 0.0
                values.append(ap)
        assert one.average_precision.mean == pytest.approx(np.mean(values), abs=1e-12)
        assert one.average_precision.queries == len(values)
        assert np.isnan(one.loc_score.mean)


def test_the_curve_falls_from_the_mean_average_precision() -> None:
    curve = loc_score_curve(random_run(4))
    assert curve[0] == pytest.approx(per_query(random_run(4))["average_precision"].mean())
    assert all(a >= b for a, b in pairwise(curve))
    assert curve[DELTAS.index(0.5)] == pytest.approx(per_query(random_run(4), 0.5)["loc_score_discrete"].mean())


def test_the_curve_of_the_poster_example() -> None:
    assert loc_score_curve(POSTER, (0.3, 0.5, 0.6)) == pytest.approx([0.497, 0.1875, 0], abs=5e-4)
    assert loc_score_curve(run(outcome([found(1, 0.9), found(8, 0.9)]), depth=5), (0.5,)) == pytest.approx([0.5])


def test_without_boxes_there_is_no_curve_and_every_bin_is_empty() -> None:
    without = run(outcome([found(1, None)], [Missed("m", None, None)]))
    assert np.isnan(loc_score_curve(without)).all()
    assert [one.positives for one in by_area(without)] == [0] * (len(AREA_EDGES) - 1)


def test_what_cannot_be_broken_down_is_refused() -> None:
    with pytest.raises(UsageError, match="must rise: 0, 0"):
        by_area(MIXED, (0, 0, 1))
    with pytest.raises(UsageError, match="must rise"):
        breakdown(MIXED, "object_share", (1,))
    with pytest.raises(UsageError, match="not listed"):
        by_area(run(outcome([found(1)], positives=2)))
    with pytest.raises(UsageError, match="knows no 'scale' of its images, only: clutter"):
        by_attribute(MIXED, {"1.jpg": {"clutter": 3.0}}, "scale")
    with pytest.raises(UsageError, match="needs the edges"):
        by_attribute(MIXED, {"1.jpg": {"blur": 3.0}}, "blur")
    blurred = {"1.jpg": {"blur": 3.0}, "m": {"blur": 1.0}, "2.jpg": {}}
    assert [one.positives for one in by_attribute(MIXED, blurred, "blur", (0, 2, 4))] == [1, 1]
