"""Reading a detector's output: CSV with a row per box, or COCO JSON; every mistake is told with its place.

CSV: a header with `path` (or `file`), `x0`, `y0`, `x1`, `y1`, perhaps `score`; other columns are passed over. A row
whose four edges are empty names an image without boxes.

COCO JSON: an object with `images` (`id`, `file_name`, perhaps `width` and `height`) and `annotations` (`image_id`,
`bbox` as x, y, width, height, perhaps `score`), or a list of detections that each hold `file_name`, `bbox`, `score`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from patchwise.errors import RegionsError

__all__ = ["BoxTable", "path_parts", "read_box_file"]

_EDGES = ("x0", "y0", "x1", "y1")
_DIGITS = 16

Parts = tuple[str, ...]


@dataclass(frozen=True)
class BoxTable:
    """Boxes, (N, 4) float32 xyxy with the best score first, and known image sizes, by the parts of a path."""

    boxes: dict[Parts, npt.NDArray[np.float32]]
    sizes: dict[Parts, tuple[int, int]]


@dataclass(frozen=True)
class _Entry:
    """One box as it stands in the file, or None for an image without boxes."""

    image: str
    box: tuple[float, float, float, float] | None
    score: float


def path_parts(path: str) -> Parts:
    """The parts of a path, the same however its separators are written; an absolute path begins with its root."""
    drive, rest = os.path.splitdrive(path)
    plain = os.path.normpath(rest.replace("\\", "/")).replace("\\", "/")
    names = tuple(part for part in plain.split("/") if part)
    return (drive + "/", *names) if plain.startswith("/") else names


def read_box_file(path: str, digest: str | None = None) -> tuple[BoxTable, str]:
    """Read and check a file of boxes; returns it with the digest of its content.

    A relative path of an image is known twice: as below the folder of the file, and as the end of any path.

    Raises:
        RegionsError: it cannot be read, holds a mistake, or is not the content that `digest` stands for.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        advice = "" if digest is None else "; this gallery's regions come from it, so put it back there to index more"
        raise RegionsError(f"{path}: cannot be read ({error.strerror or error}){advice}") from error
    found = hashlib.sha256(data).hexdigest()[:_DIGITS]
    if digest is not None and found != digest:
        raise RegionsError(
            f"{path}: has changed since the gallery was made (sha256 {found}... instead of {digest}...), and regions "
            f"of two kinds cannot be mixed. Restore the file to index more, or index everything into a new gallery: "
            f"patchwise index FOLDER --gallery NEW --regions boxes:{path}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RegionsError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start:,})") from error
    sizes: dict[str, tuple[int, int]] = {}
    entries = _coco_entries(path, text, sizes) if text.lstrip()[:1] in ("{", "[") else _csv_entries(path, text)
    collected: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        collected[entry.image].append(entry)
    if not collected:
        raise RegionsError(f"{path}: names no image")
    return _table(os.path.dirname(path), collected, sizes), found


def _table(folder: str, collected: dict[str, list[_Entry]], sizes: dict[str, tuple[int, int]]) -> BoxTable:
    merged: dict[Parts, list[_Entry]] = defaultdict(list)
    known: dict[Parts, tuple[int, int]] = {}
    for image, entries in collected.items():
        for key in {path_parts(image), path_parts(os.path.join(folder, image))}:
            merged[key] += entries
            if image in sizes:
                known[key] = sizes[image]
    boxes = {}
    for key, entries in merged.items():
        best_first = sorted((entry for entry in entries if entry.box is not None), key=lambda entry: -entry.score)
        boxes[key] = np.array([entry.box for entry in best_first], dtype=np.float32).reshape(-1, 4)
    return BoxTable(boxes, known)


def _csv_entries(path: str, text: str) -> Iterator[_Entry]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        image_column = next((name for name in ("path", "file") if name in columns), None)
        missing = [name for name in _EDGES if name not in columns]
        if image_column is None or missing:
            raise RegionsError(
                f"{path}: line 1: expected a header with path (or file), x0, y0, x1, y1 and perhaps score; missing "
                f"{', '.join(missing if image_column else ['path', *missing])}"
            )
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            image = (row[image_column] or "").strip()
            edges = [(row[name] or "").strip() for name in _EDGES]
            if not image:
                raise RegionsError(f"{where}: names no image")
            if not any(edges):
                yield _Entry(image, None, 0.0)
                continue
            score = _score(where, (row.get("score") or "").strip() or 0.0)
            yield _Entry(image, _xyxy(where, edges), score)
    except csv.Error as error:
        raise RegionsError(f"{path}: line {reader.reader.line_num}: {error}") from error


def _coco_entries(path: str, text: str, sizes: dict[str, tuple[int, int]]) -> Iterator[_Entry]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RegionsError(f"{path}: is not JSON ({error})") from error
    if isinstance(content, list):
        for number, detection in enumerate(content, start=1):
            where = f"{path}: detection {number:,}"
            if not isinstance(_field(where, detection, "file_name", "image_id"), str):
                raise RegionsError(
                    f"{where}: image_id is a number, and the list says nothing of file names; give each detection a "
                    'file_name, or write {"images": [...], "annotations": [...]} with the detections as annotations'
                )
            yield _detection(where, detection, _field(where, detection, "file_name", "image_id"))
        return
    if not isinstance(content.get("images"), list) or not isinstance(content.get("annotations"), list):
        raise RegionsError(f"{path}: expected the lists images and annotations (COCO), or a list of detections")
    names: dict[Any, str] = {}
    for number, image in enumerate(content["images"], start=1):
        where = f"{path}: image {number:,}"
        key, name = _field(where, image, "id"), _field(where, image, "file_name")
        if not isinstance(name, str) or not name or not isinstance(key, (int, str)):
            raise RegionsError(f"{where}: id must be a number or text, and file_name a path")
        if key in names:
            raise RegionsError(f"{where}: id {key!r} is that of {names[key]} already")
        names[key] = name
        if isinstance(image.get("width"), int) and isinstance(image.get("height"), int):
            sizes[name] = (image["width"], image["height"])
        yield _Entry(name, None, 0.0)
    for number, annotation in enumerate(content["annotations"], start=1):
        where = f"{path}: annotation {number:,}"
        key = _field(where, annotation, "image_id")
        if not isinstance(key, (int, str)) or key not in names:
            raise RegionsError(f"{where}: image_id {key!r} is not among the images")
        yield _detection(where, annotation, names[key])


def _detection(where: str, detection: dict[str, Any], image: str) -> _Entry:
    bbox = _field(where, detection, "bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise RegionsError(f"{where}: bbox must be [x, y, width, height], not {bbox!r}")
    x, y, width, height = _numbers(where, bbox)
    return _Entry(image, _xyxy(where, [x, y, x + width, y + height]), _score(where, detection.get("score") or 0.0))


def _field(where: str, item: Any, *names: str) -> Any:
    """The first of these fields that is there."""
    if isinstance(item, dict):
        for name in names:
            if name in item:
                return item[name]
    raise RegionsError(f"{where}: expected an object with {' or '.join(names)}")


def _numbers(where: str, values: Sequence[Any]) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(values) or not all(map(isfinite, numbers)):
        raise RegionsError(f"{where}: expected finite numbers, not {', '.join(map(str, values))}")
    return numbers


def _xyxy(where: str, values: Sequence[Any]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = _numbers(where, values)
    if x1 < x0 or y1 < y0:
        raise RegionsError(
            f"{where}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} (x0, y0, x1, y1) is inside out; x1 must not be less than "
            "x0, nor y1 less than y0"
        )
    return (x0, y0, x1, y1)


def _score(where: str, value: Any) -> float:
    return _numbers(where, [value])[0]
