"""What is dear to compute of a picture, kept beside the gallery: derived, so it may be deleted at any time.

GALLERY/remembered/RECIPE/HASH   arrays of one picture by one recipe: the first letters of the digest of the recipe's
                                 name, and the hash of the picture's bytes as in the catalogue
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchwise.images import stat_image
from patchwise.store.catalogue import Catalogue

__all__ = ["REMEMBERED", "REMEMBERED_BYTES", "RememberedArrays", "forget_dropped"]

REMEMBERED = "remembered"
REMEMBERED_BYTES = 2**30
"""All that is kept for a gallery; beyond that the oldest go. About 4,000 pictures' local features."""

_KEPT_AFTER_PRUNING = 0.8
_DIGEST_BYTES = 16
_ABANDONED = 3_600  # seconds after which a half-written file belongs to a process that was killed

Arrays = Mapping[str, npt.NDArray[np.generic]]


class RememberedArrays:
    """Arrays of a gallery's pictures by the name of what computes them; safe to use from several threads.

    A file that is not the one that was indexed any more is neither looked up nor kept. What is damaged is made again.
    Where nothing can be written, nothing is kept, and all is computed each time.

    Args:
        folder: the gallery.
        catalogue: its catalogue.
        most_bytes: all that is kept; the oldest go first.
    """

    def __init__(self, folder: Path, catalogue: Catalogue, most_bytes: int = REMEMBERED_BYTES) -> None:
        self._folder, self._catalogue, self._most = folder / REMEMBERED, catalogue, most_bytes
        self._lock = threading.Lock()
        self._size: int | None = None

    def __call__(self, path: str, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Arrays of the picture that a path holds.

        Args:
            path: of an image file, or into a tar file.
            name: what the arrays are and all that decides them; other names are kept apart.
            compute: makes them where they are not known; of numbers, whose kind is kept.

        Raises:
            ImageUnreadable: the file is gone.
        """
        known = self._catalogue.stored_file(path)
        if known is None or stat_image(path) != known[1:]:
            return compute()
        file = self._folder / hashlib.blake2b(name.encode(), digest_size=8).hexdigest() / known[0].hex()
        label = name.encode() + b"\0" + known[0]
        found = _read(file, label)
        if found is None:
            found = compute()
            # It may have been written to while it was looked at.
            if stat_image(path) == known[1:]:
                self._keep(file, label, found)
        return found

    def _keep(self, file: Path, label: bytes, arrays: Arrays) -> None:
        from safetensors.numpy import save

        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        if len(content) > self._most * (1 - _KEPT_AFTER_PRUNING):
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(file, _digest(label, content) + content)
        except OSError:  # a gallery that may only be read, or a full disk: what is kept is only a convenience
            return
        with self._lock:
            if self._size is None:
                self._size = sum(size for _, _, size in _entries(self._folder))
            else:
                self._size += _DIGEST_BYTES + len(content)
            if self._size > self._most:
                self._size = _prune(self._folder, self._most * _KEPT_AFTER_PRUNING)


def forget_dropped(folder: Path, catalogue: Catalogue) -> int:
    """Delete what is kept of pictures that no file of a gallery holds any more; returns how many entries."""
    dropped = 0
    for file, _, _ in list(_entries(folder / REMEMBERED)):
        with contextlib.suppress(ValueError):  # a half-written file, or not ours
            if not catalogue.is_live(bytes.fromhex(file.name)) and _deleted(file):
                dropped += 1
    return dropped


def _read(file: Path, label: bytes) -> Arrays | None:
    """What a file holds, or None where it is not there, or is not what was written under this label."""
    from safetensors.numpy import load

    try:
        content = file.read_bytes()
    except OSError:  # not there, or not readable: it is made again
        return None
    digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if digest != _digest(label, rest):
        return None
    arrays: dict[str, npt.NDArray[np.generic]] = load(rest)
    return arrays


def _write(file: Path, content: bytes) -> None:
    """All or nothing; not forced to disk, as what a power cut damages is made again."""
    temporary = file.with_name(f".{file.name}-{os.getpid()}-{threading.get_ident()}.new")
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(label: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, key=hashlib.blake2b(label).digest(), digest_size=_DIGEST_BYTES).digest()


def _entries(folder: Path) -> Iterator[tuple[Path, float, int]]:
    """(file, time of writing, size) of everything below the folder; what goes away meanwhile is left out."""
    try:
        recipes = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return
    for recipe in recipes:
        with contextlib.suppress(OSError):
            for entry in os.scandir(recipe):
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    yield Path(entry.path), status.st_mtime, status.st_size


def _prune(folder: Path, most: float) -> int:
    """Delete the oldest entries until `most` bytes are left, and what was never finished; returns the bytes left."""
    entries = sorted(_entries(folder), key=lambda entry: entry[1])
    size = sum(entry[2] for entry in entries)
    for file, written, of_file in entries:
        unfinished = file.suffix == ".new"
        if (time.time() - written > _ABANDONED) if unfinished else size > most:
            size -= of_file if _deleted(file) else 0
    return size


def _deleted(file: Path) -> bool:
    try:
        file.unlink()
    except OSError:  # another process was quicker, or it may not be deleted
        return False
    return True
