"""What every benchmark is once it is read: queries with their positives, and the images to search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from patchwise.boxes import Box

__all__ = ["Benchmark", "Query"]


@dataclass(frozen=True)
class Query:
    """One question with its answer.

    `image` is the file asked with, `box` the part of it that is asked for (None: all of it). `positives` maps the id of
    every image that shows the same instance to its ground-truth boxes (none: relevant, but its place is not known).
    Images in `ignored` are left out of this query's ranking. `group` names the instance; queries of one group are
    resampled together.
    """

    id: str
    image: Path
    box: Box | None
    positives: Mapping[str, tuple[Box, ...]]
    ignored: frozenset[str] = frozenset()
    group: str = ""


@dataclass(frozen=True)
class Benchmark:
    """Queries, and the gallery they are asked to: the file of image `id` is `root / id`.

    An id may lead into a tar file (`shard.tar/key.jpg`). `depth` is how far a ranking counts (None: all of it),
    `average_precision` the rule that its authors use. `published_id` turns an id into that of the authors' result
    files, and `own_id` is its inverse. `attributes` holds by image id what a benchmark knows about the positive that
    it shows, such as `{"scale": ..., "clutter": ...}`, for breakdowns. `notes` are sentences for people: what was left
    out, mended or differs from the published data.
    """

    name: str
    root: Path
    image_ids: Sequence[str]
    queries: Sequence[Query]
    depth: int | None = None
    average_precision: Literal["rectangle", "trapezoid", "at depth"] = "rectangle"
    published_id: Callable[[str], str] = str
    own_id: Callable[[str], str] = str
    attributes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
