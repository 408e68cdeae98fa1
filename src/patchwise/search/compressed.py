"""Compressed search: codes are scanned for regions that may rank, whose stored vectors then decide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy

import numpy as np
import numpy.typing as npt

from patchwise.search.base import Candidates
from patchwise.search.code_index import CodeIndex, Nearest
from patchwise.search.exact import ROUNDING, ExactSearcher
from patchwise.search.margins import DEFAULT_RECALL, Margins
from patchwise.search.rescoring import row_scores
from patchwise.store import Snapshot

__all__ = ["CompressedSearcher", "Pursuit"]

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

    def __init__(
        self, snapshot: Snapshot, index: CodeIndex, margins: Margins, *, recall: float = DEFAULT_RECALL
    ) -> None:
        self._snapshot, self._index, self._margins, self._recall = snapshot, index, margins, recall
        self._exact = ExactSearcher(snapshot, resident_bytes=0)
        self._pieces = index.pieces(*snapshot.places, np.diff(snapshot.starts))
        self._live = self._rows_per_segment(None)

    def aiming_at(self, recall: float, margins: Margins | None = None) -> CompressedSearcher:
        """The same codes, searched for another recall or with other margins."""
        other = copy(self)  # what takes time for many pictures is not done again
        other._margins, other._recall = margins or self._margins, recall
        return other

    def top(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[Candidates]:
        """The best k pictures of each query at the recall aimed at, and every picture that ties with the last of them.

        `allowed` says which pictures may be found: (pictures,) bool.
        """
        of_segment = self._live if allowed is None else self._rows_per_segment(allowed)
        wanted = int(of_segment.sum())
        regions = max(self._margins.expected_regions(self._recall, k), _LEAST_REGIONS)
        if wanted <= regions + self._index.rows.sum() // _SCANNED_PER_SCORED:
            return self._exact.top(queries, k, allowed)
        margin = self._margins.margin(self._recall, k)
        found = [
            pursuit.best(k, regions, margin) for pursuit in self._pursuits(queries, k, regions, allowed, of_segment)
        ]
        wanted_pictures = min(k, len(self._snapshot) if allowed is None else int(np.count_nonzero(allowed)))
        short = [number for number, each in enumerate(found) if len(each.pictures) < wanted_pictures]
        if short:  # codes that say nothing, as those of inverted lists where all vectors are alike
            for number, exact in zip(short, self._exact.top(queries[short], k, allowed), strict=True):
                found[number] = exact
        return found

    def pursuits(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        regions: int,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Iterator[Pursuit]:
        """The best regions of each query by their codes, about this many, for those who score them as they like."""
        of_segment = self._live if allowed is None else self._rows_per_segment(allowed)
        return self._pursuits(queries, k, regions, allowed, of_segment)

    def _pursuits(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        regions: int,
        allowed: npt.NDArray[np.bool_] | None,
        of_segment: npt.NDArray[np.int64],
    ) -> Iterator[Pursuit]:
        wanted = max(int(of_segment.sum()), 1)
        # A segment may hold more than its share of what is sought, most of all a small one.
        share = regions * self._index.rows / wanted
        depths = np.where(of_segment > 0, share + 4 * np.sqrt(share) + _LEAST_REGIONS, 0).astype(np.int64)
        lists = self._lists(k, wanted)
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            group = queries[first : first + _QUERIES_AT_ONCE]
            for query, nearest in zip(group, self._index.scan(group, depths, lists), strict=True):
                yield Pursuit(self._snapshot, self._index, self._margins, query, allowed, depths, lists, nearest)

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


class Pursuit:
    """One query on its way: regions found by their codes, of which some are scored by their vectors."""

    def __init__(
        self,
        snapshot: Snapshot,
        index: CodeIndex,
        margins: Margins,
        query: npt.NDArray[np.float32],
        allowed: npt.NDArray[np.bool_] | None,
        depths: npt.NDArray[np.int64],
        lists: int,
        nearest: list[Nearest],
    ) -> None:
        self._snapshot, self._index, self._margins = snapshot, index, margins
        self._query, self._allowed = query, allowed
        self._depths, self._lists, self._nearest = depths.copy(), lists, nearest
        self._gather()

    def best(self, k: int, regions: int, margin: float) -> Candidates:
        """The k best pictures and those that tie with the last of them.

        At first the best `regions` by code are scored by their vectors, then every one that is expected to come within
        `margin` of the k-th best picture so far.
        """
        scored = np.zeros(len(self._rows), dtype=np.bool_)
        scores = np.full(len(self._snapshot), -np.inf, dtype=np.float32)  # of each picture, by its best region so far
        todo = self._best_of_codes(regions, scored)
        while True:
            if len(todo):
                np.maximum.at(scores, self._pictures[todo], self._scores_of(todo))
                scored[todo] = True
            touched = np.flatnonzero(scores > -np.inf)
            kth = -np.inf
            if len(touched) < k:
                todo = self._best_of_codes(max(len(todo), regions), scored)
            else:
                kth = float(np.partition(scores[touched], -k)[-k])
                todo = np.flatnonzero(~scored & (self._code_scores >= kth - margin))
            if len(todo):
                continue
            known = self._rows[scored]
            if not self._deepen(kth - margin):
                break
            scored = np.isin(self._rows, known)
        if len(touched) < k and (wider := self._wider()) is not None:
            return wider.best(k, regions, margin)
        kept = touched[scores[touched] >= kth - ROUNDING]
        return Candidates(kept.astype(np.int64), scores[kept])

    def within(self, score: float) -> int:
        """How many regions are expected to reach a score."""
        while self._deepen(score):
            pass
        return int(np.count_nonzero(self._code_scores >= score))

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
        self._code_scores[np.isnan(self._code_scores)] = np.inf  # codes that say nothing
        self._pictures: npt.NDArray[np.int64] = np.concatenate(pictures)
        self._rows: npt.NDArray[np.int64] = np.concatenate(rows)
        self._scores = np.full(len(self._rows), np.nan, dtype=np.float32)  # exact, as far as they were asked for

    def _expected(self, code_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """The scores to be expected of the vectors behind codes."""
        return (self._margins.slope * code_scores + self._margins.offset).astype(np.float32)

    def _best_of_codes(self, count: int, scored: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The regions not scored yet whose codes fit best."""
        left = np.flatnonzero(~scored)
        if count >= len(left):
            return left
        best: npt.NDArray[np.int64] = left[np.argpartition(self._code_scores[left], -count)[-count:]]
        return best

    def _scores_of(self, regions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        unknown = regions[np.isnan(self._scores[regions])]
        if len(unknown):
            self._scores[unknown] = row_scores(self._snapshot, self._rows[unknown], self._query)
        return self._scores[regions]

    def _deepen(self, cutoff: float) -> bool:
        """Look for more regions in the segments that were left above the cutoff; False where there are none."""
        floors = np.array([nearest.floor for nearest in self._nearest])
        shallow = (self._expected(floors) >= cutoff) & (floors > -np.inf)
        if not shallow.any():
            return False
        self._depths[shallow] *= _DEEPER
        self._look_again(shallow)
        return True

    def _wider(self) -> Pursuit | None:
        """The same query among more inverted lists; None where there are none."""
        if self._lists >= self._index.codec.lists:
            return None
        lists = min(_WIDER * self._lists, self._index.codec.lists)
        nearest = self._index.scan(self._query[None], self._depths, lists)[0]
        return Pursuit(
            self._snapshot, self._index, self._margins, self._query, self._allowed, self._depths, lists, nearest
        )

    def _look_again(self, segments: npt.NDArray[np.bool_]) -> None:
        depths = np.where(segments, self._depths, 0)
        found = self._index.scan(self._query[None], depths, self._lists)[0]
        for number in np.flatnonzero(segments):
            self._nearest[number] = found[number]
        rows, scores = self._rows, self._scores
        self._gather()
        order = np.argsort(rows)
        place = np.minimum(np.searchsorted(rows, self._rows, sorter=order), max(len(rows) - 1, 0))
        if len(rows):
            same = rows[order[place]] == self._rows
            self._scores[same] = scores[order[place[same]]]
