"""One pass per image: the patch tokens of the whole picture, averaged over each region."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.torch_runtime import Network, TorchEncoder
from patchwise.errors import EncoderError

__all__ = ["TorchDenseEncoder", "covered_shares"]

_PICTURE_OVER_INPUT = 2  # sides: tokens enough for small regions, at several times the speed (docs/dense.md)


class TorchDenseEncoder(TorchEncoder):
    """A torch network that sees a picture of the gallery once, stretched to `picture_size`, and its queries at `size`.

    The vector of a region is the mean of the tokens whose patches it covers, weighted by the covered share of each
    patch; that of a query is the mean of all its tokens.

    Raises:
        EncoderError: the network has no patch tokens, or an option does not go with one pass per image.
    """

    def __init__(self, spec: EncoderSpec, network: Network, preprocessing: Preprocessing, weights_sha256: str) -> None:
        tokens = network.tokens
        if tokens is None:
            raise EncoderError(f"encoder {spec}: its network has no patch tokens, which encode=dense needs")
        if preprocessing.fit.kind != "square":
            raise EncoderError(f"encoder {spec}: encode=dense stretches pictures to a square; leave fit out")
        if spec.options.pooling not in (None, "mean"):
            raise EncoderError(f"encoder {spec}: encode=dense takes the mean of tokens; leave pooling out")
        self._tokens = tokens
        whole = replace(network, features=lambda pixels: tokens(pixels).float().mean((1, 2)))
        # The same weights give other vectors here, and nothing fits them that was learned for those of regions.
        super().__init__(spec, whole, preprocessing, hashlib.sha256(f"dense {weights_sha256}".encode()).hexdigest())
        self.picture_size: int = spec.options.picture_size or _PICTURE_OVER_INPUT * preprocessing.size
        self.id = str(replace(spec, options=replace(spec.options, picture_size=self.picture_size)))
        everything = np.array([[0, 0, 1, 1]], dtype=np.float32)
        self._try_out(lambda picture: self._pooled(picture, [everything])[0], self.picture_size)

    @cached_property
    def picture_batch_size(self) -> int:
        """As many images as the memory of the device takes; later halved where that was too many."""
        return self._fitting(self.picture_size)

    def encode_regions(
        self, pictures: npt.NDArray[np.uint8], boxes_rel: Sequence[npt.NDArray[np.float32]]
    ) -> list[npt.NDArray[np.float32]]:
        found, self.picture_batch_size = self._in_batches(
            lambda part: self._pooled(pictures[part], boxes_rel[part]), len(pictures), self.picture_batch_size, "image"
        )
        return [vectors for batch in found for vectors in batch]

    def _pooled(
        self, pictures: npt.NDArray[np.uint8], boxes_rel: Sequence[npt.NDArray[np.float32]]
    ) -> list[npt.NDArray[np.float32]]:
        import torch

        with torch.inference_mode():
            tokens = self._tokens(self.normalised(pictures))
            rows, columns = tokens.shape[1:3]
            shares = np.concatenate([covered_shares(boxes, rows, columns, self.picture_size) for boxes in boxes_rel])
            weights = torch.from_numpy(shares.reshape(len(shares), -1)).to(self.device)
            ends = np.cumsum([len(boxes) for boxes in boxes_rel])
            parts = [slice(end - len(boxes), end) for end, boxes in zip(ends, boxes_rel, strict=True)]
            means = [weights[part] @ each.flatten(0, 1).float() for part, each in zip(parts, tokens, strict=True)]
            found = torch.nn.functional.normalize(torch.cat(means), dim=-1).cpu().numpy()
            return [found[part] for part in parts]


def covered_shares(boxes_rel: npt.NDArray[np.floating], rows: int, columns: int, side: int) -> npt.NDArray[np.float32]:
    """How much each patch counts for each box.

    Args:
        boxes_rel: (R, 4) xyxy in [0, 1] of a picture of `side` x `side` pixels.
        rows, columns: of the patches; where they do not divide `side`, they begin at the top left and leave a strip.
        side: in pixels.

    Returns:
        (R, rows, columns) float32, the shares of each patch that a box covers, divided by their sum. A box in the strip
        counts for the patch nearest to it.
    """
    boxes = np.asarray(boxes_rel, dtype=np.float64)
    across = _shares(boxes[:, 0], boxes[:, 2], columns, side)
    down = _shares(boxes[:, 1], boxes[:, 3], rows, side)
    return (down[:, :, None] * across[:, None, :]).astype(np.float32)


def _shares(
    start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], count: int, side: int
) -> npt.NDArray[np.float64]:
    """The same along one axis: (R, count)."""
    patches = side / max(side // count, 1)  # the side in patches, the strip beyond the last of them included
    edges = np.arange(count)
    start, end = start[:, None] * patches, end[:, None] * patches
    covered = np.clip(np.minimum(end, edges + 1) - np.maximum(start, edges), 0, None)
    beyond = covered.sum(axis=1) <= 0
    covered[beyond, np.minimum(start[beyond, 0].astype(int), count - 1)] = 1
    shares: npt.NDArray[np.float64] = covered / covered.sum(axis=1, keepdims=True)
    return shares
