"""Patchify's pyramid: boxes worked by hand, and exact tiling for every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.errors import RegionsError
from patchwise.regions import Pyramid, View, Whole
from patchwise.regions.pyramid import MAX_LEVEL, grid_edges

side = st.integers(1, 3000)
level = st.integers(0, MAX_LEVEL)

# Width 10 is cut at 5; 3, 7; 3, 5, 8 (2.5 and 7.5 round up). Height 7 at 4 (3.5); 2, 5; 2, 4, 5 (1.75, 3.5, 5.25).
BOXES_10_X_7 = [
    [(0, 0, 10, 7)],
    [(0, 0, 5, 4), (5, 0, 10, 4), (0, 4, 5, 7), (5, 4, 10, 7)],
    [
        *[(0, 0, 3, 2), (3, 0, 7, 2), (7, 0, 10, 2)],
        *[(0, 2, 3, 5), (3, 2, 7, 5), (7, 2, 10, 5)],
        *[(0, 5, 3, 7), (3, 5, 7, 7), (7, 5, 10, 7)],
    ],
    [
        *[(0, 0, 3, 2), (3, 0, 5, 2), (5, 0, 8, 2), (8, 0, 10, 2)],
        *[(0, 2, 3, 4), (3, 2, 5, 4), (5, 2, 8, 4), (8, 2, 10, 4)],
        *[(0, 4, 3, 5), (3, 4, 5, 5), (5, 4, 8, 5), (8, 4, 10, 5)],
        *[(0, 5, 3, 7), (3, 5, 5, 7), (5, 5, 8, 7), (8, 5, 10, 7)],
    ],
]


@pytest.mark.parametrize("top", range(4))
def test_boxes_worked_by_hand(top: int) -> None:
    regions = Pyramid(top).regions(View((10, 7)))
    np.testing.assert_array_equal(regions.boxes, [box for boxes in BOXES_10_X_7[: top + 1] for box in boxes])


def test_levels_and_cells() -> None:
    table = Pyramid(1).regions(View((10, 7))).table
    assert table["level"].tolist() == [0, 1, 1, 1, 1]
    assert list(zip(table["row"].tolist(), table["column"].tolist(), strict=True)) == [
        (0, 0),
        *[(0, 0), (0, 1), (1, 0), (1, 1)],
    ]


@pytest.mark.parametrize(
    ("length", "n", "edges"),
    [(1, 1, [0, 1]), (3, 2, [0, 2, 3]), (5, 4, [0, 1, 3, 4, 5]), (8, 8, list(range(9))), (100, 3, [0, 33, 67, 100])],
)
def test_edges(length: int, n: int, edges: list[int]) -> None:
    assert grid_edges(length, n).tolist() == edges


@pytest.mark.parametrize(("top", "count"), list(enumerate([1, 5, 14, 30, 55, 91, 140, 204])))
def test_counts(top: int, count: int) -> None:
    assert len(Pyramid(top).regions(View((top + 1, top + 1)))) == count
    assert len(Pyramid(top).regions(View((1024, 768)))) == count


@given(side, side, level)
def test_every_level_tiles_the_image(width: int, height: int, top: int) -> None:
    table = Pyramid(top).regions(View((width, height))).table
    for depth in np.unique(table["level"]):
        cells = table[table["level"] == depth]
        n = int(depth) + 1
        assert len(cells) == n * n
        boxes = cells["box"].reshape(n, n, 4)
        assert (boxes[..., 2:] - boxes[..., :2] >= 1).all()
        np.testing.assert_array_equal(boxes[0, 0, :2], 0)
        np.testing.assert_array_equal(boxes[-1, -1, 2:], (width, height))
        np.testing.assert_array_equal(boxes[:, 1:, 0], boxes[:, :-1, 2])
        np.testing.assert_array_equal(boxes[1:, :, 1], boxes[:-1, :, 3])
        assert (boxes[..., 0] == boxes[:1, :, 0]).all()
        assert (boxes[..., 1] == boxes[:, :1, 1]).all()
        assert (boxes[..., 2] == boxes[:1, :, 2]).all()
        assert (boxes[..., 3] == boxes[:, :1, 3]).all()


@given(st.integers(1, 40), st.integers(1, 40), level)
def test_every_level_covers_each_pixel_once(width: int, height: int, top: int) -> None:
    table = Pyramid(top).regions(View((width, height))).table
    for depth in np.unique(table["level"]):
        covered = np.zeros((height, width), dtype=int)
        for x0, y0, x1, y1 in table["box"][table["level"] == depth].astype(int):
            covered[y0:y1, x0:x1] += 1
        assert (covered == 1).all()


@given(side, side, level)
def test_coarse_to_fine_and_row_major(width: int, height: int, top: int) -> None:
    table = Pyramid(top).regions(View((width, height))).table
    order = [(int(r["level"]), int(r["row"]), int(r["column"])) for r in table]
    assert order == sorted(order)
    assert order[0] == (0, 0, 0)


@given(st.integers(1, 20), st.integers(1, 20), level)
def test_a_tiny_image_has_the_levels_that_fit(width: int, height: int, top: int) -> None:
    present = set(Pyramid(top).regions(View((width, height))).table["level"].tolist())
    assert present == set(range(min(top, min(width, height) - 1) + 1))


@given(side, side, level, st.integers(0, 7))
def test_a_lower_pyramid_is_a_prefix(width: int, height: int, top: int, lower: int) -> None:
    fewer = Pyramid(min(lower, top)).regions(View((width, height))).table
    np.testing.assert_array_equal(Pyramid(top).regions(View((width, height))).table[: len(fewer)], fewer)


@given(side, side, level)
def test_the_finest_side_is_that_of_the_smallest_cell(width: int, height: int, top: int) -> None:
    view = View((width, height))
    boxes = Pyramid(top).regions(view).boxes
    assert Pyramid(top).finest_side(view) == (boxes[:, 2:] - boxes[:, :2]).min()
    assert Whole().finest_side(view) == min(width, height)


@pytest.mark.parametrize(("top", "count"), list(enumerate([1, 5, 14, 30, 55, 91, 140, 204])))
def test_the_typical_count_is_that_of_any_larger_image(top: int, count: int) -> None:
    assert Pyramid(top).typical_count == count
    assert Whole().typical_count == 1


@pytest.mark.parametrize("bad", [-1, 8, 100])
def test_a_level_out_of_range_is_refused(bad: int) -> None:
    with pytest.raises(RegionsError, match=f"pyramid:{bad}.*between 0 and 7"):
        Pyramid(bad)


@pytest.mark.parametrize("size", [(1, 1), (640, 480), (1, 5000)])
def test_whole_is_the_whole_image(size: tuple[int, int]) -> None:
    table = Whole().regions(View(size)).table
    assert table["box"].tolist() == [[0, 0, *size]]
    assert (table["level"].tolist(), table["row"].tolist(), table["column"].tolist()) == ([0], [0], [0])
