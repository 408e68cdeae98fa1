"""Metadata from CSV: UTF-8, values apart by comma, semicolon or tab."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from patchwise.errors import UsageError
from patchwise.metadata.files import KEYS, MetadataRow, key_column, unreadable
from patchwise.metadata.values import ColumnKind

__all__ = ["CsvMetadata"]

_DELIMITERS = (",", ";", "\t")


class CsvMetadata:
    """A CSV file; what its columns are is learned from all of it before the first row is given.

    Raises:
        UsageError: it is no CSV file in UTF-8, or its rows have different numbers of values.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as file:
            head = _head(file.readline())
        self._delimiter, self._names = head
        self._key = key_column(path, self._names)
        kinds = [ColumnKind() for _ in self._names]
        for row in self._texts():
            for kind, text in zip(kinds, row, strict=True):
                if text := text.strip():
                    kind.see(text)
        # A column without a name is what some programs write to number the rows.
        self._said = [number for number, name in enumerate(self._names) if name and number != self._key]
        self._readers = [kinds[number].reader for number in self._said]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._names[number] for number in self._said)

    def rows(self) -> Iterator[MetadataRow]:
        """All rows in order, without spaces around values."""
        for row in self._texts():
            texts = (row[number].strip() for number in self._said)
            try:
                values = tuple(read(text) if text else None for read, text in zip(self._readers, texts, strict=True))
            except ValueError as error:
                raise UsageError(f"{self.path}: changed while it was read") from error
            yield MetadataRow(row[self._key], values)

    def _texts(self) -> Iterator[list[str]]:
        with self._opened() as file:
            rows = csv.reader(file, delimiter=self._delimiter, strict=True)
            try:
                for number, row in enumerate(rows):
                    if number and row and len(row) != len(self._names):
                        raise UsageError(
                            f"{self.path}: {len(row)} values in line {rows.line_num}, but {len(self._names)} in the "
                            "first. A value that holds the separator stands in double quotes"
                        )
                    if number and row:
                        yield row
            except csv.Error as error:
                raise UsageError(f"{self.path}: line {rows.line_num} cannot be read as CSV ({error})") from error

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield file
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.path}: not UTF-8 ({error.reason}); save it as CSV in UTF-8") from error
        except OSError as error:
            raise unreadable(self.path, error) from error


def _head(line: str) -> tuple[str, list[str]]:
    """The delimiter that makes most of the first line, and the columns' names: one of them names the image."""
    heads = [
        (delimiter, [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])])
        for delimiter in _DELIMITERS
    ]
    return max(heads, key=lambda head: (any(name.lower() in KEYS for name in head[1]), len(head[1])))
