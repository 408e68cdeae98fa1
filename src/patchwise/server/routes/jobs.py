"""Jobs: listed, watched, cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.sse import EventSourceResponse, ServerSentEvent

from patchwise.server import schemas
from patchwise.server.dependencies import Served, Server
from patchwise.server.jobs import JobStatus
from patchwise.server.problems import Problem, problems
from patchwise.wire import shown_text, text_of_path

__all__ = ["described", "router"]

router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Job id")]


def _status(server: Server, job: JobId) -> JobStatus:
    found = server.adding.jobs.get(job)
    if found is None:
        raise Problem(404, f"no job {job}; the last 200 that have ended are remembered", "job-not-found")
    return found


def _watchable(server: Server, status: Annotated[JobStatus, Depends(_status)]) -> JobStatus:
    server.adding.jobs.check_watchers(status.job)  # before the answer begins
    return status


Status = Annotated[JobStatus, Depends(_status)]
Watchable = Annotated[JobStatus, Depends(_watchable)]


@router.get("/galleries/{gallery}/jobs", operation_id="list_jobs", summary="List jobs", responses=problems(404, 422))
async def list_jobs(served: Served, server: Server) -> schemas.Jobs:
    """The jobs of a gallery, newest first."""
    return schemas.Jobs(jobs=[described(status) for status in server.adding.jobs.of(served.name)])


@router.get("/jobs/{job}", operation_id="get_job", summary="Describe a job", responses=problems(404, 422))
async def get_job(status: Status) -> schemas.Job:
    """How far a job is."""
    return described(status)


@router.delete(
    "/jobs/{job}", status_code=202, operation_id="cancel_job", summary="Cancel a job", responses=problems(404, 422, 503)
)
async def cancel_job(status: Status, server: Server) -> schemas.Job:
    """A queued job is dropped; a running one ends after the images under way, and what is indexed stays."""
    now = await server.pool.run(lambda: server.adding.jobs.cancel(status.job))
    return described(now or status)


@router.get(
    "/jobs/{job}/events",
    operation_id="watch_job",
    summary="Watch a job",
    response_class=EventSourceResponse,
    responses=problems(404, 422, 503),
)
async def watch_job(status: Watchable, server: Server) -> AsyncIterator[ServerSentEvent]:
    """Events `progress`, each with the job as data, and `end` when it has ended; then the stream is over.

    A server that stops ends the stream without `end`: the job goes on after its next start.
    """
    async for now in server.adding.jobs.watch(status):
        yield ServerSentEvent(event="end" if now.ended else "progress", data=described(now))


def described(status: JobStatus) -> schemas.Job:
    """The job as it is sent."""
    return schemas.Job(
        job=status.job,
        gallery=status.gallery,
        kind=status.kind,
        state=status.state,
        done=status.done,
        total=status.total,
        added=status.added,
        failures=status.failures,
        failed=[schemas.Failed(path=text_of_path(path), reason=shown_text(reason)) for path, reason in status.failed],
        refused=[schemas.Refused(name=shown_text(name), reason=shown_text(why)) for name, why in status.refused],
        note=status.note,
        error=status.error,
        created=status.created.isoformat(timespec="seconds"),
        finished=None if status.finished is None else status.finished.isoformat(timespec="seconds"),
    )
