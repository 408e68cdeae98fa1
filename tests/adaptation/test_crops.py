"""Augmented crops: inside the picture, decided by the seed, never mirrored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise.adaptation import crops as module
from patchwise.adaptation.crops import augmented_crops
from patchwise.images import Picture
from patchwise.regions import View, parse_regions


def crops_of(image: Image.Image, count: int = 8, seed: int = 0) -> np.ndarray:
    boxes = parse_regions("pyramid:3").regions(View(image.size)).boxes
    return augmented_crops(Picture(image, image.size), boxes, count, FakeEncoder(), np.random.default_rng(seed))


@given(st.tuples(st.integers(1, 70), st.integers(1, 70)), st.integers(0, 2**32))
def test_pictures_of_any_size_give_crops(size: tuple[int, int], seed: int) -> None:
    assert crops_of(Image.new("RGB", size, "red"), 4, seed).shape == (4, 16, 16, 3)


@given(st.floats(0, 60), st.floats(0, 40), st.floats(0, 1), st.floats(0, 1), st.integers(1, 3), st.integers(0, 2**32))
@example(60, 40, 0, 0, 1, 0)
@example(10, 5, 0, 30, 1, 0)
def test_thin_boxes_give_crops(x: float, y: float, width: float, height: float, reduced: int, seed: int) -> None:
    image = Image.new("RGB", (60, 40), "red")
    box = np.array([[x, y, min(x + width, 60), min(y + height, 40)]])
    picture = Picture(image.reduce(reduced), image.size)
    crops = augmented_crops(picture, box, 4, FakeEncoder(), np.random.default_rng(seed)).astype(int)
    assert crops[..., 0].min() > crops[..., 1:].max()  # red, and nothing from outside


@pytest.mark.parametrize("size", [(90_000, 20), (20, 90_000)])
def test_pictures_longer_than_jpeg_allows_give_crops(size: tuple[int, int]) -> None:
    whole = np.array([[0, 0, *size]])
    image = Picture(Image.new("RGB", size), size)
    assert augmented_crops(image, whole, 2, FakeEncoder(), np.random.default_rng(0)).shape == (2, 16, 16, 3)


def test_the_seed_decides() -> None:
    image = make_picture(0, (320, 240))
    np.testing.assert_array_equal(crops_of(image, seed=1), crops_of(image, seed=1))
    assert (crops_of(image, seed=1) != crops_of(image, seed=2)).any()
    assert len({crop.tobytes() for crop in crops_of(image)}) == 8


def test_nothing_from_outside_the_picture_comes_in() -> None:
    """A tilt that reached over the edge would bring in black."""
    crops = crops_of(Image.new("RGB", (300, 200), (200, 200, 200)), 64).astype(int)
    spread = crops.max(axis=(1, 2)) - crops.min(axis=(1, 2))
    assert spread.max() <= 8  # JPEG alone


def test_left_stays_left_and_top_stays_top() -> None:
    x, y = np.meshgrid(np.linspace(40, 210, 400), np.linspace(40, 210, 400))
    image = Image.fromarray(np.stack([x, y, 128 + 0 * x], axis=-1).astype(np.uint8))
    crops = crops_of(image, 64).astype(float)
    clipped = (crops.max(axis=(1, 2, 3)) == 255) | (crops[..., :2].min(axis=(1, 2, 3)) == 0)
    assert (~clipped).sum() > 20
    assert (crops[:, :, -4:, 0].mean(axis=(1, 2)) > crops[:, :, :4, 0].mean(axis=(1, 2)))[~clipped].all()
    assert (crops[:, -4:, :, 1].mean(axis=(1, 2)) > crops[:, :4, :, 1].mean(axis=(1, 2)))[~clipped].all()


def test_the_perspective_takes_corners_to_corners() -> None:
    corners = np.array([[3.0, 2], [40, 5], [37, 30], [1, 33]])
    a, b, c, d, e, f, g, h = module._perspective((20, 10), corners)
    for (x, y), expected in zip(((0, 0), (20, 0), (20, 10), (0, 10)), corners, strict=True):
        below = g * x + h * y + 1
        np.testing.assert_allclose([(a * x + b * y + c) / below, (d * x + e * y + f) / below], expected, atol=1e-9)


def test_a_picture_decoded_smaller_gives_nearly_the_same_crops() -> None:
    image = make_picture(3, (640, 480))
    boxes = parse_regions("pyramid:1").regions(View(image.size)).boxes
    large, small = (
        augmented_crops(Picture(pixels, image.size), boxes, 8, FakeEncoder(), np.random.default_rng(5)).astype(float)
        for pixels in (image, image.reduce(2))
    )
    assert np.abs(large - small).mean() < 4
