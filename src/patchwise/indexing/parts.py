"""What is asked: a picture, a part of one, a text, or several of them together."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.errors import UsageError

__all__ = ["Query", "QueryPart", "QuerySource", "batch_parts", "query_label", "query_parts"]

QuerySource = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class QueryPart:
    """A picture or a text, and how much it counts in a query; a weight below 0 means that it is not wanted.

    Args:
        picture: a path, file bytes, a Pillow image, an (H, W, 3) uint8 RGB array, or with `fetch` a web address.
        text: what the images shall show, for encoders that read texts; instead of a picture.
        box: only this part of the picture: x0, y0, x1, y1 in pixels of the upright original.
        weight: finite; only its ratio to the weights of the other parts matters.
        name: how results call it; otherwise the path or the text.
        small: a picture whose object may be small even beside the regions of a gallery. It is also looked for as it
            then shows in them, with something else around it; where the object is large, it is found a little worse.

    Raises:
        UsageError: not exactly one of picture and text, an empty text, a text with a box or small, a weight that is no
            number.
    """

    picture: QuerySource | None = None
    text: str | None = None
    box: Sequence[float] | None = None
    weight: float = 1.0
    name: str = ""
    small: bool = False

    def __post_init__(self) -> None:
        if (self.picture is None) == (self.text is None):
            raise UsageError("a part of a query is either a picture or a text")
        if self.text is not None and not self.text.strip():
            raise UsageError("the text to search for is empty")
        if self.text is not None and self.box is not None:
            raise UsageError("a box goes with a picture, and not with a text")
        if self.text is not None and self.small:
            raise UsageError("small is said of pictures, and not of a text")
        if not math.isfinite(self.weight):
            raise UsageError(f"weight {self.weight}: expected a finite number")
        if not self.name:
            object.__setattr__(self, "name", self._own_name())

    def _own_name(self) -> str:
        if self.text is not None:
            return self.text
        return os.fspath(self.picture) if isinstance(self.picture, str | os.PathLike) else "query"

    def to_json(self) -> dict[str, Any]:
        """The part as plain data: `picture` and `box`, or `text`, and `weight`."""
        if self.text is not None:
            return {"text": self.text, "weight": float(self.weight)}
        box = None if self.box is None else [float(edge) for edge in self.box]
        return {"picture": self.name, "box": box, "weight": float(self.weight)}

    def __str__(self) -> str:
        if self.text is not None:
            return json.dumps(self.text, ensure_ascii=False)
        return self.name if self.box is None else f"{self.name}[{','.join(f'{edge:g}' for edge in self.box)}]"


Query = QuerySource | QueryPart | Sequence[QuerySource | QueryPart]


def query_parts(
    query: Query | None = None, *, text: str | None = None, box: Sequence[float] | None = None, small: bool = False
) -> tuple[QueryPart, ...]:
    """The parts of a query however it is given; `box` belongs to a query of one picture, `small` to all pictures.

    Raises:
        UsageError: there is none, a box without its picture, or a part that makes no sense.
    """
    if isinstance(query, list | tuple):
        found = [one if isinstance(one, QueryPart) else QueryPart(one) for one in query]
    elif isinstance(query, QueryPart):
        found = [query]
    elif query is None:
        found = []
    else:
        found, box = [QueryPart(cast(QuerySource, query), box=box)], None
    if box is not None:
        raise UsageError("a box goes with one picture; give other parts theirs by QueryPart(picture, box=...)")
    if small:
        found = [one if one.picture is None else replace(one, small=True) for one in found]
    if text is not None:
        found.append(QueryPart(text=text))
    if not found:
        raise UsageError("nothing to search for: give a picture or a text")
    return tuple(found)


def batch_parts(
    entry: tuple[QuerySource, Sequence[float] | None] | QueryPart | Sequence[QueryPart],
) -> tuple[QueryPart, ...]:
    """The parts of one of many queries, where a picture may be given as (source, box)."""
    if isinstance(entry, QueryPart) or all(isinstance(one, QueryPart) for one in entry):
        return query_parts(entry)  # type: ignore[arg-type]
    source, box = entry
    return query_parts(source, box=box)  # type: ignore[arg-type]


def query_label(parts: Sequence[QueryPart]) -> str:
    """A query on one line: the path or text of a single part, or as in `mug.jpg[40,30,210,260] + 2*"red" - cup.jpg`."""
    if len(parts) == 1:
        return parts[0].name
    words: list[str] = []
    for part in parts:
        if words or part.weight < 0:
            words.append("-" if part.weight < 0 else "+")
        factor = "" if abs(part.weight) == 1 else f"{abs(part.weight):g}*"
        words.append(f"{factor}{part}")
    return " ".join(words)
