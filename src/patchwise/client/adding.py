"""Uploading files and folders: in batches, what is there already left out, and waiting until they can be found."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from patchwise.client.connection import Connection
from patchwise.client.problems import NoneTaken, NotThere, TooMuch
from patchwise.client.shapes import Job, job_of
from patchwise.errors import ImageError, ImageUnreadable, PatchwiseError, ServerError
from patchwise.images import digest_of, read_bytes
from patchwise.indexing import IndexProgress, walk
from patchwise.indexing.walk import FoundFile

__all__ = ["AddReport", "AddingFailed", "add_files", "wait_for"]

_BATCH_FILES = 32
_BATCH_BYTES = 16 * 2**20
_JOBS_UNDER_WAY = 4
_NOT_IN_FORMS = re.compile(r'[\x00-\x1f\x7f"\\]')
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

Progress = Callable[[IndexProgress], None]


@dataclass
class AddReport:
    """What came of adding: counts of files; `failed` and `unreadable_folders` are (path, reason), `jobs` their ids.

    `unchanged` are pictures that the gallery held already, whatever their name. Where nobody waited for the jobs,
    `added` counts only what was done by then.
    """

    added: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    unreadable_folders: list[tuple[str, str]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    seconds: float = 0.0


class AddingFailed(ServerError):
    """Adding ended before its end; `report` says what came of it by then, and its cause is the error that ended it."""

    def __init__(self, error: PatchwiseError, report: AddReport) -> None:
        super().__init__(str(error))
        self.report = report


@dataclass(frozen=True)
class _File:
    path: str
    digest: str
    content: bytes


def add_files(
    connection: Connection,
    gallery: str,
    paths: Sequence[str | os.PathLike[str]],
    *,
    wait: bool,
    progress: Progress | None,
) -> AddReport:
    """See `Client.add`."""
    began = time.monotonic()
    found = walk(paths)
    adding = _Adding(connection, gallery, len(found.files), progress or (lambda _: None))
    adding.report.unreadable_folders = found.unreadable
    try:
        _add(adding, found.files, wait=wait)
    except PatchwiseError as error:
        raise AddingFailed(error, adding.report) from error
    finally:
        adding.report.seconds = time.monotonic() - began
    return adding.report


def _add(adding: _Adding, files: Sequence[FoundFile], *, wait: bool) -> None:
    batch: list[_File] = []
    for one in files:
        try:
            content = read_bytes(one.path)
        except ImageUnreadable as error:
            adding.failed(one.path, error.reason)
            continue
        file = _File(one.path, digest_of(content), content)
        if adding.is_there(file):
            continue
        if batch and (
            len(batch) == _BATCH_FILES
            or sum(len(each.content) for each in batch) + len(content) > _BATCH_BYTES
            or any(_name(each.path) == _name(file.path) for each in batch)  # the server tells them apart by it
        ):
            adding.send(batch)
            batch = []
        batch.append(file)
    if batch:
        adding.send(batch)
    if wait:
        adding.finish()


def wait_for(
    connection: Connection, gallery: str, job: Job, progress: Progress | None, *, wait: bool = True
) -> AddReport:
    """What comes of one job that adds paths of the server."""
    began = time.monotonic()
    report = AddReport(jobs=[job.job])
    if wait:
        for now in _until_ended(connection, job):
            job = now
            if progress is not None:
                progress(IndexProgress(job.done, job.total))
        _check(gallery, job)
    report.added, report.failed = job.added, list(job.failed)
    report.seconds = time.monotonic() - began
    return report


class _Adding:
    """One call's uploads, and the jobs that index them."""

    def __init__(self, connection: Connection, gallery: str, total: int, progress: Progress) -> None:
        self.report = AddReport()
        self._connection, self._gallery = connection, gallery
        self._total, self._progress = total, progress
        self._ended = 0  # files of which all is known
        self._sent: set[str] = set()
        self._paths: dict[str, str] = {}  # the first twelve digits of a digest: where it is here
        self._under_way: deque[tuple[str, int]] = deque()  # job, files

    def is_there(self, file: _File) -> bool:
        """Whether the gallery holds this picture, or will, as it was sent already."""
        if file.digest not in self._sent:
            try:
                self._connection.ask("GET", f"/galleries/{self._gallery}/images/{file.digest}", lambda _: None)
            except NotThere:
                self._sent.add(file.digest)
                self._paths[file.digest[:12]] = file.path
                return False
        self.report.unchanged += 1
        self._step(1)
        return True

    def failed(self, path: str, reason: str) -> None:
        """A file that cannot be added."""
        self.report.failed.append((path, reason))
        self._step(1, (path, reason))

    def send(self, batch: Sequence[_File]) -> None:
        """Upload some files; where all are refused, or they are too much for the server, in smaller batches."""
        form = [("pictures", (_name(file.path), file.content, "application/octet-stream")) for file in batch]
        try:
            job = self._connection.ask("POST", f"/galleries/{self._gallery}/images", job_of, files=form)
        except NoneTaken as error:
            self._refused(list(batch), error.refused)
            return
        except PatchwiseError as error:
            if not isinstance(error, ImageError | TooMuch):  # then other or fewer files may do
                raise
            if len(batch) == 1:
                self.failed(batch[0].path, _reason(error, batch[0]))
                return
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self.send(half)
            return
        left = list(batch)
        self._refused(left, job.refused)
        self.report.jobs.append(job.job)
        self._under_way.append((job.job, len(left)))
        self._settle(_JOBS_UNDER_WAY - 1)  # so that others get their turn, and the server's queue is not full

    def finish(self) -> None:
        """Wait until all that was sent is indexed."""
        self._settle(0)

    def _refused(self, left: list[_File], refused: Sequence[tuple[str, str]]) -> None:
        """Take out of a batch what was refused, given as (name, reason)."""
        for name, reason in refused:
            file = next((file for file in left if _name(file.path) == name), None)
            if file is not None:
                left.remove(file)
            self.failed(name if file is None else file.path, reason)

    def _settle(self, most: int) -> None:
        """Take in the jobs that have ended, in the order that they were sent in, until at most so many have not."""
        while self._under_way:
            name, files = self._under_way[0]
            job = self._connection.ask("GET", f"/jobs/{name}", job_of)
            if not job.ended:
                if len(self._under_way) <= most:
                    return
                for now in _until_ended(self._connection, job):
                    job = now
                    self._progress(IndexProgress(self._ended + min(job.done, files), self._total))
            self._under_way.popleft()
            _check(self._gallery, job)
            self.report.added += job.added
            for path, reason in job.failed:
                self.failed(self._here(path), reason)
            self._step(files - len(job.failed))

    def _here(self, path: str) -> str:
        """The file whose upload became this one on the server."""
        stem = os.path.splitext(os.path.basename(path))[0]
        return self._paths.get(stem.rpartition("-")[2][:12], path)

    def _step(self, files: int, failed: tuple[str, str] | None = None) -> None:
        self._ended += files
        self._progress(IndexProgress(self._ended, self._total, failed))


def _until_ended(connection: Connection, job: Job) -> Iterator[Job]:
    pause = _FIRST_PAUSE
    while not job.ended:
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        job = connection.ask("GET", f"/jobs/{job.job}", job_of)
        yield job


def _check(gallery: str, job: Job) -> None:
    if job.state == "failed":
        raise ServerError(f"gallery {gallery!r}: images could not be added: {job.error}")
    if job.state == "cancelled":
        raise ServerError(f"gallery {gallery!r}: somebody cancelled the adding of images; what was done by then stays")


def _reason(error: PatchwiseError, file: _File) -> str:
    said = error.reason if isinstance(error, ImageError) else str(error)
    return said.removeprefix(f"{_name(file.path)}: ")


def _name(path: str) -> str:
    """What a file is called on its way, in which nothing is written in another way."""
    return _NOT_IN_FORMS.sub("_", os.path.basename(path).encode("utf-8", "replace").decode())
