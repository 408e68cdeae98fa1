"""Boxes and heat maps drawn on pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from patchwise.boxes import Box

__all__ = ["BOX_COLOUR", "colour_heat", "contact_sheet", "draw_hit", "thumbnail"]

BOX_COLOUR = (255, 64, 96)

# Stops of a dark-to-bright scale that also reads in grey (after matplotlib's "inferno").
_STOPS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=np.float64)


def thumbnail(picture: Image.Image, longest: int) -> Image.Image:
    """A copy with its longer side at most `longest` pixels."""
    scale = min(longest / max(picture.size), 1.0)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0) if size != picture.size else picture.copy()


def colour_heat(heat: npt.NDArray[np.floating], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Colours of scores between `low` (dark) and `high` (bright): (H, W) to (H, W, 3) uint8."""
    position = np.clip((heat - low) / max(high - low, 1e-9), 0, 1) * (len(_STOPS) - 1)
    below = np.minimum(position.astype(int), len(_STOPS) - 2)
    share = (position - below)[..., None]
    colours: npt.NDArray[np.uint8] = np.rint(_STOPS[below] * (1 - share) + _STOPS[below + 1] * share).astype(np.uint8)
    return colours


def draw_hit(
    picture: Image.Image,
    size: tuple[int, int],
    box: Box | None,
    *,
    longest: int = 320,
    heat: npt.NDArray[np.floating] | None = None,
    heat_range: tuple[float, float] | None = None,
    true_box: Box | None = None,
) -> Image.Image:
    """A small copy of an image with its predicted box, and over it, if given, the heat map and the true box (white).

    Args:
        picture: the decoded image, at any scale.
        size: upright (width, height) of the original, in whose pixels the boxes are given.
        box: the predicted box.
        longest: longer side of the result in pixels.
        heat: scores from `Explanation.heat_map`.
        heat_range: scores drawn darkest and brightest (default: those of `heat`).
        true_box: where the object is known to be.
    """
    small = thumbnail(picture, longest)
    if heat is not None:
        low, high = heat_range or (float(heat.min()), float(heat.max()))
        colours = Image.fromarray(colour_heat(heat, low, high)).resize(small.size, Image.Resampling.BILINEAR)
        small = Image.blend(small, colours, 0.5)
    pen = ImageDraw.Draw(small)
    for edges, colour in ((true_box, (255, 255, 255)), (box, BOX_COLOUR)):
        if edges is not None:
            x_scale, y_scale = small.width / size[0], small.height / size[1]
            x0, y0 = edges[0] * x_scale, edges[1] * y_scale
            x1, y1 = max(edges[2] * x_scale - 1, x0), max(edges[3] * y_scale - 1, y0)
            pen.rectangle((x0, y0, x1, y1), outline=colour, width=max(longest // 100, 2))
    return small


def contact_sheet(
    pictures: Sequence[tuple[str, Image.Image]], *, columns: int, cell: int = 240, background: str = "white"
) -> Image.Image:
    """Captioned pictures in rows, each fitted into a square of `cell` pixels."""
    margin, caption = 10, 22
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new(
        "RGB", (columns * (cell + margin) + margin, rows * (cell + caption + margin) + margin), background
    )
    pen = ImageDraw.Draw(sheet)
    for index, (text, picture) in enumerate(pictures):
        left = margin + index % columns * (cell + margin)
        top = margin + index // columns * (cell + caption + margin)
        small = thumbnail(picture, cell)
        sheet.paste(small, (left + (cell - small.width) // 2, top + (cell - small.height) // 2))
        pen.text((left + cell / 2, top + cell + caption / 2), text, fill="black", anchor="mm", font_size=13)
    return sheet
