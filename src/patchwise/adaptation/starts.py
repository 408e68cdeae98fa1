"""Linear maps that need no training: whitening, and the encoder as it is."""

from __future__ import annotations

import numpy as np

from patchwise.adaptation.examples import Vectors
from patchwise.encoders import Whitening, WhiteningPrior
from patchwise.encoders.whitening import principal_axes
from patchwise.errors import EncoderError, UsageError

__all__ = ["as_it_is", "check_dimension", "whitening_of"]


def check_dimension(dimension: int, full: int, prior: WhiteningPrior | None) -> None:
    """Refuse more numbers than there are to choose from.

    Raises:
        UsageError: `dimension` is larger.
    """
    most = full if prior is None else prior.spheres.shape[1]
    if dimension > most:
        raise UsageError(f"dimension {dimension}: this encoder has {most} to choose from")


def whitening_of(regions: Vectors, dimension: int, prior: WhiteningPrior | None) -> Whitening:
    """The whitening of (R, D) vectors: the prior adapted to them, or PCA-whitening where there is none.

    Raises:
        EncoderError: without a prior, no more vectors than `dimension`, or all of them alike.
    """
    if prior is not None:
        return prior.adapted(regions).whitening(dimension)
    if len(regions) <= dimension:
        raise EncoderError(
            f"learning {dimension} numbers needs more than {dimension} regions, got {len(regions)}; name more "
            "pictures, finer regions or a smaller dimension"
        )
    return Whitening.learn(regions, dimension)


def as_it_is(regions: Vectors, dimension: int) -> Whitening:
    """The map that changes no cosine, or as little as `dimension` allows: the strongest axes of (R, D) vectors."""
    full = regions.shape[1]
    mean = np.zeros(full, dtype=np.float32)
    if dimension == full:
        return Whitening(mean, np.eye(full, dtype=np.float32))
    _, axes = principal_axes((regions.T @ regions / len(regions)).astype(np.float64))
    return Whitening(mean, np.ascontiguousarray(axes[:, :dimension], dtype=np.float32))
