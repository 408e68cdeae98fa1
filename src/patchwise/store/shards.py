"""Vector shards: append-only pairs of files, fp16 vectors and the table of their regions, row for row.

`000001.f16` holds (rows, dimension) little-endian fp16, `000001.regions` (rows,) of `REGION_DTYPE`. The catalogue
says how many rows are committed; bytes beyond them are left over from a killed run and are overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchwise.errors import GalleryDamaged, StorageFull
from patchwise.regions import Regions
from patchwise.regions.base import REGION_DTYPE

__all__ = ["SHARD_BYTES", "VECTORS", "Shards", "checksum", "total_size"]

VECTORS = "vectors"
SHARD_BYTES = 256 * 1024 * 1024
_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def checksum(vectors: npt.NDArray[np.float16], regions: npt.NDArray[np.void]) -> int:
    """CRC-32 over one picture's rows as stored."""
    return zlib.crc32(regions.tobytes(), zlib.crc32(vectors.tobytes()))


class Shards:
    """The shard files of one gallery."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder = folder / VECTORS
        self.dimension = dimension
        self._row_bytes = {".f16": 2 * dimension, ".regions": REGION_DTYPE.itemsize}

    @property
    def rows_per_shard(self) -> int:
        """How many rows a shard takes before the next one is begun."""
        return max(SHARD_BYTES // self._row_bytes[".f16"], 1)

    def path(self, shard: int, suffix: str = ".f16") -> Path:
        """A shard's file."""
        return self.folder / f"{shard:06d}{suffix}"

    def append(self, shard: int, committed: int, vectors: npt.NDArray[np.float16], table: npt.NDArray[np.void]) -> None:
        """Write rows behind the committed ones and force them to disk.

        Raises:
            StorageFull: the disk refused; the committed rows are untouched.
            GalleryDamaged: the shard is shorter than its committed rows.
        """
        for suffix, rows in ((".f16", vectors), (".regions", table)):
            path = self.path(shard, suffix)
            start = committed * self._row_bytes[suffix]
            try:
                with path.open("r+b" if path.exists() else "x+b") as file:
                    if file.seek(0, os.SEEK_END) < start:
                        raise self._short(path, committed)
                    file.seek(start)
                    file.write(rows.tobytes())
                    file.truncate()
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                what = "Free some space" if error.errno in _NO_SPACE else "Mend that"
                raise StorageFull(
                    f"{path}: the disk refused a write ({error.strerror or error}). {what} and run the same "
                    "command again; what was committed is safe"
                ) from error

    def check(self, committed: dict[int, int]) -> None:
        """Make sure every committed row is there.

        Raises:
            GalleryDamaged: a shard is missing or cut short.
        """
        for shard, rows in committed.items():
            for path, complaint in self.problems(shard, rows):
                raise GalleryDamaged(f"{path}: {complaint}. {_HOW_TO_MEND}")

    def problems(self, shard: int, rows: int) -> list[tuple[Path, str]]:
        """What is wrong with a shard's files, as (path, complaint)."""
        found = []
        for suffix, row_bytes in self._row_bytes.items():
            path = self.path(shard, suffix)
            expected = rows * row_bytes
            try:
                actual = path.stat().st_size
            except FileNotFoundError:
                found.append((path, "vector shard is missing"))
                continue
            if actual < expected:
                found.append((path, f"vector shard is cut short: {actual:,} bytes instead of {expected:,}"))
        return found

    def _short(self, path: Path, committed: int) -> GalleryDamaged:
        return GalleryDamaged(f"{path}: vector shard holds fewer than its {committed:,} committed rows. {_HOW_TO_MEND}")

    def vectors(self, shard: int, rows: int) -> npt.NDArray[np.float16]:
        """The first `rows` vectors, memory-mapped: (rows, dimension) fp16."""
        return np.memmap(self.path(shard), dtype="<f2", mode="r", shape=(rows, self.dimension))

    def regions(self, shard: int, first: int, rows: int) -> Regions:
        """The regions of some rows, read from disk."""
        with self.path(shard, ".regions").open("rb") as file:
            file.seek(first * REGION_DTYPE.itemsize)
            return Regions(np.frombuffer(file.read(rows * REGION_DTYPE.itemsize), dtype=REGION_DTYPE))

    def read(self, shard: int, first: int, rows: int) -> npt.NDArray[np.float16]:
        """The vectors of some rows, read from disk: (rows, dimension) fp16."""
        row_bytes = self._row_bytes[".f16"]
        with self.path(shard).open("rb") as file:
            file.seek(first * row_bytes)
            data = np.frombuffer(file.read(rows * row_bytes), dtype="<f2")
        return data.reshape(-1, self.dimension)

    def remove(self, shard: int) -> None:
        """Delete a shard's files; one that is still in use elsewhere (Windows) is left for the next compaction."""
        for suffix in self._row_bytes:
            try:
                self.path(shard, suffix).unlink(missing_ok=True)
            except PermissionError:
                continue

    def ids_on_disk(self) -> list[int]:
        """Numbers of all shard files present, known to the catalogue or not."""
        return sorted(
            {int(path.stem) for path in self.folder.glob("*.f16") if path.stem.isdecimal()}
            | {int(path.stem) for path in self.folder.glob("*.regions") if path.stem.isdecimal()}
        )

    def bytes_on_disk(self) -> int:
        """Size of all shard files."""
        return total_size(self.folder.iterdir())


def total_size(paths: Iterable[Path]) -> int:
    """Size of all files among these; one that another process has just deleted counts nothing."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


_HOW_TO_MEND = (
    "Restore the file from a backup, or run `patchwise verify --repair`, which forgets the images whose vectors "
    "are lost so that the next `patchwise index` encodes them again"
)
