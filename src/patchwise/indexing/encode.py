"""Encoding pictures in batches of even size, whatever the number of inputs of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from patchwise.encoders import Encoder
from patchwise.indexing.passes import Inputs, Passes, encode_checked, passes_of
from patchwise.indexing.prepare import Prepared

__all__ = ["BatchEncoder", "encode_checked", "encode_inputs", "encode_picture", "encode_prepared"]

_T = TypeVar("_T")


class BatchEncoder(Generic[_T]):
    """Collects cut pictures, encodes full batches across them, and hands back those that are complete."""

    def __init__(self, encoder: Encoder) -> None:
        self._passes = passes_of(encoder)
        self._size = self._passes.batch_size
        self._waiting: deque[tuple[_T, Prepared]] = deque()
        self._inputs: list[Inputs] = []
        self._input_count = 0
        self._vectors = np.empty((0, encoder.dimension), dtype=np.float32)

    def push(self, item: _T, prepared: Prepared) -> Iterator[tuple[_T, Prepared, npt.NDArray[np.float32]]]:
        """Add a picture; yields every picture that is now encoded, in the order of pushing."""
        self._waiting.append((item, prepared))
        self._inputs.append(prepared.inputs)
        self._input_count += len(prepared.inputs)
        if self._input_count >= self._size:
            self._encode(self._input_count - self._input_count % self._size)
            yield from self._complete()

    def finish(self) -> Iterator[tuple[_T, Prepared, npt.NDArray[np.float32]]]:
        """Encode what is left; yields the remaining pictures."""
        self._encode(self._input_count)
        yield from self._complete()

    def _encode(self, count: int) -> None:
        if not self._inputs:
            return
        inputs = Inputs.joined(self._inputs)
        if count:
            self._vectors = np.concatenate([self._vectors, encode_inputs(self._passes, inputs[:count])])
        self._inputs = [inputs[count:]] if len(inputs) > count else []
        self._input_count -= count

    def _complete(self) -> Iterator[tuple[_T, Prepared, npt.NDArray[np.float32]]]:
        taken = 0
        while self._waiting and taken + len(self._waiting[0][1].regions) <= len(self._vectors):
            item, prepared = self._waiting.popleft()
            yield item, prepared, self._vectors[taken : taken + len(prepared.regions)]
            taken += len(prepared.regions)
        self._vectors = self._vectors[taken:]


def encode_picture(encoder: Encoder, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Encode (N, S, S, 3) uint8 crops, such as queries, each by itself, to (N, dimension) float32."""
    step = max(encoder.batch_size, 1)
    return np.concatenate(
        [encode_checked(encoder, crops[start : start + step]) for start in range(0, len(crops), step)]
    )


def encode_prepared(encoder: Encoder, prepared: Prepared) -> npt.NDArray[np.float32]:
    """Encode the regions of one picture to (regions, dimension) float32."""
    return encode_inputs(passes_of(encoder), prepared.inputs)


def encode_inputs(passes: Passes, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Encode all regions in the inputs, in batches of the size that the encoder takes best: (R, dimension) float32."""
    step = passes.batch_size
    return np.concatenate([passes.encode(inputs[start : start + step]) for start in range(0, len(inputs), step)])
