"""Ranking and localisation metrics of one query, each in [0, 1], and of the queries of a run.

The functions on arrays take a ranking in either of the two forms in which numpy takes an index: flags in rank order,
(K,) bool; or the 1-based ranks of the positives that were retrieved, rising, (F,) int, which is all that has to be kept
of a ranking of millions. `ious` goes with it: (K,), of which only those of positives count, or (F,). `positives` is how
many there are to find, retrieved or not; those that were not count 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box, box_iou, enclosing_box
from patchwise.errors import UsageError
from patchwise.evaluation.outcomes import Found, Missed, QueryOutcome, Run, restricted

__all__ = [
    "METRICS",
    "average_precision",
    "average_precision_at",
    "average_precision_trapezoid",
    "found_share_at",
    "last_tied_ranks",
    "loc_score",
    "mean_iou",
    "pass_share",
    "per_query",
    "placed",
    "positive_iou",
    "query_average_precision",
    "recall_at",
]

Ranking = npt.NDArray[np.bool_] | npt.NDArray[np.integer] | Sequence[int]
Shares = npt.ArrayLike
Values = npt.NDArray[np.float64]

METRICS = (
    "average_precision",
    "average_precision_rectangle",
    "average_precision_trapezoid",
    "recall_at_1",
    "loc_score",
    "loc_score_discrete",
    "mean_iou",
    "pass_share",
)


def average_precision(relevant: Ranking, positives: int) -> float:
    """Average precision by rectangles: the mean over positives of the precision at their rank.

    Equal to scikit-learn's `average_precision_score` when no scores tie and all positives are in the ranking.

    Raises:
        UsageError: no positives, fewer than were retrieved, or ranks that do not rise from 1.
    """
    return float(_precision(_ranks(relevant, positives)).sum() / positives)


def average_precision_trapezoid(relevant: Ranking, positives: int) -> float:
    """Average precision by trapezoids: at each positive the mean of the precisions at its rank and just before it.

    The rule of the Oxford buildings evaluation (Philbin et al. 2007), kept by revisited Oxford and Paris and by the
    INSTRE retrieval split (Iscen et al. 2017). Before rank 1 the precision is 1.

    Raises:
        UsageError: no positives, fewer than were retrieved, or ranks that do not rise from 1.
    """
    ranks = _ranks(relevant, positives)
    before = np.divide(np.arange(len(ranks)), ranks - 1, out=np.ones(len(ranks)), where=ranks > 1)
    return float((before + _precision(ranks)).sum() / (2 * positives))


def average_precision_at(relevant: Ranking, positives: int, k: int, last_ranks: npt.ArrayLike | None = None) -> float:
    """AP@k as ILIAS has it: scikit-learn's average precision of the first k, times found / min(k, positives).

    Source: Kordopatis-Zilos et al., ILIAS (CVPR 2025), repository ilias-vrg/ilias, `evaluation`. `last_ranks` (F,), one
    per retrieved positive, are the ranks of the last image with the same score (see `last_tied_ranks`): images that tie
    are one step of the precision-recall curve, as with scikit-learn. Which of them is kept when rank k cuts through a
    tie follows `relevant`. No positive among the first k gives 0.

    Raises:
        UsageError: k or positives under 1, fewer positives than retrieved, or ranks that do not rise from 1.
    """
    ranks = _ranks(relevant, positives)
    if k < 1:
        raise UsageError(f"average precision at {k}: the depth must be at least 1")
    last = ranks if last_ranks is None else np.asarray(last_ranks)
    if len(last) != len(ranks):
        raise UsageError(f"{len(ranks)} ranks but {len(last)} last ranks")
    last = np.minimum(last[ranks <= k], k)
    return float((np.searchsorted(last, last, side="right") / last).sum() / min(k, positives))


def recall_at(relevant: Ranking, k: int) -> float:
    """R@k as in instance retrieval and metric learning: 1 if any positive is among the first k, else 0."""
    return float((_ranks(relevant) <= k).any())


def found_share_at(relevant: Ranking, positives: int, k: int) -> float:
    """Share of the positives that are among the first k.

    Raises:
        UsageError: no positives, fewer than were retrieved, or ranks that do not rise from 1.
    """
    return float((_ranks(relevant, positives) <= k).sum() / positives)


def loc_score(relevant: Ranking, ious: Shares, positives: int, delta: float | None = None) -> float:
    """LocScore (Patch-wise Retrieval, WACV 2026): average precision in which each positive weighs its localisation.

    Continuous: `1/P * sum_k precision@k * rel(k) * IoU_k`; with `delta` discrete: `[IoU_k > delta]` for `IoU_k`. It
    never exceeds `average_precision`.

    Raises:
        UsageError: no positives, fewer than were retrieved, or arrays of different lengths.
    """
    ranks = _ranks(relevant, positives)
    weight = _ious(relevant, ious)
    if delta is not None:
        weight = (weight > delta).astype(np.float64)
    return float((_precision(ranks) * weight).sum() / positives)


def mean_iou(relevant: Ranking, ious: Shares) -> float:
    """Mean IoU of the positives that were retrieved, without weight by rank; 0 if there are none."""
    weight = _ious(relevant, ious)
    return float(weight.mean()) if len(weight) else 0.0


def pass_share(relevant: Ranking, ious: Shares, delta: float) -> float:
    """Share of the retrieved positives with IoU above `delta`, without weight by rank; 0 if there are none."""
    weight = _ious(relevant, ious)
    return float((weight > delta).mean()) if len(weight) else 0.0


def positive_iou(box: Box, truth: Sequence[Box], rule: Literal["largest", "enclosing"] = "largest") -> float:
    """IoU of a predicted box with a positive's ground truth, of which there may be several boxes.

    "largest": the largest IoU with one of them. "enclosing": that with the smallest box around all of them.

    Raises:
        UsageError: no ground-truth boxes.
    """
    if not truth:
        raise UsageError("the IoU with the ground truth was asked for, but the positive has no boxes")
    if rule == "enclosing":
        truth = [enclosing_box(truth)]
    return max(box_iou(box, other) for other in truth)


def last_tied_ranks(scores: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """1-based rank of the last image with the same score, for scores (K,) in falling order."""
    scores = np.asarray(scores)
    if len(scores) == 0:
        return np.zeros(0, dtype=np.int64)
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1) + 1
    return np.repeat(ends, np.diff(ends, prepend=0)).astype(np.int64)


def query_average_precision(outcome: QueryOutcome, rule: str, depth: int | None = None) -> float:
    """Average precision of one query by "rectangle", "trapezoid" or "at depth", of the first `depth` images.

    Raises:
        UsageError: another rule, or "at depth" without a depth.
    """
    if rule == "at depth":
        if depth is None:
            raise UsageError('average precision "at depth" needs a depth')
        ranks = np.array([found.rank for found in outcome.found], dtype=np.int64)
        last = [found.last_rank for found in outcome.found]
        return average_precision_at(ranks, outcome.positives, depth, last)
    if rule not in ("rectangle", "trapezoid"):
        raise UsageError(f'average precision by {rule!r}: known are "rectangle", "trapezoid" and "at depth"')
    area = average_precision if rule == "rectangle" else average_precision_trapezoid
    return area(_ranks_within(outcome, depth), outcome.positives)


def placed(outcome: QueryOutcome) -> QueryOutcome | None:
    """The part of a query on which localisation can be judged: the positives whose place is known.

    The others are neither positives nor errors there: they are taken out of the ranking, as "junk" images are in the
    Oxford buildings evaluation. Thus LocScore never exceeds the rectangle average precision of the same positives, and
    missing boxes cost nothing. None if no positive has a known place. Positives that were not retrieved and are not
    listed in `missed` count as placed.

    Raises:
        UsageError: only some of the retrieved positives have a place, and those missed are not listed.
    """
    known = [found.iou is not None for found in outcome.found]
    unlisted = outcome.positives > len(outcome.found) + len(outcome.missed)
    if all(known) and (unlisted or all(missed.object_share is not None for missed in outcome.missed)):
        return outcome
    if unlisted and not any(known):
        return None
    return restricted(outcome, _has_place)


def per_query(run: Run, delta: float = 0.5) -> dict[str, Values]:
    """Every metric of `METRICS` for every query: arrays (Q,) in [0, 1], in the order of `run.outcomes`.

    "average_precision" follows the benchmark's rule, and `delta` is that of "loc_score_discrete" and "pass_share". Only
    the first `run.depth` images count. NaN where a metric says nothing about a query: the localisation metrics when
    no positive has a known place (see `placed`), "mean_iou" and "pass_share" also when none was retrieved.
    """
    values = {name: np.full(len(run.outcomes), np.nan) for name in METRICS}
    some_place = any(_has_place(item) for outcome in run.outcomes for item in _listed(outcome))
    for row, outcome in enumerate(run.outcomes):
        ranks = _ranks_within(outcome, run.depth)
        values["average_precision"][row] = query_average_precision(outcome, run.average_precision, run.depth)
        values["average_precision_rectangle"][row] = average_precision(ranks, outcome.positives)
        values["average_precision_trapezoid"][row] = average_precision_trapezoid(ranks, outcome.positives)
        values["recall_at_1"][row] = recall_at(ranks, 1)
        judged = placed(outcome) if some_place else None
        if judged is None:
            continue
        ranks = _ranks_within(judged, run.depth)
        ious = np.array([found.iou for found in judged.found[: len(ranks)]], dtype=np.float64)
        values["loc_score"][row] = loc_score(ranks, ious, judged.positives)
        values["loc_score_discrete"][row] = loc_score(ranks, ious, judged.positives, delta)
        if len(ranks):
            values["mean_iou"][row] = mean_iou(ranks, ious)
            values["pass_share"][row] = pass_share(ranks, ious, delta)
    return values


def _has_place(item: Found | Missed) -> bool:
    return item.iou is not None if isinstance(item, Found) else item.object_share is not None


def _listed(outcome: QueryOutcome) -> list[Found | Missed]:
    return [*outcome.found, *outcome.missed]


def _ranks_within(outcome: QueryOutcome, depth: int | None) -> npt.NDArray[np.int64]:
    ranks = np.array([found.rank for found in outcome.found], dtype=np.int64)
    return ranks if depth is None else ranks[ranks <= depth]


def _ranks(relevant: Ranking, positives: int | None = None) -> npt.NDArray[np.int64]:
    given = np.asarray(relevant)
    ranks = cast(npt.NDArray[np.int64], np.flatnonzero(given) + 1 if given.dtype == bool else given.astype(np.int64))
    if len(ranks) and (ranks[0] < 1 or (np.diff(ranks) < 1).any()):
        raise UsageError("the ranks of positives must rise from 1 on")
    if positives is not None and positives < max(len(ranks), 1):
        raise UsageError(f"{positives} positives cannot be, with {len(ranks)} of them in the ranking")
    return ranks


def _ious(relevant: Ranking, ious: Shares) -> Values:
    given, shares = np.asarray(relevant), np.asarray(ious, dtype=np.float64)
    if len(given) != len(shares):
        raise UsageError(f"{len(given)} ranks but {len(shares)} IoU values")
    return shares[given] if given.dtype == bool else shares


def _precision(ranks: npt.NDArray[np.int64]) -> Values:
    precision: Values = np.arange(1, len(ranks) + 1) / ranks
    return precision
