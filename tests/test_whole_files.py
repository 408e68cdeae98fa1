"""Whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchwise.whole_files import whole_file


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with whole_file(path) as place:
        place.write_text("after")
        assert path.read_text() == "before" and place.parent == path.parent
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(ZeroDivisionError), whole_file(path) as place:
        place.write_text("half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass  # nothing was written
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "nowhere" / "file") as place:
        place.write_text("whole")
