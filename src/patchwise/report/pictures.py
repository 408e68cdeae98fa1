"""Pictures of hits and queries, opened to be shown; one that cannot be opened gives its reason."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from patchwise.boxes import query_box
from patchwise.errors import ImageError, PatchwiseError
from patchwise.images import read_picture
from patchwise.indexing import QueryPart, open_query
from patchwise.report.pieces import ReportPart
from patchwise.search import Explanation, Hit

__all__ = ["opened", "opened_part"]


def opened(shown: Hit | Explanation, longest: int) -> Image.Image | str:
    """The picture, its longer side at least `longest` pixels where it has so many; or why it cannot be shown."""
    try:
        if shown.source is not None:
            return shown.source.read(longest)
        return read_picture(Path(shown.path), shrink=lambda size: max(size) / (2 * longest)).pixels
    except PatchwiseError as error:
        return _reason(error)


def opened_part(part: QueryPart) -> ReportPart:
    """A part of a query as it is shown; a web address is not fetched again."""
    if part.picture is None:
        return ReportPart(str(part.text), name=part.name, weight=part.weight)
    if str(part.picture).lower().startswith(("http://", "https://")):
        return ReportPart(part.name, name=part.name, weight=part.weight)
    try:
        picture = open_query(part.picture)
        box = None if part.box is None else query_box(part.box, picture.size)
    except PatchwiseError as error:
        return ReportPart(f"{part.name}: cannot be shown: {_reason(error)}", name=part.name, weight=part.weight)
    return ReportPart(picture.pixels, picture.size, box, Path(part.name).name, part.weight)


def _reason(error: PatchwiseError) -> str:
    return error.reason if isinstance(error, ImageError) else str(error)
