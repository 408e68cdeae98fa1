"""Vectors held in memory as float32: what a gallery gains is appended, and what it loses is passed over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.store import Snapshot

__all__ = ["Block", "ResidentVectors"]

_SEGMENT_BYTES = 64 * 2**20
_ROWS_AT_ONCE = 16_384
_SPARSE = 0.5  # share of a segment's rows in use below which it is made anew


class Block(NamedTuple):
    """Pictures that lie side by side in memory.

    `vectors` (rows, dimension) float32; picture i begins at row `starts[i]`, and `starts` ends with the number of rows;
    `pictures` (N,) int64 are their numbers in the snapshot, -1 where one has left the gallery.
    """

    vectors: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    pictures: npt.NDArray[np.int64]


class _Buffer:
    """Memory for rows; the first `filled` of them never change again."""

    def __init__(self, rows: int, dimension: int) -> None:
        self.rows = np.empty((rows, dimension), dtype=np.float32)  # takes memory as it is filled
        self.filled = 0


@dataclass(frozen=True, eq=False)
class _Segment:
    """Pictures in the first rows of a buffer: what they are, and where each begins (and the last one ends)."""

    buffer: _Buffer
    ids: npt.NDArray[np.int64]
    codecs: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int, dimension: int) -> _Segment:
        nothing = np.empty(0, dtype=np.int64)
        return cls(_Buffer(rows, dimension), nothing, nothing, np.zeros(1, dtype=np.int64))

    @property
    def filled(self) -> int:
        return int(self.starts[-1])

    @property
    def room(self) -> int:
        """Rows that can still be appended; none where a later state has done so already."""
        return len(self.buffer.rows) - self.filled if self.buffer.filled == self.filled else 0

    def with_more(
        self,
        vectors: npt.NDArray[np.float16],
        ids: npt.NDArray[np.int64],
        codecs: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
    ) -> _Segment:
        """The same rows and some behind them, for which there is room."""
        end = self.filled + len(vectors)
        self.buffer.rows[self.filled : end] = vectors
        self.buffer.filled = end
        starts = np.concatenate([self.starts, self.filled + np.cumsum(counts)])
        return _Segment(self.buffer, np.concatenate([self.ids, ids]), np.concatenate([self.codecs, codecs]), starts)


class ResidentVectors:
    """All live vectors of a snapshot, in memory.

    Those of an earlier state that are still live are taken over as they are, wherever compaction has put them on disk:
    only the others are read. Whoever goes on with the earlier state is not disturbed.

    Only `within` makes them.
    """

    def __init__(self) -> None:
        self._segments: list[_Segment] = []
        self._pictures: list[npt.NDArray[np.int64]] = []  # of each segment, as in `Block`

    @classmethod
    def within(
        cls, most_bytes: int, snapshot: Snapshot, before: ResidentVectors | None = None
    ) -> ResidentVectors | None:
        """The vectors of a snapshot; None where those that have to be read take more memory.

        Args:
            most_bytes: how much.
            snapshot: whose vectors.
            before: an earlier state of the same gallery.
        """
        codecs = _codecs(snapshot)
        missing = np.ones(len(snapshot), dtype=np.bool_)
        made = cls()
        for segment in before._segments if before is not None else ():
            pictures = _live(segment, snapshot, codecs)
            there = pictures >= 0
            if np.diff(segment.starts)[there].sum() > _SPARSE * segment.filled:
                made._segments.append(segment)
                made._pictures.append(pictures)
                missing[pictures[there]] = False
        if 4 * snapshot.dimension * int(np.diff(snapshot.starts)[missing].sum()) > most_bytes:
            return None
        made._read(snapshot, codecs, missing)
        return made

    def blocks(self, max_rows: int) -> Iterator[Block]:
        """Every vector, in blocks of at most `max_rows` rows, or of one picture where that alone has more."""
        for segment, pictures in zip(self._segments, self._pictures, strict=True):
            starts, first = segment.starts, 0
            while first < len(pictures):
                end = int(np.searchsorted(starts, starts[first] + max_rows, side="right")) - 1
                end = min(max(end, first + 1), len(pictures))
                vectors = segment.buffer.rows[starts[first] : starts[end]]
                yield Block(vectors, starts[first : end + 1] - starts[first], pictures[first:end])
                first = end

    def _read(self, snapshot: Snapshot, codecs: npt.NDArray[np.int64], missing: npt.NDArray[np.bool_]) -> None:
        for first, end, vectors in snapshot.runs(_ROWS_AT_ONCE, missing):
            starts = snapshot.starts[first : end + 1] - snapshot.starts[first]
            begin, count = 0, end - first
            while begin < count:
                room = self._segments[-1].room if self._segments else 0
                stop = int(np.searchsorted(starts, starts[begin] + room, side="right")) - 1
                if stop <= begin:
                    rows = max(_SEGMENT_BYTES // (4 * snapshot.dimension), int(starts[begin + 1] - starts[begin]))
                    self._segments.append(_Segment.empty(rows, snapshot.dimension))
                    self._pictures.append(np.empty(0, dtype=np.int64))
                    continue
                these = slice(first + begin, first + stop)
                self._segments[-1] = self._segments[-1].with_more(
                    vectors[starts[begin] : starts[stop]],
                    snapshot.ids[these],
                    codecs[these],
                    np.diff(starts[begin : stop + 1]),
                )
                self._pictures[-1] = np.concatenate([self._pictures[-1], np.arange(first + begin, first + stop)])
                begin = stop


def _live(segment: _Segment, snapshot: Snapshot, codecs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers of a segment's pictures in a snapshot, -1 where one is not there with the same vectors."""
    pictures = snapshot.find(segment.ids)
    same = pictures >= 0
    same[same] = codecs[pictures[same]] == segment.codecs[same]
    return np.where(same, pictures, -1)


def _codecs(snapshot: Snapshot) -> npt.NDArray[np.int64]:
    """A number for the codec that each picture's vectors are decoded by, 0 for fp16: (pictures,) int64.

    A picture never changes, but where only codes are kept from then on its vectors are others.
    """
    shards = np.array(list(snapshot.shards), dtype=np.int64)
    digests = (snapshot.codec_digest(shard) for shard in snapshot.shards)
    numbers = np.array([int(digest[:15], 16) if digest else 0 for digest in digests], dtype=np.int64)
    numbers_of: npt.NDArray[np.int64] = numbers[np.searchsorted(shards, snapshot.places[0])]
    return numbers_of
