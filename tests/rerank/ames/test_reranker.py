"""AMES over a shortlist."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from patchwise.rerank.ames.descriptors import DescriptorSet  # noqa: E402
from patchwise.rerank.ames.network import Matcher, MatcherShape  # noqa: E402
from patchwise.rerank.ames.reranker import BINARY, FULL, Ames, Mixture  # noqa: E402
from patchwise.rerank.base import Question  # noqa: E402
from patchwise.search import Hit  # noqa: E402

from .test_network import matcher, pairs  # noqa: E402

QUESTION = Question(np.zeros(4, dtype=np.float32))


def hit(number: int, score: float) -> Hit:
    return Hit(number, f"/{number}.jpg", score, (0, 0, 9, 9), 0, (0, 0), (9, 9), ())


def described(features: np.ndarray) -> DescriptorSet:
    return DescriptorSet(features, np.zeros((len(features), 2), "f4"), np.zeros(len(features), "f4"))


@pytest.mark.parametrize("binary", [False, True])
def test_logits_of_a_shortlist_are_those_of_single_pairs(binary: bool) -> None:
    """However many images there are, and however many descriptors each of them has."""
    query, _, image, _ = pairs()
    sets = [described(image[number % 4, : 1 + number % 13].numpy()) for number in range(40)]
    ames = Ames(matcher(binary), lambda _: None, lambda _: [])
    together = ames.logits(described(query[0].numpy()), sets)
    for logit, each in zip(together, sets, strict=True):
        features = torch.from_numpy(each.features)[None]
        alone = matcher(binary)(
            query[:1], torch.zeros(1, 9).bool(), features, torch.zeros(1, len(each.features)).bool()
        )
        assert logit == pytest.approx(float(alone[0]), abs=1e-5)


def test_scores_are_mixed_as_published() -> None:
    """lambda * global + (1 - lambda) * sigmoid(gamma * logit), worked by hand."""
    assert FULL(np.array([0.8]), np.array([2.0]))[0] == pytest.approx(0.55 * 0.8 + 0.45 * 0.6456563, abs=1e-6)
    assert BINARY(np.array([0.5]), np.array([-10.0]))[0] == pytest.approx(0.35 * 0.5 + 0.65 * 0.2689414, abs=1e-6)


def test_the_mixture_is_that_of_the_network() -> None:
    for binary, mixture in ((False, FULL), (True, BINARY)):
        small = Matcher(MatcherShape(descriptor=6, width=8, layers=1, feed_forward=8, binary=binary))
        assert Ames(small, lambda _: None, lambda _: [])._mixture == mixture


def reranked(logits: dict[str, float], hits: list[Hit], depth: int, known: bool = True) -> list[Hit]:
    ames = Ames(
        matcher(False),
        lambda _: described(np.ones((1, 768), "f4")) if known else None,
        lambda some: [described(np.ones((1, 768), "f4")) if hit.path in logits else None for hit in some],
        depth=depth,
        mixture=Mixture(0.5, 1.0),
    )
    ames.logits = lambda _, sets: np.array([logits[one.path] for one in hits[:depth] if one.path in logits])  # type: ignore[method-assign]
    return ames.rerank(QUESTION, hits)


def test_only_the_shortlist_is_ordered_anew() -> None:
    hits = [hit(1, 0.9), hit(2, 0.8), hit(3, 0.7), hit(4, 0.6)]
    found = reranked({"/1.jpg": -5, "/2.jpg": 5, "/3.jpg": 0, "/4.jpg": 50}, hits, depth=3)
    assert [one.path for one in found] == ["/2.jpg", "/3.jpg", "/1.jpg", "/4.jpg"]
    assert [round(one.score, 4) for one in found] == [0.8967, 0.6, 0.4533, 0.6]
    assert found[3] is hits[3]


def test_a_picture_without_descriptors_has_no_chance_and_no_risk() -> None:
    hits = [hit(1, 0.9), hit(2, 0.8), hit(3, 0.7)]
    found = reranked({"/1.jpg": -5, "/3.jpg": 5}, hits, depth=3)
    assert [(one.path, round(one.score, 4)) for one in found] == [
        ("/3.jpg", 0.8467),
        ("/2.jpg", 0.65),
        ("/1.jpg", 0.4533),
    ]


def test_without_a_picture_to_ask_with_everything_stays() -> None:
    hits = [hit(1, 0.9), hit(2, 0.8)]
    assert reranked({"/1.jpg": -5, "/2.jpg": 5}, hits, depth=3, known=False) == hits
    assert reranked({}, [], depth=3) == []
