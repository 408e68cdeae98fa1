"""Where an object is, concluded from scores of regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchwise.boxes import iou_xyxy
from patchwise.regions import View, parse_regions
from patchwise.rerank.belief import Belief, expected_fit, jittered, touched

GRID = parse_regions("pyramid:3").regions(View((1000, 1000))).boxes / 1000.0


def test_the_expected_fit_by_hand() -> None:
    whole, quarter, corner, apart = [0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [0.5, 0.5, 1, 1]
    fit = expected_fit(np.array([quarter, corner]), np.array([quarter, whole, corner, apart]))
    # of the object is shown, of the region is filled: (1, 1), (1, 1/4), (1/4, 1/4), (0, 0)
    assert fit[0] == pytest.approx([1, 0.25**0.5, 0.25**0.85, 0])
    assert fit[1] == pytest.approx([0.25**0.85, 0.25**0.5, 1, 0.25**0.85])


def test_a_place_is_found_from_the_grid_alone() -> None:
    """Of objects from a seventh to two thirds of the side, with scores as the model has them."""
    found, best_of_grid = [], []
    for seed in range(200):  # single objects may come out worse than by the grid: about one in twenty
        draw = np.random.default_rng(seed)
        sides = draw.uniform(0.15, 0.65) * np.exp(draw.uniform(-0.25, 0.25, 2))
        low = draw.uniform(0, 1 - sides)
        true = np.concatenate([low, low + sides])[None]
        scores = 0.1 + 0.6 * expected_fit(true, GRID)[0]
        place = Belief(GRID, scores).place()
        assert place.ground == pytest.approx(0.1, abs=0.1)
        found.append(iou_xyxy(true, place.box[None])[0, 0])
        best_of_grid.append(iou_xyxy(true, GRID[scores.argmax()][None])[0, 0])
    assert np.mean(best_of_grid) < 0.5
    assert np.mean(found) > 0.7
    assert np.quantile(found, 0.05) > 0.45
    assert np.mean(np.greater(found, best_of_grid)) > 0.9


def test_looking_closer_narrows_it_down() -> None:
    """An object of 0.8 % of the image, of which the grid says little."""
    draw = np.random.default_rng(0)
    true = np.array([[0.62, 0.31, 0.71, 0.4]])
    belief = Belief(GRID, expected_fit(true, GRID)[0])
    before = iou_xyxy(true, belief.place().box[None])[0, 0]
    for _ in range(4):
        regions = belief.proposals(16, 0.15, 0.25, draw)
        belief.add(regions, expected_fit(true, regions)[0], draw)
    after = belief.place()
    assert iou_xyxy(true, after.box[None])[0, 0] > max(0.6, before + 0.3)
    assert after.score == pytest.approx(expected_fit(true, belief.regions).max(), abs=0.1)


def test_the_aspect_of_the_query_counts_where_scores_leave_it_open() -> None:
    true = np.array([[0.3, 0.3, 0.7, 0.7]])
    scores = expected_fit(true, GRID)[0]
    aspects = []
    for aspect in (0.5, 1.0, 2.0):
        x0, y0, x1, y1 = Belief(GRID, scores, aspect=aspect).place().box
        aspects.append((x1 - x0) / (y1 - y0))
    assert aspects[0] < 0.85 and aspects[1] == pytest.approx(1, abs=0.05) and aspects[2] > 1 / 0.85
    assert aspects[0] * aspects[2] == pytest.approx(1, abs=0.05)


def test_scores_that_say_nothing_leave_the_image() -> None:
    for regions in (GRID, GRID[:1]):
        place = Belief(regions, np.full(len(regions), 0.3)).place()
        assert place.box[:2] + place.box[2:] == pytest.approx([1, 1], abs=0.02)
        assert place.score == pytest.approx(0.3) and place.ground == pytest.approx(0.3)


def test_regions_of_other_objects_are_left_out() -> None:
    left, right = np.array([[0.05, 0.3, 0.3, 0.6]]), np.array([[0.7, 0.3, 0.95, 0.6]])
    scores = np.maximum(expected_fit(left, GRID)[0], 0.9 * expected_fit(right, GRID)[0])
    belief = Belief(GRID, scores, apart=left)
    assert iou_xyxy(right, belief.place().box[None])[0, 0] > 0.4
    assert not touched(belief.regions, left).any() and len(belief.regions) < len(GRID)
    draw = np.random.default_rng(0)
    belief.add(np.concatenate([left, right]), np.ones(2), draw)
    assert belief.regions[-1] == pytest.approx(right[0]) and belief.scores[-1] == 1


def test_an_object_that_fills_the_image_leaves_no_other() -> None:
    belief = Belief(GRID, np.linspace(0, 1, len(GRID)), apart=np.array([[0, 0, 1, 1.0]]))
    assert not len(belief.regions)
    place = belief.place()
    assert (place.box >= 0).all() and (place.box <= 1).all() and place.score == place.ground == 0


def test_touching_is_a_quarter_of_the_smaller() -> None:
    boxes = np.array([[0, 0, 0.4, 0.4], [0.31, 0, 0.71, 0.4], [0.35, 0, 0.75, 0.4], [0, 0, 1, 1]])
    assert touched(boxes, boxes[:1]).tolist() == [True, False, False, True]
    assert touched(boxes, np.array([[0.29, 0, 0.5, 0.4]])).tolist() == [True, True, True, True]
    assert not touched(boxes, np.empty((0, 4))).any()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_moved_boxes_stay_near_and_inside(seed: int) -> None:
    box = np.repeat([[0.4, 0.4, 0.6, 0.5]], 200, axis=0)
    moved = jittered(box, 0.1, 0.0, np.random.default_rng(seed))
    assert (np.abs(moved - box) < [0.0201, 0.0101, 0.0201, 0.0101]).all()
    resized = jittered(box, 0.0, 0.2, np.random.default_rng(seed))
    sides = np.log((resized[:, 2:] - resized[:, :2]) / [0.2, 0.1])
    assert np.abs(sides.mean(axis=0)).max() < 0.08 and 0.15 < sides.std() < 0.3
    edge = jittered(np.array([[0.9, 0.9, 1, 1.0]] * 50), 0.5, 0.5, np.random.default_rng(seed))
    assert (edge >= 0).all() and (edge <= 1).all() and (edge[:, 2:] >= edge[:, :2]).all()
