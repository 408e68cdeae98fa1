"""Running ONNX networks that take pictures in any of the usual layouts, and give vectors in any of the usual shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from patchwise.encoders.preprocessing import Preprocessing
from patchwise.errors import EncoderError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["PictureInput", "choose_output", "pooled"]

_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's mode L

# Names of outputs that exporters give, best first, and which of them a pooling means.
_USUAL = ("image_embeds", "pooler_output", "last_hidden_state")
_OF_POOLING = {
    "projection": ("image_embeds",),
    "pooler": ("pooler_output",),
    "cls": ("last_hidden_state",),
    "mean": ("last_hidden_state",),
}


@dataclass(frozen=True)
class PictureInput:
    """How a network takes pictures; None stands for what it leaves open."""

    name: str
    dtype: Any
    channels_last: bool
    channels: int
    batch: int | None
    size: int | None

    @classmethod
    def of(cls, session: onnxruntime.InferenceSession, path: Path) -> PictureInput:
        """Find the pictures among the inputs of a network.

        Raises:
            EncoderError: it takes no square pictures of one or three channels, or needs more than pictures.
        """
        inputs = session.get_inputs()
        pictures = [one for one in inputs if len(one.shape) == 4 and one.type in _TYPES]
        others = [one.name for one in inputs if one not in pictures]
        if len(pictures) != 1:
            listed = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs)
            raise EncoderError(
                f"{path}: takes {listed or 'nothing'}; one input is needed, of pictures (N, 3, S, S) or (N, S, S, 3)"
            )
        if others:
            raise EncoderError(
                f"{path}: needs {', '.join(others)} besides pictures; export the part that looks at pictures by itself"
            )
        found = pictures[0]
        batch, *sides = (one if isinstance(one, int) and one > 0 else None for one in found.shape)
        # Where nothing is said, channels come first, as torch and the exporters of transformers have them.
        channels_last = sides[0] not in (1, 3) and sides[2] in (1, 3)
        channels, height, width = (sides[2], sides[0], sides[1]) if channels_last else sides
        if channels not in (None, 1, 3) or (None not in (height, width) and height != width):
            raise EncoderError(f"{path}: takes {found.name} {found.shape}, and not squares of one or three channels")
        return cls(found.name, _TYPES[found.type], channels_last, channels or 3, batch, height or width)

    @property
    def takes_bytes(self) -> bool:
        """Whether pixels go in as they are, from 0 to 255."""
        return bool(self.dtype is np.uint8)

    def array(self, pixels: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> npt.NDArray[Any]:
        """(N, S, S, 3) uint8 RGB as the network wants it, filled up to its batch where that is fixed."""
        if self.batch is not None and len(pixels) < self.batch:
            missing = np.zeros((self.batch - len(pixels), *pixels.shape[1:]), dtype=np.uint8)
            pixels = np.concatenate([pixels, missing])
        values: npt.NDArray[Any] = pixels
        if not self.takes_bytes:
            mean, std = (np.asarray(one, dtype=np.float32) for one in (preprocessing.mean, preprocessing.std))
            values = pixels * (np.float32(preprocessing.rescale) / std) - mean / std
        if self.channels == 1:
            grey = values @ _LUMA
            values = (np.rint(grey) if self.takes_bytes else grey)[..., None]
        if not self.channels_last:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=self.dtype)


def choose_output(outputs: Sequence[str], wanted: str | None, pooling: str | None, path: Path) -> str:
    """Which output of a network is the vector: the one asked for, one of the usual names, or the only one.

    Raises:
        EncoderError: it is not there, or there are several and none has a usual name.
    """
    listed = ", ".join(outputs)
    if wanted is not None:
        if wanted not in outputs:
            raise EncoderError(f"{path}: has no output {wanted!r}; it has {listed}")
        return wanted
    for name in _USUAL if pooling is None else _OF_POOLING[pooling]:
        if name in outputs:
            return name
    if len(outputs) == 1:
        return outputs[0]
    raise EncoderError(f"{path}: has the outputs {listed}; say which is the vector, as in ,output={outputs[0]}")


def pooled(found: npt.NDArray[Any], pooling: str | None, channels_last: bool) -> npt.NDArray[np.float32]:
    """An output as vectors (N, D), not yet of unit length.

    Vectors (N, D) stay. Of sequences (N, T, D) `pooling` takes the first vector ("cls") or the mean of all. Of feature
    maps (N, C, H, W), or (N, H, W, C) for a network with channels last, the mean over the picture is taken.

    Raises:
        ValueError: the shape is none of these, or does not go with `pooling`; the message says so.
    """
    values = np.asarray(found)
    if values.ndim == 2 and pooling in ("cls", "mean"):
        raise ValueError(f"one vector for each picture already, of which pooling={pooling} has nothing to take")
    if values.ndim == 3 and pooling not in ("cls", "mean"):
        raise ValueError(
            f"{values.shape[1]} vectors for each picture; say which is wanted: pooling=cls or pooling=mean"
        )
    if values.ndim == 4 and pooling not in (None, "mean"):
        raise ValueError(f"feature maps, of which the mean is taken; pooling={pooling} does not go with them")
    if values.ndim == 3:
        values = values[:, 0] if pooling == "cls" else values.mean(axis=1, dtype=np.float32)
    elif values.ndim == 4:
        values = values.mean(axis=(1, 2) if channels_last else (2, 3), dtype=np.float32)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"{values.dtype} of shape {values.shape}, and not vectors")
    return np.ascontiguousarray(values, dtype=np.float32)
