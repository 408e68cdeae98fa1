"""COCO-style JSON: instances across images become leave-one-out queries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patchwise.errors import BenchmarkError
from patchwise.evaluation.datasets import read_benchmark
from patchwise.evaluation.datasets.coco import read_coco

Rows = list[dict[str, Any]]


def annotation(number: int, image: int, bbox: list[float], instance: object = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 1, "bbox": bbox, "instance_id": instance, **more}


@pytest.fixture
def content() -> dict[str, Rows]:
    return {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 80} for n in (1, 2, 3, 4)],
        "categories": [{"id": 1, "name": "mug"}, {"id": 2, "name": "cap"}],
        "annotations": [
            annotation(10, 1, [0, 0, 10, 10], "red mug"),
            annotation(11, 1, [20, 20, 30, 40], "red mug"),
            annotation(12, 2, [50, 5, 20, 30], "red mug"),
            annotation(13, 3, [5, 5, 40, 40], "red mug"),
            annotation(14, 2, [1, 2, 3, 4], "lone cap", category_id=2),
            annotation(15, 3, [60, 40, 30, 30], "blue mug"),
            annotation(16, 4, [60, 40, 30, 30], "blue mug"),
            annotation(17, 4, [0, 0, 50, 40], "red mug", iscrowd=1),
            annotation(18, 3, [0, 0, 50, 40], "red mug", iscrowd=1),
        ],
    }


@pytest.fixture
def root(tmp_path: Path, content: dict[str, Rows], write_image: Callable[..., Path]) -> Path:
    root = tmp_path / "mugs"
    for number in (1, 2, 3, 4):
        write_image(root / "images" / f"{number}.jpg")
    save(root, content)
    return root


def save(root: Path, content: object) -> None:
    (root / "annotations.json").write_text(json.dumps(content))


def test_each_instance_is_asked_for_from_each_of_its_images(root: Path) -> None:
    benchmark = read_coco(root)
    assert (benchmark.name, benchmark.root) == ("COCO-style mugs", root / "images")
    assert list(benchmark.image_ids) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    asked = {query.id: query for query in benchmark.queries}
    assert set(asked) == {f"red mug/{n}.jpg" for n in (1, 2, 3)} | {"blue mug/3.jpg", "blue mug/4.jpg"}
    query = asked["red mug/1.jpg"]
    assert query.box == (20, 20, 50, 60)  # the largest of two
    assert query.image == root / "images" / "1.jpg"
    assert query.positives == {"2.jpg": ((50, 5, 70, 35),), "3.jpg": ((5, 5, 45, 45),)}
    assert asked["red mug/2.jpg"].positives["1.jpg"] == ((0, 0, 10, 10), (20, 20, 50, 60))
    assert query.ignored == {"1.jpg", "4.jpg"}  # itself, and an image that shows the instance in a crowd only
    assert asked["blue mug/4.jpg"].ignored == {"4.jpg"}
    assert query.group == "red mug"
    assert benchmark.notes == ("1 of 3 instances are in one image only and are not asked for",)


def test_categories_name_the_instance_where_nothing_else_does(root: Path, content: dict[str, Rows]) -> None:
    assert {query.group for query in read_benchmark("coco:category", root).queries} == {"mug"}
    for row in content["annotations"]:
        del row["instance_id"]
    save(root, content)
    benchmark = read_coco(root)
    assert {query.group for query in benchmark.queries} == {"mug"}
    assert benchmark.name == "COCO-style mugs by category"


def test_the_instance_may_be_an_attribute(root: Path, content: dict[str, Rows]) -> None:
    expected = [query.id for query in read_coco(root).queries]
    for row in content["annotations"]:
        row["attributes"] = {"instance_id": row.pop("instance_id")}
    save(root, content)
    assert [query.id for query in read_coco(root).queries] == expected


def test_a_list_of_queries(root: Path, refusal: Callable[..., str]) -> None:
    (root / "queries.txt").write_text("10\n15\n")
    benchmark = read_coco(root)
    assert [(query.id, query.box) for query in benchmark.queries] == [
        ("15", (60, 40, 90, 70)),
        ("10", (0, 0, 10, 10)),
    ]
    (root / "queries.txt").write_text("10\n99\n")
    assert refusal(read_coco, root).endswith("queries.txt: not ids of annotations: 99")
    (root / "queries.txt").write_text("10\n10\n")
    assert refusal(read_coco, root).endswith("queries.txt: listed twice: 10")


def test_the_root_may_be_the_file_and_images_may_lie_beside_it(root: Path) -> None:
    expected = [query.id for query in read_coco(root).queries]
    for image in (root / "images").iterdir():
        image.rename(root / image.name)
    (root / "images").rmdir()
    (root / "annotations.json").rename(root / "mine.json")
    for place in (root, root / "mine.json"):
        benchmark = read_coco(place)
        assert benchmark.root == root
        assert [query.id for query in benchmark.queries] == expected


def change(part: str, row: int, **fields: Any) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        content[part][row].update(fields)

    return apply


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "box outside the image": (
        change("annotations", 0, bbox=[120, 5, 20, 20]),
        "annotation 10: box 120 5 140 25 (x0 y0 x1 y1), image 100 x 80: outside its image. Expected x y width height",
    ),
    "box without area": (change("annotations", 0, bbox=[5, 5, 0, 9]), "annotation 10: box 5 5 5 14"),
    "three numbers": (change("annotations", 0, bbox=[5, 5, 9]), "bbox is not x y width height: [5, 5, 9]"),
    "not a number": (change("annotations", 0, bbox=[5, 5, 9, float("nan")]), "is empty or inside out"),
    "no box": (lambda content: content["annotations"][0].pop("bbox"), "bbox is not x y width height: None"),
    "unknown image": (change("annotations", 2, image_id=77), "annotation 12: image_id 77 is not among the images"),
    "no label": (change("annotations", 2, instance_id=None), "annotation 12: has no instance_id"),
    "image id twice": (change("images", 1, id=1), "ids of images: listed twice: 1"),
    "file twice": (change("images", 1, file_name="1.jpg"), "file names of images: listed twice: 1.jpg"),
    "annotation twice": (change("annotations", 1, id=10), "ids of annotations: listed twice: 10"),
    "image missing": (change("images", 1, file_name="lost.jpg"), "1 of 4 images are missing: lost.jpg."),
    "no file name": (lambda content: content["images"][0].pop("file_name"), "an image has no id or no file_name"),
    "other size": (change("images", 0, width=200, height=160), "1.jpg is given as 200 x 160 but is 100 x 80 pixels:"),
    "size before turning": (
        change("images", 0, width=80, height=100),
        "is given as 80 x 100 but is 100 x 80 pixels (turned by its EXIF orientation)",
    ),
    "no images": (lambda content: content.pop("images"), "holds no list 'images'"),
    "no annotations": (lambda content: content.update(annotations=[]), "holds no list 'annotations'"),
    "nothing twice": (lambda content: content.update(annotations=content["annotations"][:2]), "no instance is in two"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said(root: Path, content: dict[str, Any], refusal: Callable[..., str], name: str) -> None:
    breaking, expected = BROKEN[name]
    breaking(content)
    save(root, content)
    assert expected in refusal(read_coco, root)


def test_x0_y0_x1_y1_is_recognised(root: Path, content: dict[str, Rows], refusal: Callable[..., str]) -> None:
    for row in content["annotations"]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x, y, x + width, y + height]
    save(root, content)
    assert "boxes leave their image: is this another box format" in refusal(read_coco, root)


def test_boxes_are_of_the_upright_image(root: Path, content: dict[str, Rows], write_image: Callable[..., Path]) -> None:
    write_image(root / "images" / "2.jpg", (60, 140), turned=True)
    content["images"][1].update(width=60, height=140)
    content["annotations"][2]["bbox"] = [10, 90, 40, 45]
    save(root, content)
    assert read_coco(root).queries[2].positives["2.jpg"] == ((10, 90, 50, 135),)


def test_no_json_or_too_many(root: Path, refusal: Callable[..., str]) -> None:
    (root / "annotations.json").write_text("{")
    assert "annotations.json: cannot be read as JSON" in refusal(read_coco, root)
    (root / "annotations.json").unlink()
    assert f"annotations.json: missing (no JSON file in {root})" in refusal(read_coco, root)
    for name in ("a.json", "b.json"):
        (root / name).write_text("{}")
    with pytest.raises(BenchmarkError, match=r"missing \(2 JSON files and none of that name"):
        read_coco(root)
