"""How sure a figure is: bootstrap intervals over queries, and the paired comparison of two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from patchwise.errors import UsageError
from patchwise.evaluation.metrics import METRICS, per_query
from patchwise.evaluation.outcomes import Run

__all__ = ["Comparison", "Interval", "bootstrap", "compare_runs", "groups_of", "paired"]

Values = npt.NDArray[np.float64]

# Up to here every one of the 2^n sign flips is tried, and the p-value is exact.
_EXACT_GROUPS = 12
# Values held at once while resampling.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval; `low` and `high` are NaN where fewer than two groups speak."""

    mean: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True)
class Comparison:
    """Run `b` against run `a` on the queries of both: `difference` is the mean of b - a, `p_value` two-sided.

    `better`, `equal` and `worse` count the queries by the sign of their difference.
    """

    a: float
    b: float
    difference: Interval
    p_value: float
    better: int
    equal: int
    worse: int


def bootstrap(
    values: npt.ArrayLike,
    groups: Sequence[object] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean of `values` (Q,) with its percentile bootstrap interval over queries (Efron 1979).

    NaN values are left out: they belong to queries of which the metric says nothing. With `groups` (Q,) whole groups
    are drawn (cluster bootstrap), since queries for the same instance rise and fall together. The same seed and
    the same groups give the same draws, whatever the values.

    Raises:
        UsageError: `groups` of another length, a confidence outside (0, 1), or no resamples.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise UsageError(f"bootstrap: confidence {confidence} must be inside (0, 1) and resamples {resamples} positive")
    sums, counts = _group_sums(values, groups)
    if len(sums) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean, queries = float(sums.sum() / counts.sum()), int(counts.sum())
    if len(sums) < 2:
        return Interval(mean, np.nan, np.nan, queries)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    block = max(1, _BLOCK // len(sums))
    for start in range(0, resamples, block):
        drawn = generator.integers(0, len(sums), (min(block, resamples - start), len(sums)))
        means[start : start + block] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high), queries)


def paired(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    groups: Sequence[object] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two metrics of the same queries (Q,), query by query; queries with NaN in either are left out.

    The p-value is that of the sign-flip (paired permutation, Fisher 1935) test: how often a difference this large
    appears if each query's, or with `groups` each group's, difference might as well have had the other sign. All flips
    are tried for up to 12 groups, `resamples` random ones beyond. NaN where fewer than two groups speak.

    Raises:
        UsageError: arrays of different lengths, or what `bootstrap` refuses.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise UsageError(f"a paired comparison of {len(a)} with {len(b)} queries")
    both = ~np.isnan(a) & ~np.isnan(b)
    difference = np.where(both, b - a, np.nan)
    sums, _ = _group_sums(difference, groups)
    return Comparison(
        a=float(a[both].mean()) if both.any() else np.nan,
        b=float(b[both].mean()) if both.any() else np.nan,
        difference=bootstrap(difference, groups, confidence, resamples, seed),
        p_value=_sign_flip(sums, resamples, seed),
        better=int((difference > 0).sum()),
        equal=int((difference == 0).sum()),
        worse=int((difference < 0).sum()),
    )


def groups_of(run: Run) -> list[tuple[str, str]]:
    """What is resampled together: the queries of one `group`; a query without a group is on its own."""
    return [("group", outcome.group) if outcome.group else ("query", outcome.query) for outcome in run.outcomes]


def compare_runs(
    a: Run, b: Run, delta: float = 0.5, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> dict[str, Comparison]:
    """Every metric of two runs of one benchmark compared query by query, clustered by group.

    Raises:
        UsageError: runs of different benchmarks, depths or average precisions, or with different queries.
    """
    for what in ("benchmark", "depth", "average_precision"):
        if getattr(a, what) != getattr(b, what):
            raise UsageError(f"runs that cannot be compared: {what} {getattr(a, what)!r} and {getattr(b, what)!r}")
    place = {outcome.query: row for row, outcome in enumerate(b.outcomes)}
    names = [outcome.query for outcome in a.outcomes]
    for one, other, which in ((names, place, "second"), (place, set(names), "first")):
        lacking = [name for name in one if name not in other]
        if lacking:
            raise UsageError(f"runs that cannot be compared: the {which} lacks {len(lacking)} queries, as {lacking[0]}")
    changed = [
        outcome.query for outcome in a.outcomes if outcome.positives != b.outcomes[place[outcome.query]].positives
    ]
    if changed:
        raise UsageError(f"runs that cannot be compared: query {changed[0]} has other positives in the second")
    order = np.array([place[name] for name in names], dtype=np.int64)
    first, second, groups = per_query(a, delta), per_query(b, delta), groups_of(a)
    return {name: paired(first[name], second[name][order], groups, confidence, resamples, seed) for name in METRICS}


def _group_sums(values: npt.ArrayLike, groups: Sequence[object] | None) -> tuple[Values, Values]:
    """Sum and number of the values of each group, groups in order of appearance, without NaN."""
    values = np.asarray(values, dtype=np.float64)
    said = ~np.isnan(values)
    if groups is None:
        return values[said], np.ones(int(said.sum()))
    if len(groups) != len(values):
        raise UsageError(f"{len(values)} values but {len(groups)} groups")
    numbers: dict[object, int] = {}
    labels = [numbers.setdefault(groups[row], len(numbers)) for row in np.flatnonzero(said).tolist()]
    sums = np.bincount(labels, weights=values[said], minlength=len(numbers)).astype(np.float64)
    return sums, np.bincount(labels, minlength=len(numbers)).astype(np.float64)


def _sign_flip(sums: Values, resamples: int, seed: int) -> float:
    """Two-sided p-value of the sum of `sums` (G,) under random signs."""
    if len(sums) < 2:
        return np.nan
    # A tolerance, since sums in another order differ in their last bits.
    reached = abs(float(sums.sum())) - 1e-9 * float(np.abs(sums).sum())
    if len(sums) <= _EXACT_GROUPS:
        signs = np.array(list(product((1.0, -1.0), repeat=len(sums))))
        return float((np.abs(signs @ sums) >= reached).mean())
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(sums))
    count = 0
    for start in range(0, resamples, block):
        flips = generator.integers(0, 2, (min(block, resamples - start), len(sums)), dtype=np.int8)
        count += int((np.abs((1 - 2 * flips) @ sums) >= reached).sum())
    # The observed signs are one of the possible ones (Phipson and Smyth 2010).
    return (count + 1) / (resamples + 1)
