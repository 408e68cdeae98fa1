"""From a query picture to one vector."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.boxes import query_box
from patchwise.encoders import Encoder
from patchwise.errors import ImageUnreadable, PatchwiseError, UsageError
from patchwise.images import DEFAULT_MAX_PIXELS, Picture, cut_regions, fetch_url, read_picture
from patchwise.indexing.encode import encode_picture

__all__ = ["QuerySource", "open_query", "query_vector", "query_vectors"]

QuerySource = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF_MODES = ("CMYK", "F", "I", "LAB")


def query_vector(
    encoder: Encoder,
    source: QuerySource,
    box: Sequence[float] | None = None,
    *,
    fetch: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> npt.NDArray[np.float32]:
    """Encode a picture, or the part of it inside `box`, to (dimension,) float32.

    Raises:
        ImageError: the picture cannot be used.
        BoxError: the box does not fit the picture.
        UsageError: a web address without `fetch`.
    """
    crops = _crop(encoder, source, box, fetch=fetch, max_pixels=max_pixels)
    vector: npt.NDArray[np.float32] = encode_picture(encoder, crops)[0]
    return vector


def query_vectors(
    encoder: Encoder,
    queries: Sequence[tuple[QuerySource, Sequence[float] | None]],
    *,
    fetch: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[npt.NDArray[np.float32] | PatchwiseError]:
    """Encode many (source, box) at a time, decoding them side by side; a query that cannot be used gives its error."""

    def cut(query: tuple[QuerySource, Sequence[float] | None]) -> npt.NDArray[np.uint8] | PatchwiseError:
        try:
            return _crop(encoder, *query, fetch=fetch, max_pixels=max_pixels)
        except PatchwiseError as error:
            return error

    with ThreadPoolExecutor(thread_name_prefix="patchwise-query") as pool:
        cuts = list(pool.map(cut, queries))
    crops = [crop for crop in cuts if not isinstance(crop, PatchwiseError)]
    vectors = iter(encode_picture(encoder, np.concatenate(crops)) if crops else ())
    return [found if isinstance(found, PatchwiseError) else next(vectors) for found in cuts]


def _crop(
    encoder: Encoder, source: QuerySource, box: Sequence[float] | None, *, fetch: bool, max_pixels: int
) -> npt.NDArray[np.uint8]:
    picture = open_query(source, fetch=fetch, max_pixels=max_pixels)
    inside = (0.0, 0.0, *map(float, picture.size)) if box is None else query_box(box, picture.size)
    return cut_regions(picture, np.array([inside]), encoder.input_size, encoder.resampling, encoder.fit)


def open_query(source: QuerySource, *, fetch: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode a query: a path, file bytes, a Pillow image, an RGB array, or with `fetch` an http(s) address."""
    if isinstance(source, bytes):
        return read_picture(source, name="query", max_pixels=max_pixels)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or source.size == 0:
            raise ImageUnreadable(
                "query", f"an array must be (height, width, 3) uint8 RGB, not {source.shape} {source.dtype}"
            )
        pixels = Image.fromarray(source)
        return Picture(pixels, pixels.size)
    if isinstance(source, Image.Image):
        # Through a lossless file, so that mode, orientation and transparency are treated as for any other.
        buffer = io.BytesIO()
        try:
            exif = source.getexif()
            if source.mode not in (*_PNG_MODES, *_TIFF_MODES):
                source = source.convert({"PA": "RGBA", "RGBa": "RGBA", "La": "LA"}.get(source.mode, "RGB"))
            source.save(buffer, "TIFF" if source.mode in _TIFF_MODES else "PNG", exif=exif)
        except (OSError, ValueError) as error:
            raise ImageUnreadable("query", f"image mode {source.mode} cannot be used ({error})") from error
        return read_picture(buffer.getvalue(), name="query", max_pixels=max_pixels)
    text = os.fspath(source)
    if text.lower().startswith(("http://", "https://")):
        if not fetch:
            raise UsageError(f"{text}: web addresses are fetched only on demand; add --fetch (fetch=True in Python)")
        return read_picture(fetch_url(text), name=text, max_pixels=max_pixels)
    return read_picture(Path(text), max_pixels=max_pixels)
