"""Sliding windows at several scales, denser than the pyramid (a peer of Patchify in the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
import numpy.typing as npt

from patchwise.errors import RegionsError
from patchwise.regions.base import REGION_DTYPE, Regions, View
from patchwise.regions.pyramid import MAX_LEVEL

__all__ = ["MAX_WINDOWS", "MIN_RATIO", "Sliding"]

MAX_WINDOWS = 2000
MIN_RATIO = 0.01


@dataclass(frozen=True)
class Sliding:
    """Windows of side 1/n of the image for n = 1 to `level` + 1, moved by `ratio` of their side, the last one flush.

    The window has the image's shape, so the count does not depend on it: 84 for level 3 and ratio 0.5, 276 for ratio
    0.25; ratio 1 is the pyramid. On a tiny image, scales whose windows would be thinner than a pixel are left out, and
    of windows that fall on the same pixels the first is kept.
    """

    level: int
    ratio: float

    def __post_init__(self) -> None:
        if not 0 <= self.level <= MAX_LEVEL:
            raise RegionsError(f"regions {self.name}: the level must be between 0 and {MAX_LEVEL}")
        if not MIN_RATIO <= self.ratio <= 1:
            raise RegionsError(f"regions {self.name}: the ratio must be between {MIN_RATIO} and 1")
        if self.typical_count > MAX_WINDOWS:
            raise RegionsError(
                f"regions {self.name}: {self.typical_count:,} windows per image exceed {MAX_WINDOWS:,}; take a larger "
                "ratio or a lower level"
            )

    @property
    def name(self) -> str:
        return f"sliding:{self.level}:{self.ratio}".removesuffix(".0")

    @property
    def typical_count(self) -> int:
        return sum(self._steps(n) ** 2 for n in range(1, self.level + 2))

    def finest_side(self, view: View) -> float:
        shorter = min(view.size)
        return shorter // min(self.level + 1, shorter)

    def regions(self, view: View) -> Regions:
        width, height = view.size
        scales = range(1, min(self.level + 1, width, height) + 1)
        table = np.concatenate([_windows(self._intervals(width, n), self._intervals(height, n), n) for n in scales])
        _, first = np.unique(table["box"], axis=0, return_index=True)
        return Regions(table[np.sort(first)])

    def _steps(self, n: int) -> int:
        """Windows of side 1/n along one axis."""
        return ceil((n - 1) / self._exact_ratio) + 1

    def _intervals(self, length: int, n: int) -> list[tuple[int, int]]:
        """Start and end of each window of side 1/n along `length` pixels, both rounded half up, none twice."""
        side = Fraction(length, n)
        starts = [min(i * self._exact_ratio * side, length - side) for i in range(self._steps(n))]
        return list(dict.fromkeys((_round(start), _round(start + side)) for start in starts))

    @property
    def _exact_ratio(self) -> Fraction:
        return Fraction(self.ratio).limit_denominator(1000)  # 0.1 is meant as a tenth, 0.333333 as a third


def _round(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def _windows(x: list[tuple[int, int]], y: list[tuple[int, int]], n: int) -> npt.NDArray[np.void]:
    row, column = (index.ravel() for index in np.indices((len(y), len(x))))
    horizontal, vertical = np.array(x)[column], np.array(y)[row]
    table = np.zeros(len(row), dtype=REGION_DTYPE)
    table["box"] = np.stack([horizontal[:, 0], vertical[:, 0], horizontal[:, 1], vertical[:, 1]], axis=1)
    table["level"], table["row"], table["column"] = n - 1, row, column
    return table
