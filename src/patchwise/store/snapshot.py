"""A reader's view: the live pictures at one moment, unaffected by what a writer does next."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import numpy as np
import numpy.typing as npt

from patchwise.codecs import Codec
from patchwise.regions import Regions
from patchwise.regions.base import REGION_DTYPE
from patchwise.store.catalogue import Catalogue
from patchwise.store.files import allow_open_files, opening
from patchwise.store.metadata_table import MetadataValue
from patchwise.store.owners import Owners
from patchwise.store.selection import Selection
from patchwise.store.shards import REGIONS, Shards

__all__ = ["Snapshot"]

_SELECTIONS_REMEMBERED = 32


class Snapshot:
    """Live pictures in storage order; picture i owns rows `starts[i]` to `starts[i + 1]` of all live rows."""

    def __init__(self, catalogue: Catalogue, shards: Shards) -> None:
        with catalogue.reading():
            self.version = catalogue.data_version()
            columns = catalogue.columns()
            committed, self._codecs = catalogue.shards(), catalogue.codecs()
            self.metadata_columns: Mapping[str, int] = MappingProxyType(catalogue.metadata_columns())
            shards.check(committed, self._codecs)
            files = 2 * len(committed)  # a mapped file stays open
            allow_open_files(files + len(committed))  # and one of codes each, while these are loaded
            # Mapped now, so that a compaction that deletes the files later does not concern this reader.
            with opening(shards.folder, files):
                self._vectors = {
                    shard: shards.vectors(shard, rows, self._codecs.get(shard))
                    for shard, rows in committed.items()
                    if rows
                }
                self._regions = {
                    shard: np.memmap(shards.path(shard, REGIONS), dtype=REGION_DTYPE, mode="r", shape=(rows,))
                    for shard, rows in committed.items()
                    if rows
                }
        self._catalogue = catalogue
        self.dimension = shards.dimension
        self._committed = {shard: rows for shard, rows in committed.items() if rows}
        self._ids, self._widths, self._heights, self._shard, self._first, self._rows = (
            np.ascontiguousarray(column) for column in columns.T[:6]
        )
        self._by_id = np.argsort(self._ids)
        self.starts = np.concatenate([[0], np.cumsum(self._rows)]).astype(np.int64)
        self._owners: dict[int, Owners] = {}
        self._live_owners = Owners(self.starts[:-1], self.rows)
        self._selecting = threading.Lock()
        self._selected: dict[Selection, npt.NDArray[np.bool_]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def rows(self) -> int:
        """Number of live regions."""
        return int(self.starts[-1])

    @property
    def shards(self) -> Mapping[int, int]:
        """Rows of each shard, live or dead."""
        return MappingProxyType(self._committed)

    def codec_digest(self, shard: int) -> str | None:
        """Digest of the codec of a shard that holds codes; None where it holds fp16 vectors."""
        return self._codecs.get(shard)

    def codec(self, shard: int) -> Codec | None:
        """The codec of a shard that holds codes."""
        return self._vectors[shard].codec

    def codes(self, shard: int) -> npt.NDArray[np.uint8]:
        """The codes of a shard, memory-mapped: (rows, code_bytes) uint8.

        Raises:
            ValueError: it holds fp16 vectors.
        """
        if self._vectors[shard].codec is None:
            raise ValueError(f"shard {shard} holds fp16 vectors, no codes")
        return cast("npt.NDArray[np.uint8]", self._vectors[shard].stored)

    def rows_of(self, pictures: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Live rows of some pictures, one picture after the other: (N,) int64 to (regions of them all,) int64."""
        counts = self._rows[pictures]
        before = np.cumsum(counts) - counts
        return np.repeat(self.starts[pictures] - before, counts) + np.arange(counts.sum())

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The catalogue's id of each picture, which no other picture ever gets: (pictures,) int64."""
        return self._ids

    @property
    def places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where each picture's rows begin: (pictures,) shards, and (pictures,) rows within them."""
        return self._shard, self._first

    def shard_vectors(self, shard: int, first: int, end: int) -> npt.NDArray[np.float16]:
        """Rows `first` to `end` of a shard, live or dead: (rows, dimension) fp16."""
        return self._vectors[shard].read(first, end)

    def release(self, shard: int, first: int, end: int) -> None:
        """Let go of the memory that mapped rows of a shard take; whoever reads them again gets them from the file."""
        self._vectors[shard].release(first, end)

    def size(self, index: int) -> tuple[int, int]:
        """Upright (width, height) of picture `index`."""
        return int(self._widths[index]), int(self._heights[index])

    def vectors(self, index: int) -> npt.NDArray[np.float16]:
        """Stored vectors of picture `index`, decoded where only codes are kept: (regions, dimension) fp16."""
        first, rows = int(self._first[index]), int(self._rows[index])
        return self._vectors[int(self._shard[index])].read(first, first + rows)

    def regions(self, index: int) -> Regions:
        """Regions of picture `index`, row for row with its vectors."""
        first, rows = int(self._first[index]), int(self._rows[index])
        return Regions(np.array(self._regions[int(self._shard[index])][first : first + rows]))

    def gather(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        """Vectors of live rows in any order, as `starts` counts them: (N,) int64 to (N, dimension) fp16.

        Raises:
            IndexError: a number is not that of a live row.
        """
        rows = np.asarray(rows, dtype=np.int64)
        vectors = np.empty((len(rows), self.dimension), dtype="<f2")
        if not len(rows):
            return vectors
        forward = bool((rows[1:] >= rows[:-1]).all())
        order = np.arange(len(rows)) if forward else np.argsort(rows)  # shard by shard, and forward in each
        ordered = rows[order]
        if ordered[0] < 0 or ordered[-1] >= self.rows:
            raise IndexError(f"live rows are 0 to {self.rows - 1}, not {ordered[0]} to {ordered[-1]}")
        pictures = self._live_owners(ordered)
        places = self._first[pictures] + (ordered - self.starts[pictures])
        shards = self._shard[pictures]
        ends = np.append(np.flatnonzero(np.diff(shards)) + 1, len(rows))
        begin = 0
        for end in ends.tolist():
            self._vectors[int(shards[begin])].take(places[begin:end], vectors[begin:end])
            begin = end
        if forward:
            return vectors
        unordered = np.empty_like(vectors)
        unordered[order] = vectors
        return unordered

    def live_rows(self, shard: int, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Whose some rows of a shard are: their pictures, and their numbers among all live rows.

        (N,) int64 numbers within the shard, to two (N,) int64; -1 in both where a row is dead.

        Raises:
            IndexError: a number is not that of a row of the shard.
        """
        rows = np.asarray(rows, dtype=np.int64)
        committed = self._committed[shard]
        if len(rows) and not 0 <= rows.min() <= rows.max() < committed:
            raise IndexError(f"rows of shard {shard} are 0 to {committed - 1}, not {rows.min()} to {rows.max()}")
        begin, end = np.searchsorted(self._shard, [shard, shard + 1]).tolist()
        if begin == end:
            return np.full(len(rows), -1, dtype=np.int64), np.full(len(rows), -1, dtype=np.int64)
        if shard not in self._owners:
            self._owners[shard] = Owners(self._first[begin:end], committed)
        pictures = self._owners[shard](rows) + begin
        offsets = rows - self._first[pictures]
        live = self.starts[pictures] + offsets
        dead = (pictures < begin) | (offsets >= self._rows[pictures])
        pictures[dead] = live[dead] = -1
        return pictures, live

    def paths(self, indices: Sequence[int], selection: Selection | None = None) -> list[tuple[str, int]]:
        """(path, picture) of every file that holds one of these pictures, or of selected files only."""
        ids = [int(self._ids[index]) for index in indices]
        index_of = dict(zip(ids, indices, strict=True))
        return [(path, index_of[content]) for path, content in self._catalogue.paths_of(ids, selection)]

    def pictures(self, selection: Selection) -> npt.NDArray[np.bool_]:
        """Which pictures are held by a selected file: (pictures,) bool."""
        with self._selecting:
            allowed = self._selected.pop(selection, None)
            if allowed is not None:
                self._selected[selection] = allowed  # the last to be forgotten
                return allowed
        allowed = np.zeros(len(self), dtype=np.bool_)
        place = self.find(self._catalogue.contents_selected(selection))
        allowed[place[place >= 0]] = True
        allowed.flags.writeable = False
        with self._selecting:
            self._selected[selection] = allowed
            while len(self._selected) > _SELECTIONS_REMEMBERED:
                del self._selected[next(iter(self._selected))]
        return allowed

    def is_any_selected(self, selection: Selection) -> bool:
        """Whether there is a selected file; quicker than `pictures` where that was not asked before."""
        return self._catalogue.is_any_selected(selection)

    def metadata(self, paths: Sequence[str]) -> list[dict[str, MetadataValue]]:
        """What users say of some files, by column."""
        return self._catalogue.metadata_of(paths) if self.metadata_columns else [{} for _ in paths]

    def find(self, contents: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Pictures with these ids: (N,) int64 to (N,) int64, -1 where none is live in this snapshot."""
        if not len(self):
            return np.full(len(contents), -1, dtype=np.int64)
        place = np.searchsorted(self._ids, contents, sorter=self._by_id)
        pictures = self._by_id[np.minimum(place, len(self) - 1)]
        return np.where(self._ids[pictures] == contents, pictures, -1)

    def files_per_picture(self) -> npt.NDArray[np.int64]:
        """How many files hold each picture: (pictures,) int64."""
        contents, files = self._catalogue.files_per_content().T
        counts = np.zeros(len(self), dtype=np.int64)
        place = self.find(contents)
        counts[place[place >= 0]] = files[place >= 0]
        return counts

    def index_of_path(self, path: str) -> int | None:
        """The picture that a path holds, if it is live in this snapshot."""
        content = self._catalogue.content_of(path)
        if content is None:
            return None
        index = int(self.find(np.array([content]))[0])
        return index if index >= 0 else None

    def runs(
        self, max_rows: int, chosen: npt.NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, int, npt.NDArray[np.float16]]]:
        """Live vectors as (first picture, one past the last, rows), whole pictures, in order.

        A run holds at most `max_rows` rows, or one picture where that alone has more. fp16 rows are mapped, and let go
        of when the next run is asked for: a pass over all of them needs memory for two runs only. `chosen` says which
        pictures are wanted: (pictures,) bool.
        """
        stretches = self.stretches(max_rows, chosen)
        following = next(stretches, None)
        while following is not None:
            (index, end, shard, first, last), following = following, next(stretches, None)
            if following is not None:  # read from disk while the caller is busy with this one
                self._vectors[following[2]].fetch(*following[3:])
            yield index, end, self.shard_vectors(shard, first, last)
            self.release(shard, first, last)

    def stretches(
        self, max_rows: int, chosen: npt.NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, int, int, int, int]]:
        """The same places as (first picture, one past the last, shard, first row in it, one past the last)."""
        starts, index = self.starts, 0
        behind_another = (self._shard[1:] == self._shard[:-1]) & (self._first[1:] == self._first[:-1] + self._rows[:-1])
        if chosen is not None:
            behind_another &= chosen[1:] == chosen[:-1]
        for stretch_end in np.append(np.flatnonzero(~behind_another) + 1, len(self)).tolist():
            if chosen is not None and index < stretch_end and not chosen[index]:
                index = stretch_end
            while index < stretch_end:
                end = int(np.searchsorted(starts, starts[index] + max_rows, side="right")) - 1
                end = min(max(end, index + 1), stretch_end)
                first = int(self._first[index])
                last = first + int(starts[end] - starts[index])
                yield index, end, int(self._shard[index]), first, last
                index = end
