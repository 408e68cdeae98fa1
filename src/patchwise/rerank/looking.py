"""Regions that no gallery stores: laid over a picture, encoded, and told of in hits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from patchwise.indexing.passes import Inputs, Passes
from patchwise.regions import Regions
from patchwise.regions.base import REGION_DTYPE

__all__ = ["CELL", "LEVEL", "encoded", "laid"]

LEVEL, CELL = -1, (-1, -1)
"""Of a region without a place in the gallery's own grid, as `RegionScore` has it."""


def laid(boxes: npt.NDArray[np.floating]) -> Regions:
    """Boxes in pixels, (N, 4), as regions without a place in a grid."""
    table = np.full(len(boxes), -1, dtype=REGION_DTYPE)
    table["box"] = boxes
    return Regions(table)


def encoded(passes: Passes, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Vectors of what was cut, as many at a time as the encoder takes best."""
    size = passes.batch_size
    return np.concatenate([passes.encode(inputs[at : at + size]) for at in range(0, len(inputs), size)])
