"""From what is asked to one vector."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.boxes import query_box
from patchwise.encoders import DenseEncoder, Encoder, Projected, TextEncoder
from patchwise.errors import EncoderError, ImageUnreadable, PatchwiseError, UsageError
from patchwise.images import DEFAULT_MAX_PIXELS, Picture, cut_regions, fetch_url, read_picture
from patchwise.indexing.encode import encode_picture
from patchwise.indexing.parts import QueryPart, QuerySource, query_parts

__all__ = [
    "EncodedQuery",
    "compose",
    "encode_queries",
    "encode_query",
    "image_of_array",
    "lossless_file",
    "open_query",
    "query_vector",
]

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF_MODES = ("CMYK", "F", "I", "LAB")
# A sum of unit vectors, weights adding up to 1, that is shorter than this holds little but the rounding of fp16.
_CANCELLED = 1e-3
# An object of 1 % of an image takes a sixth of an L3 region, so that 0.35 of its side is in between; the colour is the
# mean of ImageNet, what backbones were trained to see nothing in. Half of the vector (benchmarks/small_objects.py).
_SMALL_SIDE = 0.35
_AROUND = (124, 116, 104)


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query ready to search with: its `vector` (dimension,), and those of its parts (P, dimension), float32 units."""

    parts: tuple[QueryPart, ...]
    vector: npt.NDArray[np.float32]
    part_vectors: npt.NDArray[np.float32]


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
    return encode_query(encoder, query_parts(source, box=box), fetch=fetch, max_pixels=max_pixels).vector


def encode_query(
    encoder: Encoder, parts: Sequence[QueryPart], *, fetch: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS
) -> EncodedQuery:
    """Encode the parts of a query, and make one vector of them.

    Raises:
        ImageError, BoxError: a picture cannot be used.
        EncoderError: a text, and the encoder reads none.
        UsageError: a web address without `fetch`, nothing that is wanted, or parts that cancel each other.
    """
    (found,) = encode_queries(encoder, [parts], fetch=fetch, max_pixels=max_pixels)
    if isinstance(found, PatchwiseError):
        raise found
    return found


def encode_queries(
    encoder: Encoder,
    queries: Sequence[Sequence[QueryPart]],
    *,
    fetch: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[EncodedQuery | PatchwiseError]:
    """Encode many queries at a time, decoding pictures side by side; one that cannot be used gives its error."""

    def cut(part: QueryPart) -> npt.NDArray[np.uint8] | PatchwiseError | str:
        if part.picture is None:
            return str(part.text)
        try:
            crop = _crop(encoder, part.picture, part.box, fetch=fetch, max_pixels=max_pixels)
            return np.concatenate([crop, _small(crop)]) if part.small else crop
        except PatchwiseError as error:
            return error

    with ThreadPoolExecutor(thread_name_prefix="patchwise-query") as pool:
        cuts = list(pool.map(cut, [part for parts in queries for part in parts]))
    crops = [found for found in cuts if isinstance(found, np.ndarray)]
    texts = [found for found in cuts if isinstance(found, str)]
    pictured = iter(encode_picture(encoder, np.concatenate(crops)) if crops else ())
    written = iter(_encode_texts(encoder, texts))
    vectors = (
        _mean(list(islice(pictured, len(found))))
        if isinstance(found, np.ndarray)
        else (next(written) if isinstance(found, str) else found)
        for found in cuts
    )
    return [_together(parts, [next(vectors) for _ in parts]) for parts in queries]


def compose(vectors: npt.NDArray[np.float32], weights: Sequence[float]) -> npt.NDArray[np.float32]:
    """One unit vector for all parts: the weighted sum of theirs, (P, dimension) float32 to (dimension,).

    The score of a region r for the sum q = w1 v1 + ... + wP vP is (w1 <r, v1> + ... + wP <r, vP>) / |q|, and |q| is the
    same for all regions. Regions are thus ranked by the weighted sum of the parts' own scores, and the region that wins
    is the one that fits all parts at once, not one for this part and another for that. The same average is taken by
    WeiMoCIR (Wu et al. 2024, arXiv 2409.04918) for whole images.

    Nothing is done about cosines with texts being lower and closer together than those with pictures (the gap of Liang
    et al., NeurIPS 2022): what would even them out has to be learned from a gallery, whose answers would then change
    with every image added. Weights are the means against that. The order of the parts does not matter, to the last bit.

    Raises:
        UsageError: no weight above 0, or parts that cancel each other.
    """
    if not any(weight > 0 for weight in weights):
        raise UsageError("nothing is wanted: a query needs a picture or a text with a weight above 0")
    counting = [place for place, weight in enumerate(weights) if weight != 0]
    if len(counting) == 1:
        alone: npt.NDArray[np.float32] = vectors[counting[0]]
        return alone
    largest = max(abs(weight) for weight in weights)
    total = math.fsum(abs(weight) / largest for weight in weights)
    shares = np.array([weight / largest / total for weight in weights])
    columns = (shares[:, None] * vectors.astype(np.float64)).T
    mixed = np.array([math.fsum(column) for column in columns])
    length = float(np.linalg.norm(mixed))
    if length < _CANCELLED:
        raise UsageError("the parts of the query cancel each other: what is wanted is the same as what is not")
    return (mixed / length).astype(np.float32)


def _together(
    parts: Sequence[QueryPart], vectors: Sequence[npt.NDArray[np.float32] | PatchwiseError]
) -> EncodedQuery | PatchwiseError:
    for found in vectors:
        if isinstance(found, PatchwiseError):
            return found
    stacked = np.stack(vectors)  # type: ignore[arg-type]
    try:
        return EncodedQuery(tuple(parts), compose(stacked, [part.weight for part in parts]), stacked)
    except UsageError as error:
        return error


def _encode_texts(encoder: Encoder, texts: Sequence[str]) -> Sequence[npt.NDArray[np.float32] | PatchwiseError]:
    if not texts:
        return []
    if not isinstance(encoder, TextEncoder):
        return [_reads_no_texts(encoder)] * len(texts)
    try:
        vectors = encoder.encode_texts(texts)
    except PatchwiseError as error:  # such as a tokenizer that is missing
        return [error] * len(texts)
    if vectors.shape != (len(texts), encoder.dimension) or not np.isfinite(vectors).all():
        raise EncoderError(f"encoder {encoder.id!r} returned no usable vectors for {len(texts)} texts")
    return list(vectors.astype(np.float32, copy=False))


def _reads_no_texts(encoder: Encoder) -> EncoderError:
    why = "its vectors lie in no space shared with them"
    if isinstance(encoder, Projected) and isinstance(encoder.backbone, TextEncoder):
        why = "its vectors are whitened or adapted, and what was learned from pictures need not hold for texts"
    elif isinstance(encoder, DenseEncoder):
        why = "encode=dense takes means of patch tokens, which lie in no space shared with texts"
    return EncoderError(
        f"encoder {encoder.id!r} reads no texts: {why}. CLIP, OpenCLIP, SigLIP and SigLIP2 read them, as they are; "
        "index into a new gallery with one: patchwise index PHOTOS --encoder siglip2-b --gallery NEW"
    )


def _crop(
    encoder: Encoder, source: QuerySource, box: Sequence[float] | None, *, fetch: bool, max_pixels: int
) -> npt.NDArray[np.uint8]:
    picture = open_query(source, fetch=fetch, max_pixels=max_pixels)
    inside = (0.0, 0.0, *map(float, picture.size)) if box is None else query_box(box, picture.size)
    return cut_regions(picture, np.array([inside]), encoder.input_size, encoder.resampling, encoder.fit)


def _small(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A query in the middle of nothing, as its object shows in a region that is much larger: (1, S, S, 3) uint8."""
    side = crop.shape[1]
    inner = max(round(_SMALL_SIDE * side), 1)
    first = (side - inner) // 2
    small = np.empty_like(crop)
    small[:] = _AROUND
    shrunk = Image.fromarray(crop[0]).resize((inner, inner), Image.Resampling.LANCZOS)
    small[0, first : first + inner, first : first + inner] = np.asarray(shrunk)
    return small


def _mean(vectors: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    return vectors[0] if len(vectors) == 1 else compose(np.stack(vectors), [1.0] * len(vectors))


def open_query(source: QuerySource, *, fetch: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode a query: a path, file bytes, a Pillow image, an RGB array, or with `fetch` an http(s) address."""
    if isinstance(source, bytes):
        return read_picture(source, name="query", max_pixels=max_pixels)
    if isinstance(source, np.ndarray):
        pixels = image_of_array(source)
        return Picture(pixels, pixels.size)
    if isinstance(source, Image.Image):
        return read_picture(lossless_file(source), name="query", max_pixels=max_pixels)
    text = os.fspath(source)
    if text.lower().startswith(("http://", "https://")):
        if not fetch:
            raise UsageError(f"{text}: web addresses are fetched only on demand; add --fetch (fetch=True in Python)")
        return read_picture(fetch_url(text), name=text, max_pixels=max_pixels)
    return read_picture(Path(text), max_pixels=max_pixels)


def image_of_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    """The picture that an (H, W, 3) uint8 RGB array holds.

    Raises:
        ImageUnreadable: it is no such array.
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageUnreadable(
            "query", f"an array must be (height, width, 3) uint8 RGB, not {array.shape} {array.dtype}"
        )
    return Image.fromarray(array)


def lossless_file(image: Image.Image) -> bytes:
    """A file of the image, so that mode, orientation and transparency are treated as for any other.

    Raises:
        ImageUnreadable: its mode cannot be written.
    """
    buffer = io.BytesIO()
    try:
        exif = image.getexif()
        if image.mode not in (*_PNG_MODES, *_TIFF_MODES):
            image = image.convert({"PA": "RGBA", "RGBa": "RGBA", "La": "LA"}.get(image.mode, "RGB"))
        image.save(buffer, "TIFF" if image.mode in _TIFF_MODES else "PNG", exif=exif)
    except (OSError, ValueError) as error:
        raise ImageUnreadable("query", f"image mode {image.mode} cannot be used ({error})") from error
    return buffer.getvalue()
