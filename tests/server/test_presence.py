"""Servers that share a folder know which of them still runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from patchwise.server.presence import Presence


def test_one_that_runs_is_there_and_one_that_ended_is_not(tmp_path: Path) -> None:
    one, other = Presence(tmp_path), Presence(tmp_path)
    assert one.is_alone() and not one.is_there(other.name)
    other.begin()
    other.begin()
    assert one.is_there(other.name) and not one.is_alone()
    assert other.is_alone() and not other.is_there(other.name)
    one.begin()
    assert not other.is_alone()
    one.end()
    one.end()
    assert other.is_alone() and one.is_there(other.name)
    other.end()
    assert one.is_alone() and os.listdir(tmp_path / ".servers") == []


def test_one_that_was_killed_is_not_there(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from patchwise.server.presence import Presence
presence = Presence(Path({str(tmp_path)!r}))
presence.begin()
print(presence.name, flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        one = Presence(tmp_path)
        assert one.is_there(name) and not one.is_alone()
        process.kill()
        process.wait()
        assert not one.is_there(name) and one.is_alone()
    assert os.listdir(tmp_path / ".servers") == []


def test_names_that_are_none(tmp_path: Path) -> None:
    one = Presence(tmp_path)
    for name in ("", "..", "../../etc", "0" * 8, "x" * 8):
        assert not one.is_there(name)
    (tmp_path / ".servers").write_text("a file in the folder's place")
    one.begin()
    assert one.is_alone()
    one.end()
