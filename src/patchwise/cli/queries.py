"""From the words of `patchwise search` to the parts of a query, and from a CSV file to many queries."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from patchwise.errors import ImageUnreadable, UsageError

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
    """Queries from a CSV file, or from standard input where it is `-`; see `patchwise.indexing.query_files`."""
    from patchwise.indexing.query_files import read_queries as read

    return read(file)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
