"""The justified grid's maths."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from .conftest import Call

GAP, HEIGHT = 10, 200
SHAPE = {"height": HEIGHT, "gap": GAP, "narrowest": 0.5, "flattest": 4}


def rows_of(tiles: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [list(group) for _, group in itertools.groupby(tiles, key=lambda tile: tile["row"])]


def test_nothing_needs_no_tiles(call: Call) -> None:
    assert call("justified.js", "justify", [], 800, SHAPE) == []


@pytest.mark.parametrize("width", [280, 366, 801, 1850])
def test_rows_fill_the_width_to_the_pixel_and_keep_shapes(call: Call, width: int) -> None:
    chance = random.Random(width)
    ratios = [chance.choice([1, 4 / 3, 3 / 4, 16 / 9, chance.uniform(0.5, 4)]) for _ in range(60)]
    tiles = call("justified.js", "justify", ratios, width, SHAPE)
    assert len(tiles) == len(ratios)
    *full, last = rows_of(tiles)
    for row in full:
        assert sum(tile["width"] for tile in row) + GAP * (len(row) - 1) == width
    assert sum(tile["width"] for tile in last) + GAP * (len(last) - 1) <= width
    for row in [*full, last]:
        assert len({tile["height"] for tile in row}) == 1
    for tile, ratio in zip(tiles, ratios, strict=True):
        assert tile["width"] == pytest.approx(ratio * tile["height"], abs=ratio / 2 + 2)


def test_rows_are_about_as_high_as_wanted(call: Call) -> None:
    tiles = call("justified.js", "justify", [1.5, 0.75, 1, 1.33] * 20, 1200, SHAPE)
    *full, last = rows_of(tiles)
    assert all(0.75 * HEIGHT < row[0]["height"] < 1.35 * HEIGHT for row in full)
    assert last[0]["height"] <= HEIGHT


def test_a_lonely_picture_is_not_blown_up(call: Call) -> None:
    assert call("justified.js", "justify", [1.5], 1200, SHAPE) == [{"width": 300, "height": 200, "row": 0}]


def test_extreme_pictures_get_the_nearest_allowed_shape(call: Call) -> None:
    narrow, flat = call("justified.js", "justify", [0.01, 100], 2000, SHAPE)
    assert (narrow["width"], narrow["height"]) == (100, 200)
    assert (flat["width"], flat["height"]) == (800, 200)


def test_a_flat_picture_on_a_phone_fits(call: Call) -> None:
    (tile,) = call("justified.js", "justify", [4], 366, SHAPE)
    assert (tile["width"], tile["height"]) == (366, 92)
