"""Adding images to galleries that are served: uploads and folders of the server become jobs that outlive it."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from threading import Event

from patchwise.errors import ImageError, PatchwiseError
from patchwise.gallery import Gallery
from patchwise.indexing import IndexProgress
from patchwise.server.galleries import Galleries, ServedGallery
from patchwise.server.jobs import JobProgress, Jobs, JobStatus
from patchwise.server.problems import Problem, problem_of
from patchwise.server.settings import Settings
from patchwise.server.unfinished import Unfinished, UnfinishedJob
from patchwise.server.uploads import Uploads, check_picture
from patchwise.wire import is_whole_path, path_of_text, shown_text

__all__ = ["Adding"]

_log = logging.getLogger("patchwise.server")


class Adding:
    """What is being added to the galleries of a server, and where uploads are kept; `jobs` are those of all."""

    def __init__(self, settings: Settings, galleries: Galleries, stopping: Event) -> None:
        self._settings, self._galleries = settings, galleries
        self._roots = tuple(os.path.realpath(root) for root in settings.roots)
        self._uploads = {served.name: Uploads(served.uploads) for served in galleries}
        self._unfinished = {
            name: Unfinished(uploads.folder, uploads.presence) for name, uploads in self._uploads.items()
        }
        self._claimed: dict[str, tuple[str, ...]] = {}  # job: uploads that it needs
        self._failed: dict[str, dict[str, UnfinishedJob]] = {name: {} for name in self._uploads}  # by gallery, job
        self.jobs = Jobs(explain=_explained, stopping=stopping)

    def start(self) -> None:
        """Go on with what an earlier server left undone, and bring all uploads up to date."""
        for served in self._galleries:
            if served.writable:
                try:
                    self._go_on(served)
                except OSError as error:
                    _log.warning("%s: what was uploaded cannot be looked at (%s)", served.uploads, error)

    def _go_on(self, served: ServedGallery) -> None:
        uploads, unfinished = self._uploads[served.name], self._unfinished[served.name]
        if not uploads.folder.is_dir():
            return
        uploads.presence.begin()
        uploads.tidy()
        unfinished.tidy()
        for left in unfinished.read():
            try:
                unfinished.write(left)  # from now on it is this server's
            except PatchwiseError as error:
                _log.warning("%s", error)
            self._queue(served, left, since=left.since)
        if uploads.presence.is_alone() and not uploads.is_empty():
            self.jobs.submit(served.name, self._all_uploads(served), secrets.token_hex(8), quiet=True)

    def stop(self) -> None:
        """Have running jobs end at their next commit; what is left is gone on with by the next server."""
        if not self.jobs.stop():
            _log.warning("a job did not end in time; it is gone on with after the next start")
            return
        for uploads in self._uploads.values():
            uploads.presence.end()

    def uploads_of(self, served: ServedGallery) -> Uploads:
        """The folder of uploads to a gallery."""
        return self._uploads[served.name]

    def add_pictures(self, served: ServedGallery, pictures: Sequence[tuple[str, bytes]]) -> JobStatus:
        """Keep uploaded pictures, given as (name, bytes), on disk, and have them indexed.

        Raises:
            Problem: none of them can be used, or the gallery may not be written to.
            QueueFull: too many jobs wait.
            StorageFull: the disk refused; none is kept.
        """
        _refuse_read_only(served)
        with self.jobs.room(served.name) as job:
            taken: list[tuple[str, bytes, str]] = []
            refused: list[tuple[str, str]] = []
            for name, content in pictures:
                try:
                    taken.append((name, content, check_picture(name, content, self._settings.max_pixels)))
                except ImageError as error:
                    refused.append((name, error.reason))
            if not taken:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in refused[:5])
                more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
                detail = f"none of the pictures can be added: {reasons}{more}"
                listed = [{"name": shown_text(name), "reason": shown_text(reason)} for name, reason in refused]
                raise Problem(422, detail, "image-unreadable", refused=listed)
            uploads = self._uploads[served.name]
            with uploads.lock:
                names, new = uploads.keep(taken)
                names = list(dict.fromkeys(names))
                asked = UnfinishedJob(job, "uploads", tuple(names), (), tuple(refused), _now())
                try:
                    self._unfinished[served.name].write(asked)
                except PatchwiseError:
                    uploads.delete(new)
                    raise
                return self._queue(served, asked)

    def add_paths(self, served: ServedGallery, paths: Iterable[str]) -> JobStatus:
        """Have files and folders of the server indexed.

        Raises:
            Problem: one lies outside the allowed folders, whether it exists or not, or does not exist inside of them;
                or the gallery may not be written to.
            QueueFull: too many jobs wait.
            StorageFull: the disk refused.
        """
        _refuse_read_only(served)
        allowed = tuple(dict.fromkeys(self._allowed(path) for path in paths))
        with self.jobs.room(served.name) as job:
            asked = UnfinishedJob(job, "paths", (), allowed, (), _now())
            self._unfinished[served.name].write(asked)
            return self._queue(served, asked)

    def _allowed(self, sent: str) -> str:
        """The absolute path that was sent, if its real one is below a root."""
        path = path_of_text(sent)
        if not is_whole_path(path):
            raise Problem(422, f"path {shown_text(path)!r}: expected the whole path of a file or folder", "path")
        real = os.path.realpath(path)
        if not any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots):
            below = "below none of the folders that images may be added from (--root)"
            raise Problem(403, f"{shown_text(path)}: {below}", "path")
        if not os.path.exists(real):
            raise Problem(422, f"{shown_text(path)}: no such file or folder", "path")
        return os.path.abspath(path)

    def _queue(self, served: ServedGallery, asked: UnfinishedJob, since: datetime | None = None) -> JobStatus:
        self._claimed[asked.job] = asked.names

        def work(progress: JobProgress) -> None:
            if asked.kind == "paths":
                self._add(served, [Path(path) for path in asked.paths], progress, self._roots)
                return
            self._add_uploads(served, asked.names, progress)

        def at_end(status: JobStatus) -> None:
            if status.state == "failed" and asked.names:
                self._failed[served.name][asked.job] = asked  # somebody was told that they are kept
                return
            try:
                if status.state == "cancelled" and asked.names:
                    self._drop_uploads(served, asked)
            finally:
                self._forget(served, asked)
            if status.state == "done":
                self._try_again(served)

        return self.jobs.submit(
            served.name,
            work,
            asked.job,
            total=len(asked.names),
            refused=asked.refused,
            at_end=at_end,
            created=since,
        )

    def _try_again(self, served: ServedGallery) -> None:
        """Index uploads whose jobs have failed, as for want of space, now that others could be indexed."""
        failed = self._failed[served.name]
        again, names = list(failed.values()), tuple(name for asked in failed.values() for name in asked.names)
        failed.clear()

        def at_end(status: JobStatus) -> None:
            for asked in again:
                if status.state == "done":
                    self._forget(served, asked)
                else:
                    failed[asked.job] = asked

        if again:
            job = secrets.token_hex(8)
            self.jobs.submit(
                served.name, lambda progress: self._add_uploads(served, names, progress), job, at_end=at_end, quiet=True
            )

    def _forget(self, served: ServedGallery, asked: UnfinishedJob) -> None:
        self._claimed.pop(asked.job, None)
        self._unfinished[served.name].forget(asked.job)

    def _all_uploads(self, served: ServedGallery) -> Callable[[JobProgress], None]:
        folder = self._uploads[served.name].folder
        return lambda progress: self._add(served, [folder], progress, [folder])

    def _add_uploads(self, served: ServedGallery, names: Sequence[str], progress: JobProgress) -> None:
        folder = self._uploads[served.name].folder
        files = [folder / os.path.basename(name) for name in dict.fromkeys(names)]
        there = [file for file in files if file.is_file() and not file.is_symlink()]  # or deleted meanwhile
        self._add(served, there, progress, [folder], len(there))

    def _add(
        self,
        served: ServedGallery,
        paths: Sequence[Path],
        progress: JobProgress,
        within: Sequence[str | Path],
        least: int = 0,
    ) -> None:
        """Index what lies within some folders; `least` files are counted as done, though they may be known already."""
        if not paths:
            progress.end(0, 0)
            return

        def step(event: IndexProgress) -> None:
            progress.step(event.done, event.total, event.failed and _as_text(event.failed))

        gallery = self._galleries.get(served.name).gallery  # it may have been made anew since the job was asked for
        report = gallery.add(
            *paths,
            within=within,
            max_pixels=self._settings.max_pixels,
            progress=step,
        )
        added = report.added + report.changed + report.copied + report.renamed
        progress.end(
            added, max(added + len(report.failed), least), [_as_text(one) for one in report.unreadable_folders]
        )

    def _drop_uploads(self, served: ServedGallery, asked: UnfinishedJob) -> None:
        """Delete what a cancelled job did not get to, unless another job needs it."""
        uploads, gallery = self._uploads[served.name], self._galleries.get(served.name).gallery
        with uploads.lock:
            needed = {name for job, names in self._claimed.items() if job != asked.job for name in names}
            uploads.delete(
                name for name in asked.names if name not in needed and not _is_indexed(gallery, uploads.folder / name)
            )


def _is_indexed(gallery: Gallery, file: Path) -> bool:
    try:
        return gallery.is_as_indexed(str(file))
    except ImageError:  # gone
        return False


def _refuse_read_only(served: ServedGallery) -> None:
    if not served.writable:
        raise Problem(403, f"the gallery {served.name!r} may not be written to", "read-only")


def _explained(error: PatchwiseError) -> str:
    return shown_text(str(problem_of(error).detail))


def _as_text(failed: tuple[str, str]) -> tuple[str, str]:
    return failed[0], shown_text(failed[1])


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
