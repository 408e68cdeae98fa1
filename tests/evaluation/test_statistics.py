"""Intervals and p-values against scipy, worked examples, and what they promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rankings import found, outcome, random_run, run
from scipy import stats

from patchwise.errors import UsageError
from patchwise.evaluation.metrics import METRICS
from patchwise.evaluation.statistics import bootstrap, compare_runs, groups_of, paired


def test_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).beta(1, 3, 120)
    ours = bootstrap(values, resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.queries == 120
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.002)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    intervals = [bootstrap(generator.exponential(size=50), confidence=0.9, resamples=400) for _ in range(400)]
    assert 0.83 < np.mean([interval.low <= 1 <= interval.high for interval in intervals]) < 0.93


def test_the_same_seed_gives_the_same_interval_and_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(40)
    first = bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) == first
    assert bootstrap(values, seed=4) != first
    monkeypatch.setattr("patchwise.evaluation.statistics._BLOCK", 40 * 128)
    assert bootstrap(values, seed=3) == first


def test_queries_of_one_group_are_drawn_together() -> None:
    values = np.random.default_rng(0).random(30)
    alone = bootstrap(values)
    assert bootstrap(values, groups=list(range(30))) == alone
    # Asking each question four times teaches nothing new, unless one forgets that it is the same question.
    four = bootstrap(np.repeat(values, 4), groups=np.repeat(np.arange(30), 4).tolist())
    assert (four.mean, four.low, four.high) == pytest.approx((alone.mean, alone.low, alone.high))
    forgetful = bootstrap(np.repeat(values, 4))
    assert forgetful.high - forgetful.low < 0.7 * (alone.high - alone.low)


def test_large_groups_weigh_more() -> None:
    interval = bootstrap([1.0, 1.0, 1.0, 0.0], groups=["a", "a", "a", "b"])
    assert (interval.mean, interval.low, interval.high) == (0.75, 0, 1)
    # Both groups once, which is the middle half of all draws, is the mean over four queries and not over two groups.
    middle = bootstrap([1.0, 1.0, 1.0, 0.0], groups=["a", "a", "a", "b"], confidence=0.3)
    assert (middle.low, middle.high) == (0.75, 0.75)


def test_queries_of_which_the_metric_says_nothing_are_left_out() -> None:
    assert bootstrap([0.2, np.nan, 0.6, np.nan]) == bootstrap([0.2, 0.6])
    nothing = bootstrap([np.nan, np.nan])
    assert nothing.queries == 0
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def test_one_group_has_a_mean_and_no_interval() -> None:
    one = bootstrap([0.2, 0.4], groups=["a", "a"])
    assert one.mean == pytest.approx(0.3)
    assert np.isnan([one.low, one.high]).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"confidence": 1}, "inside"), ({"resamples": 0}, "positive"), ({"groups": ["a"]}, "2 values but 1 groups")],
)
def test_impossible_bootstraps_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bootstrap([0.1, 0.2], **options)  # type: ignore[arg-type]


def test_the_p_value_of_a_few_queries_is_exact() -> None:
    same_sign = paired(np.zeros(5), np.arange(1, 6))
    assert same_sign.p_value == 2 / 2**5
    assert (same_sign.a, same_sign.b, same_sign.difference.mean) == (0, 3, 3)
    # Of the 8 sign patterns of 1, 2, 4 those of +-7 and +-5 reach |1 - 2 - 4| = 5.
    assert paired([0, 0, 0], [1.0, -2.0, -4.0]).p_value == 4 / 8
    assert paired([0.1, 0.2], [0.1, 0.2]).p_value == 1
    assert np.isnan(paired([0.1], [0.2]).p_value)


def test_the_p_value_of_many_queries_is_that_of_scipy() -> None:
    generator = np.random.default_rng(2)
    a = generator.random(60)
    b = a + generator.normal(0.02, 0.1, 60)
    theirs = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=0
    )
    ours = paired(a, b, resamples=20_000)
    assert 0.02 < theirs.pvalue < 0.5
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.015)
    assert paired(b, a).p_value == paired(a, b).p_value


def test_without_a_difference_small_p_values_are_rare() -> None:
    generator = np.random.default_rng(8)
    values = [paired(generator.random(20), generator.random(20), resamples=400).p_value for _ in range(400)]
    assert np.mean(np.array(values) < 0.05) < 0.09


def test_groups_flip_together() -> None:
    b = np.repeat([1.0, 2.0, 3.0], 5)
    assert paired(np.zeros(15), b).p_value < 0.001
    assert paired(np.zeros(15), b, groups=np.repeat([0, 1, 2], 5).tolist()).p_value == 2 / 2**3


def test_wins_and_losses_are_counted_where_both_say_something() -> None:
    result = paired([0.1, 0.5, np.nan, 0.3, 0.3], [0.2, 0.4, 0.9, np.nan, 0.3])
    assert (result.better, result.equal, result.worse, result.difference.queries) == (1, 1, 1, 3)
    assert (result.a, result.b) == (pytest.approx(0.3), pytest.approx(0.3))
    with pytest.raises(UsageError, match="2 with 3"):
        paired([1, 2], [1, 2, 3])


def test_runs_are_compared_query_by_query_whatever_their_order() -> None:
    a, b = random_run(1, quality=0.3), random_run(2, quality=0.6)
    comparisons = compare_runs(a, b)
    assert tuple(comparisons) == METRICS
    shuffled = replace(b, outcomes=list(reversed(b.outcomes)))
    assert compare_runs(a, shuffled) == comparisons
    assert comparisons["mean_iou"].difference.mean > 0.1
    assert comparisons["mean_iou"].p_value < 0.01
    same = compare_runs(a, a)["loc_score"]
    assert (same.difference.mean, same.p_value, same.better, same.equal) == (0, 1, 0, 30)


def test_queries_without_a_group_stand_alone() -> None:
    loose = run(
        outcome([found(1)], query="a"), outcome([found(2)], query="b"), outcome([found(2)], query="c", group="a")
    )
    assert len(set(groups_of(loose))) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"benchmark": "other"}, "benchmark 'tiny' and 'other'"),
        ({"depth": 10}, "depth None and 10"),
        ({"average_precision": "trapezoid"}, "average_precision"),
        ({"outcomes": random_run(1).outcomes[1:]}, "second lacks 1 queries, as q0"),
        ({"outcomes": random_run(1, queries=31).outcomes}, "first lacks 1 queries, as q30"),
        ({"outcomes": random_run(101).outcomes}, "other positives"),
    ],
)
def test_runs_that_do_not_fit_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compare_runs(random_run(1), replace(random_run(2), **change))  # type: ignore[arg-type]
