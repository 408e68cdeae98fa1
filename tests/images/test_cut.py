"""Cutting: what Pillow's crop and resize give, from any scale of the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import make_picture
from patchwise.images import RESAMPLING, SQUARE, Fit, Picture, cut_regions
from patchwise.images.cut import DECODING_GAP, REDUCING_GAP, shrink_factor
from patchwise.regions import Pyramid, View

SIZE = (61, 43)
SMALL = make_picture(1, SIZE)


def whole(image: Image.Image) -> Picture:
    return Picture(image, image.size)


def by_pillow(image: Image.Image, box: tuple[float, ...], side: int, resampling: str = "bilinear") -> np.ndarray:
    filter_ = Image.Resampling[resampling.upper()]
    return np.asarray(image.crop(tuple(map(int, box))).resize((side, side), filter_))


@st.composite
def boxes_inside(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))
    return (x0, y0, draw(st.integers(x0 + 1, SIZE[0])), draw(st.integers(y0 + 1, SIZE[1])))


@given(boxes_inside(), st.sampled_from(sorted(RESAMPLING)))
def test_small_regions_are_those_of_pillow(box: tuple[int, int, int, int], resampling: str) -> None:
    cuts = cut_regions(whole(SMALL), np.array([box], dtype=np.float32), 32, resampling)
    np.testing.assert_array_equal(cuts[0], by_pillow(SMALL, box, 32, resampling))


def test_resampling_names_pillows_filters() -> None:
    assert dict(RESAMPLING) == {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    with pytest.raises(KeyError):
        cut_regions(whole(SMALL), np.array([[0, 0, 4, 4]]), 8, "nearest")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_shape_and_type(count: int) -> None:
    cuts = cut_regions(whole(SMALL), np.tile(np.float32([0, 0, 8, 8]), (count, 1)), 24)
    assert cuts.shape == (count, 24, 24, 3)
    assert cuts.dtype == np.uint8


def test_colours_and_order_are_kept() -> None:
    image = Image.new("RGB", (30, 20))
    colours = [(10 * i, 255 - 10 * i, i) for i in range(6)]
    boxes = [(10 * (i % 3), 10 * (i // 3), 10 * (i % 3) + 10, 10 * (i // 3) + 10) for i in range(6)]
    for colour, box in zip(colours, boxes, strict=True):
        image.paste(colour, box)
    order = [3, 0, 5, 1, 4, 2]
    cuts = cut_regions(whole(image), np.array([boxes[i] for i in order]), 8)
    assert [tuple(cut[4, 4]) for cut in cuts] == [colours[i] for i in order]
    assert all((cut == cut[0, 0]).all() for cut in cuts)


@pytest.mark.parametrize("size", [(900, 600), (600, 900), (2000, 300)])
@pytest.mark.parametrize("resampling", sorted(RESAMPLING))
def test_large_regions_are_close_to_those_of_pillow(size: tuple[int, int], resampling: str) -> None:
    image = make_picture(2, size)
    noise = np.random.default_rng(0).normal(0, 20, (size[1], size[0], 3))
    image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    boxes = Pyramid(3).regions(View(size)).boxes
    for box, cut in zip(boxes, cut_regions(whole(image), boxes, 32, resampling), strict=True):
        difference = np.abs(cut.astype(int) - by_pillow(image, tuple(box), 32, resampling))
        assert difference.mean() < 3
        assert difference.max() < 24


def test_boxes_are_in_pixels_of_the_original() -> None:
    full = make_picture(3, (160, 96))
    reduced = Picture(full.reduce(4), full.size)
    boxes = np.float32([[0, 0, 160, 96], [80, 48, 160, 96], [40, 24, 80, 48]])
    expected = [(0, 0, 40, 24), (20, 12, 40, 24), (10, 6, 20, 12)]
    for box, cut in zip(expected, cut_regions(reduced, boxes, 16), strict=True):
        np.testing.assert_array_equal(cut, by_pillow(reduced.pixels, box, 16))


def test_edges_between_pixels_go_to_the_nearest() -> None:
    # A quarter of 11, 7, 90 and 61 is 2.75, 1.75, 22.5 and 15.25.
    full = make_picture(3, (160, 96))
    reduced = Picture(full.reduce(4), full.size)
    cut = cut_regions(reduced, np.float32([[11, 7, 90, 61]]), 16)[0]
    np.testing.assert_array_equal(cut, by_pillow(reduced.pixels, (3, 2, 23, 15), 16))


def test_a_reduced_picture_gives_nearly_the_same_regions() -> None:
    full = make_picture(4, (803, 611))
    boxes = Pyramid(3).regions(View(full.size)).boxes
    ours = cut_regions(Picture(full.resize((402, 306), Image.Resampling.BOX), full.size), boxes, 32)
    exact = cut_regions(whole(full), boxes, 32)
    assert np.abs(ours.astype(int) - exact).mean() < 2


@pytest.mark.parametrize("decoded", [(100, 80), (13, 10), (1, 1)])
@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (99, 79, 100, 80), (50, 0, 51, 80), (0, 40, 100, 41), (49.6, 39.6, 50.4, 40.4)]
)
def test_tiny_boxes_hold_at_least_a_pixel(decoded: tuple[int, int], box: tuple[float, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (decoded[1], decoded[0], 3), dtype=np.uint8)
    cut = cut_regions(Picture(Image.fromarray(pixels), (100, 80)), np.array([box]), 8)[0]
    near = pixels[
        min(int(box[1] * decoded[1] / 80), decoded[1] - 1), min(int(box[0] * decoded[0] / 100), decoded[0] - 1)
    ]
    assert cut.shape == (8, 8, 3)
    if box[2] - box[0] == box[3] - box[1] == 1:
        np.testing.assert_array_equal(cut, np.broadcast_to(near, (8, 8, 3)))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 5000)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    picture = whole(Image.new("RGB", size, (9, 8, 7)))
    cuts = cut_regions(picture, Pyramid(3).regions(View(size)).boxes, 16)
    assert (cuts == (9, 8, 7)).all()


def test_cutting_leaves_the_picture_alone() -> None:
    image = make_picture(5, (300, 200))
    before = np.array(image)
    first = cut_regions(whole(image), Pyramid(2).regions(View(image.size)).boxes, 16)
    second = cut_regions(whole(image), Pyramid(2).regions(View(image.size)).boxes, 16)
    np.testing.assert_array_equal(before, image)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("finest_side", "input_size", "side_over_input"),
    [(50, 10, 5.0), (30, 10, 3.0), (1, 10, 0.1), (448, 224, 2.0), (100, 224, 100 / 224)],
)
def test_shrink_factor_leaves_the_smallest_side_its_margin(
    finest_side: float, input_size: int, side_over_input: float
) -> None:
    assert shrink_factor(finest_side, input_size) == pytest.approx(max(side_over_input / DECODING_GAP, 1))


def test_margins_never_take_pixels_away() -> None:
    assert DECODING_GAP >= 1
    assert REDUCING_GAP >= 1


def test_padding_keeps_the_aspect_and_puts_the_region_in_the_middle() -> None:
    image = Image.new("RGB", (40, 20), (200, 0, 0))
    (cut,) = cut_regions(whole(image), np.float32([[0, 0, 40, 20]]), 8, fit=Fit("pad", fill=(1, 2, 3)))
    assert (cut[2:6] == (200, 0, 0)).all()
    assert (cut[:2] == (1, 2, 3)).all() and (cut[6:] == (1, 2, 3)).all()


@given(boxes_inside(), st.integers(4, 40))
def test_padded_regions_are_those_of_pillow(box: tuple[int, int, int, int], side: int) -> None:
    region = SMALL.crop(box)
    cut = np.asarray(Fit("pad", fill=(9, 8, 7)).apply(region, side, Image.Resampling.BICUBIC))
    # ILIAS: the longer side becomes R, the other int(R * aspect), at least 1, and the rest is shared by both edges.
    longer = max(region.size)
    width, height = (max(side * edge // longer, 1) for edge in region.size)
    x, y = (side - width) // 2, (side - height) // 2
    inner = np.asarray(region.resize((width, height), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(cut[y : y + height, x : x + width], inner)
    outside = np.ones((side, side), dtype=bool)
    outside[y : y + height, x : x + width] = False
    assert (cut[outside] == (9, 8, 7)).all()


@given(boxes_inside(), st.integers(4, 40), st.integers(0, 12), st.booleans())
def test_cropped_regions_are_those_of_pillow(
    box: tuple[int, int, int, int], side: int, margin: int, to_even: bool
) -> None:
    fit = Fit("crop", short_side=side + margin, to_even=to_even)
    region = SMALL.crop(box)
    cut = np.asarray(fit.apply(region, side, Image.Resampling.BICUBIC))
    shorter = min(region.size)
    size = tuple(int((side + margin) * edge / shorter) for edge in region.size)
    left, top = (round((edge - side) / 2) if to_even else (edge - side) // 2 for edge in size)
    expected = region.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    if size[0] * size[1] <= 64 * (side + margin) ** 2:
        np.testing.assert_array_equal(cut, expected)
    else:
        assert np.abs(cut.astype(int) - np.asarray(expected)).max() <= 2


def test_the_middle_between_two_pixels() -> None:
    image = Image.fromarray(np.repeat(np.arange(7, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0))
    lower, even = (
        cut_regions(whole(image), np.float32([[0, 0, 7, 4]]), 4, fit=Fit("crop", short_side=4, to_even=to_even))
        for to_even in (False, True)
    )
    assert lower[0, 0, :, 0].tolist() == [1, 2, 3, 4]  # 3 / 2 rounded down
    assert even[0, 0, :, 0].tolist() == [2, 3, 4, 5]  # 3 / 2 rounded to the even neighbour


def test_a_thin_region_does_not_become_a_huge_picture() -> None:
    image = Image.new("RGB", (60_000, 2), (5, 6, 7))
    (cut,) = cut_regions(whole(image), np.float32([[0, 0, 60_000, 2]]), 224, fit=Fit("crop", short_side=256))
    assert (cut == (5, 6, 7)).all()


@pytest.mark.parametrize(
    ("fit", "text"),
    [
        (SQUARE, "square"),
        (Fit("pad", fill=(124, 116, 104)), "pad:124/116/104"),
        (Fit("crop", short_side=256), "crop:256"),
        (Fit("crop", short_side=256, to_even=True), "crop:256:even"),
    ],
)
def test_a_fit_is_recorded_as_text(fit: Fit, text: str) -> None:
    assert str(fit) == text


def test_a_picture_may_shrink_less_where_the_shorter_side_stays_larger() -> None:
    assert shrink_factor(1024, 224, Fit("crop", short_side=256)) == pytest.approx(1024 / 256 / DECODING_GAP)
    assert shrink_factor(1024, 224, Fit("pad")) == shrink_factor(1024, 224)
