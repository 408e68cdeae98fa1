"""Paths as they are sent."""

from __future__ import annotations

import json
import os

import pytest

from patchwise.wire import is_whole_path, path_of_text, shown_text, text_of_path


@pytest.mark.parametrize(
    "name",
    [b"/a/b.jpg", "/ä/ö.jpg".encode(), b"/caf\xe9/\xff\x80.jpg", "/日本.jpg".encode(), rb"/\udcff\u005cudcff\u005c\x"],
)
def test_paths_of_any_bytes_are_text_and_come_back(name: bytes) -> None:
    path = os.fsdecode(name)
    text = text_of_path(path)
    assert json.loads(json.dumps(text, ensure_ascii=False).encode()) == text
    assert os.fsencode(path_of_text(text)) == name


def test_no_two_paths_are_sent_as_the_same_text() -> None:
    paths = [b"/\xff", rb"/\udcff", rb"/\u005cudcff", rb"/\u005c"]
    assert len({text_of_path(os.fsdecode(path)) for path in paths}) == len(paths)


def test_what_is_shown_stays_as_it_is_when_shown_again() -> None:
    assert shown_text("/caf\udce9") == r"/caf\udce9" == shown_text(r"/caf\udce9")


def test_whole_paths() -> None:
    for path in ("/a/b.png", "/", "/\udc80", "/语"):
        assert is_whole_path(path)
    for path in ("", "a", "./a", "~/a", "/a\0", "/\ud800"):
        assert not is_whole_path(path)
