"""Hits as text: the table on the screen, JSON, CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from patchwise.boxes import Box
from patchwise.indexing import QueryPart
from patchwise.search import Hit

__all__ = ["CSV_HEADER", "csv_rows", "grid_place", "printable", "result_to_json", "table_lines"]

CSV_HEADER = ("query", "rank", "path", "score", "x0", "y0", "x1", "y1", "level", "row", "column")


def result_to_json(
    query: str, box: Box | None, hits: Sequence[Hit], error: str | None = None, parts: Sequence[QueryPart] = ()
) -> dict[str, Any]:
    """One query's answer as plain data: `query`, `box`, `hits`, and `error` where it could not be answered.

    A query that is more than a picture and its box also has its `parts`, and where there are several of them, each hit
    its `part_scores`.
    """
    answer: dict[str, Any] = {"query": query, "box": None if box is None else list(box)}
    if len(parts) > 1 or any(part.text is not None for part in parts):
        answer["parts"] = [part.to_json() for part in parts]
    if error is not None:
        answer["error"] = error
    answer["hits"] = [_hit_to_json(hit) for hit in hits]
    return answer


def _hit_to_json(hit: Hit) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "rank": hit.rank,
        "path": hit.path,
        "score": round(hit.score, 6),
        "box": list(hit.box),
        "level": hit.level,
        "cell": list(hit.cell),
        "size": list(hit.size),
        "regions": [
            {
                "box": list(region.box),
                "level": region.level,
                "cell": list(region.cell),
                "score": round(region.score, 6),
            }
            for region in hit.regions
        ],
    }
    if hit.part_scores:
        plain["part_scores"] = [round(score, 6) for score in hit.part_scores]
    return plain


def csv_rows(query: str, hits: Sequence[Hit]) -> Iterator[tuple[str | int | float, ...]]:
    """Rows under `CSV_HEADER`."""
    for hit in hits:
        yield (query, hit.rank, hit.path, round(hit.score, 6), *hit.box, hit.level, *hit.cell)


def table_lines(hits: Sequence[Hit]) -> Iterator[str]:
    """Aligned columns for a terminal; the path comes last and is never shortened."""
    yield f"{'rank':>4}  {'score':>6}  {'region':<12} {'box (x0,y0,x1,y1)':<23}  path"
    for hit in hits:
        where = "whole image" if hit.level == 0 else grid_place(hit.level, hit.cell)
        box = ",".join(f"{edge:.0f}" for edge in hit.box)
        yield f"{hit.rank:>4}  {hit.score:>6.3f}  {where:<12} {box:<23}  {printable(hit.path)}"


def grid_place(level: int, cell: tuple[int, int]) -> str:
    """Level, row and column of a region, or `box` for one that has no place in a grid."""
    return "box" if level < 0 else f"L{level} {cell[0]},{cell[1]}"


def printable(path: str) -> str:
    """A path on one line: control characters and bytes that are no text are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in path)
