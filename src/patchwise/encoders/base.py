"""The encoder protocol: a frozen backbone together with everything that decides its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from patchwise.images import Fit

__all__ = ["ActivationEncoder", "DenseEncoder", "Encoder", "TextEncoder", "encoder_record"]


class Encoder(Protocol):
    """Turns square RGB regions into unit vectors; safe to call from one thread at a time."""

    @property
    def id(self) -> str:
        """The name that `load_encoder` reads."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def input_size(self) -> int:
        """Side of the square input in pixels."""
        ...

    @property
    def resampling(self) -> str:
        """How regions are resized to the input: a key of `patchwise.images.RESAMPLING`."""
        ...

    @property
    def fit(self) -> Fit:
        """How regions that are not square become so."""
        ...

    @property
    def batch_size(self) -> int:
        """How many regions a call takes best."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Hex digest over everything learned that decides the vectors."""
        ...

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Encode (N, input_size, input_size, 3) uint8 RGB to (N, dimension) float32 of unit length."""
        ...


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """An encoder that puts texts where it puts pictures of what they describe."""

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Encode N texts to (N, dimension) float32 of unit length."""
        ...


@runtime_checkable
class ActivationEncoder(Encoder, Protocol):
    """An encoder that tells how strongly a region excites its network, which vectors of unit length do not."""

    def activations(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Length of the features of (N, input_size, input_size, 3) uint8 RGB before they are scaled: (N,) float32."""
        ...


@runtime_checkable
class DenseEncoder(Encoder, Protocol):
    """An encoder that looks at an image of the gallery once, and pools the vectors of its regions from that.

    Queries are encoded by `encode`, as for any other encoder.
    """

    @property
    def picture_size(self) -> int:
        """Side in pixels of the square that a whole image is stretched to."""
        ...

    @property
    def picture_batch_size(self) -> int:
        """How many images a call takes best."""
        ...

    def encode_regions(
        self, pictures: npt.NDArray[np.uint8], boxes_rel: Sequence[npt.NDArray[np.float32]]
    ) -> list[npt.NDArray[np.float32]]:
        """Encode regions of (N, picture_size, picture_size, 3) uint8 RGB images.

        `boxes_rel` holds for each image (R, 4) xyxy in [0, 1]; returns for each (R, dimension) float32 of unit length.
        """
        ...


def encoder_record(encoder: Encoder) -> dict[str, str | int]:
    """What a gallery's manifest keeps of its encoder; two records agree when vectors can be compared."""
    return {
        "id": encoder.id,
        "weights_sha256": encoder.weights_sha256,
        "dimension": encoder.dimension,
        "input_size": encoder.input_size,
        "resampling": encoder.resampling,
        "fit": str(encoder.fit),
    }
