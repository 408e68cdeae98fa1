"""patchwise info: what a gallery holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from patchwise.compression import keep
from patchwise.store import Codes

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
    "fp16_bytes",
    "code_bytes",
    "codec_bytes",
    "region_bytes",
    "catalogue_bytes",
    "total_bytes",
    "bytes_per_image",
    "unreadable",
    "compression",
    "metadata",
}


def opened_codes(gallery: Path) -> Codes:
    codes = Codes.open(gallery, 256)
    assert codes is not None
    return codes


def calibrated(gallery: Path, **values: Any) -> None:
    """Replace what was measured with a gallery's codes."""
    codes = opened_codes(gallery)
    codes.record_as(replace(codes.record, calibration={**codes.record.calibration, **values}))


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
    assert answer["compression"] is None and answer["metadata"] == []


def test_a_compressed_gallery(cli: Cli, in_process: Cli, album: Path) -> None:
    ran = cli("info", "-g", "g", cwd=album)
    assert (ran.code, ran.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert list(lines) == ["gallery", "images", "regions", "encoder", "size", "compressed", "per", "memory", "recall"]
    answer = json.loads(in_process("info", "-g", album / "g", "--json").out)
    assert set(answer) == KEYS
    codes = answer["compression"]
    parts = codes["bytes_per_image_of"]
    assert set(parts) == {"codes", "vectors", "region_boxes", "catalogue", "codebooks_and_settings"}
    assert (parts["codes"], parts["vectors"], parts["region_boxes"]) == (5 * 32, 5 * 512, 5 * 22)
    assert sum(parts.values()) == pytest.approx(answer["bytes_per_image"])
    assert parts["codebooks_and_settings"] > 0 and (codes["codec"], codes["codes_only"]) == ("fastscan:32", False)
    learned = f"learned from {codes['training_vectors']} vectors (random)"
    assert lines["compressed"] == f"fastscan:32, 32 bytes per region, {learned}"
    assert lines["per"].startswith("image    bytes: 160 codes, 2,560 vectors, 110 region boxes, ")
    assert lines["recall"] == f"{codes['recall']['10']:.3f} of the best 10"


def test_what_codes_only_gave_up(in_process: Cli, plain: Path) -> None:
    done = in_process("compress", "--codes-only", "--yes", "--codec", "fastscan:16", "-g", plain, "--json")
    lost = json.loads(done.out)["info"]["given_up"]
    assert 0 < lost["map"] < 1 and 0 < lost["overlap"] < 1 and 0 < lost["same_region"] <= 1
    ran = in_process("info", "-g", plain)
    assert (
        "codes only   the vectors are deleted; measured before: "
        f"mAP {100 * lost['map']:.1f} for the best 10 of exact search, {100 * lost['overlap']:.1f} % of them among the "
        f"best 10 by codes, the same region wins in {100 * lost['same_region']:.1f} %\n"
    ) in ran.out
    assert "per image    bytes: 80 codes, 110 region boxes, " in ran.out
    answer = json.loads(in_process("info", "-g", plain, "--json").out)
    assert answer["compression"]["given_up"] == lost and answer["compression"]["codes_only"]
    assert answer["fp16_bytes"] == 0 and answer["code_bytes"] == answer["compression"]["codes_bytes"] == 16 * 5 * 42


def test_advice_after_additions(
    in_process: Cli,
    squeezed: Path,
    tmp_path: Path,
    picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a search has become much dearer than it was, and new codebooks help, learning them is advised."""
    monkeypatch.setattr(keep, "_gain_of_learning_anew", lambda *_: 1.25)
    margins = dict(opened_codes(squeezed).record.calibration["margins"])
    calibrated(squeezed, margins={**margins, "regions": [[k, 1] for k, _ in margins["regions"]]})
    (tmp_path / "new").mkdir()
    for seed in range(300, 316):
        picture(seed).save(tmp_path / "new" / f"{seed}.png")
    ran = in_process("index", tmp_path / "new", "-g", squeezed, "--json")
    assert ran.code == 0 and json.loads(ran.out)["added"] == 16
    assert ran.err.startswith("The codebooks fit what was added less well (") and ran.err.count("\n") == 1
    assert ran.err.endswith("new ones would err by 20% less): learn them anew with patchwise compress\n")
    assert f"advice       {ran.err}" in in_process("info", "-g", squeezed).out
    assert json.loads(in_process("info", "-g", squeezed, "--json").out)["compression"]["advice"] + "\n" == ran.err
    assert in_process("compress", "-g", squeezed).err == ""
    assert "advice  " not in in_process("info", "-g", squeezed).out
    assert in_process("index", tmp_path / "new", "-g", squeezed).err == ""


def test_recall_before_and_after_the_search_was_widened(in_process: Cli, squeezed: Path) -> None:
    calibrated(squeezed, recall={"10": 0.9, "100": 0.87654}, recall_now={"10": 1.0, "100": 0.991})
    lines = in_process("info", "-g", squeezed).out
    assert "recall       1.000 of the best 10, 0.991 of the best 100\n" in lines
    assert "before       0.900 of the best 10, 0.877 of the best 100, until the search was widened" in lines


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
