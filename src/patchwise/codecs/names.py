"""The names of codecs: `fastscan:64`, `pq:32`, `opq:64`, `ivf:64:1024`, or a factory string of FAISS."""

from __future__ import annotations

import re
from dataclasses import dataclass

from patchwise.errors import UsageError

__all__ = ["FAMILIES", "CodecName", "parse_codec"]

# What each family is, in one line of help.
FAMILIES = {
    "fastscan": "4-bit product quantiser, scanned in registers",
    "pq": "8-bit product quantiser: more exact at equal bytes, many times slower to search",
    "opq": "a learned rotation, then fastscan: takes seconds more to learn",
    "ivf": "inverted lists of fastscan codes: looks at the nearest lists only",
}
_SIZED = re.compile(r"(?P<family>[a-z]+):(?P<bytes>\d{1,9})(:(?P<lists>\d{1,9}))?")
_HOW = f"expected auto, {', '.join(f'{family}:BYTES' for family in FAMILIES)}, or a factory string of FAISS such as SQ8"


@dataclass(frozen=True)
class CodecName:
    """A codec's family with the bytes of a code and the number of inverted lists, or a factory string by itself."""

    family: str
    bytes: int = 0
    lists: int = 0
    factory: str = ""

    def __str__(self) -> str:
        if self.factory:
            return self.factory
        return f"{self.family}:{self.bytes}" + (f":{self.lists}" if self.lists else "")


def parse_codec(name: str) -> CodecName:
    """Read a codec's name; whether FAISS knows a factory string shows when it is trained.

    Raises:
        UsageError: not the name of a codec.
    """
    text = name.strip()
    found = _SIZED.fullmatch(text)
    if found is None:
        if not text or ":" in text or text.split(":")[0] in FAMILIES:
            raise UsageError(f"codec {name!r}: {_HOW}")
        return CodecName("factory", factory=text)
    family, size, lists = found["family"], int(found["bytes"]), int(found["lists"] or 0)
    if family not in FAMILIES or (found["lists"] and family != "ivf"):
        raise UsageError(f"codec {name!r}: {_HOW}")
    if size < 1:
        raise UsageError(f"codec {name!r}: a code takes at least 1 byte")
    return CodecName(family, size, lists)
