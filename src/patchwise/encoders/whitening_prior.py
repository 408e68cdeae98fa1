"""What the whitening of a backbone of several layers is before any picture of a collection is seen."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchwise.encoders.whitening import Whitening, principal_axes, sphere
from patchwise.errors import EncoderError

__all__ = ["Layer", "WhiteningPrior"]


@dataclass(frozen=True)
class Layer:
    """A part of a vector: `width` numbers from one layer of a network, and the weight they get once whitened."""

    width: int
    weight: float


@dataclass(frozen=True, eq=False)
class WhiteningPrior:
    """Every layer of a vector whitened by itself, and how the layers then vary together.

    `mean` is (D,) and `spheres` (D, K) block diagonal: `(vector - mean) @ spheres` has unit variance in every
    direction of a layer, times the weight of the layer. `covariance` (K, K) is that of the result.
    """

    mean: npt.NDArray[np.float32]
    spheres: npt.NDArray[np.float32]
    covariance: npt.NDArray[np.float32]

    @classmethod
    def learn(cls, vectors: npt.NDArray[np.float32], layers: Sequence[Layer], per_layer: int) -> WhiteningPrior:
        """Learn from (N, D) example vectors, keeping the `per_layer` strongest directions of each layer."""
        mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - mean
        spheres = np.zeros((len(mean), per_layer * len(layers)))
        row = 0
        for number, layer in enumerate(layers):
            rows, columns = slice(row, row + layer.width), slice(number * per_layer, (number + 1) * per_layer)
            spheres[rows, columns] = sphere(centred[:, rows], per_layer) * (layer.weight / per_layer**0.5)
            row += layer.width
        together = centred @ spheres
        covariance = together.T @ together / len(vectors)
        return cls(mean.astype(np.float32), spheres.astype(np.float32), covariance.astype(np.float32))

    def whitening(self, dimension: int) -> Whitening:
        """Keep the `dimension` directions on which the layers agree most."""
        _, axes = principal_axes(self.covariance.astype(np.float64))
        return Whitening(self.mean, (self.spheres @ axes[:, :dimension]).astype(np.float32))

    def adapted(self, vectors: npt.NDArray[np.float32], *, worth: int = 1000) -> WhiteningPrior:
        """The prior after (N, D) vectors of a collection, itself counting as much as `worth` of them.

        The layers stay whitened as they were; the mean and what the layers agree on follow the collection.
        """
        total = len(vectors) + worth
        own = (vectors - self.mean) @ self.spheres
        shift = own.sum(axis=0, dtype=np.float64) / total
        covariance = (own.T @ own + worth * self.covariance) / total - np.outer(shift, shift)
        mean = self.mean + (vectors - self.mean).sum(axis=0, dtype=np.float64) / total
        return WhiteningPrior(mean.astype(np.float32), self.spheres, covariance.astype(np.float32))

    def save(self, path: Path) -> None:
        """Write an `.npz` file, at half precision."""
        half = {name: getattr(self, name).astype(np.float16) for name in ("spheres", "covariance")}
        with path.open("wb") as file:
            np.savez_compressed(file, mean=self.mean, **half)

    @classmethod
    def load(cls, path: Path) -> WhiteningPrior:
        """Read what `save` wrote.

        Raises:
            EncoderError: the file is missing or damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(*(arrays[name].astype(np.float32) for name in ("mean", "spheres", "covariance")))
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise EncoderError(f"{path}: not a whitening prior ({error}); reinstall patchwise") from error
