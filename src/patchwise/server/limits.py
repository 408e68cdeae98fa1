"""How much is done at a time: a pool of threads with a queue that has an end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["Overloaded", "Pool"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Overloaded(Exception):
    """As many requests wait as are let; `retry_after` is in seconds."""

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__("too many requests are waiting")
        self.retry_after = retry_after


class Pool:
    """Runs work in threads, and refuses more when `queue` of it waits.

    `running` and `waiting` count what is under way, `refused` and `finished` what has been since the start.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self.threads, self.queue = threads, queue
        self.running = self.waiting = self.refused = self.finished = 0
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(threads, "patchwise-server")

    async def run(self, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """The result of `work`, done in a thread.

        Raises:
            Overloaded: too much is waiting already.
        """
        with self._lock:
            # Those that find a free thread do not wait.
            if self.running + self.waiting >= self.threads + self.queue:
                self.refused += 1
                raise Overloaded
            self.waiting += 1
        begun = False

        def in_thread() -> _R:
            nonlocal begun
            with self._lock:
                begun = True
                self.waiting -= 1
                self.running += 1
            try:
                return work(*args, **kwargs)
            finally:
                with self._lock:
                    self.running -= 1
                    self.finished += 1

        future = self._executor.submit(in_thread)
        try:
            return await asyncio.wrap_future(future)
        finally:
            # Whoever asked has gone before a thread was free: it never begins.
            if future.cancelled():
                with self._lock:
                    if not begun:
                        self.waiting -= 1

    def close(self) -> None:
        """Finish what was begun or waits."""
        self._executor.shutdown(wait=True)
