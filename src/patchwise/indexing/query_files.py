"""Queries in a file: CSV with the columns path, x0, y0, x1, y1, text and text_weight."""

from __future__ import annotations

import csv
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchwise.boxes import parse_box
from patchwise.errors import BoxError, UsageError
from patchwise.indexing.parts import QueryPart

__all__ = ["read_queries"]


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
