"""Whitening learned from the pictures that are about to be indexed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from patchwise.encoders import Encoder, Whitening, WhiteningPrior
from patchwise.errors import EncoderError
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing.encode import encode_picture
from patchwise.indexing.run import prepared_ahead
from patchwise.indexing.walk import Walk
from patchwise.regions import RegionStrategy

__all__ = ["learn_whitening"]

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
    count = min(len(found.files), _PICTURES)
    chosen = [found.files[number * len(found.files) // count] for number in range(count)]
    pictures = prepared_ahead(chosen, backbone, strategy, max_pixels)
    limit = max(_REGIONS // max(count, 1), 1)
    vectors = [encode_picture(backbone, _spread(picture.crops, limit)) for picture in pictures]
    if not vectors:
        raise EncoderError(
            f"learning a whitening needs pictures, and none of the {count} looked at can be read; index others first, "
            "or use the whitening that is shipped"
        )
    stacked = np.concatenate(vectors)
    if prior is not None:
        return prior.adapted(stacked).whitening(dimension)
    return Whitening.learn(stacked, dimension)


def _spread(crops: npt.NDArray[np.uint8], limit: int) -> npt.NDArray[np.uint8]:
    """At most `limit` of the crops, the first among them."""
    return crops if len(crops) <= limit else crops[np.arange(limit) * len(crops) // limit]
