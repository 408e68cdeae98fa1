"""INSTRE: gnd_instre.mat is read as its authors meant it, and other readings of it are caught by the files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchwise.errors import MissingExtra
from patchwise.evaluation.datasets import read_benchmark
from patchwise.evaluation.datasets.instre import read_instre

scipy_io = pytest.importorskip("scipy.io")

SIZE = (100, 80)
S1A, S1B, S2, M = "INSTRE-S1/01a_canada_book", "INSTRE-S1/01b_cup", "INSTRE-S2/03_bird", "INSTRE-M/01"
OBJECT_A, OBJECT_B = (5, 5, 30, 20), (50, 40, 40, 30)  # x y width height
LINES = {
    **{f"{S1A}/{n:03d}.jpg": [(10 * n, 2, 40, 30)] for n in range(1, 4)},
    **{f"{S1B}/{n:03d}.jpg": [(n, 4, 50, 20), (60, 60, 10, 10)] for n in range(1, 4)},
    **{f"{S2}/{n:03d}.jpg": [(n, 6, 20, 20)] for n in range(1, 4)},
    **{f"{M}/{n:03d}.jpg": [OBJECT_A, OBJECT_B] for n in range(1, 4)},
}
QUERIES = [f"{folder}/001.jpg" for folder in (S1A, S1B, S2, M)]
GALLERY = [name for name in LINES if name not in QUERIES]
POSITIVES = {  # by query
    QUERIES[0]: [f"{S1A}/002.jpg", f"{S1A}/003.jpg", f"{M}/002.jpg", f"{M}/003.jpg"],
    QUERIES[1]: [f"{S1B}/002.jpg", f"{S1B}/003.jpg", f"{M}/002.jpg", f"{M}/003.jpg"],
    QUERIES[2]: [f"{S2}/002.jpg", f"{S2}/003.jpg"],
    QUERIES[3]: [f"{M}/002.jpg", f"{M}/003.jpg"],
}
BOXES = [(10, 2, 50, 32), (1, 4, 51, 24), (1, 6, 21, 26), (5, 5, 90, 70)]  # x0 y0 x1 y1; M: both objects


def write_mat(
    root: Path,
    *,
    queries: list[str] = QUERIES,
    gallery: list[str] = GALLERY,
    positives: list[list[int]] | None = None,
    boxes: list[tuple[float, ...]] = BOXES,
    **changed: Any,
) -> None:
    """gnd_instre.mat as MATLAB writes it: cell arrays of names, a struct array with `ok` and `bbx`."""
    if positives is None:
        positives = [[gallery.index(name) + 1 for name in POSITIVES[query]] for query in QUERIES]
    gnd = np.empty((1, len(positives)), dtype=[("ok", object), ("bbx", object)])
    for column, (rows, box) in enumerate(zip(positives, boxes, strict=True)):
        gnd[0, column] = (np.array([rows], dtype=np.uint16), np.array([box], dtype=np.float64))

    def cells(names: list[str]) -> np.ndarray:
        row = np.empty((1, len(names)), dtype=object)
        row[0, :] = names
        return row

    content = {"qimlist": cells(queries), "imlist": cells(gallery), "gnd": gnd, **changed}
    scipy_io.savemat(root / "gnd_instre.mat", {key: value for key, value in content.items() if value is not None})


@pytest.fixture
def root(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    root = tmp_path / "instre"
    for name, lines in LINES.items():
        write_image(root / name, SIZE)
        (root / name).with_suffix(".txt").write_text("".join(f"{x} {y} {w} {h}\r\n" for x, y, w, h in lines))
    write_mat(root)
    return root


def test_the_split_is_read(root: Path) -> None:
    benchmark = read_instre(root)
    assert list(benchmark.image_ids) == GALLERY
    assert [query.id for query in benchmark.queries] == QUERIES
    assert [query.box for query in benchmark.queries] == BOXES
    assert [set(query.positives) for query in benchmark.queries] == [set(POSITIVES[name]) for name in QUERIES]
    assert benchmark.queries[0].image == root / QUERIES[0]
    assert (benchmark.depth, benchmark.average_precision) == (None, "trapezoid")
    assert [query.group for query in benchmark.queries] == [S1A, S1B, S2, M]
    assert "1,250 queries and 27,293 images, this file 4 and 8" in benchmark.notes[-1]


def test_in_a_pair_only_the_own_object_counts(root: Path) -> None:
    of_a, of_b, _, of_pair = (query.positives for query in read_instre(root).queries)
    assert of_a[f"{M}/002.jpg"] == ((5, 5, 35, 25),)
    assert of_b[f"{M}/002.jpg"] == ((50, 40, 90, 70),)
    assert of_pair[f"{M}/002.jpg"] == ((5, 5, 90, 70),)


def test_several_boxes_of_one_object_all_count(root: Path) -> None:
    assert read_instre(root).queries[1].positives[f"{S1B}/002.jpg"] == ((2, 4, 52, 24), (60, 60, 70, 70))


def test_options(root: Path) -> None:
    benchmark = read_benchmark("instre:whole-query:rectangle", root)
    assert [query.box for query in benchmark.queries] == [None] * 4
    assert (benchmark.name, benchmark.average_precision) == ("INSTRE, whole query images", "rectangle")
    assert read_benchmark("instre:trapezoid", root).average_precision == "trapezoid"


def xywh(box: tuple[int, ...]) -> tuple[int, ...]:
    return (box[0], box[1], box[2] - box[0], box[3] - box[1])


def rows(*, plus: int) -> list[list[int]]:
    return [[GALLERY.index(name) + plus for name in POSITIVES[query]] for query in QUERIES]


def test_0_based_indices_are_recognised(root: Path, refusal: Callable[..., str]) -> None:
    write_mat(root, positives=rows(plus=0))
    assert "a positive has index 0, but the published file counts from 1" in refusal(read_instre, root)


def test_0_based_indices_without_a_zero_are_recognised_by_class(root: Path, refusal: Callable[..., str]) -> None:
    """The first image of the gallery is nobody's positive here, so no index is 0."""
    gallery = ["INSTRE-S2/09_lone/001.jpg", *GALLERY]
    (root / gallery[0]).parent.mkdir()
    for ending in (".jpg", ".txt"):
        source = (root / f"{S2}/002.jpg").with_suffix(ending)
        (root / gallery[0]).with_suffix(ending).write_bytes(source.read_bytes())
    write_mat(root, gallery=gallery, positives=rows(plus=2))
    assert len(read_instre(root).image_ids) == len(gallery)
    write_mat(root, gallery=gallery, positives=rows(plus=1))
    message = refusal(read_instre, root)
    assert f"INSTRE-S2/09_lone/001.jpg is given as a positive of {QUERIES[0]}, which is of another class" in message
    assert "Counted from 0 all would fit" in message


def test_an_index_beyond_the_list(root: Path, refusal: Callable[..., str]) -> None:
    write_mat(root, positives=[*rows(plus=1)[:3], [9]])
    assert "a positive has index 9, but imlist has 8 images" in refusal(read_instre, root)


def test_query_boxes_as_x_y_width_height_are_recognised(root: Path, refusal: Callable[..., str]) -> None:
    write_mat(root, boxes=[xywh(box) for box in BOXES])
    message = refusal(read_instre, root)
    assert "4 query boxes agree with the text files as x y width height, not as x0 y0 x1 y1" in message


def test_text_files_with_x0_y0_x1_y1_are_recognised(root: Path, refusal: Callable[..., str]) -> None:
    for name, lines in LINES.items():
        text = "".join(f"{x} {y} {x + w} {y + h}\n" for x, y, w, h in lines)
        (root / name).with_suffix(".txt").write_text(text)
    assert "boxes leave their image: is this another box format" in refusal(read_instre, root)


def test_a_query_box_that_agrees_with_no_line(root: Path, refusal: Callable[..., str]) -> None:
    write_mat(root, boxes=[(10, 2, 80, 62), *BOXES[1:]])
    message = refusal(read_instre, root)
    assert f"1 of 4 query boxes agree with no line of their text file: {QUERIES[0]}." in message


def test_one_disagreement_among_many_is_a_note(root: Path) -> None:
    for name in QUERIES:  # ten more queries of each class, from copies
        for number in range(10, 20):
            for ending in (".jpg", ".txt"):
                source = (root / name).with_suffix(ending)
                source.with_name(f"{number:03d}{ending}").write_bytes(source.read_bytes())
    queries = [name.replace("001.", f"{number:03d}.") for number in (1, *range(10, 20)) for name in QUERIES]
    boxes = [(10, 2, 80, 62), *BOXES[1:], *BOXES * 10]
    write_mat(root, queries=queries, positives=rows(plus=1) * 11, boxes=boxes)
    benchmark = read_instre(root)
    assert benchmark.notes[0] == f"1 query boxes agree with no line of their text file: {QUERIES[0]}"
    assert benchmark.queries[0].box == (10, 2, 80, 62)
    assert benchmark.queries[4].positives is benchmark.queries[0].positives


def test_a_folder_without_a_letter(root: Path, refusal: Callable[..., str]) -> None:
    (root / S1A).rename(root / "INSTRE-S1/01_canada_book")
    renamed = [name.replace(S1A, "INSTRE-S1/01_canada_book") for name in (*QUERIES, *GALLERY)]
    write_mat(root, queries=renamed[:4], gallery=renamed[4:], positives=rows(plus=1))
    message = refusal(read_instre, root)
    assert "its folder does not begin with a number and a or b, so its line in INSTRE-M/01/002.txt is not" in message


def test_rounding_of_boxes_is_no_disagreement(root: Path) -> None:
    write_mat(root, boxes=[(11, 3, 50, 32), *BOXES[1:]])
    assert read_instre(root).queries[0].box == (11, 3, 50, 32)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no .mat": (lambda root: (root / "gnd_instre.mat").unlink(), "gnd_instre.mat: missing. Images and boxes"),
    "not a .mat": (lambda root: (root / "gnd_instre.mat").write_text("<html>" * 99), "cannot be read as a MATLAB file"),
    "a variable missing": (lambda root: write_mat(root, imlist=None), "gnd_instre.mat: holds no imlist"),
    "fewer entries": (
        lambda root: write_mat(root, positives=rows(plus=1)[:3], boxes=BOXES[:3]),
        "4 queries in qimlist but 3 entries in gnd",
    ),
    "image missing": (
        lambda root: (root / GALLERY[0]).unlink(),
        f"1 of 12 listed images are missing: {GALLERY[0]}.",
    ),
    "box file missing": (
        lambda root: (root / GALLERY[1]).with_suffix(".txt").unlink(),
        f"1 of 12 box files are missing: {GALLERY[1].replace('.jpg', '.txt')}.",
    ),
    "image twice": (
        lambda root: write_mat(root, gallery=[*GALLERY, GALLERY[2]]),
        f"imlist: listed twice: {GALLERY[2]}",
    ),
    "query in the gallery": (
        lambda root: write_mat(root, gallery=[*GALLERY, QUERIES[1]]),
        f"queries that are in the gallery as well: {QUERIES[1]}.",
    ),
    "positive twice": (lambda root: write_mat(root, positives=[[1, 1], *rows(plus=1)[1:]]), "has a positive twice"),
    "no positives": (lambda root: write_mat(root, positives=[[], *rows(plus=1)[1:]]), "has no positives"),
    "two numbers": (lambda root: write_mat(root, boxes=[(1, 2), *BOXES[1:]]), "has 2 numbers, not x0 y0 x1 y1"),
    "query box outside": (
        lambda root: write_mat(root, boxes=[(301, 2, 341, 32), *BOXES[1:]]),
        "image 100 x 80: outside its image. Expected x0 y0 x1 y1",
    ),
    "query box inside out": (
        lambda root: write_mat(root, boxes=[(41, 32, 1, 2), *BOXES[1:]]),
        "is empty or inside out; expected x0 y0 x1 y1",
    ),
    "box of an image outside": (
        lambda root: (root / GALLERY[0]).with_suffix(".txt").write_text("500 5 20 20\n"),
        "outside its image. Expected x y width height",
    ),
    "one line in INSTRE-M": (
        lambda root: (root / f"{M}/002.txt").write_text("5 5 30 20\n"),
        "002.txt: 1 boxes, but an image of INSTRE-M has 2",
    ),
    "no line": (lambda root: (root / f"{S2}/002.txt").write_text("\n"), "002.txt: 0 boxes, but an image of INSTRE-S2"),
    "words": (lambda root: (root / f"{S2}/002.txt").write_text("a bird\n"), "line 1 is not x y width height: a bird"),
    "another pair": (
        lambda root: write_mat(root, positives=[*rows(plus=1)[:2], rows(plus=1)[3], rows(plus=1)[3]]),
        f"{M}/002.jpg is given as a positive of {QUERIES[2]}, which is of another class (2 such positives). Images",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said(root: Path, refusal: Callable[..., str], name: str) -> None:
    read_instre(root)  # whole before
    breaking, expected = BROKEN[name]
    breaking(root)
    assert expected in refusal(read_instre, root)


def test_without_scipy_it_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[eval\]'"):
        read_instre(root)
