"""patchwise adapt: what it says, what it writes, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import make_picture
from patchwise.adaptation.run import MOST_PICTURES

from .conftest import Cli, environment


@pytest.fixture
def album(tmp_path: Path) -> Path:
    (tmp_path / "album").mkdir()
    for seed in range(20):
        make_picture(seed, (120, 90)).save(tmp_path / "album" / f"{seed:02d}.png")
    return tmp_path / "album"


def test_learning_measuring_and_using(in_process: Cli, album: Path) -> None:
    pytest.importorskip("torch")
    ran = in_process("adapt", album, "-o", "l.safetensors", "--regions", "whole", "--json")
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    assert (answer["pictures"], answer["held_out"], answer["crops"]) == (15, 5, 40)
    assert list(answer["measured"]) == ["encoder alone", "whitening", "linear layer"]
    assert answer["gain"]["low"] <= answer["gain"]["mean"] <= answer["gain"]["high"]
    assert answer["dimension"] == 256 and answer["failures"] == []
    ran = in_process("index", album, "-g", "g", "--encoder", "builtin,adapt=l.safetensors", "--regions", "whole")
    assert ran.code == 0, ran
    hits = in_process("search", album / "03.png", "-g", "g", "--paths", "-k", "1")
    assert hits.out.strip() == str(album / "03.png")


def test_from_a_gallery(in_process: Cli, gallery: Path) -> None:
    ran = in_process(
        "adapt", "--from-gallery", gallery, "-o", "w.safetensors", "--method", "whitening", "--dimension", "9"
    )
    assert ran.code == 0, ran
    assert "whitening, 256 to 9 numbers, learned from 5 pictures" in ran.out
    assert "not measured" in ran.out and "--encoder builtin,adapt=w.safetensors" in ran.out


def test_wrong_usage(in_process: Cli, album: Path, gallery: Path) -> None:
    in_process("adapt", album).complains(2, "--output")
    in_process("adapt", "-o", "l.safetensors").complains(2, "--from-gallery")
    in_process("adapt", album, "--from-gallery", gallery, "-o", "l.safetensors").complains(2, "not both")
    in_process("adapt", "--from-gallery", gallery, "--encoder", "builtin", "-o", "l.safetensors").complains(
        2, "--encoder"
    )
    in_process("adapt", album, "-o", "l.npz", "--method", "whitening").complains(2, ".safetensors")
    in_process("adapt", album / "00.png", "-o", "l.safetensors", "--method", "magic").complains(2, "magic")


def test_a_file_that_is_there_stays_unless_forced(in_process: Cli, gallery: Path, tmp_path: Path) -> None:
    arguments = ("adapt", "--from-gallery", gallery, "--method", "whitening", "-o", "w.safetensors", "--dimension")
    assert in_process(*arguments, "9").code == 0
    before = (tmp_path / "w.safetensors").read_bytes()
    in_process(*arguments, "8").complains(2, "w.safetensors", "--force")
    assert (tmp_path / "w.safetensors").read_bytes() == before
    assert "to 8 numbers" in in_process(*arguments, "8", "--force").out


def test_the_bound_on_pictures_is_said(in_process: Cli) -> None:
    bound = f"never more than {MOST_PICTURES:,}"
    said = " ".join(in_process("adapt", "--help").out.replace("│", " ").split())
    assert bound in said and bound in (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")


def test_too_few_pictures(in_process: Cli, album: Path) -> None:
    pytest.importorskip("torch")
    in_process("adapt", album / "00.png", "-o", "l.safetensors").complains(1, "at least 20", "--method whitening")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupted_it_writes_nothing(album: Path, tmp_path: Path) -> None:
    for seed in range(20, 120):
        make_picture(seed, (200, 150)).save(album / f"{seed}.png")
    command = [sys.executable, "-m", "patchwise", "adapt", str(album), "-o", "l.safetensors", "--method", "whitening"]
    running = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and err == "interrupted; nothing was written\n"
    assert not (tmp_path / "l.safetensors").exists()
