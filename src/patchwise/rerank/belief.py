"""Where an object is, from how well regions of an image fit it: a box is believed by how well it explains them all."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.boxes import area_xyxy

__all__ = ["Belief", "Place", "expected_fit", "jittered"]

Boxes = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float64]

# A region fits the better the more of the object it shows, and the more of it the object fills. Both with falling
# returns: scores of regions of known content, on logos and on composed scenes, fit these powers about equally well.
_SHOWN, _FILLED = 0.35, 0.5
# Boxes count by exp(trust * correlation), and by their area: parts of an object explain it nearly as well as all of it.
# The grid alone deserves less trust than regions at the right place.
_TRUST_AT_FIRST, _TRUST = 20.0, 40.0

_LIKE_THE_QUERY = 0.3  # of the logarithm of the aspect: further away from the query's, a box counts for less and less

_SIDES = (0.1, 0.141, 0.2, 0.283, 0.4, 0.566, 0.8, 1.0)  # of the first boxes, in sides of the image
_STEP = 1 / 3  # between two of them, in their sides
_UNEVENNESS = 2.1  # of their sides at most

_KEPT = 600  # boxes that stay
_SPLIT, _AROUND = 240, 60  # new ones next to what is believed, and next to its mean
_SHIFT, _ZOOM = 0.15, 0.2
_UNEVEN = 0.5  # how much the aspect varies beside the size


class Place(NamedTuple):
    """Where an object is thought to be: `box` is (4,) xyxy in [0, 1].

    `score` is what the region that shows it best, of those looked at, should score by what all of them say; `ground`
    what regions without it should.
    """

    box: Boxes
    score: float
    ground: float


class Belief:
    """Boxes that an object may fill, weighted by how well each explains the scores of all regions looked at.

    If the object fills box G, the score of a region is modelled as a + b * `expected_fit`, with a and b fitted to the
    scores by least squares; the correlation of model and scores says how well G explains them. Regions without the
    object speak as well as those that show it, so that a place is finer than the regions it is concluded from.

    All boxes are xyxy in [0, 1], of the image's sides; shapes (N, 4).

    Args:
        regions: looked at so far, at least one.
        scores: (regions,) of them.
        apart: boxes of other objects: regions that show enough of one tell nothing of this, and it is none of them.
        aspect: width by height of the object, in units of the image's sides, as far as the query tells.
    """

    def __init__(
        self, regions: Boxes, scores: Scores, *, apart: Boxes | None = None, aspect: float | None = None
    ) -> None:
        self._aspect = aspect
        self._apart = np.empty((0, 4)) if apart is None else np.asarray(apart, dtype=np.float64)
        own = ~touched(regions, self._apart)
        self.regions, self.scores = regions[own], scores[own]
        candidates = _first_candidates()
        free = ~touched(candidates, self._apart)
        self._candidates = candidates[free] if free.any() else candidates
        self._fits = expected_fit(self._candidates, self.regions)
        self._trust = _TRUST_AT_FIRST
        self._weigh()

    def add(self, regions: Boxes, scores: Scores, draw: np.random.Generator) -> None:
        """Learn from more regions, and look closer at what is then believed."""
        own = ~touched(regions, self._apart)
        regions, scores = regions[own], scores[own]
        self.regions, self.scores = np.concatenate([self.regions, regions]), np.concatenate([self.scores, scores])
        self._fits = np.concatenate([self._fits, expected_fit(self._candidates, regions)], axis=1)
        self._trust = _TRUST
        self._weigh()
        around = np.repeat(self._mean()[None], _AROUND, axis=0)
        near = jittered(np.concatenate([self._drawn(_SPLIT, draw), around]), _SHIFT, _ZOOM, draw)
        new = np.concatenate([regions, near])
        new = new[(area_xyxy(new) > 0) & ~touched(new, self._apart)]
        self._candidates = np.concatenate([self._candidates, new])
        self._fits = np.concatenate([self._fits, expected_fit(new, self.regions)])
        self._weigh()

    def proposals(self, count: int, shift: float, zoom: float, draw: np.random.Generator) -> Boxes:
        """Regions worth looking at next: boxes as they are believed, moved and resized a little."""
        return jittered(self._drawn(count, draw), shift, zoom, draw)

    def place(self) -> Place:
        """The mean of the boxes, weighted by belief, and what is expected there."""
        best_fits = self._fits.max(axis=1, initial=0.0)
        score = float(self._weights @ (self._grounds + self._slopes * best_fits))
        return Place(self._mean(), score, float(self._weights @ self._grounds))

    def _mean(self) -> Boxes:
        mean: Boxes = self._weights @ self._candidates
        return mean

    def _drawn(self, count: int, draw: np.random.Generator) -> Boxes:
        return self._candidates[draw.choice(len(self._candidates), size=count, p=self._weights)]

    def _weigh(self) -> None:
        """Correlation and least squares of every box's model with the scores."""
        scores = self.scores - self.scores.mean() if len(self.scores) else self.scores
        count = max(len(scores), 1)
        means = self._fits.sum(axis=1) / count
        covariances = self._fits @ scores / count
        variances = np.maximum((self._fits**2).sum(axis=1) / count - means**2, 0)
        spread = float(scores @ scores) / count
        tiny = np.finfo(np.float64).tiny
        told = (variances > 1e-12) & (spread > 1e-12)
        correlations = np.where(told, covariances / np.sqrt(np.maximum(variances * spread, tiny)), 0)
        self._slopes = np.where(told, covariances / np.maximum(variances, tiny), 0)
        self._grounds = (self.scores.mean() if len(self.scores) else 0.0) - self._slopes * means
        merits = self._trust * correlations + self._prior()
        if len(merits) > _KEPT:
            best = np.argpartition(-merits, _KEPT)[:_KEPT]
            self._candidates, self._fits, merits = self._candidates[best], self._fits[best], merits[best]
            self._slopes, self._grounds = self._slopes[best], self._grounds[best]
        weights = np.exp(merits - merits.max())
        self._weights = weights / weights.sum()

    def _prior(self) -> npt.NDArray[np.float64]:
        """Logarithm of how much each box counts before anything is looked at."""
        prior = np.log(area_xyxy(self._candidates))
        if self._aspect is not None:
            sides = self._candidates[:, 2:] - self._candidates[:, :2]
            off = np.log(sides[:, 0] / sides[:, 1] / self._aspect) / _LIKE_THE_QUERY
            prior -= np.log1p(off**2)
        return prior


def expected_fit(objects: Boxes, regions: Boxes) -> npt.NDArray[np.float64]:
    """How well each region should fit each object: (objects, regions) in [0, 1].

    With r the share of the object that a region shows and p the share of the region that the object fills,
    r**0.35 * p**0.5; 0 where they do not meet.
    """
    shared = _shared(objects, regions)
    scale = area_xyxy(objects)[:, None] ** _SHOWN * area_xyxy(regions) ** _FILLED
    fit: npt.NDArray[np.float64] = shared ** (_SHOWN + _FILLED) / np.maximum(scale, np.finfo(np.float64).tiny)
    return fit


def touched(boxes: Boxes, others: Boxes) -> npt.NDArray[np.bool_]:
    """Which boxes share a good part of themselves, or of one of the others, with it: (N,)."""
    if not len(others):
        return np.zeros(len(boxes), dtype=bool)
    shared = _shared(boxes, others)
    smaller = np.minimum(area_xyxy(boxes)[:, None], area_xyxy(others))
    found: npt.NDArray[np.bool_] = np.any(shared > 0.25 * smaller, axis=1)
    return found


def _shared(a: Boxes, b: Boxes) -> npt.NDArray[np.float64]:
    """Area of the intersection of every pair: (N, M)."""
    sides = []
    for low, high in ((0, 2), (1, 3)):
        side = np.minimum(a[:, high, None], b[:, high])
        side -= np.maximum(a[:, low, None], b[:, low])
        sides.append(np.maximum(side, 0, out=side))
    area: npt.NDArray[np.float64] = sides[0] * sides[1]
    return area


def jittered(boxes: Boxes, shift: float, zoom: float, draw: np.random.Generator) -> Boxes:
    """Boxes moved by up to `shift` of their sides and resized by a factor of exp(`zoom`) or so, cut to the image."""
    count, sides = len(boxes), boxes[:, 2:] - boxes[:, :2]
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 + draw.uniform(-1, 1, (count, 2)) * shift * sides
    aspect = draw.normal(size=count) * zoom * _UNEVEN
    size = draw.normal(size=count) * zoom
    halves = sides * np.exp(np.stack([size + aspect, size - aspect], axis=1)) / 2
    moved: Boxes = np.clip(np.concatenate([middles - halves, middles + halves], axis=1), 0, 1)
    return moved


@cache
def _first_candidates() -> Boxes:
    """Boxes of many places, sizes and aspects, with large ones as dense as small ones: about 4,900."""
    found = []
    for width in _SIDES:
        for height in _SIDES:
            if max(width, height) > _UNEVENNESS * min(width, height):
                continue
            across, down = (
                np.linspace(0, 1 - side, int(np.ceil((1 - side) / (side * _STEP) - 1e-9)) + 1)
                for side in (width, height)
            )
            x, y = np.meshgrid(across, down)
            found.append(np.stack([x, y, x + width, y + height], axis=-1).reshape(-1, 4))
    return np.concatenate(found)
