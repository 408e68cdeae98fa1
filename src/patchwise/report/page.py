"""A search's page: the pictures are opened, the hits explained, and the file written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from patchwise.boxes import Box, query_box
from patchwise.errors import ImageError, StorageFull
from patchwise.images import DEFAULT_MAX_PIXELS, read_picture
from patchwise.indexing import Query, QueryPart, encode_query
from patchwise.indexing.parts import query_parts
from patchwise.indexing.query import open_query
from patchwise.report.html import ReportHit, ReportPart, ReportSection, render_html
from patchwise.report.text import split_by_verdict
from patchwise.search import Hit

if TYPE_CHECKING:
    from patchwise.gallery import Gallery

__all__ = ["search_section", "write_page", "write_search_page"]


def search_section(
    gallery: Gallery,
    query: Query | None,
    box: Box | None,
    hits: Sequence[Hit],
    *,
    title: str,
    text: str | None = None,
    verdict: bool = False,
    fetch: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> ReportSection:
    """One query, given as for `Gallery.search`, with its hits, each with its picture and explanation.

    With `verdict`, hits that may well be chance are folded away.
    """
    opened = [_opened(part, fetch, max_pixels) for part in query_parts(query, text=text, box=box)]
    vector = encode_query(gallery.encoder, [part for part, _ in opened], max_pixels=max_pixels).vector
    shown = []
    for hit in hits:
        try:
            image = read_picture(Path(hit.path), max_pixels=max_pixels, shrink=lambda size: max(size) / 960).pixels
        except ImageError as error:
            shown.append(ReportHit(hit, gallery.explain_vector(vector, hit), error.reason))
        else:
            shown.append(ReportHit(hit, gallery.explain_vector(vector, hit), image))
    return ReportSection(title, [asked for _, asked in opened], shown, verdict=verdict)


def _opened(part: QueryPart, fetch: bool, max_pixels: int) -> tuple[QueryPart, ReportPart]:
    """The part with its picture decoded, so that it is read only once, and how it is shown."""
    if part.picture is None:
        return part, ReportPart(str(part.text), name=part.name, weight=part.weight)
    picture = open_query(part.picture, fetch=fetch, max_pixels=max_pixels)
    box = None if part.box is None else query_box(part.box, picture.size)
    shown = ReportPart(picture.pixels, picture.size, box, part.name, part.weight)
    return replace(part, picture=np.asarray(picture.pixels)), shown


def write_search_page(
    path: str | os.PathLike[str],
    gallery: Gallery,
    query: Query | None,
    box: Box | None,
    hits: Sequence[Hit],
    *,
    title: str,
    text: str | None = None,
    verdict: bool = False,
    fetch: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> None:
    """Write the page of one search, its query given as for `Gallery.search`; it needs no other file.

    Raises:
        StorageFull: it cannot be written.
    """
    section = search_section(
        gallery, query, box, hits, title=title, text=text, verdict=verdict, fetch=fetch, max_pixels=max_pixels
    )
    where = f"{gallery.path.absolute()}: {len(gallery):,} images, {gallery.info().regions_strategy}"
    found = f"{len(hits)} hits"
    if verdict:
        found = f"{len(split_by_verdict(hits)[0])} matches among {found}"
    write_page(path, render_html(f"patchwise: {found}", [section], where))


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Write a rendered page.

    Raises:
        StorageFull: it cannot be written.
    """
    try:
        # Names of files may hold bytes that are no text; they are written as escapes.
        Path(path).write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StorageFull(f"{path}: cannot be written ({error.strerror or error})") from error
