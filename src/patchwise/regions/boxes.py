"""Boxes known beforehand, as regions: any detector's output from a file, or ground truth held in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box, clip_xyxy
from patchwise.errors import ImageError, RegionsError
from patchwise.regions.base import Regions, View, region_table
from patchwise.regions.box_files import BoxTable, path_parts, read_box_file

__all__ = ["DEFAULT_MAX_BOXES", "BoxFile", "FixedBoxes"]

DEFAULT_MAX_BOXES = 300


@dataclass(frozen=True)
class FixedBoxes:
    """The whole image, then the boxes given for its path, in their order.

    Boxes are xyxy in pixels of the upright original; they are cut to the image, and what is then under a pixel wide or
    high, or there already, is left out. An image without boxes keeps the whole image alone.

    Args:
        name: what reports call the strategy; `parse_regions` cannot read it back.
        boxes: by absolute path.
    """

    name: str
    boxes: Mapping[str, Sequence[Box]] = field(repr=False)

    @cached_property
    def typical_count(self) -> int:
        """Regions of the image that has the most."""
        return 1 + max(map(len, self.boxes.values()), default=0)

    def finest_side(self, view: View) -> float:
        return _shortest(self.regions(view))

    def regions(self, view: View) -> Regions:
        return region_table(_fitting(self.boxes.get(view.path, ()), view.size), view.size)


@dataclass(frozen=True)
class BoxFile:
    """The whole image, then its boxes from a file, best score first; see `box_files` for the formats.

    Args:
        path: absolute path of the file.
        digest: the first 16 hexadecimal digits of the SHA-256 of its content.
        max_boxes: how many boxes of an image are kept.
        table: what it says.
    """

    path: str
    digest: str
    max_boxes: int
    table: BoxTable = field(repr=False, compare=False)

    @classmethod
    def read(cls, path: str, *, max_boxes: int = DEFAULT_MAX_BOXES, digest: str | None = None) -> BoxFile:
        """Read a file; with `digest`, only if its content is still the same.

        Raises:
            RegionsError: it cannot be read, is wrong somewhere, or has changed.
        """
        path = os.path.abspath(os.path.expanduser(path))
        if max_boxes < 1:
            raise RegionsError(f"regions boxes:{path}:max={max_boxes}: at least one box must be kept")
        table, found = read_box_file(path, digest)
        return cls(path, found, max_boxes, table)

    @property
    def name(self) -> str:
        return f"boxes:{self.path}:max={self.max_boxes}:sha256={self.digest}"

    @cached_property
    def typical_count(self) -> int:
        """Regions of the image that has the most."""
        return 1 + min(max(map(len, self.table.boxes.values()), default=0), self.max_boxes)

    def finest_side(self, view: View) -> float:
        return _shortest(self.regions(view))

    def regions(self, view: View) -> Regions:
        """Raises ImageError where the file says another size of the image than it has."""
        key = self._key(view.path)
        size = self.table.sizes.get(key, view.size)
        if size != view.size:
            raise ImageError(
                view.path,
                f"its boxes in {self.path} are for {size[0]} x {size[1]} pixels, but upright it has "
                f"{view.size[0]} x {view.size[1]}",
            )
        return region_table(_fitting(self.table.boxes.get(key, ())[: self.max_boxes], view.size), view.size)

    def _key(self, path: str) -> tuple[str, ...]:
        """The file's entry for an image: its absolute path, else the longest that its path ends with."""
        parts = path_parts(path)
        candidates = (parts[start:] for start in range(len(parts)))
        return next((key for key in candidates if key in self.table.boxes), ())


def _fitting(boxes: Sequence[Box] | npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Boxes cut to the image, without those under a pixel, repeated, or of the whole image: (N, 4)."""
    clipped = clip_xyxy(np.asarray(boxes, dtype=np.float32).reshape(-1, 4), size).astype(np.float32)
    clipped = clipped[(clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1)]
    distinct = dict.fromkeys(map(tuple, clipped.tolist()))
    distinct.pop((0, 0, *size), None)
    return np.array(list(distinct), dtype=np.float32).reshape(-1, 4)


def _shortest(regions: Regions) -> float:
    boxes = regions.boxes
    return float((boxes[:, 2:] - boxes[:, :2]).min())
