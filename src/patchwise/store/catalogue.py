"""The catalogue: which files hold which picture, and where its vectors lie. SQLite, one file, WAL.

A *content* is one distinct picture (by hash of its bytes) with its vectors; a *file* is a path that holds it. So a
renamed or copied file needs no encoding, and a picture whose last file is gone is dead until compaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.errors import GalleryBusy, GalleryDamaged, GalleryError, GalleryMismatch, StorageFull

__all__ = ["CATALOGUE", "Catalogue", "ContentRow", "FileRow"]

CATALOGUE = "catalogue.sqlite"
_PATIENCE = 30  # seconds to wait for another connection

# Migration i takes a catalogue from schema version i to i + 1.
_MIGRATIONS = (
    """
    CREATE TABLE shard (id INTEGER PRIMARY KEY, rows INTEGER NOT NULL);
    CREATE TABLE content (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: a reader may still hold a forgotten one
        hash BLOB NOT NULL UNIQUE,
        width INTEGER NOT NULL, height INTEGER NOT NULL,
        shard INTEGER NOT NULL REFERENCES shard(id), first INTEGER NOT NULL, rows INTEGER NOT NULL,
        crc INTEGER NOT NULL
    );
    CREATE TABLE file (
        path BLOB PRIMARY KEY,
        content INTEGER NOT NULL REFERENCES content(id),
        mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX file_content ON file(content);
    CREATE TABLE failure (
        path BLOB PRIMARY KEY, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL
    ) WITHOUT ROWID;
    """,
)
SCHEMA_VERSION = len(_MIGRATIONS)


class FileRow(NamedTuple):
    """A known path: `content` is the id of its picture, or None where it could not be read."""

    path: str
    mtime_ns: int
    size: int
    content: int | None


class ContentRow(NamedTuple):
    """Where a picture's vectors lie: rows `first` to `first + rows` of a shard, with their checksum."""

    id: int
    width: int
    height: int
    shard: int
    first: int
    rows: int
    crc: int


_CONTENT_COLUMNS = "content.id, width, height, shard, first, rows, crc"
_LIVE = "EXISTS (SELECT 1 FROM file WHERE file.content = content.id)"


class Catalogue:
    """One connection to the catalogue; safe to read from several threads.

    Raises:
        GalleryDamaged: the file is missing or not a database.
        GalleryMismatch: its schema is newer than this program.
        GalleryBusy, StorageFull, GalleryError: it cannot be opened now.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self._path = folder / CATALOGUE
        self._lock = threading.RLock()
        if not create and not self._path.is_file():
            raise GalleryDamaged(f"{self._path}: missing. Restore it, or delete {folder} and index again")
        with self._explained():
            self._connection = self._connect(folder)
            try:
                self._prepare(os.access(folder, os.W_OK))
            except BaseException:
                self._connection.close()
                raise

    def _connect(self, folder: Path) -> sqlite3.Connection:
        mode = ""
        if not os.access(folder, os.W_OK):
            # WAL files cannot be made there. Where they exist, somebody else is writing; elsewhere nothing changes.
            mode = "?mode=ro" if (folder / f"{CATALOGUE}-wal").exists() else "?immutable=1"
        uri = self._path.resolve().as_uri() + mode
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_PATIENCE)

    def _prepare(self, writable: bool) -> None:
        if writable:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if self.schema_version() < SCHEMA_VERSION:
            self._migrate()
        if (version := self.schema_version()) > SCHEMA_VERSION:
            raise GalleryMismatch(
                f"{self._path}: catalogue schema {version} is newer than this patchwise knows ({SCHEMA_VERSION}). "
                "Upgrade: pip install -U patchwise"
            )

    def _migrate(self) -> None:
        with self.transaction():  # another process may be at it too: what is left to do is known only inside
            for step in range(self.schema_version(), SCHEMA_VERSION):
                for statement in _MIGRATIONS[step].split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {step + 1}")

    def schema_version(self) -> int:
        """The schema version recorded in the file."""
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            reason = str(error)
            if "readonly" in reason:
                raise StorageFull(f"{self._path}: cannot be written to ({error})") from error
            if "full" in reason or "disk I/O" in reason:
                raise StorageFull(
                    f"{self._path}: the disk refused a write ({error}). Free some space and run the same command "
                    "again; what was committed is safe"
                ) from error
            if "locked" in reason:
                raise GalleryBusy(
                    f"{self._path}: another program is using the catalogue ({error}); wait until it has finished"
                ) from error
            if "unable to open" in reason:
                raise GalleryError(
                    f"{self._path}: {error}; is it yours to read, and its folder to write in?"
                ) from error
            raise GalleryDamaged(f"{self._path}: {error}. Run: patchwise verify") from error
        except sqlite3.DatabaseError as error:
            raise GalleryDamaged(
                f"{self._path}: not a usable catalogue ({error}). Restore it from a backup, or delete the gallery "
                "and index again"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: commits on success, rolls back on any exception."""
        with self._lock, self._explained():
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Several reads of one and the same state."""
        with self._lock, self._explained():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def _all(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        with self._lock, self._explained():
            return self._connection.execute(sql, parameters).fetchall()

    def _run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        with self._lock, self._explained():
            return self._connection.execute(sql, parameters).rowcount

    def tidy(self) -> None:
        """Move what was committed into the main file, as far as no reader still needs the log beside it."""
        with self._lock, self._explained():
            self._connection.execute("PRAGMA busy_timeout = 0")  # a reader at work is no reason to wait
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {1000 * _PATIENCE}")

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

    def live_columns(self) -> npt.NDArray[np.int64]:
        """Live pictures in storage order: (pictures, 7) int64, the fields of `ContentRow`.

        Millions of pictures take 56 bytes each here, and ten times that as objects.
        """
        return self._columns(_contents(live_only=True), len(ContentRow._fields))

    def _columns(self, sql: str, width: int) -> npt.NDArray[np.int64]:
        with self._lock, self._explained():
            values = chain.from_iterable(self._connection.execute(sql))
            return np.fromiter(values, dtype=np.int64).reshape(-1, width)

    def paths_of(self, content_ids: Iterable[int]) -> list[tuple[str, int]]:
        """(path, content id) of the files that hold these pictures."""
        found: list[tuple[str, int]] = []
        with self._lock, self._explained():
            for content in content_ids:
                rows = self._connection.execute("SELECT path FROM file WHERE content = ?", (content,))
                found.extend((os.fsdecode(path), content) for (path,) in rows)
        return found

    def content_of(self, path: str) -> int | None:
        """Id of the picture that a path holds."""
        rows = self._all("SELECT content FROM file WHERE path = ?", (os.fsencode(path),))
        return int(rows[0][0]) if rows else None

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

    def counts(self) -> dict[str, int]:
        """Totals: files, failures, contents and regions, live and dead."""
        live = self._all(f"SELECT COUNT(*), COALESCE(SUM(rows), 0) FROM content WHERE {_LIVE}")[0]
        stored = self._all("SELECT COALESCE(SUM(rows), 0) FROM shard")[0][0]
        files = self._all("SELECT COUNT(*) FROM file")[0][0]
        failed = self._all("SELECT COUNT(*) FROM failure")[0][0]
        return {
            "images": files,
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
        """Drop one path."""
        for table in ("file", "failure"):
            self._run(f"DELETE FROM {table} WHERE path = ?", (os.fsencode(path),))

    def put_shard(self, shard: int, rows: int) -> None:
        """Set the committed rows of a shard."""
        self._run("INSERT OR REPLACE INTO shard VALUES (?,?)", (shard, rows))

    def drop_shards_except(self, keep: Iterable[int]) -> None:
        """Forget every shard but these."""
        kept = ",".join(str(int(shard)) for shard in keep) or "-1"
        self._run(f"DELETE FROM shard WHERE id NOT IN ({kept})")

    def move_content(self, content: int, shard: int, first: int) -> None:
        """Point a picture at the new place of its vectors."""
        self._run("UPDATE content SET shard = ?, first = ? WHERE id = ?", (shard, first, content))

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
    # The byte after the separator ends the range of everything below.
    return "WHERE path = ? OR (path >= ? AND path < ?)", (key, below, below[:-1] + bytes([below[-1] + 1]))
