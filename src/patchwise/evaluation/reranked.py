"""What a second look makes of one query's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from patchwise.evaluation.datasets.base import Query
from patchwise.evaluation.metrics import positive_iou
from patchwise.evaluation.outcomes import QueryOutcome
from patchwise.search import Hit

__all__ = ["reranked_outcome", "reranked_scores"]


def reranked_outcome(outcome: QueryOutcome, query: Query, shortlist: Sequence[tuple[str, Hit]]) -> QueryOutcome:
    """The outcome once the first images, as many as the shortlist holds, are in its order and have its boxes.

    `shortlist` holds image ids with their hits, best first, none that the query ignores. Neighbours of equal score
    tie with each other; nothing in it ties with what is behind it.
    """
    ranks: dict[str, tuple[int, int, Hit]] = {}
    for _, group in groupby(enumerate(shortlist, 1), key=lambda placed: placed[1][1].score):
        tied = list(group)
        for rank, (image, hit) in tied:
            ranks[image] = (rank, tied[-1][0], hit)
    found = []
    for item in outcome.found:
        if item.image not in ranks:
            # Equal scores are cut by path where the shortlist ends: what is behind it is behind all of it.
            found.append(item)
            continue
        rank, last, hit = ranks[item.image]
        boxes = query.positives[item.image]
        iou = positive_iou(hit.box, boxes) if boxes else None
        found.append(replace(item, rank=rank, last_rank=last, score=hit.score, box=hit.box, iou=iou))
    return replace(outcome, found=sorted(found, key=lambda item: item.rank))


def reranked_scores(
    ids: Sequence[str], scores: npt.NDArray[np.float32], shortlist: Sequence[tuple[str, Hit]]
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """A ranking of ids and scores whose first places a shortlist takes, with scores that fall all the way.

    The scores of a second look need not compare with those of the first: the shortlist's are raised together until the
    last of it is above what follows, and where they rise within it, they are cut to those before.
    """
    first = {image for image, _ in shortlist}
    behind = [(image, float(score)) for image, score in zip(ids, scores, strict=True) if image not in first]
    looked_at = np.minimum.accumulate([hit.score for _, hit in shortlist]) if shortlist else np.empty(0)
    if shortlist and behind:
        looked_at = looked_at + max(0.0, behind[0][1] - float(looked_at[-1]) + 1e-3)
    order = [image for image, _ in shortlist] + [image for image, _ in behind]
    return order[: len(ids)], np.array([*looked_at, *(score for _, score in behind)], dtype=np.float32)[: len(ids)]
