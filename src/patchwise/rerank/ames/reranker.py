"""AMES over a shortlist: its logit mixed with the score that the hit has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from patchwise.rerank.ames.descriptors import DescriptorSet
from patchwise.rerank.ames.network import Matcher
from patchwise.rerank.base import Question
from patchwise.search import Hit

__all__ = ["BINARY", "FULL", "Ames", "Mixture"]

_PAIRS_ON_CPU, _PAIRS_ON_OTHERS = 8, 64  # on a processor, more are no faster and take memory


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
        of_query: local descriptors of the question's picture, None where it has none.
        of_hits: those of hits in their order, None for one that has none; taken a few at a time.
        depth: how many hits are looked at; 100, 400 and 1,000 are the paper's.
        mixture: what the scores become; by default what was published for the kind of network.
    """

    name = "ames"

    def __init__(
        self,
        matcher: Matcher,
        of_query: Callable[[Question], DescriptorSet | None],
        of_hits: Callable[[Sequence[Hit]], Iterable[DescriptorSet | None]],
        *,
        depth: int = 100,
        mixture: Mixture | None = None,
    ) -> None:
        self._matcher, self._of_query, self._of_hits, self.depth = matcher, of_query, of_hits, depth
        self._mixture = mixture or (BINARY if matcher.shape.binary else FULL)

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        first = hits[: self.depth]
        asked = self._of_query(question) if first else None
        if asked is None or not len(asked.features):
            return list(hits)
        # Without descriptors a hit has no chance and no risk: it is taken for neither alike nor unlike.
        logits = np.zeros(len(first))
        waiting = enumerate(self._of_hits(first))
        while group := list(islice(waiting, self.pairs_at_once)):
            known = [
                (place, described) for place, described in group if described is not None and len(described.features)
            ]
            logits[[place for place, _ in known]] = self.logits(asked, [described for _, described in known])
        scores = self._mixture(np.array([hit.score for hit in first]), logits)
        rescored = [replace(hit, score=float(score)) for hit, score in zip(first, scores, strict=True)]
        return [*sorted(rescored, key=lambda hit: -hit.score), *hits[self.depth :]]

    @property
    def pairs_at_once(self) -> int:
        """How many pairs go through the network together."""
        return _PAIRS_ON_CPU if self._matcher.mtc_token.device.type == "cpu" else _PAIRS_ON_OTHERS

    def logits(self, query: DescriptorSet, images: Sequence[DescriptorSet]) -> npt.NDArray[np.float64]:
        """How well each of N images matches a query: (N,) float64."""
        found = []
        device = self._matcher.mtc_token.device
        with torch.inference_mode():
            asked, asked_padding = (part.to(device) for part in _padded([query]))
            asked = self._matcher.tokens(asked)
            for first in range(0, len(images), self.pairs_at_once):
                some, padding = (part.to(device) for part in _padded(images[first : first + self.pairs_at_once]))
                pairs = len(some)
                found.append(
                    self._matcher.match(
                        asked.expand(pairs, -1, -1),
                        asked_padding.expand(pairs, -1),
                        self._matcher.tokens(some),
                        padding,
                    )
                )
        logits: npt.NDArray[np.float64] = torch.cat(found).double().cpu().numpy() if found else np.empty(0)
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
