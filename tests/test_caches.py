"""The cache folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from patchwise.caches import cache_folder


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"PATCHWISE_CACHE": "/mine", "XDG_CACHE_HOME": "/x"}, "/mine"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/patchwise"),
        ("linux", {}, "/home/me/.cache/patchwise"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches/patchwise"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/patchwise"),
        ("win32", {}, "/home/me/AppData/Local/patchwise"),
    ],
)
def test_by_platform(platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATCHWISE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_folder() == Path(expected)
