"""Whitening learned from the pictures that are about to be indexed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from patchwise.encoders import Encoder, Whitening, WhiteningPrior
from patchwise.errors import EncoderError
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing.encode import encode_prepared
from patchwise.indexing.run import prepared_ahead
from patchwise.indexing.walk import Walk
from patchwise.regions import Regions, RegionStrategy, View

__all__ = ["learn_whitening", "spread"]

_PICTURES = 500
_REGIONS = 15_000  # their vectors are all in memory at once


def learn_whitening(
    backbone: Encoder,
    prior: WhiteningPrior | None,
    strategy: RegionStrategy,
    found: Walk,
    dimension: int,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Whitening:
    """Learn from at most 500 pictures, spread evenly over those found, and 15,000 of their regions.

    Where a strategy gives more, as many of each picture are taken, spread evenly over its table.

    Raises:
        EncoderError: no picture can be read, or there are too few where there is no prior to start from.
    """
    chosen = [found.files[one] for one in spread(len(found.files), _PICTURES)]
    fewer = _Spread(strategy, max(_REGIONS // max(len(chosen), 1), 1))
    vectors = [encode_prepared(backbone, one) for one in prepared_ahead(chosen, backbone, fewer, max_pixels)]
    if not vectors:
        raise EncoderError(
            f"learning a whitening needs pictures, and none of the {len(chosen)} looked at can be read; index others "
            "first, or say --whitening shipped"
        )
    stacked = np.concatenate(vectors)
    if prior is not None:
        return prior.adapted(stacked).whitening(dimension)
    return Whitening.learn(stacked, dimension)


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` of the numbers below `count`, spread evenly."""
    taken = min(count, limit)
    return [number * count // taken for number in range(taken)]


@dataclass(frozen=True)
class _Spread:
    """At most `limit` of the regions that a strategy lays, the first among them."""

    strategy: RegionStrategy
    limit: int

    @property
    def name(self) -> str:
        return self.strategy.name

    @property
    def typical_count(self) -> int:
        return min(self.strategy.typical_count, self.limit)

    def finest_side(self, view: View) -> float:
        return self.strategy.finest_side(view)

    def regions(self, view: View) -> Regions:
        found = self.strategy.regions(view)
        return Regions(found.table[spread(len(found), self.limit)])
