"""The one writer: vectors (or codes) first, then the catalogue, so that a killed run leaves nothing half-known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from patchwise.regions import Regions
from patchwise.store.catalogue import Catalogue, ContentRow, FileRow
from patchwise.store.codes import forget_codes
from patchwise.store.metadata_table import MetadataValue
from patchwise.store.shards import Shards, StoredRows, checksum

__all__ = ["Encoded", "Writer"]

_FLUSH_ROWS = 50_000


@dataclass(frozen=True)
class Encoded:
    """A picture ready to be stored: `vectors` is (regions, dimension), row for row with `regions`."""

    path: str
    mtime_ns: int
    size: int
    digest: bytes
    image_size: tuple[int, int]
    regions: Regions
    vectors: npt.NDArray[np.float32]


class Writer:
    """Changes a gallery; obtained from `Store.writer`, which keeps every other writer out."""

    def __init__(self, catalogue: Catalogue, shards: Shards) -> None:
        self.catalogue = catalogue
        self._shards = shards

    def add(self, pictures: Sequence[Encoded]) -> None:
        """Store pictures and the files that hold them, all or none.

        They follow the last shard: where that holds codes, theirs are stored, by the same codec.

        Raises:
            StorageFull: the disk refused; nothing of this call is stored.
            GalleryNotFound: the gallery was deleted or made anew meanwhile; nothing of this call is stored.
        """
        self.catalogue.check_in_place()
        new = {
            picture.digest: picture for picture in pictures if self.catalogue.content_by_hash(picture.digest) is None
        }
        committed, codecs = self.catalogue.shards(), self.catalogue.codecs()
        last = max(committed, default=1)
        codec = codecs.get(last)
        appender = _Appender(self._shards, last, committed.get(last, 0), codec)
        placed = []
        all_stored = self._shards.to_store([picture.vectors for picture in new.values()], codec)
        for picture, stored in zip(new.values(), all_stored, strict=True):
            table = picture.regions.table
            shard, first = appender.place(stored, table)
            placed.append(ContentRow(0, *picture.image_size, shard, first, len(table), checksum(stored, table)))
        appender.flush()
        with self.catalogue.transaction():
            for shard, rows in appender.committed.items():
                self.catalogue.put_shard(shard, rows, codec)
            for digest, row in zip(new, placed, strict=True):
                self.catalogue.put_content(digest, row)
            for picture in pictures:
                content = self.catalogue.content_by_hash(picture.digest)
                if content is not None:
                    self.catalogue.put_file(picture.path, picture.mtime_ns, picture.size, content.id)

    def record(
        self,
        *,
        files: Iterable[FileRow] = (),
        failures: Iterable[tuple[FileRow, str]] = (),
        forgotten: Iterable[str] = (),
        renamed: Mapping[str, str] | None = None,
        undescribed: Iterable[str] = (),
    ) -> None:
        """Store in one step: files that hold known pictures, files that cannot be read, and paths to forget.

        Paths that are `renamed`, old path by new, take along what users said of the old one, in place of what was said
        of them; what was said of the `undescribed` is dropped.
        """
        with self.catalogue.transaction():
            for row in files:
                if row.content is not None:
                    self.catalogue.put_file(row.path, row.mtime_ns, row.size, row.content)
            self.catalogue.carry_metadata(renamed or {}, undescribed)
            for row, reason in failures:
                self.catalogue.put_failure(row.path, row.mtime_ns, row.size, reason)
            for path in forgotten:
                self.catalogue.forget(path)

    def describe(self, names: Sequence[str], rows: Iterable[tuple[str, Sequence[MetadataValue | None]]]) -> None:
        """Replace all that is known of some paths by (path, a value for each of the names), all or none.

        Raises:
            UsageError: more columns than a gallery takes.
        """
        with self.catalogue.transaction():
            self.catalogue.put_metadata(names, rows)

    def compact(self) -> int:
        """Rewrite the shards that hold dead rows, without them; returns how many rows were dropped.

        Vectors stay vectors and codes the same codes. Readers go on with the old files until they look again.
        """
        live: dict[int, list[ContentRow]] = {shard: [] for shard in self.catalogue.shards()}
        for content in self.catalogue.contents():
            live[content.shard].append(content)
        committed, codecs = self.catalogue.shards(), self.catalogue.codecs()
        untidy = [shard for shard, rows in committed.items() if rows > sum(c.rows for c in live[shard])]
        moves: list[tuple[int, int, int]] = []
        new_rows: dict[int, int] = {}
        new_codecs: dict[int, str] = {}
        for codec in sorted({codecs.get(shard) for shard in untidy}, key=str):
            appender = _Appender(self._shards, max([*committed, *new_rows], default=0) + 1, 0, codec)
            for shard in untidy:
                for content in live[shard] if codecs.get(shard) == codec else ():
                    stored = self._shards.stored(shard, content.first, content.rows, codec)
                    table = self._shards.regions(shard, content.first, content.rows).table
                    moves.append((content.id, *appender.place(stored, table)))
            appender.flush()
            new_rows |= appender.committed
            if codec is not None:
                new_codecs |= dict.fromkeys(appender.committed, codec)
        kept = {shard: rows for shard, rows in committed.items() if shard not in untidy}
        # The numbers of dropped shards may be given to others, whose rows derived codes must not be taken for.
        forget_codes(self._shards.folder.parent, {*untidy, *new_rows})
        with self.catalogue.transaction(durable=True):
            for shard, rows in new_rows.items():
                self.catalogue.put_shard(shard, rows, new_codecs.get(shard))
            for move in moves:
                self.catalogue.move_content(*move)
            self.catalogue.drop_dead_contents()
            self.catalogue.drop_shards_except([*kept, *new_rows])
        for shard in set(self._shards.ids_on_disk()) - set(kept) - set(new_rows):
            self._shards.remove(shard)
        self._shards.remove_stale([*kept, *new_rows], self.catalogue.codecs())
        return sum(committed.values()) - sum(kept.values()) - sum(new_rows.values())


class _Appender:
    """Places pictures behind the committed rows of a shard, and in new shards once that is full."""

    def __init__(self, shards: Shards, shard: int, filled: int, codec: str | None) -> None:
        self._shards, self._codec = shards, codec
        self._shard, self._written, self._filled = shard, filled, filled
        self._pending: list[tuple[StoredRows, npt.NDArray[np.void]]] = []
        self.committed: dict[int, int] = {}

    def place(self, stored: StoredRows, table: npt.NDArray[np.void]) -> tuple[int, int]:
        """Take one picture's rows; returns the shard and row where they begin once flushed."""
        if self._filled and self._filled + len(table) > self._shards.rows_per_shard:
            self.flush()
            self._shard, self._written, self._filled = self._shard + 1, 0, 0
        elif self._filled - self._written > _FLUSH_ROWS:
            self.flush()
        first = self._filled
        self._pending.append((stored, table))
        self._filled += len(table)
        return self._shard, first

    def flush(self) -> None:
        """Write what is pending and force it to disk."""
        if self._pending:
            stored, tables = (np.concatenate(rows) for rows in zip(*self._pending, strict=True))
            self._shards.append(self._shard, self._written, stored, tables, self._codec)
            self.committed[self._shard] = self._written = self._filled
            self._pending.clear()
