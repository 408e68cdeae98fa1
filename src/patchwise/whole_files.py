"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["force_folder", "whole_file"]

_NO_FOLDERS = {errno.EINVAL, errno.ENOTSUP}  # said by file systems on which folders cannot be forced


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to; the file is forced to disk and takes its name at the end of the block.

    An existing file is replaced in one step, and stays as it is where the block fails.

    Raises:
        OSError: the disk refused.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}.new")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def force_folder(folder: Path) -> None:
    """Make sure that files just made or renamed in a folder are found there after a power cut (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise
    finally:
        os.close(descriptor)
