"""Working ahead in threads, within a bound on the memory that results take while they wait."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["WAITING_BYTES", "ahead", "waiting_count"]

WAITING_BYTES = 128 * 1024 * 1024
_MOST = 64

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def waiting_count(bytes_each: int) -> int:
    """How many results of so many bytes may wait in memory: 2 to 64."""
    return max(min(WAITING_BYTES // bytes_each, _MOST), 2)


def ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], bytes_each: int, workers: int | None = None
) -> Iterator[_Result]:
    """The results of `work` in order, worked out before they are asked for.

    At most `waiting_count(bytes_each)` of them are under way or waiting.
    """
    window = waiting_count(bytes_each)
    pool = ThreadPoolExecutor(workers or max(os.cpu_count() or 1, 2), thread_name_prefix="patchwise-decode")
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
