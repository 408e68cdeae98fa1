"""patchwise info: what a gallery holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .conftest import Cli

KEYS = {
    "path",
    "encoder",
    "whitening",
    "regions_strategy",
    "created",
    "images",
    "distinct_images",
    "regions",
    "dead_regions",
    "vector_bytes",
    "total_bytes",
    "bytes_per_image",
    "unreadable",
}


def test_for_people(cli: Cli, shelf: Path) -> None:
    ran = cli("info", "-g", "g", cwd=shelf)
    assert (ran.code, ran.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert list(lines) == ["gallery", "images", "regions", "encoder", "size"]
    assert lines["images"] == "5 files, 5 distinct"
    assert lines["regions"] == "25 (pyramid:1)"
    assert lines["encoder"] == "builtin, 256-d, shipped whitening"
    assert lines["gallery"].startswith("g, made 20")


def test_json(in_process: Cli, shelf: Path) -> None:
    ran = in_process("info", "-g", "g", "--json", cwd=shelf)
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    assert set(answer) == KEYS
    assert (answer["images"], answer["regions"], answer["dead_regions"], answer["unreadable"]) == (5, 25, 0, [])
    assert answer["encoder"]["id"] == "builtin" and len(answer["encoder"]["weights_sha256"]) == 64
    assert answer["vector_bytes"] == 25 * (2 * 256 + 22)


def test_what_is_dead_or_unreadable(cli: Cli, gallery: Path, pictures: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a\nb.png").write_bytes(b"")
    (bad / os.fsdecode(b"\xff.png")).write_bytes(b"no image")
    assert cli("index", bad, "-g", gallery).code == 0
    assert cli("remove", pictures / "0.png", "-g", gallery).code == 0
    ran = cli("info", "-g", gallery, env={"PYTHONIOENCODING": "utf-8:strict"})
    assert "dead         5 regions of removed images; free them with: patchwise compact" in ran.out
    assert "unreadable   2 files:" in ran.out
    assert f"  {bad}/a\\nb.png: the file is empty\n" in ran.out and f"  {bad}/\\udcff.png: not an image" in ran.out
    answer = json.loads(cli("info", "-g", gallery, "--json").out)
    assert [entry["path"] for entry in answer["unreadable"]] == [f"{bad}/a\nb.png", f"{bad}/\udcff.png"]
    assert (answer["images"], answer["dead_regions"]) == (4, 5)
