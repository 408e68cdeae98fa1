"""Metadata from Parquet, read a few rows at a time."""

from __future__ import annotations

import datetime as dt
import math
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from patchwise.errors import MissingExtra, UsageError
from patchwise.metadata.files import MetadataRow, key_column, unreadable
from patchwise.metadata.values import is_kept
from patchwise.store import MetadataValue

__all__ = ["ParquetMetadata"]

_ROWS_AT_ONCE = 10_000
_TEXTS = ("string", "large_string", "string_view")
_OF_PANDAS = "__index_level_"


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
        names = [unicodedata.normalize("NFC", name) if not name.startswith(_OF_PANDAS) else "" for name in schema.names]
        key = key_column(path, names)
        self._key = schema.names[key]
        said = {schema.names[number]: name for number, name in enumerate(names) if name and number != key}
        self._columns = tuple(said.values())
        self._readers = {written: _reader(path, name, schema.field(written).type) for written, name in said.items()}
        if _reader(path, self._key, schema.field(key).type) is not _text:
            raise UsageError(f"{path}: column {self._key!r} names the images, so it must hold text")

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

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

    def whole(value: int) -> int:
        if not is_kept(value):
            raise UsageError(f"{path}: column {name!r} holds {value}, which is too large; write it as text")
        return value

    def decimal(value: Decimal) -> int | float | None:
        if not value.is_finite():
            return None
        if value == (rounded := value.to_integral_value()) and (value.as_tuple().exponent == 0 or abs(value) > 2**53):
            return whole(int(rounded))
        plain = float(value)
        if Decimal(repr(plain)) != value:
            raise UsageError(
                f"{path}: column {name!r} holds {value}, more digits than a number keeps; write it as text"
            )
        return plain

    if types.is_integer(kind):
        return whole
    if types.is_decimal(kind):
        return decimal
    if types.is_float64(kind):
        return _finite
    if types.is_floating(kind):
        return partial(_short, np.float16 if types.is_float16(kind) else np.float32)
    raise UsageError(f"{path}: column {name!r} holds {kind}; only numbers, text, true and false, and dates are taken")


def _text(value: Any) -> str | None:
    return str(value) or None


def _truth(value: Any) -> str:
    return "true" if value else "false"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _short(kind: Callable[[float], np.floating[Any]], value: float) -> float | None:
    """A number of few bits as the shortest decimal that it stands for: 9.99, not 9.989999771118164."""
    return _finite(float(str(kind(value))))


def _iso(value: Any) -> str:
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.timezone.utc)  # so that they sort
    return str(value.isoformat())
