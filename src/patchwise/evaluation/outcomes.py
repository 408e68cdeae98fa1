"""What a run leaves behind: where each query's positives ended up, from which every figure is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from patchwise.boxes import Box

__all__ = ["Found", "QueryOutcome", "Run"]


@dataclass(frozen=True)
class Found:
    """One positive that was retrieved.

    `rank` is 1-based among the images that count; `last_rank` is that of the last image with the same score (equal to
    `rank` without ties). `box` is the predicted one, `iou` its largest IoU with a ground-truth box, None where no box
    is known. `object_share` is the area of that ground-truth box over the image's, `centre_distance` the distance of
    its centre from the image's, in half diagonals (0 centre, 1 corner); None where no box is known.
    """

    image: str
    rank: int
    last_rank: int
    score: float
    box: Box
    iou: float | None
    object_share: float | None
    centre_distance: float | None


@dataclass(frozen=True)
class QueryOutcome:
    """One query: `positives` is how many there are to find, `found` those retrieved, by rank."""

    query: str
    group: str
    positives: int
    found: Sequence[Found]


@dataclass(frozen=True)
class Run:
    """One benchmark searched with one encoder and one region strategy.

    `depth` and `average_precision` are the benchmark's. `costs` holds regions per image, bytes per image, seconds per
    query and what else was measured; `encoder` the record of `patchwise.encoders.encoder_record`.
    """

    benchmark: str
    strategy: str
    encoder: dict[str, str | int]
    depth: int | None
    average_precision: str
    outcomes: Sequence[QueryOutcome]
    costs: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
