"""Derived codes: one file per shard, row for row with its vectors, and what they were made with.

`compressed/current.json` names the generation in use, a folder with the codec, `index.json` and `000001.codes` and so
on, each (rows, code_bytes) uint8. All of it can be made again from the shards; nothing here is ever the only copy.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from patchwise.codecs import Codec, load_codec
from patchwise.errors import GalleryDamaged
from patchwise.store.files import force_folder, opening, writing
from patchwise.whole_files import whole_file

__all__ = [
    "COMPRESSED",
    "Codes",
    "CodesRecord",
    "codes_version",
    "drop_all",
    "drop_unused",
    "forget_codes",
    "forget_uncommitted",
]

COMPRESSED = "compressed"
_CURRENT, _RECORD, _CODEC = "current.json", "index.json", "codec.safetensors"
_FORMAT, _VERSION = "patchwise-codes", 2  # the version is raised when what a record says changes its shape
_READ_BYTES = 1 << 22


@dataclass(frozen=True)
class CodesRecord:
    """What is known of one generation of codes.

    `shards` holds for each shard its rows and the CRC-32 of its codes; `training` and `calibration` are of those who
    made the codes and those who search them, as JSON.
    """

    codec: str
    dimension: int
    shards: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)


class Codes:
    """One generation of derived codes, open for reading; the gallery's writer may add to it."""

    def __init__(self, folder: Path, codec: Codec, record: CodesRecord) -> None:
        self.folder, self.codec, self.record = folder, codec, record

    @classmethod
    def open(cls, gallery: Path, dimension: int) -> Codes | None:
        """The generation in use; None where there is none that can be used.

        Lost, half-written, damaged, of another version or for other vectors is all the same: it is made again.
        """
        root = gallery / COMPRESSED
        try:
            current = _read(root / _CURRENT)
            folder = root / Path(str(current["generation"])).name
            content = _read(folder / _RECORD)
            shards = {int(shard): (int(rows), int(crc)) for shard, (rows, crc) in content["shards"].items()}
            record = CodesRecord(
                str(content["codec"]),
                int(content["dimension"]),
                shards,
                dict(content["training"]),
                dict(content["calibration"]),
            )
            codec = load_codec(folder / _CODEC, str(content["codec_digest"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, AttributeError, GalleryDamaged):
            return None
        return cls(folder, codec, record) if record.dimension == codec.dimension == dimension else None

    @classmethod
    def begin(cls, gallery: Path, codec: Codec, training: Mapping[str, Any]) -> Codes:
        """A new generation, not in use before `publish`; what an interrupted one has left is deleted.

        Raises:
            StorageFull: the disk refused.
        """
        root = gallery / COMPRESSED
        drop_unused(gallery)
        with writing(root):
            root.mkdir(exist_ok=True)
            numbers = [int(entry.name) for entry in root.iterdir() if entry.name.isdecimal()]
            folder = root / f"{max(numbers, default=0) + 1:04d}"
            folder.mkdir()
        made = cls(folder, codec, CodesRecord(codec.name, codec.dimension, training=training))
        try:
            codec.save(folder / _CODEC)
            made.record_as(made.record)
        except BaseException:
            made.discard()
            raise
        return made

    def publish(self) -> None:
        """Put this generation to use, and delete all others; readers of another keep what they have mapped."""
        root = self.folder.parent
        _write(root / _CURRENT, {"generation": self.folder.name})
        for entry in root.iterdir():
            if entry != self.folder and entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)  # in use elsewhere (Windows): gone with the next generation

    def discard(self) -> None:
        """Delete this generation, which was not put to use."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def record_as(self, record: CodesRecord) -> None:
        """Replace what is known of this generation, in one step."""
        _write(self.folder / _RECORD, {**asdict(record), "codec_digest": self.codec.digest})
        self.record = record

    def path(self, shard: int) -> Path:
        """A shard's codes."""
        return self.folder / f"{shard:06d}.codes"

    def rows(self, shard: int) -> int:
        """How many rows of a shard have codes."""
        rows, _ = self.record.shards.get(shard, (0, 0))
        with suppress(OSError):
            if self.path(shard).stat().st_size >= rows * self.codec.code_bytes:
                return rows
        return 0

    def read(self, shard: int) -> npt.NDArray[np.uint8] | None:
        """The codes of a shard, memory-mapped: (rows, code_bytes) uint8; None where they are not as they were written.

        Every byte is compared with its checksum.
        """
        rows, written = self.rows(shard), self.record.shards.get(shard, (0, 0))[0]
        if rows < written:
            return None  # deleted or cut short
        if rows == 0:
            return np.empty((0, self.codec.code_bytes), dtype=np.uint8)
        try:
            with opening(self.folder, len(self.record.shards)):
                codes = np.memmap(self.path(shard), dtype=np.uint8, mode="r", shape=(rows, self.codec.code_bytes))
        except (OSError, ValueError):
            return None  # since it was looked at
        return codes if _checksum(codes) == self.record.shards[shard][1] else None

    def append(self, shard: int, first: int, blocks: Iterator[npt.NDArray[np.uint8]]) -> None:
        """Write codes of a shard from row `first` on, which all rows before it have; known after `record_as`.

        Raises:
            StorageFull: the disk refused; what was there stays usable.
        """
        path, row_bytes = self.path(shard), self.codec.code_bytes
        rows, crc = (first, self.record.shards[shard][1]) if first else (0, 0)
        with writing(path), path.open("r+b" if first else "wb") as file:
            file.seek(first * row_bytes)
            for block in blocks:
                content = block.tobytes()
                file.write(content)
                crc, rows = zlib.crc32(content, crc), rows + len(block)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self.record_as(replace(self.record, shards={**self.record.shards, shard: (rows, crc)}))

    def keep_only(self, shards: Mapping[int, int]) -> None:
        """Delete the codes of every other shard, and of those that hold more rows than given."""
        kept = {shard: known for shard, known in self.record.shards.items() if known[0] <= shards.get(shard, 0)}
        if len(kept) < len(self.record.shards):
            for shard in self.record.shards.keys() - kept.keys():
                _remove(self.path(shard))
            self.record_as(replace(self.record, shards=kept))


def codes_version(gallery: Path) -> int:
    """Changes whenever another generation of codes is put to use."""
    with suppress(OSError):
        return (gallery / COMPRESSED / _CURRENT).stat().st_mtime_ns
    return 0


def drop_unused(gallery: Path) -> None:
    """Delete the generations that interrupted compressions have left; the caller keeps every other writer out."""
    root, current = gallery / COMPRESSED, ""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        current = str(_read(root / _CURRENT)["generation"])
    for entry in root.iterdir() if root.is_dir() else ():
        if entry.name.isdecimal() and entry.name != current:
            shutil.rmtree(entry, ignore_errors=True)
    for left in (*root.glob(".*.new"), *root.glob("*/.*.new")):
        _remove(left)


def drop_all(gallery: Path) -> None:
    """Delete all generations; the caller keeps every other writer out.

    Raises:
        StorageFull: the disk refused.
    """
    root = gallery / COMPRESSED
    with writing(root):
        (root / _CURRENT).unlink(missing_ok=True)  # first, so that what is left is not in use, however this ends
    drop_unused(gallery)
    with suppress(OSError):
        root.rmdir()


def forget_uncommitted(gallery: Path, committed: Mapping[int, int]) -> None:
    """Delete the codes of shards that hold fewer rows than these had; to be called before any are added.

    A power cut can take back rows whose codes are on disk, and others would get their places.
    """
    root = gallery / COMPRESSED
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = _read(root / str(_read(root / _CURRENT)["generation"]) / _RECORD)["shards"]
        forget_codes(gallery, [int(shard) for shard, (rows, _) in known.items() if rows > committed.get(int(shard), 0)])


def forget_codes(gallery: Path, shards: Iterable[int]) -> None:
    """Delete the codes of shards whose rows are about to change; to be called before they do.

    Raises:
        StorageFull: the disk refused; nothing was changed.
    """
    root, gone = gallery / COMPRESSED, set(shards)
    with suppress(ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
        record = root / Path(str(_read(root / _CURRENT)["generation"])).name / _RECORD
        content = _read(record)
        kept = {shard: known for shard, known in content["shards"].items() if int(shard) not in gone}
        if len(kept) < len(content["shards"]):
            _write(record, {**content, "shards": kept})  # a file that is in use elsewhere may stay
    for shard in gone:
        for path in root.glob(f"*/{shard:06d}.codes"):
            _remove(path)


def _remove(path: Path) -> None:
    with suppress(PermissionError):  # in use elsewhere (Windows)
        path.unlink(missing_ok=True)


def _checksum(codes: npt.NDArray[np.uint8]) -> int:
    crc = 0
    step = max(_READ_BYTES // codes.shape[1], 1)
    for first in range(0, len(codes), step):
        crc = zlib.crc32(codes[first : first + step].data, crc)
    return crc


def _read(path: Path) -> dict[str, Any]:
    content = dict(json.loads(path.read_text(encoding="utf-8")))
    checksum = content.pop("crc32")
    if content["format"] != _FORMAT or content["version"] != _VERSION:
        raise ValueError(f"{path}: of another version")
    if _text_checksum(content) != checksum:
        raise ValueError(f"{path}: not as it was written")
    return content


def _text_checksum(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all, with a checksum of itself."""
    content = {"format": _FORMAT, "version": _VERSION, **content}
    with writing(path):
        with whole_file(path) as place:
            place.write_text(json.dumps({**content, "crc32": _text_checksum(content)}, indent=1), encoding="utf-8")
        force_folder(path.parent)
