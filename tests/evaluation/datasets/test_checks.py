"""The judge of boxes, and the small helpers of all readers."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from patchwise.errors import BenchmarkError
from patchwise.evaluation.datasets.checks import BoxChecker, few, image_files, read_lines, upright_size, xyxy

SIZE = (100, 80)


def judged(*boxes: tuple[float, float, float, float]) -> tuple[str, ...]:
    checker = BoxChecker("x y width height")
    for number, box in enumerate(boxes):
        checker.cut(box, SIZE, f"line {number}")
    return checker.notes()


INSIDE = [(1.0, 1.0, 20.0, 20.0)] * 30


def test_boxes_inside_are_left_as_they_are() -> None:
    checker = BoxChecker("")
    assert checker.cut((0, 0, 100, 80), SIZE, "") == (0, 0, 100, 80)
    assert checker.cut((1.5, 2.5, 3.5, 4.5), SIZE, "") == (1.5, 2.5, 3.5, 4.5)
    assert checker.notes() == ()


def test_two_pixels_are_cut_in_silence_and_more_with_a_note() -> None:
    assert judged(*INSIDE, (-2, 0, 50, 82)) == ()
    (note,) = judged(*INSIDE, (-3, 0, 50, 50))
    assert note == "1 boxes were cut to their images, the first line 30: box -3 0 50 50 (x0 y0 x1 y1), image 100 x 80"
    assert BoxChecker("").cut((-3, -4, 120, 90), SIZE, "") == (0, 0, 100, 80)


@pytest.mark.parametrize(("box", "refused"), [((60, 0, 160, 50), True), ((40, 0, 140, 50), False)])
def test_half_of_a_box_must_be_inside(box: tuple[float, float, float, float], refused: bool) -> None:
    if refused:
        with pytest.raises(
            BenchmarkError, match=r"line 30: box 60 0 160 50 .*: outside its image\. Expected x y width"
        ):
            judged(*INSIDE, box)
    else:
        assert len(judged(*INSIDE, box)) == 1


@pytest.mark.parametrize(("leaving", "refused"), [(3, False), (4, True)])
def test_a_tenth_of_all_boxes_may_leave_their_image(leaving: int, refused: bool) -> None:
    boxes = [*INSIDE[: 30 - leaving], *[(-5.0, 0.0, 50.0, 50.0)] * leaving]
    if refused:
        with pytest.raises(BenchmarkError, match=r"leaves its image\..*; 4 of 30 boxes leave their image: is this"):
            judged(*boxes)
    else:
        assert judged(*boxes)[0].startswith("3 boxes were cut")


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (5, 5, 9, float("nan")), (5, 5, float("inf"), 9)])
def test_boxes_without_area(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(BenchmarkError, match="is empty or inside out; expected x y width height"):
        judged(box)


def test_xyxy() -> None:
    assert xyxy((1, 2, 30, 40)) == (1, 2, 31, 42)


def test_few_names_and_the_rest_counted() -> None:
    assert few(["a"]) == "a"
    assert few(["a", "b", "c"]) == "a, b, c"
    assert few([str(number) for number in range(2003)]) == "0, 1, 2 and 2,000 more"


def test_lines_without_ends_and_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"one\r\n\n  two \nthree")
    assert list(read_lines(tmp_path / "list.txt", "")) == ["one", "two", "three"]
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BenchmarkError, match=r"list\.txt: cannot be read .* Get it again"):
        list(read_lines(tmp_path / "list.txt", "Get it again"))


def test_sizes_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
        assert upright_size(tmp_path / "a.jpg") == ((20, 30) if orientation > 4 else (30, 20))


def test_image_files_only(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert image_files(tmp_path) == ["a.png", "b.JPG"]
