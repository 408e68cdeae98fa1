"""An encoder that sees where it looks, and pictures that tell it: refinement without a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.boxes import Box, iou_xyxy
from patchwise.images import SQUARE, Picture
from patchwise.indexing.passes import passes_of
from patchwise.regions import View, parse_regions
from patchwise.rerank.looking import encoded, laid
from patchwise.search import Hit, RegionScore

SIZE = (400, 300)
LOW, HIGH = 0.2, 0.8


class Finder:
    """Knows where it looks, because pixels say so, and how far that is an object: its vectors have 2 numbers.

    The cosine with (1, 0) rises from `LOW` to `HIGH` with the IoU of what is seen with the nearest object.
    """

    id, dimension, input_size, resampling, fit, batch_size = "finder", 2, 8, "bilinear", SQUARE, 7
    weights_sha256 = "0" * 64

    def __init__(self, *objects: Box, noise: float = 0.0) -> None:
        self.objects, self.noise, self.calls = objects, noise, 0
        self._generator = np.random.default_rng(0)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        assert len(pixels) <= self.batch_size
        self.calls += len(pixels)
        return self.vectors(np.array([seen_box(each) for each in pixels]))

    def vectors(self, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Of boxes (N, 4) in pixels of a picture of `SIZE`: (N, 2)."""
        cosines = LOW + (HIGH - LOW) * iou_xyxy(boxes, self.objects).max(axis=1)
        cosines += self._generator.normal(size=len(cosines)) * self.noise
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)

    def seen(self, box: Box) -> float:
        """The cosine of a box of `coordinates()`, as well as pixels tell where that is."""
        passes = passes_of(type(self)(*self.objects))
        return float(encoded(passes, passes.cut(coordinates(), laid(np.array([box]))))[0, 0])


class DenseFinder(Finder):
    """The same in one pass per picture."""

    picture_size, picture_batch_size = 16, 2

    def __init__(self, *objects: Box) -> None:
        super().__init__(*objects)
        self.passes = 0

    def encode_regions(
        self, pictures: npt.NDArray[np.uint8], boxes_rel: Sequence[npt.NDArray[np.float32]]
    ) -> list[npt.NDArray[np.float32]]:
        assert len(pictures) <= self.picture_batch_size and pictures.shape[1:] == (16, 16, 3)
        self.passes += len(pictures)
        return [self.vectors(boxes * np.array([*SIZE, *SIZE])) for boxes in boxes_rel]


def coordinates(size: tuple[int, int] = SIZE) -> Picture:
    """A picture in whose pixels their own places are written."""
    width, height = size
    red = np.tile(np.linspace(0, 255, width), (height, 1))
    green = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    pixels = Image.fromarray(np.stack([red, green, np.zeros_like(red)], axis=2).round().astype(np.uint8))
    return Picture(pixels, size)


def seen_box(pixels: npt.NDArray[np.uint8], size: tuple[int, int] = SIZE) -> Box:
    """The box that a crop of `coordinates(size)` was cut from, to within some pixels."""
    wide = pixels.astype(float)
    columns, rows = wide[..., 0].mean(axis=0), wide[..., 1].mean(axis=1)
    edges = []
    for values, side in ((columns, size[0]), (rows, size[1])):
        step = (values[-2] - values[1]) / (len(values) - 3)
        edges.append(((values[1] - 1.5 * step) / 255 * side, (values[-2] + 1.5 * step) / 255 * side))
    (x0, x1), (y0, y1) = edges
    return (x0, y0, x1, y1)


def grid() -> npt.NDArray[np.float32]:
    """The regions that are stored: (30, 4)."""
    return parse_regions("pyramid:3").regions(View(SIZE)).boxes


def first_look(*objects: Box, path: str = "/a.jpg") -> Hit:
    """What the grid finds: its ten best regions."""
    regions = parse_regions("pyramid:3").regions(View(SIZE))
    scores = Finder(*objects).vectors(regions.boxes)[:, 0]
    scored = tuple(
        RegionScore(tuple(map(float, regions.boxes[at])), int(regions.table["level"][at]), (0, 0), float(scores[at]))
        for at in np.argsort(-scores, kind="stable")[:10]
    )
    return Hit(1, path, scored[0].score, scored[0].box, scored[0].level, (0, 0), SIZE, scored)
