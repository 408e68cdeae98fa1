"""The HTML page: query, hits with boxes and heat maps, in one file that opens from disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from PIL import Image

from patchwise.boxes import Box
from patchwise.report.draw import colour_heat
from patchwise.report.pieces import ReportPart, asked_figure, data_uri, evidence, image_tag, overlay, region_words
from patchwise.report.text import printable
from patchwise.search import Explanation, Hit

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
        card = _card(shown, data_uri(Image.fromarray(colour_heat(heat, low, high)), "PNG"), section.parts)
        (folded if section.verdict and shown.hit.matches is False else cards).append(card)
    rest = ""
    if folded:
        rest = f"""<details><summary>{len(folded)} more that may be chance</summary>
<div class="hits">{"".join(folded)}</div></details>"""
    empty = "" if cards else '<p class="none">Nothing matched.</p>'
    summary = f'<p class="summary">{escape(section.summary)}</p>' if section.summary else ""
    asked = "".join(asked_figure(part, alone=len(section.parts) == 1, longest=_LONGEST) for part in section.parts)
    return f"""<section>
<h2>{escape(printable(section.title))}</h2>{summary}
<div class="row">
<div class="asked">{asked}</div>
<div><div class="hits">{"".join(cards)}{empty}</div>{rest}</div>
</div>
<p class="scale"><span>{low:.2f}</span><i></i><span>{high:.2f}</span> heat map: mean score of the regions at a point</p>
</section>"""


def _card(shown: ReportHit, heat: str, parts: Sequence[ReportPart]) -> str:
    hit = shown.hit
    if isinstance(shown.picture, str):
        picture = f'<p class="none">cannot be shown: {escape(shown.picture)}</p>'
    else:
        picture = f"""{image_tag(shown.picture, printable(Path(hit.path).name), _LONGEST)}\
<img class="heat" src="{heat}" alt="">{overlay(hit.size, hit.box, shown.true_box, shown.explanation.regions, hit)}"""
    box = ", ".join(f"{edge:.0f}" for edge in hit.box)
    note = f"<br><b>{escape(shown.note)}</b>" if shown.note else ""
    fits = "".join(
        f"<br><small>{score:.3f} {_short_name(part)}</small>"
        for part, score in zip(parts, hit.part_scores, strict=False)
    )
    return f"""<figure><div class="frame">{picture}</div>
<figcaption><b>{hit.rank}.</b> <a href="{escape(_file_uri(hit.path))}" title="{escape(printable(hit.path))}">\
{escape(printable(Path(hit.path).name))}</a><br>
score <b>{hit.score:.3f}</b> &middot; {region_words(hit.level, hit.cell)}{evidence(hit)}<br>\
<small>box {box} of {hit.size[0]} &times; {hit.size[1]}</small>\
{fits}{note}</figcaption></figure>"""


def _short_name(part: ReportPart) -> str:
    name = f"“{part.shown}”" if isinstance(part.shown, str) else Path(part.name).name
    return f"{'' if part.weight >= 0 else 'not '}{escape(printable(name))}"


def _file_uri(path: str) -> str:
    return Path(path).absolute().as_uri()
