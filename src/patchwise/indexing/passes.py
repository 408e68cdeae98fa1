"""What an encoder is shown of a picture: every region by itself, or the whole of it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from patchwise.encoders import DenseEncoder, Encoder
from patchwise.errors import EncoderError
from patchwise.images import Picture, cut_regions
from patchwise.images.cut import shrink_factor
from patchwise.regions import Regions, RegionStrategy, View

__all__ = ["Inputs", "Passes", "encode_checked", "passes_of"]

_WHOLE = np.array([[0, 0, 1, 1]], dtype=np.float32)


@dataclass(frozen=True)
class Inputs:
    """What goes through the network: `pixels` (N, S, S, 3) uint8 RGB, and for each the regions in it.

    `boxes_rel` are N arrays (R, 4) xyxy in [0, 1]; their rows in order are the regions of the pictures.
    """

    pixels: npt.NDArray[np.uint8]
    boxes_rel: Sequence[npt.NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: slice) -> Inputs:
        return Inputs(self.pixels[part], self.boxes_rel[part])

    @classmethod
    def joined(cls, parts: Sequence[Inputs]) -> Inputs:
        """The inputs of several pictures, one after the other."""
        return cls(np.concatenate([part.pixels for part in parts]), [box for part in parts for box in part.boxes_rel])


class Passes(Protocol):
    """How an encoder goes over pictures."""

    @property
    def batch_size(self) -> int:
        """How many inputs a call takes best."""
        ...

    def input_bytes(self, strategy: RegionStrategy) -> int:
        """About how much memory the inputs of a picture take."""
        ...

    def shrink_factor(self, strategy: RegionStrategy, view: View) -> float:
        """How much a picture may be reduced in decoding."""
        ...

    def cut(self, picture: Picture, regions: Regions) -> Inputs:
        """The inputs of a picture."""
        ...

    def encode(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """The vectors of all regions in the inputs, in order: (R, dimension) float32.

        Raises:
            EncoderError: no search could use them.
        """
        ...


def passes_of(encoder: Encoder) -> Passes:
    """One pass per image where the encoder can do that, otherwise one per region."""
    return _PerImage(encoder) if isinstance(encoder, DenseEncoder) else _PerRegion(encoder)


@dataclass(frozen=True)
class _PerRegion:
    encoder: Encoder

    @property
    def batch_size(self) -> int:
        return max(self.encoder.batch_size, 1)

    def input_bytes(self, strategy: RegionStrategy) -> int:
        return strategy.typical_count * self.encoder.input_size**2 * 3

    def shrink_factor(self, strategy: RegionStrategy, view: View) -> float:
        return shrink_factor(strategy.finest_side(view), self.encoder.input_size, self.encoder.fit)

    def cut(self, picture: Picture, regions: Regions) -> Inputs:
        crops = cut_regions(picture, regions.boxes, self.encoder.input_size, self.encoder.resampling, self.encoder.fit)
        return Inputs(crops, [_WHOLE] * len(crops))

    def encode(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        return encode_checked(self.encoder, inputs.pixels)


@dataclass(frozen=True)
class _PerImage:
    encoder: DenseEncoder

    @property
    def batch_size(self) -> int:
        return max(self.encoder.picture_batch_size, 1)

    def input_bytes(self, strategy: RegionStrategy) -> int:  # noqa: ARG002
        return self.encoder.picture_size**2 * 3

    def shrink_factor(self, strategy: RegionStrategy, view: View) -> float:  # noqa: ARG002
        return shrink_factor(min(view.size), self.encoder.picture_size)

    def cut(self, picture: Picture, regions: Regions) -> Inputs:
        whole = np.array([[0, 0, *picture.size]], dtype=np.float32)
        pixels = cut_regions(picture, whole, self.encoder.picture_size, self.encoder.resampling)
        sides = np.array([*picture.size, *picture.size], dtype=np.float32)
        return Inputs(pixels, [regions.boxes / sides])

    def encode(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        found = self.encoder.encode_regions(inputs.pixels, inputs.boxes_rel)
        if len(found) != len(inputs):
            raise EncoderError(f"encoder {self.encoder.id!r} returned vectors of {len(found)} images for {len(inputs)}")
        for vectors, boxes in zip(found, inputs.boxes_rel, strict=True):
            _check(self.encoder, vectors, len(boxes))
        return np.concatenate(found)


def encode_checked(encoder: Encoder, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Encode (N, S, S, 3) uint8 to (N, dimension) float32, and refuse what no search could use.

    Raises:
        EncoderError: wrong shape, or a vector that is not finite.
    """
    vectors = encoder.encode(crops)
    _check(encoder, vectors, len(crops))
    return vectors


def _check(encoder: Encoder, vectors: npt.NDArray[np.float32], regions: int) -> None:
    if vectors.shape != (regions, encoder.dimension):
        raise EncoderError(
            f"encoder {encoder.id!r} returned shape {vectors.shape} for {regions} regions "
            f"instead of {(regions, encoder.dimension)}"
        )
    if not np.isfinite(vectors).all():
        raise EncoderError(
            f"encoder {encoder.id!r} returned values that are not finite: its weights are damaged, or it computes in "
            "half precision and needs more (--precision bf16 or fp32)"
        )
