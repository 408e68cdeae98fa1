"""How many images would score as high by chance: from a sample of regions that the query has nothing to do with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from patchwise.search.base import MATCH_BELOW
from patchwise.store import Snapshot

__all__ = ["Background"]


class _Tail(NamedTuple):
    """Between which quantiles a tail is taken, and below how many expected false matches a picture is no background."""

    begin: float
    end: float
    background_from: float


# Lower quantiles are safe from the object's own regions, higher ones tell more of the tail: the first look leaves out
# only what is far beyond.
_FIRST_LOOK, _LOOK = _Tail(0.80, 0.95, 0.01), _Tail(0.90, 0.98, MATCH_BELOW)
_SAMPLED_REGIONS = 12_000
_FEWEST_PICTURES, _FEWEST_REGIONS = 20, 200
_LEAST_DISTANCE = 5e-4  # fp16 cannot tell smaller ones from none
_ROUNDS = 5


class Background:
    """Regions of a gallery, drawn at random by whole pictures, that stand for what has nothing to do with a query.

    A cosine s lies at the squared distance 2 - 2s. The share of regions nearer than a small distance falls as a power
    of it, whose exponent is the intrinsic dimension of the vectors around the query (Amsaleg et al., KDD 2015; it is
    the extreme-value tail of a distribution with an upper end). Exponent and level are those of this query, taken
    between two quantiles of its cosines with the sample; the tail beyond is the expected share of false regions, and
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
        background = np.ones(len(self._starts), dtype=np.bool_)
        law = _Law.of(depths, _FIRST_LOOK)
        for _ in range(_ROUNDS):
            others = law.beyond(of_pictures) * everything >= law.look.background_from
            if (others == background).all() and law.look is _LOOK:
                break
            if np.count_nonzero(others) >= _FEWEST_PICTURES:
                background = others
            law = _Law.of(depths[background[self._owners]], _LOOK)
        return np.minimum(law.beyond(found) * self._regions_per_picture * pictures, pictures)


class _Law(NamedTuple):
    """The share of regions beyond a depth: that at `level`, falling by e every `scale`."""

    level: float
    scale: float
    look: _Tail

    @classmethod
    def of(cls, depths: npt.NDArray[np.float64], look: _Tail) -> _Law:
        level, end = np.quantile(depths, [look.begin, look.end])
        return cls(float(level), max(float(end - level) / np.log((1 - look.begin) / (1 - look.end)), 1e-6), look)

    def beyond(self, depths: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        fallen = np.clip((depths - self.level) / self.scale, -10, 700)
        share: npt.NDArray[np.float64] = np.minimum((1 - self.look.begin) * np.exp(-fallen), 1.0)
        return share


def _depth(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """-log(1 - s): in it, a power law of the distance is an exponential law."""
    depth: npt.NDArray[np.float64] = -np.log(np.maximum(1 - scores, _LEAST_DISTANCE))
    return depth
