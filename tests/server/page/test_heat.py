"""The heat map in the browser, against Python's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from patchwise.regions import View, parse_regions
from patchwise.report.draw import colour_heat
from patchwise.search import Explanation, RegionScore

from .conftest import Call


def explanation(size: tuple[int, int], regions: str) -> Explanation:
    chance = np.random.default_rng(7)
    table = parse_regions(regions).regions(View(size)).table
    scored = (
        RegionScore(tuple(one["box"].tolist()), int(one["level"]), (0, 0), float(chance.uniform(-0.2, 0.9)))
        for one in table
    )
    return Explanation("a.jpg", size, tuple(scored))


def plain(regions: tuple[RegionScore, ...]) -> list[dict[str, Any]]:
    return [{"box": list(one.box), "level": one.level, "score": one.score} for one in regions]


@pytest.mark.parametrize("resolution", [64, 33])
@pytest.mark.parametrize("regions", ["pyramid:3", "sliding:3:0.5", "whole"])
@pytest.mark.parametrize("size", [(640, 480), (333, 1000), (50, 20), (1601, 7)])
def test_the_numbers_are_those_of_python(call: Call, size: tuple[int, int], regions: str, resolution: int) -> None:
    explained = explanation(size, regions)
    expected = explained.heat_map(resolution)
    found = call("heat.js", "heatMap", list(size), plain(explained.regions), resolution)
    assert (found["height"], found["width"]) == expected.shape
    assert np.array_equal(np.array(found["values"], np.float32).reshape(expected.shape), expected)


def test_points_that_no_region_reaches_are_zero_and_levels_count_alike(call: Call) -> None:
    regions = (
        RegionScore((0, 0, 40, 40), 1, (0, 0), 0.2),
        RegionScore((20, 0, 40, 40), 1, (0, 1), 0.8),
        RegionScore((0, 0, 20, 20), -1, (-1, -1), 0.6),
    )
    expected = Explanation("a.jpg", (80, 40), regions).heat_map(16)
    found = call("heat.js", "heatMap", [80, 40], plain(regions), 16)
    assert np.array_equal(np.array(found["values"], np.float32).reshape(expected.shape), expected)
    assert found["values"][0] == pytest.approx((0.2 + 0.6) / 2)
    assert found["values"][6] == pytest.approx((0.2 + 0.8) / 2)
    assert found["values"][-1] == 0
    assert call("heat.js", "heatRange", found) == pytest.approx([0, 0.5])


def test_colours_are_those_of_the_report(call: Call) -> None:
    scores = np.array([[-1.0, 0.1, 0.25, 0.3001, 0.4, 0.5, 0.75, 0.9, 2.0]])
    expected = colour_heat(scores, 0.1, 0.9)[0].tolist()
    assert [call("heat.js", "heatColour", float(score), 0.1, 0.9) for score in scores[0]] == expected


def test_a_map_of_one_score_has_a_colour(call: Call) -> None:
    assert call("heat.js", "heatColour", 0.5, 0.5, 0.5) == [0, 0, 4]
