"""False alarms: against scipy's binomial, and against what random correspondences do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import special, stats

from patchwise.rerank.geometric.significance import RADII, false_alarms

AREA = 1_000.0 * 800.0


def spread(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, 2)) * (1_000, 800)


@pytest.mark.parametrize(("tried", "inliers", "sample"), [(30, 12, 4), (9, 9, 3), (200, 20, 2)])
def test_equals_the_formula_where_keypoints_do_not_crowd(tried: int, inliers: int, sample: int) -> None:
    matched = np.array([(40.0 * (i % 20), 60.0 * (i // 20)) for i in range(tried)])
    projected = matched + 25.0
    projected[:inliers] = matched[:inliers] + np.array([1.0, 0.0])
    found, agreeing = false_alarms(projected, matched, matched, AREA, sample)
    chance = np.pi * RADII[0] ** 2 / AREA
    expected = (
        np.log(len(RADII) * special.comb(tried, sample))
        + stats.binom.logsf(inliers - sample - 1, tried - sample, chance)
    ) / np.log(10)
    assert found == pytest.approx(expected, rel=1e-6)
    assert agreeing.tolist() == [True] * inliers + [False] * (tried - inliers)


def test_inliers_among_crowded_keypoints_say_less() -> None:
    matched = spread(40)
    projected = matched.copy()
    projected[20:] += 300
    few, _ = false_alarms(projected, matched, spread(500, 1), AREA, 4)
    crowd = np.concatenate([point + np.random.default_rng(2).uniform(-1, 1, (25, 2)) for point in matched[:20]])
    many, _ = false_alarms(projected, matched, crowd, AREA, 4)
    assert few < many - 10


def test_projections_behind_the_camera_do_not_agree() -> None:
    matched = spread(20)
    projected = matched.copy()
    projected[:10] = np.nan
    _, agreeing = false_alarms(projected, matched, matched, AREA, 4)
    assert agreeing.tolist() == [False] * 10 + [True] * 10


def test_nothing_beyond_the_sample_is_no_evidence() -> None:
    matched = spread(10)
    projected = matched + 500
    projected[:4] = matched[:4]
    found, agreeing = false_alarms(projected, matched, matched, AREA, 4)
    assert found == np.inf
    assert not agreeing.any()


def test_random_correspondences_are_significant_no_more_often_than_is_said() -> None:
    alarms = []
    for seed in range(300):
        source, target, keypoints = spread(25, 3 * seed), spread(25, 3 * seed + 1), spread(600, 3 * seed + 2)
        matrix, _ = cv2.estimateAffinePartial2D(source, target, None, cv2.RANSAC, RADII[-1], 2_000, 0.999)
        projected = source @ matrix[:, :2].T + matrix[:, 2]
        alarms.append(false_alarms(projected, target, np.concatenate([target, keypoints]), AREA, 2)[0])
    for threshold in (0, -1, -2):
        # A Poisson number of that mean exceeds this once in 10,000.
        assert (np.array(alarms) < threshold).sum() <= stats.poisson.isf(1e-4, 300 * 10.0**threshold)
