"""Near-duplicates among hits: one row for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from patchwise.errors import ImageError
from patchwise.search.base import Hit

__all__ = ["NEAR_DUPLICATE", "collapsed", "in_place", "near_duplicate_from", "unrelated_likeness"]

Stored = npt.NDArray[np.floating]

NEAR_DUPLICATE = 0.7
"""How alike pictures are from which they are taken for near-duplicates: 0 as unrelated ones are, 1 the same."""

# Fewer regions tell less of the places of things: another photograph of the same object looks more like it.
_OF_FEW_REGIONS = ((1, 0.95), (5, 0.85), (14, 0.75))
_AT_ONCE = 32  # leaders compared in one product


def collapsed(
    hits: Sequence[Hit],
    vectors_of: Callable[[Hit], Stored],
    threshold: float | None = None,
    *,
    unrelated: float = 0.0,
) -> list[Hit]:
    """One hit for each group of near-duplicates: the first of them, with the others in `alike`, in their order.

    Pictures are compared region by region, each with the one in the same place: the mean of these cosines is high
    where a picture was stored again in another size, quality or light, or with something small added, and not where
    another photograph shows the same object. How high depends on the encoder, so it is measured between two points
    that every encoder has: (mean cosine - unrelated) / (1 - unrelated).

    A hit joins the group whose first hit it is most like, if that is like enough. It is compared with no other member,
    so that groups do not drift from one picture to quite another. What comes later never changes which hits lead:
    the first rows for more hits are the rows for fewer, and pages of them stay as they are.

    Args:
        hits: best first.
        vectors_of: the stored vectors of a hit's picture that can be compared place by place: (regions, dimension).
            Pictures with different numbers of them are not alike. ImageError where it is gone: the hit stays by itself.
        threshold: from which likeness on hits are near-duplicates (default: `near_duplicate_from` so many regions).
        unrelated: the mean cosine of unrelated pictures, as `unrelated_likeness` has it.

    Returns:
        The hits that lead, in their order and with their ranks.
    """
    leaders: dict[int, _Leaders] = defaultdict(_Leaders)
    alike: dict[int, list[Hit]] = {}
    for place, hit in enumerate(hits):
        try:
            stored = vectors_of(hit)
        except ImageError:  # left the gallery since the search
            alike[place] = []
            continue
        own = leaders[len(stored)]
        least = near_duplicate_from(len(stored)) if threshold is None else threshold
        leader = own.most_alike(stored, unrelated + least * (1 - unrelated))
        if leader is None:
            own.add(place, stored)
            alike[place] = []
        else:
            alike[leader].append(hit)
    return [replace(hits[place], alike=(*hits[place].alike, *members)) for place, members in alike.items()]


def near_duplicate_from(regions: int) -> float:
    """The likeness from which pictures are taken for near-duplicates when so many regions of each are compared.

    0.7 for the 30 regions of pyramid:3 and more, up to 0.95 for whole images alone, where mirrored ones count as well.
    """
    return next((least for most, least in _OF_FEW_REGIONS if regions <= most), NEAR_DUPLICATE)


def in_place(vectors: Stored, levels: npt.NDArray[np.integer]) -> Stored:
    """Those of a picture's regions that other pictures have in the same place: (regions, dimension) to (some, ...).

    The regions of a grid, whose `levels` (regions,) are 0 and more; for boxes and proposals, which lie elsewhere in
    each picture, the first region, which is the whole image.
    """
    placed = levels >= 0
    return vectors[placed] if placed.any() else vectors[:1]


def unrelated_likeness(sample: Iterable[Stored]) -> float:
    """The mean cosine of regions in the same place of two pictures, over all pairs of a sample of a gallery's.

    Most pairs of a gallery are unrelated. 0 where no two pictures have the same number of regions.

    Args:
        sample: of each picture the vectors that are compared, (regions, dimension), unit length.
    """
    sums: dict[int, npt.NDArray[np.float64]] = {}
    pictures: dict[int, int] = defaultdict(int)
    for stored in sample:
        regions = len(stored)
        wide = stored.astype(np.float64)
        sums[regions] = sums[regions] + wide if regions in sums else wide
        pictures[regions] += 1
    total, pairs = 0.0, 0
    for regions, n in pictures.items():
        # |v1 + ... + vn|^2 is n, of each with itself, and twice the cosine of every pair.
        of_place = ((sums[regions] ** 2).sum(axis=1) - n) / 2
        total += float(of_place.mean()) if regions else 0.0
        pairs += n * (n - 1) // 2
    return total / pairs if pairs else 0.0


class _Leaders:
    """First hits of groups whose pictures have equally many regions."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._blocks: list[npt.NDArray[np.float32]] = []

    def add(self, place: int, stored: Stored) -> None:
        used = len(self._places) % _AT_ONCE
        if not used:
            self._blocks.append(np.empty((_AT_ONCE, stored.size), dtype=np.float32))
        self._blocks[-1][used] = stored.ravel()
        self._places.append(place)

    def most_alike(self, stored: Stored, least: float) -> int | None:
        """Place of the one that is most alike; None where the mean cosine with none reaches `least`."""
        if not self._places or not len(stored):
            return None
        row = stored.astype(np.float32).ravel()
        filled = (self._blocks[at][: len(self._places) - at * _AT_ONCE] for at in range(len(self._blocks)))
        products = np.concatenate([block @ row for block in filled])
        best = int(products.argmax())
        return self._places[best] if products[best] / len(stored) >= least else None
