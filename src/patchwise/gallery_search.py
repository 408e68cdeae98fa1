"""Asking a gallery: the half of `Gallery` that searches and explains."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box
from patchwise.compression import DEFAULT_RECALL
from patchwise.encoders import Encoder
from patchwise.errors import PatchwiseError, UsageError
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing import EncodedQuery, Query, QueryPart, QuerySource, encode_queries, encode_query
from patchwise.indexing.parts import batch_parts, query_label, query_parts
from patchwise.rerank import renumbered
from patchwise.search import Background, Explanation, Hit, Searcher, explain, rank
from patchwise.second_look import SecondLook
from patchwise.store import Snapshot

__all__ = ["GallerySearch", "QueryResult"]

_QUERIES_AT_ONCE = 64


@dataclass(frozen=True)
class QueryResult:
    """The answer to one of many queries: hits, or the reason why there are none.

    `query` is the path or text of a single part, or all parts on one line; `box` that of a single picture.
    """

    query: str
    box: Box | None
    hits: tuple[Hit, ...]
    error: str | None = None
    parts: tuple[QueryPart, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[QueryPart], hits: Iterable[Hit] = (), error: str | None = None) -> QueryResult:
        """The answer to a query of these parts."""
        box = _as_box(parts[0].box) if len(parts) == 1 else None
        return cls(query_label(parts), box, tuple(hits), error, tuple(parts))


class GallerySearch(ABC):
    """What can be asked of anything with an encoder and vectors to search."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """The gallery's directory."""

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """The encoder that the vectors were made with."""

    @abstractmethod
    def current(self, recall: float = DEFAULT_RECALL) -> tuple[Snapshot, Searcher]:
        """What is searched now, for those who rank by themselves: the live pictures, and what searches them.

        The searcher finds this share of the true best images where the gallery is compressed, and all of them where it
        is not, or at a recall of 1.
        """

    @abstractmethod
    def background(self) -> Background:
        """Which scores are to be expected by chance, as of now."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The live pictures as of now."""

    def search(
        self,
        query: Query | None = None,
        *,
        text: str | None = None,
        box: Sequence[float] | None = None,
        k: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        under: Sequence[str | os.PathLike[str]] = (),
        recall: float = DEFAULT_RECALL,
        exact: bool = False,
        rerank: str = "",
        fetch: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> list[Hit]:
        """Find the images that show what the query shows or says, best first.

        Args:
            query: a path, file bytes, a Pillow image, an (H, W, 3) uint8 RGB array, or with `fetch` a web address; a
                `QueryPart`; or a list of these, which one region of an image shall fit all at once.
            text: what the images shall show, alone or beside `query`; for encoders that read texts.
            box: search for this part of the one picture only: x0, y0, x1, y1 in pixels of the upright picture.
            k: how many hits at most.
            offset: leave out this many of the best.
            min_score: leave out hits below this cosine.
            under: find only files that are one of these, or lie in one of these folders.
            recall: the share of the true best images to be found where the gallery is compressed; scores, boxes and
                order of what is found are always exact.
            exact: look at every vector, as a recall of 1 does.
            rerank: second looks at the first hits, one after the other, such as "refine:20"; their names are the keys
                of `patchwise.rerank.RERANKERS`, the number is how many hits are looked at.

        Raises:
            ImageError, BoxError, UsageError: the query cannot be used.
            EncoderError: a text, and the gallery's encoder reads none.
            MissingExtra: a package that a second look needs is not installed.
        """
        look = SecondLook(self, rerank, fetch=fetch, max_pixels=max_pixels)
        parts = query_parts(query, text=text, box=box)
        asked = encode_query(self.encoder, parts, fetch=fetch, max_pixels=max_pixels)
        limits = _Limits(k, offset, min_score, under, 1.0 if exact else recall)
        return next(self._answers([asked], limits, look))

    def search_many(
        self,
        queries: Iterable[tuple[QuerySource, Sequence[float] | None] | QueryPart | Sequence[QueryPart]],
        *,
        k: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        under: Sequence[str | os.PathLike[str]] = (),
        recall: float = DEFAULT_RECALL,
        exact: bool = False,
        rerank: str = "",
        fetch: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> Iterator[QueryResult]:
        """Answer queries in order, many at a time; one that cannot be used is answered by its error.

        A query is a picture with its box or None, as a pair; or a `QueryPart`; or several of them.
        """
        look = SecondLook(self, rerank, fetch=fetch, max_pixels=max_pixels)
        limits = _Limits(k, offset, min_score, under, 1.0 if exact else recall)
        remaining = map(batch_parts, queries)
        while group := list(islice(remaining, _QUERIES_AT_ONCE)):
            encoded = encode_queries(self.encoder, group, fetch=fetch, max_pixels=max_pixels)
            usable = [asked for asked in encoded if isinstance(asked, EncodedQuery)]
            answers = self._answers(usable, limits, look)
            for parts, asked in zip(group, encoded, strict=True):
                if isinstance(asked, EncodedQuery):
                    yield QueryResult.of(parts, next(answers))
                else:
                    yield QueryResult.of(parts, error=str(asked))

    def query_vectors(
        self,
        queries: Sequence[tuple[QuerySource, Sequence[float] | None] | QueryPart | Sequence[QueryPart]],
        *,
        fetch: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> list[npt.NDArray[np.float32] | PatchwiseError]:
        """Encode queries, given as for `search_many`, for `search_vectors`; one that cannot be used gives its error."""
        group = [batch_parts(query) for query in queries]
        encoded = encode_queries(self.encoder, group, fetch=fetch, max_pixels=max_pixels)
        return [asked.vector if isinstance(asked, EncodedQuery) else asked for asked in encoded]

    def search_vectors(
        self,
        vectors: npt.NDArray[np.float32],
        *,
        k: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        under: Sequence[str | os.PathLike[str]] = (),
        recall: float = DEFAULT_RECALL,
        exact: bool = False,
    ) -> Iterator[list[Hit]]:
        """Search with query vectors of this gallery's encoder: (Q, dimension) float32, unit length."""
        return self._ranked(vectors, None, _Limits(k, offset, min_score, under, 1.0 if exact else recall))

    def explain(
        self,
        query: Query | None,
        hit: Hit | str | os.PathLike[str],
        *,
        text: str | None = None,
        box: Sequence[float] | None = None,
        fetch: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> Explanation:
        """Score of every region of one image for a query, given as for `search`: the numbers behind the heat map.

        Raises:
            UsageError: the image is not in the gallery.
        """
        parts = query_parts(query, text=text, box=box)
        asked = encode_query(self.encoder, parts, fetch=fetch, max_pixels=max_pixels)
        return self._explained(hit, asked.vector, asked.part_vectors if len(parts) > 1 else ())

    def explain_vector(self, vector: npt.NDArray[np.float32], hit: Hit | str | os.PathLike[str]) -> Explanation:
        """The same for a query vector: (dimension,) float32."""
        return self._explained(hit, vector)

    def _explained(
        self,
        hit: Hit | str | os.PathLike[str],
        vector: npt.NDArray[np.float32],
        parts: Iterable[npt.NDArray[np.float32]] = (),
    ) -> Explanation:
        path = hit.path if isinstance(hit, Hit) else os.path.abspath(hit)
        snapshot = self.snapshot()
        index = snapshot.index_of_path(path)
        if index is None:
            raise UsageError(f"{path}: not in the gallery {self.path}")
        whole = explain(snapshot, path, index, vector)
        return replace(whole, parts=tuple(explain(snapshot, path, index, part) for part in parts))

    def _answers(self, asked: Sequence[EncodedQuery], limits: _Limits, look: SecondLook) -> Iterator[list[Hit]]:
        vectors = [query.vector for query in asked]
        stacked = np.stack(vectors) if vectors else np.empty((0, self.encoder.dimension), dtype=np.float32)
        parts = [query.part_vectors if len(query.parts) > 1 else None for query in asked]
        if not look.depth:
            yield from self._ranked(stacked, parts, limits)
            return
        deeper = replace(limits, k=max(limits.k + limits.offset, look.depth), offset=0, min_score=None)
        for query, hits in zip(asked, self._ranked(stacked, parts, deeper), strict=True):
            yield limits.of(look.at(query, hits))

    def _ranked(
        self,
        vectors: npt.NDArray[np.float32],
        parts: Sequence[npt.NDArray[np.float32] | None] | None,
        limits: _Limits,
    ) -> Iterator[list[Hit]]:
        if limits.k < 1 or limits.offset < 0:
            raise UsageError(f"k must be at least 1 and offset at least 0, not {limits.k} and {limits.offset}")
        snapshot, searcher = self.current(limits.recall)
        folders = [os.path.abspath(path) for path in limits.under]
        for folder in folders:
            if not snapshot.pictures_under([folder]).any():
                raise UsageError(f"{folder}: the gallery {self.path} holds no image from there")
        return rank(
            snapshot,
            searcher,
            vectors,
            k=limits.k,
            offset=limits.offset,
            min_score=limits.min_score,
            parts=parts,
            under=folders or None,
            background=self.background(),
        )


@dataclass(frozen=True)
class _Limits:
    """Which hits are wanted; see `GallerySearch.search`."""

    k: int
    offset: int
    min_score: float | None
    under: Sequence[str | os.PathLike[str]]
    recall: float

    def of(self, hits: Sequence[Hit]) -> list[Hit]:
        """Those of hits, best first, that are wanted."""
        kept = [hit for hit in hits if self.min_score is None or hit.score >= self.min_score]
        return renumbered(kept[self.offset : self.offset + self.k], self.offset + 1)


def _as_box(box: Sequence[float] | None) -> Box | None:
    if box is None or len(box) != 4:
        return None
    return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
