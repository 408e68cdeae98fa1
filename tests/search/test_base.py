"""Heat maps: means over levels, worked by hand and against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchwise.boxes import Box
from patchwise.regions import Pyramid, View
from patchwise.search import Explanation, RegionScore


def region(level: int, box: Box, score: float) -> RegionScore:
    return RegionScore(box, level, (-1, -1), score)


QUARTERS = Explanation(
    "a.png",
    (8, 4),
    (
        region(0, (0, 0, 8, 4), 0.2),
        region(1, (0, 0, 4, 2), 0.4),
        region(1, (4, 0, 8, 2), 0.6),
        region(1, (0, 2, 4, 4), 0.0),
        region(1, (4, 2, 8, 4), -0.2),
    ),
)


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_the_mean_over_levels(resolution: int) -> None:
    heat = QUARTERS.heat_map(resolution)
    assert heat.shape == (resolution // 2, resolution)
    assert heat.dtype == np.float32
    cell = resolution // 4
    expected = np.kron([[0.3, 0.3, 0.4, 0.4], [0.1, 0.1, 0.0, 0.0]], np.ones((cell, cell)))
    np.testing.assert_allclose(heat, expected, atol=1e-7)


def test_regions_of_one_level_that_overlap_are_averaged() -> None:
    explanation = Explanation(
        "a.png", (3, 1), (region(-1, (0, 0, 2, 1), 0.2), region(-1, (1, 0, 3, 1), 0.6), region(0, (0, 0, 3, 1), 0.0))
    )
    np.testing.assert_allclose(explanation.heat_map(3), [[0.1, 0.2, 0.3]], atol=1e-7)


def test_a_level_that_does_not_reach_a_point_does_not_count_there() -> None:
    explanation = Explanation("a.png", (4, 1), (region(0, (0, 0, 4, 1), 0.2), region(1, (0, 0, 1, 1), 0.8)))
    np.testing.assert_allclose(explanation.heat_map(4), [[0.5, 0.2, 0.2, 0.2]], atol=1e-7)


def test_where_nobody_looked_it_is_zero() -> None:
    explanation = Explanation("a.png", (4, 1), (region(2, (1, 0, 2, 1), -0.8),))
    np.testing.assert_allclose(explanation.heat_map(4), [[0, -0.8, 0, 0]], atol=1e-7)


@pytest.mark.parametrize(
    ("size", "resolution", "shape"),
    [
        ((640, 480), 64, (48, 64)),
        ((480, 640), 64, (64, 48)),
        ((5000, 1), 64, (1, 64)),
        ((1, 5000), 64, (64, 1)),
        ((1, 1), 64, (64, 64)),
        ((100, 75), 10, (8, 10)),
    ],
)
def test_shape(size: tuple[int, int], resolution: int, shape: tuple[int, int]) -> None:
    assert Explanation("a.png", size, (region(0, (0, 0, *size), 0.5),)).heat_map(resolution).shape == shape


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 3), st.integers(0, 10_000))
def test_a_pyramid_against_a_slow_reference(width: int, height: int, top: int, seed: int) -> None:
    table = Pyramid(top).regions(View((width, height))).table
    scores = np.random.default_rng(seed).uniform(-1, 1, len(table))
    regions = tuple(
        RegionScore(tuple(map(float, row["box"])), int(row["level"]), (int(row["row"]), int(row["column"])), score)
        for row, score in zip(table, scores.tolist(), strict=True)
    )
    heat = Explanation("a.png", (width, height), regions).heat_map(12)
    for i in range(heat.shape[0]):
        for j in range(heat.shape[1]):
            x, y = (j + 0.5) * width / heat.shape[1], (i + 0.5) * height / heat.shape[0]
            here = [r.score for r in regions if r.box[0] <= x < r.box[2] and r.box[1] <= y < r.box[3]]
            assert len(here) == len(set(table["level"].tolist()))
            assert heat[i, j] == pytest.approx(np.mean(here), abs=1e-6)
