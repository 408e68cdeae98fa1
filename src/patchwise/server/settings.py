"""What a server is told when it starts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from patchwise.caches import cache_folder
from patchwise.errors import UsageError
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.machine import processors

__all__ = ["GALLERY_NAME", "Settings", "gallery_name", "is_loopback", "named_galleries"]

GALLERY_NAME = r"^[A-Za-z0-9._-]{1,64}$"
"""What names of galleries look like, as they stand in addresses."""

_THREADS_PER_PROCESSOR = 8  # searches that wait for the vectors are answered by one pass over them
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Settings:
    """What is served, to whom, and within which limits.

    Args:
        galleries: folders of galleries by name; the first is the default.
        token: what every request has to bring along; None where everybody on this machine may ask.
        host, port: where to listen; port 0 takes one that is free.
        roots: folders below which server-side files may be added.
        uploads: where uploaded images are kept, each gallery's in a folder of its name; None for a folder beside each
            gallery.
        queries: where uploaded query pictures are kept; None for the cache.
        max_upload: bytes that a request may have.
        max_pixels: larger pictures are refused.
        queue: how many requests may wait for a free thread before others are refused.
        threads: how many requests are worked on at a time.
        decoded_bytes: memory for query pictures that are kept decoded.
        queries_bytes: disk for uploaded query pictures; those not used for longest go first.
        device: where encoders run, as `Gallery.open` takes it.

    Raises:
        UsageError: a setting makes no sense, or the host can be reached from other machines and there is no token.
    """

    galleries: Mapping[str, Path]
    token: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 8799
    roots: tuple[Path, ...] = ()
    uploads: Path | None = None
    queries: Path | None = None
    max_upload: int = 50 * 2**20
    max_pixels: int = DEFAULT_MAX_PIXELS
    queue: int = 64
    threads: int = field(default_factory=lambda: _THREADS_PER_PROCESSOR * processors())
    decoded_bytes: int = 256 * 2**20
    queries_bytes: int = 2**30
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.galleries:
            raise UsageError("nothing to serve: name at least one gallery")
        for name in self.galleries:
            if not _is_name(name):
                raise UsageError(
                    f"gallery name {name!r}: expected 1 to 64 letters, digits, dots, dashes and underscores; "
                    "give one by NAME=DIR"
                )
        folders = [folder.resolve() for folder in self.galleries.values()]
        if len(set(folders)) < len(folders):
            raise UsageError("the same gallery is named twice")
        for name in self.galleries:
            uploads = self.uploads_folder(name).resolve()
            for other in folders:
                # Galleries are deleted and made again as they please, and whatever lies among uploads is indexed.
                if uploads.is_relative_to(other) or other.is_relative_to(uploads):
                    raise UsageError(f"uploads {uploads} and gallery {other}: one lies in the other; choose --uploads")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise UsageError("the token must be of visible ASCII characters, without spaces")
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"host {self.host}: other machines can reach it, so a token is needed; set PATCHWISE_TOKEN or --token"
            )
        for root in self.roots:
            if not root.is_dir():
                raise UsageError(f"root {root}: not a folder")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port {self.port}: expected 0 to 65535")
        for name in ("max_upload", "max_pixels", "queue", "threads", "decoded_bytes", "queries_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least 1")

    @property
    def queries_folder(self) -> Path:
        """Where uploaded query pictures are kept."""
        return self.queries or cache_folder() / "queries"

    def uploads_folder(self, gallery: str) -> Path:
        """Where images uploaded to a gallery are kept: never inside of it, as galleries are deleted and made again."""
        if self.uploads is not None:
            return self.uploads / gallery
        folder = self.galleries[gallery]
        return folder.with_name(f"{folder.name}-uploads")


def is_loopback(host: str) -> bool:
    """Whether a name or address can only be reached from this machine."""
    bare = host.strip("[]").lower()
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def gallery_name(folder: Path) -> str:
    """The name of a gallery that was given none: the last part of its folder, without a leading dot.

    Raises:
        UsageError: that is no name of a gallery.
    """
    name = folder.absolute().name.lstrip(".")
    if not _is_name(name):
        raise UsageError(f"gallery {folder}: {name!r} cannot be its name in addresses; give one by NAME={folder}")
    return name


def named_galleries(given: Sequence[str]) -> dict[str, Path]:
    """Galleries as they are given on the command line, `DIR` or `NAME=DIR`, by their names.

    Raises:
        UsageError: a name is none, or is given twice.
    """
    found: dict[str, Path] = {}
    for each in given:
        name, equals, folder = each.partition("=")
        if not equals or not _is_name(name):  # `=` may well be part of a path
            name, folder = gallery_name(Path(each)), each
        if not folder:
            raise UsageError(f"gallery {each!r}: expected NAME=DIR")
        if name in found:
            raise UsageError(f"two galleries are named {name!r}; tell them apart by NAME=DIR")
        found[name] = Path(folder)
    return found


def _is_name(name: str) -> bool:
    # `$` also matches before a line end, and addresses treat names of dots alone as steps of a path.
    return "\n" not in name and re.match(GALLERY_NAME, name) is not None and name.strip(".") != ""
