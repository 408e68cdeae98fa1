"""Class-agnostic proposals: where an image is likely to show a thing of its own, found without any network.

Selective Search (Uijlings et al., "Selective Search for Object Recognition", IJCV 2013) in OpenCV's implementation
merges neighbouring segments step by step; every segment on the way gives a box. `benchmarks/region_proposals.py` is
why it was chosen, and where its settings come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from patchwise.boxes import area_xyxy, clip_xyxy, iou_xyxy
from patchwise.errors import MissingExtra, RegionsError
from patchwise.regions.base import Regions, View, region_table

__all__ = ["MAX_PROPOSALS", "SelectiveSearch", "suppressed"]

MAX_PROPOSALS = 1000
_WORKING_SIDE = 256  # longer side of the picture that is searched
_SMALLEST_SIDE = 8  # of a proposal on that picture
_SEGMENT_SIZES = (100, 200)  # the graph segmentation's k: larger means larger segments
_SIGMA = 0.8
_AGREEMENT = 0.8  # IoU at which one run's box speaks for another's
_SUPPRESSION = 0.7  # IoU from which a box is too close to a better one
_POOL = 1000


@dataclass(frozen=True)
class SelectiveSearch:
    """The whole image, then at most `count` - 1 proposals, best first.

    Eight runs (two colour spaces, two segment sizes, merging with and without colour) vote for each other's boxes. The
    most voted box comes first; those that overlap it or the whole image by an IoU of 0.7 or more are dropped. A plain
    image has fewer than `count`. No proposal has a side under about 1/32 of the image's longer one.

    Raises:
        MissingExtra: OpenCV with its contributed modules is not installed.
    """

    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_PROPOSALS:
            raise RegionsError(f"regions {self.name}: the count must be between 1 and {MAX_PROPOSALS:,}")
        _opencv()

    @property
    def name(self) -> str:
        return f"proposals:selective:{self.count}"

    @property
    def typical_count(self) -> int:
        return self.count

    def finest_side(self, view: View) -> float:
        rounding = 1 - 0.5 / (2 * _SMALLEST_SIDE)  # of the working picture's shorter side
        return max(max(view.size) * rounding * _SMALLEST_SIDE / _WORKING_SIDE, 1.0)

    def regions(self, view: View) -> Regions:
        """Raises ValueError where `view` has no pixels."""
        if view.pixels is None:
            raise ValueError(f"{self.name} needs the pixels of {view.path or 'the image'}")
        if self.count == 1:
            return region_table([], view.size)
        scale = min(_WORKING_SIDE / max(view.pixels.size), 1.0)
        size = (max(round(view.pixels.width * scale), 1), max(round(view.pixels.height * scale), 1))
        if min(size) < 2 * _SMALLEST_SIDE:
            return region_table([], view.size)
        opencv = _opencv()
        picture = opencv.resize(np.asarray(view.pixels), size, interpolation=opencv.INTER_AREA)
        best = suppressed(*_voted(_runs(picture, opencv)), size)[: self.count - 1]
        scale_x, scale_y = view.size[0] / size[0], view.size[1] / size[1]
        return region_table(clip_xyxy(best * (scale_x, scale_y, scale_x, scale_y), view.size), view.size)


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("regions proposals:selective", "proposals") from error
    if not hasattr(getattr(cv2, "ximgproc", None), "segmentation"):  # another build of OpenCV took the place
        raise MissingExtra("regions proposals:selective (this OpenCV lacks the contributed modules)", "proposals")
    module: ModuleType = cv2
    return module


def _runs(picture: npt.NDArray[np.uint8], opencv: ModuleType) -> list[npt.NDArray[np.int64]]:
    """Boxes (N, 4) xyxy of each run over an (H, W, 3) RGB picture, none twice."""
    module = opencv.ximgproc.segmentation
    found = []
    for space in (opencv.COLOR_RGB2HSV, opencv.COLOR_RGB2LAB):
        converted = opencv.cvtColor(picture, space)
        for segment_size in _SEGMENT_SIZES:
            for with_colour in (True, False):
                likeness = [
                    module.createSelectiveSearchSegmentationStrategyFill(),
                    module.createSelectiveSearchSegmentationStrategyTexture(),
                    module.createSelectiveSearchSegmentationStrategySize(),
                ]
                if with_colour:
                    likeness.append(module.createSelectiveSearchSegmentationStrategyColor())
                search = module.createSelectiveSearchSegmentation()
                search.addImage(converted)
                search.addGraphSegmentation(module.createGraphSegmentation(_SIGMA, segment_size, segment_size))
                search.addStrategy(module.createSelectiveSearchSegmentationStrategyMultiple(*likeness))
                # OpenCV shuffles its results at random; sorted, they are the same every time.
                rectangles = np.unique(np.asarray(search.process(), dtype=np.int64).reshape(-1, 4), axis=0)
                found.append(np.hstack([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]]))
    return found


def _voted(runs: list[npt.NDArray[np.int64]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distinct boxes of all runs, large enough, and how many boxes of any run agree with each, itself included."""
    boxes, repeats = np.unique(np.concatenate(runs), axis=0, return_counts=True)
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= _SMALLEST_SIDE
    boxes, repeats = boxes[large].astype(np.float64), repeats[large]
    kept = np.lexsort((-area_xyxy(boxes), -repeats))[:_POOL]
    boxes, repeats = boxes[kept], repeats[kept]
    votes = (iou_xyxy(boxes, boxes) > _AGREEMENT) @ repeats.astype(np.float64)
    return boxes, votes


def suppressed(
    boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Boxes (N, 4) by score, larger ones first where it is equal, each apart from the whole image and the earlier ones.

    Apart means an IoU below 0.7; `size` is the image's (width, height).
    """
    overlap = iou_xyxy(boxes, boxes)
    free = iou_xyxy(boxes, [(0, 0, *size)])[:, 0] < _SUPPRESSION
    kept = []
    for index in np.lexsort((-area_xyxy(boxes), -scores)):
        if free[index]:
            kept.append(index)
            free &= overlap[index] < _SUPPRESSION
    return boxes[kept]
