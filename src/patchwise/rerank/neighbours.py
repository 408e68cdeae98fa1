"""Hits that resemble each other support each other: augmentation over the shortlist, with what is stored unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from patchwise.errors import ImageError
from patchwise.rerank.base import Question
from patchwise.search import Hit

__all__ = ["Neighbours"]

Array = npt.NDArray[np.float32]

_REGIONS = 3  # of each hit
_NEAREST = 5
_SHARE = 0.5  # of a neighbour's weight, beside its cosine
_FIRST = 3  # hits that the query is refined with where none matches for sure
_MOST_SURE = 10
_ROWS_AT_ONCE = 1_024


class Neighbours:
    """Takes regions of the shortlist together with those of other hits that look most like them.

    In the manner of SuperGlobal (Shao et al., ICCV 2023), which does this with one vector per image: each of the best
    regions of a hit becomes the mean of itself and its nearest regions among the other hits, one of each, weighted by
    cosine; the query likewise becomes the mean of itself and the best regions of the hits that match, or of the first
    few. Such a region is worth the mean of its cosines with the query as it was and as it became, and a hit the mean of
    its best one's worth and the score it had, so that what an earlier look found out still counts. Pictures are not
    read, and nothing is encoded.

    Hits that match (`Hit.matches`) stay first, in their order and with their scores: what looks like others that were
    found must not displace what was found for sure. Boxes stay as well.

    Args:
        vectors: the stored vectors of a hit's picture, (regions, dimension).
        depth: how many hits are taken together.
    """

    name = "neighbours"

    def __init__(self, vectors: Callable[[Hit], npt.NDArray[np.floating]], *, depth: int = 200) -> None:
        self._vectors, self.depth = vectors, depth

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        shortlist = list(hits[: self.depth])
        known, best = [], []
        for place, hit in enumerate(shortlist):
            try:
                regions = _best(question.vector, self._vectors(hit))
            except ImageError:  # left the gallery since the search: the hit keeps what it has
                continue
            known.append(place)
            best.append(regions)
        if len(known) < 2:
            return list(hits)
        regions = np.stack(best)
        sure = [place for place, of_hit in enumerate(known) if shortlist[of_hit].matches][:_MOST_SURE]
        query = _refined(question.vector, regions[sure or range(min(_FIRST, len(regions))), 0])
        augmented = _augmented(regions)
        worth = ((augmented @ question.vector + augmented @ query) / 2).max(axis=1)
        for place, of_hit in zip(known, worth.tolist(), strict=True):
            if not shortlist[place].matches:
                shortlist[place] = replace(shortlist[place], score=(shortlist[place].score + of_hit) / 2)
        matching = [hit for hit in shortlist if hit.matches]
        others = sorted((hit for hit in shortlist if not hit.matches), key=lambda hit: -hit.score)
        return [*matching, *others, *hits[self.depth :]]


def _best(query: Array, stored: npt.NDArray[np.floating]) -> Array:
    """The regions that fit best, best first: (`_REGIONS`, dimension); the best one again where there are fewer."""
    scores = (stored.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    order = np.argsort(-scores, kind="stable")[:_REGIONS]
    order = np.concatenate([order, np.repeat(order[:1], _REGIONS - len(order))])
    return stored[order].astype(np.float32)


def _refined(query: Array, vectors: Array) -> Array:
    weights = np.maximum(vectors @ query, 0)
    return _normalised(query + weights @ vectors)


def _augmented(regions: Array) -> Array:
    """Each region with its nearest ones of other hits: (hits, regions, dimension), and so again."""
    hits, each, dimension = regions.shape
    flat = regions.reshape(-1, dimension)
    nearest = min(_NEAREST, hits - 1)
    mixed = np.empty_like(flat)
    for first in range(0, len(flat), _ROWS_AT_ONCE):
        block = flat[first : first + _ROWS_AT_ONCE]
        rows = np.arange(len(block))
        cosines = (block @ flat.T).reshape(len(block), hits, each)
        of_hits = cosines.max(axis=2)
        of_hits[rows, (first + rows) // each] = -np.inf
        others = np.argpartition(-of_hits, nearest - 1, axis=1)[:, :nearest]
        which = np.take_along_axis(cosines.argmax(axis=2), others, axis=1)
        weights = _SHARE * np.maximum(np.take_along_axis(of_hits, others, axis=1), 0)
        mixed[first : first + len(block)] = block + np.einsum("rn,rnd->rd", weights, regions[others, which])
    return _normalised(mixed).reshape(regions.shape)


def _normalised(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Array = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
