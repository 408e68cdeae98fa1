"""Several pictures asked for one after the other, and their answers put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from patchwise.errors import UsageError
from patchwise.search.base import Explanation, Hit

__all__ = ["DEFAULT_FUSION", "FUSIONS", "fused", "fused_search", "hit_of"]

FUSIONS: Mapping[str, str] = MappingProxyType(
    {
        "max": "any of the pictures may match: the best of their scores",
        "mean": "all pictures show the same object: the mean of their scores",
        "rank": "as mean, by ranks and not by scores: reciprocal rank fusion",
    }
)
DEFAULT_FUSION = "mean"

_RANK_CONSTANT = 60
_REGIONS_PER_HIT = 10
_FEWEST, _DEEPER = 100, 4
_RANKED = 1_000  # hits of each answer that count by their ranks


def fused(
    answers: Sequence[Sequence[Hit]], scored: Callable[[int, Hit], Hit], method: str = DEFAULT_FUSION, k: int = 20
) -> list[Hit]:
    """One list of the hits of several pictures that were asked for one by one.

    A picture of the gallery is judged by its best region for each picture of the query: different views may fit in
    different places, while a query composed of them (`patchwise.indexing.query.compose`) looks for one region that fits
    all. Reciprocal rank fusion is that of Cormack, Clarke and Buettcher (SIGIR 2009) with its constant of 60; hits
    below the end of an answer add nothing there, and its scores are no cosines.

    Args:
        answers: one list per picture of the query, best first.
        scored: the hit that an image found for another picture is for picture i of the query.
        method: a key of `FUSIONS`.
        k: how many hits at most.

    Returns:
        Hits with box and regions of the picture that fits best (of one whose outline was verified, where there is
        any), best first, ties by path; `part_scores` are the best cosines with each picture. Expected false matches
        are those of the picture with the fewest, times the pictures: so many may match by chance in one of them.

    Raises:
        UsageError: an unknown method.
    """
    if method not in FUSIONS:
        raise UsageError(f"fusion {method!r}: expected one of {', '.join(FUSIONS)}")
    known = [{hit.path: hit for hit in answer} for answer in answers]
    ranks = [{hit.path: rank for rank, hit in enumerate(answer, 1)} for answer in answers]
    union = {hit.path: hit for answer in answers for hit in answer}
    together = []
    for path, found in union.items():
        own = [hits.get(path) or scored(part, found) for part, hits in enumerate(known)]
        if method == "rank":
            score = sum(1 / (_RANK_CONSTANT + places[path]) for places in ranks if path in places)
        else:
            score = _combined([hit.score for hit in own], method)
        together.append(_one(own, score))
    together.sort(key=lambda hit: (-hit.score, hit.path))
    return [replace(hit, rank=rank) for rank, hit in enumerate(together[:k], 1)]


def fused_search(
    search: Callable[[int], Sequence[Sequence[Hit]]],
    scored: Callable[[int, Hit], Hit],
    method: str = DEFAULT_FUSION,
    k: int = 20,
) -> list[Hit]:
    """The first `k` fused hits of all there are: answers are fetched deeper until none that was not seen can be better.

    A picture that is in no answer scores no more than the last of each (the bound of Fagin, Lotem and Naor's threshold
    algorithm, 2001), as long as answers are in the order of their scores: where second looks put some hits before
    better scores, the bound is a good guess. By ranks, what lies below the first answers counts as nothing.

    Args:
        search: the answers for all pictures of the query, so many hits each, or fewer where there are no more.
        scored, method, k: as for `fused`.

    Raises:
        UsageError: an unknown method.
    """
    # Ranks of another depth would give another order, and pages that overlap.
    depth = max(_RANKED, k) if method == "rank" else max(_FEWEST, _DEEPER * k)
    while True:
        answers = search(depth)
        hits = fused(answers, scored, method, k)
        complete = any(len(answer) < depth for answer in answers)  # one that is at its end has seen all images
        if method == "rank" or complete:
            return hits
        if len(hits) == k and hits[-1].score >= _combined([answer[-1].score for answer in answers], method):
            return hits
        depth *= _DEEPER


def hit_of(explanation: Explanation) -> Hit:
    """What a picture of the gallery is as a hit for the query that was explained; its rank is 0."""
    order = np.argsort([-region.score for region in explanation.regions], kind="stable")[:_REGIONS_PER_HIT]
    regions = tuple(explanation.regions[place] for place in order)
    best = regions[0]
    return Hit(0, explanation.path, best.score, best.box, best.level, best.cell, explanation.size, regions)


def _combined(scores: Sequence[float], method: str) -> float:
    return max(scores) if method == "max" else sum(scores) / len(scores)


def _one(own: Sequence[Hit], score: float) -> Hit:
    winner = max(own, key=lambda hit: (hit.verified, hit.score))
    expected = [hit.expected_false_matches for hit in own if hit.expected_false_matches is not None]
    return replace(
        winner,
        score=score,
        part_scores=tuple(hit.score for hit in own),
        expected_false_matches=min(expected) * len(own) if expected else None,
    )
