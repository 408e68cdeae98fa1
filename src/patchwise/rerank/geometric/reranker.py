"""Geometric verification of hits: a projection of the query that local features agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from patchwise.errors import ImageError, ImageUnreadable
from patchwise.images import Picture
from patchwise.rerank.base import Arrays, Question, Remembered
from patchwise.rerank.geometric.evidence import VERIFIED, raised
from patchwise.rerank.geometric.homography import Projection, projections
from patchwise.rerank.geometric.local_features import Keypoints, LocalFeatures, Sift, import_opencv
from patchwise.rerank.looking import CELL, LEVEL
from patchwise.search import Geometry, Hit, RegionScore

__all__ = ["FEWEST", "MOST_INSTANCES", "Geometric"]

FEWEST = 8
"""Keypoints of a picture below which nothing is said of it."""

MOST_INSTANCES = 6


class Geometric:
    """Looks for the query's plane in each of the first hits.

    A hit where it is found rises (`evidence.raised`) and has its outline's box; further places where it is found are
    its `instances`. All others keep score and box: nothing is held against a hit without texture, or of an object that
    is not flat. The verdict is in `Hit.geometry`. A question that is not one picture leaves the hits as they are.

    Args:
        remembered: the features of a hit's picture, kept for other queries.
        depth: how many hits are looked at.
        features: finds keypoints; by default SIFT.

    Raises:
        MissingExtra: OpenCV is not installed.
    """

    name = "geometric"

    def __init__(self, remembered: Remembered, *, depth: int = 50, features: LocalFeatures | None = None) -> None:
        import_opencv()  # whatever finds the keypoints, projections need it
        self._remembered, self.depth = remembered, depth
        self._features = features or Sift()
        self._recipe = f"local-features:{self._features.id}"

    def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
        if not hits or question.picture is None:
            return list(hits)
        asked = self._features.keypoints(self._features.found(question.picture))
        looked_at = [self._checked(hit, asked, question.picture.size) for hit in hits[: self.depth]]
        return [*sorted(looked_at, key=lambda hit: -hit.score), *hits[self.depth :]]

    def _checked(self, hit: Hit, asked: Keypoints, size: tuple[int, int]) -> Hit:
        try:
            seen = self._features.keypoints(
                self._remembered(hit, self._recipe, lambda picture: self._found(hit, picture))
            )
        except ImageError:  # gone or changed since it was indexed: the hit keeps what it has
            return hit
        if min(len(asked.places), len(seen.places)) < FEWEST:
            return replace(hit, geometry=Geometry("not enough texture", 0))
        found = projections(asked, seen, size, hit.size, significant=VERIFIED, most=MOST_INSTANCES)
        if not found or found[0].log_alarms > VERIFIED:
            return replace(hit, geometry=Geometry("not verified", found[0].inliers if found else 0))
        return _verified(hit, found)

    def _found(self, hit: Hit, picture: Picture) -> Arrays:
        if picture.size != hit.size:
            raise ImageUnreadable(hit.path, "changed since it was indexed")
        return self._features.found(picture.pixels)


def _verified(hit: Hit, found: Sequence[Projection]) -> Hit:
    places = [RegionScore(each.box(hit.size), LEVEL, CELL, raised(hit.score, each.log_alarms)) for each in found]
    # The first was found with the others in its way, so a further one may be as sure.
    first = places[0]
    regions = (first, *hit.regions)[: max(len(hit.regions), 1)]
    return replace(
        hit,
        score=first.score,
        box=first.box,
        level=LEVEL,
        cell=CELL,
        regions=regions,
        instances=tuple(sorted(places[1:], key=lambda place: -place.score)) or hit.instances,
        geometry=Geometry("verified", found[0].inliers, found[0].corners(hit.size)),
    )
