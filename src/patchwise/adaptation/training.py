"""Learning the linear layer: a crop's own picture shall score above the others, in the score that is searched by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from patchwise.adaptation.examples import Advance, Examples, Vectors
from patchwise.adaptation.measure import measure
from patchwise.encoders import LinearAdaptation, Whitening
from patchwise.encoders.whitening import normalised
from patchwise.errors import MissingExtra

if TYPE_CHECKING:
    import torch

__all__ = ["Trained", "require_torch", "train_layer"]

# Scale, batch and learning rate are those of the ILIAS authors; the rest was chosen
# by crops of held-out pictures of the sets in benchmarks/adaptation.py.
SCALE = 16.0
BATCH = 128
LEARNING_RATE = 1e-3
PULL = 1e-2  # towards the start, times the squared distance
EPOCHS = 10
PATIENCE = 3


@dataclass(frozen=True, eq=False)
class Trained:
    """A layer, and the mean average precision on the choosing pictures before the first epoch and after each."""

    layer: LinearAdaptation
    epochs: int
    history: list[float]


def require_torch() -> None:
    """Ask for torch before anything is encoded.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("learning a linear layer (--method whitening does without)", "torch") from error


def train_layer(
    examples: Examples,
    start: Whitening,
    choosing: npt.NDArray[np.int64],
    ignored: npt.NDArray[np.bool_],
    *,
    seed: int,
    advance: Advance,
) -> Trained:
    """Learn `l2(W x + b)`, beginning with what `start` does and pulled towards it.

    Every picture is a class, and softmax cross-entropy with scale 16 tells a batch of crops to which of the pictures in
    it they belong, as in the linear adaptation of ILIAS. A class is not represented by a learned vector there, though,
    but by the picture's own regions: its logit is the largest cosine of a region with the crop. So parts of a picture
    that have nothing in common are not pulled together, and what is learned is the score that a gallery is searched by.
    The epoch that finds the crops of `choosing` best is kept, the start itself among them.

    Args:
        examples: all pictures.
        start: the map to begin with, (D) to (dimension).
        choosing: (H,) the pictures that decide when to stop; all others are learned from.
        ignored: (P, P) pictures that are not told apart.
        seed: decides the order of the crops.
        advance: told how many epochs are done.
    """
    import torch

    seen, length = _started(examples, start)
    weight = torch.eye(start.dimension, requires_grad=True)
    bias = torch.zeros(start.dimension, requires_grad=True)
    identity = torch.eye(start.dimension)
    optimiser = torch.optim.Adam([weight, bias], lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    batches = _Batches(torch.from_numpy(seen.regions), torch.from_numpy(seen.crops), seen, ignored)
    crops = torch.from_numpy(np.flatnonzero(~np.isin(seen.crop_of, choosing)))

    def now() -> tuple[Vectors, Vectors]:
        return weight.detach().numpy().copy(), bias.detach().numpy().copy()

    def judged(matrix: Vectors, offset: Vectors) -> float:
        found = measure(seen, choosing, lambda vectors: normalised(vectors @ matrix.T + offset), ignored)
        return float(found.average_precision.mean())

    kept, best = now(), 0
    history = [judged(*kept)]
    for epoch in range(1, EPOCHS + 1):
        order = crops[torch.randperm(len(crops), generator=generator)]
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            loss = batches.loss(batch, weight, bias) + PULL * ((weight - identity) ** 2).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        history.append(judged(*now()))
        if history[-1] > history[best]:
            kept, best = now(), epoch
        advance("learning", epoch, EPOCHS)
        if epoch - best >= PATIENCE:
            break
    return Trained(_folded(start, *kept, length), best, history)


def _started(examples: Examples, start: Whitening) -> tuple[Examples, float]:
    """All vectors mapped as at the start, regions to unit length on average, and what they were divided by.

    Not to unit length each: that would stand between two linear maps that shall become one.
    """
    regions, crops = ((one - start.mean) @ start.projection for one in (examples.regions, examples.crops))
    length = np.float32(np.linalg.norm(regions, axis=1).mean())
    return replace(examples, regions=regions / length, crops=crops / length), float(length)


def _folded(start: Whitening, matrix: Vectors, offset: Vectors, length: float) -> LinearAdaptation:
    """`matrix @ start(x) / length + offset` as one layer, worked out in double precision."""
    weight = matrix.astype(np.float64) @ start.projection.T.astype(np.float64) / length
    bias = offset - weight @ start.mean.astype(np.float64)
    return LinearAdaptation(weight.astype(np.float32), bias.astype(np.float32))


@dataclass(frozen=True, eq=False)
class _Batches:
    regions: torch.Tensor
    crops: torch.Tensor
    examples: Examples
    ignored: npt.NDArray[np.bool_]

    def loss(self, batch: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of crops (B,) against the pictures that they come from."""
        import torch
        from torch.nn.functional import cross_entropy, normalize

        pictures, target = np.unique(self.examples.crop_of[batch.numpy()], return_inverse=True)
        rows = torch.from_numpy(self.examples.rows_of(pictures))
        counts = torch.from_numpy(np.diff(self.examples.starts)[pictures])
        picture_of = torch.repeat_interleave(torch.arange(len(pictures)), counts)
        asked = normalize(self.crops[batch] @ weight.T + bias, dim=1)
        searched = normalize(self.regions[rows] @ weight.T + bias, dim=1)
        scores = torch.full((len(batch), len(pictures)), -1.0).scatter_reduce(
            1, picture_of.expand(len(batch), -1), asked @ searched.T, "amax", include_self=False
        )
        left_out = torch.from_numpy(self.ignored[np.ix_(pictures[target], pictures)])
        return cross_entropy((SCALE * scores).masked_fill(left_out, -torch.inf), torch.from_numpy(target))
