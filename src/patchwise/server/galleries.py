"""The galleries that are served: opened once, and kept open."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from patchwise.gallery import Gallery
from patchwise.server.problems import Problem
from patchwise.server.settings import Settings

__all__ = ["Galleries", "ServedGallery"]


class StoredImage(NamedTuple):
    path: str
    digest: str
    size: tuple[int, int]
    metadata: dict[str, str | int | float | None]


@dataclass(frozen=True)
class ServedGallery:
    """A gallery by its name in addresses, and where images uploaded to it are kept."""

    name: str
    gallery: Gallery
    uploads: Path

    @property
    def writable(self) -> bool:
        """Whether images can be added and removed."""
        return os.access(self.gallery.path, os.W_OK)

    @property
    def version(self) -> str:
        """Changes whenever images do."""
        return "-".join(map(str, self.gallery.snapshot().version))  # STAND-IN: Gallery.version

    # STAND-IN for seams of Gallery, until these are there.

    def image(self, digest: str) -> tuple[StoredImage, ...]:
        return tuple(one for one in self._all() if one.digest == digest)

    def stored(self, path: str) -> StoredImage | None:
        return next((one for one in self._all() if one.path == path), None)

    def _all(self) -> list[StoredImage]:
        catalogue = self.gallery._store.catalogue
        found = []
        for path in sorted(catalogue.known()):
            known, content = catalogue.stored_file(path), catalogue.content_of(path)
            row = None if content is None else catalogue.content(content)
            if known is not None and row is not None:
                found.append(StoredImage(path, known[0].hex(), (row.width, row.height), {}))
        return found

    def images(
        self, under: Sequence[str] = (), where: str = "", offset: int = 0, limit: int | None = None
    ) -> tuple[int, list[StoredImage]]:
        places = [os.path.join(place, "") for place in under]
        found = [
            one
            for one in self._all()
            if not places or one.path in under or any(one.path.startswith(place) for place in places)
        ]
        return len(found), found[offset:][:limit]

    def folders(self) -> list[tuple[str, int]]:
        """Folders that hold images, and how many, those with most first."""
        known = self.gallery._store.catalogue.known().values()  # STAND-IN: Gallery.folders
        return Counter(os.path.dirname(row.path) for row in known if row.content is not None).most_common()


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

    def close(self) -> None:
        """Close all of them."""
        for served in self._served.values():
            served.gallery.close()
