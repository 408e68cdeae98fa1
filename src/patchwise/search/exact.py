"""Exact search: every vector of every live picture is compared with every query."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from patchwise.store import Snapshot

__all__ = ["ExactSearcher"]

_BLOCK_ROWS = 65_536
# Two float32 sums of the same products, in another order, differ by less than this for unit vectors.
_ROUNDING = 1e-5


class ExactSearcher:
    """Brute force over one float32 copy of the vectors, or over the mapped fp16 shards where that would not fit.

    Args:
        snapshot: what to search.
        resident_bytes: keep the vectors in memory if they take at most this much (default: half of the memory
            that is free now); 0 never does.
    """

    def __init__(self, snapshot: Snapshot, resident_bytes: int | None = None) -> None:
        self._snapshot = snapshot
        allowed = _free_memory() // 2 if resident_bytes is None else resident_bytes
        self._matrix: npt.NDArray[np.float32] | None = None
        if 4 * snapshot.rows * snapshot.dimension <= allowed:
            self._matrix = np.empty((snapshot.rows, snapshot.dimension), dtype=np.float32)
            for first, end, vectors in snapshot.runs(_BLOCK_ROWS):
                self._matrix[snapshot.starts[first] : snapshot.starts[end]] = vectors

    def candidates(self, queries: npt.NDArray[np.float32], k: int) -> list[npt.NDArray[np.int64]]:
        """The k best pictures of each query and every picture that ties with the last of them."""
        if len(self._snapshot) == 0:
            return [np.empty(0, dtype=np.int64) for _ in queries]
        best = self.scores(queries)
        k = min(k, best.shape[1])
        floor = np.partition(best, -k, axis=1)[:, -k] - _ROUNDING
        return [np.flatnonzero(row >= limit) for row, limit in zip(best, floor, strict=True)]

    def scores(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Each picture's best cosine: (Q, pictures) float32, for (Q, dimension) unit queries."""
        best = np.empty((len(queries), len(self._snapshot)), dtype=np.float32)
        for first, end, vectors in self._blocks(len(queries)):
            starts = self._snapshot.starts[first:end] - self._snapshot.starts[first]
            if len(queries) == 1:
                best[0, first:end] = np.maximum.reduceat(vectors @ queries[0], starts)
            else:
                best[:, first:end] = np.maximum.reduceat(queries @ vectors.T, starts, axis=1)
        return best

    def _blocks(self, queries: int) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
        snapshot = self._snapshot
        if self._matrix is None:
            for first, end, vectors in snapshot.runs(_BLOCK_ROWS):
                yield first, end, vectors.astype(np.float32)
        elif queries == 1:
            yield 0, len(snapshot), self._matrix
        else:
            first = 0
            while first < len(snapshot):
                end = int(np.searchsorted(snapshot.starts, snapshot.starts[first] + _BLOCK_ROWS, side="right")) - 1
                end = min(max(end, first + 1), len(snapshot))
                yield first, end, self._matrix[snapshot.starts[first] : snapshot.starts[end]]
                first = end


def _free_memory() -> int:
    """Bytes of memory that can be taken without pushing other programs out."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 * 2**30
