"""Cutting: regions of a picture become square pixel arrays, each resized on its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.images.decode import Picture

__all__ = ["RESAMPLING", "cut_regions", "shrink_factor"]

RESAMPLING: Mapping[str, Image.Resampling] = MappingProxyType(
    {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
)

# Margins over the pixels that a region needs per side, below which vectors begin to move (benchmarks/cutting.py):
# for copies of the picture halved before regions are resized, and for decoding at reduced scale.
REDUCING_GAP = 1.5
DECODING_GAP = 1.1


def shrink_factor(finest_side: float, input_size: int) -> float:
    """How much an image may be reduced while regions of side `finest_side` keep enough pixels for `input_size`."""
    return max(finest_side / (input_size * DECODING_GAP), 1.0)


def cut_regions(
    picture: Picture, boxes: npt.NDArray[np.floating], input_size: int, resampling: str = "bilinear"
) -> npt.NDArray[np.uint8]:
    """Crop each box and resize it to a square, aspect not kept (method of the paper).

    Large regions are resized from a copy of the picture halved beforehand, which costs a fraction of the time.

    Args:
        picture: the decoded image.
        boxes: (N, 4) xyxy in pixels of the upright original.
        input_size: side of the square output in pixels.
        resampling: "bilinear" or "bicubic", both with Pillow's antialiasing.

    Returns:
        (N, input_size, input_size, 3) uint8 RGB.
    """
    filter_ = RESAMPLING[resampling]
    halvings = [picture.pixels]
    cuts = np.empty((len(boxes), input_size, input_size, 3), dtype=np.uint8)
    for index, box in enumerate(boxes):
        depth = _halvings_allowed(box, picture, input_size)
        while len(halvings) <= depth:
            halvings.append(halvings[-1].reduce(2))
        source = halvings[depth]
        crop = source.crop(_whole_pixels(box, picture.size, source.size))
        cuts[index] = np.asarray(crop.resize((input_size, input_size), filter_))
    return cuts


def _halvings_allowed(box: npt.NDArray[np.floating], picture: Picture, input_size: int) -> int:
    scale_x, scale_y = picture.pixels.width / picture.size[0], picture.pixels.height / picture.size[1]
    side = min((box[2] - box[0]) * scale_x, (box[3] - box[1]) * scale_y)
    return max(int(np.log2(max(side / (input_size * REDUCING_GAP), 1.0))), 0)


def _whole_pixels(
    box: npt.NDArray[np.floating], size: tuple[int, int], decoded: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The box on the decoded grid, at least one pixel wide and high."""
    scale_x, scale_y = decoded[0] / size[0], decoded[1] / size[1]
    x0 = min(int(box[0] * scale_x + 0.5), decoded[0] - 1)
    y0 = min(int(box[1] * scale_y + 0.5), decoded[1] - 1)
    x1 = min(max(int(box[2] * scale_x + 0.5), x0 + 1), decoded[0])
    y1 = min(max(int(box[3] * scale_y + 0.5), y0 + 1), decoded[1])
    return (x0, y0, x1, y1)
