"""What a region strategy sees, its protocol, and the table of regions that every strategy returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["REGION_DTYPE", "RegionStrategy", "Regions", "View", "region_table"]

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


@dataclass(frozen=True, eq=False)
class View:
    """What is known of an image when regions are laid over it.

    `size` is the upright original (width, height); `path` is absolute, or "" where there is none; `pixels` is RGB,
    perhaps smaller than `size`, and None before decoding.
    """

    size: tuple[int, int]
    path: str = ""
    pixels: Image.Image | None = None


class RegionStrategy(Protocol):
    """Lays regions over an image of any size; the whole image is always the first of them."""

    @property
    def name(self) -> str:
        """The string that `parse_regions` reads back as this strategy."""
        ...

    @property
    def typical_count(self) -> int:
        """About how many regions an image has; bounds how many cut images may wait in memory."""
        ...

    def finest_side(self, view: View) -> float:
        """The smallest side in original pixels that a region may have, known before `view` has pixels.

        JPEGs are decoded at a scale that leaves this side enough pixels.
        """
        ...

    def regions(self, view: View) -> Regions:
        """Regions of a decoded image, the whole image first, all inside it and none smaller than a pixel.

        The same file gives the same regions every time, in whatever thread.
        """
        ...


def region_table(boxes: npt.ArrayLike, size: tuple[int, int]) -> Regions:
    """The whole image, then `boxes` (N, 4) xyxy inside it, which have no place in a grid."""
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    table = np.full(len(boxes) + 1, -1, dtype=REGION_DTYPE)
    table["box"][1:] = boxes
    table[0] = ((0, 0, *size), 0, 0, 0)
    return Regions(table)
