"""The gallery directory as a whole: making it, opening it, one writer at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from patchwise.codecs import Codec
from patchwise.errors import (
    GalleryBusy,
    GalleryDamaged,
    GalleryError,
    GalleryExists,
    GalleryNotFound,
    StorageFull,
)
from patchwise.store.catalogue import CATALOGUE, Catalogue
from patchwise.store.codes import COMPRESSED, Codes, forget_codes, forget_uncommitted
from patchwise.store.conversion import Rows, keep_only_codes
from patchwise.store.files import total_size, writing
from patchwise.store.manifest import MANIFEST, Manifest
from patchwise.store.remembered import REMEMBERED, RememberedArrays, forget_dropped
from patchwise.store.shards import VECTORS, Shards
from patchwise.store.snapshot import Snapshot
from patchwise.store.verify import VerifyReport, verify
from patchwise.store.writer import Writer

__all__ = ["Store"]

_LOCK = "lock"
_WRITER = "writer.pid"
_OWN_NAMES = {
    MANIFEST,
    MANIFEST + ".new",
    CATALOGUE,
    CATALOGUE + "-wal",
    CATALOGUE + "-shm",
    CATALOGUE + "-journal",
    VECTORS,
    COMPRESSED,
    REMEMBERED,
    _LOCK,
    _WRITER,
}


class Store:
    """An open gallery directory.

    Raises:
        GalleryNotFound: nothing there.
        GalleryDamaged: files are missing or unreadable.
        GalleryMismatch: made by a newer patchwise.
        GalleryError: it may not be read.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._open(folder)
        except PermissionError as error:
            raise GalleryError(
                f"{error.filename or folder}: permission denied. Ask the owner of the gallery, or choose another "
                "with --gallery"
            ) from error

    def _open(self, folder: Path) -> None:
        if not folder.exists():
            raise GalleryNotFound(
                f"{folder}: no gallery here. Make one with: patchwise index FOLDER --gallery {folder}"
            )
        if not (folder / MANIFEST).is_file():
            if _is_half_made(folder) and (folder / VECTORS).exists():
                raise GalleryNotFound(
                    f"{folder}: a gallery was begun here but never finished. "
                    f"Run: patchwise index FOLDER --gallery {folder}"
                )
            if (folder / CATALOGUE).exists():
                raise GalleryDamaged(
                    f"{folder / MANIFEST}: missing. Restore it from a backup, or delete {folder} and index again"
                )
            raise GalleryNotFound(f"{folder}: not a gallery (it has no {MANIFEST})")
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.catalogue = Catalogue(folder)
        self.shards = Shards(folder, self.manifest.dimension)
        self.remembered = RememberedArrays(folder, self.catalogue)
        # Held for moments while a writer begins or ends, and by whoever joins one; never taken inside a transaction.
        self._joining = threading.RLock()
        self._at_work: Writer | None = None

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> Store:
        """Make an empty gallery.

        Raises:
            GalleryExists: a gallery or other files are there already.
            GalleryBusy: another process is making one here.
            StorageFull: the disk refused.
        """
        try:
            _refuse_occupied(folder)
            folder.mkdir(parents=True, exist_ok=True)
            with _exclusive(folder):
                _refuse_occupied(folder)  # another process may have been quicker
                (folder / VECTORS).mkdir(exist_ok=True)
                Catalogue(folder, create=True).close()
                manifest.write(folder)
        except OSError as error:
            raise StorageFull(f"{folder}: a gallery cannot be made here ({error.strerror or error})") from error
        return cls(folder)

    def close(self) -> None:
        self.catalogue.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Keep every other writer out for the length of the block; readers are not affected.

        Raises:
            GalleryBusy: another process is writing.
            GalleryDamaged: a shard is missing or cut short, so that nothing may be appended.
            GalleryNotFound: the gallery was deleted or made anew since it was opened.
        """
        with self._joining, ExitStack() as beginning:
            beginning.enter_context(self._alone())
            committed = self.catalogue.shards()
            self.shards.check(committed, self.catalogue.codecs())
            forget_uncommitted(self.folder, committed)
            made = self._at_work = Writer(self.catalogue, self.shards)
            held = beginning.pop_all()
        try:
            yield made
            self.catalogue.check_in_place()
            forget_dropped(self.folder, self.catalogue)
            self.catalogue.tidy()
        finally:
            with self._joining, held:
                self._at_work = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.catalogue.check_in_place()  # to lock a gallery that was deleted would make its folder again
        with _exclusive(self.folder):
            self.catalogue.check_in_place()
            yield

    @contextmanager
    def joining_writer(self) -> Iterator[Writer]:
        """A writer for one transaction: the one that another thread is at work with, and otherwise one of its own.

        So what is done in a moment need not wait for the end of a long run in the same process; and what else begins
        in the process meanwhile, a long run or another moment, waits for this one.

        Raises:
            GalleryBusy, GalleryDamaged, GalleryNotFound: as `writer`.
        """
        with self._joining:  # held, so that the other cannot let go of the gallery meanwhile
            if self._at_work is not None:
                yield self._at_work
            else:
                with self.writer() as own:
                    yield own

    def keep_only_codes(
        self, codec: Codec, progress: Callable[[int, int], None] | None = None, codes: Codes | None = None
    ) -> None:
        """Replace the fp16 vectors by their codes, shard by shard; what is added later is kept as codes too.

        From then on every reader gets the decoded vectors. Readers at work go on with what they have. Killed anywhere,
        nothing is lost, and the next call goes on. A gallery that holds nothing stays as it is.

        Args:
            codec: turns vectors into codes.
            progress: called with how many rows are done, and how many there were to do.
            codes: derived codes, which are taken where they are whole and of this codec instead of encoding again.

        Raises:
            GalleryBusy: another process is writing.
            GalleryDamaged: vectors are not as they were written; nothing of theirs was replaced.
            GalleryMismatch: vectors of another dimension, or already kept as codes of another codec.
            StorageFull: the disk refused; what was replaced before is safe, and the rest is as it was.
        """
        with self.writer():
            committed = self.catalogue.shards()

            def made(shard: int) -> Rows | None:
                if codes is None or codes.codec.digest != codec.digest or codes.rows(shard) != committed[shard]:
                    return None
                return codes.read(shard)

            keep_only_codes(self.catalogue, self.shards, codec, progress, made)

    def remember_compression(self, asked: Mapping[str, Any]) -> None:
        """Note in the manifest what the gallery is to be compressed with; the caller is the writer."""
        # What another process has written since, such as a whitening that was learned, stays.
        self.manifest = replace(Manifest.read(self.folder), compression=dict(asked))
        with writing(self.folder):
            self.manifest.write(self.folder)

    def compression_wanted(self) -> Mapping[str, Any]:
        """What the gallery was last asked to be compressed with, by whichever process; empty where it never was."""
        return Manifest.read(self.folder).compression

    def kept_codec(self) -> Codec | None:
        """The codec whose codes are kept instead of vectors, at least in some shards.

        Raises:
            GalleryDamaged: its file is missing or altered.
        """
        for digest in self.catalogue.codecs().values():
            return self.shards.codecs.load(digest)
        return None

    def bytes_on_disk(self) -> int:
        """Size of everything in the gallery's directory but what second looks have kept of pictures."""
        kept = self.folder / REMEMBERED
        return total_size(path for path in self.folder.rglob("*") if kept not in path.parents)

    def snapshot(self) -> Snapshot:
        """The live pictures as of now.

        Raises:
            GalleryDamaged: a shard is missing or cut short.
            GalleryNotFound: the gallery was deleted or made anew since it was opened.
        """
        while True:
            version = self.catalogue.data_version()
            try:
                found = Snapshot(self.catalogue, self.shards)
                self.catalogue.check_in_place()  # or the shards that were mapped may be those of another gallery
                return found
            except FileNotFoundError:
                self.catalogue.check_in_place()
                continue  # gone between the check and the mapping: the next round knows why
            except GalleryDamaged:
                self.catalogue.check_in_place()
                # Another process may have compacted after the catalogue was read; what it says now has its files.
                if self.catalogue.data_version() == version:
                    raise

    def verify(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check every stored byte; with `repair`, forget the pictures whose vectors are lost.

        Their files are encoded again by the next indexing of their folder.
        """
        if not repair:
            return verify(self.catalogue, self.shards, progress)[0]
        with self._alone():
            report, damaged = verify(self.catalogue, self.shards, progress)
            with self.catalogue.transaction():
                self.catalogue.drop_contents(damaged)
                self._close_broken_shards()
            report.repaired = not self.catalogue.integrity_problems()
            return report

    def _close_broken_shards(self) -> None:
        """Shorten the committed length of cut shards to the rows still in use, so that they can be opened."""
        in_use: dict[int, int] = {}
        for content in self.catalogue.contents(live_only=False):
            in_use[content.shard] = max(in_use.get(content.shard, 0), content.first + content.rows)
        committed, codecs = self.catalogue.shards(), self.catalogue.codecs()
        broken = {shard for shard, rows in committed.items() if self.shards.problems(shard, rows, codecs.get(shard))}
        forget_codes(self.folder, broken)  # other rows will take the place of those that are lost
        for shard in broken & in_use.keys():
            self.catalogue.put_shard(shard, in_use[shard], codecs.get(shard))
        self.catalogue.drop_shards_except(shard for shard in committed if in_use.get(shard) or shard not in broken)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    # The operating system drops the lock when its process ends, however that happens.
    lock = FileLock(folder / _LOCK, timeout=0)
    owner = folder / _WRITER
    try:
        lock.acquire()
    except Timeout as error:
        try:
            pid = owner.read_text(encoding="ascii").strip() or "unknown"
        except OSError:
            pid = "unknown"
        raise GalleryBusy(
            f"{folder}: another patchwise (process {pid}) is writing to this gallery; wait until it has finished, "
            "or stop it"
        ) from error
    except OSError as error:
        raise StorageFull(f"{folder}: cannot be written to ({error.strerror or error})") from error
    try:
        with suppress(OSError):  # only a courtesy, as on a full disk
            owner.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        lock.release()


def _refuse_occupied(folder: Path) -> None:
    if (folder / MANIFEST).exists() or (folder.exists() and not _is_half_made(folder)):
        what = "a gallery" if (folder / MANIFEST).exists() else "something that is not a gallery"
        raise GalleryExists(f"{folder}: {what} is already there; choose another place with --gallery")


def _is_half_made(folder: Path) -> bool:
    """Whether a folder holds nothing but what an interrupted `create` leaves (or nothing at all)."""
    if not folder.is_dir():
        return False
    if any(entry.name not in _OWN_NAMES for entry in folder.iterdir()):
        return False
    return not any(any(place.iterdir()) for place in (folder / VECTORS, folder / COMPRESSED) if place.is_dir())
