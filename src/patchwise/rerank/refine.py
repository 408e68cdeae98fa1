"""Tighter boxes: regions around the best ones are tried, coarse to fine, and a box is chosen by what they all say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box, clip_xyxy, iou_xyxy
from patchwise.encoders import Encoder
from patchwise.errors import ImageError
from patchwise.images import Picture, cut_regions
from patchwise.rerank.base import Question
from patchwise.search import Hit, RegionScore

__all__ = ["CALLS", "Refine"]

Boxes = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float64]


class _Round(NamedTuple):
    """So many boxes around the best few: moved by up to `shift` of a side, resized by a factor of exp(`zoom`) or so."""

    boxes: int
    centres: int
    shift: float
    zoom: float
    smaller: float


_ROUNDS = (_Round(64, 3, 0.4, 0.5, 0.1), _Round(31, 3, 0.2, 0.25, 0.0))
CALLS = sum(each.boxes for each in _ROUNDS) + 1
"""Regions that are encoded for each hit at most; the last one is the box that was chosen."""

_UNEVEN = 0.5  # how much the aspect varies beside the size
_SHARPNESS = 8  # power of the IoU by which boxes lend each other their scores
_DECISION = 80.0  # per unit of score: by how much better boxes count for more
_LEAST_SIDE = 8.0  # pixels of the upright original
_HITS_AT_ONCE = 8  # pictures in memory
_REGIONS_PER_HIT = 10  # as `Hit` has it
_LEVEL, _CELL = -1, (-1, -1)  # of a region without a place in a grid


class Refine:
    """Looks for a better box in each of the first hits.

    A single score is a poor judge of a box: among boxes visited, the one with the highest score is a chance winner.
    Each box is therefore judged by the scores of all boxes visited, weighted by a power of their IoU with it, and the
    boxes that are best by that are averaged. A hit then has the box and the cosine of the region that was chosen,
    unless that fits less well than the region it had.

    Args:
        encoder: the gallery's.
        read: gives the picture of a hit.
        depth: how many hits are looked at; each takes `CALLS` encoded regions at most.
    """

    name = "refine"

    def __init__(self, encoder: Encoder, read: Callable[[Hit], Picture], *, depth: int = 20) -> None:
        self._encoder, self._read, self.depth = encoder, read, depth

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        looked_at: list[Hit] = []
        waiting = iter(hits[: self.depth])
        while group := list(islice(waiting, _HITS_AT_ONCE)):
            looked_at += self._refined(question, group)
        return [*sorted(looked_at, key=lambda hit: -hit.score), *hits[self.depth :]]

    def _refined(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits, with better boxes where there are any."""
        pursuits = [(hit, pursuit) for hit in hits if (pursuit := self._pursuit(hit)) is not None]
        for step in _ROUNDS:
            self._score(question, [(pursuit, pursuit.proposals(step)) for _, pursuit in pursuits])
        chosen = [(pursuit, pursuit.choice()[None]) for _, pursuit in pursuits]
        self._score(question, chosen)
        better = {id(hit): pursuit for hit, pursuit in pursuits}
        return [_improved(hit, better.get(id(hit)), question) for hit in hits]

    def _pursuit(self, hit: Hit) -> _Pursuit | None:
        try:
            picture = self._read(hit)
        except ImageError:  # gone or changed since it was indexed: the hit keeps what it has
            return None
        if picture.size != hit.size or not hit.regions:
            return None
        return _Pursuit(picture, hit.regions)

    def _score(self, question: Question, asked: Sequence[tuple[_Pursuit, Boxes]]) -> None:
        """Encode regions of several pictures together."""
        encoder = self._encoder
        crops = [
            cut_regions(pursuit.picture, boxes, encoder.input_size, encoder.resampling, encoder.fit)
            for pursuit, boxes in asked
        ]
        if not crops:
            return
        pixels = np.concatenate(crops)
        size = max(encoder.batch_size, 1)
        vectors = np.concatenate(
            [encoder.encode(pixels[first : first + size]) for first in range(0, len(pixels), size)]
        )
        scores = vectors.astype(np.float64) @ question.vector.astype(np.float64)
        ends = np.cumsum([len(boxes) for _, boxes in asked])
        for (pursuit, boxes), own, of_own in zip(
            asked, np.split(scores, ends[:-1]), np.split(vectors, ends[:-1]), strict=True
        ):
            pursuit.add(boxes, own, of_own)


class _Pursuit:
    """Boxes of one picture that were visited, and their scores."""

    def __init__(self, picture: Picture, regions: Sequence[RegionScore]) -> None:
        self.picture = picture
        self.boxes: Boxes = np.array([region.box for region in regions], dtype=np.float64)
        self.scores: Scores = np.array([region.score for region in regions])
        self._first = len(regions)
        self._generator = np.random.default_rng(0)

    def add(self, boxes: Boxes, scores: Scores, vectors: npt.NDArray[np.float32]) -> None:
        self.boxes, self.scores = np.concatenate([self.boxes, boxes]), np.concatenate([self.scores, scores])
        self.last_vectors = vectors

    def proposals(self, step: _Round) -> Boxes:
        """Boxes around the best regions at first, then around the choice so far and what is next to it."""
        if len(self.boxes) == self._first:
            centres = self.boxes[np.argsort(-self.scores, kind="stable")[: step.centres]]
        else:
            order = np.argsort(-self._smoothed(), kind="stable")[: step.centres - 1]
            centres = np.concatenate([self.choice()[None], self.boxes[order]])
        draw = self._generator
        chosen = centres[draw.integers(len(centres), size=step.boxes)]
        sides = chosen[:, 2:] - chosen[:, :2]
        middles = (chosen[:, :2] + chosen[:, 2:]) / 2 + draw.uniform(-1, 1, (step.boxes, 2)) * step.shift * sides
        aspect = draw.normal(size=step.boxes) * step.zoom * _UNEVEN
        zoom = draw.normal(size=step.boxes) * step.zoom - step.smaller
        halves = sides * np.exp(np.stack([zoom + aspect, zoom - aspect], axis=1)) / 2
        boxes = clip_xyxy(np.concatenate([middles - halves, middles + halves], axis=1), self.picture.size)
        least = np.minimum(_LEAST_SIDE, self.picture.size)
        return boxes[(boxes[:, 2:] - boxes[:, :2] >= least).all(axis=1)]

    def choice(self) -> Boxes:
        """The mean of the boxes visited, weighted by how well each and those around it fit: (4,)."""
        smoothed = self._smoothed()
        weights = np.exp(_DECISION * (smoothed - smoothed.max()))
        mean: Boxes = weights @ self.boxes / weights.sum()
        return mean

    def last(self) -> tuple[Box, float]:
        """The box that was scored last."""
        x0, y0, x1, y1 = self.boxes[-1].tolist()
        return (x0, y0, x1, y1), float(self.scores[-1])

    def _smoothed(self) -> Scores:
        alike = iou_xyxy(self.boxes, self.boxes) ** _SHARPNESS
        smoothed: Scores = alike @ self.scores / alike.sum(axis=1)
        return smoothed


def _improved(hit: Hit, pursuit: _Pursuit | None, question: Question) -> Hit:
    if pursuit is None:
        return hit
    box, score = pursuit.last()
    if score < hit.score:
        return hit
    regions = (RegionScore(box, _LEVEL, _CELL, score), *hit.regions)[:_REGIONS_PER_HIT]
    fits = hit.part_scores
    if question.parts is not None:
        fits = tuple(map(float, question.parts.astype(np.float64) @ pursuit.last_vectors[-1].astype(np.float64)))
    return replace(hit, score=score, box=box, level=_LEVEL, cell=_CELL, regions=regions, part_scores=fits)
