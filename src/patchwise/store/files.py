"""Files of a gallery: forced to disk, measured, mapped; and what the disk refuses said in words."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchwise.errors import GalleryError, StorageFull
from patchwise.whole_files import force_folder

__all__ = ["HOW_TO_MEND", "MappedRows", "force_folder", "total_size", "writing"]

HOW_TO_MEND = (
    "Restore the file from a backup, or run `patchwise verify --repair`, which forgets the images whose vectors "
    "are lost so that the next `patchwise index` encodes them again"
)
_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

_TOO_MANY = {errno.EMFILE, errno.ENFILE}
_FILES_FOR_OTHERS = 64
_PROBED = 8  # rows copied at first


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses while a file is written into `StorageFull`."""
    try:
        yield
    except OSError as error:
        what = "Free some space" if error.errno in _NO_SPACE else "Mend that"
        raise StorageFull(
            f"{path}: the disk refused a write ({error.strerror or error}). {what} and run the same "
            "command again; what was committed is safe"
        ) from error


def allow_open_files(more: int) -> None:
    """Raise this process's own limit, as far as it may, so that so many more files can be open (not on Windows)."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        needed = len(os.listdir("/dev/fd")) + more + _FILES_FOR_OTHERS
    except OSError:
        needed = more + 4 * _FILES_FOR_OTHERS
    if resource.RLIM_INFINITY not in (soft, hard):
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        with contextlib.suppress(ValueError, OSError):  # then opening them says so
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextlib.contextmanager
def opening(path: Path, files: int) -> Iterator[None]:
    """Turn what the system says when too many files are open into a `GalleryError`; `files` are needed at least."""
    try:
        yield
    except OSError as error:
        if error.errno not in _TOO_MANY:
            raise
        raise GalleryError(
            f"{path}: {files:,} files have to be open at once, more than this system allows ({error.strerror}). Allow "
            f"more and run the same command again: ulimit -n {2 * files + _FILES_FOR_OTHERS}"
        ) from error


def total_size(paths: Iterable[Path]) -> int:
    """Size of all files among these; one that another process has just deleted counts nothing."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def _reads_from_disk() -> int:
    """How often this thread has waited for a mapped page to be read, where the system tells (Linux)."""
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


class MappedRows:
    """The first rows of a file, memory-mapped read-only: `array` is (rows, columns).

    With `scattered`, a row that is not in memory is read by itself, without what lies around it: some ten times as fast
    where rows are read here and there, and far slower where many are read in a row, unless `fetch` announces them.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, rows: int, columns: int, *, scattered: bool = False) -> None:
        kind = np.dtype(dtype)
        self._row_bytes = columns * kind.itemsize
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), rows * self._row_bytes, access=mmap.ACCESS_READ)
        if scattered and hasattr(mmap, "MADV_RANDOM"):
            self._map.madvise(mmap.MADV_RANDOM)
        self.array: npt.NDArray[np.generic] = np.frombuffer(self._map, dtype=kind).reshape(rows, columns)

    def fetch(self, first: int, end: int) -> None:
        """Have the rows `first` to `end` read ahead, where they are not in memory yet."""
        if hasattr(mmap, "MADV_WILLNEED") and first < end:
            start = first * self._row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, start, end * self._row_bytes - start)

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[np.generic]) -> None:
        """Copy (N,) rows, all of which exist, to an (N, columns) array.

        Where the first of them are not in memory, all others are asked for at once: a disk reads many in parallel.
        """
        first, before = min(_PROBED, len(rows)), _reads_from_disk()
        np.take(self.array, rows[:first], axis=0, out=out[:first], mode="clip")  # any other mode copies once more
        if _reads_from_disk() > before:
            self._fetch_each(rows[first:])
        np.take(self.array, rows[first:], axis=0, out=out[first:], mode="clip")

    def _fetch_each(self, rows: npt.NDArray[np.int64]) -> None:
        if hasattr(mmap, "MADV_WILLNEED"):
            begins = rows * self._row_bytes // mmap.PAGESIZE
            ends = ((rows + 1) * self._row_bytes - 1) // mmap.PAGESIZE + 1
            for begin, end in sorted(set(zip(begins.tolist(), ends.tolist(), strict=True))):
                with contextlib.suppress(OSError):  # only a hint
                    self._map.madvise(mmap.MADV_WILLNEED, begin * mmap.PAGESIZE, (end - begin) * mmap.PAGESIZE)

    def release(self, first: int, end: int) -> None:
        """Let go of the memory that rows `first` to `end` take; whoever reads them again gets them from the file."""
        if hasattr(mmap, "MADV_DONTNEED"):
            start = first * self._row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            length = end * self._row_bytes // mmap.PAGESIZE * mmap.PAGESIZE - start  # what follows is still needed
            if length > 0:
                self._map.madvise(mmap.MADV_DONTNEED, start, length)
