"""Box geometry against values worked by hand, a rasterised reference, and its own algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.boxes import (
    Box,
    area_xyxy,
    box_area,
    box_iou,
    clip_xyxy,
    enclosing_box,
    iou_xyxy,
    parse_box,
    query_box,
)
from patchwise.errors import BoxError

coordinate = st.floats(-1e5, 1e5, allow_nan=False, allow_infinity=False)
box_of_reals = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
cell = st.integers(0, 12)
box_of_integers = st.tuples(cell, cell, cell, cell).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
image_size = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


def raster(box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((12, 12), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


@pytest.mark.parametrize(
    ("box", "area"),
    [((0, 0, 2, 3), 6), ((1, 1, 1, 5), 0), ((5, 0, 1, 4), 0), ((-2, -2, 2, 2), 16), ((0.5, 0, 1, 0.5), 0.25)],
)
def test_area(box: Box, area: float) -> None:
    assert area_xyxy(box) == area


def test_area_keeps_the_leading_shape() -> None:
    assert area_xyxy(np.zeros((0, 4))).shape == (0,)
    assert area_xyxy(np.zeros((3, 2, 4))).shape == (3, 2)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 2 / 6),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 4, 4), (1, 1, 3, 3), 4 / 16),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),
        ((0, 0, 1, 1), (5, 5, 6, 6), 0.0),
        ((3, 3, 3, 3), (3, 3, 3, 3), 0.0),
        ((1, 1, 1, 3), (0, 0, 4, 4), 0.0),
        ((3, 3, 1, 1), (0, 0, 4, 4), 0.0),
    ],
)
def test_iou(a: Box, b: Box, iou: float) -> None:
    assert iou_xyxy([a], [b])[0, 0] == pytest.approx(iou, abs=1e-12)


def test_iou_of_every_pair() -> None:
    table = iou_xyxy([(0, 0, 2, 2), (0, 0, 4, 4)], [(0, 0, 2, 2), (0, 0, 2, 4), (9, 9, 10, 10)])
    np.testing.assert_allclose(table, [[1, 0.5, 0], [0.25, 0.5, 0]])


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (2, 0)])
def test_iou_of_nothing(n: int, m: int) -> None:
    assert iou_xyxy(np.zeros((n, 4)), np.zeros((m, 4))).shape == (n, m)


@given(box_of_integers, box_of_integers)
def test_iou_counts_pixels(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> None:
    both, either = (raster(a) & raster(b)).sum(), (raster(a) | raster(b)).sum()
    assert iou_xyxy([a], [b])[0, 0] == pytest.approx(both / either if either else 0.0)


@given(box_of_reals, box_of_reals)
def test_iou_is_symmetric_and_at_most_one(a: Box, b: Box) -> None:
    there, back = iou_xyxy([a], [b])[0, 0], iou_xyxy([b], [a])[0, 0]
    assert there == back
    assert 0 <= there <= 1 + 1e-12


@given(box_of_reals)
def test_iou_with_itself_is_one_unless_empty(box: Box) -> None:
    assert iou_xyxy([box], [box])[0, 0] == (1 if area_xyxy(box) > 0 else 0)


def test_clip() -> None:
    np.testing.assert_array_equal(
        clip_xyxy([(-5, -5, 200, 50), (10, 20, 30, 40), (120, 90, 130, 95)], (100, 80)),
        [(0, 0, 100, 50), (10, 20, 30, 40), (100, 80, 100, 80)],
    )


@given(box_of_reals, image_size)
def test_clipped_boxes_lie_inside_and_stay_put(box: Box, size: tuple[int, int]) -> None:
    x0, y0, x1, y1 = clipped = clip_xyxy(box, size)
    assert 0 <= x0 <= x1 <= size[0]
    assert 0 <= y0 <= y1 <= size[1]
    np.testing.assert_array_equal(clip_xyxy(clipped, size), clipped)
    assert area_xyxy(clipped) <= area_xyxy(box)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("40,30,210,260", (40, 30, 210, 260)),
        (" 40, 30 ,210 , 260 ", (40, 30, 210, 260)),
        ("1 2 3 4", (1, 2, 3, 4)),
        ("0.5,-1,1e2,2.25", (0.5, -1, 100, 2.25)),
    ],
)
def test_parse_box(text: str, box: Box) -> None:
    assert parse_box(text) == box


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4", "1,2,3,four", "0x1,2,3,4"])
def test_parse_box_says_what_it_expected(text: str) -> None:
    with pytest.raises(BoxError) as raised:
        parse_box(text)
    assert repr(text) in str(raised.value)
    assert "x0,y0,x1,y1" in str(raised.value)
    assert "40,30,210,260" in str(raised.value)


@given(st.tuples(coordinate, coordinate, coordinate, coordinate))
def test_parse_box_reads_what_was_written(box: Box) -> None:
    assert parse_box(",".join(map(repr, box))) == box


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((10, 20, 30, 40), (10, 20, 30, 40)),
        ((0, 0, 100, 80), (0, 0, 100, 80)),
        ((-10, -10, 30, 40), (0, 0, 30, 40)),
        ((90, 70, 1000, 1000), (90, 70, 100, 80)),
        ((99, 79, 100, 80), (99, 79, 100, 80)),
        ((10.5, 20.25, 11.5, 21.25), (10.5, 20.25, 11.5, 21.25)),
    ],
)
def test_query_box(box: Box, inside: Box) -> None:
    assert query_box(box, (100, 80)) == inside
    assert all(type(edge) is float for edge in query_box(np.array(box), (100, 80)))


@pytest.mark.parametrize(
    ("box", "advice"),
    [
        ((30, 20, 10, 40), "x1 must exceed x0"),
        ((10, 40, 30, 20), "y1 must exceed y0"),
        ((10, 20, 10, 40), "empty"),
        ((1, 2, 3), "four finite numbers x0,y0,x1,y1"),
        ((1, 2, 3, 4, 5), "four finite numbers x0,y0,x1,y1"),
        ((), "four finite numbers x0,y0,x1,y1"),
        ((0, 0, float("nan"), 4), "four finite numbers x0,y0,x1,y1"),
        ((0, 0, float("inf"), 4), "four finite numbers x0,y0,x1,y1"),
        ((100, 0, 120, 40), "outside the image, which is 100 x 80"),
        ((0, 80, 50, 90), "outside the image, which is 100 x 80"),
        ((-20, 0, 0, 40), "outside the image, which is 100 x 80"),
        ((0, -20, 50, -1), "outside the image, which is 100 x 80"),
        ((10, 10, 10.9, 40), "less than one pixel"),
        ((99.5, 0, 300, 40), "less than one pixel"),
    ],
)
def test_query_box_names_the_box_and_what_is_wrong(box: tuple[float, ...], advice: str) -> None:
    with pytest.raises(BoxError) as raised:
        query_box(box, (100, 80))
    assert ",".join(f"{edge:g}" for edge in box) in str(raised.value)
    assert advice in str(raised.value)


@given(box_of_reals, image_size)
def test_query_box_is_a_usable_part_of_the_image_or_an_error(box: Box, size: tuple[int, int]) -> None:
    try:
        x0, y0, x1, y1 = inside = query_box(box, size)
    except BoxError:
        clipped = clip_xyxy(box, size)
        assert min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < 1
    else:
        assert 0 <= x0 < x1 <= size[0]
        assert 0 <= y0 < y1 <= size[1]
        assert min(x1 - x0, y1 - y0) >= 1
        assert query_box(inside, size) == inside


corner = st.floats(-50, 50).map(lambda value: round(value, 2))
any_box = st.tuples(corner, corner, corner, corner)


@given(any_box, any_box)
def test_one_box_is_measured_as_many_are(a: Box, b: Box) -> None:
    assert box_area(a) == pytest.approx(float(area_xyxy(a)))
    assert box_iou(a, b) == pytest.approx(float(iou_xyxy(a, b)[0, 0]), abs=1e-9)


def test_the_enclosing_box() -> None:
    assert enclosing_box([(1, 2, 3, 4)]) == (1, 2, 3, 4)
    assert enclosing_box(iter([(1, 2, 3, 4), (0, 3, 2, 9)])) == (0, 2, 3, 9)
