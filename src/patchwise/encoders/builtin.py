"""The built-in encoder: EfficientNet-lite0 (ImageNet, Apache-2.0), shipped as ONNX, run without torch."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from patchwise.encoders.registry import Shipped
from patchwise.encoders.sessions import InSlices, single_threaded_session
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.whitening import Whitening
from patchwise.encoders.whitening_prior import WhiteningPrior
from patchwise.errors import EncoderError
from patchwise.images import SQUARE

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["BuiltinBackbone", "load", "shipped_prior", "shipped_whitening"]

_WEIGHTS = Path(__file__).parent / "weights"
_NETWORK = _WEIGHTS / "efficientnet_lite0.onnx"
_ACTIVATION = "head.length"  # in that file: the length of the pooled last feature map, before it is made 1


class BuiltinBackbone:
    """EfficientNet-lite0 up to its pooled descriptor, before whitening."""

    input_size = 224
    resampling = "bilinear"
    fit = SQUARE
    batch_size = 120

    def __init__(self, threads: int | None = None, id: str = "builtin") -> None:
        self.id = id
        self._in_slices = InSlices(threads=threads)

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return single_threaded_session(_NETWORK)

    @cached_property
    def _activation_session(self) -> onnxruntime.InferenceSession:
        return single_threaded_session(_NETWORK, output=_ACTIVATION)

    @cached_property
    def dimension(self) -> int:
        return int(self._session.get_outputs()[0].shape[1])

    @cached_property
    def weights_sha256(self) -> str:
        try:
            return hashlib.sha256(_NETWORK.read_bytes()).hexdigest()
        except OSError as error:
            raise EncoderError(f"{_NETWORK}: cannot be read ({error}); reinstall patchwise") from error

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if not len(pixels):
            return np.empty((0, self.dimension), dtype=np.float32)
        session = self._session
        return self._in_slices(lambda part: session.run(None, {"pixels": part})[0], pixels)

    def activations(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Length of the last feature map, pooled to its generalised mean (power 3): (N,) float32.

        High where many channels find something somewhere in the region; low on plain surfaces.
        """
        if not len(pixels):
            return np.empty(0, dtype=np.float32)
        session = self._activation_session
        return self._in_slices(lambda part: session.run([_ACTIVATION], {"pixels": part})[0].ravel(), pixels)


def load(spec: EncoderSpec) -> Shipped:
    """The `builtin` family, which has one member."""
    if spec.reference:
        raise EncoderError(f"encoder {spec}: builtin stands alone; leave out {spec.reference!r}")
    spec.allow(())
    return Shipped(BuiltinBackbone(id=str(spec)), shipped_whitening, shipped_prior)


def shipped_whitening() -> Whitening:
    """The fixed whitening to 256-d that comes with the package (its pictures are named in NOTICE)."""
    return Whitening.load(_WEIGHTS / "whitening.npz")


def shipped_prior() -> WhiteningPrior:
    """What the whitening of a collection starts from, learned from the same pictures as the shipped one."""
    return WhiteningPrior.load(_WEIGHTS / "whitening_prior.npz")
