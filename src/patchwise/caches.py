"""Where files are kept that can be made again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """PATCHWISE_CACHE, or else the user's cache folder of this platform; not made here."""
    if os.environ.get("PATCHWISE_CACHE"):
        return Path(os.environ["PATCHWISE_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "patchwise"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "patchwise"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "patchwise"
