"""patchwise eval and compare: tables, files and errors, with the real encoder on a handful of pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import Cli

pytest.importorskip("matplotlib")
Picture = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def logos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos with two marks, in the layout of the logos; nothing in it may be changed."""
    from conftest import make_picture

    root = tmp_path_factory.mktemp("marks")
    (root / "images").mkdir()
    rows = []
    for seed in range(6):
        photo = make_picture(seed, (160, 120))
        if seed < 4:
            photo.paste(make_picture(50 + seed % 2, (40, 30)), (80, 60))
            rows.append([f"{seed}.png", "ab"[seed % 2], 80, 60, 120, 90])
        photo.save(root / "images" / f"{seed}.png")
    with (root / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "x0", "y0", "x1", "y1"], *rows])
    (root / "without_logo.json").write_text(json.dumps({"none": ["4.png", "5.png"]}))
    return root


@pytest.fixture
def evaluated(in_process: Cli, logos: Path) -> Callable[..., object]:
    return lambda *more: in_process("eval", "logos", "--root", logos, "--cache", logos / "cache", *more)


def test_the_table(evaluated: Cli) -> None:
    ran = evaluated("--regions", "whole,pyramid:1,oracle")
    assert ran.code == 0, ran
    lines = ran.out.splitlines()
    assert lines[0] == "logos, 4 queries"
    assert lines[2].split()[:3] == ["method", "mAP", "LocScore"]
    assert [line.split("  ")[0] for line in lines[4:7]] == ["builtin whole", "builtin pyramid:1", "builtin oracle"]
    assert "logos: pyramid:1" in ran.err


def test_codes_are_not_what_is_judged_unless_there_is_nothing_else(
    in_process: Cli, logos: Path, tmp_path: Path
) -> None:
    def scores() -> dict[str, dict[str, float]]:
        where = ["--root", logos, "--cache", "cache", "--results", "results"]
        ran = in_process("eval", "logos", *where, "--regions", "pyramid:1")
        assert ran.code == 0, ran
        (file,) = (tmp_path / "results").iterdir()
        found: dict[str, dict[str, float]] = json.loads(file.read_text())
        return found

    before = scores()
    (gallery,) = (manifest.parent for manifest in (tmp_path / "cache").rglob("manifest.json"))
    assert in_process("compress", "-g", gallery, "--codec", "fastscan:8").code == 0
    assert scores() == before
    assert in_process("compress", "-g", gallery, "--codec", "fastscan:8", "--codes-only", "--yes").code == 0
    after = scores()
    assert after.keys() == before.keys() and after != before
    assert all(sorted(after[query]) == sorted(before[query]) for query in before)


def test_json_markdown_and_files(evaluated: Cli, in_process: Cli, tmp_path: Path) -> None:
    ran = evaluated("--regions", "whole,oracle", "--json", "--report", "report", "--save-run", "runs", "--delta", "0.3")
    assert ran.code == 0, ran
    found = json.loads(ran.out)
    assert found["benchmark"] == "logos" and [row["delta"] for row in found["results"]] == [0.3, 0.3]
    assert found["results"][1]["metrics"]["mean_iou"]["mean"] > found["results"][0]["metrics"]["mean_iou"]["mean"]
    assert {path.name for path in (tmp_path / "report").iterdir()} >= {"results.md", "results.json", "by_area.png"}
    assert "| method |" in evaluated("--regions", "whole", "--markdown").out

    files = sorted((tmp_path / "runs").iterdir())
    assert [path.name for path in files] == ["logos-oracle.json.gz", "logos-whole.json.gz"]
    compared = in_process("compare", files[1], files[0])
    assert compared.code == 0 and "LocScore" in compared.out and "A: builtin whole. B: builtin oracle." in compared.out
    metrics = json.loads(in_process("compare", files[1], files[0], "--json").out)["metrics"]
    assert metrics["loc_score"]["difference"]["mean"] > 0
    assert "| x 100 |" in in_process("compare", files[0], files[0], "--markdown").out


def test_the_list(in_process: Cli) -> None:
    lines = in_process("eval", "--list").out.splitlines()
    assert {line.split()[0] for line in lines} >= {"ilias", "mini-ilias", "instre", "coco", "folders", "logos"}
    assert "synthetic" in json.loads(in_process("eval", "--list", "--json").out)


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ((), 2, ["name a benchmark", "--list"]),
        (("paris",), 2, ["benchmark 'paris': unknown", "instre"]),
        (("logos",), 2, ["--root DIR"]),
        (("logos", "--root", "nowhere"), 1, ["nowhere"]),
        (("logos:none", "--root", "nowhere"), 2, ["unknown option 'none'"]),
    ],
)
def test_what_cannot_be_evaluated(in_process: Cli, arguments: tuple[str, ...], code: int, parts: list[str]) -> None:
    in_process("eval", *arguments).complains(code, *parts)


@pytest.mark.parametrize(
    ("regions", "part"), [("whole,grid", "unknown strategy"), ("whole,whole", "each once"), ("", "unknown strategy")]
)
def test_strategies_that_make_no_sense(evaluated: Cli, regions: str, part: str) -> None:
    ran = evaluated("--regions", regions)
    assert ran.code in (1, 2) and part in ran.err and ran.out == "" and "Traceback" not in ran.err


def test_runs_that_cannot_be_compared(in_process: Cli, tmp_path: Path) -> None:
    in_process("compare", "a.json", "b.json").complains(1, "a.json")
    (tmp_path / "a.json").write_text("{}")
    in_process("compare", "a.json", "a.json").complains(1, "a.json")


def test_rankings_that_other_scripts_judge(evaluated: Cli, tmp_path: Path) -> None:
    """What is written and judged again gives the same mAP as the search itself."""
    searched = evaluated("--regions", "pyramid:1", "--json", "--results", "rankings")
    assert searched.code == 0, searched
    file = tmp_path / "rankings" / "logos-pyramid-1.json"
    written = json.loads(file.read_text())
    assert len(written) == 4 and all(len(ranking) == 5 for ranking in written.values())
    scores = [list(ranking.values()) for ranking in written.values()]
    assert scores == [sorted(ranking, reverse=True) for ranking in scores]
    judged = evaluated("--judge", file, "--json", "--report", "report")
    one, other = (json.loads(ran.out)["results"][0]["metrics"] for ran in (searched, judged))
    assert other["average_precision"]["mean"] == pytest.approx(one["average_precision"]["mean"], abs=1e-9)
    assert other["loc_score"]["mean"] is None
    assert (tmp_path / "report" / "results.md").exists()
