"""A second look at the best hits: what it is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.search import Hit

__all__ = ["Question", "Reranker", "chain", "renumbered"]


@dataclass(frozen=True, eq=False)
class Question:
    """What was asked for: `vector` is (dimension,) float32 of unit length; `picture` is RGB, upright and cut to its
    box, or None where the query is not one picture."""

    vector: npt.NDArray[np.float32]
    picture: Image.Image | None


class Reranker(Protocol):
    """Looks at the first hits of a query again."""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        ...

    @property
    def depth(self) -> int:
        """How many hits it looks at."""
        ...

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits, best first: those that were looked at, then the others in their order.

        A hit whose picture cannot be read any more keeps what it has.
        """
        ...


def chain(rerankers: Sequence[Reranker], question: Question, hits: Sequence[Hit]) -> list[Hit]:
    """Hits after one second look after the other."""
    for reranker in rerankers:
        hits = reranker.rerank(question, hits)
    return renumbered(hits)


def renumbered(hits: Sequence[Hit], first: int = 1) -> list[Hit]:
    """The same hits with ranks in their order."""
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits, first)]
