"""Linear maps of vectors: whatever turns the vectors of a backbone into those that are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from patchwise.encoders.base import ActivationEncoder, DenseEncoder, Encoder
from patchwise.images import Fit

__all__ = ["Projected", "Projection", "activation_source", "projected"]


class Projection(Protocol):
    """A fixed map learned beforehand, such as a whitening or a linear adaptation."""

    @property
    def dimension(self) -> int:
        """Length of a vector that comes out."""
        ...

    @property
    def sha256(self) -> str:
        """Hex digest of its numbers."""
        ...

    def apply(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map (N, D) to (N, dimension) float32 of unit length."""
        ...


@dataclass(frozen=True)
class Projected:
    """An encoder whose vectors are those of `backbone`, mapped.

    Texts are not mapped with it: what was learned on pictures need not hold for them, so that such an encoder has none.
    """

    backbone: Encoder
    projection: Projection

    @property
    def id(self) -> str:
        return self.backbone.id

    @property
    def dimension(self) -> int:
        return self.projection.dimension

    @property
    def input_size(self) -> int:
        return self.backbone.input_size

    @property
    def resampling(self) -> str:
        return self.backbone.resampling

    @property
    def fit(self) -> Fit:
        return self.backbone.fit

    @property
    def batch_size(self) -> int:
        return self.backbone.batch_size

    @cached_property
    def weights_sha256(self) -> str:
        return hashlib.sha256((self.backbone.weights_sha256 + self.projection.sha256).encode()).hexdigest()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.projection.apply(self.backbone.encode(pixels))


@dataclass(frozen=True)
class _ProjectedDense(Projected):
    backbone: DenseEncoder

    @property
    def picture_size(self) -> int:
        return self.backbone.picture_size

    @property
    def picture_batch_size(self) -> int:
        return self.backbone.picture_batch_size

    def encode_regions(
        self, pictures: npt.NDArray[np.uint8], boxes_rel: Sequence[npt.NDArray[np.float32]]
    ) -> list[npt.NDArray[np.float32]]:
        return [self.projection.apply(vectors) for vectors in self.backbone.encode_regions(pictures, boxes_rel)]


def projected(backbone: Encoder, projection: Projection) -> Projected:
    """An encoder with its vectors mapped, which looks at images as `backbone` does."""
    if isinstance(backbone, DenseEncoder):
        return _ProjectedDense(backbone, projection)
    return Projected(backbone, projection)


def activation_source(encoder: Encoder) -> ActivationEncoder | None:
    """Who knows the activations of an encoder, if anybody: itself, or the backbone whose vectors it maps."""
    while isinstance(encoder, Projected):
        encoder = encoder.backbone
    return encoder if isinstance(encoder, ActivationEncoder) else None
