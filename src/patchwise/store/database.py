"""The catalogue's file: one connection to it, schema versions, transactions, and its errors said in words."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from patchwise.errors import GalleryBusy, GalleryDamaged, GalleryError, GalleryMismatch, GalleryNotFound, StorageFull

__all__ = ["CATALOGUE", "SCHEMA_VERSION", "Database"]

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
    # The digest of the codec of a shard that holds codes; NULL where it holds fp16 vectors.
    "ALTER TABLE shard ADD COLUMN codec TEXT;",
    # What users say of their images: column `c` and the id of a metadata_column is added when its name first comes.
    """
    CREATE TABLE metadata_column (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE metadata (path BLOB PRIMARY KEY) WITHOUT ROWID;
    """,
)
SCHEMA_VERSION = len(_MIGRATIONS)


def _file_name(path: bytes) -> str:
    """The last part of a path; bytes that are no text become replacement characters."""
    return path[path.rfind(os.sep.encode()) + 1 :].decode("utf-8", "replace")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that takes its place; None where there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


class Database:
    """One connection to the catalogue's file; safe to use from several threads.

    Raises:
        GalleryDamaged: the file is missing or not a database.
        GalleryMismatch: its schema is newer than this program.
        GalleryBusy, StorageFull, GalleryError: it cannot be opened now.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self._path = folder / CATALOGUE
        self._lock = threading.RLock()
        self._closed = False
        if not create and not self._path.is_file():
            raise GalleryDamaged(f"{self._path}: missing. Restore it, or delete {folder} and index again")
        with self._explained():
            before = _identity(self._path)
            self._connection = self._connect(folder)
            try:
                self._prepare(os.access(folder, os.W_OK), os.access(self._path, os.W_OK))
            except BaseException:
                self._connection.close()
                raise
        self._file = before or _identity(self._path)

    def _connect(self, folder: Path) -> sqlite3.Connection:
        mode = ""
        if not os.access(folder, os.W_OK):
            # WAL files cannot be made there. Where they exist, somebody else is writing; elsewhere nothing changes.
            mode = "?mode=ro" if (folder / f"{CATALOGUE}-wal").exists() else "?immutable=1"
        uri = self._path.resolve().as_uri() + mode
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_PATIENCE)
        connection.create_function("file_name", 1, _file_name, deterministic=True)
        return connection

    def _prepare(self, folder_writable: bool, file_writable: bool) -> None:
        if folder_writable:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        # Where nothing may be written, an older schema is read as it is.
        if (found := self.schema_version()) < SCHEMA_VERSION and ((folder_writable and file_writable) or not found):
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

    def is_in_place(self) -> bool:
        """Whether the file that is open still lies at its path: it may have been deleted, or another be there."""
        return self._file is not None and _identity(self._path) == self._file

    def check_in_place(self) -> None:
        """Refuse what reaches other files of the gallery by their paths, where these may be another gallery's by now.

        Raises:
            GalleryNotFound: the gallery was deleted, or made anew, since it was opened.
        """
        if not self.is_in_place():
            raise GalleryNotFound(
                f"{self._path.parent}: the gallery was deleted or made anew since it was opened; open it again"
            )

    def schema_version(self) -> int:
        """The schema version recorded in the file."""
        return int(self._all("PRAGMA user_version")[0][0])

    def close(self) -> None:
        """Close the connection once no other thread reads or writes; whoever comes later gets a `GalleryError`."""
        with self._lock:
            self._closed = True
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
        except sqlite3.ProgrammingError as error:  # says nothing of the file
            if self._closed:
                raise GalleryError(f"{self._path.parent}: the gallery is closed; open it again") from error
            raise
        except sqlite3.DatabaseError as error:
            raise GalleryDamaged(
                f"{self._path}: not a usable catalogue ({error}). Restore it from a backup, or delete the gallery "
                "and index again"
            ) from error

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing: commits on success, rolls back on any exception.

        A `durable` commit also outlives a power cut, so that files it needs no more may be deleted after it.
        """
        with self._lock, self._explained():
            if durable:
                self._connection.execute("PRAGMA synchronous = FULL")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if not self._closed and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                if durable and not self._closed:
                    self._connection.execute("PRAGMA synchronous = NORMAL")

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
