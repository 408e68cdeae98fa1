"""Metadata from CSV: UTF-8, values apart by comma, semicolon or tab."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

from patchwise.errors import UsageError
from patchwise.metadata.files import KEYS, MetadataRow, key_column, unreadable
from patchwise.metadata.values import ColumnKind
from patchwise.store import MetadataValue

__all__ = ["CsvMetadata"]

_DELIMITERS = (",", ";", "\t")
_SAID_DELIMITER = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # the first line of some files of Excel
_LONGEST_SAID = 10


class CsvMetadata:
    """A CSV file; what its columns are is learned from all of it before the first row is given.

    Raises:
        UsageError: it is no CSV file in UTF-8, or its rows have different numbers of values.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._quotes = True
        try:
            self._learn()
        except UsageError as error:
            if path.suffix.lower() != ".tsv":
                raise
            self._quotes = False  # many programs write tabs between values, and quotes as they are
            try:
                self._learn()
            except UsageError:
                raise error from error.__cause__

    def _learn(self) -> None:
        self._delimiter, self._names = self._head()
        self._key = key_column(self.path, self._names)
        kinds = [ColumnKind() for _ in self._names]
        for row in self._texts():
            for kind, text in zip(kinds, row, strict=True):
                if text := text.strip():
                    kind.see(text)
        # A column without a name is what some programs write to number the rows.
        self._said = [number for number, name in enumerate(self._names) if name and number != self._key]
        self._readers: list[Callable[[str], MetadataValue]] = [kinds[number].reader for number in self._said]

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
        for number, (line, row) in enumerate(self._rows(self._delimiter)):
            if number and len(row) != len(self._names):
                raise UsageError(
                    f"{self.path}: {len(row)} values in line {line}, but {len(self._names)} in the first. "
                    "A value that holds the separator stands in double quotes"
                )
            if number:
                yield row

    def _head(self) -> tuple[str, list[str]]:
        """The delimiter that makes most of the first line, and the columns' names: one of them names the image."""
        with self._opened() as (_, said):
            delimiters = [said] if said else _DELIMITERS
        heads = [
            (delimiter, [unicodedata.normalize("NFC", name.strip()) for name in row])
            for delimiter in delimiters
            for _, row in [next(self._rows(delimiter, strict=False), (0, []))]
        ]
        return max(heads, key=lambda head: (any(name.lower() in KEYS for name in head[1]), len(head[1])))

    def _rows(self, delimiter: str, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
        """The number of the line that each row ends in, and its values; lines without any are left out."""
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._quotes else csv.QUOTE_NONE
        with self._opened() as (file, said):
            rows = csv.reader(file, delimiter=delimiter, strict=strict, quoting=quoting)
            before = 1 if said else 0
            try:
                for row in rows:
                    if row and (len(row) > 1 or row[0].strip()):
                        yield before + rows.line_num, row
            except csv.Error as error:
                line = before + rows.line_num
                raise UsageError(f"{self.path}: line {line} cannot be read as CSV ({error})") from error

    @contextmanager
    def _opened(self) -> Iterator[tuple[TextIO, str | None]]:
        """The file after a first line that says the delimiter, and that."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                if not (said := _SAID_DELIMITER.fullmatch(file.readline(_LONGEST_SAID))):
                    file.seek(0)
                yield file, said[1] if said else None
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.path}: not UTF-8 ({error.reason}); save it as CSV in UTF-8") from error
        except OSError as error:
            raise unreadable(self.path, error) from error
