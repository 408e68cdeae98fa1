"""What a server holds: its galleries, their images and jobs."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from PIL import Image

from patchwise.client.connection import Connection
from patchwise.client.problems import NotThere
from patchwise.client.queries import QueryPictures
from patchwise.client.shapes import Job, ServedGallery, galleries_of, gallery_of, images_of, job_of, jobs_of
from patchwise.errors import UsageError
from patchwise.gallery_contents import ImageList
from patchwise.places import Places, each_place
from patchwise.search import Hit
from patchwise.store import StoredImage
from patchwise.wire import text_of_path

if TYPE_CHECKING:
    import httpx2

__all__ = ["ClientContents", "OnServer"]

_PAGE = 1000
_SMALLEST, _LARGEST = 64, 2048  # thumbnails
_DIGEST = re.compile(r"[0-9a-f]{32}")
_Self = TypeVar("_Self", bound="ClientContents")


class ClientContents:
    """The half of `Client` that lists, shows and forgets."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        gallery: str | None = None,
        timeout: float = 60.0,
        http: httpx2.Client | None = None,
    ) -> None:
        self._connection = Connection(url, token, timeout, http=http)
        self._pictures = QueryPictures(self._connection)
        self._gallery = gallery

    def __repr__(self) -> str:
        gallery = "" if self._gallery is None else f", gallery={self._gallery!r}"
        return f"Client({self._connection.url!r}{gallery})"

    def close(self) -> None:
        """Close open connections."""
        self._connection.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def gallery(self) -> str:
        """Name of the gallery that is asked."""
        if self._gallery is None:
            self._gallery = self.galleries()[0].name
        return self._gallery

    def images(
        self,
        under: Places = (),
        where: str = "",
        offset: int = 0,
        limit: int | None = None,
    ) -> ImageList:
        """Files that hold an image, by path: `limit` of them, or all, after the first `offset`.

        Raises:
            UsageError: not a whole path, the condition cannot be read, or a number is negative.
        """
        if offset < 0 or (limit is not None and limit < 0):
            raise UsageError(f"offset and limit must be at least 0, not {offset} and {limit}")
        folders = each_place(under)
        for folder in folders:
            if not PurePosixPath(folder).is_absolute() and not PureWindowsPath(folder).is_absolute():
                raise UsageError(f"{folder}: expected a whole path of the server")
        found: list[StoredImage] = []
        while True:
            count = _PAGE if limit is None else min(limit - len(found), _PAGE)
            params = {
                "under": [text_of_path(folder) for folder in folders],
                "where": where,
                "offset": offset + len(found),
                "limit": max(count, 1),
            }
            total, page = self._connection.ask("GET", f"{self._here}/images", images_of, params=params)
            found += page[:count]
            if len(page) < count or (limit is not None and len(found) >= limit):
                return ImageList(total, tuple(found))

    def image_bytes(self, image: Hit | StoredImage | str) -> bytes:
        """The file of a hit, or of an image by its id or its path on the server, as it is.

        Raises:
            ImageUnreadable: it is no longer there.
            UsageError: the path is none of the gallery.
        """
        return self._connection.content("GET", f"{self._here}/images/{self._id(image)}/full")

    def thumbnail(self, image: Hit | StoredImage | str, size: int = 320) -> Image.Image:
        """A small upright RGB picture; its longer side is `size` (64 to 2048) or a little more, if it has so many.

        Raises:
            ImageUnreadable: it is no longer there.
            UsageError: the path is none of the gallery.
        """
        params = {"size": min(max(size, _SMALLEST), _LARGEST)}
        content = self._connection.content("GET", f"{self._here}/images/{self._id(image)}/thumbnail", params=params)
        try:
            picture = Image.open(io.BytesIO(content), formats=["JPEG"])
            picture.load()
        except OSError as error:
            raise self._connection.misunderstood() from error
        return picture.convert("RGB")

    def info(self) -> ServedGallery:
        """What the gallery holds, and what can be done with it."""
        return self._connection.ask("GET", self._here, gallery_of)

    def galleries(self) -> tuple[ServedGallery, ...]:
        """All galleries of the server, its default first."""
        found = self._connection.ask("GET", "/galleries", galleries_of)
        if not found:
            raise self._connection.misunderstood()
        return found

    def jobs(self) -> tuple[Job, ...]:
        """The gallery's jobs, newest first; the server remembers the last that have ended."""
        return self._connection.ask("GET", f"{self._here}/jobs", jobs_of)

    def job(self, job: str) -> Job:
        """One job, by its id.

        Raises:
            UsageError: there is none, or no more.
        """
        return self._connection.ask("GET", f"/jobs/{quote(job, safe='')}", job_of)

    def cancel(self, job: str) -> Job:
        """Have a job end soon, what it has done so far stays; raises the same."""
        return self._connection.ask("DELETE", f"/jobs/{quote(job, safe='')}", job_of)

    def health(self) -> dict[str, str]:
        """The server's `status`, which is "ok", and `version`; needs no token."""
        return self._connection.ask(
            "GET", "/health", lambda plain: {name: str(plain[name]) for name in ("status", "version")}
        )

    def remove(self, *images: Hit | StoredImage | str | os.PathLike[str]) -> int:
        """Forget images, or files and everything below folders, by their paths on the server; returns how many files.

        Files that were uploaded are deleted there; others stay where they are. Files that could not be read stay known
        as such until they are gone.

        Raises:
            UsageError: not a whole path.
        """
        removed = 0
        for each in images:
            if isinstance(each, StoredImage):
                found: Sequence[StoredImage] = [each]
            else:
                found = self.images([each.path if isinstance(each, Hit) else each]).images
            for stored in found:
                place = f"{self._here}/images/{stored.digest}"
                try:
                    self._connection.content("DELETE", place, params={"path": text_of_path(stored.path)})
                    removed += 1
                except NotThere:  # somebody else was quicker
                    continue
        return removed

    @property
    def _here(self) -> str:
        return f"/galleries/{quote(self.gallery, safe='')}"

    def _place(self, image: Hit | str | os.PathLike[str]) -> tuple[str, str]:
        """Image id and path of a hit, or of a file of the server."""
        if isinstance(image, Hit) and isinstance(image.source, OnServer):
            return image.source.image, image.path
        path = image.path if isinstance(image, Hit) else os.fspath(image)
        found = [stored for stored in self.images([path], limit=1).images if stored.path == path]
        if not found:
            raise UsageError(f"{path}: not in the gallery {self.gallery!r}")
        return found[0].digest, path

    def _id(self, image: Hit | StoredImage | str) -> str:
        if isinstance(image, StoredImage):
            return image.digest
        return image if isinstance(image, str) and _DIGEST.fullmatch(image) else self._place(image)[0]


@dataclass(frozen=True)
class OnServer:
    """Where the picture of a hit is that came from a server."""

    client: ClientContents
    image: str

    def read(self, longest: int) -> Image.Image:
        """See `PictureSource`."""
        return self.client.thumbnail(self.image, longest)
