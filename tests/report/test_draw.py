"""Drawing: boxes on exact pixels, heat in exact colours, sheets of exact size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from conftest import make_picture
from patchwise.report import contact_sheet, draw_hit
from patchwise.report.draw import BOX_COLOUR, colour_heat, thumbnail

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


def outline(size: tuple[int, int], x0: int, y0: int, x1: int, y1: int, width: int) -> np.ndarray:
    """Where a frame of `width` pixels lies just inside the half-open box."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[y0:y1, x0:x1] = True
    mask[y0 + width : y1 - width, x0 + width : x1 - width] = False
    return mask


@pytest.mark.parametrize(
    ("box", "drawn"),
    [
        ((40, 20, 120, 80), (20, 10, 60, 40)),
        ((0, 0, 200, 100), (0, 0, 100, 50)),
        ((100, 50, 200, 100), (50, 25, 100, 50)),
    ],
)
def test_a_box_lies_on_its_pixels(box: tuple[float, ...], drawn: tuple[int, int, int, int]) -> None:
    seen = np.asarray(draw_hit(black(200, 100), (200, 100), box, longest=100))  # type: ignore[arg-type]
    expected = outline((100, 50), *drawn, width=2)
    assert seen.shape == (50, 100, 3)
    assert (seen[expected] == BOX_COLOUR).all()
    assert (seen[~expected] == 0).all()


def test_boxes_are_in_pixels_of_the_original_whatever_the_decoded_size() -> None:
    full = draw_hit(black(800, 400), (800, 400), (200, 100, 600, 300), longest=100)
    reduced = draw_hit(black(200, 100), (800, 400), (200, 100, 600, 300), longest=100)
    np.testing.assert_array_equal(full, reduced)


def test_the_pen_grows_with_the_picture() -> None:
    seen = np.asarray(draw_hit(black(1000, 500), (1000, 500), (100, 100, 300, 300), longest=1000))
    assert (seen[outline((1000, 500), 100, 100, 300, 300, width=10)] == BOX_COLOUR).all()
    assert (seen[110:290, 110:290] == 0).all()


def test_the_predicted_box_is_drawn_over_the_white_true_one() -> None:
    seen = np.asarray(draw_hit(black(100, 100), (100, 100), (10, 10, 50, 50), longest=100, true_box=(30, 30, 90, 90)))
    predicted = outline((100, 100), 10, 10, 50, 50, width=2)
    true = outline((100, 100), 30, 30, 90, 90, width=2)
    assert (seen[predicted] == BOX_COLOUR).all()
    assert (seen[true & ~predicted] == WHITE).all()
    assert (seen[~true & ~predicted] == 0).all()


def test_without_boxes_it_is_a_thumbnail() -> None:
    picture = make_picture(1, (200, 100))
    np.testing.assert_array_equal(draw_hit(picture, (200, 100), None, longest=50), thumbnail(picture, 50))


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (999, 999, 1000, 1000), (500, 0, 501, 1000)])
def test_a_box_smaller_than_a_pixel_is_still_seen(box: tuple[float, ...]) -> None:
    seen = np.asarray(draw_hit(black(100, 100), (1000, 1000), box, longest=100))  # type: ignore[arg-type]
    assert (seen == BOX_COLOUR).all(axis=-1).any()


def test_the_picture_itself_is_not_drawn_on() -> None:
    picture = black(80, 40)
    draw_hit(picture, (80, 40), (0, 0, 80, 40), longest=80, heat=np.ones((4, 8)))
    assert picture.getcolors() == [(80 * 40, BLACK)]


@pytest.mark.parametrize(
    ("score", "colour"),
    [
        (0.0, (0, 0, 4)),
        (0.25, (87, 16, 110)),
        (0.5, (188, 55, 84)),
        (0.75, (249, 142, 9)),
        (1.0, (252, 255, 164)),
        (0.125, (44, 8, 57)),
        (-3.0, (0, 0, 4)),
        (7.0, (252, 255, 164)),
    ],
)
def test_heat_colours(score: float, colour: tuple[int, int, int]) -> None:
    colours = colour_heat(np.array([[score]]), 0.0, 1.0)
    assert colours.shape == (1, 1, 3)
    assert colours.dtype == np.uint8
    assert np.abs(np.subtract(colours[0, 0].astype(int), colour)).max() <= 1
    np.testing.assert_array_equal(colour_heat(np.array([[score * 4 - 2]]), -2.0, 2.0), colours)


def test_brighter_is_higher_in_grey_too() -> None:
    grey = np.asarray(Image.fromarray(colour_heat(np.linspace(0, 1, 101)[None], 0, 1)).convert("L"))[0].astype(int)
    assert (np.diff(grey) >= 0).all()
    assert grey[-1] - grey[0] > 200


def test_heat_without_differences_is_dark() -> None:
    assert (colour_heat(np.full((2, 3), 0.7), 0.7, 0.7) == (0, 0, 4)).all()


def test_heat_is_blended_half_and_half() -> None:
    heat = np.array([[0.0, 1.0]])
    seen = np.asarray(draw_hit(Image.new("RGB", (100, 50), (100, 100, 100)), (100, 50), None, longest=100, heat=heat))
    assert np.abs(np.subtract(seen[25, 0].astype(int), (50, 50, 52))).max() <= 1
    assert np.abs(np.subtract(seen[25, 99].astype(int), (176, 177, 132))).max() <= 1


def test_a_given_heat_range_is_used() -> None:
    heat = np.array([[0.5, 0.5]])
    seen = np.asarray(draw_hit(black(20, 10), (20, 10), None, longest=20, heat=heat, heat_range=(0.0, 1.0)))
    assert (seen == (94, 27, 42)).all()


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [((200, 100), 50, (50, 25)), ((100, 200), 50, (25, 50)), ((40, 30), 50, (40, 30)), ((5000, 1), 100, (100, 1))],
)
def test_thumbnail(size: tuple[int, int], longest: int, expected: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (1, 2, 3))
    small = thumbnail(picture, longest)
    assert small.size == expected
    assert small.getpixel((0, 0)) == (1, 2, 3)
    assert small is not picture


@pytest.mark.parametrize(
    ("count", "columns", "size"),
    [
        (0, 3, (3 * 110 + 10, 10)),
        (1, 3, (3 * 110 + 10, 132 + 10)),
        (3, 3, (3 * 110 + 10, 132 + 10)),
        (4, 3, (3 * 110 + 10, 2 * 132 + 10)),
        (4, 1, (110 + 10, 4 * 132 + 10)),
    ],
)
def test_contact_sheet_size(count: int, columns: int, size: tuple[int, int]) -> None:
    sheet = contact_sheet([("a", black(10, 10))] * count, columns=columns, cell=100)
    assert (sheet.size, sheet.mode) == (size, "RGB")


def test_contact_sheet_places() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pictures = [(f"picture {i}", Image.new("RGB", (200, 100), colour)) for i, colour in enumerate(colours)]
    sheet = np.asarray(contact_sheet(pictures, columns=2, cell=100))
    for (left, top), colour in zip([(10, 10), (120, 10), (10, 142)], colours, strict=True):
        assert (sheet[top + 25 : top + 75, left : left + 100] == colour).all()
        assert (sheet[top : top + 25, left : left + 100] == 255).all()
        caption = sheet[top + 100 : top + 122, left : left + 100]
        assert caption.min() < 100
    assert (sheet[142:264, 120:220] == 255).all()


def test_contact_sheet_background() -> None:
    assert contact_sheet([], columns=1, background="black").getpixel((0, 0)) == BLACK
