"""Measuring without labels: augmented crops of held-out pictures look for the picture they were cut from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from patchwise.adaptation.examples import Examples, Vectors

__all__ = ["Map", "Measured", "alike", "measure", "own_ranks"]

Map = Callable[[Vectors], Vectors]

_ALIKE = 0.8  # cosine of whole pictures in a whitened space, where unrelated ones have 0.0 to 0.6
_AT_ONCE = 2**24  # cosines held in memory


@dataclass(frozen=True, eq=False)
class Measured:
    """How well the crops of some pictures find their own picture among all: one value per crop, (C,)."""

    ranks: npt.NDArray[np.int64]

    @property
    def average_precision(self) -> npt.NDArray[np.float64]:
        """With one picture to find it is one over its rank."""
        return 1.0 / self.ranks

    @property
    def found_first(self) -> npt.NDArray[np.float64]:
        """1.0 where no other picture is before it."""
        first: npt.NDArray[np.float64] = (self.ranks == 1).astype(np.float64)
        return first


def alike(examples: Examples, start: Map) -> npt.NDArray[np.bool_]:
    """Pairs of pictures so similar as a whole that a crop of one may as well belong to the other: (P, P).

    Photographs taken in a row and copies at another size are such; neither is a mistake when it is found, nor a thing
    to be told apart.
    """
    whole = start(examples.regions[examples.starts[:-1]])
    found: npt.NDArray[np.bool_] = whole @ whole.T > _ALIKE
    np.fill_diagonal(found, False)
    return found


def measure(
    examples: Examples, pictures: npt.NDArray[np.int64], apply: Map, ignored: npt.NDArray[np.bool_]
) -> Measured:
    """Search all pictures for the crops of some, with every vector mapped; a picture scores as its best region.

    Args:
        examples: all pictures.
        pictures: (N,) those whose crops are asked for.
        apply: the map of the vectors, to unit length.
        ignored: (P, P) pictures that do not count as found or missed for crops of another.
    """
    asked = np.flatnonzero(np.isin(examples.crop_of, pictures))
    return Measured(
        own_ranks(
            apply(examples.crops[asked]),
            examples.crop_of[asked],
            apply(examples.regions),
            examples.starts,
            ignored,
        )
    )


def own_ranks(
    crops: Vectors,
    own: npt.NDArray[np.int64],
    regions: Vectors,
    starts: npt.NDArray[np.int64],
    ignored: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Rank of picture `own` (C,) for unit vectors `crops` (C, D), ties against it; `ignored` is (P, P)."""
    ranks = np.empty(len(crops), dtype=np.int64)
    step = max(_AT_ONCE // max(len(regions), 1), 1)
    for first in range(0, len(crops), step):
        part = slice(first, first + step)
        best = np.maximum.reduceat(crops[part] @ regions.T, starts[:-1], axis=1)
        rows = np.arange(len(best))
        score = best[rows, own[part]]
        best[ignored[own[part]]] = -np.inf
        best[rows, own[part]] = -np.inf
        ranks[part] = 1 + (best >= score[:, None]).sum(axis=1)
    return ranks
