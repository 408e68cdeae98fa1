"""Data sets of the true layout, tiny, written by the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from patchwise.errors import BenchmarkError

Writer = Callable[..., Path]


@pytest.fixture
def write_image() -> Writer:
    """Write a JPEG of `size`; with `turned`, stored on its side with the EXIF orientation that sets it upright."""

    def write(path: Path, size: tuple[int, int] = (100, 80), *, turned: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if turned:
            exif[0x0112] = 6
        Image.new("RGB", size[::-1] if turned else size, (90, 120, 40)).save(path, quality=60, exif=exif)
        return path

    return write


@pytest.fixture
def refusal() -> Callable[..., str]:
    """The message with which a reader refuses."""

    def call(read: Callable[..., Any], *arguments: Any, **options: Any) -> str:
        with pytest.raises(BenchmarkError) as caught:
            read(*arguments, **options)
        return str(caught.value)

    return call
