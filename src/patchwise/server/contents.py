"""Files, thumbnails and pixels by image id; nothing is given out whose hash is not that id."""

from __future__ import annotations

import io
import os
import stat
from typing import BinaryIO

import numpy as np
from PIL import Image

from patchwise.errors import ImageUnreadable
from patchwise.images import Picture, read_bytes, read_picture, readable_formats, split_tar_path, with_digest
from patchwise.server.dependencies import State
from patchwise.server.galleries import ServedGallery
from patchwise.server.pictures import Pixels
from patchwise.server.problems import Problem
from patchwise.store import Arrays

__all__ = [
    "THUMBNAIL_SIZES",
    "bytes_of",
    "check_known",
    "format_of",
    "media_type",
    "open_file",
    "pixels_of",
    "thumbnail_of",
]

THUMBNAIL_SIZES = (128, 320, 640, 1280, 2048)
"""Longer sides of the thumbnails that are made; others are rounded up to one of these."""

_MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
    "JPEG2000": "image/jp2",
    "PPM": "image/x-portable-anymap",
}
_QUALITY = 85
_TELLING_BYTES = 16  # as many as Pillow looks at
_LARGEST_FILE = 2 * 2**30


def format_of(content: bytes) -> str:
    """The format of a picture that can be decoded, such as "JPEG", by its bytes."""
    with Image.open(io.BytesIO(content), formats=readable_formats()) as image:
        return image.format or ""


def media_type(file: BinaryIO) -> str:
    """The content type of a picture by its first bytes, however large it is decoded; the file is at its beginning."""
    start = file.read(_TELLING_BYTES)
    file.seek(0)
    for name in readable_formats():
        _, accepts = Image.OPEN[name]
        if accepts is not None and accepts(start) is True:
            return _MEDIA_TYPES[name]
    return "application/octet-stream"


def open_file(server: State, served: ServedGallery, image: str) -> BinaryIO:
    """The file of an image of the gallery, or of a query picture, at its beginning; the caller closes it.

    Raises:
        Problem: there is none, or the files that held it have changed since they were indexed.
    """
    paths = [stored.path for stored in served.gallery.image(image)]
    for path in paths:
        file = _unchanged(path, image)
        if file is not None:
            return file
    kept = server.kept.open(image)
    if kept is not None:
        return kept
    if paths:
        raise Problem(410, "the image's file changed since it was indexed; run patchwise index", "image-changed")
    raise _unknown(served, image)


def bytes_of(server: State, served: ServedGallery, image: str) -> bytes:
    """All bytes of an image or query picture; raises the same."""
    with open_file(server, served, image) as file:
        return file.read()


def check_known(server: State, served: ServedGallery, image: str) -> None:
    """Refuse an image that is neither in the gallery nor a query picture, whatever is still at hand of it.

    Raises:
        Problem: it is neither.
    """
    if not served.gallery.image(image) and image not in server.kept:
        raise _unknown(served, image)


def pixels_of(server: State, served: ServedGallery, image: str) -> Pixels:
    """The picture decoded, upright: (height, width, 3) uint8 RGB; raises the same, and ImageError."""
    check_known(server, served, image)

    def decode() -> Pixels:
        picture = read_picture(
            bytes_of(server, served, image), name=f"picture {image}", max_pixels=server.settings.max_pixels
        )
        return np.asarray(picture.pixels)

    return server.decoded.get(image, decode)


def thumbnail_of(server: State, served: ServedGallery, image: str, size: int) -> bytes:
    """A JPEG of the upright picture, its longer side at most `size` rounded up to one of `THUMBNAIL_SIZES`.

    Raises:
        Problem, ImageError: as for `pixels_of`.
    """
    edge = next((step for step in THUMBNAIL_SIZES if step >= size), THUMBNAIL_SIZES[-1])

    def made() -> bytes:
        return _jpeg(_shrunk(server, bytes_of(server, served, image), image, edge), edge)

    files = served.gallery.image(image)
    if not files:
        return made()

    def arrays() -> Arrays:
        return {"jpeg": np.frombuffer(made(), dtype=np.uint8)}

    try:
        return served.gallery.remembered(files[0].path, f"thumbnail-{edge}", arrays)["jpeg"].tobytes()
    except ImageUnreadable:  # the first file is gone; another, or a query picture, may do
        return made()


def _unknown(served: ServedGallery, image: str) -> Problem:
    return Problem(404, f"no image {image} in the gallery {served.name!r}, nor among query pictures", "image-not-found")


def _shrunk(server: State, content: bytes, image: str, edge: int) -> Picture:
    return read_picture(
        content,
        name=f"picture {image}",
        max_pixels=server.settings.max_pixels,
        shrink=lambda size: max(size) / edge,
    )


def _jpeg(picture: Picture, edge: int) -> bytes:
    pixels = picture.pixels
    scale = min(edge / max(pixels.size), 1.0)
    size = (max(round(pixels.width * scale), 1), max(round(pixels.height * scale), 1))
    if size != pixels.size:
        pixels = pixels.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    pixels.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _unchanged(path: str, image: str) -> BinaryIO | None:
    """A file, or a member of a tar file, where it still is the image."""
    try:
        file = io.BytesIO(read_bytes(path)) if split_tar_path(path) is not None else _regular_file(path)
    except (OSError, ImageUnreadable):
        return None
    return with_digest(file, image)


def _regular_file(path: str) -> BinaryIO:
    # A device or a pipe that has taken the file's place would never end, or never begin.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
        os.close(descriptor)
        raise OSError(f"{path}: not an ordinary file of at most {_LARGEST_FILE} bytes")
    return os.fdopen(descriptor, "rb")
