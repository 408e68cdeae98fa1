"""patchwise verify: what is damaged is named, and can be made again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .conftest import Cli

KEYS = {"images", "distinct_images", "regions", "problems", "affected_files", "repaired", "ok"}


def test_all_is_well(cli: Cli, shelf: Path) -> None:
    ran = cli("verify", "-g", "g", cwd=shelf)
    assert (ran.code, ran.out, ran.err) == (0, "g: ok; 5 images, 25 regions checked, 0 problems\n", "")
    answer = json.loads(cli("verify", "-g", "g", "--json", cwd=shelf).out)
    assert set(answer) == KEYS and answer["ok"] and answer["problems"] == []


def test_damage_is_named_repaired_and_made_again(in_process: Cli, gallery: Path, pictures: Path) -> None:
    before = in_process("search", pictures / "1.png", "-g", gallery, "--json").out
    shard = gallery / "vectors" / "000001.f16"
    content = bytearray(shard.read_bytes())
    content[2 * 5 * 512 + 7] ^= 4
    shard.write_bytes(content)

    ran = in_process("verify", "-g", gallery)
    assert ran.code == 1 and ran.out == f"{gallery}: damaged; 5 images, 25 regions checked, 1 problems\n"
    assert ran.err.splitlines()[0] == f"{pictures}/2.png: its vectors are not as they were written"
    assert ran.err.splitlines()[1].endswith("patchwise verify --repair")
    answer = json.loads(in_process("verify", "-g", gallery, "--json").out)
    assert not answer["ok"] and answer["affected_files"] == [f"{pictures}/2.png"]

    ran = in_process("verify", "-g", gallery, "--repair")
    assert ran.code == 0 and ": repaired; " in ran.out and "1 images again" in ran.err
    assert in_process("verify", "-g", gallery).code == 0
    assert "1 added, 4 unchanged" in in_process("index", pictures, "-g", gallery).out
    assert in_process("verify", "-g", gallery).code == 0
    assert in_process("search", pictures / "1.png", "-g", gallery, "--json").out == before


def test_a_cut_shard_stops_everything_else_with_the_way_out(in_process: Cli, gallery: Path, pictures: Path) -> None:
    os.truncate(gallery / "vectors" / "000001.regions", 3 * 5 * 22)
    for command in (["search", pictures / "0.png"], ["index", pictures], ["compact"], ["remove", pictures]):
        in_process(*command, "-g", gallery).complains(1, "000001.regions", "cut short", "patchwise verify --repair")
    assert in_process("info", "-g", gallery).code == 0
    assert in_process("verify", "-g", gallery, "--repair").code == 0
    assert len(in_process("search", pictures / "0.png", "-g", gallery, "-f").out.splitlines()) == 3
    assert in_process("index", pictures, "-g", gallery).code == 0
    assert len(in_process("search", pictures / "0.png", "-g", gallery, "-f").out.splitlines()) == 5
