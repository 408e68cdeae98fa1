"""How much is done at a time, and for how long: a pool of threads with a queue that has an end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

__all__ = ["Overloaded", "Pool", "StillWanted"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_ENDING_SECONDS = 10.0  # that long work may still take when the server is asked to end
_CLOSING_SECONDS = 15.0


class Overloaded(Exception):
    """As many requests wait as are let; `retry_after` is in seconds."""

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__("too many requests are waiting")
        self.retry_after = retry_after


class StillWanted:
    """Whether anybody waits for an answer, asked between the steps of long work.

    Nobody does once `gone` is set, or when the server has been asked to end for so many seconds.
    """

    def __init__(self, stopping: threading.Event, seconds: float = _ENDING_SECONDS) -> None:
        self.gone = threading.Event()
        self._stopping, self._seconds = stopping, seconds
        self._until: float | None = None

    def __call__(self) -> bool:
        if self.gone.is_set():
            return False
        if not self._stopping.is_set():
            return True
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        return time.monotonic() < self._until


class Pool:
    """Runs work in threads, and refuses more when `queue` of it waits.

    `running` and `waiting` count what is under way, `refused` and `finished` what has been since the start.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self.threads, self.queue = threads, queue
        self.running = self.waiting = self.refused = self.finished = 0
        self._lock = threading.Lock()
        self._asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._closed = False
        self._workers: list[threading.Thread] = []

    async def run(self, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """The result of `work`, done in a thread.

        Raises:
            Overloaded: too much is waiting already, or the pool is closed.
        """
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

        future: Future[_R] = Future()
        with self._lock:
            # Those that find a free thread do not wait.
            if self._closed or self.running + self.waiting >= self.threads + self.queue:
                self.refused += 1
                raise Overloaded
            self._start()
            self.waiting += 1
            self._asked.put((future, in_thread))
        try:
            return await asyncio.wrap_future(future)
        finally:
            # Whoever asked has gone before a thread was free: it never begins.
            if future.cancelled():
                with self._lock:
                    if not begun:
                        self.waiting -= 1

    def close(self, timeout: float = _CLOSING_SECONDS) -> bool:
        """Finish what was begun or waits, within so many seconds; returns whether that was enough."""
        with self._lock:
            self._closed = True
            for _ in self._workers:
                self._asked.put(None)
        until = time.monotonic() + timeout
        for worker in self._workers:
            worker.join(max(until - time.monotonic(), 0))
        return not any(worker.is_alive() for worker in self._workers)

    def _start(self) -> None:
        while len(self._workers) < self.threads:
            # An executor's threads would keep the process from ending for as long as anything runs.
            name = f"patchwise-server-{len(self._workers)}"
            self._workers.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._workers[-1].start()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            future, work = asked
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del asked, future, work  # what was asked for is not held on to while nothing is
