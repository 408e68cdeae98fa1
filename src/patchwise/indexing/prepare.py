"""From a file to inputs ready for the encoder; runs in worker threads, ahead of the encoder."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from patchwise.errors import ImageUnreadable
from patchwise.images import DIGEST_BYTES, read_bytes, read_picture, split_tar_path
from patchwise.indexing.passes import Inputs, Passes
from patchwise.indexing.walk import OUTSIDE, FoundFile, lies_within
from patchwise.regions import Regions, RegionStrategy, View

__all__ = ["Prepared", "cut_picture", "read_and_hash"]

_READ_WHOLE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Prepared:
    """A decoded picture: its regions, and what the encoder is shown to encode them."""

    image_size: tuple[int, int]
    regions: Regions
    inputs: Inputs


@contextmanager
def read_and_hash(file: FoundFile) -> Iterator[tuple[bytes | BinaryIO, bytes]]:
    """What to decode (the bytes, or a very large file, open for the length of the block) and its content's hash.

    Raises:
        ImageUnreadable: the file cannot be read, or really lies outside the folders that it was looked for in.
    """
    with ExitStack() as opened:
        try:
            source, digest = _read(file, opened)
        except PermissionError as error:
            raise ImageUnreadable(file.path, "permission denied") from error
        except FileNotFoundError as error:
            raise ImageUnreadable(file.path, "no such file") from error
        except OSError as error:
            raise ImageUnreadable(file.path, f"cannot be read ({error.strerror or error})") from error
        yield source, digest


def _read(file: FoundFile, opened: ExitStack) -> tuple[bytes | BinaryIO, bytes]:
    # A folder that is named like a tar file may become one: where a place is prescribed, no tar file is looked into.
    if file.within is None and split_tar_path(file.path) is not None:
        data = read_bytes(file.path)
        return data, hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
    stream = _opened(file, opened)
    if file.size <= _READ_WHOLE_BYTES:
        data = stream.read()
        return data, hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while block := stream.read(1 << 20):
        digest.update(block)
    stream.seek(0)
    return stream, digest.digest()


def _opened(file: FoundFile, opened: ExitStack) -> BinaryIO:
    """The file, open; what has taken its place since it was found, as a link or a pipe may, is judged by that alone."""
    # A pipe would keep whoever opens it waiting.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = opened.enter_context(os.fdopen(os.open(file.path, flags), "rb"))
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ImageUnreadable(file.path, "no longer a file")
    if file.within is not None and not lies_within(_real_place(file.path, stream.fileno(), status), file.within):
        raise ImageUnreadable(file.path, OUTSIDE)
    return stream


def _real_place(path: str, descriptor: int, status: os.stat_result) -> str:
    """Where an open file really lies."""
    try:
        return _descriptor_place(descriptor)
    except OSError:  # only Linux says it
        real = os.path.realpath(path)
        if not os.path.samestat(os.lstat(real), status):
            raise ImageUnreadable(path, "changed while it was opened") from None
        return real


def _descriptor_place(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def cut_picture(
    source: bytes | Path | BinaryIO, name: str, passes: Passes, strategy: RegionStrategy, max_pixels: int
) -> Prepared:
    """Decode an image no larger than it is needed, and cut it for the encoder.

    `name` is its path, for strategies and errors.

    Raises:
        ImageError: it cannot be decoded.
    """

    def shrink(size: tuple[int, int]) -> float:
        return passes.shrink_factor(strategy, View(size, name))

    picture = read_picture(source, name=name, max_pixels=max_pixels, shrink=shrink)
    regions = strategy.regions(View(picture.size, name, picture.pixels))
    return Prepared(picture.size, regions, passes.cut(picture, regions))
