"""From file to regions: what a strategy is shown, and at which scale the image is decoded for it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_picture
from patchwise.errors import ImageUnreadable
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.images.cut import DECODING_GAP
from patchwise.indexing import walk
from patchwise.indexing.passes import passes_of
from patchwise.indexing.prepare import cut_picture, read_and_hash
from patchwise.regions import Regions, View
from patchwise.regions.base import region_table

SIZE = (640, 480)


@dataclass
class Spy:
    """One region of side `side` in the corner; keeps what it was shown."""

    side: float
    typical_count: int = 2
    name: str = "spy"
    asked: list[View] = field(default_factory=list)
    laid: list[View] = field(default_factory=list)

    def finest_side(self, view: View) -> float:
        self.asked.append(view)
        return self.side

    def regions(self, view: View) -> Regions:
        self.laid.append(view)
        return region_table([(0, 0, self.side, self.side)], view.size)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    make_picture(1, SIZE).save(path)
    return path


# JPEGs are decoded at 1/1, 1/2, 1/4 or 1/8, whichever leaves the finest side 1.1 times the encoder's 16 pixels.
@pytest.mark.parametrize(("side", "scale"), [(16, 1), (35, 1), (36, 2), (70, 2), (71, 4), (140, 4), (141, 8), (480, 8)])
def test_the_finest_side_decides_the_scale(photograph: Path, fake_encoder: Any, side: int, scale: int) -> None:
    assert DECODING_GAP == 1.1
    spy = Spy(side)
    prepared = cut_picture(photograph, str(photograph), passes_of(fake_encoder), spy, DEFAULT_MAX_PIXELS)
    assert [(view.size, view.path, view.pixels) for view in spy.asked] == [(SIZE, str(photograph), None)]
    (laid,) = spy.laid
    assert (laid.size, laid.path) == (SIZE, str(photograph))
    assert laid.pixels is not None and laid.pixels.size == (SIZE[0] // scale, SIZE[1] // scale)
    assert prepared.image_size == SIZE and prepared.inputs.pixels.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(prepared.regions.boxes, [(0, 0, *SIZE), (0, 0, side, side)])


def test_formats_without_reduced_decoding_are_shown_whole(tmp_path: Path, fake_encoder: Any) -> None:
    make_picture(1, SIZE).save(tmp_path / "a.png")
    spy = Spy(480)
    cut_picture(tmp_path / "a.png", "a.png", passes_of(fake_encoder), spy, DEFAULT_MAX_PIXELS)
    assert spy.asked == []
    assert spy.laid[0].pixels is not None and spy.laid[0].pixels.size == SIZE


def test_a_picture_on_its_side_is_shown_upright(tmp_path: Path, fake_encoder: Any) -> None:
    image = make_picture(1, SIZE)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    spy = Spy(480)
    prepared = cut_picture(tmp_path / "a.jpg", "a.jpg", passes_of(fake_encoder), spy, DEFAULT_MAX_PIXELS)
    assert spy.asked[0].size == spy.laid[0].size == prepared.image_size == (480, 640)
    assert spy.laid[0].pixels is not None and spy.laid[0].pixels.size == (60, 80)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture beside the folder `in`, where `a.jpg` and `deep/b.jpg` lie."""
    for name in ("in/a.jpg", "in/deep/b.jpg", "out/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        make_picture(len(name), SIZE).save(tmp_path / name)
    return tmp_path / "out" / "b.jpg"


@pytest.mark.parametrize("proc", [True, False])
@pytest.mark.parametrize("large", [False, True])
def test_what_is_swapped_for_a_link_after_the_walk_is_not_read(
    secret: Path, monkeypatch: pytest.MonkeyPatch, proc: bool, large: bool
) -> None:
    if large:
        monkeypatch.setattr("patchwise.indexing.prepare._READ_WHOLE_BYTES", 10)
    if not proc:  # as where the system does not say where an open file lies

        def unknown(*_: object) -> str:
            raise OSError

        monkeypatch.setattr("patchwise.indexing.prepare._descriptor_place", unknown)
    folder = secret.parent.parent / "in"
    a, b = walk([folder], within=[folder]).files
    with read_and_hash(a) as (_, digest):
        honest = digest
    (folder / "a.jpg").rename(folder / "kept.jpg")
    (folder / "deep").rename(folder / "gone")
    (folder / "a.jpg").symlink_to(secret)
    (folder / "deep").symlink_to(secret.parent)
    for file in (a, b):
        with pytest.raises(ImageUnreadable, match="leads out"), read_and_hash(file):
            pass
    (folder / "a.jpg").unlink()
    (folder / "a.jpg").symlink_to("kept.jpg")  # a link that stays inside is as good as a file
    with read_and_hash(a) as (_, digest):
        assert digest == honest
    everywhere = walk([folder]).files[0]
    (folder / "a.jpg").unlink()
    (folder / "a.jpg").symlink_to(secret)
    with read_and_hash(everywhere) as (_, digest):  # where nothing is prescribed, links may lead anywhere
        assert digest != honest


def test_a_pipe_that_took_a_files_place_keeps_nobody_waiting(secret: Path) -> None:
    folder = secret.parent.parent / "in"
    file = walk([folder / "a.jpg"]).files[0]
    (folder / "a.jpg").unlink()
    os.mkfifo(folder / "a.jpg")
    with pytest.raises(ImageUnreadable, match="no longer a file"), read_and_hash(file):
        pass


def test_a_very_large_file_is_hashed_and_decoded_by_one_descriptor(
    secret: Path, monkeypatch: pytest.MonkeyPatch, fake_encoder: Any
) -> None:
    monkeypatch.setattr("patchwise.indexing.prepare._READ_WHOLE_BYTES", 10)
    folder = secret.parent.parent / "in"
    file = walk([folder / "a.jpg"], within=[folder]).files[0]
    with read_and_hash(file) as (source, _):
        assert not isinstance(source, bytes)
        (folder / "a.jpg").unlink()
        (folder / "a.jpg").symlink_to(secret)
        spy = Spy(480)
        cut_picture(source, file.path, passes_of(fake_encoder), spy, DEFAULT_MAX_PIXELS)
    (shown,) = [view.pixels for view in spy.laid]
    assert shown is not None
    honest = make_picture(len("in/a.jpg"), SIZE).resize(shown.size)
    other = make_picture(len("out/b.jpg"), SIZE).resize(shown.size)

    def apart(one: Any) -> float:
        return float(np.abs(np.asarray(one, np.float64) - np.asarray(shown, np.float64)).mean())

    assert apart(honest) < apart(other) / 2
    assert source.closed
