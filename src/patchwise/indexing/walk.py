"""Finding image files: every folder once, hidden ones left out, problems noted and passed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from patchwise.errors import ImageUnreadable, UsageError
from patchwise.images import image_suffixes, stat_image

__all__ = ["OUTSIDE", "FoundFile", "Walk", "lies_within", "listed", "walk"]

OUTSIDE = "leads out of the folders that may be indexed"
"""Why a file is left out that really lies elsewhere."""


@dataclass(frozen=True)
class FoundFile:
    """A regular file that may be an image; `path` is absolute.

    It must really lie below one of the real folders `within`, unless that is None; whoever opens it checks it again.
    """

    path: str
    mtime_ns: int
    size: int
    within: tuple[str, ...] | None = None


@dataclass
class Walk:
    """What lies under some roots; `unreadable` folders are (path, reason), nothing is known of what is in them."""

    roots: list[str]
    files: list[FoundFile] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def walk(
    roots: Iterable[str | os.PathLike[str]],
    *,
    follow_links: bool = False,
    within: Iterable[str | os.PathLike[str]] | None = None,
) -> Walk:
    """List the image files under folders, and files named themselves whatever their ending, sorted by path.

    Hidden files and folders (leading dot) are passed over. Links to folders are followed only with
    `follow_links`, and then no folder is entered twice. With `within`, files and folders that really lie outside all
    of these folders, as links may lead out, are noted among the unreadable and left out.

    Raises:
        UsageError: a root does not exist, or is neither file nor folder.
    """
    found = Walk([os.path.abspath(root) for root in roots])
    files: dict[str, FoundFile] = {}
    entered: set[tuple[int, int]] = set()
    allowed = None if within is None else tuple(os.path.realpath(folder) for folder in within)
    for root in found.roots:
        if _leads_out(root, allowed):
            found.unreadable.append((root, OUTSIDE))
            continue
        try:
            status = os.stat(root)
        except OSError as error:
            raise UsageError(
                f"{root}: {_reason(error)}; to drop what the gallery holds from there: patchwise remove {root}"
            ) from error
        if stat.S_ISDIR(status.st_mode):
            for file in _folder(root, follow_links, entered, found.unreadable, allowed):
                files[file.path] = file
        elif stat.S_ISREG(status.st_mode):
            files[root] = FoundFile(root, status.st_mtime_ns, status.st_size, allowed)
        else:
            raise UsageError(f"{root}: neither a file nor a folder")
    found.files = [files[path] for path in sorted(files)]
    return found


def listed(root: str | os.PathLike[str], names: Iterable[str]) -> Walk:
    """The files `root / name`, perhaps inside tar files, and no others.

    What else a gallery knows from below `root` counts as vanished.
    A name that leads to no file is noted among the unreadable.
    """
    found = Walk([os.path.abspath(root)])
    for path in sorted({os.path.join(found.roots[0], name) for name in names}):
        try:
            found.files.append(FoundFile(path, *stat_image(path)))
        except ImageUnreadable as error:
            found.unreadable.append((path, error.reason))
    return found


def _folder(
    root: str,
    follow_links: bool,
    entered: set[tuple[int, int]],
    unreadable: list[tuple[str, str]],
    allowed: tuple[str, ...] | None,
) -> Iterator[FoundFile]:
    suffixes = image_suffixes()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                # Sorted, so that of two links to one folder the same is entered every time.
                entries = sorted(listing, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            unreadable.append((folder, _reason(error)))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir(follow_symlinks=follow_links)
                if not is_folder and os.path.splitext(entry.name)[1].lower() not in suffixes:
                    continue
                if entry.is_symlink() and _leads_out(entry.path, allowed):
                    unreadable.append((entry.path, OUTSIDE))
                elif is_folder:
                    waiting.append(entry.path)
                elif entry.is_file():
                    status = entry.stat()
                    yield FoundFile(entry.path, status.st_mtime_ns, status.st_size, allowed)
            except OSError as error:
                unreadable.append((entry.path, _reason(error)))


def lies_within(real: str, allowed: Iterable[str]) -> bool:
    """Whether a real path is one of some real folders, or below one."""
    return any(real == folder or real.startswith(folder.rstrip(os.sep) + os.sep) for folder in allowed)


def _leads_out(path: str, allowed: tuple[str, ...] | None) -> bool:
    return allowed is not None and not lies_within(os.path.realpath(path), allowed)


def _reason(error: OSError) -> str:
    return {FileNotFoundError: "no such file or folder", PermissionError: "permission denied"}.get(
        type(error), error.strerror or str(error)
    )
