"""The queries asked last, encoded: a heat map for each of many hits costs one encoding."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from patchwise.indexing import EncodedQuery

__all__ = ["EncodedQueries"]

_REMEMBERED = 64


class EncodedQueries:
    """Vectors of the last queries of one gallery, by what was asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queries: OrderedDict[Hashable, tuple[threading.Lock, list[EncodedQuery]]] = OrderedDict()

    def get(self, asked: Hashable, encode: Callable[[], EncodedQuery]) -> EncodedQuery:
        """The query, encoded when it is not at hand, by one of those who ask at once."""
        with self._lock:
            turn, found = self._queries.setdefault(asked, (threading.Lock(), []))
            self._queries.move_to_end(asked)
            if len(self._queries) > _REMEMBERED:
                self._queries.popitem(last=False)
        with turn:
            if not found:
                encoded = encode()
                # The pictures themselves need not be held on to.
                found.append(EncodedQuery((), encoded.vector, encoded.part_vectors))
            return found[0]
