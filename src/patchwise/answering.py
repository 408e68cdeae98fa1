"""From a query to its hits: first look, second looks, expansion, fusion, one row for near-duplicates, and a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from patchwise.errors import ImageError, PatchwiseError, UsageError
from patchwise.indexing import EncodedQuery
from patchwise.metadata import check_where
from patchwise.places import Places
from patchwise.rerank import renumbered
from patchwise.search import FUSIONS, Hit, best_regions, collapsed, expanded, expanding, fused_search, hit_of, merged
from patchwise.search.expansion import parse_expansion
from patchwise.search.ranking import explain
from patchwise.second_look import SecondLook

if TYPE_CHECKING:
    from patchwise.gallery_search import GallerySearch

__all__ = ["Answering", "Wanted"]

_DEEPER = 2


@dataclass(frozen=True)
class Wanted:
    """Which hits are wanted, and how they are come by; see `GallerySearch.search`.

    Raises:
        UsageError: a number or a name that is none.
    """

    k: int
    offset: int = 0
    min_score: float | None = None
    under: Places = ()
    where: str = ""
    recall: float = 1.0
    rerank: str = ""
    expand: str = ""
    fuse: str = ""
    collapse: bool = False

    def __post_init__(self) -> None:
        if self.k < 1 or self.offset < 0:
            raise UsageError(f"k must be at least 1 and offset at least 0, not {self.k} and {self.offset}")
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise UsageError(f"min_score {self.min_score}: expected a finite number")
        if self.where:
            check_where(self.where)
        if self.expand:
            parse_expansion(self.expand)
        if self.fuse and self.fuse not in FUSIONS:
            raise UsageError(f"fuse {self.fuse!r}: expected one of {', '.join(FUSIONS)}")

    @property
    def plain(self) -> bool:
        """Whether the first look is all that is wanted."""
        return not (self.expand or self.fuse or self.collapse)

    def first(self, count: int) -> Wanted:
        """The first so many hits of all."""
        return replace(self, k=count, offset=0, min_score=None)

    def page(self, hits: Sequence[Hit]) -> list[Hit]:
        """Those of all hits, best first, that are wanted."""
        kept = [hit for hit in hits if self.min_score is None or hit.score >= self.min_score]
        return renumbered(kept[self.offset : self.offset + self.k], self.offset + 1)


class Answering:
    """Answers queries of a gallery, all in the same way.

    Args:
        gallery: what is searched.
        wanted: which hits, and how.
        fetch, max_pixels: how pictures are opened again for a second look.

    Raises:
        UsageError: no such re-ranker, or nothing that `under` or `where` could mean in this gallery.
        MissingExtra: a package that one needs is not installed.
    """

    def __init__(self, gallery: GallerySearch, wanted: Wanted, *, fetch: bool, max_pixels: int) -> None:
        self._gallery, self._wanted = gallery, wanted
        self._look = SecondLook(gallery, wanted.rerank, fetch=fetch, max_pixels=max_pixels)
        self._selection = gallery.selection(wanted)
        self._heads: dict[tuple[bytes, int], list[Hit]] = {}

    def answers(self, asked: Sequence[EncodedQuery]) -> Iterator[list[Hit] | PatchwiseError]:
        """The hits of each query, in order, or why it cannot be answered although it could be encoded."""
        wanted = self._wanted
        if wanted.plain and not self._look.depth:
            yield from self._first_look(asked, wanted)
        elif wanted.plain and wanted.min_score is None:  # the first look takes many queries at a time
            deep = wanted.first(max(wanted.k + wanted.offset, self._look.depth))
            for query, hits in zip(asked, self._first_look(asked, deep), strict=True):
                yield self._page(partial(self._look.at, query, hits))
        else:
            for query in asked:
                self._heads.clear()
                yield self._page(partial(self._enough, query))

    def _page(self, found: Callable[[], Sequence[Hit]]) -> list[Hit] | PatchwiseError:
        try:
            return self._wanted.page(found())
        except (ImageError, UsageError) as error:  # such as a picture that is gone when it is looked at again
            return error

    def _enough(self, query: EncodedQuery) -> list[Hit]:
        """The first hits or groups of near-duplicates, as many as the page needs where there are so many."""
        needed, least = self._wanted.k + self._wanted.offset, self._wanted.min_score
        count = max(needed, self._look.depth)
        while True:
            hits = rows = self._hits(query, count)
            if self._wanted.collapse:
                unrelated = self._gallery.unrelated_likeness()
                rows = collapsed(hits, self._gallery.vectors_in_place, unrelated=unrelated)
            passing = sum(least is None or hit.score >= least for hit in rows)
            # Behind those that were looked at again, scores fall.
            worse = least is not None and len(hits) > self._look.depth and hits[-1].score < least
            if passing >= needed or len(hits) < count or worse:
                return rows
            count *= _DEEPER

    def _hits(self, query: EncodedQuery, count: int) -> list[Hit]:
        """The first `count` hits of one query, or a few more."""
        if not self._wanted.fuse or len(query.parts) == 1:
            return self._looked_at(query, count)
        if any(part.weight <= 0 for part in query.parts):
            raise UsageError("what is not wanted cannot be asked for by itself: --fuse goes without --not")
        if any(part.weight != query.parts[0].weight for part in query.parts):
            raise UsageError("each part is asked for by itself and counts the same: --fuse goes without --weights")
        alone = [
            EncodedQuery((part,), vector, vector[None])
            for part, vector in zip(query.parts, query.part_vectors, strict=True)
        ]

        def scored(part: int, hit: Hit) -> Hit:
            snapshot = self._gallery.snapshot()
            index = snapshot.index_of_path(hit.path)
            return hit if index is None else hit_of(explain(snapshot, hit.path, index, query.part_vectors[part]))

        return fused_search(
            lambda depth: [self._looked_at(one, depth) for one in alone], scored, self._wanted.fuse, count
        )

    def _looked_at(self, query: EncodedQuery, count: int) -> list[Hit]:
        """Hits after the second looks, and after those at what the expanded query finds."""
        deep = self._wanted.first(max(count, self._look.depth))
        first = self._again(query, deep)
        sure = expanding(first) if self._wanted.expand else []
        if not sure:
            return first
        try:
            vectors, scores = best_regions(query.vector, sure, self._gallery.vectors)
        except ImageError:  # removed meanwhile
            return first
        wider = replace(query, vector=expanded(query.vector, vectors, scores, self._wanted.expand))
        return renumbered(merged(first, self._again(wider, deep)))

    def _again(self, query: EncodedQuery, deep: Wanted) -> list[Hit]:
        """Hits after the second looks, which are not repeated when more hits of the same query are asked for."""
        (hits,) = self._first_look([query], deep)
        if not self._look.depth:
            return hits
        key = (query.vector.tobytes(), id(query.parts[0]))
        if key not in self._heads:
            self._heads[key] = self._look.at(query, hits[: self._look.depth])
        return renumbered([*self._heads[key], *hits[self._look.depth :]])

    def _first_look(self, asked: Sequence[EncodedQuery], wanted: Wanted) -> Iterator[list[Hit]]:
        vectors = [query.vector for query in asked]
        stacked: npt.NDArray[np.float32] = (
            np.stack(vectors) if vectors else np.empty((0, self._gallery.encoder.dimension), dtype=np.float32)
        )
        parts = [query.part_vectors if len(query.parts) > 1 else None for query in asked]
        return self._gallery.ranked(stacked, parts, wanted, self._selection)
