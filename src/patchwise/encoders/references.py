"""What a family shall load: a folder on this machine, or a repository of a model hub at one revision."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["local_folder", "split_revision"]


def local_folder(reference: str, is_there: Callable[[Path], bool] = Path.is_dir) -> Path | None:
    """The absolute path that a reference means on this machine, or None for the name of something elsewhere.

    What is there wins, by default a folder; a name that begins like a path is one even where nothing is there.
    """
    if not reference:
        return None
    path = Path(os.path.abspath(os.path.expanduser(reference)))
    looks_like_path = reference.startswith((".", "~", os.sep)) or os.path.isabs(reference)
    return path if looks_like_path or is_there(path) else None


def split_revision(reference: str) -> tuple[str, str | None]:
    """`facebook/dinov2-small@4a0f3e1` as its name and its revision."""
    name, at, revision = reference.partition("@")
    return (name, revision) if at and revision else (reference, None)
