"""The maths of drawing, moving and resizing a box."""

from __future__ import annotations

import pytest

from .conftest import Call

SIZE = [400, 300]


@pytest.mark.parametrize(
    ("drawn", "box"),
    [
        ([40, 30, 210, 260], [40, 30, 210, 260]),
        ([210, 260, 40, 30], [40, 30, 210, 260]),  # from the lower right to the upper left
        ([10.4, 10.6, 50.5, 60.4], [10, 11, 51, 60]),
        ([-50, -1, 900, 700], [0, 0, 400, 300]),
        ([10, 10, 11, 200], None),  # too narrow to be meant
        ([410, 10, 500, 200], None),
    ],
)
def test_what_is_drawn_becomes_a_box_of_whole_pixels_inside(call: Call, drawn: list[float], box: list[int]) -> None:
    assert call("boxes.js", "fitBox", drawn, SIZE) == box


def test_a_number_that_is_none_makes_no_box(call: Call) -> None:
    assert call("boxes.js", "fitBox", [None, 10, "x", 60], SIZE) is None


def test_a_picture_of_one_pixel_can_be_boxed(call: Call) -> None:
    assert call("boxes.js", "fitBox", [0, 0, 1, 1], [1, 1]) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("by", "moved"),
    [((10, -20), [50, 10, 150, 110]), ((-90, 0), [0, 30, 100, 130]), ((999, 999), [300, 200, 400, 300])],
)
def test_a_moved_box_keeps_its_size_and_stays_inside(call: Call, by: tuple[int, int], moved: list[int]) -> None:
    assert call("boxes.js", "moveBox", [40, 30, 140, 130], *by, SIZE) == moved


@pytest.mark.parametrize(
    ("handle", "pulled"),
    [
        ("nw", [5, 6, 140, 130]),
        ("n", [40, 6, 140, 130]),
        ("ne", [40, 6, 5, 130]),
        ("e", [40, 30, 5, 130]),
        ("se", [40, 30, 5, 6]),
        ("s", [40, 30, 140, 6]),
        ("sw", [5, 30, 140, 6]),
        ("w", [5, 30, 140, 130]),
    ],
)
def test_a_handle_moves_its_own_edges_only(call: Call, handle: str, pulled: list[int]) -> None:
    assert call("boxes.js", "pullBox", [40, 30, 140, 130], handle, [5, 6]) == pulled
