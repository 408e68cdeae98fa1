"""Paths as callers name places by."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchwise.places import Places, each_place


@pytest.mark.parametrize(
    ("under", "expected"),
    [
        ((), []),
        ("/a/b", ["/a/b"]),
        (Path("/a/b"), ["/a/b"]),
        (["/a", Path("/b")], ["/a", "/b"]),
        (("", "x"), ["", "x"]),
        ("", [""]),
    ],
)
def test_one_place_need_not_stand_in_a_list(under: Places, expected: list[str]) -> None:
    assert each_place(under) == expected
