"""The HTML page: query, hits with boxes and heat maps, in one file that opens from disk."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from PIL import Image

from patchwise.boxes import Box
from patchwise.report.draw import colour_heat, thumbnail
from patchwise.report.text import by_chance, grid_place, printable
from patchwise.search import Explanation, Hit, RegionScore

__all__ = ["ReportHit", "ReportPart", "ReportSection", "render_html"]

_LONGEST = 480


@dataclass(frozen=True)
class ReportHit:
    """One hit as shown: `picture` is the decoded image, or the reason why it cannot be shown.

    `true_box` and `note` are for evaluations, where the answer is known.
    """

    hit: Hit
    explanation: Explanation
    picture: Image.Image | str
    true_box: Box | None = None
    note: str = ""


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


@dataclass(frozen=True)
class ReportSection:
    """One query, of one part or several, and its hits; with `verdict`, those that may be chance are folded away."""

    title: str
    parts: Sequence[ReportPart]
    hits: Sequence[ReportHit]
    summary: str = ""
    verdict: bool = False


def render_html(title: str, sections: Sequence[ReportSection], footer: str = "") -> str:
    """A complete page, images included; it needs no network and no other file."""
    page = Template(files("patchwise.report").joinpath("page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(title),
        sections="\n".join(_section(section) for section in sections),
        footer=escape(footer),
    )


def _section(section: ReportSection) -> str:
    heats = [hit.explanation.heat_map() for hit in section.hits]
    # One scale for all hits of a query, so that bright means the same in each of them.
    low = min((float(heat.min()) for heat in heats), default=0.0)
    high = max((float(heat.max()) for heat in heats), default=1.0)
    cards: list[str] = []
    folded: list[str] = []
    for shown, heat in zip(section.hits, heats, strict=True):
        card = _card(shown, _data_uri(Image.fromarray(colour_heat(heat, low, high)), "PNG"), section.parts)
        (folded if section.verdict and shown.hit.matches is False else cards).append(card)
    rest = ""
    if folded:
        rest = f"""<details><summary>{len(folded)} more that may be chance</summary>
<div class="hits">{"".join(folded)}</div></details>"""
    empty = "" if cards else '<p class="none">Nothing matched.</p>'
    summary = f'<p class="summary">{escape(section.summary)}</p>' if section.summary else ""
    return f"""<section>
<h2>{escape(printable(section.title))}</h2>{summary}
<div class="row">
<div class="asked">{"".join(_asked(part, alone=len(section.parts) == 1) for part in section.parts)}</div>
<div><div class="hits">{"".join(cards)}{empty}</div>{rest}</div>
</div>
<p class="scale"><span>{low:.2f}</span><i></i><span>{high:.2f}</span> heat map: mean score of the regions at a point</p>
</section>"""


def _asked(part: ReportPart, *, alone: bool) -> str:
    if isinstance(part.shown, str):
        content = f'<p class="text">{escape(printable(part.shown))}</p>'
    else:
        content = f'<div class="frame">{_image(part.shown, "query")}{_overlay(part.size, part.box, None, [])}</div>'
    caption, kind = "query", "query"
    if not alone:
        caption = f"{'wanted' if part.weight >= 0 else 'not wanted'}, weight {abs(part.weight):g}"
        kind = "query" if part.weight >= 0 else "query unwanted"
    name = "" if alone or isinstance(part.shown, str) else f"<br>{escape(printable(part.name))}"
    return f'<figure class="{kind}">{content}<figcaption><b>{caption}</b>{name}</figcaption></figure>'


def _card(shown: ReportHit, heat: str, parts: Sequence[ReportPart]) -> str:
    hit = shown.hit
    if isinstance(shown.picture, str):
        picture = f'<p class="none">cannot be shown: {escape(shown.picture)}</p>'
    else:
        picture = f"""{_image(shown.picture, printable(Path(hit.path).name))}\
<img class="heat" src="{heat}" alt="">{_overlay(hit.size, hit.box, shown.true_box, shown.explanation.regions, hit)}"""
    where = f"level {hit.level}, row {hit.cell[0]}, column {hit.cell[1]}" if hit.level > 0 else "whole image"
    where = "a box outside any grid" if hit.level < 0 else where
    box = ", ".join(f"{edge:.0f}" for edge in hit.box)
    note = f"<br><b>{escape(shown.note)}</b>" if shown.note else ""
    fits = "".join(
        f"<br><small>{score:.3f} {_short_name(part)}</small>"
        for part, score in zip(parts, hit.part_scores, strict=False)
    )
    return f"""<figure><div class="frame">{picture}</div>
<figcaption><b>{hit.rank}.</b> <a href="{escape(_file_uri(hit.path))}" title="{escape(printable(hit.path))}">\
{escape(printable(Path(hit.path).name))}</a><br>
score <b>{hit.score:.3f}</b> &middot; {where}{_evidence(hit)}<br>\
<small>box {box} of {hit.size[0]} &times; {hit.size[1]}</small>\
{fits}{note}</figcaption></figure>"""


def _evidence(hit: Hit) -> str:
    said = []
    if hit.expected_false_matches is not None:
        said.append(f"by chance {by_chance(hit.expected_false_matches)}")
    if hit.geometry is not None:
        said.append(f"{hit.geometry.verdict} ({hit.geometry.inliers} points)")
    if hit.alike:
        names = ", ".join(printable(Path(other.path).name) for other in hit.alike)
        said.append(f'<span title="{escape(names)}">and {len(hit.alike)} alike</span>')
    return "".join(f"<br><small>{each}</small>" for each in said)


def _short_name(part: ReportPart) -> str:
    name = f"“{part.shown}”" if isinstance(part.shown, str) else Path(part.name).name
    return f"{'' if part.weight >= 0 else 'not '}{escape(printable(name))}"


def _overlay(
    size: tuple[int, int], box: Box | None, true_box: Box | None, regions: Sequence[RegionScore], hit: Hit | None = None
) -> str:
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


def _image(picture: Image.Image, alt: str) -> str:
    return f'<img src="{_data_uri(thumbnail(picture, _LONGEST), "JPEG")}" alt="{escape(alt)}">'


def _data_uri(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 82} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _file_uri(path: str) -> str:
    return Path(path).absolute().as_uri()
