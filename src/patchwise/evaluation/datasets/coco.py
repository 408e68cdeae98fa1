"""Any data set in COCO's JSON form whose annotations name an instance.

    ROOT/annotations.json     images (id, file_name, width, height), annotations (id, image_id, bbox: x y width height,
                              instance_id or attributes.instance_id, or else category_id), categories
    ROOT/queries.txt          optional: ids of the annotations to ask with, one per line

The images lie under ROOT, ROOT/images, or wherever `file_name` leads from there. ROOT may also be the JSON file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from patchwise.boxes import Box, area_xyxy
from patchwise.errors import BenchmarkError
from patchwise.evaluation.datasets.base import Benchmark, Query
from patchwise.evaluation.datasets.checks import (
    BoxChecker,
    few,
    read_lines,
    refuse_duplicates,
    refuse_missing_files,
    upright_size,
    xyxy,
)

__all__ = ["read_coco"]

_HOW = "The layout is described in docs/benchmark-data.md."
Label = Literal["instance_id", "category"]
_Instances = dict[str, dict[str, list[tuple[Box, str]]]]


def read_coco(root: Path, *, label: Label | None = None) -> Benchmark:
    """Read and check COCO-style boxes with an instance label.

    Each query is the largest box of an instance in an image, or a listed annotation; its own image is left out of the
    ranking, and its positives are the other images of that instance. Images of an instance known only by a crowd
    annotation (`iscrowd`) are left out of that instance's rankings.

    Args:
        root: the folder, or the JSON file.
        label: what names an instance; by default `instance_id` where annotations have it, else the category.

    Raises:
        BenchmarkError: what is missing or inconsistent.
    """
    file = _annotation_file(root)
    root = file.parent
    content = _load(file)
    images, base = _images(root, file, content["images"])
    label = label or (
        "instance_id" if any(_instance(one) is not None for one in content["annotations"]) else "category"
    )
    found, crowds = _annotations(file, content, images, base, label)
    queries_file = root / "queries.txt"
    listed = list(read_lines(queries_file, _HOW)) if queries_file.is_file() else None
    queries = _queries(base, found, crowds, listed, queries_file)
    notes = found.notes
    alone = sum(len(of_image) == 1 for of_image in found.boxes.values())
    if alone:
        notes += (f"{alone:,} of {len(found.boxes):,} instances are in one image only and are not asked for",)
    if not queries:
        raise BenchmarkError(f"{file}: no instance is in two images, so there is nothing to ask. {_HOW}")
    return Benchmark(
        name=f"COCO-style {root.name}" + (" by category" if label == "category" else ""),
        root=base,
        image_ids=sorted(images.values()),
        queries=queries,
        notes=notes,
    )


@dataclass(frozen=True)
class _Found:
    """Boxes, with their annotation's id, by instance and file name."""

    boxes: _Instances
    notes: tuple[str, ...]


def _annotation_file(root: Path) -> Path:
    if root.is_file():
        return root
    files = sorted(root.glob("*.json")) if root.is_dir() else []
    named = root / "annotations.json"
    if named in files:
        return named
    if len(files) != 1:
        seen = f"{len(files)} JSON files and none of that name" if files else "no JSON file"
        raise BenchmarkError(f"{named}: missing ({seen} in {root}). {_HOW}")
    return files[0]


def _load(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{file}: cannot be read as JSON ({error})") from error
    for part in ("images", "annotations"):
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
            raise BenchmarkError(f"{file}: holds no list {part!r}. {_HOW}")
    return content  # type: ignore[no-any-return]


def _images(root: Path, file: Path, rows: list[dict[str, Any]]) -> tuple[dict[Any, str], Path]:
    """File names by image id, and the folder they lie in."""
    for row in rows:
        if "id" not in row or not isinstance(row.get("file_name"), str):
            raise BenchmarkError(f"{file}: an image has no id or no file_name: {json.dumps(row)[:200]}. {_HOW}")
    refuse_duplicates((str(row["id"]) for row in rows), f"{file}, ids of images")
    refuse_duplicates((row["file_name"] for row in rows), f"{file}, file names of images")
    names = {row["id"]: str(row["file_name"]) for row in rows}
    first = next(iter(names.values()))
    base = root if (root / first).is_file() or not (root / "images").is_dir() else root / "images"
    refuse_missing_files(base, list(names.values()), "images", _HOW)
    for row in rows:
        size = upright_size(base / row["file_name"])
        given = (row.get("width", size[0]), row.get("height", size[1]))
        if given != size:
            turned = " (turned by its EXIF orientation)" if given == size[::-1] else ""
            raise BenchmarkError(
                f"{file}: {row['file_name']} is given as {given[0]} x {given[1]} but is {size[0]} x {size[1]} pixels"
                f"{turned}: the boxes belong to other pixels. {_HOW}"
            )
    return names, base


def _instance(annotation: dict[str, Any]) -> str | None:
    attributes = annotation.get("attributes")
    value = annotation.get("instance_id", attributes.get("instance_id") if isinstance(attributes, dict) else None)
    return None if value is None else str(value)


def _annotations(
    file: Path, content: dict[str, list[dict[str, Any]]], images: dict[Any, str], base: Path, label: Label
) -> tuple[_Found, dict[str, set[str]]]:
    categories = {row.get("id"): str(row.get("name", row.get("id"))) for row in content.get("categories", [])}
    rows = content["annotations"]
    refuse_duplicates((str(row["id"]) for row in rows if "id" in row), f"{file}, ids of annotations")
    checker = BoxChecker("x y width height")
    boxes: _Instances = defaultdict(lambda: defaultdict(list))
    crowds: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        where = f"{file}, annotation {row.get('id', '?')}"
        if row.get("image_id") not in images:
            raise BenchmarkError(f"{where}: image_id {row.get('image_id')} is not among the images")
        category = row.get("category_id")
        name = _instance(row) if label == "instance_id" else categories.get(category, category)
        if name is None:
            raise BenchmarkError(f"{where}: has no {label}, while instances are told apart by it. {_HOW}")
        image = images[row["image_id"]]
        if row.get("iscrowd"):
            crowds[str(name)].add(image)
            continue
        try:
            x, y, width, height = (float(value) for value in row["bbox"])
        except (KeyError, TypeError, ValueError) as error:
            raise BenchmarkError(f"{where}: bbox is not x y width height: {row.get('bbox')}. {_HOW}") from error
        box = checker.cut(xyxy((x, y, width, height)), upright_size(base / image), where)
        boxes[str(name)][image].append((box, str(row.get("id", ""))))
    return _Found(boxes, checker.notes()), crowds


def _queries(
    base: Path, found: _Found, crowds: dict[str, set[str]], listed: list[str] | None, file: Path
) -> list[Query]:
    if listed is not None:
        refuse_duplicates(listed, str(file))
    wanted = frozenset(listed or ())
    queries: list[Query] = []
    known: set[str] = set()
    for instance, of_image in sorted(found.boxes.items()):
        truth = {image: tuple(box for box, _ in boxes) for image, boxes in sorted(of_image.items())}
        for image, boxes in sorted(of_image.items()):
            if listed is None:
                asked = [(max(boxes, key=lambda pair: float(area_xyxy(pair[0])))[0], f"{instance}/{image}")]
            else:
                asked = [(box, number) for box, number in boxes if number in wanted]
                known.update(number for _, number in asked)
            positives = {other: truth[other] for other in truth if other != image}
            if not positives:
                continue
            ignored = frozenset({image} | (crowds.get(instance, set()) - set(truth)))
            queries += [Query(name, base / image, box, positives, ignored, instance) for box, name in asked]
    unknown = sorted(wanted - known)
    if unknown:
        raise BenchmarkError(f"{file}: not ids of annotations: {few(unknown)}")
    return queries
