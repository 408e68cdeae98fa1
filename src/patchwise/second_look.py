"""Re-rankers at work in a gallery."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.boxes import query_box
from patchwise.errors import ImageUnreadable
from patchwise.images import Picture, read_picture
from patchwise.indexing import EncodedQuery, QueryPart, open_query
from patchwise.rerank import Question, Setting, chain, parse_rerankers, rerankers
from patchwise.rerank.base import Arrays
from patchwise.search import Hit

if TYPE_CHECKING:
    from patchwise.gallery_search import GallerySearch

__all__ = ["NoLongerWanted", "SecondLook", "looking_while"]

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("still_wanted", default=None)


class NoLongerWanted(Exception):
    """Raised out of a search whose answer nobody waits for any more."""


@contextmanager
def looking_while(still_wanted: Callable[[], bool]) -> Iterator[None]:
    """Searches inside the block end by `NoLongerWanted` between two hits that are looked at again, once told so.

    Args:
        still_wanted: asked often, and from several threads.
    """
    token = _asked.set(still_wanted)
    try:
        yield
    finally:
        _asked.reset(token)


class SecondLook:
    """What looks again at the first hits of each query.

    Args:
        gallery: where the hits were found.
        wanted: re-rankers by name, as `Gallery.search` takes them.
        fetch, max_pixels: how pictures are opened.

    Raises:
        UsageError: no such re-ranker.
        MissingExtra: a package that one of them needs is not installed.
    """

    def __init__(self, gallery: GallerySearch, wanted: str, *, fetch: bool, max_pixels: int) -> None:
        self._gallery, self._fetch, self._max_pixels = gallery, fetch, max_pixels
        self._still_wanted = _asked.get()  # noted here, as re-rankers have threads of their own
        asked = parse_rerankers(wanted)
        self._rerankers = rerankers(asked, self._setting()) if asked else []

    @property
    def depth(self) -> int:
        """How many hits are looked at; 0 where nothing looks."""
        return max((each.depth for each in self._rerankers), default=0)

    def at(self, query: EncodedQuery, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits after all second looks."""
        several = query.part_vectors if len(query.parts) > 1 else None
        question = Question(query.vector, several, self._opener(query.parts), self._proceed)
        return chain(self._rerankers, question, hits)

    def _setting(self) -> Setting:
        return Setting(self._gallery.encoder, self._read, self._stored, self._remembered)

    def _opener(self, parts: Sequence[QueryPart]) -> Callable[[], Image.Image] | None:
        if len(parts) != 1 or parts[0].picture is None:
            return None
        source, box = parts[0].picture, parts[0].box

        def opened() -> Image.Image:
            picture = open_query(source, fetch=self._fetch, max_pixels=self._max_pixels)
            if box is None:
                return picture.pixels
            x0, y0, x1, y1 = query_box(box, picture.size)
            return picture.pixels.crop((math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)))

        return opened

    def _proceed(self) -> None:
        if self._still_wanted is not None and not self._still_wanted():
            raise NoLongerWanted

    def _stored(self, hit: Hit) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        self._proceed()
        return self._gallery.stored(hit)

    def _read(self, hit: Hit) -> Picture:
        self._proceed()
        if not self._gallery.is_as_indexed(hit.path):
            raise ImageUnreadable(hit.path, "changed since it was indexed")
        return read_picture(Path(hit.path), max_pixels=self._max_pixels)

    def _remembered(self, hit: Hit, name: str, compute: Callable[[Picture], Arrays]) -> Arrays:
        self._proceed()
        return self._gallery.remembered(hit.path, name, lambda: compute(self._read(hit)))
