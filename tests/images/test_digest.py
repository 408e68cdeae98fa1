"""One name for a picture's bytes, however they are read."""

from __future__ import annotations

import io

import pytest

from patchwise.images import digest_of, digest_of_file


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 3 * 2**20 + 7])
def test_a_file_has_the_digest_of_its_bytes(size: int) -> None:
    content = b"patchwise" * (size // 9) + b"x" * (size % 9)
    file = io.BytesIO(content)
    assert digest_of_file(file) == digest_of(content)
    assert file.read() == b""


def test_the_digest_is_that_of_catalogues() -> None:
    # blake2b, 16 bytes: as printed by `b2sum -l 128`
    assert digest_of(b"abc") == "cf4ab791c62b8d2b2109c90275287816"
