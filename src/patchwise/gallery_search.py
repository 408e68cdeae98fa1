"""Asking a gallery: the half of `Gallery` that searches and explains."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchwise.answering import Answering, Wanted
from patchwise.boxes import Box
from patchwise.compression import DEFAULT_RECALL
from patchwise.encoders import Encoder
from patchwise.errors import ImageUnreadable, PatchwiseError, UsageError
from patchwise.hits import Hits
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing import EncodedQuery, Query, QueryPart, QuerySource, encode_queries, encode_query
from patchwise.indexing.parts import batch_parts, query_label, query_parts
from patchwise.metadata import fitting
from patchwise.places import Places, each_place
from patchwise.search import Background, Explanation, Hit, Searcher, explain, in_place, rank
from patchwise.store import Arrays, Selection, Snapshot

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

    def _repr_html_(self) -> str:
        from patchwise.report.notebook import hits_html

        return hits_html(self.hits, self.parts, self.error)


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

    @abstractmethod
    def unrelated_likeness(self) -> float:
        """The mean cosine of unrelated pictures, region by region, as of now."""

    @abstractmethod
    def remembered(self, path: str, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Arrays of the picture that a path holds, kept under their name or else computed.

        Raises:
            ImageUnreadable: the file is gone.
        """

    @abstractmethod
    def is_as_indexed(self, path: str) -> bool:
        """Whether a file is still the one that was indexed, as far as its time and size tell.

        Raises:
            ImageUnreadable: it is gone.
        """

    def stored(self, hit: Hit) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        """All regions of a hit's picture: (regions, 4) xyxy in pixels, and their vectors (regions, dimension).

        Raises:
            ImageUnreadable: it left the gallery since.
        """
        snapshot, index = self._place(hit)
        return snapshot.regions(index).boxes, snapshot.vectors(index)

    def vectors(self, hit: Hit) -> npt.NDArray[np.float16]:
        """The vectors alone; raises the same."""
        snapshot, index = self._place(hit)
        return snapshot.vectors(index)

    def vectors_in_place(self, hit: Hit) -> npt.NDArray[np.float16]:
        """Those of regions that other pictures have in the same place; raises the same."""
        snapshot, index = self._place(hit)
        found: npt.NDArray[np.float16] = in_place(snapshot.vectors(index), snapshot.regions(index).table["level"])
        return found

    def _place(self, hit: Hit) -> tuple[Snapshot, int]:
        snapshot = self.snapshot()
        index = snapshot.index_of_path(hit.path)
        if index is None:
            raise ImageUnreadable(hit.path, "it is no longer in the gallery")
        return snapshot, index

    def search(
        self,
        query: Query | None = None,
        *,
        text: str | None = None,
        box: Sequence[float] | None = None,
        small: bool = False,
        k: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        under: Places = (),
        where: str = "",
        recall: float = DEFAULT_RECALL,
        exact: bool = False,
        rerank: str = "",
        expand: str = "",
        fuse: str = "",
        collapse: bool = False,
        fetch: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> Hits:
        """Find the images that show what the query shows or says, best first.

        Args:
            query: a path, file bytes, a Pillow image, an (H, W, 3) uint8 RGB array, or with `fetch` a web address; a
                `QueryPart`; or a list of these, which one region of an image shall fit all at once.
            text: what the images shall show, alone or beside `query`; for encoders that read texts.
            box: search for this part of the one picture only: x0, y0, x1, y1 in pixels of the upright picture.
            small: the object may be small even beside the regions of the gallery (see `QueryPart`).
            k: how many hits at most.
            offset: leave out this many of the best.
            min_score: leave out hits below this score, as it is after second looks.
            under: find only files that are one of these, or lie in one of these folders.
            where: find only files whose metadata fit this condition, such as "brand = 'Acme' and year >= 2019".
            recall: the share of the true best images to be found where the gallery is compressed; scores, boxes and
                order of what is found are always exact.
            exact: look at every vector, as a recall of 1 does.
            rerank: second looks at the first hits, one after the other, such as "refine:20"; their names are the keys
                of `patchwise.rerank.RERANKERS`, the number is how many hits are looked at.
            expand: ask again with the hits that match (`Hit.matches`) beside the query: "average", or "alpha:3" by a
                power of their scores. Without such hits nothing changes.
            fuse: where the query has several parts, ask for each by itself and put the answers together: a key of
                `patchwise.search.FUSIONS`. Otherwise one region shall fit all of them at once.
            collapse: one hit for near-duplicates, which are in its `alike`.

        Raises:
            ImageError, BoxError, UsageError: the query cannot be used.
            EncoderError: a text, and the gallery's encoder reads none.
            MissingExtra: a package that a second look needs is not installed.
        """
        wanted = Wanted(k, offset, min_score, under, where, 1.0 if exact else recall, rerank, expand, fuse, collapse)
        answering = Answering(self, wanted, fetch=fetch, max_pixels=max_pixels)
        parts = query_parts(query, text=text, box=box, small=small)
        asked = encode_query(self.encoder, parts, fetch=fetch, max_pixels=max_pixels)
        answer = next(answering.answers([asked]))
        if isinstance(answer, PatchwiseError):
            raise answer
        return Hits(self._described(answer), parts)

    def search_many(
        self,
        queries: Iterable[tuple[QuerySource, Sequence[float] | None] | QueryPart | Sequence[QueryPart]],
        *,
        k: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        under: Places = (),
        where: str = "",
        recall: float = DEFAULT_RECALL,
        exact: bool = False,
        rerank: str = "",
        expand: str = "",
        fuse: str = "",
        collapse: bool = False,
        fetch: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> Iterator[QueryResult]:
        """Answer queries in order, many at a time; one that cannot be used is answered by its error.

        A query is a picture with its box or None, as a pair; or a `QueryPart`; or several of them.
        """
        wanted = Wanted(k, offset, min_score, under, where, 1.0 if exact else recall, rerank, expand, fuse, collapse)
        answering = Answering(self, wanted, fetch=fetch, max_pixels=max_pixels)
        remaining = map(batch_parts, queries)
        while group := list(islice(remaining, _QUERIES_AT_ONCE)):
            encoded = encode_queries(self.encoder, group, fetch=fetch, max_pixels=max_pixels)
            usable = [asked for asked in encoded if isinstance(asked, EncodedQuery)]
            answers = answering.answers(usable)
            for parts, asked in zip(group, encoded, strict=True):
                answer = next(answers) if isinstance(asked, EncodedQuery) else asked
                if isinstance(answer, PatchwiseError):
                    yield QueryResult.of(parts, error=str(answer))
                else:
                    yield QueryResult.of(parts, self._described(answer))

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
        under: Places = (),
        where: str = "",
        recall: float = DEFAULT_RECALL,
        exact: bool = False,
    ) -> Iterator[list[Hit]]:
        """Search with query vectors of this gallery's encoder: (Q, dimension) float32, unit length."""
        wanted = Wanted(k, offset, min_score, under, where, 1.0 if exact else recall)
        return map(self._described, self.ranked(vectors, None, wanted, self.selection(wanted)))

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

    def ranked(
        self,
        vectors: npt.NDArray[np.float32],
        parts: Sequence[npt.NDArray[np.float32] | None] | None,
        wanted: Wanted,
        selection: Selection,
    ) -> Iterator[list[Hit]]:
        """Hits of the first look alone, for (Q, dimension) unit vectors and those of their parts, if any.

        `selection` is what `selection` made of what is wanted.
        """
        snapshot, searcher = self.current(wanted.recall)
        return rank(
            snapshot,
            searcher,
            vectors,
            k=wanted.k,
            offset=wanted.offset,
            min_score=wanted.min_score,
            parts=parts,
            selection=selection,
            background=self.background(),
        )

    def _described(self, hits: Sequence[Hit]) -> list[Hit]:
        """The same with what users said of them."""
        snapshot = self.snapshot()
        if not snapshot.metadata_columns:
            return list(hits)
        described = snapshot.metadata([hit.path for hit in hits])
        return [
            replace(hit, metadata=metadata, alike=tuple(self._described(hit.alike)))
            for hit, metadata in zip(hits, described, strict=True)
        ]

    def selection(self, wanted: Wanted) -> Selection:
        """The files that may be found, as far as is known now.

        Raises:
            UsageError: a folder without images, or a condition that cannot be read or names no known column.
        """
        snapshot = self.snapshot()
        folders = tuple(os.path.abspath(path) for path in each_place(wanted.under))
        for folder in folders:
            if not snapshot.is_any_selected(Selection((folder,))):
                raise UsageError(f"{folder}: the gallery {self.path} holds no image from there")
        condition = fitting(wanted.where, snapshot.metadata_columns) if wanted.where else None
        return Selection(folders or None, condition)


def _as_box(box: Sequence[float] | None) -> Box | None:
    if box is None or len(box) != 4:
        return None
    return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
