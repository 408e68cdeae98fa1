"""Where we look: strategies that lay regions over an image, named by a short string."""

from patchwise.regions.base import Regions, RegionStrategy, View
from patchwise.regions.boxes import BoxFile, FixedBoxes
from patchwise.regions.detector import Detector
from patchwise.regions.proposals import SelectiveSearch
from patchwise.regions.pyramid import Pyramid
from patchwise.regions.registry import parse_regions
from patchwise.regions.sliding import Sliding
from patchwise.regions.whole import Whole

__all__ = [
    "BoxFile",
    "Detector",
    "FixedBoxes",
    "Pyramid",
    "RegionStrategy",
    "Regions",
    "SelectiveSearch",
    "Sliding",
    "View",
    "Whole",
    "parse_regions",
]
