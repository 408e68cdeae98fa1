"""A search's page: the pictures are opened, the hits explained, and the file written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from patchwise.boxes import Box
from patchwise.errors import ImageError, StorageFull
from patchwise.images import DEFAULT_MAX_PIXELS, read_picture
from patchwise.indexing.query import QuerySource, open_query, query_vector
from patchwise.report.html import ReportHit, ReportSection, render_html
from patchwise.search import Hit

if TYPE_CHECKING:
    from patchwise.gallery import Gallery

__all__ = ["search_section", "write_page", "write_search_page"]


def search_section(
    gallery: Gallery,
    query: QuerySource,
    box: Box | None,
    hits: Sequence[Hit],
    *,
    title: str,
    fetch: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> ReportSection:
    """One query with its hits, each with its picture and explanation."""
    picture = open_query(query, fetch=fetch, max_pixels=max_pixels)
    vector = query_vector(gallery.encoder, picture.pixels, box)
    shown = []
    for hit in hits:
        try:
            image = read_picture(Path(hit.path), max_pixels=max_pixels, shrink=lambda size: max(size) / 960).pixels
        except ImageError as error:
            shown.append(ReportHit(hit, gallery.explain_vector(vector, hit), error.reason))
        else:
            shown.append(ReportHit(hit, gallery.explain_vector(vector, hit), image))
    return ReportSection(title, picture.pixels, picture.size, box, shown)


def write_search_page(
    path: str | os.PathLike[str],
    gallery: Gallery,
    query: QuerySource,
    box: Box | None,
    hits: Sequence[Hit],
    *,
    title: str,
    fetch: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> None:
    """Write the page of one search; it opens from disk and needs no other file.

    Raises:
        StorageFull: it cannot be written.
    """
    section = search_section(gallery, query, box, hits, title=title, fetch=fetch, max_pixels=max_pixels)
    where = f"{gallery.path.absolute()}: {len(gallery):,} images, {gallery.info().regions_strategy}"
    write_page(path, render_html(f"patchwise: {len(hits)} hits", [section], where))


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
