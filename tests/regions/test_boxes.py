"""Boxes from a file or from memory: which image gets which, what is cut and left out, and what a mistake is told as."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.boxes import iou_xyxy
from patchwise.errors import ImageError, RegionsError
from patchwise.regions import BoxFile, FixedBoxes, View, parse_regions

SIZE = (100, 80)
Write = Callable[..., BoxFile]


def found(strategy: BoxFile | FixedBoxes, path: str, size: tuple[int, int] = SIZE) -> list[tuple[float, ...]]:
    """Boxes behind the whole image."""
    table = strategy.regions(View(size, path)).table
    assert table["box"][0].tolist() == [0, 0, *size]
    assert (table[["level", "row", "column"]][0]).tolist() == (0, 0, 0)
    assert all(row.tolist() == (-1, -1, -1) for row in table[["level", "row", "column"]][1:])
    return [tuple(box) for box in table["box"][1:].tolist()]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of boxes and read it; anything but text becomes JSON."""

    def make(content: Any, name: str = "boxes.csv", options: str = "") -> BoxFile:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
        strategy = parse_regions(f"boxes:{tmp_path / name}{options}")
        assert isinstance(strategy, BoxFile)
        return strategy

    return make


def coco(*annotations: dict[str, Any], **image: Any) -> dict[str, Any]:
    return {"images": [{"id": 7, "file_name": "a.jpg", **image}], "annotations": list(annotations)}


# From memory


def test_fixed_boxes_stand_behind_the_whole_image() -> None:
    strategy = FixedBoxes("oracle", {"/p/a.jpg": [(10, 20, 30, 40), (0, 0, 5, 5)], "/p/b.jpg": []})
    assert strategy.name == "oracle" and strategy.typical_count == 3
    assert found(strategy, "/p/a.jpg") == [(10, 20, 30, 40), (0, 0, 5, 5)]
    assert found(strategy, "/p/b.jpg") == found(strategy, "/p/c.jpg") == found(strategy, "") == []
    assert strategy.finest_side(View(SIZE, "/p/a.jpg")) == 5
    assert strategy.finest_side(View(SIZE, "/p/c.jpg")) == 80
    assert FixedBoxes("oracle", {}).typical_count == 1


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [
        ([(-5, -5, 20, 20)], [(0, 0, 20, 20)]),
        ([(90, 70, 300, 300)], [(90, 70, 100, 80)]),
        ([(10.25, 10, 20.5, 20)], [(10.25, 10, 20.5, 20)]),
        ([(100, 0, 120, 80), (-9, 0, 0, 80)], []),
        ([(10, 10, 10, 20), (10, 10, 10.5, 20), (10, 10, 11, 20)], [(10, 10, 11, 20)]),
        ([(99.5, 10, 130, 20)], []),
        ([(1, 2, 3, 4), (5, 5, 9, 9), (1, 2, 3, 4)], [(1, 2, 3, 4), (5, 5, 9, 9)]),
        ([(0, 0, 100, 80), (-1, -1, 101, 81)], []),
    ],
)
def test_boxes_are_cut_to_the_image_and_kept_once(boxes: list[Any], kept: list[Any]) -> None:
    assert found(FixedBoxes("oracle", {"/a": boxes}), "/a") == kept


coordinate = st.floats(-50, 300, width=32)


@given(
    st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=6),
    st.integers(1, 250),
    st.integers(1, 250),
)
def test_what_is_kept_lies_inside_and_is_a_box_cut(boxes: list[Any], width: int, height: int) -> None:
    boxes = [(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)) for x0, y0, x1, y1 in boxes]
    strategy, view = FixedBoxes("oracle", {"/a": boxes}), View((width, height), "/a")
    kept = strategy.regions(view).boxes
    assert (kept >= 0).all() and (kept[:, 2:] <= (width, height)).all()
    sides = kept[:, 2:] - kept[:, :2]
    assert sides.min() >= 1 and strategy.finest_side(view) == sides.min()
    assert len({tuple(box) for box in kept.tolist()}) == len(kept) <= strategy.typical_count
    cut = np.clip(np.array(boxes, dtype=np.float32).reshape(-1, 4), 0, [width, height, width, height])
    large = cut[(cut[:, 2:] - cut[:, :2] >= 1).all(axis=1)]
    if len(large):
        np.testing.assert_allclose(iou_xyxy(large, kept).max(axis=1), 1)
    assert all((box == np.vstack([cut, [0, 0, width, height]])).all(axis=1).any() for box in kept)


# CSV


def test_csv(write: Write) -> None:
    strategy = write("path,x0,y0,x1,y1\na.jpg,10,20,30,40\na.jpg,1.5,2,3,4\nb.jpg,0,0,9,9\n")
    assert found(strategy, "/elsewhere/a.jpg") == [(10, 20, 30, 40), (1.5, 2, 3, 4)]
    assert found(strategy, "/elsewhere/b.jpg") == [(0, 0, 9, 9)]
    assert found(strategy, "/elsewhere/c.jpg") == []
    assert strategy.typical_count == 3


def test_the_best_score_comes_first_and_bounds_the_count(write: Write) -> None:
    rows = "file,label,x0,y0,x1,y1,score\na.jpg,x,1,1,5,5,0.2\na.jpg,y,2,2,6,6,0.9\na.jpg,x,3,3,7,7,0.2\n"
    assert found(write(rows), "/a.jpg") == [(2, 2, 6, 6), (1, 1, 5, 5), (3, 3, 7, 7)]
    two = write(rows, options=":max=2")
    assert found(two, "/a.jpg") == [(2, 2, 6, 6), (1, 1, 5, 5)] and two.typical_count == 3


def test_a_csv_as_other_programs_write_it(write: Write) -> None:
    text = '\ufeffX0, Y0,X1,Y1,Path\r\n"10",20, 30,40,"with, comma.jpg"\r\n\r\n,,,,none.jpg\r\n'
    strategy = write(text)
    assert found(strategy, "/p/with, comma.jpg") == [(10, 20, 30, 40)]
    assert found(strategy, "/p/none.jpg") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"line 1: .*missing path, x0, y0, x1, y1"),
        ("a.jpg,1,2,3,4\n", r"line 1: expected a header with path \(or file\).* missing path, x0"),
        ("path,x0,y0,w,h\na.jpg,1,2,3,4\n", "line 1: .* missing x1, y1"),
        ("path,x0,y0,x1,y1\n", "names no image"),
        ("path,x0,y0,x1,y1\na.jpg,1,2,3,4\n,1,2,3,4\n", "line 3: names no image"),
        ("path,x0,y0,x1,y1\na.jpg,1,2,3\n", "line 2: expected finite numbers, not 1, 2, 3, $"),
        ("path,x0,y0,x1,y1\na.jpg,1,2,3,four\n", "line 2: expected finite numbers, not 1, 2, 3, four"),
        ("path,x0,y0,x1,y1\na.jpg,1,2,3,nan\n", "line 2: expected finite numbers"),
        ("path,x0,y0,x1,y1\na.jpg,1,2,3,inf\n", "line 2: expected finite numbers"),
        ("path,x0,y0,x1,y1\na.jpg,50,60,20,30\n", r"line 2: the box 50, 60, 20, 30 .* inside out"),
        ("path,x0,y0,x1,y1,score\na.jpg,1,2,3,4,high\n", "line 2: expected finite numbers, not high"),
        ('path,x0,y0,x1,y1\n"a.jpg,1,2,3,4\n', "line 2: "),
        ("{not json", "is not JSON"),
    ],
)
def test_mistakes_are_told_with_their_line(write: Write, tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(RegionsError, match=complaint) as raised:
        write(text)
    assert str(raised.value).startswith(str(tmp_path / "boxes.csv"))


# COCO


def test_coco(write: Write) -> None:
    content = coco(
        {"image_id": 7, "bbox": [10, 20, 30, 40], "category_id": 1, "score": 0.1},
        {"image_id": 7, "bbox": [1, 2, 3.5, 4], "score": 0.8},
        width=100,
        height=80,
    )
    strategy = write(content, "boxes.json")
    assert found(strategy, "/p/a.jpg") == [(1, 2, 4.5, 6), (10, 20, 40, 60)]


def test_a_list_of_detections_with_file_names(write: Write) -> None:
    content = [
        {"file_name": "a.jpg", "image_id": 3, "bbox": [0, 0, 5, 5], "score": 0.5},
        {"image_id": "b.jpg", "bbox": [1, 1, 5, 5]},
    ]
    strategy = write(content, "boxes.json")
    assert found(strategy, "/p/a.jpg") == [(0, 0, 5, 5)] and found(strategy, "/p/b.jpg") == [(1, 1, 6, 6)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"images": []}, "expected the lists images and annotations"),
        ({"images": [], "annotations": []}, "names no image"),
        ([], "names no image"),
        ([7], "detection 1: expected an object with file_name or image_id"),
        ([{"image_id": 3, "bbox": [0, 0, 5, 5]}], "detection 1: image_id is a number"),
        ({"images": [{"file_name": "a.jpg"}], "annotations": []}, "image 1: expected an object with id"),
        ({"images": [{"id": 1}], "annotations": []}, "image 1: expected an object with file_name"),
        ({"images": [{"id": 1, "file_name": ""}], "annotations": []}, "image 1: id must be"),
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": []},
            r"image 2: id 1 is that of a\.jpg already",
        ),
        (coco({"image_id": 8, "bbox": [0, 0, 5, 5]}), "annotation 1: image_id 8 is not among the images"),
        (coco({"image_id": [7], "bbox": [0, 0, 5, 5]}), "annotation 1: image_id .* is not among the images"),
        (coco({"image_id": 7}), "annotation 1: expected an object with bbox"),
        (
            coco({"image_id": 7, "bbox": [0, 0, 5]}),
            r"annotation 1: bbox must be \[x, y, width, height\], not \[0, 0, 5\]",
        ),
        (coco({"image_id": 7, "bbox": [0, 0, None, 5]}), "annotation 1: expected finite numbers"),
        (
            coco({"image_id": 7, "bbox": [0, 0, 5, 5]}, {"image_id": 7, "bbox": [9, 9, -5, 5]}),
            "annotation 2: the box 9, 9, 4, 14 .* is inside out",
        ),
    ],
)
def test_coco_mistakes_are_told_with_their_place(write: Write, content: Any, complaint: str) -> None:
    with pytest.raises(RegionsError, match=complaint):
        write(content, "boxes.json")


def test_boxes_for_another_size_make_the_image_fail(write: Write) -> None:
    """A detector that ignored the EXIF orientation, or saw a thumbnail, must not give wrong regions silently."""
    strategy = write(coco({"image_id": 7, "bbox": [0, 0, 50, 60]}, width=80, height=100), "boxes.json")
    with pytest.raises(ImageError, match=r"are for 80 x 100 pixels, but upright it has 100 x 80") as raised:
        strategy.finest_side(View(SIZE, "/p/a.jpg"))
    assert raised.value.name == "/p/a.jpg"
    assert found(strategy, "/p/a.jpg", (80, 100)) == [(0, 0, 50, 60)]


# Paths


def test_which_entry_an_image_gets(write: Write, tmp_path: Path) -> None:
    absolute = tmp_path / "photos" / "a.jpg"
    rows = [
        (str(absolute), 1),
        ("photos/b.jpg", 2),
        ("a.jpg", 3),
        ("x/a.jpg", 4),
        ("./y/../z/a.jpg", 5),
        ("../up.jpg", 6),
        ("w\\back.jpg", 7),
    ]
    strategy = write("path,x0,y0,x1,y1\n" + "".join(f"{path},0,0,{n},9\n" for path, n in rows))

    def which(path: str | Path) -> list[float]:
        return [box[2] for box in found(strategy, str(path))]

    assert which(absolute) == [1]  # the very path
    assert which(tmp_path / "photos" / "b.jpg") == [2]  # below the folder of the file
    assert which(tmp_path / "a.jpg") == [3]
    assert which("/elsewhere/photos/b.jpg") == [2]  # the end of the path
    assert which("/elsewhere/a.jpg") == [3]
    assert which("/elsewhere/x/a.jpg") == [4]  # the longest end
    assert which("/elsewhere/z/a.jpg") == [5]
    assert which("/elsewhere/w/back.jpg") == [7]
    assert which(tmp_path.parent / "up.jpg") == [6]
    assert which("/elsewhere/b.jpg") == []  # the folder is another
    assert which("/elsewhere/photos/b.jpg.png") == which("/elsewhere/b.jp") == which("/elsewhere/up.jpg") == []


def test_rows_of_one_image_written_differently_come_together(write: Write) -> None:
    strategy = write("path,x0,y0,x1,y1\na/b.jpg,0,0,1,9\n./a//b.jpg,0,0,2,9\n")
    assert found(strategy, "/p/a/b.jpg") == [(0, 0, 1, 9), (0, 0, 2, 9)]


# Names


def test_the_name_reads_back_and_knows_the_content(write: Write, tmp_path: Path) -> None:
    strategy = write("path,x0,y0,x1,y1\na.jpg,10,20,30,40\n", "odd: name:max=3.csv", ":max=50")
    # sha256sum of that text begins so.
    assert strategy.name == f"boxes:{tmp_path}/odd: name:max=3.csv:max=50:sha256=7e28ea8b58283718"
    again = parse_regions(strategy.name)
    assert again == strategy and again.name == strategy.name
    assert isinstance(again, BoxFile) and found(again, "/a.jpg") == [(10, 20, 30, 40)]


def test_a_relative_name_becomes_absolute(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write("path,x0,y0,x1,y1\na.jpg,10,20,30,40\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_regions("boxes:boxes.csv") == parse_regions("boxes:~/boxes.csv") == written
    assert os.path.isabs(written.path)


def test_a_changed_file_is_refused_with_what_to_do(write: Write, tmp_path: Path) -> None:
    strategy = write("path,x0,y0,x1,y1\na.jpg,10,20,30,40\n")
    (tmp_path / "boxes.csv").write_text("path,x0,y0,x1,y1\na.jpg,10,20,30,41\n")
    with pytest.raises(RegionsError, match=r"has changed since the gallery was made .*Restore the file .* new gallery"):
        parse_regions(strategy.name)
    assert parse_regions(f"boxes:{tmp_path / 'boxes.csv'}") != strategy
    (tmp_path / "boxes.csv").unlink()
    with pytest.raises(RegionsError, match=r"cannot be read \(No such file or directory\).*put it back there"):
        parse_regions(strategy.name)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("boxes", "expected a file of boxes, as in boxes:detections.csv"),
        ("boxes:", "expected a file of boxes"),
        ("boxes:/nowhere/at/all.csv", r"/nowhere/at/all\.csv: cannot be read \(No such file or directory\)$"),
        ("boxes:/nowhere.csv:max=0", "at least one box"),
        ("boxes:/", "cannot be read"),
    ],
)
def test_what_names_no_file(text: str, complaint: str) -> None:
    with pytest.raises(RegionsError, match=complaint):
        parse_regions(text)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(RegionsError, match=r"a\.jpg: is not UTF-8 text"):
        parse_regions(f"boxes:{tmp_path / 'a.jpg'}")
