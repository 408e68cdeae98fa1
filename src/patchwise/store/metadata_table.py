"""What users say of their images: a row for each path, a column for each name, added when it first comes.

A real column is read several times as fast as a value within JSON, and every name has its number, so that nothing a
user wrote ever stands in SQL. Values are text, numbers or NULL, and kept as they are given.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

from patchwise.errors import UsageError
from patchwise.store.database import Database

__all__ = ["MOST_COLUMNS", "MetadataColumn", "MetadataTable", "MetadataValue"]

MetadataValue = str | int | float

MOST_COLUMNS = 1_000  # SQLite takes 2,000
_SINCE = 3  # schema version
_MOST_VALUES = 50
_MOST_DIFFERENT = 50_000
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class MetadataColumn:
    """What images are said to be in one column.

    `kind` is "text", "number", or "mixed"; `images` counts those with a value; `values` are the 50 most frequent, most
    frequent first (of those that come first by path, where there are more than 50,000 different ones), and `counts` how
    many images have each; `minimum` and `maximum` are of its numbers, None where it has none.
    """

    name: str
    kind: Literal["text", "number", "mixed"]
    images: int
    values: tuple[MetadataValue, ...]
    minimum: int | float | None
    maximum: int | float | None
    counts: tuple[int, ...] = ()


class _Counted:
    """Counts the values of a column."""

    def __init__(self) -> None:
        self.images = self.numbers = 0
        self._counts: Counter[MetadataValue] = Counter()
        self._extremes: list[int | float] = []

    def see(self, values: Iterable[MetadataValue | None]) -> None:
        known = [value for value in values if value is not None]
        numbers = [value for value in known if not isinstance(value, str)]
        self.images += len(known)
        self.numbers += len(numbers)
        if numbers:
            numbers += self._extremes
            self._extremes = [min(numbers), max(numbers)]
        if len(self._counts) < _MOST_DIFFERENT:
            self._counts.update(known)
        else:
            self._counts.update(filter(self._counts.__contains__, known))

    def summary(self, name: str) -> MetadataColumn:
        kind: Literal["text", "number", "mixed"] = "mixed"
        if self.numbers in (0, self.images):
            kind = "number" if self.numbers else "text"
        ordered = sorted(self._counts.items(), key=lambda pair: (-pair[1], isinstance(pair[0], str), pair[0]))
        least, most = self._extremes or (None, None)
        values, counts = zip(*ordered[:_MOST_VALUES], strict=True) if ordered else ((), ())
        return MetadataColumn(name, kind, self.images, values, least, most, counts)


class MetadataTable(Database):
    """Metadata of paths; a catalogue of an older schema that may only be read has none."""

    def metadata_columns(self) -> dict[str, int]:
        """Number of each column, by name, in the order in which they came; `c` and the number is its name in SQL."""
        if self.schema_version() < _SINCE:
            return {}
        return dict(self._all("SELECT name, id FROM metadata_column ORDER BY id"))

    def metadata_of(self, paths: Iterable[str]) -> list[dict[str, MetadataValue]]:
        """What is known of some paths, by column."""
        with self.reading():
            columns = self.metadata_columns()
            if not columns:
                return [{} for _ in paths]
            sql = f"SELECT {_listed(columns.values())} FROM metadata WHERE path = ?"
            rows = (self._all(sql, (os.fsencode(path),)) for path in paths)
            return [
                {name: value for name, value in zip(columns, row[0], strict=True) if value is not None} if row else {}
                for row in rows
            ]

    def is_described(self, path: str) -> bool:
        """Whether anything was ever said of a path."""
        if self.schema_version() < _SINCE:
            return False
        return bool(self._all("SELECT 1 FROM metadata WHERE path = ?", (os.fsencode(path),)))

    def is_known(self, path: str) -> bool:
        """Whether a path holds an image, or one that cannot be read at present."""
        sql = "SELECT 1 FROM file WHERE path = ? UNION ALL SELECT 1 FROM failure WHERE path = ?"
        return bool(self._all(sql, (os.fsencode(path),) * 2))

    def summaries(self) -> list[MetadataColumn]:
        """What the columns hold that have a value for any image, in their order."""
        columns = self.metadata_columns()
        counted = {name: _Counted() for name in columns}
        last: bytes | None = b""
        while columns and last is not None:
            # A few at a time: nobody else waits for the catalogue longer than that.
            sql = (
                f"SELECT {_listed(columns.values(), 'path')} FROM metadata CROSS JOIN file USING (path) "
                "WHERE path > ? ORDER BY path LIMIT ?"
            )
            rows = self._all(sql, (last, _ROWS_AT_ONCE))
            for column, values in zip(counted.values(), list(zip(*rows, strict=True))[1:], strict=False):
                column.see(values)
            last = rows[-1][0] if len(rows) == _ROWS_AT_ONCE else None
        return [column.summary(name) for name, column in counted.items() if column.images]

    def folders(self) -> list[tuple[str, int]]:
        """(folder, number of images directly in it), most images first."""
        separator = os.sep.encode()
        with self._lock, self._explained():
            paths = self._connection.execute("SELECT path FROM file")
            counts = Counter(path[: path.rfind(separator)] or separator for (path,) in paths)
        return [(os.fsdecode(folder), count) for folder, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]

    def common_folder(self) -> list[str]:
        """The innermost folder that all images lie in; none where there are no images."""
        first, last = self._all("SELECT MIN(path), MAX(path) FROM file")[0]  # all others sort in between
        if first is None:
            return []
        return [os.fsdecode(os.path.commonpath([os.path.dirname(first), os.path.dirname(last)]))]

    # Writing: call inside `transaction`

    def put_metadata(self, names: Sequence[str], rows: Iterable[tuple[str, Sequence[MetadataValue | None]]]) -> None:
        """Replace all that is known of some paths by (path, a value for each of the names).

        Raises:
            UsageError: more columns than a gallery takes.
        """
        numbers = self._numbers(names)
        marks = ",".join("?" * (len(numbers) + 1))
        sql = f"INSERT OR REPLACE INTO metadata ({_listed(numbers, 'path')}) VALUES ({marks})"
        with self._lock, self._explained():
            self._connection.executemany(sql, ((os.fsencode(path), *values) for path, values in rows))

    def _numbers(self, names: Sequence[str]) -> list[int]:
        known = self.metadata_columns()
        new = [name for name in names if name not in known]
        if len(known) + len(new) > MOST_COLUMNS:
            # Columns that have lost their last value make room; their places in the table are empty, and used again.
            empty = [name for name in known if name not in names and self._is_empty(known[name])]
            if (total := len(known) - len(empty) + len(new)) > MOST_COLUMNS:
                raise UsageError(f"a gallery takes at most {MOST_COLUMNS:,} columns of metadata, not {total:,}")
            for name, left in zip(new, empty, strict=False):
                self._run("UPDATE metadata_column SET name = ? WHERE id = ?", (name, known[left]))
                known[name] = known.pop(left)
        for name in new:
            if name not in known:
                self._run("INSERT INTO metadata_column (name) VALUES (?)", (name,))
                known[name] = int(self._all("SELECT last_insert_rowid()")[0][0])
                self._run(f"ALTER TABLE metadata ADD COLUMN c{known[name]}")  # without a type: kept as given
        return [known[name] for name in names]

    def _is_empty(self, number: int) -> bool:
        return not self._all(f"SELECT 1 FROM metadata WHERE c{number} IS NOT NULL LIMIT 1")

    def carry_metadata(self, moved: Mapping[str, str], undescribed: Iterable[str] = ()) -> None:
        """Give paths what is known of others, old path by new, in place of what they have; `undescribed` lose theirs.

        All moves happen at once, so that a path may be old and new. One that nothing is known of gives nothing.
        """
        if self.schema_version() < _SINCE:
            return
        aside = b"\0"  # begins no path
        with self._lock, self._explained():
            run = self._connection.executemany
            keys = [(os.fsencode(new), os.fsencode(old)) for new, old in moved.items()]
            run("UPDATE metadata SET path = ? WHERE path = ?", [(aside + new, old) for new, old in keys])
            run("DELETE FROM metadata WHERE path = ?", [(new,) for new, _ in keys])
            run("DELETE FROM metadata WHERE path = ?", [(os.fsencode(path),) for path in undescribed])
            run("UPDATE metadata SET path = ? WHERE path = ?", [(new, aside + new) for new, _ in keys])

    def _columns(self, sql: str, width: int, parameters: Sequence[object] = ()) -> npt.NDArray[np.int64]:
        with self._lock, self._explained():
            values = chain.from_iterable(self._connection.execute(sql, parameters))
            return np.fromiter(values, dtype=np.int64).reshape(-1, width)


def _listed(numbers: Iterable[int], *before: str) -> str:
    return ", ".join([*before, *(f"c{number}" for number in numbers)])
