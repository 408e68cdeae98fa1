"""How many images would score as high by chance: from a sample of regions that the query has nothing to do with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.search.base import MATCH_BELOW
from patchwise.store import Snapshot

__all__ = ["Background"]


class _Between(NamedTuple):
    """The quantiles between which a tail is taken."""

    begin: float
    end: float


# Lower quantiles are safe from the object's own regions: a first look leaves out pictures far beyond. Higher ones tell
# more of the tail, above all where only a part of the gallery is like the query at all: of several, as far out as the
# sample reaches, the one counts that expects most.
_FIRST_LOOK, _FAR_BEYOND = _Between(0.80, 0.95), 0.01
_TAILS = (_Between(0.90, 0.98), _Between(0.95, 0.99), _Between(0.98, 0.996))
_FEWEST_BEYOND = 40  # regions of the sample beyond a tail's end
_SAMPLED_REGIONS = 12_000
_FEWEST_PICTURES, _FEWEST_REGIONS = 20, 200
_LEAST_DISTANCE = 5e-4  # fp16 cannot tell smaller ones from none
_ROUNDS = 5


class Background:
    """Regions of a gallery, drawn at random by whole pictures, that stand for what has nothing to do with a query.

    A cosine s lies at the squared distance 2 - 2s. The share of regions nearer than a small distance falls as a power
    of it, whose exponent is the intrinsic dimension of the vectors around the query (Amsaleg et al., KDD 2015; it is
    the extreme-value tail of a distribution with an upper end). Exponent and level are those of this query, taken
    between quantiles of its cosines with the sample; the tail beyond is the expected share of false regions, and
    times the regions of the gallery it bounds the expected number of false images (a-contrario: Desolneux, Moisan and
    Morel, 2000). Pictures that are matches by this count are no background: they are left out, and the tail is
    taken again.
    """

    def __init__(self, snapshot: Snapshot, *, seed: int = 0) -> None:
        self._pictures = pictures = len(snapshot)
        wanted = pictures if snapshot.rows <= _SAMPLED_REGIONS else -(-_SAMPLED_REGIONS * pictures // snapshot.rows)
        drawn = np.random.default_rng(seed).permutation(pictures)[: max(wanted, _FEWEST_PICTURES)]
        sample = np.sort(drawn).astype(np.int64)
        rows = snapshot.rows_of(sample)
        counts = snapshot.starts[sample + 1] - snapshot.starts[sample]
        self._vectors = snapshot.gather(rows).astype(np.float32)
        self._owners = np.repeat(np.arange(len(sample)), counts)
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64) if len(sample) else sample
        self._regions_per_picture = snapshot.rows / max(pictures, 1)

    @property
    def large_enough(self) -> bool:
        """Whether there is enough to say anything."""
        return len(self._starts) >= _FEWEST_PICTURES and len(self._vectors) >= _FEWEST_REGIONS

    def expected_false_matches(
        self, query: npt.NDArray[np.float32], scores: Sequence[float], pictures: int
    ) -> npt.NDArray[np.float64] | None:
        """How many of so many pictures are expected to score as high by chance.

        Args:
            query: (dimension,) float32 of unit length.
            scores: (N,) cosines of images found.
            pictures: how many were searched.

        Returns:
            (N,) float64 from 0 to `pictures`, or None where the gallery is too small to tell.
        """
        if not self.large_enough:
            return None
        found = _depth(np.asarray(scores, dtype=np.float64))
        depths = _depth((self._vectors @ query).astype(np.float64))
        of_pictures = np.maximum.reduceat(depths, self._starts)
        everything = self._regions_per_picture * self._pictures
        background = _share_beyond(of_pictures, depths, [_FIRST_LOOK]) * everything >= _FAR_BEYOND
        for _ in range(_ROUNDS):
            if np.count_nonzero(background) < _FEWEST_PICTURES:
                background = np.ones(len(self._starts), dtype=np.bool_)
            chance = depths[background[self._owners]]
            others = _share_beyond(of_pictures, chance, _tails(len(chance))) * everything >= MATCH_BELOW
            if (others == background).all() or np.count_nonzero(others) < _FEWEST_PICTURES:
                break
            background = others
        share = _share_beyond(found, chance, _tails(len(chance)))
        return np.minimum(share * self._regions_per_picture * pictures, pictures)


def _tails(regions: int) -> list[_Between]:
    """Those that a sample of so many regions reaches; the first it always does."""
    return [tail for tail in _TAILS if tail == _TAILS[0] or (1 - tail.end) * regions >= _FEWEST_BEYOND]


def _share_beyond(
    asked: npt.NDArray[np.float64], chance: npt.NDArray[np.float64], tails: Sequence[_Between]
) -> npt.NDArray[np.float64]:
    """The largest share of regions that lie beyond each depth by any tail: (N,) of 0 to 1."""
    shares = []
    for begin, end in tails:
        level, top = np.quantile(chance, [begin, end])
        scale = max(float(top - level) / np.log((1 - begin) / (1 - end)), 1e-6)
        shares.append((1 - begin) * np.exp(-np.clip((asked - level) / scale, -10, 700)))
    largest: npt.NDArray[np.float64] = np.minimum(np.max(shares, axis=0), 1.0)
    return largest


def _depth(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """-log(1 - s): in it, a power law of the distance is an exponential law."""
    depth: npt.NDArray[np.float64] = -np.log(np.maximum(1 - scores, _LEAST_DISTANCE))
    return depth
