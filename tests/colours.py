"""An encoder that reads texts: colour words lie where regions of that colour lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from conftest import FakeEncoder
from patchwise.encoders import EncoderSpec

COLOURS = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "orange": (255, 128, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}


class ColourEncoder(FakeEncoder):
    """A text is encoded as a region half of which has the first colour it names, and half the last."""

    id = "colours"

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        named = [[word for word in text.split() if word in COLOURS] for text in texts]
        halves = [np.array([COLOURS[words[0]]] * 8 + [COLOURS[words[-1]]] * 8, dtype=np.uint8) for words in named]
        return self.encode(np.stack([np.broadcast_to(half, (16, 16, 3)) for half in halves]))


def load(spec: EncoderSpec) -> ColourEncoder:
    return ColourEncoder()


def quarters(*colours: str) -> Image.Image:
    """A picture of 96 x 64 with a colour in each quarter: top left, top right, bottom left, bottom right."""
    picture = Image.new("RGB", (96, 64))
    for place, colour in enumerate(colours):
        x, y = place % 2 * 48, place // 2 * 32
        picture.paste(COLOURS[colour], (x, y, x + 48, y + 32))
    return picture
