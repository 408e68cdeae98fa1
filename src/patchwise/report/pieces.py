"""Pieces of HTML that the page and notebooks share: pictures with boxes over them, what was asked, what is known."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from patchwise.boxes import Box
from patchwise.report.draw import thumbnail
from patchwise.report.text import by_chance, grid_place, printable
from patchwise.search import Hit, RegionScore

__all__ = ["ReportPart", "asked_figure", "data_uri", "evidence", "image_tag", "overlay", "region_words"]


@dataclass(frozen=True)
class ReportPart:
    """One part of a query as shown: a picture with `box` in pixels of its upright `size`, or a text.

    `name` and `weight` tell the parts of a combined query apart.
    """

    shown: Image.Image | str
    size: tuple[int, int] = (1, 1)
    box: Box | None = None
    name: str = "query"
    weight: float = 1.0


def asked_figure(part: ReportPart, *, alone: bool, longest: int) -> str:
    """A part of the query; where it is one of several, with its weight."""
    if isinstance(part.shown, str):
        content = f'<p class="text">{escape(printable(part.shown))}</p>'
    else:
        content = f'<div class="frame">{image_tag(part.shown, "query", longest)}{overlay(part.size, part.box)}</div>'
    caption, kind = "query", "query"
    if not alone:
        caption = f"{'wanted' if part.weight >= 0 else 'not wanted'}, weight {abs(part.weight):g}"
        kind = "query" if part.weight >= 0 else "query unwanted"
    name = "" if alone or isinstance(part.shown, str) else f"<br>{escape(printable(part.name))}"
    return f'<figure class="{kind}">{content}<figcaption><b>{caption}</b>{name}</figcaption></figure>'


def region_words(level: int, cell: tuple[int, int]) -> str:
    """Where a region lies, in words."""
    if level < 0:
        return "a box outside any grid"
    return f"level {level}, row {cell[0]}, column {cell[1]}" if level > 0 else "whole image"


def evidence(hit: Hit) -> str:
    """What is known of a hit besides its score, one line each."""
    said = []
    if hit.expected_false_matches is not None:
        said.append(f"by chance {by_chance(hit.expected_false_matches)}")
    if hit.geometry is not None:
        said.append(f"{hit.geometry.verdict} ({hit.geometry.inliers} points)")
    if hit.alike:
        names = ", ".join(printable(Path(other.path).name) for other in hit.alike)
        said.append(f'<span title="{escape(names)}">and {len(hit.alike)} alike</span>')
    return "".join(f"<br><small>{each}</small>" for each in said)


def overlay(
    size: tuple[int, int],
    box: Box | None,
    true_box: Box | None = None,
    regions: Sequence[RegionScore] = (),
    hit: Hit | None = None,
) -> str:
    """Boxes over a picture of upright `size`, whatever size it is shown at, and what a second look at a hit found."""
    shapes = [
        _rectangle("region", region.box, f"{grid_place(region.level, region.cell)}: {region.score:.3f}")
        for region in regions
    ]
    shapes += [_rectangle(kind, edges) for edges, kind in ((true_box, "true"), (box, "best")) if edges is not None]
    if hit is not None:
        shapes += [_rectangle("best more", region.box) for region in hit.instances]
        if hit.geometry is not None and hit.geometry.outline:
            corners = " ".join(f"{x:g},{y:g}" for x, y in hit.geometry.outline)
            shapes.append(f'<polygon class="outline" points="{corners}"/>')
    view = f'viewBox="0 0 {size[0]} {size[1]}" preserveAspectRatio="none"'
    return f"<svg {view}>{''.join(shapes)}</svg>"


def _rectangle(kind: str, box: Box, label: str = "") -> str:
    x0, y0, x1, y1 = box
    inside = f"<title>{escape(label)}</title>" if label else ""
    return f'<rect class="{kind}" x="{x0:g}" y="{y0:g}" width="{x1 - x0:g}" height="{y1 - y0:g}">{inside}</rect>'


def image_tag(picture: Image.Image, alt: str, longest: int) -> str:
    """A picture inside the page, its longer side at most `longest` pixels."""
    return f'<img src="{data_uri(thumbnail(picture, longest), "JPEG")}" alt="{escape(alt)}">'


def data_uri(picture: Image.Image, kind: str) -> str:
    """A picture as JPEG or PNG in an address."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 82} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
