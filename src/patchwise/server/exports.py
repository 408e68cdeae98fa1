"""Answers as files: JSON, CSV, a page, a list of paths."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, NamedTuple

from PIL import Image

from patchwise import __version__
from patchwise.boxes import query_box
from patchwise.errors import ImageError, UsageError
from patchwise.images import read_picture
from patchwise.indexing import QueryPart, encode_query
from patchwise.report import CSV_HEADER, ReportHit, ReportPart, ReportSection, csv_rows, render_html
from patchwise.search import Explanation, Hit
from patchwise.second_look import NoLongerWanted
from patchwise.server.contents import bytes_of
from patchwise.server.dependencies import State
from patchwise.server.galleries import ServedGallery
from patchwise.server.problems import Problem
from patchwise.server.searching import Found, answer_of, each_by_itself, wanted_or_problem
from patchwise.wire import shown_text, text_of_path

__all__ = ["EXPORTS", "Export", "exported"]

_MOST_IN_PAGE = 200
_SHOWN_EDGE = 960
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


class Export(NamedTuple):
    """A kind of file."""

    suffix: str
    media_type: str


EXPORTS = {
    "json": Export("json", "application/json"),
    "csv": Export("csv", "text/csv; charset=utf-8"),
    "html": Export("html", "text/html; charset=utf-8"),
    "paths": Export("txt", "text/plain; charset=utf-8"),
}


def exported(
    server: State,
    served: ServedGallery,
    found: Found,
    kind: Literal["json", "csv", "html", "paths"],
    still_wanted: Callable[[], bool],
) -> bytes:
    """The file's bytes, for as long as they are wanted.

    Raises:
        Problem: a page of too many hits.
    """
    if kind == "json":
        answer = answer_of(served, found).model_dump(mode="json", exclude_unset=True)
        return json.dumps(answer, ensure_ascii=False, indent=1).encode()
    if kind == "csv":
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        for row in csv_rows(found.label, found.hits):
            writer.writerow([_cell(value) if isinstance(value, str) else value for value in row])
        return table.getvalue().encode()
    if kind == "paths":
        return b"".join(os.fsencode(hit.path) + b"\n" for hit in found.hits)
    if len(found.hits) > _MOST_IN_PAGE:
        raise Problem(422, f"a page holds at most {_MOST_IN_PAGE} hits; ask for fewer by k", "usage")
    with wanted_or_problem(still_wanted):
        return _page(server, served, found, still_wanted).encode("utf-8", "backslashreplace")


def _cell(text: str) -> str:
    """A text as spreadsheets take it for one, and not for a formula."""
    plain = text_of_path(text)
    return f"'{plain}" if plain.startswith(_FORMULAS) else plain


def _page(server: State, served: ServedGallery, found: Found, still_wanted: Callable[[], bool]) -> str:
    asked = encode_query(served.gallery.encoder, found.parts)
    alone = asked.part_vectors if found.request.fuse and len(found.parts) > 1 else ()

    def explained(hit: Hit) -> Explanation:
        if len(alone):
            return each_by_itself([served.gallery.explain_vector(vector, hit) for vector in alone])
        return served.gallery.explain_vector(asked.vector, hit)

    hits = []
    for hit in found.hits:
        if not still_wanted():
            raise NoLongerWanted
        with suppress(UsageError):  # it has just been removed
            hits.append(ReportHit(hit, explained(hit), _picture(server, served, hit)))
    section = ReportSection(found.label, [_part(part) for part in found.parts], hits, verdict=True)
    where = f"patchwise {__version__}, gallery {served.name}: {len(served.gallery):,} images"
    return render_html(f"patchwise: {len(hits)} hits", [section], where)


def _picture(server: State, served: ServedGallery, hit: Hit) -> Image.Image | str:
    files = served.gallery.images([hit.path]).images
    if not files:
        return "it is no longer in the gallery"
    try:
        return read_picture(
            bytes_of(server, served, files[0].digest),
            name=shown_text(hit.path),
            max_pixels=server.settings.max_pixels,
            shrink=lambda size: max(size) / _SHOWN_EDGE,
        ).pixels
    except ImageError as error:
        return error.reason
    except Problem as problem:
        return str(problem.detail)


def _part(part: QueryPart) -> ReportPart:
    if part.picture is None:
        return ReportPart(str(part.text), name=part.name, weight=part.weight)
    pixels = Image.fromarray(part.picture)  # type: ignore[arg-type]
    box = None if part.box is None else query_box(part.box, pixels.size)
    return ReportPart(pixels, pixels.size, box, part.name, part.weight)
