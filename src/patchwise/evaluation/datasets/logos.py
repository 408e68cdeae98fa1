"""Logo photographs with boxes in a CSV, such as a part of FlickrLogos-27 (Kalantidis et al. 2011).

    ROOT/boxes.csv             file,label,x0,y0,x1,y1 in pixels, several rows per photo
    ROOT/without_logo.json     a list of file names, or lists by name
    ROOT/images/*.jpg          the photos of both
    ROOT/distractors/*.jpg     optional

ROOT may also be the folder that holds `logos` (as above) and `distractors` side by side.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

from patchwise.boxes import Box, area_xyxy
from patchwise.errors import BenchmarkError
from patchwise.evaluation.datasets.base import Benchmark, Query
from patchwise.evaluation.datasets.checks import (
    BoxChecker,
    few,
    image_files,
    own_folder,
    refuse_duplicates,
    refuse_missing_files,
    upright_size,
)

__all__ = ["read_logos"]

_COLUMNS = ("file", "label", "x0", "y0", "x1", "y1")
_HOW = "The layout is described in docs/benchmark-data.md."


def read_logos(root: Path, *, distractors: bool = True) -> Benchmark:
    """Read and check logo photographs: the query is the largest box of each label in each photo, its photo left out.

    Args:
        root: the folder with boxes.csv, or the one above it.
        distractors: search the distractors as well, if there are any.

    Raises:
        BenchmarkError: what is missing or inconsistent.
    """
    own_folder(root, "boxes.csv", _HOW)
    inner = "" if (root / "boxes.csv").is_file() or not (root / "logos" / "boxes.csv").is_file() else "logos/"
    file = root / f"{inner}boxes.csv"
    images = f"{inner}images/"
    rows = _rows(file)
    without = _without(root / f"{inner}without_logo.json")
    named = sorted({name for name, _, _ in rows} | set(without))
    refuse_missing_files(root, [images + name for name in named], "photos", _HOW)
    contradicting = sorted({name for name, _, _ in rows} & set(without))
    if contradicting:
        raise BenchmarkError(f"{file}: photos with a box that without_logo.json names too: {few(contradicting)}")
    unlabelled = sorted(set(image_files(root / images)) - set(named))
    if unlabelled:
        raise BenchmarkError(
            f"{root / images}: neither in boxes.csv nor in without_logo.json, so it is not known what they show: "
            f"{few(unlabelled)}"
        )
    checker = BoxChecker("x0 y0 x1 y1")
    truth: dict[str, dict[str, list[Box]]] = defaultdict(lambda: defaultdict(list))
    for number, (name, label, box) in enumerate(rows, start=2):
        truth[label][images + name].append(
            checker.cut(box, upright_size(root / images / name), f"{file}, line {number}")
        )
    notes = checker.notes()
    queries = []
    for label, photos in sorted(truth.items()):
        for photo, boxes in sorted(photos.items()):
            positives = {other: tuple(found) for other, found in sorted(photos.items()) if other != photo}
            if positives:
                asked = max(boxes, key=lambda box: float(area_xyxy(box)))
                queries.append(Query(f"{label}/{photo}", root / photo, asked, positives, frozenset({photo}), label))
    alone = sorted(label for label, photos in truth.items() if len(photos) == 1)
    if alone:
        notes += (f"in one photo only, so not asked for: {few(alone)}",)
    if not queries:
        raise BenchmarkError(f"{file}: no label is in two photos, so there is nothing to ask. {_HOW}")
    gallery = [images + name for name in named]
    beside = root / "distractors"
    if distractors and beside.is_dir():
        gallery += [f"distractors/{name}" for name in image_files(beside)]
    searched = len(gallery) - len(named)
    return Benchmark(
        name="logos" + (f", {searched:,} distractors" if searched else ""),
        root=root,
        image_ids=sorted(gallery),
        queries=queries,
        notes=notes,
    )


def _rows(file: Path) -> list[tuple[str, str, Box]]:
    if not file.is_file():
        raise BenchmarkError(f"{file}: missing. {_HOW}")
    rows: list[tuple[str, str, Box]] = []
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            absent = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
            if absent:
                raise BenchmarkError(f"{file}: has no column {few(absent)}; expected {','.join(_COLUMNS)}")
            for row in reader:
                box = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
                rows.append((row["file"], row["label"], box))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchmarkError(f"{file}: cannot be read ({error})") from error
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"{file}: line {len(rows) + 2} is not {','.join(_COLUMNS)} ({error})") from error
    refuse_twice = [" ".join(map(str, row)) for row, count in Counter(rows).items() if count > 1]
    if refuse_twice:
        raise BenchmarkError(f"{file}: the same box twice: {few(refuse_twice)}")
    return rows


def _without(file: Path) -> list[str]:
    if not file.is_file():
        raise BenchmarkError(f"{file}: missing; write [] if every photo has a box. {_HOW}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{file}: cannot be read as JSON ({error})") from error
    lists = list(content.values()) if isinstance(content, dict) else [content]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise BenchmarkError(f"{file}: neither a list of file names nor lists by name. {_HOW}")
    names = [name for names in lists for name in names]
    refuse_duplicates(names, str(file))
    return names
