"""Owners: the same answer as a search for each row, however pictures are spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.store.owners import Owners


@given(
    gaps=st.lists(st.integers(0, 40), max_size=30),
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=30),
    tail=st.integers(0, 40),
)
def test_every_row_goes_to_the_last_picture_that_begins_before_it(
    gaps: list[int], lengths: list[int], tail: int
) -> None:
    expected: list[int] = []
    first = []
    for picture, length in enumerate(lengths):
        gap = gaps[picture] if picture < len(gaps) else 0
        expected += [picture - 1] * gap
        first.append(len(expected))
        expected += [picture] * length
    expected += [len(lengths) - 1] * tail
    rows = np.arange(len(expected))
    found = Owners(np.array(first), len(expected))(rows[::-1])
    assert found.tolist() == expected[::-1]


@pytest.mark.parametrize("rows", [1, 15, 16, 17])
def test_one_picture_of_a_few_rows(rows: int) -> None:
    assert Owners(np.array([0]), rows)(np.arange(rows)).tolist() == [0] * rows


def test_no_rows_asked_for() -> None:
    assert Owners(np.array([0, 5]), 10)(np.empty(0, dtype=np.int64)).shape == (0,)
