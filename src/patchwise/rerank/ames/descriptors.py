"""Local descriptors for AMES: patch tokens of one pass over the whole image, the strongest by a learned attention.

Repository pavelsuma/ames, `extract/`: DINOv2 ViT-B/14 with registers, one scale, the longer side 770 pixels, both sides
rounded to whole patches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from patchwise.rerank.ames.checkpoints import load_checkpoint

__all__ = ["LONGER_SIDE", "PATCH", "Attention", "DescriptorSet", "extract", "load_attention"]

LONGER_SIDE, PATCH = 770, 14
_NO_LENGTH = 1e-15  # as published


class DescriptorSet(NamedTuple):
    """Local descriptors of an image, strongest first; a prefix is a smaller set.

    `features` is (N, D) float32, `places` (N, 2) float32 centres of the patches as x and y in [0, 1], `weights` (N,)
    float32.
    """

    features: npt.NDArray[np.float32]
    places: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


class Attention(nn.Module):
    """How much each token is worth: two 1x1 convolutions over the map of tokens."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        # The names of attributes are those of the published detectors.
        self.conv1 = nn.Conv2d(dimension, dimension, 1)
        self.bn = nn.BatchNorm2d(dimension)
        self.conv2 = nn.Conv2d(dimension, 1, 1)

    @property
    def dimension(self) -> int:
        """Length of a token."""
        return self.conv1.in_channels

    @cached_property
    def sha256(self) -> str:
        """Hex digest of its numbers."""
        digest = hashlib.sha256()
        for name, numbers in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(numbers.cpu().numpy().tobytes())
        return digest.hexdigest()

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, D, rows, columns) tokens to descriptors of unit length, alike, and (1, 1, rows, columns) weights."""
        found = self.bn(self.conv1(tokens))
        weights = functional.softplus(self.conv2(functional.relu(found)))
        return functional.normalize(found, dim=1, eps=_NO_LENGTH), weights


def load_attention(path: Path) -> Attention:
    """Read a published detector.

    Raises:
        EncoderError: the file is missing, or no detector of AMES.
    """
    return load_checkpoint(path, "detector", lambda state: Attention(state["conv1.weight"].shape[0]))


def extract(
    picture: Image.Image,
    tokens: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    attention: Attention | None,
    count: int,
    *,
    patch: int = PATCH,
    longer_side: int = LONGER_SIDE,
) -> DescriptorSet:
    """The `count` strongest local descriptors of an RGB picture, or all where it has fewer.

    Args:
        picture: upright, as it is.
        tokens: (height, width, 3) uint8 RGB, whole patches, to (rows, columns, D); `patch_tokens` of a torch encoder.
        attention: what a token is worth; without it, its length, and the token stays as it is.
        count: how many.
        patch: side of a patch of the network, in pixels.
        longer_side: that a picture is brought to, in pixels.
    """
    pixels = np.array(picture.resize(*_whole_patches(picture.size, patch, longer_side)))
    with torch.inference_mode():
        field = torch.from_numpy(tokens(pixels)).permute(2, 0, 1)[None]
        if attention is not None:
            field = field.to(attention.conv1.weight.device)
        features, weights = (field, field.norm(dim=1, keepdim=True)) if attention is None else attention(field)
        strongest = torch.topk(weights.flatten(), min(count, weights.numel()))
        rows, columns = field.shape[2:]
        chosen = features[0].flatten(1).T[strongest.indices].cpu()
    index = strongest.indices.cpu().numpy()
    places = np.stack([(index % columns + 0.5) / columns, (index // columns + 0.5) / rows], axis=1)
    return DescriptorSet(chosen.numpy(), places.astype(np.float32), strongest.values.cpu().numpy())


def _whole_patches(size: tuple[int, int], patch: int, longer_side: int) -> tuple[tuple[int, int], Image.Resampling]:
    """The size in pixels that a picture is brought to, and how: each side a whole number of patches."""
    scale = longer_side / max(size)
    wanted = [max(round(scale * side / patch), 1) * patch for side in size]
    shrinks = any(new < old for new, old in zip(wanted, size, strict=True))
    return (wanted[0], wanted[1]), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
