"""Exact search: every vector of every live picture is compared with every query."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from patchwise.machine import free_memory
from patchwise.search.base import Candidates
from patchwise.search.rescoring import row_scores
from patchwise.store import Snapshot

__all__ = ["ROUNDING", "ExactSearcher"]

_BLOCK_ROWS = 65_536
_PRODUCTS = 2 * 2**20  # cosines of regions with queries computed at once: few enough to stay in a cache
_WAITING_SCORES = 32 * 2**20  # cosines of pictures with queries gathered before the best are picked
# Two float32 sums of the same products, in another order, differ by less than this for unit vectors.
ROUNDING = 1e-5


class ExactSearcher:
    """Brute force over one float32 copy of the vectors, or over the mapped fp16 shards where that would not fit.

    Args:
        snapshot: what to search.
        resident_bytes: keep the vectors in memory if they take at most this much (default: half of the memory
            that is free now); 0 never does.
    """

    def __init__(self, snapshot: Snapshot, resident_bytes: int | None = None) -> None:
        self._snapshot = snapshot
        allowed = free_memory() // 2 if resident_bytes is None else resident_bytes
        self._matrix: npt.NDArray[np.float32] | None = None
        if 4 * snapshot.rows * snapshot.dimension <= allowed:
            self._matrix = np.empty((snapshot.rows, snapshot.dimension), dtype=np.float32)
            for first, end, vectors in snapshot.runs(_BLOCK_ROWS):
                self._matrix[snapshot.starts[first] : snapshot.starts[end]] = vectors

    def top(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[Candidates]:
        """The k best pictures of each query and every picture that ties with the last of them.

        One pass over the vectors answers all queries; beyond the vectors it takes memory for about k pictures per
        query, however many pictures there are. `allowed` says which pictures may be found: (pictures,) bool.
        """
        if len(queries) == 0:
            return []
        if allowed is not None:
            return self._top_of(queries, k, np.flatnonzero(allowed))
        if len(self._snapshot) <= k:
            everything = np.arange(len(self._snapshot), dtype=np.int64)
            return [Candidates(everything, row) for row in self.scores(queries)]
        kept = [Candidates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        merged = 0
        waiting: list[npt.NDArray[np.float32]] = []
        for first, best in self._best(queries):
            waiting.append(best)
            seen = first + len(best)
            if (seen - merged) * len(queries) >= _WAITING_SCORES or seen == len(self._snapshot):
                _keep_best(kept, merged, waiting, k)
                merged, waiting = seen, []
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
        for first, best in self._best(queries):
            scores[:, first : first + len(best)] = best.T
        return scores

    def _best(self, queries: npt.NDArray[np.float32]) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Blocks of pictures in order: the first picture's index, and (pictures, Q) best cosines."""
        starts = self._snapshot.starts
        products = np.empty(0, dtype=np.float32)
        for first, end, vectors in self._blocks(len(queries)):
            local = starts[first : end + 1] - starts[first]
            if len(queries) == 1:
                yield first, np.maximum.reduceat(vectors @ queries[0], local[:-1])[:, None]
                continue
            if products.size < len(vectors) * len(queries):
                products = np.empty(len(vectors) * len(queries), dtype=np.float32)
            product = products[: len(vectors) * len(queries)].reshape(len(vectors), len(queries))
            np.matmul(vectors, queries.T, out=product)
            best = np.empty((end - first, len(queries)), dtype=np.float32)
            for row, (begin, stop) in zip(best, pairwise(local.tolist()), strict=True):
                np.maximum.reduce(product[begin:stop], axis=0, out=row)  # ten times as fast as reduceat along this axis
            yield first, best

    def _blocks(self, queries: int) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
        snapshot = self._snapshot
        rows = min(max(_PRODUCTS // max(queries, 1), 1024), _BLOCK_ROWS)
        if self._matrix is None:
            for first, end, vectors in snapshot.runs(rows):
                yield first, end, vectors.astype(np.float32)
        elif queries == 1:
            yield 0, len(snapshot), self._matrix
        else:
            first = 0
            while first < len(snapshot):
                end = int(np.searchsorted(snapshot.starts, snapshot.starts[first] + rows, side="right")) - 1
                end = min(max(end, first + 1), len(snapshot))
                yield first, end, self._matrix[snapshot.starts[first] : snapshot.starts[end]]
                first = end


def _keep_best(
    kept: list[Candidates],
    first: int,
    blocks: list[npt.NDArray[np.float32]],
    k: int,
) -> None:
    """Merge consecutive blocks of (pictures, Q) scores, which begin with picture `first`, into each query's best."""
    rows = np.ascontiguousarray(np.concatenate(blocks).T)
    for query, scores in enumerate(rows):
        held_pictures, held_scores = kept[query]
        if len(held_scores) >= k:  # what cannot enter is left out before anything is copied
            entering = np.flatnonzero(scores >= held_scores.min())
            scores = scores[entering]
        else:
            entering = np.arange(len(scores))
        pictures = np.concatenate([held_pictures, entering + first])
        scores = np.concatenate([held_scores, scores])
        if len(scores) > k:
            best = scores >= np.partition(scores, -k)[-k] - ROUNDING
            pictures, scores = pictures[best], scores[best]
        kept[query] = Candidates(pictures, scores)
