"""Ranks of the own picture, worked by hand and against a plain loop."""

from __future__ import annotations

import numpy as np

from patchwise.adaptation.examples import Examples
from patchwise.adaptation.measure import Measured, alike, measure, own_ranks
from patchwise.encoders.whitening import normalised


def axes(*which: int) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[list(which)]


def made(seed: int = 0) -> Examples:
    generator = np.random.default_rng(seed)
    regions = [normalised(generator.normal(size=(n, 6)).astype(np.float32)) for n in (3, 1, 5, 2, 4)]
    crops = [normalised(generator.normal(size=(n, 6)).astype(np.float32)) for n in (2, 2, 2, 2, 2)]
    return Examples.joined(regions, crops)


def test_ranks_by_hand() -> None:
    """The best region counts, a tie counts against the own picture, an ignored one does not count."""
    regions, starts = axes(0, 1, 2, 1, 3), np.array([0, 2, 3, 5])
    nobody, third = np.zeros((3, 3), bool), np.zeros((3, 3), bool)
    third[0, 2] = True
    assert own_ranks(axes(0), np.array([0]), regions, starts, nobody).tolist() == [1]
    assert own_ranks(axes(2), np.array([0]), regions, starts, nobody).tolist() == [3]
    assert own_ranks(axes(1), np.array([0]), regions, starts, nobody).tolist() == [2]
    assert own_ranks(axes(1), np.array([0]), regions, starts, third).tolist() == [1]
    assert own_ranks(axes(1, 1), np.array([2, 0]), regions, starts, third).tolist() == [2, 1]


def test_against_a_plain_loop() -> None:
    examples = made()
    asked = np.array([1, 4])
    found = measure(examples, asked, normalised, np.zeros((5, 5), bool)).ranks
    expected = []
    for crop, own in zip(examples.crops, examples.crop_of, strict=True):
        if own in asked:
            best = [
                max(float(crop @ one) for one in examples.regions[examples.rows_of(np.array([i]))]) for i in range(5)
            ]
            expected.append(1 + sum(score > best[own] for score in best))
    assert found.tolist() == expected


def test_figures() -> None:
    found = Measured(np.array([1, 2, 4]))
    assert found.average_precision.tolist() == [1.0, 0.5, 0.25]
    assert found.found_first.tolist() == [1.0, 0.0, 0.0]


def test_pictures_that_look_the_same_are_found_out() -> None:
    whole = axes(0, 1, 0)
    examples = Examples.joined([whole[i : i + 1] for i in range(3)], [whole[:1]] * 3)
    expected = np.zeros((3, 3), bool)
    expected[0, 2] = expected[2, 0] = True
    np.testing.assert_array_equal(alike(examples, normalised), expected)


def test_some_of_the_pictures() -> None:
    examples = made()
    some = examples.only(np.array([0, 3]))
    np.testing.assert_array_equal(some.regions, examples.regions[[0, 1, 2, 9, 10]])
    assert some.starts.tolist() == [0, 3, 5] and some.crop_of.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(some.crops, examples.crops[[0, 1, 6, 7]])
