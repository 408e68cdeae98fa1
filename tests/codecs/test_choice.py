"""What `auto` means: the quickest codes, or the most exact where these decide alone, in an eighth of the memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.codecs import choose_codec, parse_codec

GIB = 2**30


@pytest.mark.parametrize(
    ("regions", "memory", "codec", "alone"),
    [
        (0, 8 * GIB, 48, 96),
        (1_000_000, 8 * GIB, 48, 96),  # 96 MB of 1 GiB
        (8 * 2**20, 6 * GIB, 48, 96),  # 96 x 2^23 bytes are 6/8 GiB to the byte
        (8 * 2**20 + 1, 6 * GIB, 48, 64),
        (8 * 2**20, 4 * GIB, 48, 64),
        (8 * 2**20, 3 * GIB, 48, 48),
        (8 * 2**20, 2 * GIB, 32, 32),
        (8 * 2**20, 1.5 * GIB, 24, 24),
        (10**12, 8 * GIB, 24, 24),  # nothing fits: as small as can be
    ],
)
def test_384_dimensions(regions: int, memory: int, codec: int, alone: int) -> None:
    assert choose_codec(384, regions, int(memory)) == f"fastscan:{codec}"
    assert choose_codec(384, regions, int(memory), alone=True) == f"fastscan:{alone}"


@given(st.integers(2, 4096), st.integers(0, 10**12), st.integers(0, 2**50), st.integers(1, 1000), st.booleans())
def test_more_regions_never_mean_larger_codes(
    dimension: int, regions: int, memory: int, more: int, alone: bool
) -> None:
    few, many = (
        parse_codec(choose_codec(dimension, count, memory, alone=alone)) for count in (regions, regions + more)
    )
    least = math.ceil(dimension / 16)
    assert few.family == many.family == "fastscan"
    assert math.ceil(dimension / (4 if alone else 8)) >= few.bytes >= many.bytes >= least
    assert few.bytes == least or few.bytes * regions <= memory / 8


@pytest.mark.parametrize("dimension", [256, 384, 512, 768, 1024, 1152])
@pytest.mark.parametrize("memory", [0, 2**50])
def test_no_code_has_more_parts_than_its_vectors_need(dimension: int, memory: int) -> None:
    """256 numbers in 84 parts would be 4 to a part, as in 64."""
    for alone in (False, True):
        parts = 2 * parse_codec(choose_codec(dimension, 1, memory, alone=alone)).bytes
        assert math.ceil(dimension / math.ceil(dimension / parts)) in (parts, parts - 1)
