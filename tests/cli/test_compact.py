"""patchwise compact: less space, the same hits."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Cli


def test_space_is_freed_and_hits_stay(in_process: Cli, gallery: Path, pictures: Path) -> None:
    assert in_process("remove", pictures / "1.png", pictures / "3.png", "-g", gallery).code == 0
    before = in_process("search", pictures / "0.png", "-g", gallery, "--json")
    size = json.loads(in_process("info", "-g", gallery, "--json").out)["vector_bytes"]
    ran = in_process("compact", "-g", gallery, "--json")
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    assert set(answer) == {"dropped_regions", "bytes_before", "bytes_after"}
    assert answer["dropped_regions"] == 10
    assert json.loads(in_process("info", "-g", gallery, "--json").out)["vector_bytes"] == size * 3 // 5
    assert in_process("search", pictures / "0.png", "-g", gallery, "--json") == before
    assert in_process("verify", "-g", gallery).code == 0
    ran = in_process("compact", "-g", gallery)
    assert (ran.code, ran.err) == (0, "") and ran.out.startswith(f"{gallery}: dropped 0 regions, ")
