"""The demonstration as a whole, with the real encoder on a few scenes: `make demo` runs it in full."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from patchwise.cli.app import app
from patchwise.demo import DemoResult, run, run_demo
from patchwise.demo.scenes import make_scenes
from patchwise.errors import MissingExtra, StorageFull, UsageError
from patchwise.gallery import Gallery

pytest.importorskip("skimage")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module", autouse=True)
def few_scenes() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "make_scenes", functools.partial(make_scenes, per_object=1, empty=3))
        yield


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, list[str], Path]:
    said: list[str] = []
    output = tmp_path_factory.mktemp("demo") / "new" / "output"
    return run_demo(output, said.append), said, output


def test_regions_find_what_whole_images_miss(demonstration: tuple[DemoResult, list[str], Path]) -> None:
    result, _, _ = demonstration
    by_strategy = {
        strategy: [found for found in result.objects if found.strategy == strategy] for strategy in run.STRATEGIES
    }
    whole, regions, refined = by_strategy.values()
    assert len(whole) == len(regions) == len(refined) == 7
    assert sum(found.mean_iou for found in refined) > 1.2 * sum(found.mean_iou for found in regions)
    assert sum(found.found for found in refined) >= sum(found.found for found in regions)
    assert sum(found.found for found in regions) >= 6 > sum(found.found for found in whole)
    assert sum(found.loc_score for found in regions) > 3 * sum(found.loc_score for found in whole)
    for found in result.objects:
        assert found.scenes == 1 and 0 <= found.loc_score <= found.average_precision <= 1


def test_it_says_what_it_does(demonstration: tuple[DemoResult, list[str], Path]) -> None:
    said = demonstration[1]
    assert said[0] == "composed 10 scenes, 7 of them with an object"
    assert said[1].startswith("indexed with whole: 10 regions") and said[2].startswith("indexed with pyramid:3: 300")


def test_it_leaves_a_report_and_galleries_to_look_into(demonstration: tuple[DemoResult, list[str], Path]) -> None:
    result, _, output = demonstration
    page = result.report.read_text(encoding="utf-8")
    assert result.report == output / "report.html"
    assert page.count("right image, IoU") >= 6 and "motorcycle" in page and "http" not in page.split("<body")[1]
    with Image.open(result.picture) as picture:
        assert picture.width > 1000
    for strategy, place in result.galleries.items():
        with Gallery.open(place) as gallery:
            assert len(gallery) == 10 and gallery.info().regions_strategy == strategy


def test_again_in_the_same_folder(demonstration: tuple[DemoResult, list[str], Path]) -> None:
    result, _, output = demonstration
    assert run_demo(output).objects == result.objects


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "scenes").mkdir(parents=True)
    (folder / "scenes" / "holiday.jpg").write_bytes(b"precious")
    return folder


def test_a_folder_with_other_files_is_left_alone(foreign: Path) -> None:
    with pytest.raises(UsageError, match=r"not the demo's.*name another folder"):
        run_demo(foreign)
    assert [path.name for path in foreign.rglob("*")] == ["scenes", "holiday.jpg"]
    with pytest.raises(UsageError, match="not the demo's"):
        run_demo(foreign / "scenes" / "holiday.jpg")


def test_an_output_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFull, match=r"file/output: cannot be written to \(Not a directory\)"):
        run_demo(tmp_path / "file" / "output")


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["demo", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_command(demonstration: tuple[DemoResult, list[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says of a demonstration that has run; `make demo` runs it from end to end."""
    result, _, output = demonstration
    asked = []
    monkeypatch.setattr("patchwise.demo.run_demo", lambda folder, say: asked.append(folder) or result)
    lines = command(str(output)).splitlines()
    assert [line.split()[0] for line in lines[2:9]] == [
        "astronaut", "cat", "coffee", "flower", "motorcycle", "photographer", "rocket",
    ]  # fmt: skip
    assert lines[9].startswith("whole images") and " of 7, mAP " in lines[9]
    assert lines[10].startswith("regions") and lines[11].startswith("refined")
    assert lines[12].startswith(f"look at {output}/report.html")
    found = json.loads(command(str(output), "--json"))
    assert len(found["objects"]) == 21 and Path(found["report"]).exists() and Path(found["picture"]).exists()
    assert asked == [output, output]


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Callable[[], None]:
        raise MissingExtra("the demo", "demo")

    monkeypatch.setattr(run, "load_photographs", missing)
    with pytest.raises(MissingExtra):
        run_demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()
