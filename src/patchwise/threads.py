"""Work on all processors at once, by threads of our own that take turns with nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from patchwise.machine import processors

__all__ = ["in_threads", "on_one_thread"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_here = threading.local()


def in_threads(work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """Results of `work` on each item, in order, on all processors; FAISS uses one thread in each.

    The threads of FAISS itself wait for each other without sleeping: beside another busy program that
    makes learning a codebook tens of times as slow, and threads that sleep do not.
    """
    todo = list(items)
    if getattr(_here, "in_pool", False):  # waiting for others of the pool, they could wait for ever
        return map(work, todo)
    return _pool(os.getpid()).map(work, todo)


def on_one_thread(work: Callable[[], _R]) -> _R:
    """The result of `work`, in which FAISS uses one thread."""
    return next(in_threads(lambda _: work(), [None]))


@cache
def _pool(_process: int) -> ThreadPoolExecutor:
    """One pool for all work of a process; a child made by fork needs its own."""
    return ThreadPoolExecutor(processors(), "patchwise", initializer=_begin)


def _begin() -> None:
    import faiss

    _here.in_pool = True
    # OpenMP keeps this number for each thread that sets it, so that others go on as they were.
    threads: Any = faiss.omp_set_num_threads
    threads(1)
