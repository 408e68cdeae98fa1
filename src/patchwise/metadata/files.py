"""Files of metadata: a row for each image, one column that names it, and others that say something of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from patchwise.errors import UsageError
from patchwise.store import MetadataValue

__all__ = ["KEYS", "MetadataFile", "MetadataRow", "key_column", "open_metadata", "unreadable"]

KEYS = ("path", "file", "filename", "image")
"""Names of the column that names the image: the first of these that there is, however capitalised."""


class MetadataRow(NamedTuple):
    """What a row says: the image's name as it stands there, and a value for each column, None where it is empty."""

    name: str
    values: tuple[MetadataValue | None, ...]


class MetadataFile(Protocol):
    """A file whose head was read and found good."""

    path: Path

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that say something."""
        ...

    def rows(self) -> Iterator[MetadataRow]:
        """All rows in order.

        Raises:
            UsageError: a row cannot be read, or the file has changed meanwhile.
        """
        ...


def open_metadata(path: Path) -> MetadataFile:
    """Open a .csv, .tsv or .parquet file.

    Raises:
        UsageError: it cannot be read as what its ending says, has no column that names the image, or no other, or
            holds values that are neither text, numbers, dates nor true and false.
        MissingExtra: pyarrow, which reads Parquet, is not installed.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file of metadata")
    file = _opened(path)
    if not file.columns:
        raise UsageError(f"{path}: it names images, and has no column that says anything of them")
    return file


def _opened(path: Path) -> MetadataFile:
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        from patchwise.metadata.csv_files import CsvMetadata

        return CsvMetadata(path)
    if ending in (".parquet", ".pq"):
        from patchwise.metadata.parquet_files import ParquetMetadata

        return ParquetMetadata(path)
    raise UsageError(f"{path}: metadata are read from .csv, .tsv and .parquet files")


def key_column(path: Path, names: Sequence[str]) -> int:
    """Which column names the image.

    Raises:
        UsageError: none does, or two columns have one name.
    """
    if repeated := sorted({name for name in names if name and list(names).count(name) > 1}):
        raise UsageError(f"{path}: more than one column is called {repeated[0]!r}")
    lowered = [name.lower() for name in names]
    for key in KEYS:
        if key in lowered:
            return lowered.index(key)
    raise UsageError(
        f"{path}: no column says which image a row is of; call one {', '.join(KEYS[:-1])} or {KEYS[-1]} "
        f"(there are {', '.join(map(repr, names[:20])) or 'none'})"
    )


def unreadable(path: Path, error: OSError) -> UsageError:
    """What to say of a file that the operating system does not give."""
    return UsageError(f"{path}: cannot be read ({error.strerror or error})")
