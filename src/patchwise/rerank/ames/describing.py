"""Local descriptors of the pictures of a search: from the network, kept from earlier searches, or from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.errors import EncoderError, ImageError
from patchwise.images import Picture
from patchwise.indexing.ahead import ahead
from patchwise.rerank.ames.descriptors import LONGER_SIDE, Attention, DescriptorSet, extract
from patchwise.rerank.ames.files import DescriptorFile
from patchwise.rerank.base import Arrays, Setting
from patchwise.search import Hit

__all__ = ["Describer", "HitDescriptors", "TokenEncoder"]

_VERSION = 1  # of how descriptors are computed; others that are kept are not used
_READERS = 4  # pictures in memory
_BYTES_EACH = 2**20  # of the descriptors of an image, or less
_patch_sides: WeakKeyDictionary[TokenEncoder, int] = WeakKeyDictionary()


@runtime_checkable
class TokenEncoder(Protocol):
    """An encoder whose network gives a token for each patch of a picture of any shape."""

    @property
    def id(self) -> str:
        """The name that `load_encoder` reads."""
        ...

    @property
    def input_size(self) -> int:
        """Side of a square input that it takes, in pixels."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Hex digest over everything learned that decides the tokens."""
        ...

    def patch_tokens(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(height, width, 3) uint8 RGB, whole patches, to (rows, columns, D)."""
        ...


class Describer:
    """What looks at a picture: a backbone, and the attention that says which of its tokens count.

    Args:
        backbone: DINOv2 ViT-B/14 with registers, for the published checkpoints.
        attention: None for tokens as they are, the longest first.
        longer_side: that a picture is brought to, in pixels.

    Raises:
        EncoderError: the two do not fit, or the backbone does not take pictures that are not square.
    """

    def __init__(self, backbone: TokenEncoder, attention: Attention | None, *, longer_side: int = LONGER_SIDE) -> None:
        self._backbone, self._attention, self._longer_side = backbone, attention, longer_side
        self._patch, self.dimension = _tried(backbone)
        if attention is not None and attention.dimension != self.dimension:
            raise EncoderError(
                f"rerank ames: the detector is for descriptors of {attention.dimension} numbers, and the network "
                f"{backbone.id} gives {self.dimension}: they do not belong together"
            )

    def describe(self, picture: Image.Image, count: int) -> DescriptorSet:
        """The `count` strongest descriptors of an RGB picture."""
        return extract(
            picture,
            self._backbone.patch_tokens,
            self._attention,
            count,
            patch=self._patch,
            longer_side=self._longer_side,
        )

    def name(self, count: int) -> str:
        """All that decides `count` descriptors of a picture, in words without spaces in them."""
        attention = "none" if self._attention is None else self._attention.sha256
        backbone = self._backbone
        return (
            f"ames-{_VERSION} backbone={backbone.id} weights={backbone.weights_sha256} attention={attention} "
            f"longer_side={self._longer_side} descriptors={count}"
        )


class HitDescriptors:
    """Descriptors of hits: those of a file, those of earlier searches, or else computed and kept in half precision.

    Args:
        setting: gives pictures, and keeps what was computed of them; `remembered` is called from several threads.
        describer: looks at pictures.
        count: how many descriptors an image has at most.
        file: descriptors that are there already.
    """

    def __init__(self, setting: Setting, describer: Describer, count: int, file: DescriptorFile | None = None) -> None:
        self._setting, self._describer, self._count, self._file = setting, describer, count, file
        self._name = describer.name(count)

    def __call__(self, hits: Sequence[Hit]) -> Iterator[DescriptorSet | None]:
        """Those of each hit in order; None where its picture is gone. A few pictures are read ahead.

        Raises:
            EncoderError: there is a file, and it knows none of the hits.
        """
        if self._file is not None and hits and not any(hit.path in self._file for hit in hits):
            raise EncoderError(
                f"{self._file.path}: lists none of {len(hits)} hits, such as {hits[0].path}, but names such as "
                f'{self._file.example}; "root" in the settings is the folder that names begin in'
            )
        return ahead(self._of_hit, hits, _BYTES_EACH, _READERS)

    def _of_hit(self, hit: Hit) -> DescriptorSet | None:
        if self._file is not None and hit.path in self._file:
            return self._file.read(hit.path, self._count)
        try:
            kept = self._setting.remembered(hit, self._name, self._computed)
        except ImageError:  # gone or changed since it was indexed
            return None
        return DescriptorSet(*(np.asarray(kept[field], dtype=np.float32) for field in DescriptorSet._fields))

    def _computed(self, picture: Picture) -> Arrays:
        found = self._describer.describe(picture.pixels, self._count)
        return {field: getattr(found, field).astype(np.float16) for field in DescriptorSet._fields}


def _tried(backbone: TokenEncoder) -> tuple[int, int]:
    """Side of a patch in pixels, and the length of a token: of blank pictures, one of them not square."""
    side = _patch_sides.get(backbone)
    if side is None:
        square = backbone.patch_tokens(np.zeros((backbone.input_size, backbone.input_size, 3), dtype=np.uint8))
        side = backbone.input_size // square.shape[0]
        _patch_sides[backbone] = side
    try:
        tokens = backbone.patch_tokens(np.zeros((2 * side, 3 * side, 3), dtype=np.uint8))
    except EncoderError as error:
        raise EncoderError(
            f"rerank ames: the network {backbone.id} does not take pictures that are not square ({error}); those that "
            "the transformers library saves do: hf:FOLDER"
        ) from error
    if tokens.shape[:2] != (2, 3):
        raise EncoderError(f"rerank ames: the network {backbone.id} gives no token for each patch of {side} pixels")
    return side, tokens.shape[2]
