"""How far below the k-th best score the search of codes has to look, as measured when they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["DEFAULT_RECALL", "Margins"]

DEFAULT_RECALL = 0.99


@dataclass(frozen=True)
class Margins:
    """What was measured with held-out queries.

    Args:
        margins: (recall, margin) in rising order: a picture among the true best k has, at this share of them, a region
            that is expected to score at most `margin` below the k-th best picture.
        regions: (k, regions) in rising order: how many regions have to be scored for a recall of `DEFAULT_RECALL`.
        factors: (k, factor) in rising order: what a margin is multiplied by at a number of hits; none means 1.
        effort: (recall, share) in rising order: what `regions` are multiplied by for another recall; none means 1.
        slope, offset: what turns a code's score into the score to be expected of its vector; codes score too low, and
            high scores more so than low ones.
        lists: how many inverted lists were looked at; 0 where the codec has none.
    """

    margins: tuple[tuple[float, float], ...]
    regions: tuple[tuple[int, int], ...]
    slope: float = 1.0
    offset: float = 0.0
    lists: int = 0
    factors: tuple[tuple[int, float], ...] = ()
    effort: tuple[tuple[float, float], ...] = ()

    def margin(self, recall: float, k: int) -> float:
        """The margin for a recall in (0, 1) and a number of hits, between those measured."""
        margin = _between(self.margins, recall)
        if not self.factors:
            return margin
        ks, factors = zip(*self.factors, strict=True)
        return margin * float(np.interp(np.log(k), np.log(ks), factors))

    def expected_regions(self, recall: float, k: int) -> int:
        """How many regions have to be scored for k pictures."""
        share = _between(self.effort, recall) if self.effort else 1.0
        ks, regions = zip(*self.regions, strict=True)
        if k > ks[-1]:
            return int(share * regions[-1] * k / ks[-1])
        return int(share * np.exp(np.interp(np.log(k), np.log(ks), np.log(regions))))

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Margins:
        """Read what `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        margins = tuple((float(recall), float(margin)) for recall, margin in content["margins"])
        regions = tuple((int(k), int(count)) for k, count in content["regions"])
        factors = tuple((int(k), float(factor)) for k, factor in content["factors"])
        effort = tuple((float(recall), float(share)) for recall, share in content["effort"])
        if not margins or not regions:
            raise ValueError("nothing was measured")
        slope, offset, lists = float(content["slope"]), float(content["offset"]), int(content["lists"])
        return cls(margins, regions, slope, offset, lists, factors, effort)


def _between(measured: tuple[tuple[float, float], ...], recall: float) -> float:
    """What was measured at recalls in rising order, at one between them."""
    recalls, values = zip(*measured, strict=True)
    # What is missed falls by the same factor for each step outwards, so that the scale is logarithmic.
    missed = np.log([1 - each for each in recalls])[::-1]
    return float(np.interp(np.log(1 - min(recall, recalls[-1])), missed, values[::-1]))
