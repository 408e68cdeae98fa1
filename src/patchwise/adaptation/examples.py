"""What is learned from: the vectors of pictures' regions, and those of augmented crops of the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from patchwise.adaptation.crops import FINEST_SHARE, augmented_crops
from patchwise.encoders import Encoder
from patchwise.errors import ImageError, ImageUnreadable
from patchwise.images import read_picture
from patchwise.images.cut import shrink_factor
from patchwise.indexing.ahead import ahead, waiting_count
from patchwise.indexing.encode import encode_inputs, encode_picture
from patchwise.indexing.passes import Inputs, Passes, passes_of
from patchwise.indexing.prepare import read_and_hash
from patchwise.indexing.walk import FoundFile
from patchwise.regions import RegionStrategy, View

__all__ = ["CROPS", "Advance", "Examples", "Stored", "encode_examples"]

CROPS = 8  # per picture

_TOGETHER = 8  # pictures that are encoded at a time, if their inputs are not too large

Vectors = npt.NDArray[np.float32]
Advance = Callable[[str, int, int], None]
"""Told what is under way, how much of it is done, and how much there is."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Vectors of P pictures, as the encoder gives them.

    Picture i owns the rows `starts[i]` to `starts[i + 1]` of `regions` (R, D), the whole image first, and the rows of
    `crops` (C, D) where `crop_of` (C,) is i.
    """

    regions: Vectors
    starts: npt.NDArray[np.int64]
    crops: Vectors
    crop_of: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows_of(self, pictures: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of `regions` that belong to some pictures, picture by picture."""
        return np.concatenate([np.arange(self.starts[one], self.starts[one + 1]) for one in pictures])

    def only(self, pictures: npt.NDArray[np.int64]) -> Examples:
        """Some pictures (N,), rising; picture i of the result is `pictures[i]` here."""
        asked = np.isin(self.crop_of, pictures)
        starts = np.cumsum([0, *np.diff(self.starts)[pictures]], dtype=np.int64)
        of = np.searchsorted(pictures, self.crop_of[asked])
        return Examples(self.regions[self.rows_of(pictures)], starts, self.crops[asked], of)

    @classmethod
    def joined(cls, regions: Sequence[Vectors], crops: Sequence[Vectors]) -> Examples:
        """From the vectors of each picture."""
        return cls(
            np.concatenate(regions),
            np.cumsum([0, *map(len, regions)], dtype=np.int64),
            np.concatenate(crops),
            np.repeat(np.arange(len(crops)), list(map(len, crops))),
        )


@dataclass(frozen=True, eq=False)
class Stored:
    """Regions of a picture whose vectors are known: `boxes` (R, 4) xyxy in pixels, `vectors` (R, D).

    `holds` tells by the hash of a file's content whether it is still the picture that they belong to.
    """

    boxes: npt.NDArray[np.float32]
    vectors: Vectors
    holds: Callable[[bytes], bool]


@dataclass(frozen=True)
class _Looked:
    digest: bytes
    inputs: Inputs | None
    crops: npt.NDArray[np.uint8]


def encode_examples(
    encoder: Encoder,
    strategy: RegionStrategy,
    files: Sequence[FoundFile],
    *,
    seed: int,
    max_pixels: int,
    advance: Advance,
    stored: Mapping[str, Stored] | None = None,
) -> tuple[Examples, list[tuple[str, str]]]:
    """Encode the regions and the augmented crops of pictures, each file decoded once.

    Crops are encoded as queries are. A file with the very content of one before it is passed over.

    Args:
        encoder: what gives the vectors.
        strategy: where the regions are.
        files: the pictures.
        seed: decides the crops, together with a picture's content.
        max_pixels: larger pictures are refused.
        advance: told how many of the pictures are done.
        stored: by path, the regions of every file where their vectors are known; only crops are then encoded.

    Returns:
        The examples, and (path, reason) of every file that could not be read, or is not what is stored.
    """
    passes = passes_of(encoder)

    def look(file: FoundFile) -> _Looked | str:
        try:
            return _look(
                file, encoder, passes, strategy, seed, max_pixels, None if stored is None else stored[file.path]
            )
        except ImageError as error:
            return error.reason

    regions: list[Vectors] = []
    crops: list[Vectors] = []
    failed: list[tuple[str, str]] = []
    known: set[bytes] = set()
    done = 0
    bytes_each = CROPS * encoder.input_size**2 * 3 + (passes.input_bytes(strategy) if stored is None else 0)
    together = min(_TOGETHER, waiting_count(bytes_each) // 2)
    looked = ahead(look, files, bytes_each)
    while group := list(islice(looked, together)):
        fresh: list[_Looked] = []
        for number, found in enumerate(group, start=done):
            if isinstance(found, str):
                failed.append((files[number].path, found))
            elif found.digest not in known:
                known.add(found.digest)
                fresh.append(found)
                if stored is not None:
                    regions.append(stored[files[number].path].vectors)
        if fresh:
            cut = [one.inputs for one in fresh if one.inputs is not None]
            if cut:
                regions += _encoded(passes, cut)
            crops += np.split(encode_picture(encoder, np.concatenate([one.crops for one in fresh])), len(fresh))
        done += len(group)
        advance("encoding", done, len(files))
    if not regions:
        nothing = np.empty((0, encoder.dimension), dtype=np.float32)
        return Examples(nothing, np.zeros(1, np.int64), nothing, np.empty(0, np.int64)), failed
    return Examples.joined(regions, crops), failed


def _look(
    file: FoundFile,
    encoder: Encoder,
    passes: Passes,
    strategy: RegionStrategy,
    seed: int,
    max_pixels: int,
    stored: Stored | None,
) -> _Looked:
    def shrink(size: tuple[int, int]) -> float:
        of_crops = shrink_factor(FINEST_SHARE * min(size), encoder.input_size, encoder.fit)
        return min(of_crops, passes.shrink_factor(strategy, View(size, file.path)))

    with read_and_hash(file) as (source, digest):
        if stored is not None and not stored.holds(digest):
            raise ImageUnreadable(file.path, "changed since it was indexed")
        picture = read_picture(source, name=file.path, max_pixels=max_pixels, shrink=shrink)
    generator = np.random.default_rng([seed, int.from_bytes(digest, "big")])
    if stored is not None:
        return _Looked(digest, None, augmented_crops(picture, stored.boxes, CROPS, encoder, generator))
    regions = strategy.regions(View(picture.size, file.path, picture.pixels))
    crops = augmented_crops(picture, regions.boxes, CROPS, encoder, generator)
    return _Looked(digest, passes.cut(picture, regions), crops)


def _encoded(passes: Passes, pictures: Sequence[Inputs]) -> list[Vectors]:
    """The vectors of the regions of each picture, encoded in full batches across them."""
    vectors = encode_inputs(passes, Inputs.joined(pictures))
    counts = [sum(map(len, one.boxes_rel)) for one in pictures]
    return np.split(vectors, np.cumsum(counts)[:-1])
