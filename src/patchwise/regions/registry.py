"""Strategies by name: `whole`, `pyramid:L`, `sliding:L:RATIO`, `proposals:...`, `detector:DIR:COUNT`, `boxes:FILE`."""

from __future__ import annotations

import re
from collections.abc import Callable

from patchwise.errors import RegionsError
from patchwise.regions.base import RegionStrategy
from patchwise.regions.boxes import DEFAULT_MAX_BOXES, BoxFile
from patchwise.regions.detector import Detector
from patchwise.regions.proposals import MAX_PROPOSALS, SelectiveSearch
from patchwise.regions.pyramid import MAX_LEVEL, Pyramid
from patchwise.regions.sliding import Sliding
from patchwise.regions.whole import Whole

__all__ = ["parse_regions"]


def _whole(parameters: str | None) -> RegionStrategy:
    if parameters is not None:
        raise ValueError("takes no parameter")
    return Whole()


def _pyramid(parameters: str | None) -> RegionStrategy:
    if parameters is None or not parameters.isdecimal():
        raise ValueError(f"expected one level between 0 and {MAX_LEVEL}, as in pyramid:3")
    return Pyramid(int(parameters))


def _sliding(parameters: str | None) -> RegionStrategy:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9}|\d{0,9}\.\d{1,20})", parameters or "", re.ASCII)
    if match is None:
        raise ValueError(
            f"expected a level between 0 and {MAX_LEVEL} and the stride as a ratio of the window's side, as in "
            "sliding:3:0.5"
        )
    return Sliding(int(match[1]), float(match[2]))


def _boxes(parameters: str | None) -> RegionStrategy:
    # Read from the right: a path may hold colons.
    match = re.fullmatch(r"(.+?)(?::max=(\d{1,9}))?(?::sha256=([0-9a-f]{16}))?", parameters or "", re.ASCII)
    if match is None:
        raise ValueError("expected a file of boxes, as in boxes:detections.csv or boxes:detections.json:max=100")
    return BoxFile.read(match[1], max_boxes=int(match[2] or DEFAULT_MAX_BOXES), digest=match[3])


def _proposals(parameters: str | None) -> RegionStrategy:
    match = re.fullmatch(r"selective:(\d{1,9})", parameters or "", re.ASCII)
    if match is None:
        raise ValueError(
            f"expected how many regions an image may have, 1 to {MAX_PROPOSALS:,}, as in proposals:selective:100"
        )
    return SelectiveSearch(int(match[1]))


def _detector(parameters: str | None) -> RegionStrategy:
    match = re.fullmatch(r"(.+?):(\d{1,9})(?::sha256=([0-9a-f]{16}))?", parameters or "", re.ASCII)
    if match is None:
        raise ValueError(
            "expected the folder of a detector and how many regions an image may have, as in detector:rtdetr:100"
        )
    return Detector.find(match[1], int(match[2]), digest=match[3])


_STRATEGIES: dict[str, Callable[[str | None], RegionStrategy]] = {
    "whole": _whole,
    "pyramid": _pyramid,
    "sliding": _sliding,
    "proposals": _proposals,
    "detector": _detector,
    "boxes": _boxes,
}


def parse_regions(text: str) -> RegionStrategy:
    """Read a strategy string such as `pyramid:3`.

    Raises:
        RegionsError: unknown strategy or bad parameter.
    """
    name, colon, parameters = text.strip().partition(":")
    if name not in _STRATEGIES:
        raise RegionsError(f"regions {text!r}: unknown strategy; known are {', '.join(sorted(_STRATEGIES))}")
    try:
        return _STRATEGIES[name](parameters if colon else None)
    except RegionsError:
        raise
    except ValueError as error:
        raise RegionsError(f"regions {text!r}: {error}") from error
