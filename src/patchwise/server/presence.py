"""Several servers over one folder of uploads: each says that it is there, so that none takes another for dead."""

from __future__ import annotations

import os
import re
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["Presence"]

_NAME = re.compile(r"[0-9a-f]{8}")


class Presence:
    """This server among those that use a folder; `name` is its own for as long as it runs.

    A server that is there holds a lock on a file of its name. The operating system drops it when the process ends,
    however that happens. Where the file system knows no locks, every server takes itself to be alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ".servers"
        self._lock: FileLock | None = None
        self._beginning = threading.Lock()
        self.name = secrets.token_hex(4)

    def begin(self) -> None:
        """Say that this server is there; the folder exists. Once more changes nothing."""
        with self._beginning, suppress(OSError, NotImplementedError):
            if self._lock is not None:
                return
            self._folder.mkdir(exist_ok=True)
            # Another server may just be looking whether this file is that of a dead one.
            lock = FileLock(self._folder / self.name, timeout=1, thread_local=False)
            lock.acquire()
            self._lock = lock

    def end(self) -> None:
        """This server is there no more."""
        if self._lock is not None:
            self._forget(self.name)
            self._lock.release()
            self._lock = None

    def is_there(self, name: str) -> bool:
        """Whether another server of this name still runs."""
        if name == self.name or not _NAME.fullmatch(name) or not (self._folder / name).is_file():
            return False
        lock = FileLock(self._folder / name, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return True
        except (OSError, NotImplementedError):
            return False
        self._forget(name)
        lock.release()
        return False

    def is_alone(self) -> bool:
        """Whether no other server runs."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return True
        return not any(self.is_there(name) for name in names)

    def _forget(self, name: str) -> None:
        with suppress(OSError):  # Windows deletes no file that is open; the next server does
            os.unlink(self._folder / name)
