"""Sliding windows: published counts, boxes worked by hand, and what holds for every size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.errors import RegionsError
from patchwise.regions import Pyramid, Sliding, View, parse_regions

side = st.integers(1, 3000)
tiny = st.integers(1, 24)
level = st.integers(0, 4)
ratio = st.sampled_from([1.0, 0.75, 0.5, 0.4, 1 / 3, 0.3, 0.25])


@pytest.mark.parametrize("size", [(512, 512), (640, 480), (333, 500), (4000, 3000), (900, 100)])
@pytest.mark.parametrize(("name", "count"), [("0.5", 84), ("0.25", 276), ("1", 30), ("0.75", 51)])
def test_counts(name: str, count: int, size: tuple[int, int]) -> None:
    """84 and 276 are the paper's; at 0.75 the grids are 1, 3, 4 and 5 wide."""
    strategy = parse_regions(f"sliding:3:{name}")
    assert len(strategy.regions(View(size))) == strategy.typical_count == count


@pytest.mark.parametrize(("level", "count"), [(0, 1), (1, 10), (2, 35), (3, 84), (4, 165)])
def test_counts_by_level(level: int, count: int) -> None:
    assert len(Sliding(level, 0.5).regions(View((640, 480)))) == Sliding(level, 0.5).typical_count == count


# Halves of 10 x 7, moved by half of their side: x from 0, 2.5, 5 to 5, 7.5, 10; y from 0, 1.75, 3.5 to 3.5, 5.25, 7.
BOXES_10_X_7 = [
    (0, 0, 10, 7),
    *[(0, 0, 5, 4), (3, 0, 8, 4), (5, 0, 10, 4)],
    *[(0, 2, 5, 5), (3, 2, 8, 5), (5, 2, 10, 5)],
    *[(0, 4, 5, 7), (3, 4, 8, 7), (5, 4, 10, 7)],
]


def test_boxes_worked_by_hand() -> None:
    regions = Sliding(1, 0.5).regions(View((10, 7)))
    np.testing.assert_array_equal(regions.boxes, BOXES_10_X_7)
    assert regions.table["level"].tolist() == [0, *[1] * 9]
    assert regions.table["row"].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert regions.table["column"].tolist() == [0, 0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_the_last_window_is_flush_where_strides_do_not_fit() -> None:
    # Thirds of 90 moved by 0.7 * 30 = 21: from 0, 21, 42, and 60 instead of 63.
    table = Sliding(2, 0.7).regions(View((90, 90))).table
    first_row = table[(table["level"] == 2) & (table["row"] == 0)]
    assert [(int(box[0]), int(box[2])) for box in first_row["box"]] == [(0, 30), (21, 51), (42, 72), (60, 90)]


def test_a_ratio_is_meant_as_the_fraction_next_to_it() -> None:
    # 0.1 in binary is a little more than a tenth and 0.333333 a little less than a third.
    assert Sliding(2, 0.1).typical_count == 1 + 11**2 + 21**2
    assert Sliding(1, 1 / 3).typical_count == Sliding(1, 0.333333).typical_count == 1 + 4**2


@given(side, side, level, ratio)
def test_windows_lie_inside_once_each_and_in_order(width: int, height: int, top: int, stride: float) -> None:
    strategy, view = Sliding(top, stride), View((width, height))
    table = strategy.regions(view).table
    boxes = table["box"].astype(int)
    assert boxes[0].tolist() == [0, 0, width, height]
    assert (boxes == table["box"]).all()
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 1
    assert len({tuple(box) for box in boxes.tolist()}) == len(boxes) <= strategy.typical_count
    order = [tuple(map(int, (row["level"], row["row"], row["column"]))) for row in table]
    assert order == sorted(order) and order[0] == (0, 0, 0)


@given(st.integers(300, 3000), st.integers(300, 3000), level, ratio)
def test_every_scale_covers_the_image_with_windows_of_one_side(
    width: int, height: int, top: int, stride: float
) -> None:
    strategy = Sliding(top, stride)
    table = strategy.regions(View((width, height))).table
    assert len(table) == strategy.typical_count
    for n in range(1, top + 2):
        windows = table[table["level"] == n - 1]
        for low, length in ((0, width), (1, height)):
            intervals = sorted({(int(box[low]), int(box[low + 2])) for box in windows["box"]})
            assert intervals[0][0] == 0 and intervals[-1][1] == length
            for (start, end), (following, _) in pairwise(intervals):
                assert following <= end  # no gap
                assert 0 < following - start <= stride * length / n + 1
            assert all(abs(end - start - length / n) < 1 for start, end in intervals)


@given(tiny, tiny, level, ratio)
def test_tiny_images_are_covered_by_their_finest_scale(width: int, height: int, top: int, stride: float) -> None:
    table = Sliding(top, stride).regions(View((width, height))).table
    assert set(table["level"].tolist()) <= set(range(min(top + 1, width, height)))
    covered = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in table["box"][1:].astype(int):
        covered[y0:y1, x0:x1] = True
    assert covered.all() or top == 0 or min(width, height) == 1


@given(side, side, level, ratio)
def test_no_region_is_finer_than_announced(width: int, height: int, top: int, stride: float) -> None:
    strategy, view = Sliding(top, stride), View((width, height))
    boxes = strategy.regions(view).boxes
    smallest = (boxes[:, 2:] - boxes[:, :2]).min()
    assert strategy.finest_side(view) <= smallest <= strategy.finest_side(view) + 1


@given(st.integers(64, 3000), st.integers(64, 3000), level)
def test_a_stride_of_a_whole_side_is_the_pyramid(width: int, height: int, top: int) -> None:
    view = View((width, height))
    np.testing.assert_array_equal(Sliding(top, 1.0).regions(view).table, Pyramid(top).regions(view).table)


@pytest.mark.parametrize(
    ("top", "stride", "complaint"),
    [
        (-1, 0.5, "level must be between 0 and 7"),
        (8, 0.5, "level must be between 0 and 7"),
        (3, 0.0, "ratio must be between 0.01 and 1"),
        (3, -0.5, "ratio must be between 0.01 and 1"),
        (0, 0.009, "ratio must be between 0.01 and 1"),
        (3, 1.01, "ratio must be between 0.01 and 1"),
        (3, float("nan"), "ratio must be between 0.01 and 1"),
        (7, 0.25, "2,472 windows per image exceed 2,000"),
        (3, 0.01, "windows per image exceed"),
    ],
)
def test_what_is_refused(top: int, stride: float, complaint: str) -> None:
    with pytest.raises(RegionsError, match=f"sliding:{top}.*{complaint}"):
        Sliding(top, stride)
