"""The catalogue: which files hold which picture, and where its vectors lie. SQLite, one file, WAL.

A *content* is one distinct picture (by hash of its bytes) with its vectors; a *file* is a path that holds it. So a
renamed or copied file needs no encoding, and a picture whose last file is gone is dead until compaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.store.database import CATALOGUE
from patchwise.store.selection import Selecting

__all__ = ["CATALOGUE", "Catalogue", "ContentRow", "FileRow"]


class FileRow(NamedTuple):
    """A known path: `content` is the id of its picture, or None where it could not be read."""

    path: str
    mtime_ns: int
    size: int
    content: int | None


class ContentRow(NamedTuple):
    """Where a picture's vectors lie: rows `first` to `first + rows` of a shard, with their checksum as stored."""

    id: int
    width: int
    height: int
    shard: int
    first: int
    rows: int
    crc: int


_CONTENT_COLUMNS = "content.id, width, height, shard, first, rows, crc"
_CODECS_SINCE = 2  # schema version
_LIVE = "EXISTS (SELECT 1 FROM file WHERE file.content = content.id)"


class Catalogue(Selecting):
    """What is asked of the catalogue and written to it; opens and fails as `Database` does."""

    # Reading

    def data_version(self) -> tuple[int, int]:
        """Changes whenever this or another connection has committed a change."""
        with self._lock, self._explained():
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            return version, self._connection.total_changes

    def content(self, content_id: int) -> ContentRow | None:
        """The picture with this id, if it is still known."""
        rows = self._all(f"SELECT {_CONTENT_COLUMNS} FROM content WHERE id = ?", (content_id,))
        return ContentRow(*rows[0]) if rows else None

    def content_by_hash(self, digest: bytes) -> ContentRow | None:
        """The picture with this hash, if known."""
        rows = self._all(f"SELECT {_CONTENT_COLUMNS} FROM content WHERE hash = ?", (digest,))
        return ContentRow(*rows[0]) if rows else None

    def contents(self, *, live_only: bool = True) -> list[ContentRow]:
        """Pictures in storage order; without `live_only` also those that no file holds any more."""
        return [ContentRow(*row) for row in self._all(_contents(live_only))]

    def columns(self, *, live_only: bool = True) -> npt.NDArray[np.int64]:
        """The same as one table: (pictures, 7) int64, the fields of `ContentRow`.

        Millions of pictures take 56 bytes each here, and ten times that as objects.
        """
        return self._columns(_contents(live_only), len(ContentRow._fields))

    def content_of(self, path: str) -> int | None:
        """Id of the picture that a path holds."""
        rows = self._all("SELECT content FROM file WHERE path = ?", (os.fsencode(path),))
        return int(rows[0][0]) if rows else None

    def stored_file(self, path: str) -> tuple[bytes, int, int] | None:
        """Hash of the picture that a path holds, and the file's mtime_ns and size when it was indexed."""
        sql = "SELECT hash, mtime_ns, file.size FROM file JOIN content ON content.id = file.content WHERE path = ?"
        rows = self._all(sql, (os.fsencode(path),))
        return (bytes(rows[0][0]), int(rows[0][1]), int(rows[0][2])) if rows else None

    def is_live(self, digest: bytes) -> bool:
        """Whether any file holds the picture with this hash."""
        return bool(self._all(f"SELECT 1 FROM content WHERE hash = ? AND {_LIVE}", (digest,)))

    def files_per_content(self) -> npt.NDArray[np.int64]:
        """Content id and number of files that hold it: (contents, 2) int64, by id."""
        return self._columns("SELECT content, COUNT(*) FROM file GROUP BY content ORDER BY content", 2)

    def known(self, under: str | None = None) -> dict[str, FileRow]:
        """Every known path, readable or not; with `under`, that path itself and all below it."""
        where, parameters = _under(under)
        files = self._all(f"SELECT path, mtime_ns, size, content FROM file {where}", parameters)
        failed = self._all(f"SELECT path, mtime_ns, size, NULL FROM failure {where}", parameters)
        rows = (FileRow(os.fsdecode(path), *rest) for path, *rest in files + failed)
        return {row.path: row for row in rows}

    def failures(self) -> list[tuple[str, str]]:
        """(path, reason) of every file that could not be read, by path."""
        rows = self._all("SELECT path, reason FROM failure ORDER BY path")
        return [(os.fsdecode(path), reason) for path, reason in rows]

    def shards(self) -> dict[int, int]:
        """Committed rows of each shard."""
        return dict(self._all("SELECT id, rows FROM shard ORDER BY id"))

    def codecs(self) -> dict[int, str]:
        """Digest of the codec of each shard that holds codes; the others hold fp16 vectors."""
        if self.schema_version() < _CODECS_SINCE:  # a gallery that may only be read
            return {}
        return dict(self._all("SELECT id, codec FROM shard WHERE codec IS NOT NULL ORDER BY id"))

    def files(self) -> int:
        """How many files hold a picture."""
        return int(self._all("SELECT COUNT(*) FROM file")[0][0])

    def counts(self) -> dict[str, int]:
        """Totals: files, failures, contents and regions, live and dead."""
        live = self._all(f"SELECT COUNT(*), COALESCE(SUM(rows), 0) FROM content WHERE {_LIVE}")[0]
        stored = self._all("SELECT COALESCE(SUM(rows), 0) FROM shard")[0][0]
        failed = self._all("SELECT COUNT(*) FROM failure")[0][0]
        return {
            "images": self.files(),
            "unreadable": failed,
            "distinct_images": live[0],
            "regions": live[1],
            "dead_regions": stored - live[1],
        }

    def integrity_problems(self) -> list[str]:
        """What SQLite's own check finds; empty when all is well."""
        found = [str(row[0]) for row in self._all("PRAGMA integrity_check")]
        found += [f"broken reference in table {row[0]}" for row in self._all("PRAGMA foreign_key_check")]
        return [line for line in found if line != "ok"]

    # Writing: call inside `transaction`

    def put_content(self, digest: bytes, row: ContentRow) -> int:
        """Add a picture (its `id` is ignored); returns the id."""
        sql = "INSERT INTO content (hash, width, height, shard, first, rows, crc) VALUES (?,?,?,?,?,?,?)"
        self._run(sql, (digest, *row[1:]))
        return int(self._all("SELECT last_insert_rowid()")[0][0])

    def put_file(self, path: str, mtime_ns: int, size: int, content: int) -> None:
        """Record that a path holds a picture; forgets an earlier failure."""
        key = os.fsencode(path)
        self._run("INSERT OR REPLACE INTO file VALUES (?,?,?,?)", (key, content, mtime_ns, size))
        self._run("DELETE FROM failure WHERE path = ?", (key,))

    def put_failure(self, path: str, mtime_ns: int, size: int, reason: str) -> None:
        """Record that a path cannot be read; it holds no picture any more."""
        key = os.fsencode(path)
        text = reason.encode("utf-8", "backslashreplace").decode()
        self._run("INSERT OR REPLACE INTO failure VALUES (?,?,?,?)", (key, mtime_ns, size, text))
        self._run("DELETE FROM file WHERE path = ?", (key,))

    def forget(self, path: str) -> None:
        """Drop one path, and what users said of it."""
        for table in ("file", "failure", "metadata"):
            self._run(f"DELETE FROM {table} WHERE path = ?", (os.fsencode(path),))

    def put_shard(self, shard: int, rows: int, codec: str | None = None) -> None:
        """Set the committed rows of a shard, and the digest of its codec where it holds codes."""
        self._run("INSERT OR REPLACE INTO shard VALUES (?,?,?)", (shard, rows, codec))

    def drop_shards_except(self, keep: Iterable[int]) -> None:
        """Forget every shard but these."""
        kept = ",".join(str(int(shard)) for shard in keep) or "-1"
        self._run(f"DELETE FROM shard WHERE id NOT IN ({kept})")

    def move_content(self, content: int, shard: int, first: int) -> None:
        """Point a picture at the new place of its vectors."""
        self._run("UPDATE content SET shard = ?, first = ? WHERE id = ?", (shard, first, content))

    def put_checksums(self, checksums: Iterable[tuple[int, int]]) -> None:
        """Replace checksums, given as (content id, checksum)."""
        with self._lock, self._explained():
            sql = "UPDATE content SET crc = ? WHERE id = ?"
            self._connection.executemany(sql, ((crc, content) for content, crc in checksums))

    def drop_dead_contents(self) -> int:
        """Forget pictures that no file holds; returns how many."""
        return self._run(f"DELETE FROM content WHERE NOT {_LIVE}")

    def drop_contents(self, content_ids: Iterable[int]) -> list[str]:
        """Forget pictures and their files; returns the paths."""
        lost = self.paths_of(content_ids := list(content_ids))
        for content in content_ids:
            self._run("DELETE FROM file WHERE content = ?", (content,))
            self._run("DELETE FROM content WHERE id = ?", (content,))
        return [path for path, _ in lost]


def _contents(live_only: bool) -> str:
    where = f"WHERE {_LIVE}" if live_only else ""
    return f"SELECT {_CONTENT_COLUMNS} FROM content {where} ORDER BY shard, first"


def _under(path: str | None) -> tuple[str, tuple[bytes, ...]]:
    if path is None:
        return "", ()
    key = os.fsencode(path)
    below = key.rstrip(os.sep.encode()) + os.sep.encode()
    return "WHERE path = ? OR (path >= ? AND path < ?)", (key, below, below[:-1] + bytes([below[-1] + 1]))
