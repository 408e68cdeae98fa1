"""What `auto` means: the largest codes that are quick to scan and leave the memory to others."""

from __future__ import annotations

__all__ = ["AUTO_SHARE", "DIMENSIONS_PER_BYTE", "choose_codec"]

AUTO_SHARE = 1 / 8  # of the machine's memory that codes may take
# From the most exact to the smallest. Larger codes need a shorter shortlist but a longer scan, and are never faster.
DIMENSIONS_PER_BYTE = (4, 6, 8, 12, 16)


def choose_codec(dimension: int, regions: int, memory: int) -> str:
    """The codec of a gallery with this many regions, on a machine with `memory` bytes in all.

    The first of `DIMENSIONS_PER_BYTE` whose codes take at most `AUTO_SHARE` of the memory, or else the last.
    """
    sizes = [max(dimension // each, 1) for each in DIMENSIONS_PER_BYTE]
    fitting = [size for size in sizes if size * regions <= AUTO_SHARE * memory]
    return f"fastscan:{(fitting or sizes[-1:])[0]}"
