"""What was found of searches on the whole, so that later pages of their answers say the same as the first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

from patchwise.search import Hit

__all__ = ["Verdict", "Verdicts", "verdict_of"]

Verdict = Literal["match", "no match", "unknown"]

_REMEMBERED = 256


def verdict_of(hits: Sequence[Hit]) -> Verdict:
    """What the first hits of an answer say of it."""
    if any(hit.matches for hit in hits):
        return "match"
    return "unknown" if any(hit.matches is None for hit in hits) else "no match"


class Verdicts:
    """Verdicts of the last searches of one gallery, by what was asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, Verdict] = OrderedDict()

    def first(self, asked: Hashable, hits: Sequence[Hit]) -> Verdict:
        """That of a first page, which is noted."""
        verdict = verdict_of(hits)
        with self._lock:
            # A match does not cease to be one because fewer hits were asked for next.
            if self._known.get(asked) != "match":
                self._known[asked] = verdict
            self._known.move_to_end(asked)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return verdict

    def later(self, asked: Hashable, hits: Sequence[Hit], first_page: Callable[[], Sequence[Hit]]) -> Verdict:
        """That of a later page: a match if it shows one, otherwise that of the first page, found if it is not known."""
        if any(hit.matches for hit in hits):
            return "match"
        with self._lock:
            known = self._known.get(asked)
        return known if known is not None else self.first(asked, first_page())
