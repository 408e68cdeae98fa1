"""How far below the k-th best score the search of codes has to look, as measured when they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["Margins"]


@dataclass(frozen=True)
class Margins:
    """What was measured with held-out queries.

    Args:
        margins: (recall, margin) in rising order: a picture among the true best k has, at this share of them, a region
            that is expected to score at most `margin` below the k-th best picture.
        regions: (k, regions) in rising order: how many regions that usually are.
        slope, offset: what turns a code's score into the score to be expected of its vector; codes score too low, and
            high scores more so than low ones.
        lists: how many inverted lists were looked at; 0 where the codec has none.
    """

    margins: tuple[tuple[float, float], ...]
    regions: tuple[tuple[int, int], ...]
    slope: float = 1.0
    offset: float = 0.0
    lists: int = 0

    def margin(self, recall: float) -> float:
        """The margin for a recall in (0, 1), between those measured."""
        recalls, margins = zip(*self.margins, strict=True)
        # What is missed falls by the same factor for each step outwards, so that the scale is logarithmic.
        missed = np.log([1 - each for each in recalls])[::-1]
        return float(np.interp(np.log(1 - min(recall, recalls[-1])), missed, margins[::-1]))

    def expected_regions(self, k: int) -> int:
        """How many regions have to be scored for k pictures."""
        ks, regions = zip(*self.regions, strict=True)
        if k > ks[-1]:
            return int(regions[-1] * k / ks[-1])
        return int(np.exp(np.interp(np.log(k), np.log(ks), np.log(regions))))

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
        if not margins or not regions:
            raise ValueError("nothing was measured")
        return cls(margins, regions, float(content["slope"]), float(content["offset"]), int(content["lists"]))
