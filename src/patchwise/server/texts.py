"""Paths as text: names of files may hold bytes that are no text, and JSON holds only text."""

from __future__ import annotations

import os
import re

__all__ = ["is_whole_path", "path_of_text", "text_of_path"]

_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")
_NO_TEXT = re.compile("[\ud800-\udfff]")


def text_of_path(path: str) -> str:
    r"""A path as it is sent: bytes that are no text are written as `\udcXX`, as the command line shows them."""
    return _NO_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", path)


def path_of_text(text: str) -> str:
    """The path that was sent as this text."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def is_whole_path(path: str) -> bool:
    """Whether a file may have this path, from the root on."""
    try:
        return os.path.isabs(path) and b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
