"""Figures by delta, by how large and how central the object is, and by what a benchmark knows about its images.

A bin of a breakdown is a question of its own: **for each query only the positives of the bin count as positives, and
the query's other positives are taken out of the ranking**, so that they are neither found nor errors. Its figure is the
mean over the queries with at least one positive in the bin. So does ILIAS for scale and clutter (repository
ilias-vrg/ilias, `evaluation`). Positives sort into bins by the ground truth alone, retrieved or not, so every run of a
benchmark has the same bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from patchwise.errors import UsageError
from patchwise.evaluation.metrics import loc_score, per_query, placed
from patchwise.evaluation.outcomes import Found, Missed, Run, restricted
from patchwise.evaluation.statistics import Interval, bootstrap, groups_of

__all__ = [
    "AREA_EDGES",
    "DELTAS",
    "DISTANCE_EDGES",
    "ILIAS_EDGES",
    "Bin",
    "breakdown",
    "by_area",
    "by_attribute",
    "by_centre_distance",
    "loc_score_curve",
]

Values = npt.NDArray[np.float64]

DELTAS = tuple(step / 20 for step in range(20))
AREA_EDGES = (0.0, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, np.inf)
DISTANCE_EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, np.inf)
# The limits of ILIAS's own report, which are the quartiles of its positives.
ILIAS_EDGES: Mapping[str, tuple[float, ...]] = {
    "scale": (0.0, 0.06880213760855043, 0.13526567164179104, 0.2729876723163842, np.inf),
    "clutter": (0.0, 18.0, 33.0, 53.0, np.inf),
}

# Fewer than for a table: a plot shows many bins, and the eye does not see the difference.
_RESAMPLES = 2000


@dataclass(frozen=True)
class Bin:
    """Figures of the positives with `low <= value < high`, in [0, 1] with their intervals over queries.

    `average_precision` follows the benchmark's rule; `loc_score` and `mean_iou` are NaN without known boxes.
    """

    low: float
    high: float
    positives: int
    average_precision: Interval
    loc_score: Interval
    mean_iou: Interval


def loc_score_curve(run: Run, deltas: Sequence[float] = DELTAS) -> Values:
    """Discrete LocScore at each delta, mean over the queries: (len(deltas),) in [0, 1], falling as delta rises.

    NaN where no positive of the run has a known place.
    """
    rows = []
    for outcome, said in zip(run.outcomes, ~np.isnan(per_query(run)["loc_score"]), strict=True):
        judged = placed(outcome) if said else None
        if judged is not None:
            found = [item for item in judged.found if run.depth is None or item.rank <= run.depth]
            ranks, ious = np.array([item.rank for item in found], dtype=np.int64), [item.iou for item in found]
            rows.append([loc_score(ranks, cast(list[float], ious), judged.positives, delta) for delta in deltas])
    return np.mean(rows, axis=0) if rows else np.full(len(deltas), np.nan)


def by_area(run: Run, edges: Sequence[float] = AREA_EDGES, confidence: float = 0.95) -> list[Bin]:
    """Figures by the object's share of its image's area; `edges` in [0, 1]."""
    return breakdown(run, "object_share", edges, confidence)


def by_centre_distance(run: Run, edges: Sequence[float] = DISTANCE_EDGES, confidence: float = 0.95) -> list[Bin]:
    """Figures by the distance of the object's centre from the image's, in half diagonals."""
    return breakdown(run, "centre_distance", edges, confidence)


def by_attribute(
    run: Run,
    attributes: Mapping[str, Mapping[str, float]],
    name: str,
    edges: Sequence[float] | None = None,
    confidence: float = 0.95,
) -> list[Bin]:
    """Figures by what the benchmark knows of its positives, such as ILIAS's scale and clutter.

    `attributes` are `Benchmark.attributes`: by image id, then by name.

    Raises:
        UsageError: an attribute that the benchmark lacks, or no edges for one that has no usual ones.
    """
    values = {image: known[name] for image, known in attributes.items() if name in known}
    if not values:
        names = sorted({name for known in attributes.values() for name in known})
        raise UsageError(
            f"benchmark {run.benchmark} knows no {name!r} of its images, only: {', '.join(names) or 'nothing'}"
        )
    edges = ILIAS_EDGES.get(name) if edges is None else edges
    if edges is None:
        raise UsageError(f"a breakdown by {name!r} needs the edges of its bins")
    return breakdown(run, values, edges, confidence)


def breakdown(
    run: Run,
    by: Literal["object_share", "centre_distance"] | Mapping[str, float],
    edges: Sequence[float],
    confidence: float = 0.95,
) -> list[Bin]:
    """Figures of each bin between two `edges`, by a property of the positives or by a value per image id.

    Positives without a value (no known box, or not in the mapping) are in no bin. Bins without positives are there too.

    Raises:
        UsageError: edges that do not rise, or outcomes that do not list their missed positives.
    """
    if len(edges) < 2 or any(a >= b for a, b in pairwise(edges)):
        raise UsageError(f"the edges of bins must rise: {', '.join(f'{edge:g}' for edge in edges)}")
    return [_bin(run, by, low, high, confidence) for low, high in pairwise(edges)]


def _bin(run: Run, by: str | Mapping[str, float], low: float, high: float, confidence: float) -> Bin:
    def inside(item: Found | Missed) -> bool:
        value = getattr(item, by) if isinstance(by, str) else by.get(item.image)
        return value is not None and low <= value < high

    outcomes = [kept for outcome in run.outcomes if (kept := restricted(outcome, inside)) is not None]
    part = replace(run, outcomes=outcomes)
    values, groups = per_query(part), groups_of(part)
    figures = {
        name: bootstrap(values[name], groups, confidence, _RESAMPLES)
        for name in ("average_precision", "loc_score", "mean_iou")
    }
    return Bin(low, high, sum(outcome.positives for outcome in outcomes), **figures)
