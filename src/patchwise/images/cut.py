"""Cutting: regions of a picture become square pixel arrays, each resized on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.images.decode import Picture

__all__ = ["RESAMPLING", "SQUARE", "Fit", "cut_regions", "shrink_factor"]

RESAMPLING: Mapping[str, Image.Resampling] = MappingProxyType(
    {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
)

# Margins over the pixels that a region needs per side, below which vectors begin to move (benchmarks/cutting.py):
# for copies of the picture halved before regions are resized, and for decoding at reduced scale.
REDUCING_GAP = 1.5
DECODING_GAP = 1.1
_WHOLE_SQUARES = 64


@dataclass(frozen=True)
class Fit:
    """How a region becomes a square of the encoder's input size.

    "square" stretches it (the paper's way). "pad" keeps its aspect: the longer side fills the square, the region lies
    in the middle of the colour `fill` (ILIAS's way). "crop" keeps its aspect: the shorter side becomes `short_side`
    pixels, and the middle is cut out (what many backbones were trained with); where the middle lies between two pixels,
    transformers takes the lower one, torchvision (`to_even`) the even one.
    """

    kind: str = "square"
    fill: tuple[int, int, int] = (0, 0, 0)
    short_side: int = 0
    to_even: bool = False

    def __str__(self) -> str:
        if self.kind == "pad":
            return "pad:" + "/".join(map(str, self.fill))
        if self.kind == "crop":
            return f"crop:{self.short_side}" + (":even" if self.to_even else "")
        return self.kind

    def shorter_side(self, input_size: int) -> int:
        """What the shorter side of a region becomes at most, in pixels."""
        return self.short_side if self.kind == "crop" else input_size

    def apply(self, region: Image.Image, input_size: int, resampling: Image.Resampling) -> Image.Image:
        """Resize an RGB region to (input_size, input_size)."""
        width, height = region.size
        if self.kind == "pad":
            longer = max(width, height)
            size = (max(input_size * width // longer, 1), max(input_size * height // longer, 1))
            square = Image.new("RGB", (input_size, input_size), self.fill)
            square.paste(region.resize(size, resampling), ((input_size - size[0]) // 2, (input_size - size[1]) // 2))
            return square
        if self.kind == "crop":
            shorter = min(width, height)
            size = (self.short_side * width // shorter, self.short_side * height // shorter)
            left, top = (round((side - input_size) / 2) if self.to_even else (side - input_size) // 2 for side in size)
            if size[0] * size[1] <= _WHOLE_SQUARES * self.short_side**2:
                return region.resize(size, resampling).crop((left, top, left + input_size, top + input_size))
            # Of a thin region only the middle, to within a rounding: all of it could be larger than memory.
            scale_x, scale_y = width / size[0], height / size[1]
            middle = (left * scale_x, top * scale_y, (left + input_size) * scale_x, (top + input_size) * scale_y)
            return region.resize((input_size, input_size), resampling, box=middle)
        return region.resize((input_size, input_size), resampling)


SQUARE = Fit()


def shrink_factor(finest_side: float, input_size: int, fit: Fit = SQUARE) -> float:
    """How much an image may be reduced while regions of side `finest_side` keep enough pixels for `input_size`."""
    return max(finest_side / (fit.shorter_side(input_size) * DECODING_GAP), 1.0)


def cut_regions(
    picture: Picture,
    boxes: npt.NDArray[np.floating],
    input_size: int,
    resampling: str = "bilinear",
    fit: Fit = SQUARE,
) -> npt.NDArray[np.uint8]:
    """Crop each box and resize it to a square.

    Large regions are resized from a copy of the picture halved beforehand, which costs a fraction of the time.

    Args:
        picture: the decoded image.
        boxes: (N, 4) xyxy in pixels of the upright original.
        input_size: side of the square output in pixels.
        resampling: a key of `RESAMPLING`, with Pillow's antialiasing.
        fit: how regions that are not square become so; by default their aspect is not kept (method of the paper).

    Returns:
        (N, input_size, input_size, 3) uint8 RGB.
    """
    filter_ = RESAMPLING[resampling]
    halvings = [picture.pixels]
    cuts = np.empty((len(boxes), input_size, input_size, 3), dtype=np.uint8)
    for index, box in enumerate(boxes):
        depth = _halvings_allowed(box, picture, fit.shorter_side(input_size))
        while len(halvings) <= depth:
            halvings.append(halvings[-1].reduce(2))
        source = halvings[depth]
        crop = source.crop(_whole_pixels(box, picture.size, source.size))
        cuts[index] = np.asarray(fit.apply(crop, input_size, filter_))
    return cuts


def _halvings_allowed(box: npt.NDArray[np.floating], picture: Picture, target_side: int) -> int:
    scale_x, scale_y = picture.pixels.width / picture.size[0], picture.pixels.height / picture.size[1]
    side = min((box[2] - box[0]) * scale_x, (box[3] - box[1]) * scale_y)
    return max(int(np.log2(max(side / (target_side * REDUCING_GAP), 1.0))), 0)


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
