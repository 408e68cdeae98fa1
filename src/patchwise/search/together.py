"""One pass over the vectors for all queries that wait for one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from patchwise.search.base import Candidates

__all__ = ["Together"]

_QUERIES_AT_ONCE = 64

Mask = npt.NDArray[np.bool_]
Pass = Callable[[npt.NDArray[np.float32], Sequence[int], Sequence[Mask | None]], list[Candidates]]


@dataclass(eq=False)
class _Asked:
    queries: npt.NDArray[np.float32]
    k: int
    allowed: Mask | None
    answers: list[Candidates] | None = None


class Together:
    """Lets one thread at a time search, for itself and for all that have come while another one did.

    A pass that answers several queries takes little longer than one for a single query: reading the vectors is what
    takes the time.
    """

    def __init__(self) -> None:
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._waiting: list[_Asked] = []

    def top(
        self, search: Pass, queries: npt.NDArray[np.float32], k: int, allowed: Mask | None = None
    ) -> list[Candidates]:
        """At least the k best pictures of each query.

        Args:
            search: finds pictures for (Q, dimension) queries, at least as many of the best for each as it is told,
                among those that it allows; the same for all who ask. It is not kept, so that the vectors behind it are
                let go of when nobody asks.
            queries: (Q, dimension).
            k: how many.
            allowed: which pictures may be found, (pictures,) bool; None for all.
        """
        asked = _Asked(queries, k, allowed)
        with self._lock:
            self._waiting.append(asked)
        with self._turn:
            if asked.answers is None:  # nobody has searched for this one meanwhile
                asked.answers = self._answered(search, self._group(asked))
        return asked.answers

    def _group(self, first: _Asked) -> list[_Asked]:
        """What is answered now: the one whose turn it is, and others that wait."""
        with self._lock:
            group, left, count = [first], [], len(first.queries)
            for other in self._waiting:
                if other is first:
                    continue
                if count + len(other.queries) <= _QUERIES_AT_ONCE:
                    group.append(other)
                    count += len(other.queries)
                else:
                    left.append(other)
            self._waiting = left
        return group

    def _answered(self, search: Pass, group: list[_Asked]) -> list[Candidates]:
        """The answers to the first of a group; those to the others are put where they wait for them."""
        first = group[0]
        try:
            found = iter(_all_of(group, search))
        except Exception:
            if len(group) == 1:
                raise
            # It may be the fault of another one. Each of them tries by itself when it has its turn.
            return _all_of([first], search)
        answers = [list(islice(found, len(asked.queries))) for asked in group]
        for asked, of_asked in zip(group, answers, strict=True):
            asked.answers = of_asked
        return answers[0]


def _all_of(group: Sequence[_Asked], search: Pass) -> list[Candidates]:
    """One pass for all who are in a group."""
    of_query = [asked for asked in group for _ in asked.queries]
    queries = np.concatenate([asked.queries for asked in group])
    return search(queries, [asked.k for asked in of_query], [asked.allowed for asked in of_query])
