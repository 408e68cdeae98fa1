"""Bad input of every kind: one clear line, the documented exit code, and nothing stored is lost."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from .conftest import PICTURES, Cli, Ran, environment

Unprivileged = Callable[..., "subprocess.CompletedProcess[str]"]


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def intact(in_process: Cli, gallery: Path, pictures: Path) -> Iterator[Callable[[], None]]:
    """Checks, when called and at the end of the test, that the gallery is whole and finds what it found before."""

    def check() -> None:
        verified = json.loads(in_process("verify", "-g", gallery, "--json").out)
        assert verified["ok"] and verified["problems"] == []
        found = in_process("search", pictures / "3.png", "-g", gallery, "-f", "-k", "999").out.splitlines()
        assert found[0] == str(pictures / "3.png")
        assert {str(pictures / f"{number}.png") for number in range(PICTURES)} <= set(found)

    yield check
    check()


# Images


# What is wrong with a file, and words that its line must hold.
BAD_IMAGES = {
    "truncated.jpg": "corrupt or truncated",
    "truncated.png": "corrupt or truncated",
    "corrupt.png": "corrupt or truncated",
    "zero.jpg": "the file is empty",
    "text.png": "not an image in a format that is read here",
    "program.jpg": "not an image in a format that is read here",
    "header only.png": "corrupt or truncated",
    "gigantic.png": r"exceed the limit of 89,478,485; raise it with --max-pixels",
    "folded.png": r"exceed the limit of 89,478,485; raise it with --max-pixels",
    "new\nline.png": "the file is empty",
    "ü 日本 🎈.png": "the file is empty",
}
GOOD_IMAGES = ["mislabelled.png", "one pixel.png", "wide.png", "tall.png", "with space \n newline ü.png"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory, shelf: Path) -> Path:
    """One of each of the files above."""
    folder = tmp_path_factory.mktemp("zoo")
    jpg, png = folder / "mislabelled.png", shelf / "pictures" / "0.png"
    noise = Image.effect_noise((300, 200), 90).convert("RGB")
    noise.save(jpg, "JPEG", quality=95)
    noise.save(folder / "corrupt.png")
    content = bytearray((folder / "corrupt.png").read_bytes())
    content[2000:2400] = bytes(400)
    (folder / "corrupt.png").write_bytes(content)
    (folder / "truncated.jpg").write_bytes(jpg.read_bytes()[:3000])
    (folder / "truncated.png").write_bytes(bytes(content[:1500]))
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.png").write_text("this is no image")
    (folder / "program.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "header only.png").write_bytes(png.read_bytes()[:60])
    (folder / "gigantic.png").write_bytes(png_header(50_000, 50_000))
    (folder / "folded.png").write_bytes(png_header(2**31 - 1, 2**31 - 1))
    (folder / "new\nline.png").write_bytes(b"")
    (folder / "ü 日本 🎈.png").write_bytes(b"")
    Image.new("RGB", (1, 1), "red").save(folder / "one pixel.png")
    Image.effect_noise((9000, 1), 90).save(folder / "wide.png")
    Image.effect_noise((2, 9000), 90).save(folder / "tall.png")
    noise.crop((0, 0, 50, 50)).save(folder / "with space \n newline ü.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "loop a.png").symlink_to("loop b.png")
    (folder / "loop b.png").symlink_to("loop a.png")
    (folder / "loop").symlink_to(folder)
    return folder


def test_one_bad_image_never_stops_a_run(
    cli: Cli, in_process: Cli, zoo: Path, gallery: Path, intact: Callable[[], None]
) -> None:
    ran = cli("index", zoo, "-g", gallery, "--json", "--follow-links")
    assert ran.code == 0
    answer = json.loads(ran.out)
    assert answer["images"] == PICTURES + len(GOOD_IMAGES)
    assert (answer["added"], answer["failed"]) == (len(GOOD_IMAGES), len(BAD_IMAGES))
    reasons = {Path(failure["path"]).name: failure["reason"] for failure in answer["failures"]}
    assert set(reasons) == set(BAD_IMAGES)
    for name, reason in BAD_IMAGES.items():
        assert re.search(reason, reasons[name]), name
    loops = {Path(entry["path"]).name for entry in answer["unreadable_folders"]}
    assert loops == {"loop a.png", "loop b.png"}

    lines = ran.err.splitlines()
    assert len(lines) == len(BAD_IMAGES) + len(loops) and all(line.startswith(f"skipping {zoo}/") for line in lines)
    assert f"skipping {zoo}/new\\nline.png: the file is empty" in lines
    assert f"skipping {zoo}/ü 日本 🎈.png: the file is empty" in lines
    intact()

    again = json.loads(cli("index", zoo, "-g", gallery, "--json").out)
    assert (again["unchanged"], again["still_failing"]) == (len(GOOD_IMAGES), len(BAD_IMAGES))
    for name in GOOD_IMAGES:
        found = in_process("search", zoo / name, "-g", gallery, "-k", "1", "--json")
        (best,) = json.loads(found.out)["hits"]
        assert Path(best["path"]).name == name and best["score"] > 0.99


@pytest.mark.parametrize("name", sorted(BAD_IMAGES))
def test_a_query_that_is_no_image(in_process: Cli, zoo: Path, shelf: Path, name: str) -> None:
    printed = str(zoo / name).replace("\n", "\\n")
    ran = in_process("search", zoo / name, "-g", shelf / "g")
    ran.complains(1, f"{printed}: ")
    assert re.search(BAD_IMAGES[name], ran.err)


@pytest.mark.parametrize(
    ("query", "part"),
    [("gone.png", "gone.png: no such file"), (".", "is a directory, not an image"), ("loop a.png", "symbolic links")],
)
def test_a_query_that_is_no_file(in_process: Cli, zoo: Path, shelf: Path, query: str, part: str) -> None:
    in_process("search", zoo / query, "-g", shelf / "g").complains(1, part)


@pytest.mark.parametrize(
    ("box", "parts"),
    [
        ("200,200,300,300", ["200,200,300,300: outside the image, which is 96 x 64 pixels"]),
        ("40,30,10,60", ["inside out"]),
        ("10,10,10,20", ["empty"]),
        ("10,10,10.2,20", ["less than one pixel"]),
        ("a,b,c,d", ["'a,b,c,d'", "four numbers x0,y0,x1,y1", "40,30,210,260"]),
        ("1,2,3", ["four numbers"]),
        ("", ["four numbers"]),
        ("nan,0,5,5", ["finite"]),
        ("0,0,inf,5", ["finite"]),
    ],
)
def test_a_box_that_makes_no_sense(in_process: Cli, shelf: Path, pictures: Path, box: str, parts: list[str]) -> None:
    in_process("search", pictures / "0.png", f"--box={box}", "-g", shelf / "g").complains(2, "box", *parts)


# Folders


def test_files_and_folders_that_may_not_be_read(
    unprivileged: Unprivileged, folder: Path, gallery: Path, intact: Callable[[], None]
) -> None:
    (folder / "closed").mkdir()
    shutil.copy(folder / "0.png", folder / "closed" / "new.png")
    for path in (folder / "1.png", folder / "closed"):
        path.chmod(0)
    done = unprivileged("-m", "patchwise", "index", folder, "-g", gallery, env=environment())
    query = unprivileged("-m", "patchwise", "search", folder / "1.png", "-g", gallery, env=environment())
    named = unprivileged("-m", "patchwise", "index", folder / "closed", "-g", gallery, env=environment())
    removed = unprivileged("-m", "patchwise", "remove", folder / "1.png", "-g", gallery, env=environment())
    (folder / "1.png").chmod(0o644)
    (folder / "closed").chmod(0o755)
    assert (done.returncode, "4 copied, 1 failed" in done.stdout) == (0, True)
    assert sorted(done.stderr.splitlines()) == [
        f"skipping {folder}/1.png: permission denied",
        f"skipping {folder}/closed: permission denied",
    ]
    Ran(query.returncode, query.stdout, query.stderr).complains(1, f"{folder}/1.png: permission denied")
    assert (named.returncode, named.stderr) == (0, f"skipping {folder}/closed: permission denied\n")
    assert (removed.returncode, removed.stderr) == (3, "none of these paths is in the gallery\n")


def test_a_gallery_that_may_not_be_written_or_read(
    unprivileged: Unprivileged, gallery: Path, pictures: Path, intact: Callable[[], None]
) -> None:
    parts = [gallery, gallery / "vectors"]

    def run(*arguments: object) -> Ran:
        done = unprivileged("-m", "patchwise", *arguments, "-g", gallery, env=environment())
        return Ran(done.returncode, done.stdout, done.stderr)

    for part in parts:
        part.chmod(0o555)
    assert len(run("search", pictures / "0.png", "-f").out.splitlines()) == PICTURES
    run("remove", pictures / "0.png").complains(1, str(gallery), "cannot be written to")
    gallery.chmod(0)
    run("search", pictures / "0.png").complains(1, str(gallery), "permission denied")
    run("index", pictures).complains(1, str(gallery), "permission denied")
    for part in parts:
        part.chmod(0o755)


def test_a_place_where_no_gallery_can_be_made(unprivileged: Unprivileged, tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    command = ["-m", "patchwise", "index", pictures, "-g", tmp_path / "closed" / "g"]
    done = unprivileged(*command, env=environment())
    Ran(done.returncode, done.stdout, done.stderr).complains(1, f"{tmp_path}/closed/g", "cannot be made here")


# Galleries


def test_a_gallery_that_is_no_gallery(in_process: Cli, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    for name in ("file", "mine"):
        in_process("search", pictures / "0.png", "-g", tmp_path / name).complains(1, f"{name}: not a gallery")
        in_process("index", pictures, "-g", tmp_path / name).complains(1, "not a gallery", "--gallery")
    assert (tmp_path / "file").read_text() == (tmp_path / "mine" / "a.txt").read_text() == "mine"


def test_a_half_written_gallery(in_process: Cli, pictures: Path, tmp_path: Path) -> None:
    """As left by a run that was killed while it made the gallery."""
    (tmp_path / "g" / "vectors").mkdir(parents=True)
    in_process("search", pictures / "0.png", "-g", tmp_path / "g").complains(
        1, "begun here but never finished", f"patchwise index FOLDER --gallery {tmp_path}/g"
    )
    assert in_process("index", pictures, "-g", tmp_path / "g", "--regions", "whole").code == 0
    assert in_process("verify", "-g", tmp_path / "g").code == 0


def changed_manifest(gallery: Path, **changes: object) -> None:
    content = json.loads((gallery / "manifest.json").read_text())
    encoder = content["encoder"] | changes.pop("encoder", {})  # type: ignore[operator]
    (gallery / "manifest.json").write_text(json.dumps({**content, "encoder": encoder, **changes}))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"encoder": {"weights_sha256": "0" * 64}}, ["made with another encoder: weights_sha256", "Install patchwise"]),
        ({"encoder": {"id": "clip"}}, ["encoder 'clip': unknown"]),
        ({"regions": "spiral:9"}, ["spiral:9"]),
        ({"version": 2, "patchwise": "9.0"}, ["written by patchwise 9.0", "pip install -U patchwise"]),
        ({"format": "other"}, ["manifest.json: not a readable manifest", "backup"]),
    ],
)
def test_a_gallery_made_by_another(
    in_process: Cli,
    gallery: Path,
    folder: Path,
    intact: Callable[[], None],
    changes: dict[str, object],
    parts: list[str],
) -> None:
    before = (gallery / "manifest.json").read_bytes()
    changed_manifest(gallery, **changes)
    if "regions" not in changes:
        in_process("search", folder / "0.png", "-g", gallery).complains(1, *parts)
    in_process("index", folder, "-g", gallery).complains(2 if "regions" in changes else 1, *parts)
    (gallery / "manifest.json").write_bytes(before)


def test_a_newer_schema(in_process: Cli, gallery: Path, pictures: Path, intact: Callable[[], None]) -> None:
    def set_version(version: int) -> int:
        connection = sqlite3.connect(gallery / "catalogue.sqlite")
        before = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        return int(before)

    before = set_version(99)
    for command in (["search", pictures / "0.png"], ["index", pictures], ["verify", "--repair"], ["compact"]):
        in_process(*command, "-g", gallery).complains(1, "schema 99 is newer", "pip install -U patchwise")
    set_version(before)


@pytest.mark.parametrize("name", ["manifest.json", "catalogue.sqlite", "vectors/000001.f16", "vectors/000001.regions"])
@pytest.mark.parametrize("how", ["missing", "cut", "garbage"])
def test_a_file_that_is_damaged(
    in_process: Cli, gallery: Path, pictures: Path, intact: Callable[[], None], name: str, how: str
) -> None:
    path = gallery / name
    before = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(before[: len(before) // 2] if how == "cut" else b"garbage\n" * (len(before) // 8 + 1))
    if how == "garbage" and name.startswith("vectors"):  # the right length: only the checksums can tell
        ran = in_process("verify", "-g", gallery)
        assert ran.code == 1 and f"{PICTURES:,} problems" in ran.out
        assert len(ran.err.splitlines()) == PICTURES + 1
    else:
        expected = [str(path)] if name != "catalogue.sqlite" or how != "cut" else [str(gallery)]
        for command in (["search", pictures / "0.png"], ["remove", pictures]):
            in_process(*command, "-g", gallery).complains(1, *expected)
        if name.startswith("vectors"):
            ran = in_process("search", pictures / "0.png", "-g", gallery)
            ran.complains(1, "missing" if how == "missing" else "cut short", "patchwise verify --repair")
    path.write_bytes(before)


# A full disk


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
os.execv(sys.executable, [sys.executable, "-m", "patchwise", *sys.argv[2:]])
"""


def test_a_full_disk(in_process: Cli, tmp_path: Path, picture: Callable[..., Image.Image]) -> None:
    """No file may grow beyond a limit, so a shard's write really fails part way; then there is room again."""
    pytest.importorskip("resource")
    for name, seeds in (("first", range(3)), ("second", range(3, 11))):
        (tmp_path / name).mkdir()
        for seed in seeds:
            picture(seed).save(tmp_path / name / f"{seed}.png")
    index = ["index", "first", "second", "-g", "g", "--regions", "pyramid:2"]
    row = 14 * 512  # bytes of one picture's vectors
    assert in_process("index", "first", "-g", "g", "--regions", "pyramid:2").code == 0

    def on_full_disk(limit: int, *arguments: str) -> Ran:
        command = [sys.executable, "-c", LIMITED, str(limit), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment())
        return Ran(done.returncode, done.stdout, done.stderr)

    def found() -> list[str]:
        assert json.loads(in_process("verify", "-g", "g", "--json").out)["problems"] == []
        return in_process("search", "first/1.png", "-g", "g", "-f", "-k", "99").out.splitlines()

    before = found()
    assert len(before) == 3 and before[0].endswith("first/1.png")
    limit = 6 * row + 1000  # room for six pictures and a bit
    on_full_disk(limit, *index).complains(
        1, "g/vectors/000001.f16: the disk refused a write (File too large)", "run the same command again"
    )
    assert limit == (tmp_path / "g" / "vectors" / "000001.f16").stat().st_size  # it stopped part way indeed
    assert found() == before

    # Not even room for the catalogue's own files.
    for command in (index, ["remove", "first", "-g", "g"], ["search", "first/1.png", "-g", "g"]):
        on_full_disk(1000, *command).complains(1, "g/catalogue.sqlite: the disk refused a write", "Free some space")
    assert found() == before

    ran = in_process(*index)
    assert ran.code == 0 and "11 images (8 added, 3 unchanged)" in ran.out
    everything = found()
    assert len(everything) == 11
    assert in_process("index", "first", "second", "-g", "fresh", "--regions", "pyramid:2").code == 0
    assert in_process("search", "first/1.png", "-g", "fresh", "-f", "-k", "99").out.splitlines() == everything

    # Compaction needs space of its own before it frees any.
    assert in_process("remove", "second/9.png", "-g", "g").code == 0
    before = found()
    on_full_disk(limit, "compact", "-g", "g").complains(1, "g/vectors/000002.f16: the disk refused a write")
    assert found() == before
    assert in_process("compact", "-g", "g").code == 0
    assert found() == before
