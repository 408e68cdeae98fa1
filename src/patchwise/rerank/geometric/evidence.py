"""What a verified projection is worth beside the score of a region."""

from __future__ import annotations

import math

__all__ = ["MOST_EVIDENCE", "VERIFIED", "WEIGHT", "evidence", "raised"]

VERIFIED = -3.0
"""Logarithm to base 10 of the false alarms below which a hit is verified: of a thousand unrelated pictures, one."""

MOST_EVIDENCE = 20.0
"""Beyond that more correspondences do not make a projection any surer."""

WEIGHT = 0.05
"""Learned by `benchmarks/geometric_rule.py`; any from 0.025 to 0.5 ranks nearly the same."""


def evidence(log_alarms: float) -> float:
    """How many times unlikelier by a factor of 10 than one false alarm; 0 unless verified, at most `MOST_EVIDENCE`."""
    return min(-log_alarms, MOST_EVIDENCE) if log_alarms <= VERIFIED else 0.0


def raised(score: float, log_alarms: float) -> float:
    """The score of a hit with what geometry says: `1 - (1 - score) exp(-WEIGHT * evidence)`.

    It rises with the score and with the evidence, stays a number up to 1, and is the score where there is no evidence:
    a picture without texture is ranked as it was. In -log(1 - score) it is a linear rule of one number, `WEIGHT`.

    Args:
        score: a cosine in [-1, 1].
        log_alarms: see `false_alarms`; infinite where there is no projection.
    """
    return 1 - (1 - score) * math.exp(-WEIGHT * evidence(log_alarms))
