"""Compressed search: codes are scanned for regions that may rank, whose stored vectors then decide."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

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
    its vector whose code lets expect a score above that of the k-th best picture so far, less a margin; but of pictures
    that are among the k best already no more are scored.

    Args:
        snapshot: what to search.
        index: its codes.
        margins: what was measured with them.
        recall: share of the true best pictures to be found, in (0, 1).
    """

    def __init__(
        self, snapshot: Snapshot, index: CodeIndex, margins: Margins, *, recall: float = DEFAULT_RECALL
    ) -> None:
        self._snapshot, self.index, self._margins, self._recall = snapshot, index, margins, recall
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
        if wanted <= regions + self.index.rows.sum() // _SCANNED_PER_SCORED:
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
        limit: int = sys.maxsize,
    ) -> Iterator[Pursuit]:
        """The best regions of each query by their codes, about this many, for those who score them as they like.

        A query that knows more than `limit` regions already looks for no others.
        """
        of_segment = self._live if allowed is None else self._rows_per_segment(allowed)
        for pursuit in self._pursuits(queries, k, regions, allowed, of_segment):
            pursuit.limit = limit
            yield pursuit

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
        share = regions * self.index.rows / wanted
        depths = np.where(of_segment > 0, share + 4 * np.sqrt(share) + _LEAST_REGIONS, 0).astype(np.int64)
        lists = self._lists(k, wanted)
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            group = queries[first : first + _QUERIES_AT_ONCE]
            for query, nearest in zip(group, self.index.scan(group, depths, lists), strict=True):
                yield Pursuit(self._snapshot, self.index, self._margins, query, allowed, depths, lists, nearest)

    def _lists(self, k: int, wanted: int) -> int:
        """How many inverted lists to look at: more where fewer of the regions in each may be found, or more hits."""
        rarer = float(self.index.rows.sum()) / wanted
        more = max(k / self._margins.regions[-1][0], 1.0)
        return min(math.ceil((self._margins.lists or self.index.codec.lists) * rarer * more), self.index.codec.lists)

    def _rows_per_segment(self, allowed: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
        pictures, segments, rows = self._pieces
        if allowed is not None:
            kept = allowed[pictures]
            segments, rows = segments[kept], rows[kept]
        return np.bincount(segments, weights=rows, minlength=len(self.index)).astype(np.int64)


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
        self._depths, self._lists, self.limit = depths.copy(), lists, sys.maxsize
        self._floors = np.array([of_segment.floor for of_segment in nearest])
        self._parts = [self._part(number, of_segment) for number, of_segment in enumerate(nearest)]
        self._code_scores: npt.NDArray[np.float32]
        self._pictures: npt.NDArray[np.int64]
        self._rows: npt.NDArray[np.int64]
        self._put_side_by_side()

    def best(self, k: int, regions: int, margin: float) -> Candidates:
        """The k best pictures and those that tie with the last of them.

        At first, of the best `regions` by code, the best of each picture is scored by its vector; then every region
        that is expected to come within `margin` of the k-th best picture so far, unless its own picture is among the k
        best already.
        """
        scored = np.zeros(len(self._rows), dtype=np.bool_)
        scores = np.full(len(self._snapshot), -np.inf, dtype=np.float32)  # of each picture, by its best region so far
        todo = self._one_of_each_picture(self._best_of_codes(regions, scored))
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
                near = np.flatnonzero(~scored & (self._code_scores >= kth - margin))
                todo = near[scores[self._pictures[near]] < kth]
            if len(todo):
                continue
            moved = self._deepen(kth - margin)
            if moved is None:
                break
            scored_before, scored = moved[scored], np.zeros(len(self._rows), dtype=np.bool_)
            scored[scored_before[scored_before >= 0]] = True
        if len(touched) < k and (wider := self._wider()) is not None:
            return wider.best(k, regions, margin)
        kept = touched[scores[touched] >= kth - ROUNDING]
        return Candidates(kept.astype(np.int64), scores[kept])

    def within(self, score: float) -> int:
        """How many regions are expected to reach a score."""
        while self._deepen(score) is not None:
            pass
        return int(np.count_nonzero(self._code_scores >= score))

    def _part(self, number: int, nearest: Nearest) -> _Part:
        """What was found in a segment, but for regions of pictures that may not be found."""
        pictures, rows = self._snapshot.live_rows(int(self._index.shards[number]), nearest.rows)
        usable = pictures >= 0
        if self._allowed is not None:
            usable &= self._allowed[pictures]
        expected = self._expected(nearest.scores[usable])
        expected[np.isnan(expected)] = np.inf  # codes that say nothing
        return _Part(expected, pictures[usable], rows[usable])

    def _put_side_by_side(self) -> None:
        self._code_scores, self._pictures, self._rows = map(np.concatenate, zip(*self._parts, strict=True))
        self._scores = np.full(len(self._rows), np.nan, dtype=np.float32)  # exact, as far as they were asked for

    def _expected(self, code_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """The scores to be expected of the vectors behind codes."""
        return (self._margins.slope * code_scores + self._margins.offset).astype(np.float32)

    def _best_of_codes(self, count: int, scored: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The regions not scored yet whose codes fit best."""
        left = np.flatnonzero(~scored)
        if count >= len(left):
            return left
        best: npt.NDArray[np.int64] = left[np.sort(np.argpartition(self._code_scores[left], -count)[-count:])]
        return best

    def _one_of_each_picture(self, regions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The regions whose codes fit best in their own picture."""
        best = np.full(len(self._snapshot), -np.inf, dtype=np.float32)
        pictures, code_scores = self._pictures[regions], self._code_scores[regions]
        np.maximum.at(best, pictures, code_scores)
        return regions[code_scores >= best[pictures]]

    def _scores_of(self, regions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        unknown = regions[np.isnan(self._scores[regions])]
        if len(unknown):
            self._scores[unknown] = row_scores(self._snapshot, self._rows[unknown], self._query)
        return self._scores[regions]

    def _deepen(self, cutoff: float) -> npt.NDArray[np.int64] | None:
        """Look for more regions in the segments that were left above the cutoff; None where there are none.

        Returns where each region known before now is, -1 where it is no more.
        """
        # A floor that is no number says nothing, and hides nothing.
        shallow = ~(self._expected(self._floors) < cutoff) & (self._floors != -np.inf)
        if not shallow.any() or len(self._rows) > self.limit:
            return None
        self._depths[shallow] *= _DEEPER
        return self._look_again(shallow)

    def _wider(self) -> Pursuit | None:
        """The same query among more inverted lists; None where there are none."""
        if self._lists >= self._index.codec.lists:
            return None
        lists = min(_WIDER * self._lists, self._index.codec.lists)
        nearest = self._index.scan(self._query[None], self._depths, lists)[0]
        return Pursuit(
            self._snapshot, self._index, self._margins, self._query, self._allowed, self._depths, lists, nearest
        )

    def _look_again(self, segments: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        found = self._index.scan(self._query[None], np.where(segments, self._depths, 0), self._lists)[0]
        scores, moved, end = self._scores, [], 0
        for number, before in enumerate(self._parts):
            places = np.arange(len(before.rows))
            if segments[number]:
                self._floors[number] = found[number].floor
                self._parts[number] = self._part(number, found[number])
                places = _places(before.rows, self._parts[number].rows)
            moved.append(np.where(places >= 0, places + end, -1))
            end += len(self._parts[number].rows)
        self._put_side_by_side()
        there = np.concatenate(moved)
        self._scores[there[there >= 0]] = scores[there >= 0]
        return there


class _Part(NamedTuple):
    """Regions of one segment: (N,) scores to be expected, pictures, and live rows."""

    code_scores: npt.NDArray[np.float32]
    pictures: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


def _places(rows: npt.NDArray[np.int64], among: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each of some rows is among others, -1 where it is not."""
    if not len(among):
        return np.full(len(rows), -1, dtype=np.int64)
    order = np.argsort(among)
    places = order[np.minimum(np.searchsorted(among, rows, sorter=order), len(among) - 1)]
    return np.where(among[places] == rows, places, -1)
