"""AMES over a shortlist: its logit mixed with the score that the hit has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from patchwise.rerank.ames.descriptors import DescriptorSet
from patchwise.rerank.ames.network import Matcher
from patchwise.rerank.base import Question
from patchwise.search import Hit

__all__ = ["BINARY", "FULL", "Ames", "Mixture"]

_PAIRS_AT_ONCE = 32


@dataclass(frozen=True)
class Mixture:
    """`share * score + (1 - share) * sigmoid(steepness * logit)`; README of pavelsuma/ames, lambda and gamma."""

    share: float
    steepness: float

    def __call__(self, scores: npt.NDArray[np.float64], logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self.share * scores + (1 - self.share) / (1 + np.exp(-self.steepness * logits))


FULL, BINARY = Mixture(0.55, 0.30), Mixture(0.35, 0.10)


class Ames:
    """Re-ranks the first hits by how well their local descriptors match those of the query.

    Args:
        matcher: the network.
        of_query: local descriptors of the question's picture.
        of_hit: those of a hit, None where they cannot be had.
        depth: how many hits are looked at; 100, 400 and 1,000 are the paper's.
        mixture: what the scores become; by default what was published for the kind of network.
    """

    name = "ames"

    def __init__(
        self,
        matcher: Matcher,
        of_query: Callable[[Question], DescriptorSet | None],
        of_hit: Callable[[Hit], DescriptorSet | None],
        *,
        depth: int = 100,
        mixture: Mixture | None = None,
    ) -> None:
        self._matcher, self._of_query, self._of_hit, self.depth = matcher, of_query, of_hit, depth
        self._mixture = mixture or (BINARY if matcher.shape.binary else FULL)

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        asked = self._of_query(question)
        if asked is None:
            return list(hits)
        looked_at = [(hit, self._of_hit(hit)) for hit in hits[: self.depth]]
        known = [(hit, described) for hit, described in looked_at if described is not None]
        logits = self.logits(asked, [described for _, described in known])
        scores = self._mixture(np.array([hit.score for hit, _ in known]), logits)
        mixed = {id(hit): float(score) for (hit, _), score in zip(known, scores, strict=True)}
        # Without descriptors a hit has no chance and no risk: it is taken for neither alike nor unlike.
        neutral = self._mixture(np.array([hit.score for hit, _ in looked_at]), np.zeros(len(looked_at)))
        rescored = [
            replace(hit, score=mixed.get(id(hit), float(score)))
            for (hit, _), score in zip(looked_at, neutral, strict=True)
        ]
        return [*sorted(rescored, key=lambda hit: -hit.score), *hits[self.depth :]]

    def logits(self, query: DescriptorSet, images: Sequence[DescriptorSet]) -> npt.NDArray[np.float64]:
        """How well each of N images matches a query: (N,) float64."""
        found = []
        with torch.inference_mode():
            asked, asked_padding = _padded([query])
            asked = self._matcher.tokens(asked)
            for first in range(0, len(images), _PAIRS_AT_ONCE):
                some, padding = _padded(images[first : first + _PAIRS_AT_ONCE])
                pairs = len(some)
                found.append(
                    self._matcher.match(
                        asked.expand(pairs, -1, -1),
                        asked_padding.expand(pairs, -1),
                        self._matcher.tokens(some),
                        padding,
                    )
                )
        logits: npt.NDArray[np.float64] = torch.cat(found).double().numpy() if found else np.empty(0)
        return logits


def _padded(sets: Sequence[DescriptorSet]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, N, D) descriptors and (B, N) bool, where there is none."""
    most, dimension = max(len(each.features) for each in sets), sets[0].features.shape[1]
    features = torch.zeros((len(sets), most, dimension))
    padding = torch.ones((len(sets), most), dtype=torch.bool)
    for number, each in enumerate(sets):
        features[number, : len(each.features)] = torch.from_numpy(each.features)
        padding[number, : len(each.features)] = False
    return features, padding
