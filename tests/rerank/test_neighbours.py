"""Hits that resemble each other support each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from patchwise.errors import ImageUnreadable
from patchwise.rerank import Question, Reranker
from patchwise.rerank.neighbours import Neighbours
from patchwise.search import Hit


def hit(name: str, score: float, expected: float | None = None) -> Hit:
    return Hit(1, name, score, (1.0, 2.0, 9.0, 9.0), 0, (0, 0), (9, 9), (), (0.1, 0.2), expected_false_matches=expected)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def ranked(query: np.ndarray, stored: dict[str, np.ndarray]) -> tuple[Question, list[Hit], Callable[[Hit], np.ndarray]]:
    hits = sorted(
        (hit(name, float((rows @ query).max())) for name, rows in stored.items()), key=lambda each: -each.score
    )
    return Question(query), hits, lambda each: stored[each.path]


def reference(query: np.ndarray, regions: np.ndarray, sure: list[int], hits: list[Hit]) -> np.ndarray:
    """One region after the other, by the words of the docstring: (hits, regions, dimension) to (hits,)."""
    asked = unit(query + sum(max(float(regions[h, 0] @ query), 0) * regions[h, 0] for h in sure))
    scores = []
    for h, own in enumerate(regions):
        best = -1.0
        for region in own:
            near = []
            for other, theirs in enumerate(regions):
                if other != h:
                    cosines = theirs @ region
                    near.append((float(cosines.max()), theirs[cosines.argmax()]))
            near = sorted(near, key=lambda pair: -pair[0])[:5]
            mixed = unit(region + sum(0.5 * max(cosine, 0) * vector for cosine, vector in near))
            best = max(best, float(mixed @ query + mixed @ asked) / 2)
        scores.append((best + hits[h].score) / 2)
    return np.array(scores)


def many(seed: int, count: int = 12, regions: int = 5) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    query = unit(generator.normal(size=16))
    return query, {
        f"{n:02d}": unit(generator.normal(size=(regions, 16)) + generator.uniform(0, 2) * query) for n in range(count)
    }


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_definition(seed: int) -> None:
    query, stored = many(seed)
    question, hits, vectors = ranked(query, stored)
    top = np.stack([stored[each.path][np.argsort(-(stored[each.path] @ query))[:3]] for each in hits])
    expected = dict(zip([each.path for each in hits], reference(query, top, [0, 1, 2], hits), strict=True))
    found = Neighbours(vectors).rerank(question, hits)
    np.testing.assert_allclose([each.score for each in found], sorted(expected.values(), reverse=True), atol=1e-5)
    assert [each.path for each in found] == sorted(expected, key=lambda name: -expected[name])


def test_hits_of_one_object_rise_together() -> None:
    """Three views of it in different company: each is like the next, and only the first is like the query."""
    axes = np.eye(12, dtype=np.float32)
    query = axes[0]
    stored = {
        "view 1": unit(axes[0] + 0.9 * axes[1])[None],
        "view 2": unit(0.5 * axes[0] + axes[1] + 0.3 * axes[2])[None],
        "view 3": unit(0.4 * axes[0] + axes[1] - 0.3 * axes[2])[None],
        **{f"other {n}": unit(0.41 * axes[0] + axes[3 + n])[None] for n in range(6)},
    }
    question, hits, vectors = ranked(query, stored)
    assert [each.path for each in hits].index("view 3") == 8
    found = Neighbours(vectors).rerank(question, hits)
    assert [each.path for each in found[:3]] == ["view 1", "view 2", "view 3"]
    before = {each.path: each for each in hits}
    assert all((each.box, each.part_scores) == (before[each.path].box, before[each.path].part_scores) for each in found)


def test_what_was_found_for_sure_stays_first_and_refines_the_query() -> None:
    query, stored = many(7)
    question, hits, vectors = ranked(query, stored)
    sure = [hit(hits[4].path, hits[4].score, 0.01), hit(hits[9].path, hits[9].score, 1e-6)]
    looked_at = [*hits[:4], sure[0], *hits[5:9], sure[1], *hits[10:]]
    found = Neighbours(vectors).rerank(question, looked_at)
    assert found[:2] == sure
    top = np.stack([stored[each.path][np.argsort(-(stored[each.path] @ query))[:3]] for each in looked_at])
    expected = reference(query, top, [4, 9], looked_at)
    others = np.delete(expected, [4, 9])
    np.testing.assert_allclose([each.score for each in found[2:]], np.sort(others)[::-1], atol=1e-5)


def test_only_the_first_hits_take_part() -> None:
    query, stored = many(1, count=30, regions=2)  # fewer regions than are taken of each
    question, hits, vectors = ranked(query, stored)
    found = Neighbours(vectors, depth=10).rerank(question, hits)
    assert found[10:] == hits[10:] and {each.path for each in found[:10]} == {each.path for each in hits[:10]}
    assert Neighbours(vectors, depth=10).rerank(question, hits[:10]) == found[:10]
    assert found[:10] != hits[:10]


def test_many_hits_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from patchwise.rerank import neighbours

    query, stored = many(3, count=40)
    question, hits, vectors = ranked(query, stored)
    whole = Neighbours(vectors).rerank(question, hits)
    monkeypatch.setattr(neighbours, "_ROWS_AT_ONCE", 7)
    parts = Neighbours(vectors).rerank(question, hits)
    assert [each.path for each in parts] == [each.path for each in whole]
    np.testing.assert_allclose([each.score for each in parts], [each.score for each in whole], atol=1e-6)


def test_a_picture_that_left_the_gallery_keeps_its_hit() -> None:
    query, stored = many(2, count=6)
    question, hits, vectors = ranked(query, stored)
    gone = hits[0]

    def without(each: Hit) -> np.ndarray:
        if each is gone:
            raise ImageUnreadable(each.path, "it is no longer in the gallery")
        return vectors(each)

    found = Neighbours(without).rerank(question, hits)
    assert gone in found and len(found) == len(hits)
    rest = Neighbours(vectors).rerank(question, hits[1:])
    assert [each for each in found if each is not gone] == rest


def test_too_few_to_compare() -> None:
    query, stored = many(4, count=1)
    question, hits, vectors = ranked(query, stored)
    looker: Reranker = Neighbours(vectors)
    assert looker.rerank(question, hits) == hits and looker.rerank(question, []) == []
    assert looker.name == "neighbours" and looker.depth == 200
