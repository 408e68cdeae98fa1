"""The file formats patchwise opens: those that Pillow decodes by itself, without running other programs."""

from __future__ import annotations

import contextlib
from functools import cache

from PIL import Image

# Everything else Pillow knows stays closed: some of its readers (EPS, WMF) start other programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM")


@cache
def readable_formats() -> tuple[str, ...]:
    """Names of the formats that this installation of Pillow decodes."""
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_suffixes() -> frozenset[str]:
    """Lower-case file name endings, dot included, of the formats that can be read here."""
    formats = set(readable_formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)
