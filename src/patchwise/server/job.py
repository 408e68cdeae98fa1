"""One job: what is known of it, and who is told when that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from patchwise.server.jobs import JobProgress

__all__ = ["Job", "JobState", "JobStatus", "Watcher"]

JobState = Literal["queued", "running", "done", "failed", "cancelled"]

_FAILURES_LISTED = 200


@dataclass(frozen=True)
class JobStatus:
    """A job at one moment. `failed` and `refused` are (path or name, reason), `failed` the first 200 of `failures`.

    `note` says why a job does not move; `error` why it failed. Times are in UTC.
    """

    job: str
    gallery: str
    kind: Literal["add"]
    state: JobState
    done: int
    total: int
    added: int
    failures: int
    failed: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    note: str | None
    error: str | None
    created: datetime
    finished: datetime | None

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ("done", "failed", "cancelled")


class Watcher:
    """Wakes one reader; that it was woken ten times before it looks is known to it as once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self.woken = False

    def wake(self) -> None:
        """Something has changed; from any thread."""
        if not self.woken:
            self.woken = True
            with suppress(RuntimeError):  # the loop of a reader that is gone is closed
                self._loop.call_soon_threadsafe(self._changed.set)

    def look(self) -> None:
        """What has changed until now is about to be looked at."""
        self.woken = False
        self._changed.clear()

    async def wait(self, seconds: float) -> None:
        """Until something changes, but not longer than this."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)


@dataclass(eq=False)
class Job:
    """A job as it changes, under the lock of all jobs."""

    job: str
    gallery: str
    work: Callable[[JobProgress], None]
    at_end: Callable[[JobStatus], None] | None
    refused: tuple[tuple[str, str], ...]
    total: int
    created: datetime
    state: JobState = "queued"
    done: int = 0
    added: int = 0
    failures: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    note: str | None = None
    error: str | None = None
    finished: datetime | None = None
    cancelled: bool = False
    quiet: bool = False
    watchers: set[Watcher] = field(default_factory=set)

    def fail(self, path: str, reason: str) -> None:
        """A file cannot be used."""
        self.failures += 1
        if len(self.failed) < _FAILURES_LISTED:
            self.failed.append((path, reason))

    def status(self) -> JobStatus:
        """The job as it is now."""
        return JobStatus(
            self.job,
            self.gallery,
            "add",
            self.state,
            self.done,
            self.total,
            self.added,
            self.failures,
            tuple(self.failed),
            self.refused,
            self.note,
            self.error,
            self.created,
            self.finished,
        )
