"""Uploaded images: checked, named safely, and forced to disk before anybody is told that they are kept."""

from __future__ import annotations

import os
import re
import secrets
import stat
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from patchwise.errors import StorageFull
from patchwise.images import digest_of, image_suffixes, read_picture
from patchwise.server.contents import format_of
from patchwise.server.presence import Presence
from patchwise.whole_files import force_folder

__all__ = ["Uploads", "check_picture", "safe_name"]

_SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "GIF": ".gif",
    "AVIF": ".avif",
    "HEIF": ".heic",
    "JPEG2000": ".jp2",
    "PPM": ".ppm",
}
_STEM_BYTES = 100
_DIGEST_PIECE = 12
_NOT_IN_NAMES = re.compile(r'[<>:"|?*]')  # Windows refuses them
_KEPT_NAME = re.compile(r"-([0-9a-f]{12})(?:[0-9a-f]{20})?\.[a-z0-9]+$")
_TEMPORARY, _REMOVED = ".new", ".removed"
_OF_SERVER = re.compile(r"\.([0-9a-f]{8})-")


def check_picture(name: str, content: bytes, max_pixels: int) -> str:
    """The format of a file's bytes, such as "JPEG", after decoding them to the end.

    Raises:
        ImageError: they are no picture, are corrupt, or have more than `max_pixels`.
    """
    read_picture(content, name=name, max_pixels=max_pixels)
    return format_of(content)


def safe_name(name: str, digest: str, file_format: str, digest_length: int = _DIGEST_PIECE, server: str = "") -> str:
    """A file name that stays in its folder on every system, made of what a client calls a picture.

    Args:
        name: anything; of a path only the last part is used.
        digest: the image id, a piece of which keeps names apart.
        file_format: the true format, which gives the ending.
        digest_length: how long that piece is.
        server: what else keeps names apart, where several servers use one folder.
    """
    base = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    # Categories: other (controls, surrogates, invisible directions) and separators.
    base = "".join(" " if unicodedata.category(one)[0] == "Z" else one for one in base)
    base = "".join(one for one in base if unicodedata.category(one)[0] != "C")
    stem, suffix = os.path.splitext(_NOT_IN_NAMES.sub("_", base))
    if suffix.lower() not in image_suffixes():
        stem += suffix
    stem = stem.lstrip(" .-~").encode()[:_STEM_BYTES].decode(errors="ignore").rstrip(" .")
    own = f"-{server}" if server else ""
    return f"{stem or 'picture'}{own}-{digest[:digest_length]}{_SUFFIXES.get(file_format, '.img')}"


class Uploads:
    """The folder of one gallery's uploads; it is made when the first image comes. Links in it are never followed.

    Whoever changes files holds `lock`. Other servers may use the same folder: then each keeps files under names of its
    own, and leaves alone what belongs to one that still runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.lock = threading.RLock()
        self.presence = Presence(self.folder)
        self._names: dict[str, str] | None = None  # piece of the digest: a file that may hold it

    def holds(self, path: str) -> bool:
        """Whether a path is directly in this folder."""
        return Path(path).parent == self.folder

    def keep(self, pictures: Sequence[tuple[str, bytes, str]]) -> tuple[list[str], list[str]]:
        """Write pictures, given as (name, bytes, format), and force them to disk; the same picture is one file.

        Returns:
            The files' names in order, and those of them that are new.

        Raises:
            StorageFull: the disk refused; nothing new is kept.
        """
        names: list[str] = []
        new: list[str] = []
        with self.lock, self._writing():
            try:
                server = "" if self.presence.is_alone() else self.presence.name
                for name, content, file_format in pictures:
                    kept, is_new = self._keep(name, content, file_format, server)
                    names.append(kept)
                    new += [kept] if is_new else []
                force_folder(self.folder)
            except OSError:
                self.delete(new)
                raise
        return names, new

    def delete(self, names: Iterable[str]) -> None:
        """Delete files of these names, where they exist."""
        with self.lock:
            for name in names:
                with suppress(OSError):
                    os.unlink(self.folder / os.path.basename(name))

    @contextmanager
    def removing(self, paths: Sequence[str]) -> Iterator[None]:
        """Delete files of this folder together with what is done in the block, such as forgetting them.

        They are hidden first, deleted when the block has succeeded, and back in place where it fails. A server killed
        in between deletes them at its next start.

        Raises:
            StorageFull: a file cannot be hidden.
        """
        hidden: list[tuple[Path, Path]] = []
        with self.lock:
            try:
                with self._writing():
                    for path in map(Path, paths):
                        aside = self.folder / f"{self._hidden()}-{path.name[:100]}{_REMOVED}"
                        if self.holds(str(path)):
                            with suppress(FileNotFoundError):
                                path.rename(aside)
                                hidden.append((path, aside))
                yield
            except BaseException:
                for path, aside in hidden:
                    aside.rename(path)
                raise
            for _, aside in hidden:
                with suppress(OSError):  # done by the next start
                    aside.unlink()

    def tidy(self) -> None:
        """Delete what a killed server left: half-written files, and those under way to being deleted."""
        for entry in self._entries():
            if entry.name.startswith(".") and entry.name.endswith((_TEMPORARY, _REMOVED)):
                server = _OF_SERVER.match(entry.name)
                if server and (server[1] == self.presence.name or self.presence.is_there(server[1])):
                    continue
                with suppress(OSError):
                    os.unlink(entry.path)

    def is_empty(self) -> bool:
        """Whether there is no file to be found."""
        return all(entry.name.startswith(".") for entry in self._entries())

    def _keep(self, name: str, content: bytes, file_format: str, server: str) -> tuple[str, bool]:
        digest = digest_of(content)
        piece = digest[:_DIGEST_PIECE]
        known = self._known().get(piece)
        if known is not None and server and f"-{server}-" not in known:
            known = None  # another server may delete it
        for wanted in filter(None, (known, safe_name(name, digest, file_format, server=server))):
            found = self._look(wanted, content)
            if found is not False:
                break
        else:
            # Pieces of digests can be made to meet, so another picture may have the name: then the whole digest.
            wanted = safe_name(name, digest, file_format, len(digest), server)
            found = self._look(wanted, content)
        if found:
            return wanted, False
        self._write(wanted, content)
        self._known()[piece] = wanted
        return wanted, True

    def _look(self, name: str, content: bytes) -> bool | None:
        """Whether a file holds these bytes, which are then forced to disk; None where there is no file."""
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | _NO_LINKS)
        except FileNotFoundError:
            return None
        except OSError:  # a link, or not ours to read
            return False
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != len(content) or file.read() != content:
                return False
            os.fsync(descriptor)
            return True

    def _write(self, name: str, content: bytes) -> None:
        temporary = self.folder / f"{self._hidden()}{_TEMPORARY}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(self.folder / name)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _hidden(self) -> str:
        """The beginning of a name that is no picture's, and says whose it is."""
        return f".{self.presence.name}-{secrets.token_hex(8)}"

    def _known(self) -> dict[str, str]:
        if self._names is None:
            found = ((_KEPT_NAME.search(entry.name), entry.name) for entry in self._entries())
            self._names = {match[1]: name for match, name in found if match is not None}
        return self._names

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder) as listing:
                return list(listing)
        except FileNotFoundError:
            return []

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.presence.begin()
            yield
        except OSError as error:
            raise StorageFull(f"{self.folder}: an upload cannot be kept ({error.strerror or error})") from error


_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
