"""What a search of codes finds and what it takes, measured against exact search with held-out queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from patchwise.search import Candidates, CodeIndex, CompressedSearcher, ExactSearcher, Margins
from patchwise.search.exact import ROUNDING
from patchwise.search.margins import DEFAULT_RECALL
from patchwise.search.ranking import region_scores
from patchwise.store import Snapshot

__all__ = ["DEFAULT_RECALL", "HeldOut", "calibrate", "held_out", "measured_recall"]

_RECALLS = (0.8, 0.9, 0.95, 0.98, DEFAULT_RECALL, 0.999)
_KS = (10, 100, 1000)
_PICTURES_PER_K = 24  # of each query's true best k, drawn at random, have their codes compared with their vectors
# Queries asked later are not those measured with: this share of what may be missed is kept in reserve.
_RESERVE = 0.3
_LEAST_MARGIN = 2e-3  # what tables of 8 bits round off
_LEAST_SLOPE = 0.1
_WIDEST, _HALVINGS = 8.0, 5
_USUAL = 0.75  # of the queries find what they seek among the regions scored at first
_KNOWN_AT_MOST = 65_536  # regions of a query that are not added to: all queries are in memory at once
_AT_FIRST = 12  # regions looked for, for each hit, before it is known how many it takes


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Queries with their answers: (Q, dimension) `vectors`, and for each query its `own` picture, or -1.

    `best` are each query's true best pictures, best first, without its own; `ks` how many of them are looked at.
    """

    vectors: npt.NDArray[np.float32]
    own: npt.NDArray[np.int64]
    best: tuple[Candidates, ...]
    ks: tuple[int, ...]

    def part(self, *which: slice) -> HeldOut:
        """Some of the queries."""
        chosen = np.sort(np.concatenate([np.arange(len(self.vectors))[each] for each in which]))
        return HeldOut(self.vectors[chosen], self.own[chosen], tuple(self.best[i] for i in chosen), self.ks)


def held_out(
    snapshot: Snapshot, vectors: npt.NDArray[np.float32], own: npt.NDArray[np.int64], searching: Callable[[], None]
) -> HeldOut:
    """Search exactly for (Q, dimension) queries, of which each may be a region of its `own` picture (else -1)."""
    # A question for half of all pictures is no search any more.
    ks = tuple(k for k in _KS if k <= max(len(snapshot) // 2, 1)) or (max(len(snapshot) // 2, 1),)
    answers = ExactSearcher(snapshot, resident_bytes=0).top(vectors, ks[-1] + 1)
    searching()
    best = tuple(_without(answer, int(picture), ks[-1]) for answer, picture in zip(answers, own, strict=True))
    return HeldOut(vectors, own, best, ks)


def calibrate(snapshot: Snapshot, index: CodeIndex, queries: HeldOut) -> Margins:
    """Margins with which a search holds its recall at each number of hits, tried out at the default recall."""
    samples = _samples(snapshot, index, queries)
    coded, true = np.concatenate([each[:, :2] for each in samples]).T
    slope, offset = _line(coded, true)
    deficits = [kth - (slope * of_code + offset) for of_code, _, kth in (each.T for each in samples)]
    single = max(_LEAST_MARGIN, *(float(np.quantile(of_k, _reserved(DEFAULT_RECALL))) for of_k in deficits))
    found = Margins(((DEFAULT_RECALL, single),), tuple((k, _AT_FIRST * k) for k in queries.ks), slope, offset)
    for lists in _lists(index.codec.lists):
        found = replace(found, lists=lists)
        trial = _Trial(snapshot, index, found, queries)
        if not lists or min(trial.recall(k, trial.margin) for k in queries.ks) >= _reserved(DEFAULT_RECALL):
            break
    needed = {recall: {k: trial.just_wide_enough(k, recall) for k in queries.ks} for recall in _RECALLS}
    usual = {recall: max(of_recall.values()) for recall, of_recall in needed.items()}
    at_default = needed[DEFAULT_RECALL]
    factors = {k: margin / usual[DEFAULT_RECALL] for k, margin in at_default.items()}
    margins = [max(margin / factors[k] for k, margin in needed[recall].items()) for recall in _RECALLS]
    rising = np.maximum.accumulate(margins).tolist()
    regions = {k: trial.regions(k, margin) for k, margin in at_default.items()}
    effort = [max(trial.regions(k, factors[k] * margin) / regions[k] for k in queries.ks) for margin in rising]
    return replace(
        found,
        margins=tuple(zip(_RECALLS, rising, strict=True)),
        regions=tuple(regions.items()),
        factors=tuple(factors.items()),
        effort=tuple(zip(_RECALLS, effort, strict=True)),
    )


def measured_recall(searcher: CompressedSearcher, queries: HeldOut) -> dict[int, float]:
    """The share of the true best k pictures found among as many, for each k of the queries."""
    return {k: _shares(searcher.top(queries.vectors, k + 1), queries, k) for k in queries.ks}


def _reserved(recall: float) -> float:
    return 1 - (1 - recall) * (1 - _RESERVE)


class _Trial:
    """The held-out queries, searched with one margin after another; what they read is read once."""

    def __init__(self, snapshot: Snapshot, index: CodeIndex, margins: Margins, queries: HeldOut) -> None:
        self._queries = queries
        self._recalls: dict[tuple[int, float], float] = {}
        self.margin = margins.margin(DEFAULT_RECALL, queries.ks[-1])
        most = queries.ks[-1]
        regions = margins.expected_regions(DEFAULT_RECALL, most)
        searcher = CompressedSearcher(snapshot, index, margins)
        self._pursuits = list(searcher.pursuits(queries.vectors, most, regions, limit=_KNOWN_AT_MOST))

    def regions(self, k: int, margin: float) -> int:
        """How many regions three quarters of the queries have to score at most."""
        counts = [
            pursuit.within(float(best.scores[:k][-1]) - margin) if len(best.scores) else 0
            for pursuit, best in zip(self._pursuits, self._queries.best, strict=True)
        ]
        return int(np.quantile(counts, _USUAL)) + 1

    def recall(self, k: int, margin: float) -> float:
        """The recall at a number of hits; the same question is asked for several recalls in turn."""
        if (k, margin) not in self._recalls:
            regions = max(self.regions(k, margin), k)
            answers = [pursuit.best(k + 1, regions, margin) for pursuit in self._pursuits]
            self._recalls[k, margin] = _shares(answers, self._queries, k)
        return self._recalls[k, margin]

    def just_wide_enough(self, k: int, recall: float) -> float:
        """The smallest margin with which a recall is met, and what is kept in reserve.

        A picture has several regions by which it may be found, and is found more often than each of them.
        """
        low, high = 0.0, self.margin
        while self.recall(k, high) < _reserved(recall) and high < _WIDEST * self.margin:
            low, high = high, 1.5 * high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.recall(k, middle) >= _reserved(recall) else (middle, high)
        return max(high, _LEAST_MARGIN)


def _samples(snapshot: Snapshot, index: CodeIndex, queries: HeldOut) -> list[npt.NDArray[np.float64]]:
    """For each k, (N, 3): scores of code and vector of a true hit's region, and the k-th best score of its query.

    The region is the one with the best code of those that are good enough for the k-th place.
    """
    chosen = np.random.default_rng(0)
    samples: list[list[tuple[float, float, float]]] = [[] for _ in queries.ks]
    for query, best in zip(queries.vectors, queries.best, strict=True):
        for k, of_k in zip(queries.ks, samples, strict=True):
            among = len(best.pictures[:k])
            kth = float(best.scores[among - 1]) if among else 0.0
            for place in chosen.choice(among, min(among, _PICTURES_PER_K), replace=False):
                picture = int(best.pictures[place])
                scores = region_scores(snapshot, picture, query)
                good = scores >= kth - ROUNDING
                vectors = snapshot.vectors(picture)[good].astype(np.float32)
                coded = index.codec.decode(index.codec.encode(vectors)) @ query
                of_k.append((float(coded.max()), float(scores[good][coded.argmax()]), kth))
    return [np.array(of_k) for of_k in samples]


def _line(coded: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of the least squares line from code scores to true ones."""
    spread = float(coded.var())
    if spread < _LEAST_MARGIN**2:  # all alike, as in a gallery of copies
        return 1.0, float(true.mean() - coded.mean())
    slope = max(float(((coded - coded.mean()) * (true - true.mean())).mean()) / spread, _LEAST_SLOPE)
    return slope, float(true.mean() - slope * coded.mean())


def _shares(answers: Sequence[Candidates], queries: HeldOut, k: int) -> float:
    """The share of the true best k pictures among the k best of each answer, on average.

    Of pictures that tie for the k-th place any will do.
    """
    shares = []
    for true, answer, own in zip(queries.best, answers, queries.own, strict=True):
        best = Candidates(true.pictures[:k], true.scores[:k])
        if len(best.pictures):
            found = _without(answer, int(own), k)
            good = np.isin(found.pictures, best.pictures) | (found.scores >= best.scores[-1] - ROUNDING)
            shares.append(np.count_nonzero(good) / len(best.pictures))
    return float(np.mean(shares)) if shares else 1.0


def _without(answer: Candidates, own: int, k: int) -> Candidates:
    """The best k of an answer but for one picture, best first; ties by picture."""
    order = np.lexsort((answer.pictures, -answer.scores))
    order = order[answer.pictures[order] != own][:k]
    return Candidates(answer.pictures[order], answer.scores[order])


def _lists(lists: int) -> Sequence[int]:
    """Numbers of inverted lists to try, from few to all."""
    tried = [lists]
    while tried[-1] > 1:
        tried.append(tried[-1] // 2)
    return tried[::-1] if lists else [0]
