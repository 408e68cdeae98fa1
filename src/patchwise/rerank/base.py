"""A second look at the best hits: what it is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.encoders import Encoder
from patchwise.images import Picture
from patchwise.search import Hit

__all__ = ["Arrays", "Question", "Remembered", "Reranker", "Setting", "chain", "renumbered"]

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Question:
    """What was asked for.

    Args:
        vector: (dimension,) float32 of unit length.
        parts: (P, dimension) float32, the vectors of a query's parts where it has several.
        opened: opens the picture that was asked for, RGB, upright and cut to its box; None where the query is not one
            picture.
        proceed: called between hits; it raises where nobody waits for the answer any more.
    """

    vector: npt.NDArray[np.float32]
    parts: npt.NDArray[np.float32] | None = None
    opened: Callable[[], Image.Image] | None = None
    proceed: Callable[[], None] = lambda: None

    @cached_property
    def picture(self) -> Image.Image | None:
        """The picture that was asked for, opened when a re-ranker first wants it."""
        return None if self.opened is None else self.opened()


@dataclass(frozen=True)
class Setting:
    """What re-rankers may use of a gallery.

    Args:
        encoder: the gallery's.
        read: gives the picture of a hit. Raises ImageError where it is gone.
        stored: all regions of a hit's picture, (regions, 4) xyxy in pixels, and their vectors, (regions, dimension).
            Raises ImageError where it left the gallery.
        remembered: what was once computed of a hit's picture under this name, or else computes and keeps it.
    """

    encoder: Encoder
    read: Callable[[Hit], Picture]
    stored: Callable[[Hit], tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]]
    remembered: Remembered


class Remembered(Protocol):
    """Keeps what is dear to compute of a gallery's pictures, numbers of any type; safe to call from several threads."""

    def __call__(self, hit: Hit, name: str, compute: Callable[[Picture], Arrays]) -> Arrays:
        """Arrays of a hit's picture by their names.

        Args:
            hit: whose picture.
            name: what the arrays are and all that decides them; other names are kept apart.
            compute: makes them of the picture where they are not known yet.

        Raises:
            ImageError: not known yet, and the picture is gone.
        """
        ...


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
        question.proceed()
        hits = reranker.rerank(question, hits)
    return renumbered(hits)


def renumbered(hits: Sequence[Hit], first: int = 1) -> list[Hit]:
    """The same hits with ranks in their order."""
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits, first)]
