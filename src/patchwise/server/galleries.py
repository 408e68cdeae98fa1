"""The galleries that are served: opened once, and kept open."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from patchwise.errors import PatchwiseError
from patchwise.gallery import Gallery, GalleryInfo
from patchwise.server.encoded import EncodedQueries
from patchwise.server.problems import Problem
from patchwise.server.settings import Settings
from patchwise.wire import shown_text

__all__ = ["Galleries", "ServedGallery"]

_log = logging.getLogger("patchwise.server")


@dataclass(frozen=True)
class ServedGallery:
    """A gallery by its name in addresses, where images uploaded to it are kept, and what was asked of it last."""

    name: str
    gallery: Gallery
    uploads: Path
    encoded: EncodedQueries = field(default_factory=EncodedQueries)
    _infos: dict[str, GalleryInfo] = field(default_factory=dict)

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


class Galleries:
    """All galleries of a server, the default first.

    Raises:
        GalleryError: one cannot be opened.
    """

    def __init__(self, settings: Settings, open_gallery: Callable[[Path], Gallery] | None = None) -> None:
        opening = open_gallery or (lambda folder: Gallery.open_or_create(folder, device=settings.device))
        self._served: dict[str, ServedGallery] = {}
        try:
            for name, folder in settings.galleries.items():
                self._served[name] = ServedGallery(name, opening(folder), settings.uploads_folder(name))
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[ServedGallery]:
        return iter(self._served.values())

    def get(self, name: str) -> ServedGallery:
        """The gallery of this name.

        Raises:
            Problem: there is none.
        """
        found = self._served.get(name)
        if found is None:
            raise Problem(404, f"no gallery {name!r} is served here", "gallery-not-found")
        return found

    def warm(self) -> None:
        """Load what the first search of each gallery would load; one that cannot be searched says so when it is."""
        for served in self:
            try:
                served.gallery.search(np.zeros((32, 32, 3), dtype=np.uint8), k=1)
            except PatchwiseError as error:
                _log.warning("%s: %s", served.name, shown_text(str(error)))

    def counts(self) -> dict[str, int]:
        """How many images each gallery holds, by name."""
        return {served.name: len(served.gallery) for served in self}

    def close(self) -> None:
        """Close all of them."""
        for served in self._served.values():
            served.gallery.close()
