"""Query expansion: which hits count, what vector comes of them, and what may not be displaced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.errors import UsageError
from patchwise.search import Geometry, Hit
from patchwise.search.expansion import MOST_EXPANDING, best_regions, expanded, expanding, merged, parse_expansion

VERIFIED, UNSURE = Geometry("verified", 40, ((0, 0), (1, 0), (1, 1), (0, 1))), Geometry("not verified", 3)


def hit(name: str, score: float = 0.5, expected: float | None = None, geometry: Geometry | None = None) -> Hit:
    region = (0.0, 0.0, 9.0, 9.0)
    return Hit(1, name, score, region, 0, (0, 0), (9, 9), (), expected_false_matches=expected, geometry=geometry)


def unit(*numbers: float) -> np.ndarray:
    vector = np.array(numbers, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def names(hits: Sequence[Hit]) -> str:
    return "".join(each.path for each in hits)


def test_hits_that_match_expand_and_no_others() -> None:
    hits = [
        hit("a", expected=0.2),
        hit("b", expected=0.01),
        hit("c", geometry=UNSURE),
        hit("d", expected=3.0, geometry=VERIFIED),
        hit("e"),
        hit("f", expected=1e-9),
    ]
    assert names(expanding(hits)) == "bdf"
    assert names(expanding(hits, at_most=2)) == "bd"
    assert expanding([hit("a", expected=0.2), hit("e")]) == [] and expanding([]) == []
    assert len(expanding([hit(str(number), expected=0.0) for number in range(50)])) == MOST_EXPANDING


def test_average_is_the_direction_of_the_mean_of_all() -> None:
    query, vectors = unit(1, 0, 0), np.stack([unit(1, 1, 0), unit(1, 0, 2)])
    found = expanded(query, vectors, [0.7, 0.4])
    mean = (query + vectors[0] + vectors[1]) / 3
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(expanded(query, vectors, [0.7, 0.4], "alpha:0"), found)


def test_alpha_weighs_by_a_power_of_the_score() -> None:
    """By hand: 1 of the query, .5 ** 2 of one, nothing of one that points away."""
    query, vectors = unit(1, 0), np.stack([unit(0, 1), unit(0, -1)])
    found = expanded(query, vectors, [0.5, -0.5], "alpha:2")
    np.testing.assert_allclose(found, np.array([1, 0.25]) / np.hypot(1, 0.25), atol=1e-6)


def test_without_hits_the_query_is_unchanged() -> None:
    query = unit(3, 1, 2)
    assert expanded(query, np.empty((0, 3), dtype=np.float32), []) is query
    assert expanded(query, unit(0, 1, 0)[None], [-0.2], "alpha:3") is query  # no weight
    assert expanded(query, -query[None], [0.9]) is query  # they cancel each other


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from(["average", "alpha:1", "alpha:3"]))
def test_expanding_stays_near_the_query(seed: int, count: int, method: str) -> None:
    """Of unit length, and never farther from the query than the hit that is farthest."""
    generator = np.random.default_rng(seed)
    query = unit(*generator.normal(size=8))
    vectors = generator.normal(size=(count, 8)) + 2 * query
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    scores = vectors @ query
    found = expanded(query, vectors, scores, method)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert found @ query >= min(scores.min(), 1) - 1e-5


def test_of_each_hit_the_region_that_fits_best_is_taken() -> None:
    query = unit(1, 0)
    stored = {"a": np.array([[0, 1], [0.6, 0.8]], dtype=np.float16), "b": np.array([[-1, 0]], dtype=np.float16)}
    vectors, scores = best_regions(query, [hit("a"), hit("b")], lambda each: stored[each.path])
    np.testing.assert_array_equal(vectors, np.stack([stored["a"][1], stored["b"][0]]).astype(np.float32))
    np.testing.assert_allclose(scores, [0.6, -1], atol=1e-3)
    empty, none = best_regions(query, [], lambda each: stored[each.path])
    assert empty.shape == (0, 2) and none.shape == (0,)


def test_what_the_query_found_for_sure_stays_first_and_as_it_is() -> None:
    first = [hit("a", 0.8, 0.001), hit("b", 0.7, 0.4), hit("c", 0.6, 2.0, VERIFIED), hit("d", 0.5, 5.0)]
    second = [
        hit("x", 0.99, 1e-8),  # found by expansion alone, and most like it
        hit("c", 0.98, 1e-8),
        hit("b", 0.9, 0.001),
        hit("y", 0.8, 0.3, VERIFIED),
        hit("a", 0.7, 0.01),
    ]
    found = merged(first, second)
    assert names(found) == "acyxbd"
    assert found[0] is first[0] and found[1] is first[2] and found[4] is second[2]
    assert merged(first, []) == [first[0], first[2], first[1], first[3]]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans())), st.lists(st.tuples(st.integers(0, 9), st.booleans())))
def test_nothing_is_lost_or_doubled(first: list[tuple[int, bool]], second: list[tuple[int, bool]]) -> None:
    before, after = (
        [hit(str(name), expected=0.0 if sure else 9.0) for name, sure in dict(found).items()]
        for found in (first, second)
    )
    found = merged(before, after)
    assert sorted(each.path for each in found) == sorted({each.path for each in (*before, *after)})
    sure = [each for each in before if each.matches]
    assert found[: len(sure)] == sure


@pytest.mark.parametrize(("text", "power"), [("average", 0), ("alpha:3", 3), (" alpha:0.5", 0.5)])
def test_methods(text: str, power: float) -> None:
    assert parse_expansion(text) == power


@pytest.mark.parametrize("text", ["", "mean", "alpha", "alpha:", "alpha:x", "alpha:-1", "alpha:nan", "average:2"])
def test_unknown_methods(text: str) -> None:
    with pytest.raises(UsageError, match="expected average, or alpha:A"):
        expanded(unit(1, 0), unit(0, 1)[None], [0.1], text)


def test_one_score_for_each_vector() -> None:
    with pytest.raises(UsageError, match="vectors with"):
        expanded(unit(1, 0), np.eye(2, dtype=np.float32), [0.5])
