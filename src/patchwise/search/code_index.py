"""Codes of a snapshot's shards in memory, ready to be scanned in segments by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.codecs import Codec
from patchwise.store import Snapshot
from patchwise.threads import in_threads

__all__ = ["CodeIndex", "CodeSource", "Nearest"]

# Gives the codes of a shard, of its first rows or of all: (rows, code_bytes) uint8.
CodeSource = Callable[[int], npt.NDArray[np.uint8]]

_SEGMENT_ROWS = 131_072  # scanned by one thread in a fraction of a millisecond, so that all threads stay busy
_LIST_SEGMENTS = 2  # inverted lists are cut up as little as can be: each part looks up the same lists
_ENCODED_AT_ONCE = 65_536


@dataclass(frozen=True, eq=False)
class Nearest:
    """The regions of a segment whose codes fit one query best, best first: (N,) code scores and rows of the shard.

    `floor` is what every region left out stays at or below; minus infinity where none was.
    """

    scores: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    floor: float


class _Segment(NamedTuple):
    """What FAISS scans, and its codes where more may follow behind them."""

    index: Any
    codes: npt.NDArray[np.uint8] | None


class _Part(NamedTuple):
    """Rows `first` to `end` of a shard, of which those before `through` are held already."""

    shard: int
    first: int
    end: int
    through: int
    held: _Segment | None = None


class CodeIndex:
    """Every code of a snapshot, live or dead; rows that have none yet are encoded first.

    Segment i holds rows `firsts[i]` to `firsts[i] + rows[i]` of shard `shards[i]`.

    Args:
        snapshot: what to search.
        codec: of its codes.
        codes: gives them.
        before: that of an earlier state of the same gallery, of which all is taken over that has not changed.
    """

    def __init__(self, snapshot: Snapshot, codec: Codec, codes: CodeSource, before: CodeIndex | None = None) -> None:
        self.codec, self._snapshot = codec, snapshot
        size = _SEGMENT_ROWS if codec.lists == 0 else max(_SEGMENT_ROWS, -(-snapshot.rows // _LIST_SEGMENTS))
        held = before._unchanged(snapshot, codec) if before is not None else {}
        parts = [part for shard in snapshot.shards for part in _parts(snapshot, shard, held.get(shard, []), size)]
        self.shards = np.array([part.shard for part in parts], dtype=np.int64)
        self.firsts = np.array([part.first for part in parts], dtype=np.int64)
        self.rows = np.array([part.end - part.first for part in parts], dtype=np.int64)
        to_read = list(dict.fromkeys(part.shard for part in parts if part.through < part.end))
        stored = dict(zip(to_read, in_threads(codes, to_read), strict=True))

        def segment(part: _Part) -> _Segment:
            if part.held is not None and part.through == part.end:
                return part.held
            known = stored[part.shard][part.through : part.end]
            missing = [
                codec.encode(
                    snapshot.shard_vectors(part.shard, start, min(start + _ENCODED_AT_ONCE, part.end)).astype(
                        np.float32
                    )
                )
                for start in range(part.through + len(known), part.end, _ENCODED_AT_ONCE)
            ]
            before_them = [] if part.held is None or part.held.codes is None else [part.held.codes]
            whole = np.concatenate([*before_them, known, *missing]) if before_them or missing else known
            grows = part.end - part.first < _SEGMENT_ROWS and part.end == snapshot.shards[part.shard]
            return _Segment(codec.segment(whole), np.array(whole) if grows else None)

        self._segments: Sequence[_Segment] = list(in_threads(segment, parts))

    def __len__(self) -> int:
        return len(self._segments)

    def _unchanged(self, snapshot: Snapshot, codec: Codec) -> dict[int, list[tuple[int, int, _Segment]]]:
        """By shard, segments whose codes are those of a later snapshot too: first row, one past the last, and itself.

        What is live has its id, which never comes back. Whatever lies in the place of what is dead is never found.
        """
        if codec.digest != self.codec.digest:
            return {}
        old, (shards, firsts) = self._snapshot, snapshot.places
        known = old.find(snapshot.ids)
        new = known < 0
        if len(old):
            new |= (old.places[0][known] != shards) | (old.places[1][known] != firsts)
        ends = np.array([old.shards.get(shard, 0) for shard in shards[new].tolist()], dtype=np.int64)
        rows = np.minimum(np.diff(snapshot.starts)[new], ends - firsts[new])
        inside = rows > 0  # not behind everything that was there
        _, segments, _ = self.pieces(shards[new][inside], firsts[new][inside], rows[inside])
        changed = set(segments.tolist())
        kept: dict[int, list[tuple[int, int, _Segment]]] = {}
        of_segments = zip(self.shards.tolist(), self.firsts.tolist(), self.rows.tolist(), self._segments, strict=True)
        for number, (shard, first, count, segment) in enumerate(of_segments):
            same = shard in snapshot.shards and snapshot.codec_digest(shard) == old.codec_digest(shard)
            if same and first + count <= snapshot.shards[shard] and number not in changed:
                kept.setdefault(shard, []).append((first, first + count, segment))
        return kept

    def segments_of(self, shards: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which segments hold some rows of shards: two (N,) int64 to one."""
        # Segments are ordered by shard and row, so that both together are one rising number.
        base = int(self.firsts.max(initial=0) + self.rows.max(initial=0)) + 1
        found: npt.NDArray[np.int64] = (
            np.searchsorted(self.shards * base + self.firsts, shards * base + rows, side="right") - 1
        )
        return found

    def pieces(
        self, shards: npt.NDArray[np.int64], firsts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Stretches of rows as the segments cut them up: pieces as which stretch, in which segment, of how many rows.

        Three (N,) int64 of stretches, each within one shard, to three (M,) int64, where M is at least N.
        """
        stretches, segments = np.arange(len(rows)), self.segments_of(shards, firsts)
        parts = []
        while len(stretches):
            here = np.minimum(rows, self.firsts[segments] + self.rows[segments] - firsts)
            parts.append((stretches, segments, here))
            on = here < rows
            stretches, segments = stretches[on], segments[on] + 1
            firsts, rows = firsts[on] + here[on], rows[on] - here[on]
        if not parts:
            nothing = np.empty(0, dtype=np.int64)
            return nothing, nothing, nothing
        of_stretch, of_segment, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        return of_stretch, of_segment, counts

    def scan(
        self,
        queries: npt.NDArray[np.float32],
        depths: npt.NDArray[np.int64],
        lists: int = 0,
    ) -> list[list[Nearest]]:
        """The regions nearest to each of (Q, dimension) unit queries, segment by segment.

        Args:
            queries: what to look for.
            depths: (segments,) how many regions of each; a segment with 0 is not looked at.
            lists: how many inverted lists to look at, where the codec has them.

        Returns:
            For each query, one `Nearest` per segment.
        """
        transformed = self.codec.transformed(queries)

        def look(number: int) -> list[Nearest]:
            depth = int(min(depths[number], self.rows[number]))
            if depth == 0:
                nothing = np.empty(0, dtype=np.int64)
                return [Nearest(nothing.astype(np.float32), nothing, -np.inf)] * len(transformed)
            scores, rows = self._search(self._segments[number].index, transformed, depth, lists)
            whole = depth == self.rows[number]
            return [
                _nearest(row_scores, found + self.firsts[number], found >= 0, whole)
                for row_scores, found in zip(scores, rows, strict=True)
            ]

        per_segment = list(in_threads(look, range(len(self))))
        return [list(of_query) for of_query in zip(*per_segment, strict=True)]

    def _search(
        self, segment: Any, queries: npt.NDArray[np.float32], depth: int, lists: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        if not self.codec.lists:
            scores, rows = segment.search(queries, depth)
        else:
            import faiss

            chosen = faiss.SearchParametersIVF(nprobe=min(lists or self.codec.lists, self.codec.lists))
            scores, rows = segment.search(queries, depth, params=chosen)
        return scores, rows


def _parts(snapshot: Snapshot, shard: int, held: Sequence[tuple[int, int, _Segment]], size: int) -> Iterator[_Part]:
    """A shard cut into segments: what is held stays, and its end grows; elsewhere they are of this size."""
    count, first = snapshot.shards[shard], 0
    for begin, end, segment in [*held, (count, count, None)]:
        for start in range(first, begin, size):
            yield _Part(shard, start, min(start + size, begin), start)
        first = end
        if segment is not None:
            if end < count and segment.codes is not None:
                first = min(begin + size, count)
            yield _Part(shard, begin, first, end, segment)


def _nearest(
    scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_], whole: bool
) -> Nearest:
    if not valid.all():  # inverted lists had no more
        return Nearest(scores[valid], rows[valid], -np.inf)
    return Nearest(scores, rows, -np.inf if whole else float(scores[-1]))
