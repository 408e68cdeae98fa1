"""Hits and explanations drawn with matplotlib; imported only where a figure is asked for.

Drawn with matplotlib's objects and never with pyplot: nothing global changes, no window opens, any thread may draw.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from patchwise.boxes import Box
from patchwise.errors import MissingExtra, UsageError
from patchwise.indexing import QueryPart
from patchwise.report.draw import BOX_COLOUR
from patchwise.report.pictures import opened, opened_part
from patchwise.report.pieces import ReportPart
from patchwise.report.text import by_chance, printable
from patchwise.search import Explanation, Hit

try:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.patches import Polygon, Rectangle
except ImportError as error:
    raise MissingExtra("drawing hits", "eval") from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

__all__ = ["NotebookFigure", "plot_explanation", "plot_hits"]

_LINE = tuple(channel / 255 for channel in BOX_COLOUR)
_OUTLINE = "#35d07f"
_LONGEST = 480
_NAME = 24
_LINES = 8
_CAPTION = 0.55  # inches for two lines
_LOWEST, _TALLEST = 0.3, 1.5  # height of a panel, in widths


class NotebookFigure(Figure):
    """A figure that a notebook shows although pyplot knows nothing of it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def plot_hits(
    hits: Sequence[Hit], parts: Sequence[QueryPart] = (), *, columns: int = 5, most: int = 20, width: float = 12.0
) -> NotebookFigure:
    """The parts of the query and then at most `most` hits, each in a panel whose axes are pixels of the original.

    Raises:
        UsageError: fewer than one column or hit, or no width.
    """
    if columns < 1 or most < 1 or not 0 < width < math.inf:
        raise UsageError(f"columns and most must be at least 1 and width above 0, not {columns}, {most} and {width}")
    asked = [opened_part(part) for part in parts]
    panels = len(asked) + min(len(hits), most)
    columns = max(min(columns, panels), 1)
    shapes = [(4, 3) if isinstance(part.shown, str) else part.size for part in asked]
    shapes += [hit.size for hit in hits[:most]]
    tall = [min(max(height / across, _LOWEST), _TALLEST) * width / columns + _CAPTION for across, height in shapes]
    heights = [max(tall[first : first + columns]) for first in range(0, panels, columns)] or [_CAPTION]
    figure = NotebookFigure(figsize=(width, sum(heights) + _CAPTION), layout="constrained")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for place, part in enumerate(asked):
        _asked(figure.add_subplot(grid[divmod(place, columns)]), part, alone=len(asked) == 1)
    for place, hit in enumerate(hits[:most], start=len(asked)):
        axes = figure.add_subplot(grid[divmod(place, columns)])
        _picture(axes, opened(hit, _LONGEST), hit.size)
        expected = hit.expected_false_matches
        said = " match" if hit.matches else "" if expected is None else f", by chance {by_chance(expected)}"
        _title(axes, f"{hit.rank}. {_short(Path(hit.path).name)}\n{hit.score:.3f}{said}")
        _box(axes, hit.box)
        for region in hit.instances:
            _box(axes, region.box, dashed=True)
        if hit.geometry is not None and hit.geometry.outline:
            axes.add_patch(Polygon(np.array(hit.geometry.outline), fill=False, edgecolor=_OUTLINE, linewidth=1.5))
    if not hits:
        figure.suptitle("Nothing matched.", fontsize=10)
    elif len(hits) > most:
        figure.suptitle(f"the first {most:,} of {len(hits):,} hits", fontsize=10)
    return figure


def plot_explanation(explanation: Explanation, *, width: float = 10.0) -> NotebookFigure:
    """The picture, and under its heat map with the best region: for the query, and for its parts if it has several.

    Raises:
        UsageError: no width.
    """
    if not 0 < width < math.inf:
        raise UsageError(f"width must be above 0, not {width}")
    picture = opened(explanation, _LONGEST)
    shown = [explanation, *explanation.parts]
    columns = min(len(shown) + 1, 4)
    rows = math.ceil((len(shown) + 1) / columns)
    shape = min(max(explanation.size[1] / explanation.size[0], 0.4), 2.0)
    figure = NotebookFigure(figsize=(width, rows * (width / columns * shape + 0.9)), layout="constrained")
    axes = figure.add_subplot(rows, columns, 1)
    _picture(axes, picture, explanation.size)
    _title(axes, _short(Path(explanation.path).name))
    for number, one in enumerate(shown):
        axes = figure.add_subplot(rows, columns, number + 2)
        _picture(axes, picture if not isinstance(picture, str) else "", one.size)
        heat = axes.imshow(
            one.heat_map(), cmap="inferno", alpha=0.55, extent=_extent(one.size), interpolation="bilinear"
        )
        _title(axes, f"part {number}" if number else ("all parts together" if explanation.parts else "heat map"))
        best = max(one.regions, key=lambda region: region.score, default=None)
        if best is not None:
            _box(axes, best.box)
        figure.colorbar(heat, ax=axes, orientation="horizontal", shrink=0.8, pad=0.02).ax.tick_params(labelsize=7)
    return figure


def _asked(axes: Axes, part: ReportPart, *, alone: bool) -> None:
    if isinstance(part.shown, str):
        axes.set_axis_off()
        _text(axes, part.shown)
    else:
        _picture(axes, part.shown, part.size)
        if part.box is not None:
            _box(axes, part.box)
        for side in axes.spines.values():
            side.set_visible(True)
            side.set_linewidth(2)
    wanted = "wanted" if part.weight >= 0 else "not wanted"
    _title(axes, "query" if alone else f"{wanted}, weight {abs(part.weight):g}\n{_short(Path(part.name).name)}")


def _picture(axes: Axes, picture: Image.Image | str, size: tuple[int, int]) -> None:
    if isinstance(picture, str):
        axes.set_xlim(0, size[0])
        axes.set_ylim(size[1], 0)
        axes.set_aspect("equal")
        if picture:
            _text(axes, f"cannot be shown: {picture}")
    else:
        axes.imshow(np.asarray(picture), extent=_extent(size))
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(isinstance(picture, str))


def _extent(size: tuple[int, int]) -> tuple[float, float, float, float]:
    return (0, size[0], size[1], 0)


def _box(axes: Axes, box: Box, *, dashed: bool = False) -> None:
    x0, y0, x1, y1 = box
    axes.add_patch(
        Rectangle(
            (x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=_LINE, linewidth=2, linestyle=":" if dashed else "-"
        )
    )


def _title(axes: Axes, text: str) -> None:
    axes.set_anchor("N")
    axes.set_title(_drawable(text), fontsize=9, parse_math=False)


def _text(axes: Axes, text: str) -> None:
    middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    # Wrapped here: matplotlib's own wrapping takes dollar signs for formulas.
    lines = textwrap.wrap(_drawable(printable(text)), _NAME, max_lines=_LINES, placeholder=" …")
    axes.text(0.5, 0.5, "\n".join(lines), fontsize=9, parse_math=False, **middle)


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _NAME else f"{name[: _NAME // 2 - 1]}…{name[-_NAME // 2 :]}"


def _drawable(text: str) -> str:
    """The text with a question mark for what no font that matplotlib is set to use can write."""
    known = _characters(tuple(FontProperties().get_family()))
    return "".join(c if c == "\n" or ord(c) in known else "?" for c in text)


@cache
def _characters(families: tuple[str, ...]) -> frozenset[int]:
    fonts = (get_font(findfont(FontProperties(family=[family]))) for family in families)
    return frozenset(character for font in fonts for character in font.get_charmap())
