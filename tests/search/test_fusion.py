"""Answers to several pictures put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchwise.errors import UsageError
from patchwise.search import Explanation, Geometry, Hit, RegionScore
from patchwise.search.fusion import FUSIONS, fused, fused_search, hit_of

VERIFIED = Geometry("verified", 40, ((0, 0), (1, 0), (1, 1), (0, 1)))


def hit(name: str, score: float, part: int = 0, **more: object) -> Hit:
    """A hit whose box tells which picture it was found for."""
    return Hit(1, name, score, (float(part), 0, 9, 9), 0, (0, 0), (9, 9), (), **more)  # type: ignore[arg-type]


def answers_of(scores: np.ndarray) -> tuple[list[list[Hit]], Callable[[int, Hit], Hit]]:
    """All images ranked for each picture, (pictures, images); and what looks one of them up."""
    table = [{f"{image:03d}": hit(f"{image:03d}", float(s), part) for image, s in enumerate(row)} for part, row in
             enumerate(scores)]  # fmt: skip
    return [sorted(row.values(), key=lambda each: (-each.score, each.path)) for row in table], lambda part, each: table[
        part
    ][each.path]


def never(part: int, each: Hit) -> Hit:
    raise AssertionError(f"{each.path} is in answer {part}")


ANSWERS = [
    [hit("a", 0.9, 0), hit("b", 0.6, 0), hit("c", 0.5, 0)],
    [hit("b", 0.7, 1), hit("c", 0.7, 1), hit("a", 0.1, 1)],
]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("max", [("a", 0.9, 0), ("b", 0.7, 1), ("c", 0.7, 1)]),
        ("mean", [("b", 0.65, 1), ("c", 0.6, 1), ("a", 0.5, 0)]),
        ("rank", [("b", 1 / 61 + 1 / 62, 1), ("a", 1 / 61 + 1 / 63, 0), ("c", 1 / 62 + 1 / 63, 1)]),
    ],
)
def test_by_hand(method: str, expected: list[tuple[str, float, int]]) -> None:
    found = fused(ANSWERS, never, method)
    assert [(each.path, pytest.approx(each.score), each.box[0]) for each in found] == expected
    assert [each.rank for each in found] == [1, 2, 3]
    assert {each.path: each.part_scores for each in found} == {"a": (0.9, 0.1), "b": (0.6, 0.7), "c": (0.5, 0.7)}
    assert [each.path for each in fused(ANSWERS, never, method, k=1)] == [expected[0][0]]


def test_images_that_an_answer_lacks_are_looked_up() -> None:
    asked = []

    def scored(part: int, each: Hit) -> Hit:
        asked.append((part, each.path))
        return hit(each.path, 0.4, part)

    found = fused([[hit("a", 0.9, 0)], [hit("b", 0.7, 1)]], scored, "mean")
    assert sorted(asked) == [(0, "b"), (1, "a")]
    assert [(each.path, each.score, each.part_scores) for each in found] == [
        ("a", pytest.approx(0.65), (0.9, 0.4)),
        ("b", pytest.approx(0.55), (0.4, 0.7)),
    ]
    (only, _) = fused([[hit("a", 0.9, 0)], [hit("b", 0.7, 1)]], scored, "rank")
    assert only.score == pytest.approx(1 / 61)  # an answer it is not in adds nothing


def test_an_outline_that_was_verified_wins_over_a_score() -> None:
    found = fused([[hit("a", 0.9, 0)], [hit("a", 0.2, 1, geometry=VERIFIED)]], never)
    assert found[0].geometry is VERIFIED and found[0].box[0] == 1 and found[0].matches


def test_chance_has_as_many_chances_as_there_are_pictures() -> None:
    sure, unsure = hit("a", 0.9, 0, expected_false_matches=0.03), hit("a", 0.2, 1, expected_false_matches=40.0)
    (found,) = fused([[sure], [unsure]], never)
    assert found.expected_false_matches == pytest.approx(0.06) and not found.matches
    (unknown,) = fused([[hit("a", 0.9)], [hit("a", 0.2)]], never)
    assert unknown.expected_false_matches is None


def test_one_picture_and_none() -> None:
    assert [(each.path, each.score) for each in fused(ANSWERS[:1], never)] == [("a", 0.9), ("b", 0.6), ("c", 0.5)]
    assert fused([], never) == fused([[], []], never) == []


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.sampled_from(["max", "mean"]), st.integers(1, 30))
def test_a_search_gives_the_best_of_all_images(seed: int, pictures: int, method: str, k: int) -> None:
    """However the scores of the pictures differ, and though only the first hits are fetched."""
    generator = np.random.default_rng(seed)
    scores = generator.uniform(0, 1, (pictures, 700)) ** generator.uniform(0.3, 3)
    everything, scored = answers_of(scores)
    fetched: list[int] = []

    def search(depth: int) -> Sequence[Sequence[Hit]]:
        fetched.append(depth)
        return [answer[:depth] for answer in everything]

    found = fused_search(search, scored, method, k)
    expected = scores.max(axis=0) if method == "max" else scores.mean(axis=0)
    np.testing.assert_allclose([each.score for each in found], np.sort(expected)[::-1][:k], atol=1e-12)
    assert fetched == sorted(set(fetched)) and (method == "mean" or len(fetched) == 1)


def test_a_small_gallery_is_searched_once() -> None:
    everything, scored = answers_of(np.array([[0.1, 0.9], [0.8, 0.3]]))
    depths: list[int] = []

    def search(depth: int) -> Sequence[Sequence[Hit]]:
        depths.append(depth)
        return everything

    assert [each.path for each in fused_search(search, scored)] == ["001", "000"]
    assert len(depths) == 1
    assert fused_search(lambda _: [[], []], scored) == []


def test_unknown_methods() -> None:
    with pytest.raises(UsageError, match="expected one of max, mean, rank"):
        fused(ANSWERS, never, "median")
    assert all(FUSIONS.values())


def test_an_explanation_as_a_hit() -> None:
    regions = tuple(
        RegionScore((float(n), 0, 20, 20), 1, (0, n), score) for n, score in enumerate([0.1, 0.7, 0.3, 0.7] * 4)
    )
    found = hit_of(Explanation("/a.jpg", (20, 20), regions))
    assert (found.path, found.score, found.box[0], found.cell, found.size) == ("/a.jpg", 0.7, 1.0, (0, 1), (20, 20))
    assert [each.score for each in found.regions] == [0.7] * 8 + [0.3] * 2
