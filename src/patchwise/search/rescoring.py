"""Cosines of a query with chosen stored vectors, many at a time, straight from fp16."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from patchwise.store import Snapshot
from patchwise.threads import in_threads

__all__ = ["row_scores"]

_ROWS_AT_ONCE = 2_048  # vectors scored by one call: few enough to stay in a cache


def row_scores(
    snapshot: Snapshot, rows: npt.NDArray[np.int64], query: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Cosines of one (dimension,) unit query with live rows in any order: (N,) int64 to (N,) float32.

    Exact up to the order of a float32 sum.
    """
    parts = [rows[first : first + _ROWS_AT_ONCE] for first in range(0, len(rows), _ROWS_AT_ONCE)]
    scored = list(in_threads(lambda part: _scored(snapshot, part, query), parts))
    return np.concatenate(scored) if scored else np.empty(0, dtype=np.float32)


def _scored(snapshot: Snapshot, rows: npt.NDArray[np.int64], query: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """FAISS multiplies fp16 as it stands, several times as fast as numpy, which turns it to float32 first."""
    import faiss

    order = np.argsort(rows)  # memory is read forward
    vectors = snapshot.gather(rows[order])
    count, dimension = vectors.shape
    index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True  # there is nothing to learn for fp16
    index.add_sa_codes(vectors.view(np.uint8))
    best_first, places = index.search(np.ascontiguousarray(query[None]), count)
    scores = np.empty(count, dtype=np.float32)
    scores[order[places[0]]] = best_first[0]
    return scores
