"""Proposals: things are found where they were drawn, in the same order every time."""

from __future__ import annotations

import sys
import types
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from conftest import make_picture
from patchwise.boxes import iou_xyxy
from patchwise.errors import MissingExtra, RegionsError
from patchwise.regions import SelectiveSearch, View, parse_regions

THINGS = [(40, 60, 160, 150), (300, 40, 380, 240), (220, 280, 420, 350), (60, 250, 110, 300)]
SIZE = (480, 384)


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    """Four plain rectangles over a background of smooth noise."""
    noise = np.random.default_rng(0).integers(90, 130, (24, 30, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for (x0, y0, x1, y1), colour in zip(THINGS, ("red", "white", "navy", "yellow"), strict=True):
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
    return image


def boxes(image: Image.Image, count: int = 50, size: tuple[int, int] | None = None) -> np.ndarray:
    return SelectiveSearch(count).regions(View(size or image.size, "", image)).boxes


def test_things_are_found_where_they_are(scene: Image.Image) -> None:
    found = boxes(scene, 20)
    assert found[0].tolist() == [0, 0, *SIZE]
    assert iou_xyxy(THINGS, found).max(axis=1).min() > 0.85


def test_boxes_are_in_pixels_of_the_original(scene: Image.Image) -> None:
    reduced = scene.reduce(2)
    found = boxes(reduced, 20, size=SIZE)
    assert found[0].tolist() == [0, 0, *SIZE]
    assert iou_xyxy(THINGS, found).max(axis=1).min() > 0.8


def test_the_count_includes_the_whole_image_and_keeps_the_best(scene: Image.Image) -> None:
    many = boxes(scene, 1000)
    assert 8 < len(many) < 1000
    for count in (1, 2, 7):
        np.testing.assert_array_equal(boxes(scene, count), many[:count])


def test_no_two_are_alike_and_none_is_small() -> None:
    image = make_picture(3, SIZE)
    found = boxes(image, 300)
    assert len(found) > 20
    table = SelectiveSearch(300).regions(View(SIZE, "", image)).table
    assert set(table["level"][1:].tolist()) == {-1} and table["level"][0] == 0
    assert (found[:, :2] >= 0).all() and (found[:, 2:] <= SIZE).all()
    overlaps = iou_xyxy(found, found)
    assert max(overlaps[i, j] for i, j in combinations(range(len(found)), 2)) < 0.7 + 1e-6
    finest = SelectiveSearch(300).finest_side(View(SIZE))
    assert 0.95 * SIZE[0] / 32 < finest < SIZE[0] / 32
    assert (found[:, 2:] - found[:, :2]).min() >= finest


def test_the_same_picture_gives_the_same_regions_in_any_thread(scene: Image.Image) -> None:
    import cv2

    expected = boxes(scene, 200)
    cv2.setRNGSeed(5)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: boxes(scene, 200), range(8)):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (15, 15), (4000, 2), (16, 16), (17, 900)])
def test_tiny_and_thin_images(size: tuple[int, int]) -> None:
    found = boxes(make_picture(1, size))
    assert found[0].tolist() == [0, 0, *size]
    assert (found[:, 2:] - found[:, :2]).min() >= 1 and (found[:, 2:] <= size).all()


def test_a_plain_image_has_nothing_but_itself() -> None:
    assert boxes(Image.new("RGB", (300, 200), "teal")).tolist() == [[0, 0, 300, 200]]


@pytest.mark.parametrize("count", [0, 1001])
def test_a_count_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(RegionsError, match=f"proposals:selective:{count}: the count must be between 1 and 1,000"):
        SelectiveSearch(count)


def test_it_needs_pixels() -> None:
    with pytest.raises(ValueError, match=r"proposals:selective:9 needs the pixels of /a\.jpg"):
        SelectiveSearch(9).regions(View((300, 200), "/a.jpg"))


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[proposals\]'"):
        parse_regions("proposals:selective:100")


def test_an_opencv_without_the_contributed_modules_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))
    with pytest.raises(MissingExtra, match=r"lacks the contributed modules.*patchwise\[proposals\]"):
        SelectiveSearch(100)
