"""patchwise remove: images are forgotten, files stay."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Cli


def test_files_and_folders(cli: Cli, gallery: Path, pictures: Path) -> None:
    ran = cli("remove", pictures / "0.png", pictures / "1.png", "-g", gallery)
    assert (ran.code, ran.out, ran.err) == (0, f"{gallery}: removed 2 images, 3 are left\n", "")
    assert (pictures / "0.png").exists()
    found = cli("search", pictures / "0.png", "-g", gallery, "-f").out.splitlines()
    assert sorted(found) == [str(pictures / f"{number}.png") for number in (2, 3, 4)]
    ran = cli("remove", pictures, "-g", gallery, "--json")
    assert (ran.code, json.loads(ran.out), ran.err) == (0, {"removed": 3, "images": 0}, "")


def test_relative_paths(in_process: Cli, gallery: Path, shelf: Path) -> None:
    assert in_process("remove", "pictures/../pictures/3.png", "-g", gallery, cwd=shelf).out.endswith(
        "removed 1 images, 4 are left\n"
    )


def test_nothing_of_it_is_known(in_process: Cli, gallery: Path, pictures: Path) -> None:
    for path in (pictures / "gone.png", str(pictures)[:-1], "/"):
        if path != "/":
            ran = in_process("remove", path, "-g", gallery)
            assert (ran.code, ran.err) == (3, "none of these paths is in the gallery\n")
            assert ran.out == f"{gallery}: removed 0 images, 5 are left\n"
    assert json.loads(in_process("remove", "/", "-g", gallery, "--json").out) == {"removed": 5, "images": 0}


def test_unreadable_files_are_forgotten_too(in_process: Cli, gallery: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    assert in_process("index", "bad.png", "-g", gallery).code == 0
    assert in_process("remove", "bad.png", "-g", gallery).code == 3
    assert json.loads(in_process("info", "-g", gallery, "--json").out)["unreadable"] == []


def test_no_path(in_process: Cli, gallery: Path) -> None:
    in_process("remove", "-g", gallery).complains(2, "remove --help")
