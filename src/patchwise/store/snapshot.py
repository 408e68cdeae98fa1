"""A reader's view: the live pictures at one moment, unaffected by what a writer does next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from patchwise.regions import Regions
from patchwise.regions.base import REGION_DTYPE
from patchwise.store.catalogue import Catalogue
from patchwise.store.shards import Shards

__all__ = ["Snapshot"]


class Snapshot:
    """Live pictures in storage order; picture i owns rows `starts[i]` to `starts[i + 1]` of all live rows."""

    def __init__(self, catalogue: Catalogue, shards: Shards) -> None:
        with catalogue.reading():
            self.version = catalogue.data_version()
            columns = catalogue.live_columns()
            committed = catalogue.shards()
            shards.check(committed)
            # Mapped now, so that a compaction that deletes the files later does not concern this reader.
            self._vectors = {shard: shards.vectors(shard, rows) for shard, rows in committed.items() if rows}
            self._regions = {
                shard: np.memmap(shards.path(shard, ".regions"), dtype=REGION_DTYPE, mode="r", shape=(rows,))
                for shard, rows in committed.items()
                if rows
            }
        self._catalogue = catalogue
        self.dimension = shards.dimension
        self._ids, self._widths, self._heights, self._shard, self._first, self._rows = columns.T[:6]
        self._by_id = np.argsort(self._ids)
        self.starts = np.concatenate([[0], np.cumsum(self._rows)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def rows(self) -> int:
        """Number of live regions."""
        return int(self.starts[-1])

    def size(self, index: int) -> tuple[int, int]:
        """Upright (width, height) of picture `index`."""
        return int(self._widths[index]), int(self._heights[index])

    def vectors(self, index: int) -> npt.NDArray[np.float16]:
        """Stored vectors of picture `index`: (regions, dimension) fp16."""
        first, rows = int(self._first[index]), int(self._rows[index])
        return self._vectors[int(self._shard[index])][first : first + rows]

    def regions(self, index: int) -> Regions:
        """Regions of picture `index`, row for row with its vectors."""
        first, rows = int(self._first[index]), int(self._rows[index])
        return Regions(np.array(self._regions[int(self._shard[index])][first : first + rows]))

    def paths(self, indices: Sequence[int]) -> list[tuple[str, int]]:
        """(path, picture) of every file that holds one of these pictures."""
        ids = [int(self._ids[index]) for index in indices]
        index_of = dict(zip(ids, indices, strict=True))
        return [(path, index_of[content]) for path, content in self._catalogue.paths_of(ids)]

    def files_per_picture(self) -> npt.NDArray[np.int64]:
        """How many files hold each picture: (pictures,) int64."""
        contents, files = self._catalogue.files_per_content().T
        counts = np.zeros(len(self), dtype=np.int64)
        place = np.searchsorted(contents, self._ids)
        known = place < len(contents)
        known[known] = contents[place[known]] == self._ids[known]
        counts[known] = files[place[known]]
        return counts

    def index_of_path(self, path: str) -> int | None:
        """The picture that a path holds, if it is live in this snapshot."""
        content = self._catalogue.content_of(path)
        if content is None or len(self) == 0:
            return None
        place = min(int(np.searchsorted(self._ids, content, sorter=self._by_id)), len(self) - 1)
        index = int(self._by_id[place])
        return index if int(self._ids[index]) == content else None

    def runs(self, max_rows: int) -> Iterator[tuple[int, int, npt.NDArray[np.float16]]]:
        """Live vectors as (first picture, one past the last, mapped rows), whole pictures, in order.

        A run holds at most `max_rows` rows, or one picture where that alone has more.
        """
        index = 0
        while index < len(self):
            end = index + 1
            while (
                end < len(self)
                and self._shard[end] == self._shard[index]
                and self._first[end] == self._first[end - 1] + self._rows[end - 1]
                and self.starts[end + 1] - self.starts[index] <= max_rows
            ):
                end += 1
            first = int(self._first[index])
            rows = int(self.starts[end] - self.starts[index])
            yield index, end, self._vectors[int(self._shard[index])][first : first + rows]
            index = end
