"""Two sets of keypoints: is one picture seen in the other, from where, and how sure is that?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box
from patchwise.rerank.geometric.local_features import Keypoints, import_opencv
from patchwise.rerank.geometric.significance import RADII, false_alarms

__all__ = ["UNIT", "Projection", "correspondences", "projections"]

UNIT = 1_000.0
"""Lengths are measured in this share of a picture's longer side."""

_RATIO = 0.8  # Lowe, IJCV 2004; with 0.9 unrelated pictures are verified by ALIKED
_DUPLICATE = 2.0  # keypoints so close are one, with several orientations or scales
_ROUNDS, _CONFIDENCE = 5_000, 0.999
_SHORTEST = 8.0  # side of an outline
_LARGEST = 16.0  # area of an outline over that of the image
_MOST_UNEVEN = 5.0  # by how much one side of an outline may be stretched more than another

Points = npt.NDArray[np.float64]


class Projection(NamedTuple):
    """A query found in an image: `outline` is (4, 2), its corners in [0, 1] of the image's sides, possibly beyond.

    `inliers` correspondences agree on it; `log_alarms` is the logarithm to base 10 of how many projections would have
    as many by chance.
    """

    outline: Points
    inliers: int
    log_alarms: float

    def corners(self, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
        """The outline in pixels of an image of `size`, clockwise from the query's upper left."""
        x, y = (self.outline * size).T.tolist()
        return tuple(zip(x, y, strict=True))

    def box(self, size: tuple[int, int]) -> Box:
        """The outline's bounding box, cut to an image of `size`."""
        low, high = (np.clip(edge(axis=0), 0, 1) * size for edge in (self.outline.min, self.outline.max))
        return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def correspondences(query: Keypoints, image: Keypoints) -> npt.NDArray[np.int64]:
    """Pairs of keypoints that look alike, (N, 2) indices of query and image, best first.

    Each is the other's nearest, and much nearer than the next in one of the pictures at least: what is there twice in
    one of them is told apart by the other.
    """
    if min(len(query.places), len(image.places)) < 2:
        return np.empty((0, 2), dtype=np.int64)
    products = query.descriptors @ image.descriptors.T
    best = products.argmax(axis=1)
    # The largest of each column, not where it is: that takes numpy ten times as long.
    rows = np.flatnonzero(products[np.arange(len(products)), best] >= products.max(axis=0)[best])
    columns = best[rows]
    nearest = products[rows, columns]
    products[rows, columns] = -1.0
    following = np.minimum(products[rows].max(axis=1), products.max(axis=0)[columns])
    # Unit vectors of product p are sqrt(2 - 2p) apart.
    ratios = np.sqrt(np.maximum(1 - nearest, 0) / np.maximum(1 - following, 1e-12))
    order = np.argsort(ratios, kind="stable")
    order = order[ratios[order] < _RATIO]
    return np.stack([rows[order], columns[order]], axis=1)


def projections(
    query: Keypoints,
    image: Keypoints,
    query_size: tuple[int, int],
    image_size: tuple[int, int],
    *,
    significant: float,
    most: int = 1,
) -> list[Projection]:
    """Look for the plane of a query in an image, and again without what lies where it was found.

    Homographies, affine maps and similarities compete: the fewer numbers a map has, the fewer correspondences show it.
    OpenCV proposes them (homographies and affine maps by MAGSAC++, Barath et al., CVPR 2020, similarities by RANSAC)
    and `false_alarms` says what they are worth.

    Args:
        query, image: their keypoints.
        query_size, image_size: (width, height) of the pictures, in any unit.
        significant: `log_alarms` from which on another one is looked for.
        most: how many are looked for.

    Returns:
        Plausible projections in the order in which they were found, the best first; all but the first are significant.
    """
    scales = [np.array(size) * (UNIT / max(size)) for size in (query_size, image_size)]
    found: list[Projection] = []
    left = image
    while len(found) < most:
        projection = _best(query, left, scales[0], scales[1])
        if projection is None or (found and projection.log_alarms > significant):
            break
        found.append(projection)
        if projection.log_alarms > significant:
            break
        outside = ~_inside(left.places * scales[1], projection.outline * scales[1])
        left = left._replace(places=left.places[outside], descriptors=left.descriptors[outside])
    return found


class _Map(NamedTuple):
    """A kind of projection: correspondences that decide it, and what estimates its (3, 3) matrix, if there is one."""

    sample: int
    estimate: Callable[[Any, Points, Points], Points | None]


def _homography(cv2: Any, source: Points, target: Points) -> Points | None:
    matrix, _ = cv2.findHomography(source, target, cv2.USAC_MAGSAC, RADII[-1], None, _ROUNDS, _CONFIDENCE)
    return None if matrix is None else np.asarray(matrix, dtype=np.float64)


def _affine(cv2: Any, source: Points, target: Points) -> Points | None:
    matrix, _ = cv2.estimateAffine2D(source, target, None, cv2.USAC_MAGSAC, RADII[-1], _ROUNDS, _CONFIDENCE)
    return None if matrix is None else np.vstack([matrix, [0.0, 0.0, 1.0]])


def _similarity(cv2: Any, source: Points, target: Points) -> Points | None:
    matrix, _ = cv2.estimateAffinePartial2D(source, target, None, cv2.RANSAC, RADII[-1], _ROUNDS, _CONFIDENCE)
    return None if matrix is None else np.vstack([matrix, [0.0, 0.0, 1.0]])


_MAPS = (_Map(4, _homography), _Map(3, _affine), _Map(2, _similarity))


def _best(query: Keypoints, image: Keypoints, query_scale: Points, image_scale: Points) -> Projection | None:
    """The plausible projection that is the least likely to be chance."""
    cv2 = import_opencv()
    pairs = correspondences(query, image)
    source, target = query.places[pairs[:, 0]] * query_scale, image.places[pairs[:, 1]] * image_scale
    alone = _alone(source) & _alone(target)
    source, target = source[alone], target[alone]
    places, area = image.places * image_scale, float(image_scale.prod())
    best: Projection | None = None
    for sample, estimate in _MAPS:
        matrix = estimate(cv2, source, target) if len(source) > sample else None
        if matrix is None or not np.isfinite(matrix).all():
            continue
        outline = _projected(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * query_scale, matrix)
        if not _plausible(outline, query_scale, image_scale):
            continue
        log_alarms, agreeing = false_alarms(_projected(source, matrix), target, places, area, sample)
        log_alarms += float(np.log10(len(_MAPS)))
        if best is None or log_alarms < best.log_alarms:
            best = Projection(outline / image_scale, int(agreeing.sum()), log_alarms)
    return best


def _alone(points: Points) -> npt.NDArray[np.bool_]:
    """Whether each of (N, 2) points is the first within its small square."""
    flags = np.zeros(len(points), dtype=np.bool_)
    flags[np.unique(np.floor(points / _DUPLICATE), axis=0, return_index=True)[1]] = True
    return flags


def _projected(points: Points, matrix: Points) -> Points:
    """(N, 2) points through a projection; NaN where that turns one behind the camera."""
    projected = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    before = projected[:, 2] * np.sign(matrix[2, 2]) > 1e-9
    mapped: Points = np.full((len(points), 2), np.nan)
    mapped[before] = projected[before, :2] / projected[before, 2:]
    return mapped


def _plausible(outline: Points, query: Points, image: Points) -> bool:
    """Whether corners may be those of a rectangle seen from its front, some of it in the image."""
    if not np.isfinite(outline).all():
        return False
    sides = np.roll(outline, -1, axis=0) - outline
    following = np.roll(sides, -1, axis=0)
    # y points down, so that corners named clockwise turn this way: convex, and not mirrored.
    if not (_cross(sides, following) > 0).all():
        return False
    area = float(0.5 * np.abs(_cross(outline, np.roll(outline, -1, axis=0)).sum()))
    lengths = np.linalg.norm(sides, axis=1)
    stretched = lengths / np.array([query[0], query[1], query[0], query[1]])
    seen = np.minimum(outline.max(axis=0), image) - np.maximum(outline.min(axis=0), 0)
    return bool(
        lengths.min() >= _SHORTEST
        and area <= _LARGEST * image.prod()
        and stretched.max() <= _MOST_UNEVEN * stretched.min()
        and seen.min() >= _SHORTEST
    )


def _inside(points: Points, outline: Points) -> npt.NDArray[np.bool_]:
    """Whether each of (N, 2) points lies in a convex outline whose corners go clockwise."""
    sides = np.roll(outline, -1, axis=0) - outline
    turns = _cross(sides[None], points[:, None] - outline[None])
    inside: npt.NDArray[np.bool_] = turns.min(axis=1) >= 0
    return inside


def _cross(first: Points, second: Points) -> Points:
    product: Points = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    return product
