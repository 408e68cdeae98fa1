"""INSTRE (Wang and Jiang 2015), retrieval split of Iscen et al. (CVPR 2017).

    ROOT/gnd_instre.mat                      qimlist, imlist, gnd: per query 1-based positives and box x0 y0 x1 y1
    ROOT/INSTRE-S1/01a_canada_book/013.jpg   beside each .jpg a .txt with one x y width height line per box
    ROOT/INSTRE-S2/..., ROOT/INSTRE-M/50/107.jpg

In an image of INSTRE-M the first line is object a and the second object b of the pair in INSTRE-S1. Public readers
disagree on 0- or 1-based indices and on the box format, so both are checked against the files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box, enclosing_box
from patchwise.errors import BenchmarkError, MissingExtra
from patchwise.evaluation.datasets.base import Benchmark, Query
from patchwise.evaluation.datasets.checks import (
    BoxChecker,
    few,
    own_folder,
    read_lines,
    refuse_duplicates,
    refuse_missing_files,
    upright_size,
    xyxy,
)

__all__ = ["read_instre"]

_PUBLISHED = (1250, 27293)
_AGREES = 3.0  # pixels between a box of the .mat and a line of a text file, per edge
_HOW = (
    "Images and boxes: instre.tar.gz, ground truth: gnd_instre.mat, both from the INSTRE release and the split of "
    "Iscen et al. (docs/benchmark-data.md)."
)


@dataclass(frozen=True)
class _Truth:
    """What gnd_instre.mat says; positives are rows of `images`, counted from 0."""

    queries: list[str]
    images: list[str]
    positives: list[npt.NDArray[np.int64]]
    boxes: list[Box]


def read_instre(
    root: Path, *, whole_query: bool = False, rule: Literal["trapezoid", "rectangle"] = "trapezoid"
) -> Benchmark:
    """Read and check INSTRE.

    The positives of a query from INSTRE-S1 include the images of INSTRE-M that show it, where only its own line
    counts; those of a query from INSTRE-M are images of the pair, where the box is the one that encloses both.

    Args:
        root: the folder with gnd_instre.mat and the three image folders.
        whole_query: ask with the whole query image instead of its box.
        rule: how average precision is integrated; the split's authors use trapezoids.

    Raises:
        BenchmarkError: what is missing or inconsistent, and how to get it.
        MissingExtra: scipy is not installed.
    """
    own_folder(root, "INSTRE", _HOW)
    file = root / "gnd_instre.mat"
    truth = _read_mat(file)
    refuse_duplicates(truth.images, f"{file}, imlist")
    refuse_duplicates(truth.queries, f"{file}, qimlist")
    both = sorted(set(truth.queries) & set(truth.images))
    if both:
        raise BenchmarkError(f"{file}: queries that are in the gallery as well: {few(both)}. {_HOW}")
    _check_classes(file, truth)
    every = [*truth.queries, *truth.images]
    refuse_missing_files(root, every, "listed images", _HOW)
    refuse_missing_files(root, [_text_file(name) for name in every], "box files", _HOW)

    checker = BoxChecker("x y width height")
    lines = {name: _read_boxes(root, name, checker) for name in every}
    notes = checker.notes() + _check_query_boxes(root, file, truth, lines)
    counts = (len(truth.queries), len(truth.images))
    if counts != _PUBLISHED:
        notes += (
            f"the published split has {_PUBLISHED[0]:,} queries and {_PUBLISHED[1]:,} images, "
            f"this file {counts[0]:,} and {counts[1]:,}",
        )
    shared: dict[tuple[str, bytes], dict[str, tuple[Box, ...]]] = {}  # queries of one class have the same positives
    queries = []
    for name, rows, box in zip(truth.queries, truth.positives, truth.boxes, strict=True):
        folder = name.rsplit("/", 1)[0]
        key = (folder, rows.tobytes())
        if key not in shared:
            shared[key] = {truth.images[row]: _ground_truth(name, truth.images[row], lines) for row in rows.tolist()}
        queries.append(Query(name, root / name, None if whole_query else box, shared[key], group=folder))
    return Benchmark(
        name="INSTRE" + (", whole query images" if whole_query else ""),
        root=root,
        image_ids=truth.images,
        queries=queries,
        average_precision=rule,
        notes=notes,
    )


def _read_mat(file: Path) -> _Truth:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtra("reading gnd_instre.mat", "eval") from error
    if not file.is_file():
        raise BenchmarkError(f"{file}: missing. {_HOW}")
    try:
        content: dict[str, Any] = loadmat(str(file))
    except (OSError, ValueError, NotImplementedError, TypeError) as error:
        raise BenchmarkError(f"{file}: cannot be read as a MATLAB file ({error}). {_HOW}") from error
    absent = [name for name in ("qimlist", "imlist", "gnd") if name not in content]
    if absent:
        raise BenchmarkError(f"{file}: holds no {few(absent)}. {_HOW}")
    try:
        queries, images = (
            [str(np.asarray(cell).ravel()[0]) for cell in content[name].ravel()] for name in ("qimlist", "imlist")
        )
        entries = [(np.asarray(entry[0]).ravel(), np.asarray(entry[1]).ravel()) for entry in content["gnd"].ravel()]
    except (IndexError, TypeError) as error:
        raise BenchmarkError(f"{file}: not in the layout of the published file ({error}). {_HOW}") from error
    if len(entries) != len(queries):
        raise BenchmarkError(f"{file}: {len(queries):,} queries in qimlist but {len(entries):,} entries in gnd. {_HOW}")
    positives, boxes = [], []
    for name, (rows, box) in zip(queries, entries, strict=True):
        if box.shape != (4,):
            raise BenchmarkError(f"{file}: the box of {name} has {box.size} numbers, not x0 y0 x1 y1. {_HOW}")
        if not len(rows) or len(set(rows.tolist())) < len(rows):
            raise BenchmarkError(f"{file}: {name} has {'a positive twice' if len(rows) else 'no positives'}. {_HOW}")
        positives.append(rows.astype(np.int64))
        boxes.append((float(box[0]), float(box[1]), float(box[2]), float(box[3])))
    low = min((int(rows.min()) for rows in positives), default=1)
    high = max((int(rows.max()) for rows in positives), default=1)
    if low < 1:
        raise BenchmarkError(
            f"{file}: a positive has index {low}, but the published file counts from 1: this one was re-indexed. {_HOW}"
        )
    if high > len(images):
        raise BenchmarkError(f"{file}: a positive has index {high:,}, but imlist has {len(images):,} images. {_HOW}")
    return _Truth(queries, images, [rows - 1 for rows in positives], boxes)


def _check_classes(file: Path, truth: _Truth) -> None:
    """Every positive is of its query's class: what a shift of indices breaks."""

    def wrong(shift: int) -> list[tuple[str, str]]:
        return [
            (name, truth.images[row + shift])
            for name, rows in zip(truth.queries, truth.positives, strict=True)
            for row in rows.tolist()
            if not 0 <= row + shift < len(truth.images) or not _same_class(name, truth.images[row + shift])
        ]

    mismatched = wrong(0)
    if not mismatched:
        return
    name, positive = mismatched[0]
    shifted = max(int(rows.max()) for rows in truth.positives) + 1 < len(truth.images) and not wrong(1)
    raise BenchmarkError(
        f"{file}: {positive} is given as a positive of {name}, which is of another class "
        f"({len(mismatched):,} such positives)."
        + (" Counted from 0 all would fit, but the published file counts from 1." if shifted else "")
        + f" {_HOW}"
    )


def _same_class(query: str, positive: str) -> bool:
    (subset, folder), (other_subset, other_folder) = (_class(name) for name in (query, positive))
    if subset == other_subset:
        return folder == other_folder
    if {subset, other_subset} != {"INSTRE-S1", "INSTRE-M"}:
        return False
    pairs = [re.match(r"\d+", name) for name in (folder, other_folder)]
    return all(pairs) and len({int(pair[0]) for pair in pairs if pair}) == 1


def _class(name: str) -> tuple[str, str]:
    parts = name.split("/")
    return (parts[0].upper(), parts[1]) if len(parts) == 3 else ("", name)


def _text_file(name: str) -> str:
    return name.rsplit(".", 1)[0] + ".txt"


def _read_boxes(root: Path, name: str, checker: BoxChecker) -> tuple[Box, ...]:
    file = root / _text_file(name)
    size = upright_size(root / name)
    boxes = []
    for number, line in enumerate(read_lines(file, _HOW), start=1):
        try:
            x, y, width, height = (float(part) for part in line.split())
        except ValueError as error:
            raise BenchmarkError(f"{file}: line {number} is not x y width height: {line}. {_HOW}") from error
        boxes.append(checker.cut(xyxy((x, y, width, height)), size, f"{file}, line {number}"))
    expected = 2 if _class(name)[0] == "INSTRE-M" else None
    if not boxes or expected not in (None, len(boxes)):
        raise BenchmarkError(
            f"{file}: {len(boxes)} boxes, but an image of {name.split('/')[0]} has {expected or 'at least 1'}. {_HOW}"
        )
    return tuple(boxes)


def _ground_truth(query: str, image: str, lines: dict[str, tuple[Box, ...]]) -> tuple[Box, ...]:
    boxes = lines[image]
    if _class(image)[0] != "INSTRE-M":
        return boxes
    if _class(query)[0] == "INSTRE-M":
        return (enclosing_box(boxes),)
    letter = re.match(r"\d+([ab])", _class(query)[1])
    if letter is None:
        raise BenchmarkError(
            f"{query}: its folder does not begin with a number and a or b, so its line in {_text_file(image)} is "
            f"not known. {_HOW}"
        )
    return (boxes["ab".index(letter[1])],)


def _check_query_boxes(root: Path, file: Path, truth: _Truth, lines: dict[str, tuple[Box, ...]]) -> tuple[str, ...]:
    """Boxes of queries lie in their images and agree with their text files; small disagreements become a note."""
    disagreeing, swapped = [], 0
    for name, box in zip(truth.queries, truth.boxes, strict=True):
        known = (*lines[name], enclosing_box(lines[name]))
        if not any(_agree(box, line) for line in known):
            disagreeing.append(name)
            swapped += any(_agree(xyxy(box), line) for line in known)
    if swapped and swapped == len(disagreeing):
        raise BenchmarkError(
            f"{file}: {swapped:,} query boxes agree with the text files as x y width height, not as x0 y0 x1 y1 of the "
            f"published file: {few(disagreeing)}. {_HOW}"
        )
    checker = BoxChecker("x0 y0 x1 y1")
    for position, (name, box) in enumerate(zip(truth.queries, truth.boxes, strict=True)):
        truth.boxes[position] = checker.cut(box, upright_size(root / name), f"{file}, query {name}")
    notes = checker.notes()
    if len(disagreeing) > 0.1 * len(truth.queries):
        raise BenchmarkError(
            f"{file}: {len(disagreeing):,} of {len(truth.queries):,} query boxes agree with no line of their text "
            f"file: {few(disagreeing)}. {_HOW}"
        )
    if disagreeing:
        notes += (f"{len(disagreeing):,} query boxes agree with no line of their text file: {few(disagreeing)}",)
    return notes


def _agree(box: Box, other: Box) -> bool:
    return max(abs(one - two) for one, two in zip(box, other, strict=True)) <= _AGREES
