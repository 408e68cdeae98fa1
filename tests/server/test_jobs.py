"""Jobs: one at a time for each gallery, watched without being held up, cancelled, stopped and gone on with."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from patchwise.errors import GalleryBusy, StorageFull
from patchwise.server.jobs import JobProgress, Jobs, JobStatus, QueueFull
from patchwise.server.limits import Overloaded

SECONDS = 20.0


def wait_for(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


class Steps:
    """Work that goes one step on whenever it is let."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.runs = total, 0, 0
        self._allowed = threading.Semaphore(0)

    def allow(self, steps: int) -> None:
        for _ in range(steps):
            self._allowed.release()

    def __call__(self, progress: JobProgress) -> None:
        self.runs += 1
        while self.done < self.total:
            assert self._allowed.acquire(timeout=SECONDS)
            self.done += 1
            progress.step(self.done, self.total, ("a.png", "broken") if self.done == 2 else None)
        progress.end(self.total - 1, self.total)


@pytest.fixture
def make() -> Iterator[Callable[..., Jobs]]:
    made: list[Jobs] = []

    def jobs(**settings: Any) -> Jobs:
        made.append(Jobs(**settings))
        return made[-1]

    yield jobs
    for each in made:
        assert each.stop(timeout=SECONDS)


def submit(jobs: Jobs, work: Callable[[JobProgress], None], gallery: str = "g", **more: Any) -> str:
    with jobs.room(gallery) as job:
        assert jobs.submit(gallery, work, job, **more).job == job
    return job


def state(jobs: Jobs, job: str) -> str:
    status = jobs.get(job)
    assert status is not None
    return status.state


def test_a_job_goes_from_queued_to_done_and_counts(make: Callable[..., Jobs]) -> None:
    jobs, work, ended = make(), Steps(3), []
    job = submit(jobs, work, total=3, refused=[("b.txt", "no image")], at_end=ended.append)
    wait_for(lambda: state(jobs, job) == "running")
    work.allow(2)
    wait_for(lambda: work.done == 2 and jobs.get(job).done == 2)  # type: ignore[union-attr]
    status = jobs.get(job)
    assert status is not None
    assert (status.total, status.added, status.failures, status.failed) == (3, 1, 1, (("a.png", "broken"),))
    assert status.finished is None and not status.ended and ended == []
    work.allow(1)
    wait_for(lambda: ended)
    status = jobs.get(job)
    assert status is not None and status.ended
    assert (status.state, status.done, status.total, status.added) == ("done", 3, 3, 2)
    assert status.refused == (("b.txt", "no image"),)
    assert status.finished is not None and status.finished >= status.created
    assert ended == [status]


def test_jobs_of_one_gallery_take_turns_and_galleries_do_not_wait_for_each_other(make: Callable[..., Jobs]) -> None:
    jobs, first, second, other = make(), Steps(1), Steps(1), Steps(1)
    one, two, three = submit(jobs, first), submit(jobs, second), submit(jobs, other, "h")
    other.allow(1)
    wait_for(lambda: state(jobs, three) == "done")
    assert (state(jobs, one), state(jobs, two)) == ("running", "queued")
    second.allow(1)
    first.allow(1)
    wait_for(lambda: state(jobs, two) == "done")
    assert [status.job for status in jobs.of("g")] == [two, one]
    assert jobs.counts() == {("g", "done"): 2, ("h", "done"): 1}
    assert jobs.get("0" * 16) is None


def test_a_full_queue_is_said_before_anything_is_prepared(make: Callable[..., Jobs]) -> None:
    jobs, blocking = make(waiting=2), Steps(1)
    running = submit(jobs, blocking)
    wait_for(lambda: state(jobs, running) == "running")
    submit(jobs, lambda progress: None)
    with jobs.room("g"):  # the last place is taken, though nothing is submitted yet
        with pytest.raises(QueueFull) as full, jobs.room("g"):
            pass
        with jobs.room("h"):  # each gallery has a queue of its own
            pass
    assert full.value.retry_after > 0
    last = submit(jobs, lambda progress: None)  # the place was given back
    with pytest.raises(QueueFull):
        submit(jobs, lambda progress: None)
    blocking.allow(1)
    wait_for(lambda: state(jobs, last) == "done")
    submit(jobs, lambda progress: None)


def test_only_the_last_jobs_that_ended_are_remembered(make: Callable[..., Jobs]) -> None:
    jobs = make(kept=3)
    ids = []
    for _ in range(10):
        ids.append(submit(jobs, lambda progress: None))
        wait_for(lambda: state(jobs, ids[-1]) == "done")
    assert [status.job for status in jobs.of("g")] == ids[:-4:-1]
    assert jobs.get(ids[0]) is None


def test_failures_are_counted_beyond_those_listed(make: Callable[..., Jobs]) -> None:
    jobs = make()

    def work(progress: JobProgress) -> None:
        for number in range(500):
            progress.step(number + 1, 500, (f"{number}.png", "broken"))

    job = submit(jobs, work)
    wait_for(lambda: state(jobs, job) == "done")
    status = jobs.get(job)
    assert status is not None
    assert (status.failures, len(status.failed), status.added) == (500, 200, 0)


def test_a_queued_job_is_dropped_and_a_running_one_ends_at_its_next_step(make: Callable[..., Jobs]) -> None:
    jobs, work, dropped, ended = make(), Steps(100), Steps(1), []
    running = submit(jobs, work, at_end=ended.append)
    queued = submit(jobs, dropped, at_end=ended.append)
    work.allow(3)
    wait_for(lambda: work.done == 3)
    status = jobs.cancel(queued)
    assert status is not None and status.state == "cancelled" and ended == [status]
    status = jobs.cancel(running)
    assert status is not None and (status.state, status.note) == ("running", "stopping")
    work.allow(1)
    wait_for(lambda: state(jobs, running) == "cancelled")
    status = jobs.get(running)
    assert status is not None
    assert (status.done, status.total, status.note, work.done) == (4, 100, None, 4)
    assert dropped.runs == 0
    assert [one.job for one in ended] == [queued, running]
    assert jobs.cancel(running) == status  # once more changes nothing
    assert jobs.cancel("0" * 16) is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StorageFull("/secret/place: full"), "words for it"),
        (RuntimeError("/secret/place"), "an error inside the server; its log says more"),
    ],
)
def test_an_error_fails_its_job_alone(make: Callable[..., Jobs], error: Exception, said: str) -> None:
    jobs, ended = make(explain=lambda error: "words for it"), []

    def broken(progress: JobProgress) -> None:
        raise error

    job = submit(jobs, broken, at_end=ended.append)
    wait_for(lambda: ended)
    status = jobs.get(job)
    assert status is not None
    assert (status.state, status.error) == ("failed", said)
    after = submit(jobs, lambda progress: None)
    wait_for(lambda: state(jobs, after) == "done")


def test_a_job_waits_while_another_process_writes_and_says_so(make: Callable[..., Jobs]) -> None:
    jobs, busy = make(), threading.Event()
    busy.set()

    def work(progress: JobProgress) -> None:
        if busy.is_set():
            raise GalleryBusy("another is writing")
        progress.end(1, 1)

    job = submit(jobs, work)
    wait_for(lambda: jobs.get(job).note)  # type: ignore[union-attr]
    status = jobs.get(job)
    assert status is not None
    assert status.note == "waiting: another process is writing to this gallery" and status.state == "running"
    busy.clear()
    wait_for(lambda: state(jobs, job) == "done")
    status = jobs.get(job)
    assert status is not None and status.note is None and status.added == 1


def always_busy(progress: JobProgress) -> None:
    raise GalleryBusy("another is writing")


def test_a_worker_outlives_whatever_goes_wrong(make: Callable[..., Jobs]) -> None:
    def broken(_: object) -> str:
        raise ValueError("neither this nor that")

    def full(progress: JobProgress) -> None:
        raise StorageFull("full")

    jobs = make(explain=broken)
    first = submit(jobs, lambda progress: None, at_end=broken)
    second = submit(jobs, full, at_end=broken)
    last = submit(jobs, lambda progress: None)
    wait_for(lambda: state(jobs, last) == "done")
    assert (state(jobs, first), state(jobs, second)) == ("done", "failed")


def test_what_was_left_for_the_next_start_can_still_be_cancelled(make: Callable[..., Jobs]) -> None:
    jobs, ended = make(), []
    job = submit(jobs, always_busy, total=1, at_end=ended.append)
    wait_for(lambda: jobs.get(job).note)  # type: ignore[union-attr]
    assert jobs.stop(timeout=SECONDS) and state(jobs, job) == "queued"
    status = jobs.cancel(job)
    assert status is not None and status.state == "cancelled" and ended == [status]


def test_only_so_many_watch_a_job(make: Callable[..., Jobs]) -> None:
    jobs, work = make(watchers=2), Steps(1)
    job = submit(jobs, work)

    async def main() -> None:
        status = jobs.get(job)
        assert status is not None
        watching = [jobs.watch(status) for _ in range(2)]
        for one in watching:
            jobs.check_watchers(job)
            assert not (await anext(one)).ended
        with pytest.raises(Overloaded) as full:
            jobs.check_watchers(job)
        assert full.value.retry_after > 0
        for one in watching:
            await one.aclose()  # type: ignore[attr-defined]
        jobs.check_watchers(job)

    asyncio.run(main())
    work.allow(1)
    jobs.check_watchers("0" * 16)  # none at all: that is said elsewhere


def test_a_job_that_waits_can_be_cancelled_and_stopped(make: Callable[..., Jobs]) -> None:
    jobs = make()
    job = submit(jobs, always_busy, total=1)
    wait_for(lambda: jobs.get(job).note)  # type: ignore[union-attr]
    jobs.cancel(job)
    wait_for(lambda: state(jobs, job) == "cancelled", 2)
    ended: list[JobStatus] = []
    job = submit(jobs, always_busy, total=1, at_end=ended.append)
    wait_for(lambda: jobs.get(job).note)  # type: ignore[union-attr]
    began = time.monotonic()
    assert jobs.stop(timeout=SECONDS)
    assert time.monotonic() - began < 2
    assert state(jobs, job) == "queued" and ended == []


@pytest.mark.parametrize(("total", "expected"), [(100, "queued"), (10, "done")])
def test_stopping_leaves_long_work_for_later_and_finishes_what_is_nearly_done(
    make: Callable[..., Jobs], total: int, expected: str
) -> None:
    stopping = threading.Event()
    jobs, work, ended = make(stopping=stopping), Steps(total), []
    running = submit(jobs, work, at_end=ended.append)
    waiting = submit(jobs, Steps(1), at_end=ended.append)
    work.allow(5)
    wait_for(lambda: work.done == 5 and jobs.get(running).done == 5)  # type: ignore[union-attr]
    stopping.set()
    work.allow(total)
    assert jobs.stop(timeout=SECONDS)
    assert state(jobs, running) == expected
    assert state(jobs, waiting) == "queued"
    assert [status.job for status in ended] == ([running] if expected == "done" else [])
    with pytest.raises(QueueFull), jobs.room("g"):
        pass


def test_watchers_see_the_last_state_and_never_hold_up_the_work(make: Callable[..., Jobs]) -> None:
    jobs = make()
    begun, go = threading.Event(), threading.Event()

    def work(progress: JobProgress) -> None:
        begun.set()
        go.wait(SECONDS)
        for number in range(50_000):
            progress.step(number + 1, 50_000)
        progress.end(50_000, 50_000)

    async def watched(status: JobStatus, pause: float) -> list[JobStatus]:
        seen = []
        async for now in jobs.watch(status):
            seen.append(now)
            await asyncio.sleep(pause)
        return seen

    async def main() -> list[list[JobStatus]]:
        job = submit(jobs, work)
        assert await asyncio.to_thread(begun.wait, SECONDS)
        status = jobs.get(job)
        assert status is not None
        watching = [asyncio.create_task(watched(status, pause)) for pause in (0.0, 0.0, 0.5)]
        gone = asyncio.create_task(watched(status, 0.0))
        await asyncio.sleep(0.05)
        gone.cancel()  # whoever goes away in the middle is forgotten
        await asyncio.gather(gone, return_exceptions=True)
        assert len(jobs._jobs[job].watchers) == 3
        go.set()
        found = await asyncio.wait_for(asyncio.gather(*watching), SECONDS)
        assert not jobs._jobs[job].watchers
        return found

    for seen in asyncio.run(main()):
        assert seen[-1].state == "done" and seen[-1].added == 50_000
        assert all(not status.ended for status in seen[:-1])
        assert [status.done for status in seen] == sorted(status.done for status in seen)
        assert len(seen) < 200  # coalesced: far fewer than there were changes


def test_watchers_are_let_go_when_the_server_is_asked_to_end(make: Callable[..., Jobs]) -> None:
    stopping = threading.Event()
    jobs, work = make(stopping=stopping), Steps(100)
    job = submit(jobs, work)
    wait_for(lambda: state(jobs, job) == "running")

    async def main() -> list[JobStatus]:
        status = jobs.get(job)
        assert status is not None
        asyncio.get_running_loop().call_later(0.2, stopping.set)
        return [now async for now in jobs.watch(status)]

    seen = asyncio.run(asyncio.wait_for(main(), 5))
    assert seen[-1].state == "running"  # no end: it goes on after the next start
    work.allow(100)


def test_a_quiet_job_is_remembered_only_if_there_was_something_to_do(make: Callable[..., Jobs]) -> None:
    jobs = make()
    idle = submit(jobs, lambda progress: progress.end(0, 0), quiet=True)
    wait_for(lambda: jobs.get(idle) is None)
    busy = submit(jobs, lambda progress: progress.end(2, 2), quiet=True)
    wait_for(lambda: state(jobs, busy) == "done")
