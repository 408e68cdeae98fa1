"""Learning from encoded pictures: which are held out, where it begins, and what each map is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from patchwise.adaptation.examples import Advance, Examples
from patchwise.adaptation.measure import Map, Measured, alike, measure
from patchwise.adaptation.starts import as_it_is, check_dimension, whitening_of
from patchwise.adaptation.training import train_layer
from patchwise.encoders import Encoder, LinearAdaptation, WhiteningPrior
from patchwise.errors import EncoderError

__all__ = ["ALONE", "LAYER", "WHITENING", "Learned", "Subject", "check_count", "check_regions", "learn"]

ALONE, WHITENING, LAYER = "encoder alone", "whitening", "linear layer"
_DIMENSION = 512  # that of the ILIAS authors
_LEAST_FOR_LAYER = 20
_LEAST_FOR_MEASURING = 8
_HELD_OUT = 1 / 4  # of all pictures
_CHOOSING_STEP = 8  # every eighth of the others


@dataclass(frozen=True)
class Subject:
    """What is adapted: an encoder before its shipped whitening, what its vectors become today, what is known before."""

    encoder: Encoder
    today: Map
    dimension: int
    prior: WhiteningPrior | None = None


@dataclass(frozen=True, eq=False)
class Learned:
    """A layer, and how the crops of held-out pictures find their own: by name of the map, what was learned last.

    `pictures` were learned from, `held_out` were not; `groups` (C,) tells the picture of each crop.
    """

    layer: LinearAdaptation
    pictures: int
    held_out: int
    epochs: int
    measured: dict[str, Measured]
    groups: npt.NDArray[np.int64]


def check_count(pictures: int, method: str) -> None:
    """Refuse to learn from too few pictures.

    Raises:
        EncoderError: they are.
    """
    least = _LEAST_FOR_LAYER if method == "linear" else 1
    if pictures < least:
        raise EncoderError(
            f"learning needs at least {least} {'picture' if least == 1 else 'pictures'} that can be read, copies not "
            f"counted, got {pictures}" + ("; --method whitening does with fewer" if pictures else "")
        )


def check_regions(subject: Subject, pictures: int, regions_each: float, method: str, dimension: int | None) -> None:
    """Refuse, before anything is encoded, what would have too few regions in the end.

    Raises:
        EncoderError: there are not more regions beside those held out than numbers to learn.
    """
    dimension = dimension or min(subject.dimension, _DIMENSION)
    held_out = int(pictures * _HELD_OUT) if pictures >= _LEAST_FOR_MEASURING else 0
    seen = pictures - held_out
    learning = seen - len(range(0, seen, _CHOOSING_STEP)) if method == "linear" else seen
    if subject.prior is None and learning * regions_each <= dimension:
        raise EncoderError(
            f"learning {dimension} numbers needs more than {dimension} regions beside those held out, and of "
            f"{pictures:,} pictures there are about {learning * regions_each:,.0f}; name more pictures, or fewer "
            "numbers with --dimension"
        )


def learn(
    subject: Subject, examples: Examples, method: str, dimension: int | None, seed: int, advance: Advance
) -> Learned:
    """Learn from encoded pictures, a quarter held out, and measure on those.

    Raises:
        UsageError: more dimensions than there are.
        EncoderError: too few pictures.
    """
    count = len(examples)
    check_count(count, method)
    dimension = dimension or min(subject.dimension, _DIMENSION)
    check_dimension(dimension, examples.regions.shape[1], subject.prior)
    order = np.random.default_rng(seed).permutation(count)
    held_out = np.sort(order[: int(count * _HELD_OUT)] if count >= _LEAST_FOR_MEASURING else order[:0])
    seen = np.setdiff1d(np.arange(count), held_out)
    choosing = seen[::_CHOOSING_STEP] if method == "linear" else seen[:0]
    learning = np.setdiff1d(seen, choosing)

    whitening = whitening_of(examples.regions[examples.rows_of(learning)], dimension, subject.prior)
    ignored = alike(examples, whitening.apply)
    layer, epochs = LinearAdaptation.of_whitening(whitening), 0
    maps: dict[str, Map] = {ALONE: subject.today, WHITENING: whitening.apply}
    if method == "linear":
        known, own = examples.only(seen), np.searchsorted(seen, choosing)
        among = ignored[np.ix_(seen, seen)]
        starts = (whitening, as_it_is(examples.regions[examples.rows_of(learning)], dimension))
        start = max(starts, key=lambda one: measure(known, own, one.apply, among).average_precision.mean())
        trained = train_layer(known, start, own, among, seed=seed, advance=advance)
        layer, epochs = trained.layer, trained.epochs
        maps[LAYER] = layer.apply
    measured = {}
    if len(held_out):
        for number, (name, one) in enumerate(maps.items(), start=1):
            measured[name] = measure(examples, held_out, one, ignored)
            advance("measuring", number, len(maps))
    groups = examples.crop_of[np.isin(examples.crop_of, held_out)]
    return Learned(layer, len(learning) + len(choosing), len(held_out), epochs, measured, groups)
