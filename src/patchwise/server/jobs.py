"""Jobs: long work on a gallery, one at a time for each, with progress that can be watched, cancelled and stopped."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone

from patchwise.errors import GalleryBusy, PatchwiseError
from patchwise.server.job import Job, JobState, JobStatus, Watcher
from patchwise.server.limits import Overloaded

__all__ = ["JobProgress", "JobState", "JobStatus", "JobStopped", "Jobs", "QueueFull"]

_WAITING = 64
_KEPT = 200
_WATCHERS = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_NEARLY_DONE = 16  # files that are rather finished than left for the next start
_EVENT_PAUSE = 0.1
_STOP_NOTICED = 0.5  # seconds within which watchers see that the server stops

_log = logging.getLogger(__name__)


class QueueFull(Overloaded):
    """So many jobs wait for this gallery already that no other is taken."""

    def __init__(self) -> None:
        super().__init__(retry_after=5)


class JobStopped(Exception):
    """Raised out of the work of a job that was cancelled, or that a server leaves for its next start."""


class JobProgress:
    """What the work of a job tells of itself; its methods raise `JobStopped` once the work shall end."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs, self._job = jobs, job

    def step(self, done: int, total: int, failed: tuple[str, str] | None = None) -> None:
        """So many of so many files are done; `failed` is (path, reason) if the last of them cannot be used."""
        with self._jobs.changing(self._job) as job:
            job.done, job.total = done, total
            if failed is not None:
                job.fail(*failed)
            job.added = max(done - job.failures, 0)
        self.check()

    def end(self, added: int, total: int, failed: Sequence[tuple[str, str]] = ()) -> None:
        """All is done: `added` of `total` files can be found now that could not before; `failed` are further ones."""
        with self._jobs.changing(self._job) as job:
            job.done, job.total, job.added = total, total, added
            for one in failed:
                job.fail(*one)

    def check(self) -> None:
        """Go on or not.

        Raises:
            JobStopped: the job is cancelled, or the server stops and much is left to do.
        """
        nearly_done = self._job.total > 0 and self._job.total - self._job.done <= _NEARLY_DONE
        if self._job.cancelled or (self._jobs.stopping and not nearly_done):
            raise JobStopped


class Jobs:
    """The jobs of all galleries: one thread works for each, and each has a queue of its own.

    Args:
        waiting: jobs that may wait for one gallery.
        kept: ended jobs that are remembered, of all galleries together.
        watchers: who may watch one job at a time.
        explain: the words for an error that a work ends with.
        stopping: set when the server is asked to end. From then on jobs end at their next step, and watchers are let
            go, before `stop` is called.
    """

    def __init__(
        self,
        *,
        waiting: int = _WAITING,
        kept: int = _KEPT,
        watchers: int = _WATCHERS,
        explain: Callable[[PatchwiseError], str] = str,
        stopping: threading.Event | None = None,
    ) -> None:
        self._waiting, self._kept, self._watchers, self._explain = waiting, kept, watchers, explain
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}  # in order of creation
        self._queues: dict[str, deque[Job]] = {}
        self._workers: dict[str, threading.Thread] = {}
        self._taken: Counter[str] = Counter()  # places given out by `room`
        self._ended: deque[str] = deque()
        self._stopping = stopping or threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether no more work is taken."""
        return self._stopping.is_set()

    # What callers ask

    def get(self, job: str) -> JobStatus | None:
        """The job as it is now; None where there is none, or no more."""
        with self._changed:
            found = self._jobs.get(job)
            return None if found is None else found.status()

    def of(self, gallery: str) -> list[JobStatus]:
        """The jobs of a gallery, the newest first."""
        with self._changed:
            return [job.status() for job in reversed(self._jobs.values()) if job.gallery == gallery]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many jobs there are by (gallery, state)."""
        with self._changed:
            return dict(Counter((job.gallery, job.state) for job in self._jobs.values()))

    @contextmanager
    def room(self, gallery: str) -> Iterator[str]:
        """Keep a place in the queue while what a job needs is prepared; yields the id that it is to have.

        Raises:
            QueueFull: there is none.
        """
        with self._changed:
            if len(self._queues.get(gallery, ())) + self._taken[gallery] >= self._waiting or self.stopping:
                raise QueueFull
            self._taken[gallery] += 1
        try:
            yield secrets.token_hex(8)
        finally:
            with self._changed:
                self._taken[gallery] -= 1

    def submit(
        self,
        gallery: str,
        work: Callable[[JobProgress], None],
        job: str,
        *,
        total: int = 0,
        refused: Sequence[tuple[str, str]] = (),
        at_end: Callable[[JobStatus], None] | None = None,
        created: datetime | None = None,
        quiet: bool = False,
    ) -> JobStatus:
        """Queue a job; the caller has `room` for it, or goes on with one that was taken before.

        Args:
            gallery: its name.
            work: does it, and may be called again where another process was writing.
            job: its id.
            total: how many files it is about, where that is known.
            refused: files that were asked for and left out, as (name, reason).
            at_end: called when the job has ended, and not when a server merely stops.
            created: when it was asked for, if that was earlier.
            quiet: not remembered if there was nothing to do.
        """
        made = Job(job, gallery, work, at_end, tuple(refused), total, created or _now(), quiet=quiet)
        with self._changed:
            self._jobs[job] = made
            self._queues.setdefault(gallery, deque()).append(made)
            if not self.stopping and gallery not in self._workers:
                worker = threading.Thread(
                    target=self._work, args=(gallery,), name=f"patchwise-jobs-{gallery}", daemon=True
                )
                self._workers[gallery] = worker
                worker.start()
            self._changed.notify_all()
            return made.status()

    def cancel(self, job: str) -> JobStatus | None:
        """Drop a queued job, or have a running one end after the files under way; what is committed stays."""
        with self._changed:
            found = self._jobs.get(job)
            if found is None:
                return None
            if found.state == "queued":
                with suppress(ValueError):  # a worker that stops has left it for the next start
                    self._queues[found.gallery].remove(found)
                self._end(found, "cancelled")
            elif found.state == "running":
                found.cancelled, found.note = True, "stopping"
                self._tell(found)
            status = found.status()
        if found.state == "cancelled":
            self._after(found)
        return status

    def check_watchers(self, job: str) -> None:
        """Refuse another watcher of a job that has as many as it may.

        Raises:
            Overloaded: it has.
        """
        with self._changed:
            found = self._jobs.get(job)
            if found is not None and len(found.watchers) >= self._watchers:
                raise Overloaded(retry_after=5)

    async def watch(self, seen: JobStatus) -> AsyncIterator[JobStatus]:
        """A job now and after changes, at most ten times a second; the last one has ended, unless the server stops.

        Whoever reads slowly misses what was in between, and keeps nobody waiting. A job that is remembered no more is
        given as it was `seen`.
        """
        watcher = Watcher()
        with self._changed:
            found = self._jobs.get(seen.job)
            if found is not None:
                found.watchers.add(watcher)
        if found is None:
            yield seen
            return
        try:
            while True:
                watcher.look()
                with self._changed:
                    status, stopping = found.status(), self.stopping
                yield status
                if status.ended or stopping:
                    return
                while not watcher.woken and not self.stopping:
                    await watcher.wait(_STOP_NOTICED)
                await asyncio.sleep(_EVENT_PAUSE)
        finally:
            with self._changed:
                found.watchers.discard(watcher)

    def stop(self, timeout: float = 60.0) -> bool:
        """Take no more work, and wait so many seconds for the jobs under way to end; whether they did in time."""
        self._stopping.set()
        with self._changed:
            for job in self._jobs.values():
                self._tell(job)
            self._changed.notify_all()
        until = time.monotonic() + timeout
        for worker in self._workers.values():
            worker.join(max(until - time.monotonic(), 0))
        return not any(worker.is_alive() for worker in self._workers.values())

    # What workers do

    @contextmanager
    def changing(self, job: Job) -> Iterator[Job]:
        with self._changed:
            yield job
            self._tell(job)

    def _work(self, gallery: str) -> None:
        queue = self._queues[gallery]
        while True:
            with self._changed:
                self._changed.wait_for(lambda: queue or self.stopping)
                if self.stopping:
                    return
                job = queue.popleft()
                job.state = "running"
                self._tell(job)
            try:
                state, error = self._run(job)
            except Exception:  # the jobs that wait behind it have done nothing wrong
                _log.exception("a job failed")
                state, error = "failed", "an error inside the server; its log says more"
            with self._changed:
                if state == "queued":  # left for the next start of the server
                    job.state, job.note = state, None
                    self._tell(job)
                    continue
                self._end(job, state, error)
            self._after(job)

    def _run(self, job: Job) -> tuple[JobState, str | None]:
        pause = _FIRST_PAUSE
        progress = JobProgress(self, job)
        while True:
            try:
                progress.check()
                job.work(progress)
                return "done", None
            except JobStopped:
                return ("cancelled" if job.cancelled else "queued"), None
            except GalleryBusy:  # however long: what was taken shall be found when the other has finished
                with self._changed:
                    job.note = "waiting: another process is writing to this gallery"
                    self._tell(job)
                    self._changed.wait_for(lambda: job.cancelled or self.stopping, pause)
                    job.note = "stopping" if job.cancelled else None
                if self.stopping and not job.cancelled:
                    return "queued", None
                pause = min(2 * pause, _LONGEST_PAUSE)
            except PatchwiseError as error:
                return "failed", self._explain(error)

    def _end(self, job: Job, state: JobState, error: str | None = None) -> None:
        job.state, job.error, job.note, job.finished = state, error, None, _now()
        if job.quiet and state == "done" and job.total == 0:
            del self._jobs[job.job]
        else:
            self._ended.append(job.job)
        while len(self._ended) > self._kept:
            self._jobs.pop(self._ended.popleft(), None)
        self._tell(job)

    def _after(self, job: Job) -> None:
        if job.at_end is not None:
            try:
                job.at_end(job.status())
            except Exception:
                _log.exception("what follows a job failed")

    def _tell(self, job: Job) -> None:
        for watcher in job.watchers:
            watcher.wake()
        if job.cancelled:
            self._changed.notify_all()


def _now() -> datetime:
    return datetime.now(timezone.utc)
