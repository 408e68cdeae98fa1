"""Hits as text: the table on the screen, JSON, CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from patchwise.boxes import Box
from patchwise.indexing import QueryPart
from patchwise.search import MATCH_BELOW, Geometry, Hit, PictureSource, RegionScore

__all__ = [
    "CSV_HEADER",
    "by_chance",
    "csv_rows",
    "grid_place",
    "hit_from_json",
    "printable",
    "region_from_json",
    "result_to_json",
    "split_by_verdict",
    "table_lines",
]

CSV_HEADER = (
    "query",
    "rank",
    "path",
    "score",
    "x0",
    "y0",
    "x1",
    "y1",
    "level",
    "row",
    "column",
    "expected_false_matches",
)


def result_to_json(
    query: str, box: Box | None, hits: Sequence[Hit], error: str | None = None, parts: Sequence[QueryPart] = ()
) -> dict[str, Any]:
    """One query's answer as plain data: `query`, `box`, `hits`, and `error` where it could not be answered.

    A query that is more than a picture and its box also has its `parts`, and where there are several of them, each hit
    its `part_scores`. Hits have `instances`, `geometry`, `metadata` and `alike` where there are such.
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
        "expected_false_matches": _rounded(hit.expected_false_matches),
        "matches": hit.matches,
        "regions": [_region_to_json(region) for region in hit.regions],
    }
    if hit.part_scores:
        plain["part_scores"] = [round(score, 6) for score in hit.part_scores]
    if hit.instances:
        plain["instances"] = [_region_to_json(region) for region in hit.instances]
    if hit.geometry is not None:
        plain["geometry"] = {
            "verdict": hit.geometry.verdict,
            "inliers": hit.geometry.inliers,
            "outline": [[round(x, 2), round(y, 2)] for x, y in hit.geometry.outline],
        }
    if hit.metadata:
        plain["metadata"] = dict(hit.metadata)
    if hit.alike:
        plain["alike"] = [_hit_to_json(other) for other in hit.alike]
    return plain


def _region_to_json(region: RegionScore) -> dict[str, Any]:
    return {
        "box": list(region.box),
        "level": region.level,
        "cell": list(region.cell),
        "score": round(region.score, 6),
    }


def hit_from_json(
    plain: Mapping[str, Any], source_of: Callable[[Mapping[str, Any]], PictureSource | None] = lambda _: None
) -> Hit:
    """The hit that was written as this by `result_to_json`, its numbers rounded as they were there.

    Args:
        plain: the hit as plain data; what else it holds is passed over.
        source_of: says of a hit, or of one in its `alike`, where its picture is opened, if not at its path.

    Raises:
        KeyError, TypeError, ValueError: it is not written so.
    """
    expected = None if plain["expected_false_matches"] is None else float(plain["expected_false_matches"])
    geometry = plain.get("geometry")
    hit = Hit(
        rank=int(plain["rank"]),
        path=str(plain["path"]),
        score=float(plain["score"]),
        box=_four(plain["box"]),
        level=int(plain["level"]),
        cell=_two(plain["cell"]),
        size=_two(plain["size"]),
        regions=tuple(region_from_json(region) for region in plain["regions"]),
        part_scores=tuple(map(float, plain.get("part_scores") or ())),
        expected_false_matches=expected,
        instances=tuple(region_from_json(region) for region in plain.get("instances") or ()),
        geometry=None
        if geometry is None
        else Geometry(
            str(geometry["verdict"]),
            int(geometry["inliers"]),
            tuple((float(x), float(y)) for x, y in geometry["outline"]),
        ),
        alike=tuple(hit_from_json(other, source_of) for other in plain.get("alike") or ()),
        metadata={name: value for name, value in (plain.get("metadata") or {}).items() if value is not None},
        source=source_of(plain),
    )
    if plain["matches"] and not hit.matches:  # rounded up to where matches end
        return replace(hit, expected_false_matches=math.nextafter(MATCH_BELOW, 0))
    return hit


def region_from_json(plain: Mapping[str, Any]) -> RegionScore:
    """A region of a hit or an explanation; raises the same."""
    return RegionScore(_four(plain["box"]), int(plain["level"]), _two(plain["cell"]), float(plain["score"]))


def _four(plain: Sequence[float]) -> Box:
    x0, y0, x1, y1 = map(float, plain)
    return (x0, y0, x1, y1)


def _two(plain: Sequence[int]) -> tuple[int, int]:
    first, second = map(int, plain)
    return (first, second)


def _rounded(expected: float | None) -> float | None:
    return None if expected is None else float(f"{expected:.3g}")


def split_by_verdict(hits: Sequence[Hit]) -> tuple[list[Hit], list[Hit]]:
    """Hits that match, or of which it is not known, and those that may well be chance."""
    return [hit for hit in hits if hit.matches is not False], [hit for hit in hits if hit.matches is False]


def csv_rows(query: str, hits: Sequence[Hit]) -> Iterator[tuple[str | int | float, ...]]:
    """Rows under `CSV_HEADER`."""
    for hit in hits:
        chance = _rounded(hit.expected_false_matches)
        row = (query, hit.rank, hit.path, round(hit.score, 6), *hit.box, hit.level, *hit.cell)
        yield (*row, "" if chance is None else chance)


def table_lines(hits: Sequence[Hit]) -> Iterator[str]:
    """Aligned columns for a terminal; the path comes last and is never shortened."""
    yield f"{'rank':>4}  {'score':>6}  {'by chance':>9}  {'region':<12} {'box (x0,y0,x1,y1)':<23}  path"
    for hit in hits:
        where = "whole image" if hit.level == 0 else grid_place(hit.level, hit.cell)
        if hit.geometry is not None and hit.geometry.outline:
            where = f"{hit.geometry.inliers} points"
        box = ",".join(f"{edge:.0f}" for edge in hit.box)
        more = f"  (and {len(hit.alike)} alike)" if hit.alike else ""
        chance = by_chance(hit.expected_false_matches)
        yield f"{hit.rank:>4}  {hit.score:>6.3f}  {chance:>9}  {where:<12} {box:<23}  {printable(hit.path)}{more}"


def by_chance(expected: float | None) -> str:
    """How many hits as good are expected by chance, in few characters."""
    if expected is None:
        return "?"
    if expected < 1e-6:
        return "<1e-6"
    return f"{expected:.0f}" if expected >= 9.5 else f"{expected:.1g}"


def grid_place(level: int, cell: tuple[int, int]) -> str:
    """Level, row and column of a region, or `box` for one that has no place in a grid."""
    return "box" if level < 0 else f"L{level} {cell[0]},{cell[1]}"


def printable(path: str) -> str:
    """A path on one line: control characters and bytes that are no text are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in path)
