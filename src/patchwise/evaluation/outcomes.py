"""What a run leaves behind: where each query's positives ended up, from which every figure is computed."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from patchwise.boxes import Box, box_area
from patchwise.errors import UsageError

__all__ = ["Found", "Missed", "QueryOutcome", "Run", "placement", "restricted"]


@dataclass(frozen=True)
class Found:
    """One positive that was retrieved.

    `rank` is 1-based among the images that count; `last_rank` is that of the last image with the same score (equal to
    `rank` without ties). `box` is the predicted one (None: only a ranking is known), `iou` its largest IoU with a
    ground-truth box, None where no box is known. `object_share` and `centre_distance` are those of `placement`.
    """

    image: str
    rank: int
    last_rank: int
    score: float
    box: Box | None
    iou: float | None
    object_share: float | None
    centre_distance: float | None


@dataclass(frozen=True)
class Missed:
    """One positive that was not retrieved: what breakdowns need to count it; None where no box is known."""

    image: str
    object_share: float | None
    centre_distance: float | None


@dataclass(frozen=True)
class QueryOutcome:
    """One query: `positives` is how many there are to find, `found` those retrieved, by rank, `missed` the others.

    `missed` may be left empty; breakdowns then refuse the outcome, everything else works. `found` may go deeper than
    the benchmark's depth: the metrics cut.

    Raises:
        UsageError: no positives, more found and missed than there are, or ranks that are out of order.
    """

    query: str
    group: str
    positives: int
    found: Sequence[Found]
    missed: Sequence[Missed] = ()

    def __post_init__(self) -> None:
        known = len(self.found) + len(self.missed)
        if self.positives < max(known, 1):
            raise UsageError(f"query {self.query}: {self.positives} positives, but {known} of them are listed")
        if self.missed and known != self.positives:
            raise UsageError(f"query {self.query}: {self.positives} positives, but only {known} are found or missed")
        ranks = [0, *(found.rank for found in self.found)]
        if any(a >= b for a, b in pairwise(ranks)) or any(found.last_rank < found.rank for found in self.found):
            raise UsageError(f"query {self.query}: ranks must rise from 1, and last_rank be no smaller than rank")


@dataclass(frozen=True)
class Run:
    """One benchmark searched with one encoder and one region strategy.

    `depth` and `average_precision` are the benchmark's. `costs` holds `regions_per_image`, `bytes_per_image`,
    `seconds_per_query` and what else was measured; `encoder` the record of `patchwise.encoders.encoder_record`.
    """

    benchmark: str
    strategy: str
    encoder: dict[str, str | int]
    depth: int | None
    average_precision: str
    outcomes: Sequence[QueryOutcome]
    costs: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def placement(boxes: Sequence[Box], size: tuple[int, int]) -> tuple[float | None, float | None]:
    """Where a positive shows its object: `(object_share, centre_distance)` of its largest ground-truth box.

    The share is the box's area over the image's, in (0, 1]. The distance is that of the box's centre from the image's,
    in half diagonals: 0 the centre, 1 a corner. `size` is the upright image's (width, height). No boxes give None
    twice. The largest box, and not the one that was hit, so that a breakdown sorts the positives of all runs alike.
    """
    if not boxes:
        return None, None
    width, height = size
    x0, y0, x1, y1 = max(boxes, key=box_area)
    share = box_area((x0, y0, x1, y1)) / (width * height)
    distance = math.hypot(x0 + x1 - width, y0 + y1 - height) / math.hypot(width, height)
    return share, distance


def restricted(outcome: QueryOutcome, keep: Callable[[Found | Missed], bool]) -> QueryOutcome | None:
    """The query with only some of its positives; the others are taken out of its ranking, and later ranks move up.

    None if no positive is kept. This is how ILIAS breaks AP@k down by scale and clutter.

    Raises:
        UsageError: positives that were not retrieved are not listed, so that it is unknown whether they are kept.
    """
    if len(outcome.found) + len(outcome.missed) < outcome.positives:
        raise UsageError(f"query {outcome.query}: the positives that were not retrieved are not listed in `missed`")
    found: list[Found] = []
    gone: list[int] = []
    for item in outcome.found:
        if keep(item):
            found.append(item)
        else:
            gone.append(item.rank)
    found = [
        replace(
            item,
            rank=item.rank - bisect_right(gone, item.rank),
            last_rank=item.last_rank - bisect_right(gone, item.last_rank),
        )
        for item in found
    ]
    missed = [item for item in outcome.missed if keep(item)]
    if not found and not missed:
        return None
    return replace(outcome, positives=len(found) + len(missed), found=found, missed=missed)
