"""Ranking and localisation metrics of one query, each in [0, 1]; averages over queries are left to the caller.

All take the ranking as arrays in rank order: `relevant` (K,) bool, and `ious` (K,) the IoU of the predicted box with
the ground truth, which counts only where `relevant`. `positives` is how many there are to find, retrieved or not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from patchwise.errors import UsageError

__all__ = ["average_precision", "loc_score", "mean_iou", "pass_share"]

Flags = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.floating]


def average_precision(relevant: Flags, positives: int) -> float:
    """Average precision by rectangles: the mean over positives of the precision at their rank.

    Raises:
        UsageError: no positives, or fewer than were retrieved.
    """
    return float(_precision_at_hits(relevant, positives).sum() / positives)


def loc_score(relevant: Flags, ious: Shares, positives: int, delta: float | None = None) -> float:
    """LocScore (Patch-wise Retrieval, WACV 2026): average precision in which each positive weighs its localisation.

    Continuous: `1/P * sum_k precision@k * rel(k) * IoU_k`; with `delta` discrete: `[IoU_k > delta]` for `IoU_k`.

    Raises:
        UsageError: no positives, fewer than were retrieved, or arrays of different lengths.
    """
    if len(relevant) != len(ious):
        raise UsageError(f"{len(relevant)} ranks but {len(ious)} IoU values")
    weight = np.asarray(ious, dtype=np.float64)
    if delta is not None:
        weight = (weight > delta).astype(np.float64)
    return float((_precision_at_hits(relevant, positives) * weight[relevant]).sum() / positives)


def mean_iou(relevant: Flags, ious: Shares) -> float:
    """Mean IoU of the positives that were retrieved, without weight by rank; 0 if there are none."""
    return float(np.mean(ious[relevant])) if relevant.any() else 0.0


def pass_share(relevant: Flags, ious: Shares, delta: float) -> float:
    """Share of the retrieved positives with IoU above `delta`, without weight by rank; 0 if there are none."""
    return float(np.mean(ious[relevant] > delta)) if relevant.any() else 0.0


def _precision_at_hits(relevant: Flags, positives: int) -> npt.NDArray[np.float64]:
    ranks = np.flatnonzero(relevant) + 1
    if positives < max(len(ranks), 1):
        raise UsageError(f"{positives} positives cannot be, with {len(ranks)} of them in the ranking")
    precision: npt.NDArray[np.float64] = np.arange(1, len(ranks) + 1) / ranks
    return precision
