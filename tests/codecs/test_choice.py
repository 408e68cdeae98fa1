"""What `auto` means: the most exact codes that take an eighth of the memory at most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.codecs import choose_codec, parse_codec

GIB = 2**30


@pytest.mark.parametrize(
    ("regions", "memory", "codec"),
    [
        (0, 8 * GIB, "fastscan:96"),
        (1_000_000, 8 * GIB, "fastscan:96"),  # 96 MB of 1 GiB
        (8 * 2**20, 6 * GIB, "fastscan:96"),  # 96 x 2^23 bytes are 6/8 GiB to the byte
        (8 * 2**20 + 1, 6 * GIB, "fastscan:64"),
        (8 * 2**20, 4 * GIB, "fastscan:64"),
        (8 * 2**20, 3 * GIB, "fastscan:48"),
        (8 * 2**20, 2 * GIB, "fastscan:32"),
        (8 * 2**20, 1.5 * GIB, "fastscan:24"),
        (10**12, 8 * GIB, "fastscan:24"),  # nothing fits: as small as can be
    ],
)
def test_384_dimensions(regions: int, memory: int, codec: str) -> None:
    assert choose_codec(384, regions, int(memory)) == codec


@given(st.integers(1, 4096), st.integers(0, 10**12), st.integers(0, 2**50), st.integers(1, 1000))
def test_more_regions_never_mean_larger_codes(dimension: int, regions: int, memory: int, more: int) -> None:
    few, many = (parse_codec(choose_codec(dimension, count, memory)) for count in (regions, regions + more))
    assert few.family == many.family == "fastscan"
    assert max(dimension // 4, 1) >= few.bytes >= many.bytes >= max(dimension // 16, 1)
    assert few.bytes == max(dimension // 16, 1) or few.bytes * regions <= memory / 8
