"""Composed scenes: the box is where the object's pixels are, and the conditions are what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import make_picture
from patchwise.evaluation.datasets.synthetic_scenes import (
    SCENE_SIZE,
    Condition,
    _homography,
    _project,
    compose_scene,
    conditions,
    photograph_object,
    relight,
)

MAGENTA = Image.new("RGB", (320, 240), (255, 0, 255))
GREY = [Image.new("RGB", (200, 200), (60 + 20 * number,) * 3) for number in range(4)]
PLAIN = Condition(size_share=0.1, reach=0.5, clutter=3, occlusion=0.0, light=0.0, viewpoint=0.0, turn=0.0)


def magenta(scene: Image.Image) -> np.ndarray:
    red, green, blue = np.moveaxis(np.asarray(scene, dtype=int), 2, 0)
    return (red + blue - 2 * green) > 120


def shown(condition: Condition, seed: int = 0) -> tuple[np.ndarray, tuple[float, ...], dict[str, float]]:
    scene, box, measured = compose_scene(MAGENTA, condition, GREY, np.random.default_rng(seed))
    assert scene.size == SCENE_SIZE and box is not None
    return magenta(scene), box, dict(measured)


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        Condition,
        size_share=st.floats(0.008, 0.25),
        reach=st.floats(0, 1),
        clutter=st.integers(0, 3),
        occlusion=st.just(0.0),
        light=st.floats(-0.5, 0.3),
        viewpoint=st.floats(0, 60),
        turn=st.floats(-20, 20),
    ),
    st.integers(0, 1000),
)
def test_the_box_encloses_the_objects_pixels(condition: Condition, seed: int) -> None:
    pixels, box, measured = shown(condition, seed)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    # A sharp corner fades out within its last pixels.
    assert np.abs(np.subtract(found, box)).max() <= 3
    assert box[0] >= 0 and box[1] >= 0 and box[2] <= SCENE_SIZE[0] and box[3] <= SCENE_SIZE[1]
    width, height = box[2] - box[0], box[3] - box[1]
    assert measured["size_share"] == pytest.approx(width * height / (800 * 600))
    assert measured["size_share"] == pytest.approx(condition.size_share, rel=0.05)
    centre = np.array([(box[0] + box[2]) / 2 - 400, (box[1] + box[3]) / 2 - 300])
    assert measured["centre_distance"] == pytest.approx(np.linalg.norm(centre) / 500)
    assert measured["clutter_pictures"] == condition.clutter
    assert measured["light_stops"] == condition.light


@pytest.mark.parametrize("seed", range(8))
def test_the_occlusion_that_is_reported_is_that_of_the_pixels(seed: int) -> None:
    free, box, measured = shown(PLAIN, seed)
    hidden, same_box, occluded = shown(Condition(**{**vars(PLAIN), "occlusion": 0.3}), seed)
    assert same_box == box
    assert measured["occlusion_share"] == 0
    assert occluded["occlusion_share"] == pytest.approx(0.3, abs=0.02)
    assert 1 - hidden.sum() / free.sum() == pytest.approx(occluded["occlusion_share"], abs=0.02)


def test_reach_leads_from_the_middle_to_the_border() -> None:
    def at(reach: float) -> tuple[float, tuple[float, ...]]:
        _, box, measured = shown(Condition(**{**vars(PLAIN), "reach": reach}), seed=4)
        return measured["centre_distance"], box

    (middle, _), (half, _), (far, box) = at(0), at(0.5), at(1)
    assert middle < 0.005
    assert half == pytest.approx(far / 2, abs=0.005)
    assert min(box[0], box[1], SCENE_SIZE[0] - box[2], SCENE_SIZE[1] - box[3]) <= 1


def test_a_scene_without_an_object_has_no_box() -> None:
    scene, box, measured = compose_scene(None, PLAIN, GREY, np.random.default_rng(0))
    assert box is None and measured == {"clutter_pictures": 3.0, "light_stops": 0.0}
    assert not magenta(scene).any()


def test_a_frontal_picture_keeps_its_corners() -> None:
    expected = [[-30, -20], [30, -20], [30, 20], [-30, 20]]
    np.testing.assert_allclose(_project((60, 40), 0, 0, 77), expected, atol=1e-9)
    # A quarter turn: left top goes to right top.
    np.testing.assert_allclose(_project((40, 40), 0, 90, 0)[0], [20, -20], atol=1e-9)


def test_a_picture_turned_around_its_upright_axis_narrows_and_its_near_side_grows() -> None:
    left_top, right_top, right_bottom, left_bottom = _project((60, 40), 50, 0, 90)
    sides = [left_bottom[1] - left_top[1], right_bottom[1] - right_top[1]]
    assert sides[0] < 40 < sides[1]
    # By hand: depth of the sides is 1 -+ 30 sin 50 / (1.6 * 72.11).
    tilt = 30 * np.sin(np.radians(50)) / (1.6 * np.hypot(60, 40))
    assert sides == pytest.approx([40 / (1 + tilt), 40 / (1 - tilt)])
    width = abs(right_top[0] - left_top[0])
    assert width == pytest.approx(30 * np.cos(np.radians(50)) * (1 / (1 + tilt) + 1 / (1 - tilt)))


def test_the_homography_leads_from_the_scene_to_the_photo() -> None:
    target = np.array([[3.0, 4.0], [90.0, 1.0], [80.0, 70.0], [0.0, 60.0]])
    a, b, c, d, e, f, g, h = _homography(target, (50, 30))
    for (x, y), expected in zip(target, [(0, 0), (50, 0), (50, 30), (0, 30)], strict=True):
        below = g * x + h * y + 1
        assert ((a * x + b * y + c) / below, (d * x + e * y + f) / below) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [1, 7, 20])
def test_conditions_cover_every_range_evenly(count: int) -> None:
    drawn = conditions(count, np.random.default_rng(3))
    assert len(drawn) == count

    def strata(values: list[float]) -> list[int]:
        return sorted(int(value * count) for value in values)

    assert strata([np.log(one.size_share / 0.008) / np.log(0.25 / 0.008) for one in drawn]) == list(range(count))
    assert strata([one.reach for one in drawn]) == list(range(count))
    assert strata([one.viewpoint / 60 for one in drawn]) == list(range(count))
    assert strata([(one.turn + 20) / 40 for one in drawn]) == list(range(count))
    assert strata([(one.light + 1.5) / 2.5 for one in drawn]) == list(range(count))
    assert sum(one.occlusion == 0 for one in drawn) in (count // 2, (count + 1) // 2)
    assert all(0 <= one.clutter <= 12 and 0 <= one.occlusion < 0.5 for one in drawn)


def test_conditions_are_independent_of_one_another() -> None:
    drawn = conditions(2000, np.random.default_rng(0))
    table = np.array([list(vars(one).values()) for one in drawn], dtype=float)
    correlation = np.corrcoef(table.T) - np.eye(table.shape[1])
    assert np.abs(correlation).max() < 0.08


def test_light_in_stops() -> None:
    class Neutral:
        def uniform(self, low: float, high: float) -> float:
            return (low + high) / 2

    grey = Image.new("RGB", (1, 1), (100, 50, 200))
    darker = relight(grey, -2.2, Neutral())  # type: ignore[arg-type]
    assert darker.getpixel((0, 0)) == (50, 25, 100)
    assert relight(grey, 2.2, Neutral()).getpixel((0, 0)) == (200, 100, 255)  # type: ignore[arg-type]


def test_a_query_is_another_photograph_of_the_same() -> None:
    picture = make_picture(3, (400, 300))
    one, two = (photograph_object(picture, np.random.default_rng(seed)) for seed in (0, 1))
    assert max(one.size) == 384
    frontal, first, second = (np.asarray(image.resize((64, 64)), dtype=float).ravel() for image in (picture, one, two))
    other = np.asarray(make_picture(4, (400, 300)).resize((64, 64)), dtype=float).ravel()
    for photograph in (first, second):
        assert np.abs(photograph - frontal).mean() > 4
        assert np.corrcoef(photograph, frontal)[0, 1] > 0.8 > np.corrcoef(photograph, other)[0, 1]
    assert np.abs(first - second).mean() > 4
