"""Exact search: every vector of every live picture is compared with every query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.machine import free_memory
from patchwise.search.base import Candidates
from patchwise.search.rescoring import row_scores
from patchwise.search.resident import Block, ResidentVectors
from patchwise.search.together import Together
from patchwise.store import Snapshot

__all__ = ["ROUNDING", "ExactSearcher"]

_BLOCK_ROWS = 65_536
_PRODUCTS = 2 * 2**20  # cosines of regions with queries computed at once: few enough to stay in a cache
_WAITING_SCORES = 32 * 2**20  # cosines of pictures with queries gathered before the best are picked
_PICKED = 0.15  # share of all rows up to which those of chosen pictures are scored sooner by themselves
# Two float32 sums of the same products, in another order, differ by less than this for unit vectors.
ROUNDING = 1e-5


class ExactSearcher:
    """Brute force over one float32 copy of the vectors, or over the mapped fp16 shards where that would not fit.

    Args:
        snapshot: what to search.
        resident_bytes: keep the vectors in memory if what has to be read takes at most this much (default: half of the
            memory that is free now); 0 never does.
        before: a searcher of an earlier state of the same gallery, whose vectors need not be read again.
    """

    def __init__(
        self, snapshot: Snapshot, resident_bytes: int | None = None, before: ExactSearcher | None = None
    ) -> None:
        self._snapshot = snapshot
        allowed = free_memory() // 2 if resident_bytes is None else resident_bytes
        held = None if before is None else before.resident
        self.resident: ResidentVectors | None = ResidentVectors.within(allowed, snapshot, held)
        self._together = Together()

    def top(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[Candidates]:
        """The k best pictures of each query and every picture that ties with the last of them.

        One pass over the vectors answers all queries, also those that several threads ask for at the same time; beyond
        the vectors it takes memory for about k pictures per query, however many pictures there are. `allowed` says
        which pictures may be found: (pictures,) bool.
        """
        if len(queries) == 0:
            return []
        if allowed is not None and self._are_few(allowed):
            return self._top_of(queries, k, np.flatnonzero(allowed))
        return self._together.top(self._pass, queries, k, allowed)

    def _are_few(self, allowed: npt.NDArray[np.bool_]) -> bool:
        """Whether it is quicker to look at these pictures alone than to pass over everything."""
        if self.resident is None:  # what need not be read from disk is not
            return not allowed.all()
        rows = int(np.diff(self._snapshot.starts)[allowed].sum())
        return rows <= _PICKED * self._snapshot.rows

    def _pass(
        self,
        queries: npt.NDArray[np.float32],
        ks: Sequence[int],
        allowed: Sequence[npt.NDArray[np.bool_] | None],
    ) -> list[Candidates]:
        """The same in one pass over everything, where each query has its own k and its own pictures."""
        kept = [Candidates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        waiting: list[_Scored] = []
        for scored in self._best(queries):
            waiting.append(scored)
            if sum(len(each.pictures) for each in waiting) * len(queries) >= _WAITING_SCORES:
                _keep_best(kept, waiting, ks, allowed)
                waiting = []
        if waiting:
            _keep_best(kept, waiting, ks, allowed)
        return kept

    def _top_of(self, queries: npt.NDArray[np.float32], k: int, pictures: npt.NDArray[np.int64]) -> list[Candidates]:
        """The same among some pictures, of which only these are looked at."""
        starts = self._snapshot.starts
        counts = starts[pictures + 1] - starts[pictures]
        ends = np.cumsum(counts)
        scores = np.empty((len(queries), len(pictures)), dtype=np.float32)
        first = 0
        while first < len(pictures):
            before = int(ends[first] - counts[first])
            end = max(int(np.searchsorted(ends, before + _BLOCK_ROWS, side="right")), first + 1)
            local = ends[first:end] - counts[first:end] - before
            rows = self._snapshot.rows_of(pictures[first:end])
            for query, row in zip(queries, scores, strict=True):
                row[first:end] = np.maximum.reduceat(row_scores(self._snapshot, rows, query), local)
            first = end
        kept = []
        for row in scores:
            best = row >= np.partition(row, -k)[-k] - ROUNDING if len(row) > k else np.ones(len(row), dtype=np.bool_)
            kept.append(Candidates(pictures[best], row[best]))
        return kept

    def scores(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Each picture's best cosine: (Q, pictures) float32, for (Q, dimension) unit queries."""
        scores = np.empty((len(queries), len(self._snapshot)), dtype=np.float32)
        for scored in self._best(queries):
            scores[:, scored.pictures] = scored.best
        return scores

    def _best(self, queries: npt.NDArray[np.float32]) -> Iterator[_Scored]:
        """Every picture once, in blocks."""
        products = np.empty(0, dtype=np.float32)
        for block in self._blocks(len(queries)):
            size = len(queries) * len(block.vectors)
            if products.size < size:
                products = np.empty(size, dtype=np.float32)
            # In this order a query's products lie side by side, so that their maxima are quickly found.
            product = products[:size].reshape(len(queries), len(block.vectors))
            best = np.maximum.reduceat(np.matmul(queries, block.vectors.T, out=product), block.starts[:-1], axis=1)
            live = block.pictures >= 0
            yield _Scored(block.pictures, best) if live.all() else _Scored(block.pictures[live], best[:, live])

    def _blocks(self, queries: int) -> Iterator[Block]:
        rows = min(max(_PRODUCTS // max(queries, 1), 1024), _BLOCK_ROWS)
        if self.resident is not None:
            yield from self.resident.blocks(rows)
            return
        starts = self._snapshot.starts
        for first, end, vectors in self._snapshot.runs(rows):
            pictures = np.arange(first, end, dtype=np.int64)
            yield Block(vectors.astype(np.float32), starts[first : end + 1] - starts[first], pictures)


class _Scored(NamedTuple):
    """Pictures and their best cosines: (N,) numbers in the snapshot, and (Q, N)."""

    pictures: npt.NDArray[np.int64]
    best: npt.NDArray[np.float32]


def _keep_best(
    kept: list[Candidates],
    blocks: list[_Scored],
    ks: Sequence[int],
    allowed: Sequence[npt.NDArray[np.bool_] | None],
) -> None:
    """Merge the scores of more pictures into each query's best of those that it allows."""
    of_all = np.concatenate([block.best for block in blocks], axis=1)
    seen = np.concatenate([block.pictures for block in blocks])
    for query, (scores, k, may_be) in enumerate(zip(of_all, ks, allowed, strict=True)):
        held_pictures, held_scores = kept[query]
        entering = seen
        if may_be is not None:
            chosen = may_be[seen]
            entering, scores = entering[chosen], scores[chosen]
        if len(held_scores) >= k:  # what cannot enter is left out before anything is copied
            enters = scores >= held_scores.min()
            entering, scores = entering[enters], scores[enters]
        pictures = np.concatenate([held_pictures, entering])
        scores = np.concatenate([held_scores, scores])
        if len(scores) > k:
            best = scores >= np.partition(scores, -k)[-k] - ROUNDING
            pictures, scores = pictures[best], scores[best]
        kept[query] = Candidates(pictures, scores)
