"""The CSV layout of logo photographs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from patchwise.evaluation.datasets import read_benchmark
from patchwise.evaluation.datasets.logos import read_logos

ROWS = [
    "file,label,x0,y0,x1,y1",
    "1.jpg,Cola,0,0,10,10",
    "1.jpg,Cola,20,20,60,60",
    "1.jpg,Star,70,5,90,25",
    "2.jpg,Cola,5,5,25,35",
    "3.jpg,Star,1,1,11,11",
    "3.jpg,Lone,50,50,70,70",
]


@pytest.fixture
def root(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    root = tmp_path / "logos"
    for name in ("1", "2", "3", "none"):
        write_image(root / "images" / f"{name}.jpg")
    (root / "boxes.csv").write_text("\n".join(ROWS) + "\n")
    (root / "without_logo.json").write_text(json.dumps({"none": ["none.jpg"]}))
    return root


def test_the_largest_box_per_photo_and_label_is_asked_for(root: Path) -> None:
    benchmark = read_logos(root)
    assert benchmark.name == "logos"
    assert list(benchmark.image_ids) == ["images/1.jpg", "images/2.jpg", "images/3.jpg", "images/none.jpg"]
    asked = {query.id: query for query in benchmark.queries}
    assert set(asked) == {"Cola/images/1.jpg", "Cola/images/2.jpg", "Star/images/1.jpg", "Star/images/3.jpg"}
    assert asked["Cola/images/1.jpg"].box == (20, 20, 60, 60)
    assert asked["Cola/images/1.jpg"].positives == {"images/2.jpg": ((5, 5, 25, 35),)}
    assert asked["Cola/images/2.jpg"].positives == {"images/1.jpg": ((0, 0, 10, 10), (20, 20, 60, 60))}
    assert asked["Cola/images/2.jpg"].ignored == {"images/2.jpg"}
    assert asked["Star/images/3.jpg"].group == "Star"
    assert benchmark.notes == ("in one photo only, so not asked for: Lone",)


@pytest.mark.parametrize("beside", [True, False])
def test_distractors_inside_or_beside(root: Path, write_image: Callable[..., Path], beside: bool) -> None:
    place = root.parent if beside else root
    write_image(place / "distractors" / "d.jpg")
    benchmark = read_benchmark("logos", place)
    assert benchmark.name == "logos, 1 distractors"
    assert len(benchmark.image_ids) == 5
    assert all((benchmark.root / name).is_file() for name in benchmark.image_ids)
    assert all(
        query.image.is_file() and set(query.positives) <= set(benchmark.image_ids) for query in benchmark.queries
    )
    assert len(read_benchmark("logos:no-distractors", place).image_ids) == 4


def test_without_logo_may_be_a_plain_list(root: Path) -> None:
    (root / "without_logo.json").write_text('["none.jpg"]')
    assert len(read_logos(root).image_ids) == 4


def csv_with(old: str, new: str) -> Callable[[Path], object]:
    def apply(root: Path) -> None:
        text = (root / "boxes.csv").read_text()
        assert old in text
        (root / "boxes.csv").write_text(text.replace(old, new, 1))

    return apply


def without(content: object) -> Callable[[Path], object]:
    return lambda root: (root / "without_logo.json").write_text(json.dumps(content))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no csv": (lambda root: (root / "boxes.csv").unlink(), "boxes.csv: missing"),
    "no json": (lambda root: (root / "without_logo.json").unlink(), "without_logo.json: missing; write []"),
    "broken json": (lambda root: (root / "without_logo.json").write_text("["), "without_logo.json: cannot be read"),
    "json of numbers": (without([1, 2]), "neither a list of file names nor lists by name"),
    "a name twice": (without(["none.jpg", "none.jpg"]), "without_logo.json: listed twice: none.jpg"),
    "missing photo": (lambda root: (root / "images/2.jpg").unlink(), "1 of 4 photos are missing: images/2.jpg."),
    "unknown photo": (without([]), "neither in boxes.csv nor in without_logo.json, so it is not known what they show"),
    "both": (without(["none.jpg", "1.jpg"]), "photos with a box that without_logo.json names too: 1.jpg"),
    "no column": (csv_with("label", "name"), "boxes.csv: has no column label; expected file,label,x0,y0,x1,y1"),
    "a word": (csv_with("1.jpg,Star,70", "1.jpg,Star,left"), "boxes.csv: line 4 is not file,label,x0,y0,x1,y1"),
    "a short line": (csv_with("2.jpg,Cola,5,5,25,35", "2.jpg,Cola,5,5,25"), "boxes.csv: line 5 is not"),
    "box outside the image": (
        csv_with("70,5,90,25", "170,5,190,25"),
        "boxes.csv, line 4: box 170 5 190 25 (x0 y0 x1 y1), image 100 x 80: outside its image. Expected x0 y0 x1 y1",
    ),
    "x y width height": (csv_with("5,5,25,35", "60,30,20,20"), "line 5: box 60 30 20 20 (x0 y0 x1 y1) is empty or"),
    "the same box twice": (csv_with("2.jpg,Cola,5,5,25,35", "1.jpg,Cola,0,0,10,10"), "the same box twice: 1.jpg Cola"),
    "nothing to ask": (
        lambda root: (root / "boxes.csv").write_text("\n".join([ROWS[0], *ROWS[3:]]).replace("3.jpg,Star", "3.jpg,S")),
        "no label is in two photos",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said(root: Path, refusal: Callable[..., str], name: str) -> None:
    read_logos(root)  # whole before
    breaking, expected = BROKEN[name]
    breaking(root)
    assert expected in refusal(read_logos, root)


def test_the_real_collection(shared_data: Path) -> None:
    benchmark = read_logos(shared_data)
    assert benchmark.name == "logos, 300 distractors"
    assert (len(benchmark.image_ids), len(benchmark.queries)) == (929, 539)
    assert len({query.group for query in benchmark.queries}) == 18
    assert benchmark.notes == ()
