"""What a search returns, and the protocol of whatever finds candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

__all__ = ["MATCH_BELOW", "Candidates", "Explanation", "Geometry", "Hit", "PictureSource", "RegionScore", "Searcher"]

MATCH_BELOW = 0.05
"""A hit is a match when fewer false ones than this are expected to score as high among all images searched."""


@dataclass(frozen=True)
class RegionScore:
    """One region of an image: `box` in pixels of the upright original, `level` and `cell` (row, column).

    A region without a place in a grid has level -1 and cell (-1, -1).
    """

    box: Box
    level: int
    cell: tuple[int, int]
    score: float


@dataclass(frozen=True)
class Geometry:
    """What local features say of a hit.

    `verdict` is "verified", "not verified" or "not enough texture". `inliers` counts points of the query that lie in
    the hit where one projection puts them; `outline` is the query's frame under it, corners in pixels of the upright
    original, clockwise from the query's upper left, and empty unless verified.
    """

    verdict: str
    inliers: int
    outline: tuple[tuple[float, float], ...] = ()


class PictureSource(Protocol):
    """Where a picture is opened whose path is on another machine."""

    def read(self, longest: int) -> Image.Image:
        """The upright RGB picture, its longer side at least `longest` pixels, or as large as it is.

        Raises:
            PatchwiseError: it cannot be had.
        """
        ...


@dataclass(frozen=True)
class Hit:
    """An image that was found: its best region decides score, box, level and cell.

    `score` is a cosine in [-1, 1], unless a re-ranker says otherwise; `size` the upright (width, height); `regions` its
    ten best, best first. `part_scores` are the cosines of the winning region with each part of a query that has
    several. `expected_false_matches` is how many images of those searched are expected to score as high by chance
    at the first look (for an expanded query, at its own), None in a gallery too small to tell.
    A second look may add `instances`, further places of the object in the image, best first, and `geometry`;
    `alike` are near-duplicates of the image that were found as well, where these are collapsed. `metadata` is what
    users said of the file, by column.
    In a notebook it shows as its picture, which is opened at `path`, or by `source` where that is given.
    """

    rank: int
    path: str
    score: float
    box: Box
    level: int
    cell: tuple[int, int]
    size: tuple[int, int]
    regions: tuple[RegionScore, ...]
    part_scores: tuple[float, ...] = ()
    expected_false_matches: float | None = None
    instances: tuple[RegionScore, ...] = ()
    geometry: Geometry | None = None
    alike: tuple[Hit, ...] = ()
    metadata: Mapping[str, str | int | float] = field(default_factory=dict, hash=False)
    source: PictureSource | None = field(default=None, compare=False, repr=False)

    @property
    def verified(self) -> bool:
        """Whether local features agree on where the query lies in it."""
        return self.geometry is not None and self.geometry.verdict == "verified"

    @property
    def matches(self) -> bool | None:
        """Whether this is the object and no chance likeness, as far as scores and local features tell; None: unknown.

        A hit matches when its outline was verified, or when less than 0.05 false matches are expected.
        """
        if self.verified:
            return True
        return None if self.expected_false_matches is None else self.expected_false_matches < MATCH_BELOW

    def _repr_html_(self) -> str:
        from patchwise.report.notebook import hit_html

        return hit_html(self)


@dataclass(frozen=True)
class Explanation:
    """Every region's score for one query, in region order: the numbers behind a heat map.

    `parts` explains each part of a query that has several by itself, in their order.
    In a notebook it shows as the picture under its heat map; the picture is opened as a `Hit` opens it.
    """

    path: str
    size: tuple[int, int]
    regions: tuple[RegionScore, ...]
    parts: tuple[Explanation, ...] = ()
    source: PictureSource | None = field(default=None, compare=False, repr=False)

    def plot(self, *, width: float = 10.0) -> Figure:
        """The picture, and it under its heat map with the best region; `width` in inches.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        from patchwise.report.figures import plot_explanation

        return plot_explanation(self, width=width)

    def _repr_html_(self) -> str:
        from patchwise.report.notebook import explanation_html

        return explanation_html(self)

    def heat_map(self, resolution: int = 64) -> npt.NDArray[np.float32]:
        """Mean over levels of the score at each point: (height, width) float32, longer side `resolution`.

        Regions of one level that overlap are averaged; a level that does not reach a point does not count there.
        """
        scale = resolution / max(self.size)
        width, height = (max(round(side * scale), 1) for side in self.size)
        x = (np.arange(width) + 0.5) / width * self.size[0]
        y = (np.arange(height) + 0.5) / height * self.size[1]
        total, levels_here = np.zeros((height, width)), np.zeros((height, width))
        for level in sorted({region.level for region in self.regions}):
            score, cover = np.zeros((height, width)), np.zeros((height, width))
            for region in self.regions:
                if region.level == level:
                    x0, y0, x1, y1 = region.box
                    inside = np.outer((y >= y0) & (y < y1), (x >= x0) & (x < x1))
                    score += inside * region.score
                    cover += inside
            total += np.divide(score, cover, out=np.zeros_like(score), where=cover > 0)
            levels_here += cover > 0
        return np.divide(total, levels_here, out=np.zeros_like(total), where=levels_here > 0).astype(np.float32)


class Candidates(NamedTuple):
    """Pictures that may rank, in any order: (K,) indices, and (K,) float32 scores that each reaches at least."""

    pictures: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


class Searcher(Protocol):
    """Finds the pictures of a snapshot that may rank among the best for each query."""

    def top(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[Candidates]:
        """For each of (Q, dimension) unit queries at least its k best pictures, by each one's best region.

        Ties at the k-th place are all included. `allowed` says which pictures may be found: (pictures,) bool.
        """
        ...
