"""Vector shards: append-only pairs of files, vectors or their codes and the table of their regions, row for row.

`000001.f16` holds (rows, dimension) little-endian fp16, or `000001.codes` (rows, code_bytes) uint8 where only codes are
kept; `000001.regions` holds (rows,) of `REGION_DTYPE`. The catalogue says how many rows are committed, and by which
codec (its digest; None for fp16); bytes beyond them are left over from a killed run and are overwritten.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.codecs import Codec
from patchwise.errors import GalleryDamaged
from patchwise.regions import Regions
from patchwise.regions.base import REGION_DTYPE
from patchwise.store.codec_files import CodecFiles
from patchwise.store.files import HOW_TO_MEND, MappedRows, force_folder, total_size, writing

__all__ = ["CODES", "FP16", "REGIONS", "SHARD_BYTES", "VECTORS", "Shards", "StoredRows", "VectorRows", "checksum"]

VECTORS = "vectors"
SHARD_BYTES = 256 * 1024 * 1024
FP16, CODES, REGIONS = ".f16", ".codes", ".regions"

StoredRows = npt.NDArray[Any]
"""Rows as they are stored: (rows, dimension) fp16, or (rows, code_bytes) uint8."""


def checksum(stored: StoredRows, regions: npt.NDArray[np.void]) -> int:
    """CRC-32 over one picture's rows as stored."""
    return zlib.crc32(regions.tobytes(), zlib.crc32(stored.tobytes()))


class _Layout(NamedTuple):
    suffix: str
    dtype: str
    columns: int

    @property
    def row_bytes(self) -> int:
        return self.columns * np.dtype(self.dtype).itemsize


class VectorRows:
    """The vectors of a shard, memory-mapped as stored, and decoded when they are asked for where these are codes."""

    def __init__(self, mapped: MappedRows, codec: Codec | None) -> None:
        self.stored: StoredRows = mapped.array
        self.codec = codec
        self.fetch, self.release, self._take = mapped.fetch, mapped.release, mapped.take

    def read(self, first: int, end: int) -> npt.NDArray[np.float16]:
        """Vectors `first` to `end`: (N, dimension) fp16, mapped where they are stored so."""
        self.fetch(first, end)
        return _decoded(self.stored[first:end], self.codec)

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[np.float16]) -> None:
        """Vectors of (N,) rows, all of which exist, into an (N, dimension) array."""
        if self.codec is None:
            self._take(rows, out)
        else:
            out[:] = _decoded(self.stored[rows], self.codec)


def _decoded(stored: StoredRows, codec: Codec | None) -> npt.NDArray[np.float16]:
    return stored if codec is None else codec.vectors(stored).astype("<f2")


class Shards:
    """The shard files of one gallery; `codec` is everywhere the digest of a shard of codes, None for fp16."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder = folder / VECTORS
        self.dimension = dimension
        self.codecs = CodecFiles(self.folder)

    @property
    def rows_per_shard(self) -> int:
        """How many rows a shard takes, of either kind, before the next one is begun."""
        return max(SHARD_BYTES // (2 * self.dimension), 1)

    def path(self, shard: int, suffix: str = FP16) -> Path:
        """A shard's file."""
        return self.folder / f"{shard:06d}{suffix}"

    def _layout(self, codec: str | None) -> _Layout:
        if codec is None:
            return _Layout(FP16, "<f2", self.dimension)
        return _Layout(CODES, "u1", self.codecs.load(codec).code_bytes)

    def to_store(self, vectors: Sequence[npt.NDArray[np.float32]], codec: str | None = None) -> list[StoredRows]:
        """Vectors of several pictures as they are stored.

        Codes are those of the vectors in half precision, as if they had been stored so before.
        """
        halves: list[StoredRows] = [each.astype("<f2") for each in vectors]
        if codec is None or not halves:
            return halves
        codes = self.codecs.load(codec).encode(np.concatenate(halves).astype(np.float32))
        return np.split(codes, np.cumsum([len(each) for each in halves])[:-1])

    def append(
        self,
        shard: int,
        committed: int,
        stored: StoredRows,
        table: npt.NDArray[np.void],
        codec: str | None = None,
    ) -> None:
        """Write rows behind the committed ones and force them to disk.

        Raises:
            StorageFull: the disk refused; the committed rows are untouched.
            GalleryDamaged: the shard is shorter than its committed rows.
        """
        layout = self._layout(codec)
        for suffix, row_bytes, rows in (
            (layout.suffix, layout.row_bytes, stored),
            (REGIONS, REGION_DTYPE.itemsize, table),
        ):
            path = self.path(shard, suffix)
            start = committed * row_bytes
            with writing(path):
                new = not path.exists()
                with path.open("x+b" if new else "r+b") as file:
                    if file.seek(0, os.SEEK_END) < start:
                        raise GalleryDamaged(
                            f"{path}: vector shard holds fewer than its {committed:,} committed rows. {HOW_TO_MEND}"
                        )
                    file.seek(start)
                    file.write(rows.tobytes())
                    file.truncate()
                    file.flush()
                    os.fsync(file.fileno())
                if new:
                    force_folder(self.folder)

    def check(self, committed: Mapping[int, int], codecs: Mapping[int, str] | None = None) -> None:
        """Make sure every committed row is there, and what is needed to read it.

        Raises:
            GalleryDamaged: a shard or its codec is missing or cut short.
        """
        for shard, rows in committed.items():
            for path, complaint in self.problems(shard, rows, (codecs or {}).get(shard)):
                raise GalleryDamaged(f"{path}: {complaint}. {HOW_TO_MEND}")

    def problems(self, shard: int, rows: int, codec: str | None = None) -> list[tuple[Path, str]]:
        """What is wrong with a shard's files, as (path, complaint)."""
        found = []
        sizes = {REGIONS: REGION_DTYPE.itemsize}
        if codec is not None and (complaint := self.codecs.complaint(codec)) is not None:
            found.append((self.codecs.path(codec), complaint))
        else:
            layout = self._layout(codec)
            sizes = {layout.suffix: layout.row_bytes, **sizes}
        for suffix, row_bytes in sizes.items():
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

    def vectors(self, shard: int, rows: int, codec: str | None = None) -> VectorRows:
        """The first `rows` vectors, memory-mapped."""
        layout = self._layout(codec)
        path = self.path(shard, layout.suffix)
        mapped = MappedRows(path, layout.dtype, rows, layout.columns, scattered=codec is None)
        return VectorRows(mapped, None if codec is None else self.codecs.load(codec))

    def regions(self, shard: int, first: int, rows: int) -> Regions:
        """The regions of some rows, read from disk."""
        with self.path(shard, REGIONS).open("rb") as file:
            file.seek(first * REGION_DTYPE.itemsize)
            return Regions(np.frombuffer(file.read(rows * REGION_DTYPE.itemsize), dtype=REGION_DTYPE))

    def stored(self, shard: int, first: int, rows: int, codec: str | None = None) -> StoredRows:
        """Some rows as they are stored, read from disk."""
        layout = self._layout(codec)
        with self.path(shard, layout.suffix).open("rb") as file:
            file.seek(first * layout.row_bytes)
            data = np.frombuffer(file.read(rows * layout.row_bytes), dtype=layout.dtype)
        return data.reshape(-1, layout.columns)

    def remove(self, shard: int, suffixes: Sequence[str] = (FP16, CODES, REGIONS)) -> None:
        """Delete a shard's files; one that is still in use elsewhere (Windows) is left for the next compaction."""
        for suffix in suffixes:
            try:
                self.path(shard, suffix).unlink(missing_ok=True)
            except PermissionError:
                continue

    def remove_stale(self, shards: Iterable[int], codecs: Mapping[int, str]) -> None:
        """Delete what the change of shards to codes has left or begun, and codecs that none of them needs."""
        for shard in shards:
            self.remove(shard, (FP16,) if shard in codecs else (CODES,))
        self.codecs.remove_except(codecs.values())

    def ids_on_disk(self) -> list[int]:
        """Numbers of all shard files present, known to the catalogue or not."""
        paths = (path for suffix in (FP16, CODES, REGIONS) for path in self.folder.glob(f"*{suffix}"))
        return sorted({int(path.stem) for path in paths if path.stem.isdecimal()})

    def bytes_on_disk(self, suffix: str = "") -> int:
        """Size of all shard files, or of those of one kind."""
        return total_size(path for path in self.folder.iterdir() if path.name.endswith(suffix))
