"""Query expansion: what was surely found is asked for as well, and finds what the query alone does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from patchwise.errors import UsageError
from patchwise.search.base import Hit

__all__ = ["DEFAULT_EXPANSION", "MOST_EXPANDING", "best_regions", "expanded", "expanding", "merged", "parse_expansion"]

DEFAULT_EXPANSION = "average"
MOST_EXPANDING = 10
"""How many hits a query is expanded with at most."""

_CANCELLED = 1e-3  # a mean of unit vectors that is shorter says nothing


def parse_expansion(text: str) -> float:
    """The power of the score by which hits count: 0 for "average", A for "alpha:A".

    Raises:
        UsageError: neither of them.
    """
    name, colon, number = text.strip().partition(":")
    if name == "average" and not colon:
        return 0.0
    try:
        power = float(number) if name == "alpha" else -1.0
    except ValueError:
        power = -1.0
    if not 0 <= power <= 100:
        raise UsageError(f"expansion {text!r}: expected average, or alpha:A with A from 0 to 100, such as alpha:3")
    return power


def expanding(hits: Sequence[Hit], at_most: int = MOST_EXPANDING) -> list[Hit]:
    """The hits that a query is expanded with: of those that match (`Hit.matches`) the first few, in their order.

    None where none does: an unsure hit would draw the query away from what was asked for.
    """
    return [hit for hit in hits if hit.matches][:at_most]


def best_regions(
    query: npt.NDArray[np.float32], hits: Sequence[Hit], vectors_of: Callable[[Hit], npt.NDArray[np.floating]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Of each hit the stored region that fits best: its vector, and its cosine with the query.

    Args:
        query: (dimension,) float32 of unit length.
        hits: N of them.
        vectors_of: the stored vectors of a hit's picture, (regions, dimension).

    Returns:
        (N, dimension) float32 and (N,) float64.

    Raises:
        ImageError: a picture is no longer in the gallery.
    """
    vectors = np.empty((len(hits), len(query)), dtype=np.float32)
    scores = np.empty(len(hits))
    wide = query.astype(np.float64)
    for place, hit in enumerate(hits):
        stored = vectors_of(hit)
        fits = (stored.astype(np.float64) * wide).sum(axis=1)
        best = int(fits.argmax())
        vectors[place], scores[place] = stored[best], fits[best]
    return vectors, scores


def expanded(
    query: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
    scores: npt.NDArray[np.floating] | Sequence[float],
    method: str = DEFAULT_EXPANSION,
) -> npt.NDArray[np.float32]:
    """The query together with what it found, as one vector of unit length.

    "average" is average query expansion (Chum et al., Total Recall, ICCV 2007): the mean of the query and the vectors.
    "alpha:A" weighs each vector by its score to the power of A, and the query by 1 (Radenovic, Tolias and Chum, TPAMI
    2018); scores below 0 count as 0.

    Args:
        query: (dimension,) float32 of unit length.
        vectors: (N, dimension), unit length; without any the query is unchanged.
        scores: (N,) cosines of these with the query.
        method: "average" or "alpha:A".

    Returns:
        (dimension,) float32; the query itself where all cancel each other.

    Raises:
        UsageError: an unknown method, or not one score for each vector.
    """
    power = parse_expansion(method)
    fits = np.asarray(scores, dtype=np.float64)
    if vectors.shape != (len(fits), len(query)):
        raise UsageError(f"expansion of a query of {query.shape} by {vectors.shape} vectors with {fits.shape} scores")
    weights = np.maximum(fits, 0) ** power if power else np.ones(len(fits))
    if not weights.any():
        return query
    mixed = query.astype(np.float64) + weights @ vectors.astype(np.float64)
    length = float(np.linalg.norm(mixed))
    if length < _CANCELLED * (1 + weights.sum()):
        return query
    return (mixed / length).astype(np.float32)


def merged(first: Sequence[Hit], second: Sequence[Hit]) -> list[Hit]:
    """Hits of the query and then of its expansion: what the query itself found for sure stays as it is, and first.

    An expansion may drift: it scores the hits it was made of too well, and what looks like them. So hits of the first
    search that match keep order, box and score; then come those of the second whose outline was verified, which is
    evidence from the query's own picture; then the others of the second, then what only the first had.
    """
    sure = [hit for hit in first if hit.matches]
    verified = [hit for hit in second if hit.verified]
    kept: dict[str, Hit] = {}
    for hit in (*sure, *verified, *second, *first):
        kept.setdefault(hit.path, hit)
    return list(kept.values())
