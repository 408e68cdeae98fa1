"""The encoder protocol: a frozen backbone together with everything that decides its vectors."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Encoder", "encoder_record"]


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


def encoder_record(encoder: Encoder) -> dict[str, str | int]:
    """What a gallery's manifest keeps of its encoder; two records agree when vectors can be compared."""
    return {
        "id": encoder.id,
        "weights_sha256": encoder.weights_sha256,
        "dimension": encoder.dimension,
        "input_size": encoder.input_size,
        "resampling": encoder.resampling,
    }
