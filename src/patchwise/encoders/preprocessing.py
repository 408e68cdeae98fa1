"""How pixels become the input of a network, as its own metadata says, and as asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from patchwise.encoders.spec import EncoderOptions
from patchwise.images import SQUARE, Fit

__all__ = ["Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """`(pixels * rescale - mean) / std` of a square picture of `size` pixels.

    `short_side` is what the model's own transform resizes the shorter side to before it cuts out the middle, and
    `to_even` where that middle lies (see `patchwise.images.Fit`).
    """

    size: int
    resampling: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    rescale: float = 1 / 255
    short_side: int = 0
    to_even: bool = False
    fit: Fit = SQUARE

    def asked(self, options: EncoderOptions) -> Preprocessing:
        """The same with what the options ask for; a region is stretched to a square unless they say otherwise."""
        size = options.size or self.size
        short_side = (self.short_side or self.size) * size // self.size
        fill = tuple(max(0, min(round(part / self.rescale), 255)) for part in self.mean)
        fits = {
            "square": SQUARE,
            "pad": Fit("pad", fill=(fill[0], fill[1], fill[2])),
            "crop": Fit("crop", short_side=short_side, to_even=self.to_even),
        }
        return replace(
            self,
            size=size,
            resampling=options.resampling or self.resampling,
            short_side=short_side,
            fit=fits[options.fit or "square"],
        )

    def digest(self) -> bytes:
        """What of this decides a vector and stands nowhere else in the record of an encoder."""
        return json.dumps([self.mean, self.std, self.rescale]).encode()
