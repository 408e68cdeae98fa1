"""Paths as callers name places by."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["Places", "each_place"]

Places = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]


def each_place(under: Places) -> list[str]:
    """Each path that was named; one alone need not stand in a list, whose items would be its characters."""
    if isinstance(under, str | os.PathLike):
        return [os.fspath(under)]
    return [os.fspath(path) for path in under]
