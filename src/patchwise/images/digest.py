"""What names a picture wherever it lies: the hash of its file's bytes."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

__all__ = ["DIGEST_BYTES", "digest_of", "with_digest"]

DIGEST_BYTES = 16
_PIECE = 2**20


def digest_of(content: bytes) -> str:
    """The image id of a file's bytes: their BLAKE2b digest of 16 bytes, in hex, as a gallery's catalogue has it."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def with_digest(file: BinaryIO, digest: str) -> BinaryIO | None:
    """An open file, at its beginning, if its bytes have this digest; otherwise it is closed, and None.

    It is read a piece at a time, so that large ones take no memory.
    """
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        file.seek(0)
        while piece := file.read(_PIECE):
            found.update(piece)
        file.seek(0)
    except OSError:
        file.close()
        return None
    if found.hexdigest() == digest:
        return file
    file.close()
    return None
