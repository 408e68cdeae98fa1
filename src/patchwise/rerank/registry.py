"""Second looks by name: `refine:20`, one after the other with commas between them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from typing import NamedTuple

from patchwise.errors import MissingExtra, UsageError
from patchwise.rerank.base import Reranker, Setting
from patchwise.rerank.neighbours import Neighbours
from patchwise.rerank.refine import Refine
from patchwise.rerank.zoom import Zoom

__all__ = ["RERANKERS", "Asked", "Kind", "parse_rerankers", "rerankers"]


class Kind(NamedTuple):
    """A second look.

    Args:
        help: what it does, in one line.
        depth: how many hits it takes by default.
        make: makes it of the setting, how many hits it takes, and its argument.
        argument: what it needs behind the number of hits, as help calls it, in brackets where it may be left out;
            "" for one that takes nothing.
    """

    help: str
    depth: int
    make: Callable[[Setting, int, str], Reranker]
    argument: str = ""

    @property
    def needs(self) -> str:
        """The argument it cannot do without, as help calls it."""
        return "" if self.argument.startswith("[") else self.argument


class Asked(NamedTuple):
    """A second look that was asked for: a key of `RERANKERS`, how many hits it takes, and its argument."""

    name: str
    depth: int
    argument: str = ""


def _refine(setting: Setting, depth: int, _: str) -> Reranker:
    return Refine(setting.encoder, setting.read, depth=depth, stored=setting.stored)


def _zoom(setting: Setting, depth: int, _: str) -> Reranker:
    return Zoom(setting.encoder, setting.read, depth=depth)


def _geometric(setting: Setting, depth: int, file: str) -> Reranker:
    from patchwise.rerank.geometric import Geometric, known_features

    # An encoder that is no torch encoder has no device.
    features = known_features(file, getattr(setting.encoder, "device", "cpu")) if file else None
    return Geometric(setting.remembered, depth=depth, features=features)


def _neighbours(setting: Setting, depth: int, _: str) -> Reranker:
    return Neighbours(lambda hit: setting.stored(hit)[1], depth=depth)


def _ames(setting: Setting, depth: int, folder: str) -> Reranker:
    if find_spec("torch") is None:
        raise MissingExtra("rerank ames", "rerank")
    from patchwise.rerank.ames import ames_in  # torch takes seconds to import

    return ames_in(setting, depth, folder)


RERANKERS: Mapping[str, Kind] = MappingProxyType(
    {
        "refine": Kind("concludes a tighter box from the scores of all regions, and ranks by it", 20, _refine),
        "zoom": Kind("looks into the region found for an object much smaller than it", 100, _zoom),
        "geometric": Kind("finds the query's outline by local features that agree on it", 50, _geometric, "[FILE]"),
        "neighbours": Kind("lets hits that resemble each other support each other", 200, _neighbours),
        "ames": Kind("matches local descriptors of query and hit by a transformer", 100, _ames, "FOLDER"),
    }
)
_DEPTH = re.compile(r"[1-9][0-9]{0,5}")


def parse_rerankers(text: str) -> list[Asked]:
    """Second looks in order, of `NAME[:HITS[:ARGUMENT]]` with commas between them; an argument may hold colons.

    Raises:
        UsageError: not one of `RERANKERS`, no number of hits, or an argument too many or missing.
    """
    return [_parsed(part.strip()) for part in text.split(",")] if text.strip() else []


def rerankers(asked: Sequence[Asked], setting: Setting) -> list[Reranker]:
    """What was parsed, at work in a gallery.

    Raises:
        MissingExtra: a package that one of them needs is not installed.
        PatchwiseError: what an argument names cannot be used.
    """
    return [RERANKERS[each.name].make(setting, each.depth, each.argument) for each in asked]


def _parsed(part: str) -> Asked:
    name, *more = part.split(":", 2)
    kind = RERANKERS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, RERANKERS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"rerank {part!r}: expected {_forms()}, several with commas between them{meant}")
    form = _form(name, kind)
    if more and not _DEPTH.fullmatch(more[0]):
        raise UsageError(f"rerank {part!r}: {more[0]!r} is no number of hits; expected {form}, HITS from 1 to 999999")
    argument = more[1] if len(more) > 1 else ""
    if len(more) > 1 and not kind.argument:
        raise UsageError(f"rerank {part!r}: takes nothing behind the number of hits; expected {form}")
    if kind.needs and not argument:
        raise UsageError(f"rerank {part!r}: needs a {kind.needs}: {name}:{kind.depth}:{kind.needs}")
    if len(more) > 1 and not argument:
        raise UsageError(f"rerank {part!r}: nothing behind the last colon; expected {form}")
    return Asked(name, int(more[0]) if more else kind.depth, argument)


def _form(name: str, kind: Kind) -> str:
    behind = f":{kind.needs}" if kind.needs else kind.argument.replace("[", "[:")
    return f"{name}:HITS{behind}"


def _forms() -> str:
    return ", ".join(_form(name, kind) for name, kind in RERANKERS.items())
