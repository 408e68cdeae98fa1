"""Geometry of `xyxy` boxes: float pixels of the upright original image, half-open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from patchwise.errors import BoxError

__all__ = [
    "Box",
    "area_xyxy",
    "box_area",
    "box_edges",
    "box_iou",
    "clip_xyxy",
    "enclosing_box",
    "iou_xyxy",
    "parse_box",
    "query_box",
]

Box = tuple[float, float, float, float]
FloatArray = npt.NDArray[np.floating[Any]]


def area_xyxy(boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Area of each box in square pixels; boxes (..., 4) give (...), inside-out boxes give 0."""
    b = np.asarray(boxes, dtype=np.float64)
    area: npt.NDArray[np.float64] = np.maximum(b[..., 2] - b[..., 0], 0) * np.maximum(b[..., 3] - b[..., 1], 0)
    return area


def clip_xyxy(boxes: npt.ArrayLike, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Boxes (..., 4) cut to an image of `size` (width, height)."""
    width, height = size
    limits = np.array([width, height, width, height], dtype=np.float64)
    return np.clip(np.asarray(boxes, dtype=np.float64), 0, limits)


def box_area(box: Box) -> float:
    """`area_xyxy` of one box, where an array would only cost time."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def box_iou(a: Box, b: Box) -> float:
    """`iou_xyxy` of one pair, where arrays would only cost time."""
    intersection = box_area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = box_area(a) + box_area(b) - intersection
    return intersection / union if union > 0 else 0.0


def enclosing_box(boxes: Iterable[Box]) -> Box:
    """The smallest box around some, of which there must be at least one."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return (min(x0), min(y0), max(x1), max(y1))


def iou_xyxy(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union of every pair: (N, 4) and (M, 4) give (N, M) in [0, 1].

    Two empty boxes have IoU 0.

    >>> float(iou_xyxy([[0, 0, 2, 2]], [[1, 0, 3, 2]])[0, 0])
    0.3333333333333333
    """
    a = np.asarray(a, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(b, dtype=np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=-1)
    union = area_xyxy(a)[:, None] + area_xyxy(b)[None, :] - intersection
    iou: npt.NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return iou


def parse_box(text: str) -> Box:
    """Read `x0,y0,x1,y1` in pixels, as typed on a command line.

    Raises:
        BoxError: not four numbers.
    """
    parts = text.replace(",", " ").split()
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != 4:
        raise BoxError(f"box {text!r}: expected four numbers x0,y0,x1,y1 in pixels, as in 40,30,210,260")
    return (values[0], values[1], values[2], values[3])


def box_edges(box: Sequence[float]) -> Box:
    """Validate a user's box as far as that goes without its image.

    Raises:
        BoxError: not four numbers, not finite, inside out or empty.
    """
    shown = ",".join(f"{value:g}" for value in box)
    if len(box) != 4 or not all(np.isfinite(value) for value in box):
        raise BoxError(f"box {shown}: expected four finite numbers x0,y0,x1,y1 in pixels")
    x0, y0, x1, y1 = (float(value) for value in box)
    if x1 <= x0 or y1 <= y0:
        raise BoxError(f"box {shown}: empty or inside out; x1 must exceed x0 and y1 must exceed y0")
    return (x0, y0, x1, y1)


def query_box(box: Sequence[float], size: tuple[int, int]) -> Box:
    """Validate a user's box against an image of `size` (width, height) and cut it to the image.

    Raises:
        BoxError: inside out, empty, not finite, outside the image, or under one pixel inside it.
    """
    x0, y0, x1, y1 = box_edges(box)
    shown = ",".join(f"{value:g}" for value in box)
    width, height = size
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        raise BoxError(f"box {shown}: outside the image, which is {width} x {height} pixels (EXIF-upright)")
    x0, y0, x1, y1 = (float(value) for value in clip_xyxy((x0, y0, x1, y1), size))
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise BoxError(f"box {shown}: less than one pixel wide or high inside the {width} x {height} image")
    return (x0, y0, x1, y1)
