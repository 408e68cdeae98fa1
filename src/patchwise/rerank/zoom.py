"""Small objects: the best region of each hit is looked at again from nearby, by windows of half its side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from patchwise.encoders import Encoder
from patchwise.errors import ImageError
from patchwise.images import Picture
from patchwise.indexing.passes import Inputs, passes_of
from patchwise.regions import Sliding, View
from patchwise.rerank.base import Question
from patchwise.rerank.looking import CELL, LEVEL, encoded, laid
from patchwise.search import Hit, RegionScore

__all__ = ["CALLS", "Zoom"]

_WINDOWS = Sliding(1, 0.5)  # the region itself, which is known, and windows of half its side moved by half of theirs
CALLS = _WINDOWS.typical_count - 1
"""Regions that are encoded for each hit at most."""

_LEAST_SIDE = 16.0  # pixels of the upright original; a smaller window has nothing to tell
_HITS_AT_ONCE = 16  # whose windows are encoded together
_REGIONS_PER_HIT = 10  # as `Hit` has it


class Zoom:
    """Finds objects that are small even beside the smallest regions that are stored.

    An object that fills a tenth of a region leaves the rest of it to what stands around, and its vector to that. The
    region that fits best is often the right one nevertheless, though its image is not among the first. Windows inside
    it show the object larger; a hit takes the score and the box of the window that fits best, if that fits better than
    the region. Zooming again starts from there, as `zoom:100,zoom:20` does.

    Args:
        encoder: the gallery's. One that looks at an image once is shown the region instead.
        read: gives the picture of a hit.
        depth: how many hits are looked at; each takes `CALLS` encoded regions at most.
    """

    name = "zoom"

    def __init__(self, encoder: Encoder, read: Callable[[Hit], Picture], *, depth: int = 100) -> None:
        self._passes = passes_of(encoder)
        self._read, self.depth = read, depth

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        looked_at: list[Hit] = []
        waiting = iter(hits[: self.depth])
        while group := list(islice(waiting, _HITS_AT_ONCE)):
            question.proceed()
            looked_at += self._zoomed(question, group)
        return [*sorted(looked_at, key=lambda hit: -hit.score), *hits[self.depth :]]

    def _zoomed(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        shown = [self._windows(hit) for hit in hits]
        inputs = [each[1] for each in shown if each is not None]
        if not inputs:
            return list(hits)
        vectors = iter(encoded(self._passes, Inputs.joined(inputs)))
        return [
            hit if each is None else _closer(hit, each[0], np.stack(list(islice(vectors, len(each[0])))), question)
            for hit, each in zip(hits, shown, strict=True)
        ]

    def _windows(self, hit: Hit) -> tuple[npt.NDArray[np.float32], Inputs] | None:
        """Windows in a hit's best region, (R, 4) xyxy in pixels of the upright original, and what is encoded of them.

        None where there is nothing to see.
        """
        x0, y0, x1, y1 = (round(edge) for edge in hit.box)
        if hit.verified or min(x1 - x0, y1 - y0) < 2 * _LEAST_SIDE:
            return None
        try:
            picture = self._read(hit)
        except ImageError:  # gone or changed since it was indexed: the hit keeps what it has
            return None
        if picture.size != hit.size:
            return None
        size = (x1 - x0, y1 - y0)
        inside = _WINDOWS.regions(View(size)).boxes[1:]
        return inside + np.array([x0, y0, x0, y0], dtype=np.float32), self._passes.cut(
            _cut_out(picture, (x0, y0, x1, y1)), laid(inside)
        )


def _cut_out(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """A part of a picture as one of its own; pixels may be coarser than the upright original."""
    scale = np.array([*picture.pixels.size] * 2) / np.array([*picture.size] * 2)
    x0, y0, x1, y1 = np.rint(np.array(box) * scale).astype(int).tolist()
    return Picture(picture.pixels.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))), (box[2] - box[0], box[3] - box[1]))


def _closer(hit: Hit, boxes: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32], question: Question) -> Hit:
    scores = vectors.astype(np.float64) @ question.vector.astype(np.float64)
    seen = [
        RegionScore((x0, y0, x1, y1), LEVEL, CELL, float(score))
        for (x0, y0, x1, y1), score in zip(boxes.tolist(), scores, strict=True)
    ]
    regions = tuple(sorted((*hit.regions, *seen), key=lambda region: -region.score)[:_REGIONS_PER_HIT])
    best = int(scores.argmax())
    if scores[best] <= hit.score:
        return replace(hit, regions=regions)
    fits = hit.part_scores
    if question.parts is not None:
        fits = tuple(map(float, question.parts.astype(np.float64) @ vectors[best].astype(np.float64)))
    first = seen[best]
    return replace(hit, score=first.score, box=first.box, level=LEVEL, cell=CELL, regions=regions, part_scores=fits)
