"""Metadata from Parquet, read a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from patchwise.errors import MissingExtra, UsageError
from patchwise.metadata.files import MetadataRow, key_column, unreadable
from patchwise.store import MetadataValue

__all__ = ["ParquetMetadata"]

_ROWS_AT_ONCE = 10_000
_TEXTS = ("string", "large_string", "string_view")
_OF_PANDAS = "__index_level_"
_LARGEST = 2**63 - 1  # of SQLite


class ParquetMetadata:
    """A Parquet file: numbers, texts, true and false, and dates and times, which become ISO texts.

    Raises:
        UsageError: it is no Parquet file, or a column holds something else.
        MissingExtra: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise MissingExtra(f"reading {path}", "parquet") from error
        self.path = path
        with self._opened() as file:
            schema = file.schema_arrow
        names = [name if not name.startswith(_OF_PANDAS) else "" for name in schema.names]
        key = key_column(path, names)
        self._key = names[key]
        self._readers = {
            name: _reader(path, name, schema.field(number).type)
            for number, name in enumerate(names)
            if name and number != key
        }
        if _reader(path, self._key, schema.field(key).type) is not _text:
            raise UsageError(f"{path}: column {self._key!r} names the images, so it must hold text")

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._readers)

    def rows(self) -> Iterator[MetadataRow]:
        """All rows in order."""
        with self._opened() as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[self._key, *self._readers]):
                names = batch.column(self._key).to_pylist()
                columns = [
                    [None if value is None else read(value) for value in _plain(batch.column(name)).to_pylist()]
                    for name, read in self._readers.items()
                ]
                for number, name in enumerate(names):
                    yield MetadataRow(name or "", tuple(column[number] for column in columns))

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(self.path) as file:
                yield file
        except UsageError:
            raise
        except OSError as error:
            raise unreadable(self.path, error) from error
        except (ArrowException, KeyError, ValueError, OverflowError) as error:
            raise UsageError(f"{self.path}: cannot be read as Parquet ({error})") from error


def _plain(column: Any) -> Any:
    """Times of billionths of a second, which Python has none of, as millionths."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if pa.types.is_time64(column.type):
        return column.cast(pa.time64("us"), safe=False)
    return column


def _reader(path: Path, name: str, kind: Any) -> Callable[[Any], MetadataValue | None]:
    """What turns the values of a column into those that are kept."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_null(kind) or str(kind) in _TEXTS:
        return _text
    if types.is_boolean(kind):
        return _truth
    if types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
        return _iso

    def number(value: Any) -> int | float | None:
        plain = value if isinstance(value, int) else float(value)
        if math.isnan(plain):
            return None
        if math.isinf(plain) or (isinstance(plain, int) and abs(plain) > _LARGEST):
            raise UsageError(f"{path}: column {name!r} holds {plain}, which is too large; write it as text")
        return plain

    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return number
    raise UsageError(f"{path}: column {name!r} holds {kind}; only numbers, text, true and false, and dates are taken")


def _text(value: Any) -> str | None:
    return str(value) or None


def _truth(value: Any) -> str:
    return "true" if value else "false"


def _iso(value: Any) -> str:
    return str(value.isoformat())
