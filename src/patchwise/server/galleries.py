"""The galleries that are served: opened once, and kept open."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from patchwise.encoders import TextEncoder
from patchwise.errors import GalleryError, PatchwiseError
from patchwise.gallery import Gallery, GalleryInfo
from patchwise.server.encoded import EncodedQueries
from patchwise.server.problems import Problem
from patchwise.server.settings import Settings
from patchwise.server.verdicts import Verdicts
from patchwise.wire import shown_text

__all__ = ["Galleries", "ServedGallery"]

_log = logging.getLogger("patchwise.server")
_FAILED_SECONDS = 10.0
_R = TypeVar("_R")


@dataclass(frozen=True)
class ServedGallery:
    """A gallery by its name in addresses, where images uploaded to it are kept, and what was asked of it last."""

    name: str
    gallery: Gallery
    uploads: Path
    encoded: EncodedQueries = field(default_factory=EncodedQueries)
    verdicts: Verdicts = field(default_factory=Verdicts)
    _infos: dict[str, GalleryInfo] = field(default_factory=dict)
    _failed: list[tuple[float, PatchwiseError]] = field(default_factory=list)

    @property
    def writable(self) -> bool:
        """Whether images can be added and removed."""
        return os.access(self.gallery.path, os.W_OK)

    def info(self) -> GalleryInfo:
        """What the gallery holds, counted anew only when that has changed: sizes on disk take a look at every file."""
        version = self.gallery.version
        found = self._infos.get(version)
        if found is None:
            found = self.gallery.info()
            self._infos.clear()
            self._infos[version] = found
        return found

    def reads_text(self) -> bool:
        """Whether texts can be searched for.

        An encoder that cannot be loaded, which a search says, reads none; that holds for some seconds, as trying takes
        long.
        """
        if any(time.monotonic() < until for until, _ in self._failed):
            return False
        self._failed.clear()
        try:
            return isinstance(self.gallery.encoder, TextEncoder)
        except PatchwiseError as error:
            self._failed.append((time.monotonic() + _FAILED_SECONDS, error))
            return False


class Galleries:
    """All galleries of a server, the default first.

    One that was made anew at its place is opened again; the old one is closed when nobody uses it any more.

    Args:
        settings: which, and where.
        open_gallery: opens one; by default an empty one is made where there is none, at the start alone.

    Raises:
        GalleryError: one cannot be opened.
    """

    def __init__(self, settings: Settings, open_gallery: Callable[[Path], Gallery] | None = None) -> None:
        opening = open_gallery or (lambda folder: Gallery.open_or_create(folder, device=settings.device))
        self._open_again = open_gallery or (lambda folder: Gallery.open(folder, device=settings.device))
        self._lock = threading.Lock()
        self._served: dict[str, ServedGallery] = {}
        try:
            for name, folder in settings.galleries.items():
                self._served[name] = ServedGallery(name, opening(folder), settings.uploads_folder(name))
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[ServedGallery]:
        """Those that are there."""
        for name in list(self._served):
            try:
                yield self.get(name)
            except GalleryError as error:
                _log.warning("%s: %s", name, shown_text(str(error)))

    def get(self, name: str) -> ServedGallery:
        """The gallery of this name, as it is there now.

        Raises:
            Problem: none is served by this name.
            GalleryNotFound: it was deleted.
            GalleryError: it was made anew, and cannot be opened.
        """
        found = self._served.get(name)
        if found is None:
            raise Problem(404, f"no gallery {name!r} is served here", "gallery-not-found")
        if found.gallery.is_in_place():
            return found
        with self._lock:
            found = self._served[name]
            if not found.gallery.is_in_place():
                now = ServedGallery(name, self._open_again(found.gallery.path), found.uploads)
                self._served[name] = now
                weakref.finalize(found, found.gallery.close)
                _log.warning("%s: made anew since it was opened, and opened again", name)
                found = now
            return found

    def warm(self) -> None:
        """Load what the first search of each gallery would load; one that cannot be searched says so when it is."""
        for served in self:
            try:
                served.gallery.search(np.zeros((32, 32, 3), dtype=np.uint8), k=1)
            except PatchwiseError as error:
                # Most messages of a gallery begin with its folder.
                _log.warning("%s: %s", served.name, shown_text(str(error).removeprefix(f"{served.gallery.path}: ")))

    def each(self, look: Callable[[ServedGallery], _R]) -> dict[str, _R]:
        """What is found by looking at each gallery that is there, by name.

        One that cannot be used is left out, which the log says.

        Raises:
            GalleryError: none of them can be used.
        """
        found: dict[str, _R] = {}
        wrong: GalleryError | None = None
        for served in self:
            try:
                found[served.name] = look(served)
            except GalleryError as error:
                wrong = error
                _log.warning("%s: %s", served.name, shown_text(str(error)))
        if wrong is not None and not found:
            raise wrong
        return found

    def counts(self) -> dict[str, int]:
        """How many images each gallery holds, by name, as far as that can be told."""
        try:
            return self.each(lambda served: len(served.gallery))
        except GalleryError:
            return {}

    def close(self) -> None:
        """Close all of them."""
        for served in self._served.values():
            served.gallery.close()
