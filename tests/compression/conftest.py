"""Small galleries to compress."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import FakeEncoder, make_picture
from patchwise import Gallery


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        make_picture(seed, (32, 24)).save(folder / f"{seed:02d}.png")
    return folder


@pytest.fixture
def gallery(tmp_path: Path, pictures: Path) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "g", encoder=FakeEncoder(), regions="pyramid:1") as made:
        made.add(pictures)
        yield made
