"""Whitening: a fixed linear map learned from example vectors, followed by L2 normalisation."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from patchwise.encoders.sessions import single_threaded_session
from patchwise.errors import EncoderError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Whitening", "normalised", "principal_axes", "sphere"]

_PRODUCT = Path(__file__).parent / "weights" / "whiten.onnx"  # made by scripts/export_builtin_encoder.py


def normalised(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows scaled to unit length; a zero row stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = vectors / np.maximum(length, np.finfo(np.float32).tiny)
    return unit


@cache
def _product() -> onnxruntime.InferenceSession:
    """`(vectors - mean) @ projection`, on one thread.

    numpy's product would start threads that go on spinning when it is done, and take a fifth of the processor from the
    network that runs next.
    """
    return single_threaded_session(_PRODUCT)


def principal_axes(covariance: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Variances and axes (columns), strongest first; the largest entry of an axis is positive, so none flips."""
    variance, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1]
    return variance[::-1], axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])


def sphere(centred: npt.NDArray[np.float64], kept: int) -> npt.NDArray[np.float64]:
    """The (D, kept) projection that gives the `kept` strongest directions of (N, D) centred vectors unit variance.

    The variances are first pulled towards their mean (Ledoit and Wolf, 2004), so that few examples do not blow
    up noise.
    """
    count, full = centred.shape
    kept = min(kept, full)
    covariance = centred.T @ centred / count
    variance, axes = principal_axes(covariance)
    spread = float(variance.sum()) / full
    scatter = float(np.sum((centred**2).sum(axis=1) ** 2)) / count - float(np.sum(covariance**2))
    distance = float(np.sum(variance**2)) - full * spread**2
    shrinkage = min(scatter / count / distance, 1.0) if distance > 0 else 1.0
    variance = (1 - shrinkage) * variance + shrinkage * spread
    scale = np.zeros(kept)
    np.power(variance[:kept], -0.5, out=scale, where=variance[:kept] > np.finfo(np.float32).tiny)
    projection: npt.NDArray[np.float64] = axes[:, :kept] * scale
    return projection


@dataclass(frozen=True, eq=False)
class Whitening:
    """`l2((vector - mean) @ projection)`: `mean` is (D,), `projection` (D, dimension), both float32."""

    mean: npt.NDArray[np.float32]
    projection: npt.NDArray[np.float32]

    @property
    def dimension(self) -> int:
        return int(self.projection.shape[1])

    def apply(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Whiten (N, D) to (N, dimension) float32 of unit length."""
        inputs = {"vectors": vectors, "mean": self.mean, "projection": self.projection}
        return normalised(_product().run(None, inputs)[0])

    @cached_property
    def sha256(self) -> str:
        """Hex digest of mean and projection."""
        digest = hashlib.sha256(np.ascontiguousarray(self.mean).tobytes())
        digest.update(np.ascontiguousarray(self.projection).tobytes())
        return digest.hexdigest()

    @classmethod
    def learn(cls, vectors: npt.NDArray[np.float32], dimension: int) -> Whitening:
        """PCA-whitening of (N, D) example vectors, keeping the `dimension` strongest directions.

        Every direction is scaled by the inverse square root of its variance (Jégou and Chum, ECCV 2012), shrunk as
        Ledoit and Wolf (2004) advise.

        Raises:
            EncoderError: fewer examples than `dimension`, or all of them alike.
        """
        count = len(vectors)
        if count <= dimension:
            raise EncoderError(
                f"learning a {dimension}-d whitening needs more than {dimension} regions, got {count}; "
                "index more pictures, or say --whitening shipped"
            )
        mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - mean
        if np.square(centred).sum() <= count * np.finfo(np.float32).eps ** 2 * float(mean @ mean):
            raise EncoderError(
                f"learning a whitening needs pictures that differ, and all {count} regions look alike; "
                "index more pictures, or say --whitening shipped"
            )
        return cls(mean.astype(np.float32), sphere(centred, dimension).astype(np.float32))

    def save(self, path: Path) -> None:
        """Write an `.npz` file."""
        with path.open("wb") as file:
            np.savez(file, mean=self.mean, projection=self.projection)

    @classmethod
    def load(cls, path: Path) -> Whitening:
        """Read what `save` wrote.

        Raises:
            EncoderError: the file is missing or no whitening.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                mean, projection = (arrays[name].astype(np.float32) for name in ("mean", "projection"))
            if mean.ndim != 1 or projection.ndim != 2 or len(mean) != len(projection):
                raise ValueError(f"mean {mean.shape} and projection {projection.shape} do not fit together")
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise EncoderError(f"{path}: not a whitening file ({error})") from error
        return cls(mean, projection)
