"""Tighter boxes: regions where an object may be are looked at, and a box is concluded from all their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box, clip_xyxy
from patchwise.encoders import DenseEncoder, Encoder
from patchwise.errors import ImageError
from patchwise.images import Picture
from patchwise.indexing.passes import Inputs, passes_of
from patchwise.rerank.base import Question
from patchwise.rerank.belief import Belief, touched
from patchwise.rerank.looking import CELL, LEVEL, encoded, laid
from patchwise.search import Hit, RegionScore

__all__ = ["Refine", "calls"]

Boxes = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float64]
Stored = Callable[[Hit], tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]]


class _Round(NamedTuple):
    """The best `share` of the hits get so many more regions, moved and resized by so much from what is believed."""

    share: float
    regions: int
    shift: float = 0.15
    zoom: float = 0.25
    apart: bool = False  # where the object may stand several times, these places are looked at


_ROUNDS = (_Round(1.0, 16), _Round(0.5, 16), _Round(0.2, 12, apart=True), _Round(0.2, 12, apart=True))
_DENSE_REGIONS = 12  # times as many, for an encoder that sees the image once for all of them

_FURTHER_PLACES = 3
_SUSPECTED, _CERTAIN = 0.5, 0.8  # of how far the best place rises above the ground, what another must reach

_REGIONS_PER_HIT = 10  # as `Hit` has it
_LEAST_SIDE = 8.0  # pixels of the upright original
_HITS_AT_ONCE = 8  # whose regions are encoded together
_ALBUM_BYTES = 256 * 2**20  # of pictures kept between rounds; others are read again


def calls(depth: int) -> int:
    """Regions that are encoded at most for a query of which `depth` hits are looked at."""
    places = depth + math.ceil(depth * _ROUNDS[-1].share) * _FURTHER_PLACES
    return sum(math.ceil(depth * each.share) * each.regions for each in _ROUNDS) + places


class Refine:
    """Looks for a better box in each of the first hits, and for a better region to rank them by.

    A single score is a poor judge of a box: among boxes looked at, the one with the highest score is a chance winner.
    The box is therefore concluded from the scores of all regions (see `Belief`); regions are looked at where it may be,
    in rounds that go on with the better part of the hits only. A hit then has that box, which is also the first of its
    `regions`, with its own cosine. Its score is the mean of the highest cosine of all regions that were looked at and
    what this should be by what all of them say: less a matter of chance, and what hits are ordered by. Of the hits that
    go all the way, further places that fit about as well and lie apart become `instances`.

    Args:
        encoder: the gallery's.
        read: gives the picture of a hit.
        depth: how many hits are looked at; they take `calls(depth)` encoded regions at most.
        stored: gives all regions of a hit's picture, (R, 4) xyxy in pixels, and their vectors, (R, dimension); without
            it the hit's own ten are all that is known at first.
    """

    name = "refine"

    def __init__(
        self,
        encoder: Encoder,
        read: Callable[[Hit], Picture],
        *,
        depth: int = 20,
        stored: Stored | None = None,
    ) -> None:
        self._passes = passes_of(encoder)
        self._more = _DENSE_REGIONS if isinstance(encoder, DenseEncoder) else 1
        self._read, self._stored, self.depth = read, stored, depth

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        looked_at = hits[: self.depth]
        album = _Album(self._read)
        sought = question.picture.size if looked_at and question.picture is not None else None
        open_hits = [hit for hit in looked_at if hit.regions and not hit.verified]  # no box beats a verified outline's
        pursuits = [_Pursuit(hit, *self._known(question, hit), sought) for hit in open_hits]
        for step in _ROUNDS:
            going = sorted((each for each in pursuits if not each.gone), key=lambda each: -each.score)
            going = going[: math.ceil(step.share * len(looked_at))]
            if step.apart:
                for pursuit in going:
                    pursuit.suspect()
            self._look(question, album, going, partial(_Pursuit.proposals, step=step, times=self._more))
        self._look(question, album, pursuits, _Pursuit.conclusions, last=True)
        found = {id(each.hit): each for each in pursuits if not each.gone}
        refined = [found[id(hit)].refined(question) if id(hit) in found else hit for hit in looked_at]
        return [*sorted(refined, key=lambda hit: -hit.score), *hits[self.depth :]]

    def _known(self, question: Question, hit: Hit) -> tuple[Boxes, Scores]:
        """Regions of a hit's picture whose scores take no looking."""
        if self._stored is not None:
            try:
                boxes, vectors = self._stored(hit)
                return boxes.astype(np.float64), vectors.astype(np.float64) @ question.vector.astype(np.float64)
            except ImageError:  # no longer in the gallery
                pass
        return np.array([region.box for region in hit.regions]), np.array([region.score for region in hit.regions])

    def _look(
        self,
        question: Question,
        album: _Album,
        pursuits: Sequence[_Pursuit],
        asked: Callable[[_Pursuit], Boxes],
        last: bool = False,
    ) -> None:
        """Encode regions of several pictures together, and tell the pursuits."""
        for start in range(0, len(pursuits), _HITS_AT_ONCE):
            question.proceed()
            shown = []
            for pursuit in pursuits[start : start + _HITS_AT_ONCE]:
                picture = None if pursuit.gone else album.picture(pursuit.hit)
                if picture is None:
                    pursuit.gone = True
                elif len(boxes := asked(pursuit)):
                    shown.append((pursuit, boxes, self._passes.cut(picture, laid(boxes))))
            if not shown:
                continue
            vectors = encoded(self._passes, Inputs.joined([inputs for _, _, inputs in shown])).astype(np.float64)
            scores = vectors @ question.vector.astype(np.float64)
            ends = np.cumsum([len(boxes) for _, boxes, _ in shown])[:-1]
            for (pursuit, boxes, _), own, of_own in zip(
                shown, np.split(scores, ends), np.split(vectors, ends), strict=True
            ):
                if last:
                    pursuit.conclude(boxes, own, of_own)
                else:
                    pursuit.add(boxes, own)


class _Album:
    """Pictures of hits, of which so many are kept as fit into memory."""

    def __init__(self, read: Callable[[Hit], Picture]) -> None:
        self._read, self._left = read, _ALBUM_BYTES
        self._kept: dict[str, Picture] = {}

    def picture(self, hit: Hit) -> Picture | None:
        """None where it is gone or changed since it was indexed."""
        if hit.path in self._kept:
            return self._kept[hit.path]
        try:
            picture = self._read(hit)
        except ImageError:  # the hit keeps what it has
            return None
        if picture.size != hit.size:
            return None
        size = picture.pixels.width * picture.pixels.height * 3
        if size <= self._left:
            self._left -= size
            self._kept[hit.path] = picture
        return picture


class _Pursuit:
    """One hit: regions of its picture that were looked at, and what is believed because of them."""

    def __init__(self, hit: Hit, boxes: Boxes, scores: Scores, sought: tuple[int, int] | None = None) -> None:
        self.hit, self.gone = hit, False
        self._sides = np.array([*hit.size, *hit.size], dtype=np.float64)
        self._boxes, self._scores = boxes / self._sides, scores
        self._aspect = None if sought is None else sought[0] / sought[1] * hit.size[1] / hit.size[0]
        self._belief = self._believed()
        self._further: list[Belief] = []
        self._draw = np.random.default_rng(0)
        self._suspected = False

    @property
    def score(self) -> float:
        """Mean of the highest score found and of what it should be by all of them."""
        return (float(self._scores.max()) + self._belief.place().score) / 2

    def proposals(self, step: _Round, times: int) -> Boxes:
        """Regions to look at, in pixels."""
        places = [self._belief, *self._further]
        counts = [len(part) for part in np.array_split(np.arange(step.regions * times), len(places))]
        boxes = np.concatenate(
            [
                place.proposals(count, step.shift, step.zoom, self._draw)
                for place, count in zip(places, counts, strict=True)
            ]
        )
        boxes = clip_xyxy(boxes * self._sides, self.hit.size)
        return boxes[(boxes[:, 2:] - boxes[:, :2] >= np.minimum(_LEAST_SIDE, self.hit.size)).all(axis=1)]

    def add(self, boxes: Boxes, scores: Scores) -> None:
        relative = boxes / self._sides
        self._boxes, self._scores = np.concatenate([self._boxes, relative]), np.concatenate([self._scores, scores])
        for belief in (self._belief, *self._further):
            belief.add(relative, scores, self._draw)

    def suspect(self) -> None:
        """Look for further places that seem to fit nearly as well, each apart from those before."""
        if self._suspected:
            return
        self._suspected = True
        places = [self._belief.place()]
        ground, needed = places[0].ground, _SUSPECTED * (places[0].score - places[0].ground)
        while len(places) <= _FURTHER_PLACES:
            taken = np.array([place.box for place in places])
            rest = ~touched(self._boxes, taken)
            if not rest.any() or self._scores[rest].max() - ground < needed:
                break
            self._further.append(self._believed(taken))
            places.append(self._further[-1].place())
        if self._further:  # each is then judged without the regions that show another
            taken = np.array([place.box for place in places])
            self._belief, *self._further = (self._believed(np.delete(taken, at, axis=0)) for at in range(len(taken)))

    def _believed(self, apart: Boxes | None = None) -> Belief:
        return Belief(self._boxes, self._scores, apart=apart, aspect=self._aspect)

    def conclusions(self) -> Boxes:
        """The boxes concluded, in pixels: that of the hit, then those of further places."""
        places = [belief.place().box for belief in (self._belief, *self._further)]
        return clip_xyxy(np.array(places) * self._sides, self.hit.size)

    def conclude(self, boxes: Boxes, scores: Scores, vectors: Scores) -> None:
        self._concluded, self._fits, self._vectors = boxes, scores, vectors

    def refined(self, question: Question) -> Hit:
        """The hit with the box concluded."""
        first, *others = (
            RegionScore(_box(box), LEVEL, CELL, float(score))
            for box, score in zip(self._concluded, self._fits, strict=True)
        )
        ground = self._belief.place().ground
        near = [each for each in others if each.score - ground >= _CERTAIN * (first.score - ground)]
        parts = self.hit.part_scores
        if question.parts is not None:
            parts = tuple(map(float, question.parts.astype(np.float64) @ self._vectors[0]))
        return replace(
            self.hit,
            score=self.score,
            box=first.box,
            level=LEVEL,
            cell=CELL,
            regions=(first, *self.hit.regions)[:_REGIONS_PER_HIT],
            part_scores=parts,
            instances=_apart(first, sorted(near, key=lambda each: -each.score)),
        )


def _apart(first: RegionScore, others: Sequence[RegionScore]) -> tuple[RegionScore, ...]:
    """Those of the others, best first, that touch neither the first nor one before them."""
    kept = [first]
    for each in others:
        if not touched(np.array([each.box]), np.array([one.box for one in kept]))[0]:
            kept.append(each)
    return tuple(kept[1:])


def _box(edges: Boxes) -> Box:
    x0, y0, x1, y1 = edges.tolist()
    return (x0, y0, x1, y1)
