"""From a file to inputs ready for the encoder; runs in worker threads, ahead of the encoder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from patchwise.errors import ImageUnreadable
from patchwise.images import read_bytes, read_picture, split_tar_path
from patchwise.indexing.passes import Inputs, Passes
from patchwise.indexing.walk import FoundFile
from patchwise.regions import Regions, RegionStrategy, View

__all__ = ["Prepared", "cut_picture", "read_and_hash"]

_READ_WHOLE_BYTES = 64 * 1024 * 1024
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Prepared:
    """A decoded picture: its regions, and what the encoder is shown to encode them."""

    image_size: tuple[int, int]
    regions: Regions
    inputs: Inputs


def read_and_hash(file: FoundFile) -> tuple[bytes | Path, bytes]:
    """What to decode (the bytes, or the path of a very large file) and the hash of the file's content.

    Raises:
        ImageUnreadable: the file cannot be read.
    """
    path = Path(file.path)
    try:
        if file.size <= _READ_WHOLE_BYTES or split_tar_path(file.path) is not None:
            data = read_bytes(file.path)
            return data, hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return path, digest.digest()
    except PermissionError as error:
        raise ImageUnreadable(file.path, "permission denied") from error
    except OSError as error:
        raise ImageUnreadable(file.path, f"cannot be read ({error.strerror or error})") from error


def cut_picture(source: bytes | Path, name: str, passes: Passes, strategy: RegionStrategy, max_pixels: int) -> Prepared:
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
