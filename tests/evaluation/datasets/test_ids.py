"""Packed ids are a sequence of strings like any other, only small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.evaluation.datasets.ids import PackedIds

NAMES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=8), unique=True)


@given(st.dictionaries(st.sampled_from(["", "a/", "b.tar/", "ü/"]), NAMES, max_size=4))
def test_like_a_list(groups: dict[str, list[str]]) -> None:
    expected = [prefix + name for prefix, names in groups.items() for name in names]
    packed = PackedIds([(prefix, np.array([name.encode() for name in names])) for prefix, names in groups.items()])
    assert list(packed) == expected
    assert len(packed) == len(expected)
    assert [packed[row] for row in range(len(expected))] == expected
    assert [packed[row] for row in range(-len(expected), 0)] == expected
    assert packed[1:3] == expected[1:3] and packed[::-2] == expected[::-2]
    assert all(name in packed for name in expected)
    assert [packed.index(name) for name in expected[:3]] == [expected.index(name) for name in expected[:3]]


def test_outside() -> None:
    packed = PackedIds([("a/", np.array([b"1", b"2"]))])
    for row in (2, -3):
        with pytest.raises(IndexError, match=f"id {row} of 2"):
            packed[row]
    assert "a/3" not in packed and "b/1" not in packed and 1 not in packed
    assert list(PackedIds([])) == [] and len(PackedIds([("a/", np.empty(0, dtype="S1"))])) == 0


def test_small() -> None:
    """Five million keys of eleven digits take 55 MB, where strings would take 300."""
    keys = np.char.mod("%011d", np.arange(100_000)).astype("S")
    assert PackedIds([("shard.tar/", keys)]).nbytes == 11 * 100_000
