"""Images inside tar files: `.../shard.tar/key.jpg` names a member, whose bytes are read where they lie."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import threading
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from patchwise.caches import cache_folder
from patchwise.errors import ImageUnreadable

__all__ = ["TarIndex", "read_bytes", "split_tar_path", "stat_image", "tar_index"]

_KEPT_INDEXES = 16  # of 100,000 members each: about 100 MB
_WORTH_A_FILE = 10_000  # members; reading the headers of 100,000 takes seconds, of a file with them none


@dataclass(frozen=True)
class TarIndex:
    """Where the regular files of a tar file lie, sorted by name.

    `names` is (N,) bytes in UTF-8, `offsets` and `sizes` (N,) int64 in bytes. `version` is the modification time in
    nanoseconds and the size of the tar file itself.
    """

    names: npt.NDArray[np.bytes_]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    version: tuple[int, int]

    def row(self, member: str) -> int | None:
        """The row of a member, or None."""
        wanted = member.encode(errors="surrogateescape")
        # Longer names would be cut to the width of the array by the comparison.
        if not len(self.names) or len(wanted) > self.names.itemsize:
            return None
        row = int(np.searchsorted(self.names, np.bytes_(wanted)))
        return row if row < len(self.names) and self.names[row] == wanted else None


class _Slot:
    """One tar file's index; the lock lets one thread build it while others wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.index: TarIndex | None = None


_slots: OrderedDict[str, _Slot] = OrderedDict()
_slots_lock = threading.Lock()


def split_tar_path(path: str) -> tuple[str, str] | None:
    """Tar file and member's name, or None where the path does not lead into a tar file.

    A folder that is named like a tar file is a folder.
    """
    normal = path.replace(os.sep, "/") if os.sep != "/" else path
    if ".tar/" not in normal.lower():
        return None
    start = 0
    while (at := normal.lower().find(".tar/", start)) >= 0:
        archive = normal[: at + len(".tar")]
        if os.path.isfile(archive):
            return archive, normal[at + len(".tar/") :]
        start = at + 1
    return None


def read_bytes(path: str) -> bytes:
    """The bytes of an image file, or of a member of a tar file (`.../shard.tar/key.jpg`); safe from any thread.

    Raises:
        ImageUnreadable: missing, not permitted, or the tar file is damaged or lacks the member.
    """
    place = split_tar_path(path)
    try:
        if place is None:
            with open(path, "rb") as file:
                return file.read()
        index, row = _member(path, *place)
        size = int(index.sizes[row])
        with open(place[0], "rb") as file:
            file.seek(int(index.offsets[row]))
            data = file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) < size:
        raise ImageUnreadable(path, f"{place[0]} is cut short: {len(data)} of the member's {size} bytes are there")
    return data


def stat_image(path: str) -> tuple[int, int]:
    """Modification time in nanoseconds and size in bytes of an image file or of a member of a tar file.

    A member's time is that of its tar file, so that a rewritten tar file counts as changed in all its members.

    Raises:
        ImageUnreadable: as `read_bytes`.
    """
    place = split_tar_path(path)
    try:
        if place is None:
            status = os.stat(path)
            return status.st_mtime_ns, status.st_size
        index, row = _member(path, *place)
        return index.version[0], int(index.sizes[row])
    except OSError as error:
        raise _unreadable(path, error) from error


def tar_index(archive: str) -> TarIndex:
    """The index of a tar file; built once by reading its headers, and again when the file changes.

    Those of large tar files are kept in the user's cache folder.

    Raises:
        ImageUnreadable: missing, not permitted, compressed, or not a tar file, or cut short.
    """
    try:
        status = os.stat(archive)
        version = (status.st_mtime_ns, status.st_size)
        with _slots_lock:
            slot = _slots.setdefault(os.path.abspath(archive), _Slot())
            _slots.move_to_end(os.path.abspath(archive))
            while len(_slots) > _KEPT_INDEXES:
                _slots.popitem(last=False)
        with slot.lock:
            if slot.index is None or slot.index.version != version:
                slot.index = _kept(archive, version) or _keep(archive, _build(archive, version))
            return slot.index
    except OSError as error:
        raise _unreadable(archive, error) from error


def _member(path: str, archive: str, member: str) -> tuple[TarIndex, int]:
    index = tar_index(archive)
    row = index.row(member)
    if row is None:
        raise ImageUnreadable(path, f"{archive} has no member {member}")
    return index, row


def _build(archive: str, version: tuple[int, int]) -> TarIndex:
    places: dict[bytes, tuple[int, int]] = {}
    try:
        # "r:" refuses compressed files, inside which one cannot seek.
        with tarfile.open(archive, "r:") as tar:
            kept: Any = tar
            while (member := tar.next()) is not None:
                kept.members = []  # tarfile would hold a kilobyte for each
                if member.isreg() and not member.issparse():
                    # Of two members with one name the last counts, as when unpacking.
                    name = member.name.removeprefix("./").encode(errors="surrogateescape")
                    places[name] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ImageUnreadable(
            archive, f"not an uncompressed tar file, or damaged ({error}); unpack compressed ones first"
        ) from error
    names = np.array(list(places), dtype=np.bytes_) if places else np.empty(0, dtype="S1")
    where = np.array(list(places.values()), dtype=np.int64).reshape(-1, 2)
    order = np.argsort(names, kind="stable")
    return TarIndex(names[order], where[order, 0], where[order, 1], version)


def _kept_at(archive: str) -> Path:
    key = hashlib.blake2b(os.path.realpath(archive).encode(errors="surrogateescape"), digest_size=12).hexdigest()
    return cache_folder() / "tar" / f"{key}.npz"


def _kept(archive: str, version: tuple[int, int]) -> TarIndex | None:
    """The index of the cache folder, if it is of this very tar file."""
    try:
        with _kept_at(archive).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if tuple(kept["version"].tolist()) == version:
                return TarIndex(kept["names"], kept["offsets"], kept["sizes"], version)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # none yet, or one cut short: the tar file itself is there to be read
    return None


def _keep(archive: str, index: TarIndex) -> TarIndex:
    if len(index.names) >= _WORTH_A_FILE:
        place = _kept_at(archive)
        unfinished = place.with_name(f"{place.stem}-{os.getpid()}-{threading.get_ident()}.npz")
        with contextlib.suppress(OSError):  # a full disk or a read-only home costs time at the next start, no more
            place.parent.mkdir(parents=True, exist_ok=True)
            np.savez(
                unfinished, names=index.names, offsets=index.offsets, sizes=index.sizes, version=np.array(index.version)
            )
            unfinished.replace(place)
    return index


def _unreadable(path: str, error: OSError) -> ImageUnreadable:
    reasons = {FileNotFoundError: "no such file", PermissionError: "permission denied"}
    return ImageUnreadable(path, reasons.get(type(error), f"cannot be read ({error.strerror or error})"))
