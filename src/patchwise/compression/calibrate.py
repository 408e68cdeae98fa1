"""What a search of codes finds and what it takes, measured against exact search with held-out queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from patchwise.search import Candidates, CodeIndex, CompressedSearcher, ExactSearcher, Margins
from patchwise.search.exact import ROUNDING
from patchwise.search.ranking import region_scores
from patchwise.store import Snapshot

__all__ = ["DEFAULT_RECALL", "HeldOut", "calibrate", "held_out", "measured_recall"]

DEFAULT_RECALL = 0.99
_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_KS = (10, 100, 1000)
_PICTURES_PER_K = 24  # of each query's true best k, drawn at random, have their codes compared with their vectors
_WIDER = 1.1  # the step by which a margin grows that proved too small
_ROUNDS = 12
# Queries that are asked later are not those measured with: this share of what may be missed is kept in reserve.
_RESERVE = 0.3


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Queries with their answers: (Q, dimension) `vectors`, and for each query its `own` picture, or -1.

    `best` are each query's true best pictures, best first, without its own; `ks` how many of them are looked at.
    """

    vectors: npt.NDArray[np.float32]
    own: npt.NDArray[np.int64]
    best: tuple[Candidates, ...]
    ks: tuple[int, ...]


def held_out(
    snapshot: Snapshot, vectors: npt.NDArray[np.float32], own: npt.NDArray[np.int64], searching: Callable[[], None]
) -> HeldOut:
    """Search exactly for (Q, dimension) queries, of which each may be a region of its `own` picture (else -1)."""
    # A question for half of all pictures is no search any more.
    ks = tuple(k for k in _KS if k <= max(len(snapshot) // 2, 1)) or (max(len(snapshot) - 1, 1),)
    answers = ExactSearcher(snapshot, resident_bytes=0).top(vectors, ks[-1] + 1)
    searching()
    best = tuple(_without(answer, int(picture), ks[-1]) for answer, picture in zip(answers, own, strict=True))
    return HeldOut(vectors, own, best, ks)


def calibrate(snapshot: Snapshot, index: CodeIndex, queries: HeldOut) -> Margins:
    """Margins with which a search holds its recall, at each number of hits and at the default recall measured so."""
    deficits = _deficits(snapshot, index, queries)
    margins = tuple(
        (recall, float(max(np.quantile(of_k, 1 - (1 - recall) * (1 - _RESERVE)) for of_k in deficits)))
        for recall in _RECALLS
    )
    # Margins may not fall with the recall, nor below what tables of 8 bits round off.
    rising = np.maximum.accumulate(np.maximum([margin for _, margin in margins], 1e-3))
    found = Margins(tuple(zip(_RECALLS, map(float, rising), strict=True)), tuple((k, _at_first(k)) for k in queries.ks))
    for lists in _lists(index.codec.lists):
        found = replace(found, lists=lists)
        searcher = CompressedSearcher(snapshot, index, found, recall=DEFAULT_RECALL)
        if index.codec.lists == 0 or min(_recalls(searcher, queries)) >= DEFAULT_RECALL:
            break
    return _wide_enough(snapshot, index, queries, found)


def measured_recall(searcher: CompressedSearcher, queries: HeldOut) -> dict[int, float]:
    """The share of the true best k pictures found among as many, for each k of the queries."""
    return dict(zip(queries.ks, _recalls(searcher, queries), strict=True))


def _wide_enough(snapshot: Snapshot, index: CodeIndex, queries: HeldOut, margins: Margins) -> Margins:
    """Margins widened until the default recall is met, with the number of regions that this takes."""
    for _ in range(_ROUNDS):
        searcher = CompressedSearcher(snapshot, index, margins, recall=DEFAULT_RECALL)
        margins = replace(margins, regions=tuple((k, _regions(searcher, queries, k)) for k in queries.ks))
        if min(_recalls(searcher, queries)) >= DEFAULT_RECALL:
            break
        margins = replace(margins, margins=tuple((recall, margin * _WIDER) for recall, margin in margins.margins))
    return margins


def _deficits(snapshot: Snapshot, index: CodeIndex, queries: HeldOut) -> list[npt.NDArray[np.float64]]:
    """By how much the code score of each true hit falls short of the k-th best score, for each k.

    A hit is found by any of its regions that is good enough for the k-th place.
    """
    chosen = np.random.default_rng(0)
    deficits: list[list[float]] = [[] for _ in queries.ks]
    for query, best in zip(queries.vectors, queries.best, strict=True):
        for k, of_k in zip(queries.ks, deficits, strict=True):
            among = len(best.pictures[:k])
            kth = float(best.scores[among - 1]) if among else 0.0
            for place in chosen.choice(among, min(among, _PICTURES_PER_K), replace=False):
                picture = int(best.pictures[place])
                good = region_scores(snapshot, picture, query) >= kth - ROUNDING
                vectors = snapshot.vectors(picture)[good].astype(np.float32)
                of_k.append(kth - float((index.codec.decode(index.codec.encode(vectors)) @ query).max()))
    return [np.array(of_k) for of_k in deficits]


def _recalls(searcher: CompressedSearcher, queries: HeldOut) -> list[float]:
    recalls = []
    for k in queries.ks:
        answers = searcher.top(queries.vectors, k + 1)
        shares = [
            np.isin(true.pictures[:k], _without(found, int(own), k).pictures).mean()
            for true, found, own in zip(queries.best, answers, queries.own, strict=True)
            if len(true.pictures)
        ]
        recalls.append(float(np.mean(shares)))
    return recalls


def _regions(searcher: CompressedSearcher, queries: HeldOut, k: int) -> int:
    """How many regions three quarters of the queries had to score at most."""
    counts = [count for _, count in searcher.answers(queries.vectors, k)]
    return int(np.quantile(counts, 0.75)) + 1


def _without(answer: Candidates, own: int, k: int) -> Candidates:
    """The best k of an answer but for one picture, best first; ties by picture."""
    order = np.lexsort((answer.pictures, -answer.scores))
    order = order[answer.pictures[order] != own][:k]
    return Candidates(answer.pictures[order], answer.scores[order])


def _at_first(k: int) -> int:
    return 12 * k


def _lists(lists: int) -> Sequence[int]:
    """Numbers of inverted lists to try, from few to all."""
    tried = [lists]
    while tried[-1] > 1:
        tried.append(tried[-1] // 2)
    return tried[::-1] if lists else [0]
