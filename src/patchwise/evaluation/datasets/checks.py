"""What every reader checks: lists, files and boxes, with sentences that say what is wrong and how to mend it."""

from __future__ import annotations

import gzip
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from patchwise.boxes import Box, area_xyxy, clip_xyxy
from patchwise.errors import BenchmarkError
from patchwise.images import image_suffixes

__all__ = [
    "BoxChecker",
    "few",
    "image_files",
    "own_folder",
    "read_lines",
    "refuse_duplicates",
    "refuse_missing_files",
    "upright_size",
    "xyxy",
]

_EXIF_ORIENTATION = 0x0112
_SLACK = 2.0  # pixels by which annotation tools let a box leave its image
_TOLERATED_SHARE = 0.1  # of boxes that leave their image; above that the format is misread


def few(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest:,} more" if rest > 0 else "")


def own_folder(root: Path, what: str, how: str) -> None:
    """Refuse a root that is no folder."""
    if not root.is_dir():
        raise BenchmarkError(f"{root}: no such folder; {what} is expected there. {how}")


def read_lines(path: Path, how: str) -> Iterator[str]:
    """Lines of a text file, or of its gzip-packed twin (`.gz`), without line ends and empty lines.

    Raises:
        BenchmarkError: neither is there, or it cannot be read; `how` says where to get it.
    """
    packed = path if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    found = next((candidate for candidate in (path, packed) if candidate.is_file()), None)
    if found is None:
        raise BenchmarkError(f"{path}: missing. {how}")
    try:
        with (
            gzip.open(found, "rt", encoding="utf-8") if found.suffix == ".gz" else found.open(encoding="utf-8") as file
        ):
            for line in file:
                if line := line.strip():
                    yield line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{found}: cannot be read ({error}). {how}") from error


def refuse_duplicates(names: Iterable[str], where: str) -> None:
    """Refuse a list that names something twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BenchmarkError(f"{where}: listed twice: {few(twice)}")


def refuse_missing_files(root: Path, names: Sequence[str], what: str, how: str) -> None:
    """Refuse when files are not there; `what` names them in the message."""
    missing = [name for name in names if not os.path.isfile(root / name)]
    if missing:
        raise BenchmarkError(f"{root}: {len(missing):,} of {len(names):,} {what} are missing: {few(missing)}. {how}")


def image_files(folder: Path) -> list[str]:
    """Names of the image files that lie directly in a folder, hidden ones left out, sorted."""
    suffixes = image_suffixes()
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_file() and not entry.name.startswith(".") and os.path.splitext(entry.name)[1].lower() in suffixes
    )


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height after the EXIF orientation is applied, from the file's header alone."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BenchmarkError(f"{path}: cannot be read as an image ({error}); get the file again") from error
    return (height, width) if turned else (width, height)


def xyxy(xywh: Sequence[float]) -> Box:
    """`x y width height` as `x0 y0 x1 y1`."""
    x, y, width, height = (float(value) for value in xywh)
    return (x, y, x + width, y + height)


class BoxChecker:
    """Checks boxes against their images, one by one, and judges at the end whether their format was understood.

    A box may leave its image by little: it is cut, and mentioned if by more than two pixels. A box without area, or
    with less than half of it inside, is refused, and so is a collection in which more than a tenth leave their image.
    """

    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._count = 0
        self._leaving: list[str] = []
        self._outside: list[str] = []

    def cut(self, box: Box, size: tuple[int, int], where: str) -> Box:
        """The box cut to an image of `size` (width, height); `where` names it in messages.

        Raises:
            BenchmarkError: not finite, or without area.
        """
        self._count += 1
        shown = f"{where}: box {' '.join(f'{value:g}' for value in box)}"
        if not all(math.isfinite(value) for value in box) or box[2] <= box[0] or box[3] <= box[1]:
            raise BenchmarkError(f"{shown} (x0 y0 x1 y1) is empty or inside out; expected {self._expected}")
        x0, y0, x1, y1 = (float(value) for value in clip_xyxy(box, size))
        inside = float(area_xyxy((x0, y0, x1, y1)) / area_xyxy(box))
        described = f"{shown} (x0 y0 x1 y1), image {size[0]} x {size[1]}"
        if inside < 0.5:
            self._outside.append(described)
        if max(abs(cut - given) for cut, given in zip((x0, y0, x1, y1), box, strict=True)) > _SLACK:
            self._leaving.append(described)
        return (x0, y0, x1, y1)

    def notes(self) -> tuple[str, ...]:
        """What was cut, in words.

        Raises:
            BenchmarkError: boxes outside their images, or too many that leave them.
        """
        much = len(self._leaving) > _TOLERATED_SHARE * self._count
        many = f"; {len(self._leaving):,} of {self._count:,} boxes leave their image" if much else ""
        if self._outside:
            raise BenchmarkError(
                f"{self._outside[0]}: outside its image. Expected {self._expected}{many}"
                + (": is this another box format, or are these other images?" if much else "")
            )
        if much and len(self._leaving) > 1:
            raise BenchmarkError(
                f"{self._leaving[0]}: leaves its image. Expected {self._expected}{many}: is this another box format, "
                "or are these other images?"
            )
        if self._leaving:
            return (f"{len(self._leaving):,} boxes were cut to their images, the first {self._leaving[0]}",)
        return ()
