"""What names a picture wherever it lies: the hash of its file's bytes."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

__all__ = ["DIGEST_BYTES", "digest_of", "digest_of_file"]

DIGEST_BYTES = 16
_PIECE = 2**20


def digest_of(content: bytes) -> str:
    """The image id of a file's bytes: their BLAKE2b digest of 16 bytes, in hex, as a gallery's catalogue has it."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def digest_of_file(file: BinaryIO) -> str:
    """The same of an open file from where it is on, read a piece at a time; then it is at its end."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()
