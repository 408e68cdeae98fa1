"""What `auto` means: the codes that are quickest to search with, unless the memory is too small for them."""

from __future__ import annotations

__all__ = ["AUTO_SHARE", "DIMENSIONS_PER_BYTE", "DIMENSIONS_PER_BYTE_ALONE", "choose_codec"]

AUTO_SHARE = 1 / 8  # of the machine's memory that codes may take
# The scan reads every code, and memory cannot be read faster: larger codes need a shorter shortlist, which saves less
# than they cost (benchmarks/compressed_search.py). Multiples of what the 4 bits of a centre stand for waste no byte.
DIMENSIONS_PER_BYTE = (8, 12, 16)
# Where no vectors are left to decide, codes are as exact as they can be.
DIMENSIONS_PER_BYTE_ALONE = (4, 6, *DIMENSIONS_PER_BYTE)


def choose_codec(dimension: int, regions: int, memory: int, *, alone: bool = False) -> str:
    """The codec of a gallery with this many regions, on a machine with `memory` bytes in all.

    The first of `DIMENSIONS_PER_BYTE` whose codes take at most `AUTO_SHARE` of the memory, or else the last; with
    `alone`, where only codes are kept, of `DIMENSIONS_PER_BYTE_ALONE`.
    """
    sizes = [-(-dimension // each) for each in (DIMENSIONS_PER_BYTE_ALONE if alone else DIMENSIONS_PER_BYTE)]
    fitting = [size for size in sizes if size * regions <= AUTO_SHARE * memory]
    return f"fastscan:{(fitting or sizes[-1:])[0]}"
