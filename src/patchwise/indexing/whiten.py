"""Whitening learned from the pictures that are about to be indexed."""

from __future__ import annotations

import numpy as np

from patchwise.encoders import Encoder, Whitening
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing.encode import encode_picture
from patchwise.indexing.run import prepared_ahead
from patchwise.indexing.walk import Walk
from patchwise.regions import RegionStrategy

__all__ = ["learn_whitening"]

_PICTURES = 500


def learn_whitening(
    backbone: Encoder,
    strategy: RegionStrategy,
    found: Walk,
    dimension: int,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Whitening:
    """Learn from all regions of at most 500 pictures, spread evenly over those found.

    Raises:
        EncoderError: too few pictures.
    """
    count = min(len(found.files), _PICTURES)
    chosen = [found.files[number * len(found.files) // count] for number in range(count)]
    pictures = prepared_ahead(chosen, backbone, strategy, max_pixels)
    vectors = [encode_picture(backbone, picture.crops) for picture in pictures]
    stacked = np.concatenate(vectors) if vectors else np.empty((0, backbone.dimension), dtype=np.float32)
    return Whitening.learn(stacked, dimension)
