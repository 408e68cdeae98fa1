"""The region strategy protocol and the table of regions that every strategy returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["REGION_DTYPE", "RegionStrategy", "Regions"]

# One row per region, as stored beside the vectors. `level` counts grids from coarse to fine; a strategy
# without levels writes -1 for level, row and column.
REGION_DTYPE = np.dtype([("box", "<f4", (4,)), ("level", "<i2"), ("row", "<i2"), ("column", "<i2")])


@dataclass(frozen=True)
class Regions:
    """Regions of one image, in the order that breaks ties: `table` is (N,) of `REGION_DTYPE`."""

    table: npt.NDArray[np.void]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """(N, 4) float32 xyxy in pixels of the upright original."""
        boxes: npt.NDArray[np.float32] = self.table["box"]
        return boxes


class RegionStrategy(Protocol):
    """Lays regions over an image of any size; the whole image is always one of them."""

    @property
    def name(self) -> str:
        """The string that `parse_regions` reads back as this strategy."""
        ...

    def regions(self, size: tuple[int, int]) -> Regions:
        """Regions of an image of `size` (width, height), all inside it and none without a pixel."""
        ...
