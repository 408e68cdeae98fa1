"""Query pictures: the uploaded ones, kept on disk so that links to searches last, and the last ones decoded."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from patchwise.errors import StorageFull
from patchwise.images import digest_of, with_digest
from patchwise.whole_files import whole_file

__all__ = ["DecodedPictures", "KeptPictures"]

Pixels = npt.NDArray[np.uint8]

_NAME = re.compile(r"[0-9a-f]{32}")
_KEPT_AFTER_PRUNING = 0.9


class KeptPictures:
    """Uploaded query pictures by image id, on disk; when they are more than `most_bytes`, those unused longest go."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes
        self._lock = threading.Lock()
        self._size: int | None = None

    def keep(self, content: bytes) -> str:
        """Keep a file's bytes; returns its image id.

        Raises:
            StorageFull: the disk refused.
        """
        digest = digest_of(content)
        file = self._folder / digest
        with self._lock:
            known = self.open(digest)
            if known is not None:
                known.close()
                return digest
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with whole_file(file) as beside:
                    beside.write_bytes(content)
            except OSError as error:
                raise StorageFull(f"{file}: cannot be written ({error.strerror or error})") from error
            self._size = None if self._size is None else self._size + len(content)
            if self._size is None or self._size > self._most:
                self._size = self._prune(digest)
        return digest

    def open(self, digest: str) -> BinaryIO | None:
        """The file of a picture that is kept, which now counts as used; None where it is not, or is damaged.

        It is at its beginning; the caller closes it.
        """
        place = self._folder / digest
        try:
            file = with_digest(place.open("rb"), digest)
        except OSError:  # not there, or not readable: it can be uploaded again
            return None
        if file is not None:
            with suppress(OSError):  # another process may have deleted it just now
                os.utime(place)
        return file

    def __contains__(self, digest: str) -> bool:
        """Whether a picture is kept, as far as can be told without reading it."""
        return (self._folder / digest).is_file()

    def _prune(self, latest: str) -> int:
        """Delete those unused longest until the rest fits, but never the latest; returns the bytes left."""
        entries = []
        for entry in os.scandir(self._folder):
            with suppress(OSError):
                if _NAME.fullmatch(entry.name):
                    status = entry.stat(follow_symlinks=False)
                    entries.append((status.st_mtime, status.st_size, entry))
        size = sum(of_file for _, of_file, _ in entries)
        if size <= self._most:
            return size
        for _, of_file, entry in sorted(entries, key=lambda found: found[0]):
            if size <= self._most * _KEPT_AFTER_PRUNING:
                break
            if entry.name != latest:
                with suppress(OSError):
                    os.unlink(entry.path)
                    size -= of_file
        return size


class DecodedPictures:
    """The pictures used last, decoded: (height, width, 3) uint8 RGB each, `most_bytes` in all.

    A box drawn on a picture that was searched with before costs no decoding, and a picture that several ask for at
    once is decoded by one of them while the others wait.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, Pixels] = OrderedDict()
        self._under_way: dict[str, Future[Pixels]] = {}
        self._bytes = 0

    @property
    def bytes_held(self) -> int:
        """Memory taken by what is kept."""
        return self._bytes

    def get(self, digest: str, decode: Callable[[], Pixels]) -> Pixels:
        """The picture with this id, decoded when it is not at hand; whatever `decode` raises is raised."""
        with self._lock:
            found = self._pictures.get(digest)
            if found is not None:
                self._pictures.move_to_end(digest)
                return found
            other = self._under_way.get(digest)
            if other is None:
                mine = self._under_way[digest] = Future()
        if other is not None:
            return other.result()
        try:
            pixels = decode()
        except BaseException as error:
            with self._lock:
                del self._under_way[digest]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._under_way[digest]
            self._keep(digest, pixels)
        mine.set_result(pixels)
        return pixels

    def _keep(self, digest: str, pixels: Pixels) -> None:
        if pixels.nbytes > self._most:
            return
        self._pictures[digest] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self._most:
            _, oldest = self._pictures.popitem(last=False)
            self._bytes -= oldest.nbytes
