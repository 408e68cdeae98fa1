"""Second looks by name: `refine:20`, one after the other with commas between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from patchwise.errors import UsageError
from patchwise.rerank.base import Reranker, Setting
from patchwise.rerank.refine import Refine

__all__ = ["RERANKERS", "Kind", "parse_rerankers", "rerankers"]


class Kind(NamedTuple):
    """A second look: what it does in one line of help, how many hits it takes by default, and what makes it."""

    help: str
    depth: int
    make: Callable[[Setting, int], Reranker]


def _refine(setting: Setting, depth: int) -> Reranker:
    return Refine(setting.encoder, setting.read, depth=depth)


RERANKERS: Mapping[str, Kind] = MappingProxyType(
    {"refine": Kind("looks for a tighter box around and away from the region found", 20, _refine)}
)
_NAME = re.compile(r"(?P<name>[a-z]+)(:(?P<depth>[1-9]\d{0,5}))?")


def parse_rerankers(text: str) -> list[tuple[str, int]]:
    """Names of second looks with how many hits each takes, in order.

    Raises:
        UsageError: not one of `RERANKERS`, or no number behind its colon.
    """
    asked = []
    for part in text.split(",") if text.strip() else ():
        found = _NAME.fullmatch(part.strip())
        if found is None or found["name"] not in RERANKERS:
            known = ", ".join(f"{name}:HITS" for name in RERANKERS)
            raise UsageError(f"rerank {part.strip()!r}: expected {known}, several with commas between them")
        asked.append((found["name"], int(found["depth"] or RERANKERS[found["name"]].depth)))
    return asked


def rerankers(asked: Sequence[tuple[str, int]], setting: Setting) -> list[Reranker]:
    """What was parsed, at work in a gallery.

    Raises:
        ExtraMissing: a package that one of them needs is not installed.
    """
    return [RERANKERS[name].make(setting, depth) for name, depth in asked]
