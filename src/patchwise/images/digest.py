"""What names a picture wherever it lies: the hash of its file's bytes."""

from __future__ import annotations

import hashlib

__all__ = ["DIGEST_BYTES", "digest_of"]

DIGEST_BYTES = 16


def digest_of(content: bytes) -> str:
    """The image id of a file's bytes: their BLAKE2b digest of 16 bytes, in hex, as a gallery's catalogue has it."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
