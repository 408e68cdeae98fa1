"""Encoding cut pictures in batches of even size, whatever the number of regions of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from patchwise.encoders import Encoder
from patchwise.errors import EncoderError
from patchwise.indexing.prepare import Prepared

__all__ = ["BatchEncoder", "encode_checked", "encode_picture"]

_T = TypeVar("_T")


class BatchEncoder(Generic[_T]):
    """Collects cut pictures, encodes full batches across them, and hands back those that are complete."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._size = max(encoder.batch_size, 1)
        self._waiting: deque[tuple[_T, Prepared]] = deque()
        self._crops: list[npt.NDArray[np.uint8]] = []
        self._crop_count = 0
        self._vectors: list[npt.NDArray[np.float32]] = []
        self._vector_count = 0

    def push(self, item: _T, prepared: Prepared) -> Iterator[tuple[_T, Prepared, npt.NDArray[np.float32]]]:
        """Add a picture; yields every picture that is now encoded, in the order of pushing."""
        self._waiting.append((item, prepared))
        self._crops.append(prepared.crops)
        self._crop_count += len(prepared.crops)
        if self._crop_count >= self._size:
            self._encode(self._crop_count - self._crop_count % self._size)
            yield from self._complete()

    def finish(self) -> Iterator[tuple[_T, Prepared, npt.NDArray[np.float32]]]:
        """Encode what is left; yields the remaining pictures."""
        self._encode(self._crop_count)
        yield from self._complete()

    def _encode(self, count: int) -> None:
        if not self._crops:
            return
        crops = np.concatenate(self._crops)
        for start in range(0, count, self._size):
            vectors = encode_checked(self._encoder, crops[start : min(start + self._size, count)])
            self._vectors.append(vectors)
            self._vector_count += len(vectors)
        self._crops = [crops[count:]] if len(crops) > count else []
        self._crop_count -= count

    def _complete(self) -> Iterator[tuple[_T, Prepared, npt.NDArray[np.float32]]]:
        vectors = np.concatenate(self._vectors) if self._vectors else np.empty((0, self._encoder.dimension), np.float32)
        taken = 0
        while self._waiting and taken + len(self._waiting[0][1].regions) <= len(vectors):
            item, prepared = self._waiting.popleft()
            yield item, prepared, vectors[taken : taken + len(prepared.regions)]
            taken += len(prepared.regions)
        self._vectors = [vectors[taken:]]


def encode_checked(encoder: Encoder, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Encode, and refuse what no search could use.

    Raises:
        EncoderError: wrong shape, or a vector that is not finite.
    """
    vectors = encoder.encode(crops)
    if vectors.shape != (len(crops), encoder.dimension):
        raise EncoderError(
            f"encoder {encoder.id!r} returned shape {vectors.shape} for {len(crops)} regions "
            f"instead of {(len(crops), encoder.dimension)}"
        )
    if not np.isfinite(vectors).all():
        raise EncoderError(f"encoder {encoder.id!r} returned values that are not finite; its weights are damaged")
    return vectors


def encode_picture(encoder: Encoder, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Encode the regions of one picture: (N, S, S, 3) uint8 to (N, dimension) float32."""
    step = max(encoder.batch_size, 1)
    return np.concatenate(
        [encode_checked(encoder, crops[start : start + step]) for start in range(0, len(crops), step)]
    )
