"""One indexing run: what changed, decode ahead, encode, commit often, sweep what vanished."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from patchwise.encoders import Encoder
from patchwise.errors import GalleryError, ImageError
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing.ahead import ahead
from patchwise.indexing.encode import BatchEncoder
from patchwise.indexing.moves import moved_files, worth_comparing
from patchwise.indexing.passes import Passes, passes_of
from patchwise.indexing.prepare import Prepared, cut_picture, read_and_hash
from patchwise.indexing.walk import FoundFile, Walk
from patchwise.metadata import MetadataReport
from patchwise.regions import RegionStrategy
from patchwise.store import Encoded, FileRow, Writer

__all__ = ["IndexProgress", "IndexReport", "index_paths", "prepared_ahead"]

_COMMIT_PICTURES = 64
_COMMIT_SECONDS = 5.0


@dataclass(frozen=True)
class IndexProgress:
    """After each file: `done` of `total` that needed a look; `failed` is (path, reason) if it could not be read."""

    done: int
    total: int
    failed: tuple[str, str] | None = None


@dataclass
class IndexReport:
    """What an indexing run did; every count is of files, `failed` and `unreadable_folders` are (path, reason).

    `renamed` files hold a picture that left another path in the same run, because it was moved, swapped or overwritten.
    `metadata` says what was joined to the images, where a file of metadata was given.
    """

    added: int = 0
    changed: int = 0
    renamed: int = 0
    copied: int = 0
    unchanged: int = 0
    removed: int = 0
    encoded_regions: int = 0
    seconds: float = 0.0
    failed: list[tuple[str, str]] = field(default_factory=list)
    still_failing: int = 0
    unreadable_folders: list[tuple[str, str]] = field(default_factory=list)
    metadata: MetadataReport | None = None


@dataclass(frozen=True)
class _Looked:
    """What a worker found in a file: a picture to encode, or the id of one that is known already."""

    file: FoundFile
    digest: bytes
    prepared: Prepared | None
    known_content: int | None


def index_paths(
    writer: Writer,
    load_encoder: Callable[[], Encoder],
    strategy: RegionStrategy,
    found: Walk,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    workers: int | None = None,
    progress: Callable[[IndexProgress], None] | None = None,
) -> IndexReport:
    """Bring the gallery up to date with the files found; an interrupted run is continued by the next.

    The encoder is loaded only when a file needs a look. Whatever `progress` raises ends the run, and what is encoded by
    then is committed.

    Raises:
        GalleryError: a root holds no image at all any more, although the gallery knows some from there.
        StorageFull: the disk refused; what was committed before is safe.
    """
    began = time.monotonic()
    report = IndexReport(unreadable_folders=found.unreadable)
    known: dict[str, FileRow] = {}
    for root in found.roots:
        known.update(writer.catalogue.known(root))
    vanished = _vanished(found, known)
    _refuse_emptied_roots(found, known, vanished)

    todo = [file for file in found.files if not _same(file, known.get(file.path))]
    todo_paths = {file.path for file in todo}
    for file in found.files:
        if file.path not in todo_paths:
            report.unchanged += known[file.path].content is not None
            report.still_failing += known[file.path].content is None
    run: _Run | None = None
    if todo:
        encoder = load_encoder()
        run = _Run(writer, encoder, report, known, todo_paths, progress)
        passes = passes_of(encoder)
        look = _Look(writer, passes, strategy, max_pixels)
        try:
            settled = run.settle_moves(todo, vanished, workers)
            left = [file for file in todo if file.path not in settled]
            for looked in ahead(look, left, passes.input_bytes(strategy), workers):
                run.take(looked)
            run.finish()
        except GalleryError:
            raise  # the gallery takes no more; what was committed before is safe
        except BaseException:
            run.commit()
            raise
    if vanished:
        writer.record(forgotten=vanished)
    report.removed = sum(known[path].content is not None for path in vanished) - (run.moved_away if run else 0)
    report.seconds = time.monotonic() - began
    return report


class _Run:
    """Takes looked-at files in order, and commits them in small groups."""

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        report: IndexReport,
        known: dict[str, FileRow],
        todo: AbstractSet[str],
        progress: Callable[[IndexProgress], None] | None,
    ) -> None:
        self._writer, self._report, self._known = writer, report, known
        self._todo, self._done, self._progress = todo, 0, progress
        self._held = {row.content for row in known.values() if row.content is not None}
        self._batches: BatchEncoder[_Looked] = BatchEncoder(encoder)
        self._under_way: dict[bytes, list[FoundFile]] = {}  # hash of a picture not stored yet: its further files
        self._pictures: list[Encoded] = []
        self._files: list[FileRow] = []
        self._failures: list[tuple[FileRow, str]] = []
        self._undescribed: list[str] = []
        self.moved_away = 0
        self._last_commit = time.monotonic()

    def settle_moves(self, todo: Sequence[FoundFile], vanished: Sequence[str], workers: int | None) -> set[str]:
        """Record moved files in one step, with what was said of them; returns the files that need no further look.

        Were they recorded one after the other, a killed run would leave some with the words for another picture.
        """
        candidates = worth_comparing(todo, self._known, vanished)
        files = [file for file in todo if file.path in candidates]
        now: dict[str, int | None] = {}
        for file, content in ahead(self._content_now, files, 1, workers):
            now[file.path] = content
            self._step(counts=content is not None)
        moved = moved_files(now, self._known, vanished, self._writer.catalogue.is_described)
        try:
            for file in files:
                if (held := now[file.path]) is not None:
                    self._relink(file, held, moved.get(file.path))
            if self._files:
                self._writer.record(files=self._files, renamed=moved, undescribed=self._undescribed)
        finally:
            self._files, self._undescribed = [], []  # whatever interrupts it: never one without the other
        self.moved_away = len(set(moved.values()).intersection(vanished))
        return {path for path, content in now.items() if content is not None}

    def _content_now(self, file: FoundFile) -> tuple[FoundFile, int | None]:
        try:
            with read_and_hash(file) as (_, digest):
                content = self._writer.catalogue.content_by_hash(digest)
        except ImageError:  # read again, and reported, in its turn
            return file, None
        return file, None if content is None else content.id

    def take(self, looked: _Looked | tuple[FoundFile, str]) -> None:
        if isinstance(looked, tuple):
            file, reason = looked
            self._failures.append((FileRow(file.path, file.mtime_ns, file.size, None), reason))
            self._report.failed.append((file.path, reason))
            self._step((file.path, reason))
        elif looked.known_content is not None:
            self._relink(looked.file, looked.known_content)
            self._step()
        elif looked.digest in self._under_way:
            self._under_way[looked.digest].append(looked.file)
            self._count_copy(looked.file)
            self._step()
        elif (content := self._writer.catalogue.content_by_hash(looked.digest)) is not None:
            self._relink(looked.file, content.id)  # stored since the worker looked
            self._step()
        elif looked.prepared is not None:
            self._under_way[looked.digest] = []
            self._store(self._batches.push(looked, looked.prepared))
        waiting = len(self._pictures) + len(self._files) + len(self._failures)
        if waiting >= _COMMIT_PICTURES or (waiting and time.monotonic() - self._last_commit > _COMMIT_SECONDS):
            self.commit()

    def finish(self) -> None:
        self._store(self._batches.finish())
        self.commit()

    def commit(self) -> None:
        if self._pictures:
            copies = [
                replace(picture, path=file.path, mtime_ns=file.mtime_ns, size=file.size)
                for picture in self._pictures
                for file in self._under_way.get(picture.digest, ())
            ]
            self._writer.add(self._pictures + copies)
            for picture in self._pictures:
                self._under_way.pop(picture.digest, None)
        if self._files or self._failures:
            self._writer.record(files=self._files, failures=self._failures, undescribed=self._undescribed)
        self._pictures, self._files, self._failures, self._undescribed = [], [], [], []
        self._last_commit = time.monotonic()

    def _relink(self, file: FoundFile, content: int, moved_from: str | None = None) -> None:
        self._files.append(FileRow(file.path, file.mtime_ns, file.size, content))
        before = self._known.get(file.path)
        if before is not None and before.content == content:
            self._report.unchanged += 1
        elif moved_from is not None:
            self._report.renamed += 1
        else:
            self._count_copy(file)
            if before is not None and before.content is not None and self._is_of_another(content):
                self._undescribed.append(file.path)  # what was said there is of the picture that was overwritten

    def _is_of_another(self, content: int) -> bool:
        """Whether a picture was held by any file before this run."""
        return content in self._held or any(
            path not in self._known and path not in self._todo for path, _ in self._writer.catalogue.paths_of([content])
        )

    def _count_copy(self, file: FoundFile) -> None:
        before = self._known.get(file.path)
        if before is not None and before.content is not None:
            self._report.changed += 1
        else:
            self._report.copied += 1

    def _store(self, complete: Iterable[tuple[_Looked, Prepared, npt.NDArray[np.float32]]]) -> None:
        for looked, prepared, vectors in complete:
            file = looked.file
            self._pictures.append(
                Encoded(
                    file.path,
                    file.mtime_ns,
                    file.size,
                    looked.digest,
                    prepared.image_size,
                    prepared.regions,
                    vectors,
                )
            )
            self._report.encoded_regions += len(prepared.regions)
            before = self._known.get(file.path)
            if before is None or before.content is None:
                self._report.added += 1
            else:
                self._report.changed += 1
            self._step()

    def _step(self, failed: tuple[str, str] | None = None, *, counts: bool = True) -> None:
        self._done += counts
        if self._progress is not None:
            self._progress(IndexProgress(self._done, len(self._todo), failed))


class _Look:
    """What a worker thread does with one file."""

    def __init__(self, writer: Writer, passes: Passes, strategy: RegionStrategy, max_pixels: int) -> None:
        self._catalogue, self._passes, self._strategy = writer.catalogue, passes, strategy
        self._max_pixels = max_pixels

    def __call__(self, file: FoundFile) -> _Looked | tuple[FoundFile, str]:
        try:
            with read_and_hash(file) as (source, digest):
                content = self._catalogue.content_by_hash(digest)
                if content is not None:
                    return _Looked(file, digest, None, content.id)
                prepared = cut_picture(source, file.path, self._passes, self._strategy, self._max_pixels)
                return _Looked(file, digest, prepared, None)
        except ImageError as error:
            return file, error.reason


def prepared_ahead(
    files: Sequence[FoundFile],
    encoder: Encoder,
    strategy: RegionStrategy,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[Prepared]:
    """Decode and cut files ahead of their use; those that cannot be read are left out."""
    passes = passes_of(encoder)

    def look(file: FoundFile) -> _Looked | tuple[FoundFile, str]:
        try:
            with read_and_hash(file) as (source, digest):
                return _Looked(file, digest, cut_picture(source, file.path, passes, strategy, max_pixels), None)
        except ImageError as error:
            return file, error.reason

    for looked in ahead(look, files, passes.input_bytes(strategy)):
        if isinstance(looked, _Looked) and looked.prepared is not None:
            yield looked.prepared


def _same(file: FoundFile, row: FileRow | None) -> bool:
    return row is not None and row.mtime_ns == file.mtime_ns and row.size == file.size


def _below(root: str, path: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _vanished(found: Walk, known: dict[str, FileRow]) -> list[str]:
    present = {file.path for file in found.files}
    hidden = [folder for folder, _ in found.unreadable]
    return [path for path in known if path not in present and not any(_below(folder, path) for folder in hidden)]


def _refuse_emptied_roots(found: Walk, known: dict[str, FileRow], vanished: Sequence[str]) -> None:
    for root in found.roots:
        held = sum(known[path].content is not None and _below(root, path) for path in vanished)
        if held and not any(_below(root, file.path) for file in found.files):
            raise GalleryError(
                f"{root}: holds no image any more, but the gallery knows {held:,} from there. Is a drive not mounted? "
                f"Nothing was changed. To drop them: patchwise remove {root}"
            )
