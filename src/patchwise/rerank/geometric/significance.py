"""How many projections would fit as many correspondences by chance, where there is nothing to find?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["RADII", "false_alarms"]

RADII = (1.5, 2.5, 4.0, 6.5)
"""Distances within which a correspondence agrees with a projection, of an image whose longer side is 1,000."""

Points = npt.NDArray[np.float64]
_NOWHERE = -1e9  # far from any keypoint


def false_alarms(
    projected: Points, matched: Points, keypoints: Points, area: float, sample: int
) -> tuple[float, npt.NDArray[np.bool_]]:
    """How many projections are expected to agree as well with correspondences that are wrong, as log10; who agrees.

    An a-contrario test (Moisan and Stival, IJCV 2004; Moisan, Moulon and Monasse, IPOL 2012). The background model:
    each of n correspondences leads to a keypoint of the image drawn at random, independently of the others. Its
    probability to agree with a given projection is then the share of the keypoints around the place where the
    projection expects it, or of the image's area where that is more; so keypoints that crowd do not pass for evidence.
    Each `sample` correspondences give a projection with which the others agree or not, at one of several radii:

        log10(radii * C(n, sample) * P[Binomial(n - sample, mean probability) >= k - sample])

    for the radius where it is the least. A binomial of the mean bounds the tail of unequal probabilities (Hoeffding,
    Annals of Mathematical Statistics 1956).

    Args:
        projected: (n, 2) places of the query's keypoints by the projection; not finite where there is none.
        matched: (n, 2) places of the keypoints that correspond to them, in the same unit as `RADII`.
        keypoints: (N, 2) all keypoints of the image, in that unit.
        area: of the image, in that unit squared.
        sample: correspondences that decide a projection; n is no less.

    Returns:
        The logarithm, and the (n,) bool correspondences that agree at the radius where it is the least.
    """
    tried = len(matched)
    expected = np.where(np.isfinite(projected), projected, _NOWHERE)
    errors = np.linalg.norm(expected - matched, axis=1)
    best, agreeing = np.inf, np.zeros(tried, dtype=np.bool_)
    squared = ((expected[:, None] - keypoints[None]) ** 2).sum(axis=2)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, tried + 1)))])
    ways = factorials[tried] - factorials[sample] - factorials[tried - sample]
    for radius in RADII:
        agrees = errors <= radius
        others = int(agrees.sum()) - sample
        if others <= 0:
            continue
        # The keypoint that agrees does not testify to a crowd around it.
        crowd = np.maximum((squared <= radius**2).sum(axis=1) - agrees, 0) / max(len(keypoints) - 1, 1)
        chance = float(np.maximum(crowd, np.pi * radius**2 / area).mean())
        log_alarms = np.log(len(RADII)) + ways + _log_tail(tried - sample, others, chance, factorials)
        if log_alarms < best:
            best, agreeing = float(log_alarms), agrees
    return best / np.log(10), agreeing


def _log_tail(count: int, least: int, chance: float, factorials: npt.NDArray[np.float64]) -> float:
    """Natural logarithm of P[Binomial(count, chance) >= least]."""
    if chance >= 1:
        return 0.0
    k = np.arange(least, count + 1)
    terms = factorials[count] - factorials[k] - factorials[count - k] + k * np.log(chance)
    terms += (count - k) * np.log1p(-chance)
    peak = terms.max()
    return min(float(peak + np.log(np.exp(terms - peak).sum())), 0.0)
