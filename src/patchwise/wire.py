"""What a server and its clients agree on: where the API is, and how paths are written in JSON."""

from __future__ import annotations

import os
import re

__all__ = ["API", "is_whole_path", "path_of_text", "shown_text", "text_of_path"]

API = "/api/v1"
"""Everything that programs ask for is below this."""

_NO_TEXT = re.compile("[\ud800-\udfff]")
_AMBIGUOUS = re.compile(r"\\(?=u(?:005c|dc[89a-f][0-9a-f]))")
_ESCAPED = re.compile(r"\\u(005c|dc[89a-f][0-9a-f])")


def text_of_path(path: str) -> str:
    r"""A path as it is sent: bytes that are no text are written as `\udcXX`.

    Where a name holds these very characters, its backslash is written as `\u005c`, so that `path_of_text` gives back
    every path.
    """
    return shown_text(_AMBIGUOUS.sub(r"\\u005c", path))


def path_of_text(text: str) -> str:
    """The path that was sent as this text."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def shown_text(text: str) -> str:
    r"""A message or a name for people: what is no text is written as `\udcXX`, as the command line shows it."""
    return _NO_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_whole_path(path: str) -> bool:
    """Whether a file may have this path, from the root on."""
    try:
        return os.path.isabs(path) and b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
