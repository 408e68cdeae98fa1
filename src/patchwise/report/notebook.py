"""Hits and explanations as a notebook shows them: one piece of HTML that needs no script and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from PIL import Image

from patchwise.indexing import QueryPart
from patchwise.report.draw import colour_heat, draw_hit
from patchwise.report.pictures import opened, opened_part
from patchwise.report.pieces import asked_figure, evidence, image_tag, overlay, region_words
from patchwise.report.text import printable, split_by_verdict
from patchwise.search import Explanation, Hit

__all__ = ["explanation_html", "hit_html", "hits_html"]

_HITS = 20
_SMALL, _LARGE = 256, 480
_REGIONS = 10
_TALLEST = 220  # pixels on the screen


def hits_html(hits: Sequence[Hit], parts: Sequence[QueryPart] = (), error: str | None = None) -> str:
    """The query and its first 20 hits, or why it could not be answered."""
    asked = [opened_part(part) for part in parts]
    figures = [asked_figure(part, alone=len(asked) == 1, longest=_SMALL) for part in asked]
    if error is not None:
        summary = f"not answered: {escape(printable(error))}"
    elif hits:
        matches = sum(hit.matches is True for hit in hits)
        summary = f"<b>{_count(len(hits), 'hit')}</b>, of which {matches:,} {'is a match' if matches == 1 else 'match'}"
        if all(hit.matches is None for hit in hits):
            summary = f"<b>{_count(len(hits), 'hit')}</b>"
        if len(split_by_verdict(hits)[1]) == len(hits):
            summary = f"<b>No match</b>; {_count(len(hits), 'hit')} that may be chance"
    else:
        summary = "Nothing matched."
    figures += [_card(hit) for hit in hits[:_HITS]]
    rest = len(hits) - _HITS
    more = f"<p><small>and {rest:,} more, not shown: hits[{_HITS}:]</small></p>" if rest > 0 else ""
    return _shown(f'<p>{summary}</p><div class="row">{"".join(figures)}</div>{more}')


def hit_html(hit: Hit) -> str:
    """One hit as its picture with the box."""
    return _shown(_card(hit, longest=_LARGE, kind="large"))


def explanation_html(explanation: Explanation) -> str:
    """The picture under its heat map, those of the parts of a query of several, and the best regions."""
    picture = opened(explanation, _LARGE)
    best_first = sorted(explanation.regions, key=lambda region: -region.score)[:_REGIONS]
    rows = "".join(
        f'<tr><td class="number">{place}</td><td class="number">{region.score:.3f}</td>'
        f"<td>{region_words(region.level, region.cell)}</td>"
        f"<td>{', '.join(f'{edge:.0f}' for edge in region.box)}</td></tr>"
        for place, region in enumerate(best_first, start=1)
    )
    figures = [_heat(explanation, picture, "all parts together" if explanation.parts else "", "large")]
    figures += [_heat(part, picture, f"part {number}", "") for number, part in enumerate(explanation.parts, start=1)]
    name = printable(explanation.path)
    gone = ""
    if isinstance(picture, str):
        gone = f'<p class="none">The picture cannot be shown: {escape(printable(picture))}</p>'
    return _shown(
        f"<p><b>{escape(name)}</b></p>{gone}"
        f'<div class="row">{"".join(figures)}<table><thead><tr><th></th><th>score</th><th>region</th>'
        f"<th>box of {explanation.size[0]} &times; {explanation.size[1]}</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        + (
            f"<p><small>the best {len(best_first)} of {_count(len(explanation.regions), 'region')}</small></p>"
            if len(best_first) < len(explanation.regions)
            else ""
        )
    )


def _heat(explanation: Explanation, picture: Image.Image | str, caption: str, kind: str) -> str:
    heat = explanation.heat_map()
    low, high = float(heat.min()), float(heat.max())
    if isinstance(picture, str):
        shown = Image.fromarray(colour_heat(heat, low, high))
        scale = _LARGE / max(shown.size)
        shown = shown.resize((max(round(shown.width * scale), 1), max(round(shown.height * scale), 1)))
    else:
        shown = draw_hit(picture, explanation.size, None, longest=_LARGE if kind else _SMALL, heat=heat)
    best = max(explanation.regions, key=lambda region: region.score, default=None)
    boxes = overlay(explanation.size, None if best is None else best.box)
    words = f"{caption}<br>" if caption else ""
    alt = f"heat map of {printable(Path(explanation.path).name)}"
    return (
        f'<figure class="{kind}">{_frame(explanation.size, image_tag(shown, alt, _LARGE) + boxes, large=bool(kind))}'
        f'<figcaption>{words}<small class="scale">{low:.2f}<i></i>{high:.2f}</small></figcaption></figure>'
    )


def _card(hit: Hit, longest: int = _SMALL, kind: str = "") -> str:
    picture = opened(hit, longest)
    name = printable(Path(hit.path).name)
    if isinstance(picture, str):
        shown = f'<p class="none">cannot be shown: {escape(printable(picture))}</p>'
    else:
        inside = image_tag(picture, name, longest) + overlay(hit.size, hit.box, hit=hit)
        shown = _frame(hit.size, inside, large=bool(kind))
    verdict = {True: " &middot; match", False: " &middot; may be chance", None: ""}[hit.matches]
    box = ", ".join(f"{edge:.0f}" for edge in hit.box)
    detail = ""
    if kind:
        lines = [region_words(hit.level, hit.cell), f"box {box} of {hit.size[0]} &times; {hit.size[1]}"]
        lines += [f"{escape(printable(name))}: {escape(printable(str(value)))}" for name, value in hit.metadata.items()]
        detail = f"<br><small>{'<br>'.join(lines)}</small>"
    return (
        f'<figure class="{kind}" title="{escape(printable(hit.path))}">{shown}<figcaption><b>{hit.rank}.</b> '
        f"{escape(name)}<br><b>{hit.score:.3f}</b>{verdict}{evidence(hit)}{detail}</figcaption></figure>"
    )


def _frame(size: tuple[int, int], inside: str, *, large: bool) -> str:
    widest = _TALLEST * (2 if large else 1) * size[0] / size[1]
    return f'<div class="frame" style="max-width:{max(widest, 24):.0f}px">{inside}</div>'


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@cache
def _style() -> str:
    return files("patchwise.report").joinpath("notebook.css").read_text(encoding="utf-8")


def _shown(inside: str) -> str:
    return f'<div class="patchwise-shown"><style>{_style()}</style>{inside}</div>'
