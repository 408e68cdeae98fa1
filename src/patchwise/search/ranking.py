"""From candidates to hits: scores and winning regions from the stored vectors, the same whatever found them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from patchwise.search.base import Explanation, Hit, RegionScore, Searcher
from patchwise.search.significance import Background
from patchwise.store import Selection, Snapshot
from patchwise.threads import in_threads

__all__ = ["explain", "rank"]

_REGIONS_PER_HIT = 10
_ROWS_AT_ONCE = 1_024  # few enough to stay in a cache


def rank(
    snapshot: Snapshot,
    searcher: Searcher,
    queries: npt.NDArray[np.float32],
    *,
    k: int,
    offset: int = 0,
    min_score: float | None = None,
    parts: Sequence[npt.NDArray[np.float32] | None] | None = None,
    selection: Selection | None = None,
    background: Background | None = None,
) -> Iterator[list[Hit]]:
    """Hits `offset` to `offset + k` for each of (Q, dimension) unit queries, in order.

    Scores fall; equal scores are ordered by path, equal regions of an image by region order. `parts` holds, for each
    query that was made of several vectors, these (P, dimension): hits then say how well each of them fits. Only files
    of the `selection` are found. `background` tells how many images would score as high by chance.
    """
    allowed = None if selection is None or selection.everything else snapshot.pictures(selection)
    searched = len(snapshot) if allowed is None else int(np.count_nonzero(allowed))
    if searched == len(snapshot):  # every picture has a file that is selected
        allowed = None
    of_query = [None] * len(queries) if parts is None else parts
    for query, own, candidates in zip(queries, of_query, searcher.top(queries, offset + k, allowed), strict=True):
        scores = dict(zip(candidates.pictures.tolist(), _scores_of(snapshot, candidates.pictures, query), strict=True))
        order = sorted(
            (-float(scores[index].max()), path, index) for path, index in snapshot.paths(list(scores), selection)
        )
        kept = [(path, index) for negated, path, index in order if min_score is None or -negated >= min_score]
        wanted = kept[offset : offset + k]
        by_chance: Sequence[float | None] = [None] * len(wanted)
        if background is not None and wanted:
            expected = background.expected_false_matches(
                query, [float(scores[index].max()) for _, index in wanted], searched
            )
            by_chance = by_chance if expected is None else expected.tolist()
        yield [
            _hit(snapshot, path, index, scores[index], place, own, chance)
            for place, ((path, index), chance) in enumerate(zip(wanted, by_chance, strict=True), start=offset + 1)
        ]


def explain(snapshot: Snapshot, path: str, index: int, query: npt.NDArray[np.float32]) -> Explanation:
    """Score of every region of picture `index` for one unit query."""
    scores = region_scores(snapshot, index, query)
    return Explanation(path, snapshot.size(index), _regions(snapshot, index, scores, np.arange(len(scores))))


def region_scores(snapshot: Snapshot, index: int, query: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine of a unit query with every stored vector of picture `index`: (regions,) float64.

    A sum per row in double precision: equal vectors get equal scores wherever they are stored, which a matrix
    product does not promise.
    """
    products = snapshot.vectors(index).astype(np.float64) * query.astype(np.float64)
    scores: npt.NDArray[np.float64] = products.sum(axis=1)
    return scores


def _scores_of(
    snapshot: Snapshot, pictures: npt.NDArray[np.int64], query: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.float64]]:
    """`region_scores` of many pictures, in their order."""
    if not len(pictures):
        return []
    rows = snapshot.rows_of(pictures)
    ends = np.cumsum(snapshot.starts[pictures + 1] - snapshot.starts[pictures])
    wide = query.astype(np.float64)

    def scored(part: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        products = snapshot.gather(part).astype(np.float64) * wide
        scores: npt.NDArray[np.float64] = products.sum(axis=1)
        return scores

    parts = [rows[first : first + _ROWS_AT_ONCE] for first in range(0, len(rows), _ROWS_AT_ONCE)]
    scores = np.concatenate(list(in_threads(scored, parts) if len(parts) > 1 else map(scored, parts)))
    return np.split(scores, ends[:-1])


def _hit(
    snapshot: Snapshot,
    path: str,
    index: int,
    scores: npt.NDArray[np.float64],
    place: int,
    parts: npt.NDArray[np.float32] | None,
    by_chance: float | None,
) -> Hit:
    best_first = np.argsort(-scores, kind="stable")[:_REGIONS_PER_HIT]
    regions = _regions(snapshot, index, scores, best_first)
    best = regions[0]
    fits: tuple[float, ...] = ()
    if parts is not None:
        products = parts.astype(np.float64) * snapshot.vectors(index)[best_first[0]].astype(np.float64)
        fits = tuple(map(float, products.sum(axis=1)))
    return Hit(place, path, best.score, best.box, best.level, best.cell, snapshot.size(index), regions, fits, by_chance)


def _regions(
    snapshot: Snapshot, index: int, scores: npt.NDArray[np.float64], chosen: npt.NDArray[np.intp]
) -> tuple[RegionScore, ...]:
    table = snapshot.regions(index).table[chosen]
    columns = (table[name].tolist() for name in ("box", "level", "row", "column"))
    return tuple(
        RegionScore((x0, y0, x1, y1), level, (row, column), score)
        for (x0, y0, x1, y1), level, row, column, score in zip(*columns, scores[chosen].tolist(), strict=True)
    )
