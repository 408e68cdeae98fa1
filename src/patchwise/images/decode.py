"""Decoding: any supported file becomes an upright 8-bit RGB picture, as small as its regions allow."""

from __future__ import annotations

import http.client
import io
import os
import re
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from patchwise.errors import ImageTooLarge, ImageUnreadable
from patchwise.images.archive import read_bytes, split_tar_path
from patchwise.images.formats import readable_formats

__all__ = ["DEFAULT_MAX_PIXELS", "Picture", "fetch_url", "read_picture"]

DEFAULT_MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte of RGB
_LARGE_PIXELS = 24_000_000
_URL_BYTES = 64 * 1024 * 1024
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)

# Several huge pictures decoded at once would break the memory bound, so they take turns.
_large_picture = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A decoded image: `pixels` is RGB and may be smaller than `size`, the upright original (width, height)."""

    pixels: Image.Image
    size: tuple[int, int]


def read_picture(
    source: bytes | Path | BinaryIO,
    *,
    name: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    shrink: Callable[[tuple[int, int]], float] | None = None,
) -> Picture:
    """Decode the first frame of an image file, EXIF-upright, transparency on white, as 8-bit RGB.

    Args:
        source: the file's bytes, or its path, which may lead into a tar file, or the file itself, open.
        name: what to call the image in errors (default: the path).
        max_pixels: refuse images with more pixels than this.
        shrink: given the upright original size, the factor (>= 1) by which it may be reduced; JPEGs are
            then decoded at 1/2, 1/4 or 1/8 where that stays at or above what is needed.

    Raises:
        ImageUnreadable: missing, no image, corrupt or truncated.
        ImageTooLarge: more than `max_pixels`.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    if isinstance(source, Path) and split_tar_path(str(source)) is not None:
        source = read_bytes(str(source))
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        # Pillow has one limit for the whole process, which it checks on opening, loading and cropping.
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=readable_formats()
        ) as image:
            return _decode(image, name, max_pixels, shrink)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))  # Pillow gives the image's size first
        raise ImageTooLarge(name, _too_large(f"{int(pixels[0]):,}" if pixels else "its", max_pixels)) from error
    except UnidentifiedImageError as error:
        raise ImageUnreadable(name, _why_unidentified(source)) from error
    except FileNotFoundError as error:
        raise ImageUnreadable(name, "no such file") from error
    except IsADirectoryError as error:
        raise ImageUnreadable(name, "is a directory, not an image") from error
    except PermissionError as error:
        raise ImageUnreadable(name, "permission denied") from error
    except MemoryError as error:
        raise ImageUnreadable(name, "not enough memory to decode it") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        EOFError,
        ZeroDivisionError,
        OverflowError,
        AttributeError,
        RuntimeError,
        NotImplementedError,
        struct.error,
    ) as error:
        # Pillow's decoders answer broken files with any of these.
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageUnreadable(name, f"cannot be read ({error.strerror})") from error
        reason = str(error).strip() or type(error).__name__
        raise ImageUnreadable(name, f"corrupt or truncated ({reason})") from error


def _decode(
    image: Image.Image, name: str, max_pixels: int, shrink: Callable[[tuple[int, int]], float] | None
) -> Picture:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(name, _too_large(f"{width} x {height}", max_pixels))
    with _one_at_a_time_if_large(image.size):
        size = None
        if shrink is not None and image.format in ("JPEG", "MPO"):
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            size = (height, width) if orientation in _QUARTER_TURNS else (width, height)
            factor = max(shrink(size), 1.0)
            scale = next(scale for scale in (8, 4, 2, 1) if scale <= factor)
            image.draft(None, (max(width // scale, 1), max(height // scale, 1)))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        pixels = _to_rgb(image)
    return Picture(pixels, size or pixels.size)


def _too_large(pixels: str, max_pixels: int) -> str:
    return f"{pixels} pixels exceed the limit of {max_pixels:,}; raise it with --max-pixels"


@contextmanager
def _one_at_a_time_if_large(size: tuple[int, int]) -> Iterator[None]:
    if size[0] * size[1] <= _LARGE_PIXELS:
        yield
        return
    with _large_picture:
        yield


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _high_bit_depth_to_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
        return rgb
    return image.convert("RGB")


def _high_bit_depth_to_rgb(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    peak = float(values.max(initial=0.0))
    # Integer modes hold 16-bit samples in practice; float images hold [0, 1] or 8-bit values.
    full_scale = next((scale for scale in (1.0, 255.0, 65535.0) if peak <= scale), peak)
    if image.mode.startswith("I"):
        full_scale = max(65535.0, peak)
    grey = np.clip(np.rint(values * (255.0 / full_scale)), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _why_unidentified(source: bytes | Path | BinaryIO) -> str:
    if isinstance(source, bytes):
        empty = not source
    else:
        empty = (source.stat() if isinstance(source, Path) else os.fstat(source.fileno())).st_size == 0
    if empty:
        return "the file is empty"
    return f"not an image in a format that is read here ({', '.join(readable_formats())})"


def _web() -> urllib.request.OpenerDirector:
    """Opens http(s) and nothing else, where a redirection leads as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def fetch_url(url: str, *, timeout: float = 30.0) -> bytes:
    """Download an http(s) URL of at most 64 MiB.

    Raises:
        ImageUnreadable: not http(s), unreachable, an error status, or too large.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ImageUnreadable(url, "only http and https addresses are fetched")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "patchwise"})
        with _web().open(request, timeout=timeout) as response:
            data: bytes = response.read(_URL_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise ImageUnreadable(url, f"could not be fetched ({error})") from error
    if len(data) > _URL_BYTES:
        raise ImageUnreadable(url, f"larger than {_URL_BYTES // 2**20} MiB")
    return data
