"""One name for a picture's bytes, however they are read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from patchwise.images import digest_of, with_digest


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 3 * 2**20 + 7])
def test_a_file_is_known_by_the_digest_of_its_bytes(size: int) -> None:
    content = b"patchwise" * (size // 9) + b"x" * (size % 9)
    file = io.BytesIO(content)
    file.seek(size // 2)
    assert with_digest(file, digest_of(content)) is file
    assert file.read() == content


def test_another_file_is_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    file = (tmp_path / "file").open("rb")
    assert with_digest(file, digest_of(b"two")) is None
    assert file.closed


def test_the_digest_is_that_of_catalogues() -> None:
    # blake2b, 16 bytes: as printed by `b2sum -l 128`
    assert digest_of(b"abc") == "cf4ab791c62b8d2b2109c90275287816"
