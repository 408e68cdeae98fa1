"""Which files may be found: those under some paths, those that fit a condition on their metadata, or both."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from patchwise.store.metadata_table import MetadataTable, MetadataValue

__all__ = ["Condition", "Selecting", "Selection", "StoredImage"]

Span = tuple[bytes, bytes | None]


@dataclass(frozen=True)
class Condition:
    """A condition on one file as SQLite reads it; `parameters` are bound to its question marks, in order.

    The SQL may name `path`, as bytes, and the columns of the metadata table if `reads_metadata`. With
    `needs_metadata`, no file without metadata fits.
    """

    sql: str
    parameters: tuple[MetadataValue, ...] = ()
    reads_metadata: bool = False
    needs_metadata: bool = False


@dataclass(frozen=True)
class Selection:
    """Files that are one of the absolute paths `under` or lie below one, and that fit the condition `where`.

    None leaves a part out; an empty `under` selects nothing.
    """

    under: tuple[str, ...] | None = None
    where: Condition | None = None

    @property
    def everything(self) -> bool:
        """Whether no file is left out."""
        return self.under is None and self.where is None

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The same paths as [first, end) of all that sort in between: disjoint, in order; an end of None is open."""
        if self.under is None:
            return ((b"", None),)
        merged: list[tuple[bytes, bytes]] = []
        for first, end in sorted(span for path in self.under for span in _spans(path)):
            if merged and first < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((first, end))
        return tuple(merged)

    def is_under(self, path: bytes) -> bool:
        """Whether a path lies in one of the spans."""
        place = bisect_right(self._firsts, path) - 1
        if place < 0:
            return False
        end = self.spans[place][1]
        return end is None or path < end

    @cached_property
    def _firsts(self) -> list[bytes]:
        return [first for first, _ in self.spans]


def _spans(path: str) -> Iterator[tuple[bytes, bytes]]:
    key = os.fsencode(path)
    below = key.rstrip(os.sep.encode()) + os.sep.encode()
    yield key, key + b"\0"
    yield below, below[:-1] + bytes([below[-1] + 1])


@dataclass(frozen=True)
class StoredImage:
    """A file of the gallery: `digest` is the hex hash of its bytes, `size` its upright (width, height).

    `metadata` holds what is known of it, by column.
    """

    path: str
    digest: str
    size: tuple[int, int]
    metadata: dict[str, MetadataValue]


class Selecting(MetadataTable):
    """What a catalogue is asked with a selection."""

    def contents_selected(self, selection: Selection) -> npt.NDArray[np.int64]:
        """Ids of the pictures that a selected file holds: int64, by path of the file, perhaps repeated."""
        found = [
            self._columns(f"SELECT content FROM {source} WHERE {test}", 1, parameters)[:, 0]
            for source, test, parameters in _queries(selection)
        ]
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def is_any_selected(self, selection: Selection) -> bool:
        """Whether there is a selected file."""
        return any(
            self._all(f"SELECT 1 FROM {source} WHERE {test} LIMIT 1", parameters)
            for source, test, parameters in _queries(selection)
        )

    def count_selected(self, selection: Selection) -> int:
        """How many files are selected."""
        return sum(
            int(self._all(f"SELECT COUNT(*) FROM {source} WHERE {test}", parameters)[0][0])
            for source, test, parameters in _queries(selection)
        )

    def images_selected(self, selection: Selection, offset: int = 0, limit: int | None = None) -> list[StoredImage]:
        """Selected files by path: `limit` of them, or all, after the first `offset`."""
        found: list[StoredImage] = []
        with self.reading():
            for source, test, parameters in _queries(selection):
                left = -1 if limit is None else limit - len(found)
                if left == 0:
                    break
                # Files are counted off before they are joined to anything, so that a late page costs little more.
                page = f"SELECT path, content FROM {source} WHERE {test} ORDER BY path LIMIT ? OFFSET ?"
                of_span = self._stored_images(page, (*parameters, left, offset))
                if not of_span and offset:
                    counted = f"SELECT COUNT(*) FROM {source} WHERE {test}"
                    offset -= min(offset, int(self._all(counted, parameters)[0][0]))
                elif of_span:
                    offset = 0
                found += of_span
        return found

    def images_of(self, digest: bytes) -> list[StoredImage]:
        """The files that hold the picture with this hash, by path."""
        files = "SELECT path, content FROM file WHERE content = (SELECT id FROM content WHERE hash = ?)"
        return self._stored_images(files, (digest,))

    def _stored_images(self, files: str, parameters: Iterable[object]) -> list[StoredImage]:
        """Images from SQL that gives (path, content) of files."""
        columns = self.metadata_columns()
        values = "".join(f", c{number}" for number in columns.values())
        joined = "LEFT JOIN metadata USING (path)" if columns else ""
        sql = (
            f"SELECT page.path, hash, width, height{values} FROM ({files}) AS page "
            f"JOIN content ON content.id = page.content {joined} ORDER BY page.path"
        )
        return [
            StoredImage(
                os.fsdecode(path),
                digest.hex(),
                (width, height),
                {name: value for name, value in zip(columns, described, strict=True) if value is not None},
            )
            for path, digest, width, height, *described in self._all(sql, tuple(parameters))
        ]

    def paths_of(self, content_ids: Iterable[int], selection: Selection | None = None) -> list[tuple[str, int]]:
        """(path, content id) of the files that hold these pictures, of selected ones only if there is a selection."""
        sql, parameters = "SELECT path FROM file WHERE content = ?", tuple[MetadataValue, ...]()
        if selection is not None and (where := selection.where) is not None:
            joined = "LEFT JOIN metadata USING (path)" if where.reads_metadata else ""
            sql, parameters = f"SELECT path FROM file {joined} WHERE content = ? AND ({where.sql})", where.parameters
        found: list[tuple[str, int]] = []
        with self._lock, self._explained():
            for content in content_ids:
                rows = self._connection.execute(sql, (content, *parameters))
                found.extend(
                    (os.fsdecode(path), content) for (path,) in rows if selection is None or selection.is_under(path)
                )
        return found


def _queries(selection: Selection) -> Iterator[tuple[str, str, tuple[MetadataValue | bytes, ...]]]:
    """For each span in order: the tables, the condition on their rows, and its parameters."""
    source, where = "file", selection.where
    if where is not None and where.reads_metadata:
        # Where only described files can fit, these alone are looked through: three times as fast.
        driven = "metadata CROSS JOIN file USING (path)"
        source = driven if where.needs_metadata else "file LEFT JOIN metadata USING (path)"
    for first, end in selection.spans:
        tests: list[str] = []
        parameters: list[MetadataValue | bytes] = []
        if first or end is not None:
            tests.append("path >= ?")
            parameters.append(first)
        if end is not None:
            tests.append("path < ?")
            parameters.append(end)
        if where is not None:
            tests.append(f"({where.sql})")
            parameters += where.parameters
        yield source, " AND ".join(tests) or "TRUE", tuple(parameters)
