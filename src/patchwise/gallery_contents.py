"""What a gallery holds, file by file: the half of `Gallery` that lists images and what users say of them."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from patchwise.compression import CompressionInfo, compression_info
from patchwise.errors import UsageError
from patchwise.images import stat_image
from patchwise.metadata import MetadataReport, fitting, join_metadata, open_metadata
from patchwise.places import Places, each_place
from patchwise.store import (
    Arrays,
    GalleryInfo,
    MetadataColumn,
    MetadataValue,
    Selection,
    Store,
    StoredImage,
    VerifyReport,
    gallery_info,
)

__all__ = ["GalleryContents", "ImageList"]

_ANSWERS_REMEMBERED = 64
Found = TypeVar("Found")


@dataclass(frozen=True)
class ImageList:
    """A page of files, by path, of `total` that there are."""

    total: int
    images: tuple[StoredImage, ...]


@dataclass
class _Answer:
    lock: threading.Lock = field(default_factory=threading.Lock)
    version: object = None
    found: Any = None


class GalleryContents:
    """What a store holds, file by file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._opened = secrets.token_hex(4)
        self._answers: dict[object, _Answer] = {}

    def __len__(self) -> int:
        return self._store.catalogue.files()

    @property
    def version(self) -> str:
        """Changes whenever images or what is said of them do, and with every opening."""
        return ".".join([self._opened, *map(str, self._store.catalogue.data_version())])

    def is_in_place(self) -> bool:
        """Whether the gallery's directory still holds what was opened, and was neither deleted nor made anew."""
        return self._store.catalogue.is_in_place()

    def images(
        self,
        under: Places = (),
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
            selection = Selection(tuple(map(os.path.abspath, each_place(under))) or None, condition)
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

    def add_metadata(
        self, file: str | os.PathLike[str], *, relative_to: Sequence[str | os.PathLike[str]] = ()
    ) -> MetadataReport:
        """Join what a .csv or .parquet file says to the images that it names; folders are not looked at.

        An image is named by its absolute path, or by its path below one of the folders `relative_to`, below the folder
        that the file lies in, or below the one that all images lie in. What was said of it before is replaced.

        Raises:
            UsageError: the file cannot be read.
            MissingExtra: it is a .parquet file, and pyarrow is not installed.
            GalleryBusy: another process is writing.
            StorageFull: the disk refused; nothing was changed.
        """
        described = open_metadata(Path(file))
        with self._store.writer() as writer:
            return join_metadata(writer, described, [os.path.abspath(folder) for folder in relative_to])

    def remove(self, *paths: str | os.PathLike[str]) -> int:
        """Forget files and everything below folders, whether they still exist or not; returns how many images.

        They are found no more from then on, also while another thread adds to the same gallery. The space is freed by
        `compact`.

        Raises:
            GalleryBusy: another process is writing.
        """
        with self._store.joining_writer() as writer:
            known = {name: row for path in paths for name, row in writer.catalogue.known(os.path.abspath(path)).items()}
            if known:
                writer.record(forgotten=known)
            return sum(row.content is not None for row in known.values())

    def info(self) -> GalleryInfo:
        """Counts, sizes, and how the gallery was made."""
        return gallery_info(self._store)

    def is_as_indexed(self, path: str) -> bool:
        known = self._store.catalogue.stored_file(path)
        return known is not None and stat_image(path) == known[1:]

    def remembered(self, path: str, name: str, compute: Callable[[], Arrays]) -> Arrays:
        return self._store.remembered(path, name, compute)

    def verify(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check every stored byte; with `repair`, forget images whose vectors are lost so they are encoded again."""
        return self._store.verify(repair=repair, progress=progress)

    def compression(self) -> CompressionInfo | None:
        """What is known of the gallery's codes; None where it has none."""
        return compression_info(self._store)

    def _remember(self, question: object, compute: Callable[[], Found]) -> Found:
        """An answer that holds as long as the catalogue is the same; those who ask at the same time wait for it."""
        if len(self._answers) >= _ANSWERS_REMEMBERED:
            self._answers.clear()
        answer = self._answers.setdefault(question, _Answer())
        with answer.lock:
            version = self._store.catalogue.data_version()
            if answer.version != version:
                answer.found, answer.version = compute(), version
            found: Found = answer.found
            return found
