"""Patchify's pyramid: non-overlapping n x n grids, coarse to fine (paper, method section)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from patchwise.errors import RegionsError
from patchwise.regions.base import REGION_DTYPE, Regions, View

__all__ = ["MAX_LEVEL", "Pyramid", "grid_edges"]

MAX_LEVEL = 7


def grid_edges(length: int, n: int) -> npt.NDArray[np.int64]:
    """The n + 1 edges of n cells along `length` pixels: `i * length / n`, halves rounded up."""
    return (2 * np.arange(n + 1, dtype=np.int64) * length + n) // (2 * n)


@dataclass(frozen=True)
class Pyramid:
    """Levels 0 to `level`; level l is an (l+1) x (l+1) grid, row-major: 1, 5, 14, 30 ... regions in all.

    A level whose cells would be thinner than a pixel is left out, so a tiny image has fewer regions.
    """

    level: int

    def __post_init__(self) -> None:
        if not 0 <= self.level <= MAX_LEVEL:
            raise RegionsError(f"regions pyramid:{self.level}: the level must be between 0 and {MAX_LEVEL}")

    @property
    def name(self) -> str:
        return f"pyramid:{self.level}"

    @property
    def typical_count(self) -> int:
        return sum(n * n for n in range(1, self.level + 2))

    def finest_side(self, view: View) -> float:
        shorter = min(view.size)
        return shorter // min(self.level + 1, shorter)  # cells of one grid differ by a pixel at most

    def regions(self, view: View) -> Regions:
        width, height = view.size
        levels = [level for level in range(self.level + 1) if level == 0 or level < min(view.size)]
        return Regions(np.concatenate([_grid(width, height, level) for level in levels]))


def _grid(width: int, height: int, level: int) -> npt.NDArray[np.void]:
    n = level + 1
    x, y = grid_edges(width, n), grid_edges(height, n)
    row, column = (index.ravel() for index in np.indices((n, n)))
    table = np.zeros(n * n, dtype=REGION_DTYPE)
    table["box"] = np.stack([x[column], y[row], x[column + 1], y[row + 1]], axis=1)
    table["level"], table["row"], table["column"] = level, row, column
    return table
