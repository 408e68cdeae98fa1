"""Paths as text."""

from __future__ import annotations

import json
import os

import pytest

from patchwise.server.texts import is_whole_path, path_of_text, text_of_path


@pytest.mark.parametrize("name", [b"/a/b.jpg", "/ä/ö.jpg".encode(), b"/caf\xe9/\xff\x80.jpg", "/日本.jpg".encode()])
def test_paths_of_any_bytes_are_text_and_come_back(name: bytes) -> None:
    path = os.fsdecode(name)
    text = text_of_path(path)
    assert json.loads(json.dumps(text, ensure_ascii=False).encode()) == text
    assert os.fsencode(path_of_text(text)) == name


def test_whole_paths() -> None:
    for path in ("/a/b.png", "/", "/\udc80", "/语"):
        assert is_whole_path(path)
    for path in ("", "a", "./a", "~/a", "/a\0", "/\ud800"):
        assert not is_whole_path(path)
