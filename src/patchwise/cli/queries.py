"""From the words of `patchwise search` to the parts of a query, and from a CSV file to many queries."""

from __future__ import annotations

import csv
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchwise.errors import BoxError, ImageUnreadable, UsageError

if TYPE_CHECKING:
    from patchwise.boxes import Box
    from patchwise.indexing import QueryPart

__all__ = ["parts_of_options", "read_queries"]


def parts_of_options(
    pictures: Sequence[str],
    texts: Sequence[str],
    unwanted_pictures: Sequence[str],
    unwanted_texts: Sequence[str],
    boxes: Sequence[str],
    weights: str | None,
) -> list[QueryPart]:
    """The parts, in the order of the first four arguments; standard input is read where a picture is `-`.

    Args:
        boxes: for the pictures in order, unwanted ones last; `whole` for all of one, and for those that are left.
        weights: numbers from 0 up, separated by commas, one for each part in order.

    Raises:
        UsageError: what is given does not fit together.
        ImageUnreadable: words where a picture should be.
    """
    from patchwise.boxes import parse_box
    from patchwise.indexing import QueryPart

    names = [*pictures, *unwanted_pictures]
    if names.count("-") > 1:
        raise UsageError("only one picture can come from stdin")
    if len(boxes) > len(names):
        raise UsageError(f"more boxes than pictures, {len(boxes)} and {len(names)}; a text has none")
    edges: list[Box | None] = [None if box.strip() == "whole" else parse_box(box) for box in boxes]
    edges += [None] * (len(names) - len(edges))
    for name in names:
        _refuse_words(name)
    shown = [
        QueryPart(sys.stdin.buffer.read() if name == "-" else name, box=box, name=name)
        for name, box in zip(names, edges, strict=True)
    ]
    wanted = [*shown[: len(pictures)], *(QueryPart(text=text) for text in texts)]
    unwanted = [*shown[len(pictures) :], *(QueryPart(text=text) for text in unwanted_texts)]
    signs = [1.0] * len(wanted) + [-1.0] * len(unwanted)
    parts = [*wanted, *unwanted]
    return [
        replace(part, weight=sign * weight)
        for part, sign, weight in zip(parts, signs, _weights(weights, parts, signs), strict=True)
    ]


def _refuse_words(name: str) -> None:
    """Somebody who types words where a picture is expected is told how to search for them."""
    if name not in ("", "-") and not (os.path.splitext(name)[1] or os.path.dirname(name) or os.path.exists(name)):
        raise ImageUnreadable(name, f"no such file; to search for words: --text {shlex.quote(name)}")


def _weights(text: str | None, parts: Sequence[QueryPart], signs: Sequence[float]) -> list[float]:
    if text is None:
        return [1.0] * len(parts)
    numbers = [_number(word) for word in text.split(",")]
    if len(numbers) != len(parts) or not all(0 <= number < math.inf for number in numbers):
        order = ", ".join(f"{part}" if sign > 0 else f"not {part}" for part, sign in zip(parts, signs, strict=True))
        raise UsageError(f"--weights {text}: expected {len(parts)} numbers from 0 up, in this order: {order}")
    return numbers


def read_queries(file: Path) -> Iterator[list[QueryPart]]:
    """Queries from a CSV file, or from standard input where it is `-`: a picture, a text, or both in each row.

    Raises:
        UsageError: the file cannot be read, or a row makes no sense.
    """
    try:
        how: dict[str, Any] = {"newline": "", "encoding": "utf-8-sig"}  # with or without a byte order mark
        stream = os.fdopen(sys.stdin.fileno(), closefd=False, **how) if str(file) == "-" else file.open(**how)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    with stream:
        try:
            rows = csv.DictReader(stream)
            if not {"path", "text"} & set(rows.fieldnames or []):
                raise UsageError(
                    f"{file}: the first line must name the columns path,x0,y0,x1,y1 (the last four may be left out), "
                    "or text, or all of them"
                )
            for number, row in enumerate(rows, start=2):
                try:
                    yield _parts_of_row(row)
                except BoxError as error:
                    raise BoxError(f"{file}, line {number}: {error}") from error
                except UsageError as error:
                    raise UsageError(f"{file}, line {number}: {error}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{file}: not a CSV file in UTF-8 ({error})") from error


def _parts_of_row(row: dict[str, str | None]) -> list[QueryPart]:
    from patchwise.boxes import parse_box
    from patchwise.indexing import QueryPart

    path, text = row.get("path") or "", (row.get("text") or "").strip()
    edges = [(row.get(name) or "").strip() for name in ("x0", "y0", "x1", "y1")]
    weight = (row.get("text_weight") or "").strip()
    if not path and (any(edges) or not text):
        raise UsageError("path is empty" if text else "path is empty, and there is no text")
    if weight and not (path and text):
        raise UsageError("text_weight is for a text beside a picture")
    parts = [QueryPart(path, box=parse_box(",".join(edges)) if any(edges) else None)] if path else []
    if text:
        parts.append(QueryPart(text=text, weight=_number(weight) if weight else 1.0))
    return parts


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
