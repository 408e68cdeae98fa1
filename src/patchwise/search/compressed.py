"""Compressed search: codes are scanned for regions that may rank, whose stored vectors then decide."""

from __future__ import annotations

import math
from copy import copy

import numpy as np
import numpy.typing as npt

from patchwise.search.base import Candidates
from patchwise.search.code_index import CodeIndex, Nearest
from patchwise.search.exact import ROUNDING, ExactSearcher
from patchwise.search.margins import Margins
from patchwise.search.rescoring import row_scores
from patchwise.store import Snapshot

__all__ = ["CompressedSearcher"]

_QUERIES_AT_ONCE = 16
_SCANNED_PER_SCORED = 40  # codes that are scanned in the time that one stored vector is scored in
_DEEPER = 4  # times as many regions of a segment where the first ones did not reach far enough
_WIDER = 4  # times as many inverted lists where they hold too few pictures
_LEAST_REGIONS = 64


class CompressedSearcher:
    """Finds candidates by their codes, and scores them by the vectors in the shards.

    A picture's score is that of its best region, as in exact search. A query goes on until every region was scored by
    its vector whose code lets expect a score above that of the k-th best picture so far, less a margin.

    Args:
        snapshot: what to search.
        index: its codes.
        margins: what was measured with them.
        recall: share of the true best pictures to be found, in (0, 1).
    """

    def __init__(self, snapshot: Snapshot, index: CodeIndex, margins: Margins, *, recall: float = 0.99) -> None:
        self._snapshot, self._index, self._margins = snapshot, index, margins
        self._margin = margins.margin(recall)
        self._exact = ExactSearcher(snapshot, resident_bytes=0)
        self._pieces = index.pieces(*snapshot.places, np.diff(snapshot.starts))
        self._live = self._rows_per_segment(None)

    def aiming_at(self, recall: float, margins: Margins | None = None) -> CompressedSearcher:
        """The same codes, searched for another recall or with other margins."""
        other = copy(self)  # what takes time for many pictures is not done again
        other._margins = margins or self._margins
        other._margin = other._margins.margin(recall)
        return other

    def top(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[Candidates]:
        """The best k pictures of each query at the recall aimed at, and every picture that ties with the last of them.

        `allowed` says which pictures may be found: (pictures,) bool.
        """
        found: list[Candidates] = []
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            found += (best for best, _ in self.answers(queries[first : first + _QUERIES_AT_ONCE], k, allowed))
        return found

    def answers(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[tuple[Candidates, int]]:
        """Candidates as by `top`, and how many regions had to be scored for them."""
        of_segment = self._live if allowed is None else self._rows_per_segment(allowed)
        wanted = int(of_segment.sum())
        regions = max(self._margins.expected_regions(k), _LEAST_REGIONS)
        if wanted <= regions + self._index.rows.sum() // _SCANNED_PER_SCORED:
            return [(best, wanted) for best in self._exact.top(queries, k, allowed)]
        # A segment may hold more than its share of what is sought, most of all a small one.
        share = regions * self._index.rows / wanted
        depths = np.where(of_segment > 0, share + 4 * np.sqrt(share) + _LEAST_REGIONS, 0).astype(np.int64)
        lists = self._lists(k, wanted)
        scans = self._index.scan(queries, depths, lists)
        return [
            _Query(self, query, k, allowed, depths, lists, nearest).best(regions)
            for query, nearest in zip(queries, scans, strict=True)
        ]

    def _lists(self, k: int, wanted: int) -> int:
        """How many inverted lists to look at: more where fewer of the regions in each may be found, or more hits."""
        rarer = float(self._index.rows.sum()) / wanted
        more = max(k / self._margins.regions[-1][0], 1.0)
        return min(math.ceil((self._margins.lists or self._index.codec.lists) * rarer * more), self._index.codec.lists)

    def _rows_per_segment(self, allowed: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
        pictures, segments, rows = self._pieces
        if allowed is not None:
            kept = allowed[pictures]
            segments, rows = segments[kept], rows[kept]
        return np.bincount(segments, weights=rows, minlength=len(self._index)).astype(np.int64)


class _Query:
    """One query on its way: regions found by their codes, of which some are scored by their vectors."""

    def __init__(
        self,
        searcher: CompressedSearcher,
        query: npt.NDArray[np.float32],
        k: int,
        allowed: npt.NDArray[np.bool_] | None,
        depths: npt.NDArray[np.int64],
        lists: int,
        nearest: list[Nearest],
    ) -> None:
        self._snapshot, self._index, self._margins = searcher._snapshot, searcher._index, searcher._margins
        self._margin = searcher._margin
        self._query, self._k, self._allowed = query, k, allowed
        self._depths, self._lists, self._nearest = depths.copy(), lists, nearest
        self._scores = np.full(len(self._snapshot), -np.inf, dtype=np.float32)  # best exact score of each picture
        self._gather()

    def best(self, regions: int) -> tuple[Candidates, int]:
        """Candidates, beginning with the exact scores of this many regions; and how many there were to score."""
        todo = self._best_of_codes(regions)
        while True:
            self._score(todo)
            touched = np.flatnonzero(self._scores > -np.inf)
            scores = self._scores[touched]
            if len(touched) < self._k:
                cutoff = -np.inf
                todo = self._best_of_codes(max(len(todo), regions))
            else:
                kth = float(np.partition(scores, -self._k)[-self._k])
                cutoff = kth - self._margin
                todo = np.flatnonzero(~self._scored & (self._code_scores >= cutoff))
            if len(todo):
                continue
            if not self._deepen(cutoff) and not (len(touched) < self._k and self._widen()):
                break
            todo = np.empty(0, dtype=np.int64)
        if len(touched) > self._k:
            kept = scores >= kth - ROUNDING
            touched, scores = touched[kept], scores[kept]
        return Candidates(touched.astype(np.int64), scores), int(np.count_nonzero(self._code_scores >= cutoff))

    def _gather(self) -> None:
        """Put the regions of all segments side by side, but for those of pictures that may not be found."""
        scores, pictures, rows = [], [], []
        for shard, nearest in zip(self._index.shards.tolist(), self._nearest, strict=True):
            of_picture, live_row = self._snapshot.live_rows(shard, nearest.rows)
            usable = of_picture >= 0
            if self._allowed is not None:
                usable &= self._allowed[of_picture]
            scores.append(self._expected(nearest.scores[usable]))
            pictures.append(of_picture[usable])
            rows.append(live_row[usable])
        self._code_scores: npt.NDArray[np.float32] = np.concatenate(scores)
        self._pictures: npt.NDArray[np.int64] = np.concatenate(pictures)
        self._live_rows: npt.NDArray[np.int64] = np.concatenate(rows)
        self._scored = np.zeros(len(self._code_scores), dtype=np.bool_)

    def _expected(self, code_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """The scores to be expected of the vectors behind codes."""
        return (self._margins.slope * code_scores + self._margins.offset).astype(np.float32)

    def _best_of_codes(self, count: int) -> npt.NDArray[np.int64]:
        """The regions not scored yet whose codes fit best."""
        left = np.flatnonzero(~self._scored)
        if count >= len(left):
            return left
        best: npt.NDArray[np.int64] = left[np.argpartition(self._code_scores[left], -count)[-count:]]
        return best

    def _score(self, regions: npt.NDArray[np.int64]) -> None:
        if len(regions):
            scores = row_scores(self._snapshot, self._live_rows[regions], self._query)
            np.maximum.at(self._scores, self._pictures[regions], scores)
            self._scored[regions] = True

    def _deepen(self, cutoff: float) -> bool:
        """Look for more regions in the segments that were left above the cutoff; False where there are none."""
        floors = np.array([nearest.floor for nearest in self._nearest])
        shallow = (self._expected(floors) >= cutoff) & (floors > -np.inf)
        if not shallow.any():
            return False
        self._depths[shallow] *= _DEEPER
        self._look_again(shallow)
        return True

    def _widen(self) -> bool:
        """Look at more inverted lists; False where there are none."""
        if self._lists >= self._index.codec.lists:
            return False
        self._lists = min(_WIDER * self._lists, self._index.codec.lists)
        self._look_again(self._depths > 0)
        return True

    def _look_again(self, segments: npt.NDArray[np.bool_]) -> None:
        depths = np.where(segments, self._depths, 0)
        found = self._index.scan(self._query[None], depths, self._lists)[0]
        for number in np.flatnonzero(segments):
            self._nearest[number] = found[number]
        known = self._live_rows[self._scored]
        self._gather()
        self._scored = np.isin(self._live_rows, known)  # their pictures have their scores already
