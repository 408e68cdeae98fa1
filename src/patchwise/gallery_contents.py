"""What a gallery holds, file by file: the half of `Gallery` that lists images and what users say of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from patchwise.errors import UsageError
from patchwise.metadata import fitting
from patchwise.store import MetadataColumn, MetadataValue, Selection, Store, StoredImage

__all__ = ["GalleryContents", "ImageList"]

_ANSWERS_REMEMBERED = 64
Found = TypeVar("Found")


@dataclass(frozen=True)
class ImageList:
    """A page of files, by path, of `total` that there are."""

    total: int
    images: tuple[StoredImage, ...]


class GalleryContents:
    """What a store holds, file by file."""

    _store: Store

    def __len__(self) -> int:
        return self._store.catalogue.counts()["images"]

    @property
    def version(self) -> str:
        """Changes whenever images or what is said of them do, and with every opening."""
        return ".".join([self._opened, *map(str, self._store.catalogue.data_version())])

    @cached_property
    def _opened(self) -> str:
        return secrets.token_hex(4)

    def images(
        self,
        under: Sequence[str | os.PathLike[str]] = (),
        where: str = "",
        offset: int = 0,
        limit: int | None = None,
    ) -> ImageList:
        """Files that hold an image, by path: `limit` of them, or all, after the first `offset`.

        Args:
            under: only files that are one of these, or lie in one of these folders.
            where: only files whose metadata fit this condition, as for `search`.

        Raises:
            UsageError: the condition cannot be read or names no known column, or a number is negative.
        """
        if offset < 0 or (limit is not None and limit < 0):
            raise UsageError(f"offset and limit must be at least 0, not {offset} and {limit}")
        catalogue = self._store.catalogue
        with catalogue.reading():
            condition = fitting(where, catalogue.metadata_columns()) if where else None
            selection = Selection(tuple(map(os.path.abspath, under)) or None, condition)
            found = catalogue.images_selected(selection, offset, limit)
            if found and (limit is None or len(found) < limit):  # the last page
                return ImageList(offset + len(found), tuple(found))
            total = self._remember(selection, lambda: catalogue.count_selected(selection))
        return ImageList(total, tuple(found))

    def image(self, digest: str) -> tuple[StoredImage, ...]:
        """The files that hold the picture whose bytes have this hex digest, by path; none if there is no such one."""
        try:
            return tuple(self._store.catalogue.images_of(bytes.fromhex(digest)))
        except ValueError:
            return ()

    def metadata(self, path: str | os.PathLike[str]) -> dict[str, MetadataValue]:
        """What is said of one file, by column; empty where nothing is."""
        return self._store.catalogue.metadata_of([os.path.abspath(path)])[0]

    def metadata_columns(self) -> tuple[MetadataColumn, ...]:
        """The columns of metadata that hold a value of any image, with their most frequent values and extremes."""
        return self._remember("columns", lambda: tuple(self._store.catalogue.summaries()))

    def folders(self) -> tuple[tuple[str, int], ...]:
        """(folder, number of images directly in it), most images first."""
        return self._remember("folders", lambda: tuple(self._store.catalogue.folders()))

    def _remember(self, question: object, compute: Callable[[], Found]) -> Found:
        """An answer that holds as long as the catalogue is the same."""
        version = self._store.catalogue.data_version()
        remembered: dict[object, tuple[object, Any]] = self._answers
        known = remembered.get(question)
        if known is not None and known[0] == version:
            found: Found = known[1]
            return found
        found = compute()
        if len(remembered) >= _ANSWERS_REMEMBERED:
            remembered.clear()
        remembered[question] = version, found
        return found

    @cached_property
    def _answers(self) -> dict[object, tuple[object, Any]]:
        return {}
