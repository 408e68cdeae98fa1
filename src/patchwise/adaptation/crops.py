"""Augmented crops: what a picture's own details might look like in another photograph."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from patchwise.encoders import Encoder
from patchwise.images import Picture, cut_regions

__all__ = ["FINEST_SHARE", "augmented_crops"]

FINEST_SHARE = 0.2  # of the picture's shorter side: the least that a crop's side is
_LARGEST_SHARE = 0.8  # a query shows a thing, seldom the whole scene
_ASPECT = 4 / 3
_JITTER = 0.1  # of a region's side
_CORNERS = 0.12  # how far a corner moves, as a share of the side
_LIGHT = 1.5  # largest factor of brightness, contrast and saturation
_CAST = 1.12  # largest gain of one colour channel against the others
_COARSEST = 0.25  # of the encoder's input: the least resolution left
_QUALITY = (30, 95)
_LARGEST_CUT = 2  # times the encoder's input: larger crops are reduced first
_LONGEST = 65_500  # pixels of a side that JPEG can hold


def augmented_crops(
    picture: Picture,
    boxes: npt.NDArray[np.floating],
    count: int,
    encoder: Encoder,
    generator: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """Random crops of a picture under another light, angle, resolution and compression.

    Half of them are places anywhere in the picture, a fifth to four fifths of its sides; half lie near one of its
    regions. Nothing is mirrored: a mirrored word or logo is another thing.

    Args:
        picture: the decoded image.
        boxes: its regions, (N, 4) xyxy in pixels of the upright original.
        count: how many crops.
        encoder: whose input they become, by its own way to make them square.
        generator: decides everything that is random.

    Returns:
        (count, S, S, 3) uint8 RGB.
    """
    crops = np.empty((count, encoder.input_size, encoder.input_size, 3), dtype=np.uint8)
    for number in range(count):
        box = _near(boxes, picture.size, generator) if number % 2 else _anywhere(picture.size, generator)
        seen = _coarser(_lit(_tilted(picture, box, encoder.input_size, generator), generator), encoder, generator)
        whole = np.array([[0, 0, *seen.size]], dtype=np.float32)
        crops[number] = cut_regions(
            Picture(seen, seen.size), whole, encoder.input_size, encoder.resampling, encoder.fit
        )[0]
    return crops


def _between(low: float, high: float, generator: np.random.Generator) -> float:
    """A factor spread evenly over its logarithm."""
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def _anywhere(size: tuple[int, int], generator: np.random.Generator) -> tuple[float, float, float, float]:
    share, aspect = _between(FINEST_SHARE, _LARGEST_SHARE, generator), _between(1 / _ASPECT, _ASPECT, generator)
    width = max(min(share * aspect**0.5, 1.0) * size[0], 1.0)
    height = max(min(share / aspect**0.5, 1.0) * size[1], 1.0)
    x, y = generator.uniform(0, size[0] - width), generator.uniform(0, size[1] - height)
    return (x, y, x + width, y + height)


def _near(
    boxes: npt.NDArray[np.floating], size: tuple[int, int], generator: np.random.Generator
) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = map(float, boxes[generator.integers(len(boxes))])
    shift = generator.uniform(-_JITTER, _JITTER, 4) * [x1 - x0, y1 - y0, x1 - x0, y1 - y0]
    x0, x1 = max(x0 + shift[0], 0.0), min(x1 + shift[2], float(size[0]))
    y0, y1 = max(y0 + shift[1], 0.0), min(y1 + shift[3], float(size[1]))
    return (x0, y0, x1, y1)


def _tilted(
    picture: Picture, box: tuple[float, float, float, float], input_size: int, generator: np.random.Generator
) -> Image.Image:
    """The box seen from another angle: its corners move by a share of its sides, and stay inside the picture.

    A box thinner than a decoded pixel is seen that thick, so that its corners always span something.
    """
    scale = np.array([picture.pixels.width / picture.size[0], picture.pixels.height / picture.size[1]])
    start = np.minimum(box[:2], picture.size - 1 / scale)
    (x0, y0), (x1, y1) = start, np.maximum(box[2:], start + 1 / scale)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    corners += generator.uniform(-_CORNERS, _CORNERS, (4, 2)) * [x1 - x0, y1 - y0]
    corners = corners.clip(0, picture.size) * scale
    origin, end = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    end = np.maximum(end, origin + 1)
    cut = picture.pixels.crop((*origin.tolist(), *end.tolist()))
    corners -= origin
    reduced = max(min(cut.size) // (_LARGEST_CUT * input_size), 1)
    if reduced > 1:
        cut = cut.reduce(reduced)
    size = (
        max(round((x1 - x0) * scale[0] / reduced), 1),
        max(round((y1 - y0) * scale[1] / reduced), 1),
    )
    seen: Image.Image = cut.transform(
        size, Image.Transform.PERSPECTIVE, _perspective(size, corners / reduced), Image.Resampling.BILINEAR
    )
    return seen


def _perspective(size: tuple[int, int], corners: npt.NDArray[np.float64]) -> Sequence[float]:
    """The eight coefficients that take the corners of an image of `size` to `corners` (4, 2), clockwise from top left.

    (x, y) comes from ((ax + by + c) / (gx + hy + 1), (dx + ey + f) / (gx + hy + 1)), which is linear in a to h.
    """
    width, height = size
    rows, values = [], []
    for (x, y), (u, v) in zip(((0, 0), (width, 0), (width, height), (0, height)), corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    found: list[float] = np.linalg.solve(np.array(rows, dtype=np.float64), np.array(values)).tolist()
    return found


def _lit(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Under another light: brightness, contrast, saturation, and a colour cast."""
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(_between(1 / _LIGHT, _LIGHT, generator))
    gains = np.exp(generator.uniform(-np.log(_CAST), np.log(_CAST), 3))
    table = (np.arange(256)[None] * gains[:, None]).clip(0, 255).round().astype(int)
    return image.point(table.ravel().tolist())


def _coarser(image: Image.Image, encoder: Encoder, generator: np.random.Generator) -> Image.Image:
    """As small as it might be in another photograph, and compressed as JPEG."""
    side = _between(_COARSEST, 1.0, generator) * encoder.input_size
    scale = min(side / max(min(image.size), 1), _LONGEST / max(image.size), 1.0)
    if scale < 1:
        image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(generator.integers(*_QUALITY, endpoint=True)))
    with Image.open(buffer) as compressed:
        rgb: Image.Image = compressed.convert("RGB")
    return rgb
