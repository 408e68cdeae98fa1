"""patchwise index: the counts it prints, and the options that reach the library."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from .conftest import Cli

KEYS = {
    "gallery",
    "images",
    "added",
    "changed",
    "renamed",
    "copied",
    "removed",
    "unchanged",
    "failed",
    "still_failing",
    "encoded_regions",
    "seconds",
    "failures",
    "unreadable_folders",
}


def test_the_first_run_and_the_second(cli: Cli, folder: Path, tmp_path: Path) -> None:
    first = cli("index", "photos", "--regions", "whole")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith(".patchwise: 5 images (5 added) in ")
    assert (tmp_path / ".patchwise" / "manifest.json").exists()
    second = cli("index", "photos")
    assert second.out.startswith(".patchwise: 5 images (5 unchanged) in ")


def test_json_has_every_count(cli: Cli, folder: Path) -> None:
    ran = cli("index", "photos", "--regions", "whole", "--json", "-g", "my gallery.pw")
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    assert set(answer) == KEYS
    assert (answer["gallery"], answer["images"], answer["added"], answer["encoded_regions"]) == (
        "my gallery.pw",
        5,
        5,
        5,
    )

    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "1.png").rename(folder / "renamed.png")
    (folder / "2.png").unlink()
    (folder / "bad\n.png").write_bytes(b"")
    ran = cli("index", "photos", "--json", "-g", "my gallery.pw")
    answer = json.loads(ran.out)
    assert {key: answer[key] for key in ("copied", "renamed", "removed", "unchanged", "failed", "images")} == {
        "copied": 1,
        "renamed": 1,
        "removed": 1,
        "unchanged": 3,
        "failed": 1,
        "images": 5,
    }
    assert answer["failures"] == [{"path": str(folder / "bad\n.png"), "reason": "the file is empty"}]
    assert ran.err == f"skipping {folder}/bad\\n.png: the file is empty\n"
    assert json.loads(cli("index", "photos", "--json", "-g", "my gallery.pw").out)["still_failing"] == 1


def test_several_folders_and_files(in_process: Cli, folder: Path, pictures: Path) -> None:
    shutil.copy(folder / "0.png", folder / "odd ending")
    ran = in_process("index", folder / "1.png", pictures, folder / "odd ending", "--regions", "whole", "--json")
    assert json.loads(ran.out)["images"] == 7


def test_links_are_entered_on_demand(in_process: Cli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(folder)
    assert in_process("index", "root").code == 3
    ran = in_process("index", "root", "--follow-links", "--json")
    assert json.loads(ran.out)["images"] == 5


def test_more_pixels_on_demand(in_process: Cli, folder: Path) -> None:
    ran = in_process("index", "photos", "--regions", "whole", "--max-pixels", "100", "--json")
    assert json.loads(ran.out)["failed"] == 5 and "raise it with --max-pixels" in ran.err
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    assert json.loads(in_process("index", "photos", "--max-pixels", "7000", "--json").out)["added"] == 5


@pytest.mark.parametrize("names", [[], ["notes.txt", ".hidden.png"]])
def test_nothing_to_index(in_process: Cli, tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "photos").mkdir()
    for name in names:
        (tmp_path / "photos" / name).write_bytes(b"")
    ran = in_process("index", "photos")
    assert ran.code == 3
    assert "no images found there" in ran.err and ran.err.count("\n") == 1
    assert ran.out.startswith(".patchwise: 0 images (nothing found)")


def test_only_unreadable_images_are_not_nothing(in_process: Cli, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    for state in ("1 failed", "1 still failing"):
        ran = in_process("index", "photos")
        assert ran.code == 0 and state in ran.out and "no images found" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--regions", "pyramid:9"], ["pyramid:9", "between 0 and 7"]),
        (["--regions", "spiral"], ["spiral", "known are"]),
        (["--whitening", "none"], ["none", "shipped"]),
        (["--max-pixels", "0"], ["--max-pixels"]),
        (["nowhere"], ["nowhere: no such file or folder"]),
    ],
)
def test_wrong_usage(in_process: Cli, folder: Path, arguments: list[str], parts: list[str]) -> None:
    in_process("index", "photos", *arguments).complains(2, *parts)


def test_an_unknown_encoder(in_process: Cli, folder: Path, tmp_path: Path) -> None:
    in_process("index", "photos", "--encoder", "clip").complains(1, "'clip': unknown; did you mean clip-")
    assert not (tmp_path / ".patchwise").exists()


def test_options_that_do_not_fit_the_gallery(in_process: Cli, gallery: Path, pictures: Path) -> None:
    in_process("index", pictures, "-g", gallery, "--regions", "pyramid:3").complains(
        1, str(gallery), "made with regions 'pyramid:1', not 'pyramid:3'", "Leave --regions out"
    )
    assert in_process("index", pictures, "-g", gallery, "--regions", "pyramid:1", "--encoder", "builtin").code == 0


def test_an_emptied_folder(in_process: Cli, folder: Path) -> None:
    assert in_process("index", "photos", "--regions", "whole").code == 0
    for path in folder.iterdir():
        path.unlink()
    in_process("index", "photos").complains(1, f"{folder}: holds no image any more", "5", f"patchwise remove {folder}")
    assert in_process("remove", "photos").out == ".patchwise: removed 5 images, 0 are left\n"


@pytest.mark.slow
def test_whitening_learned_from_the_gallery(in_process: Cli, tmp_path: Path, picture: object) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(9):
        picture(seed).save(tmp_path / "photos" / f"{seed}.png")  # type: ignore[operator]
    ran = in_process("index", "photos", "--whitening", "gallery")
    assert ran.code == 0 and "9 images (9 added)" in ran.out
    assert "gallery whitening" in in_process("info").out
    ran = in_process("search", "photos/3.png", "-k", "1", "-f")
    assert (ran.code, ran.out) == (0, f"{tmp_path}/photos/3.png\n")
