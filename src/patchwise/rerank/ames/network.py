"""The matching network of AMES: two sets of local descriptors in, one number out.

Suma et al., "AMES: Asymmetric and Memory-Efficient Similarity Estimation for Instance-level Retrieval", ECCV 2024;
repository pavelsuma/ames, whose checkpoints it loads as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from patchwise.rerank.ames.checkpoints import load_checkpoint

__all__ = ["Matcher", "MatcherShape", "load_matcher"]


@dataclass(frozen=True)
class MatcherShape:
    """Sizes of a network: of descriptors, of tokens, and of the layers that these go through."""

    descriptor: int = 768
    width: int = 128
    layers: int = 5
    heads: int = 2
    feed_forward: int = 1_024
    binary: bool = False


class Matcher(nn.Module):
    """A transformer over one matching token, the query's tokens and the image's; the token becomes a logit.

    Tokens of one image look at each other, then at those of the other image; the matching token takes part in both.
    With `binary`, a descriptor is first reduced to the signs of a learned projection.
    """

    def __init__(self, shape: MatcherShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or MatcherShape()
        # The names of attributes are those of the published checkpoints.
        self.mtc_token = nn.Parameter(torch.zeros(shape.width))
        norm = nn.LayerNorm(shape.width)
        if shape.binary:
            signs = _Signs(shape.descriptor, shape.width)
            self.remap_local = nn.Sequential(signs, nn.Linear(shape.width, shape.width), norm)
        else:
            self.remap_local = nn.Sequential(nn.Linear(shape.descriptor, shape.width), norm)
        self.decoder = _Layers(shape)
        self.classifier = nn.Linear(shape.width, 1)

    def tokens(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(..., descriptor) to (..., width): what may be kept of an image instead of its descriptors."""
        tokens: torch.Tensor = self.remap_local(functional.normalize(descriptors, dim=-1))
        return tokens

    def forward(
        self, query: torch.Tensor, query_padding: torch.Tensor, image: torch.Tensor, image_padding: torch.Tensor
    ) -> torch.Tensor:
        """Logits of pairs.

        Args:
            query: (B, Q, descriptor) float32.
            query_padding: (B, Q) bool, where there is no descriptor.
            image: (B, T, descriptor) float32.
            image_padding: (B, T) bool.

        Returns:
            (B,) float32, higher where both show the same.
        """
        return self.match(self.tokens(query), query_padding, self.tokens(image), image_padding)

    def match(
        self, query: torch.Tensor, query_padding: torch.Tensor, image: torch.Tensor, image_padding: torch.Tensor
    ) -> torch.Tensor:
        """The same for (B, Q, width) and (B, T, width) tokens, as `tokens` gives them."""
        if not self.shape.binary:
            image = image.half().float()  # as published: tokens of the gallery are kept in half precision
        pairs, asked = query.shape[:2]
        tokens = torch.cat([self.mtc_token.expand(pairs, 1, -1), query, image], dim=1)
        nobody = query_padding.new_zeros((pairs, 1), dtype=torch.bool)
        padding = torch.cat([nobody, query_padding.bool(), image_padding.bool()], dim=1)
        token = self.decoder(tokens, asked, padding if padding.any() else None)
        logits: torch.Tensor = self.classifier(token).flatten()
        return logits


class _Signs(nn.Module):
    """Signs of a projection: one bit for each of `width` numbers."""

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(dimension, width))

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        return torch.sign(functional.normalize(descriptors, dim=-1) @ self.W)


class _Layers(nn.Module):
    def __init__(self, shape: MatcherShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))

    def forward(self, tokens: torch.Tensor, asked: int, padding: torch.Tensor | None) -> torch.Tensor:
        """The matching token, (B, width), of (B, 1 + Q + T, width) of which `asked` = Q are the query's."""
        for number, layer in enumerate(self.layers, 1):
            tokens = layer(tokens, asked, padding, only_matching=number == len(self.layers))
        return tokens[:, 0]


class _Layer(nn.Module):
    def __init__(self, shape: MatcherShape) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(shape.width, shape.heads, batch_first=True)
        self.cross_attn = nn.MultiheadAttention(shape.width, shape.heads, batch_first=True)
        self.linear1 = nn.Linear(shape.width, shape.feed_forward)
        self.linear2 = nn.Linear(shape.feed_forward, shape.width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(shape.width) for _ in range(3))

    def forward(
        self, tokens: torch.Tensor, asked: int, padding: torch.Tensor | None, *, only_matching: bool
    ) -> torch.Tensor:
        tokens = self.norm1(tokens + _attended(self.self_attn, tokens, asked, padding, across=False))
        seen = _attended(self.cross_attn, tokens, asked, padding, across=True, only_matching=only_matching)
        tokens = self.norm2(tokens[:, : seen.shape[1]] + seen)
        after: torch.Tensor = self.norm3(tokens + self.linear2(functional.relu(self.linear1(tokens))))
        return after


def _attended(
    attention: nn.MultiheadAttention,
    tokens: torch.Tensor,
    asked: int,
    padding: torch.Tensor | None,
    *,
    across: bool,
    only_matching: bool = False,
) -> torch.Tensor:
    """What tokens see: those of an image itself, or `across` those of the other, and always the matching one.

    The same as one attention over all with a mask, which would work out what is masked as well. The matching token sees
    all; with `only_matching` nothing is worked out for the others.
    """
    projected = functional.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    apart = projected.reshape(*projected.shape[:2], 3, attention.num_heads, -1)
    looking, *shown = apart.permute(2, 0, 3, 1, 4)  # each (B, heads, tokens, width / heads)
    visible = [] if padding is None else [~padding[:, None, None]]

    def of(rows: slice, *columns: slice) -> torch.Tensor:
        keys, values = (torch.cat([part[:, :, some] for some in columns], dim=2) for part in shown)
        mask = torch.cat([part[..., some] for part in visible for some in columns], dim=3) if visible else None
        return functional.scaled_dot_product_attention(looking[:, :, rows], keys, values, attn_mask=mask)

    matching, query, image = slice(0, 1), slice(1, asked + 1), slice(asked + 1, None)
    seen = [of(matching, slice(None))]
    if not only_matching:
        seen += [of(query, matching, image if across else query), of(image, matching, query if across else image)]
    found: torch.Tensor = attention.out_proj(torch.cat(seen, dim=2).transpose(1, 2).flatten(2))
    return found


def load_matcher(path: Path) -> Matcher:
    """Read a published checkpoint; its sizes are those of its tensors, and nothing may be missing or left over.

    Raises:
        EncoderError: the file is missing, or no checkpoint of AMES.
    """
    return load_checkpoint(path, "checkpoint", lambda state: Matcher(_shape_of(state)))


def _shape_of(state: Mapping[str, torch.Tensor]) -> MatcherShape:
    """What a checkpoint does not say: the number of heads, which is 2 in all that are published."""
    binary = "remap_local.0.W" in state
    first = state["remap_local.0.W"].T if binary else state["remap_local.0.weight"]
    layers = {int(name.split(".")[2]) for name in state if name.startswith("decoder.layers.")}
    return MatcherShape(
        descriptor=first.shape[1],
        width=first.shape[0],
        layers=len(layers),
        feed_forward=state["decoder.layers.0.linear1.weight"].shape[0],
        binary=binary,
    )
