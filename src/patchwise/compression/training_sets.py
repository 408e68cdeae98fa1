"""Which regions codebooks are learned from: at random, or those that promise to say more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from patchwise.encoders import ActivationEncoder, Encoder, activation_source
from patchwise.errors import EncoderError, GalleryError, ImageError, UsageError
from patchwise.images import DEFAULT_MAX_PIXELS, cut_regions, read_picture
from patchwise.images.cut import shrink_factor
from patchwise.indexing import EncodedQuery, QueryPart, encode_queries
from patchwise.indexing.ahead import ahead
from patchwise.indexing.query_files import read_queries
from patchwise.store import Snapshot

__all__ = [
    "FEWEST",
    "SHARE",
    "TRAINING_SETS",
    "TrainingSet",
    "activations",
    "own_distances",
    "parse_training_set",
    "telling_rows",
    "training_vectors",
]

TRAINING_SETS: Mapping[str, str] = MappingProxyType(
    {
        "random": "regions at random, of all images",
        "whole": "whole images only",
        "distinct": "the half of each image's regions that are least like the image as a whole",
        "salient": "the half of each image's regions that excite the encoder most; encodes a sample again",
        "queries:FILE": "pictures that were searched with, in a CSV file as search --queries reads it",
    }
)

FEWEST = 1_024  # vectors: 64 for each of the centres of a 4-bit codebook
SHARE = 0.5  # of the regions of an image that `distinct` and `salient` take: the sample is of many images
_READ_AT_ONCE = 65_536  # rows
_QUERIES_AT_ONCE = 64
_PICTURES_AT_ONCE = 8
_LEVEL = 1e-4  # activations whose relative spread is smaller say nothing

Advance = Callable[[str, int, int], None]
Rows = npt.NDArray[np.int64]
Weights = Iterable[tuple[int, npt.NDArray[np.floating]]]


@dataclass(frozen=True)
class TrainingSet:
    """A training set by its name: `kind` is the word in front of the colon, `file` that of `queries`."""

    kind: str
    file: Path | None = None

    def __str__(self) -> str:
        return self.kind if self.file is None else f"{self.kind}:{self.file}"

    @property
    def needs_encoder(self) -> bool:
        """Whether pictures are encoded for it; the others only read what is stored."""
        return self.kind in ("salient", "queries")


def parse_training_set(name: str) -> TrainingSet:
    """Read the name of a training set: one of `TRAINING_SETS`, with a file in place of FILE.

    Raises:
        UsageError: not one of them, or a file is missing or too much.
    """
    kind, colon, file = name.strip().partition(":")
    known = {one.partition(":")[0]: ":" in one for one in TRAINING_SETS}
    if kind not in known or known[kind] != bool(file) or bool(colon) != bool(file):
        raise UsageError(f"training set {name!r}: expected {', '.join(TRAINING_SETS)}")
    return TrainingSet(kind, Path(file) if file else None)


def training_vectors(
    name: str | TrainingSet,
    snapshot: Snapshot,
    *,
    count: int,
    fewest: int = FEWEST,
    seed: int = 0,
    held_out: npt.NDArray[np.bool_] | None = None,
    encoder: Callable[[], Encoder] | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Advance = lambda _what, _done, _total: None,
    tell: Callable[[str], None] = lambda _: None,
) -> npt.NDArray[np.float32]:
    """Vectors to learn codebooks from; only those that are taken are read, in the order in which they are stored.

    `random`, `whole` and `distinct` look at stored vectors alone. `salient` decodes and encodes pictures again until
    it has enough, because the strength that it goes by is not stored; those whose files are gone, or have another size
    now, are passed over. What that strength means for an encoder is said at its `activations`. The vectors themselves
    are always the stored ones. `queries` encodes what a CSV file asks with: every picture in it that is wanted, each
    by itself; texts are left out, because their vectors lie apart from those of regions.

    Args:
        name: one of `TRAINING_SETS`.
        snapshot: where from.
        count: how many vectors at most; there are fewer where there are no more of the kind.
        fewest: up to so many, a set that has fewer is filled up with other regions at random, and `tell` is told. A
            codebook of few centres needs few examples; 8-bit ones (256 centres) want some 10,000.
        seed: the same seed, pictures and encoder give the same vectors.
        held_out: (pictures,) bool, pictures of which nothing is taken; queries with them are left out.
        encoder: gives the gallery's encoder, for `salient` and `queries`.
        max_pixels: larger pictures are passed over.
        progress: told what is under way, how much of it is done, and how much there is at most.
        tell: told what the caller should know of the result, in a sentence.

    Returns:
        (N, dimension) float32 of unit length, N at most `count`, what is filled up behind the others.

    Raises:
        UsageError: not a training set, no count, a mask of another size, no encoder where one is needed, or a CSV file
            that cannot be read or holds no picture that can be used.
        EncoderError: the encoder tells no activations, or the same for every region.
        GalleryError: for `salient`, no picture's file is where it was.
    """
    asked = parse_training_set(name) if isinstance(name, str) else name
    taken = np.ones(len(snapshot), dtype=bool) if held_out is None else ~np.asarray(held_out, dtype=bool)
    if count < 1 or taken.shape != (len(snapshot),):
        raise UsageError(f"training vectors: count {count} and a mask of {taken.shape} for {len(snapshot)} pictures")
    if asked.needs_encoder and encoder is None:
        raise UsageError(f"training set {asked}: needs the encoder of the gallery")
    taken &= np.diff(snapshot.starts) > 0
    generator = np.random.default_rng(seed)
    queries = np.empty((0, snapshot.dimension), dtype=np.float32)
    rows = np.empty(0, dtype=np.int64)
    if asked.kind == "random":
        rows = _random_rows(snapshot, taken, count, generator)
    elif asked.kind == "whole":
        firsts = snapshot.starts[:-1][taken]
        rows = np.sort(generator.choice(firsts, min(count, len(firsts)), replace=False))
    elif asked.kind == "distinct":
        rows = telling_rows(snapshot, lambda pictures: own_distances(snapshot, pictures), count, generator, taken)
    elif asked.kind == "salient" and encoder is not None:
        rows = _salient_rows(snapshot, encoder(), count, generator, taken, max_pixels, progress)
    elif encoder is not None:
        queries = _query_vectors(asked, encoder(), snapshot, taken, count, generator, max_pixels, progress, tell)
    found = len(queries) + len(rows)
    missing = max(min(count, fewest) - found, 0)
    others = np.setdiff1d(_random_rows(snapshot, taken, missing + len(rows), generator), rows) if missing else rows[:0]
    more = np.sort(generator.permutation(others)[:missing])
    if len(more):
        tell(f"training set {asked}: has {found:,} vectors, filled up with {len(more):,} random regions")
    return np.concatenate([queries, _read(snapshot, rows), _read(snapshot, more)])


def telling_rows(
    snapshot: Snapshot,
    weigh: Callable[[Sequence[int]], Weights],
    count: int,
    generator: np.random.Generator,
    taken: npt.NDArray[np.bool_] | None = None,
) -> Rows:
    """The `SHARE` of the regions of each picture that weigh most, of random pictures until there are enough.

    Args:
        snapshot: what the pictures and rows are of.
        weigh: for rising pictures, each one that can be weighed with (regions,) numbers; of equal ones the first win.
        count: how many rows at most.
        generator: decides which pictures, and which rows of the last ones are too many.
        taken: (pictures,) bool, which may be looked at (default: all).

    Returns:
        (N,) int64 live rows, rising.
    """
    sizes = np.maximum((np.diff(snapshot.starts) * SHARE).astype(np.int64), 1)
    waiting = generator.permutation(len(snapshot) if taken is None else np.flatnonzero(taken))
    rows: list[Rows] = []
    missing = count
    while missing > 0 and len(waiting):
        enough = int(np.searchsorted(np.cumsum(sizes[waiting]), missing)) + 1
        pictures, waiting = np.sort(waiting[:enough]), waiting[enough:]
        for picture, weights in weigh(pictures.tolist()):
            best = np.argsort(-weights, kind="stable")[: sizes[picture]]
            rows.append(snapshot.starts[picture] + best)
            missing -= len(best)
    if not rows:
        return np.empty(0, dtype=np.int64)
    found = np.concatenate(rows)
    return np.sort(generator.choice(found, min(count, len(found)), replace=False))


def own_distances(snapshot: Snapshot, pictures: Sequence[int]) -> Weights:
    """How little each region is like its own picture as a whole: minus their cosine, (regions,) for each picture.

    The first region of a picture is always the whole of it.
    """
    for picture in pictures:
        vectors = snapshot.vectors(picture).astype(np.float32)
        yield picture, -(vectors @ vectors[0])


def activations(
    snapshot: Snapshot,
    pictures: Sequence[int],
    encoder: ActivationEncoder,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Weights:
    """How much each region excites the encoder, (regions,) for each picture whose file is still there.

    Regions are cut by their stored boxes, each by itself whatever way the encoder looks at images of the gallery.
    """
    files: dict[int, list[str]] = {}
    for path, picture in sorted(snapshot.paths(pictures)):
        files.setdefault(picture, []).append(path)

    def cut(picture: int) -> npt.NDArray[np.uint8] | None:
        boxes = snapshot.regions(picture).boxes
        finest = float((boxes[:, 2:] - boxes[:, :2]).min())
        for path in files.get(picture, ()):
            try:
                read = read_picture(
                    Path(path),
                    max_pixels=max_pixels,
                    shrink=lambda _: shrink_factor(finest, encoder.input_size, encoder.fit),
                )
            except ImageError:
                continue
            if read.size == snapshot.size(picture):
                return cut_regions(read, boxes, encoder.input_size, encoder.resampling, encoder.fit)
        return None

    regions_each = max(snapshot.rows // max(len(snapshot), 1), 1)
    looked = zip(pictures, ahead(cut, pictures, regions_each * encoder.input_size**2 * 3), strict=True)
    while group := list(islice(looked, _PICTURES_AT_ONCE)):
        usable = [(picture, crops) for picture, crops in group if crops is not None]
        if usable:
            lengths = encoder.activations(np.concatenate([crops for _, crops in usable]))
            ends = np.cumsum([len(crops) for _, crops in usable])
            yield from zip((picture for picture, _ in usable), np.split(lengths, ends[:-1]), strict=True)


def _salient_rows(
    snapshot: Snapshot,
    encoder: Encoder,
    count: int,
    generator: np.random.Generator,
    taken: npt.NDArray[np.bool_],
    max_pixels: int,
    progress: Advance,
) -> Rows:
    source = activation_source(encoder)
    if source is None:
        others = ", ".join(name for name in TRAINING_SETS if name != "salient")
        raise EncoderError(f"training set salient: encoder {encoder.id!r} does not tell its activations; use {others}")
    limits = [np.inf, -np.inf]
    done = 0

    def weigh(pictures: Sequence[int]) -> Weights:
        nonlocal done
        total = done + len(pictures)
        for picture, lengths in activations(snapshot, pictures, source, max_pixels=max_pixels):
            limits[:] = min(limits[0], float(lengths.min())), max(limits[1], float(lengths.max()))
            done += 1
            progress("looking at pictures again", done, total)
            yield picture, lengths

    rows = telling_rows(snapshot, weigh, count, generator, taken)
    if taken.any() and not done:
        raise GalleryError(
            "training set salient: none of the gallery's pictures is where it was, so that none can be looked at "
            "again; use random, distinct or whole, which need the gallery alone"
        )
    if done and limits[1] - limits[0] <= _LEVEL * abs(limits[1]):
        raise EncoderError(
            f"training set salient: encoder {encoder.id!r} answers every region with the same strength; use random, "
            "distinct or whole"
        )
    return rows


def _query_vectors(
    asked: TrainingSet,
    encoder: Encoder,
    snapshot: Snapshot,
    taken: npt.NDArray[np.bool_],
    count: int,
    generator: np.random.Generator,
    max_pixels: int,
    progress: Advance,
    tell: Callable[[str], None],
) -> npt.NDArray[np.float32]:
    """Vectors of at most `count` of the pictures in a file of queries, in its order."""
    shown = [part for parts in read_queries(asked.file or Path()) for part in parts if part.weight > 0]
    parts = [part for part in shown if part.picture is not None and not _held_out(part, snapshot, taken)]
    chosen = np.sort(generator.permutation(len(parts))[:count])
    vectors: list[npt.NDArray[np.float32]] = []
    failed: list[str] = []
    for start in range(0, len(chosen), _QUERIES_AT_ONCE):
        group = [[parts[place]] for place in chosen[start : start + _QUERIES_AT_ONCE]]
        for found in encode_queries(encoder, group, max_pixels=max_pixels):
            if isinstance(found, EncodedQuery):
                vectors.append(found.vector)
            else:
                failed.append(str(found))
        progress("encoding queries", start + len(group), len(chosen))
    if not vectors:
        reason = f": {failed[0]}" if failed else ""
        raise UsageError(f"{asked.file}: no picture to learn from that can be used{reason}")
    if failed:
        tell(f"training set {asked}: {len(failed):,} of {len(chosen):,} pictures cannot be used, such as {failed[0]}")
    return np.stack(vectors)


def _held_out(part: QueryPart, snapshot: Snapshot, taken: npt.NDArray[np.bool_]) -> bool:
    picture = snapshot.index_of_path(os.path.abspath(str(part.picture)))
    return picture is not None and not taken[picture]


def _random_rows(snapshot: Snapshot, taken: npt.NDArray[np.bool_], count: int, generator: np.random.Generator) -> Rows:
    """Rows of the pictures that may be taken, each as likely as any other, rising."""
    pictures = np.flatnonzero(taken)
    ends = np.cumsum(np.diff(snapshot.starts)[pictures])
    total = int(ends[-1]) if len(ends) else 0
    places = np.sort(generator.choice(total, min(count, total), replace=False, shuffle=False)).astype(np.int64)
    of = np.searchsorted(ends, places, side="right")
    return np.asarray(snapshot.starts[pictures[of] + 1] - (ends[of] - places), dtype=np.int64)


def _read(snapshot: Snapshot, rows: Rows) -> npt.NDArray[np.float32]:
    vectors = np.empty((len(rows), snapshot.dimension), dtype=np.float32)
    for start in range(0, len(rows), _READ_AT_ONCE):
        vectors[start : start + _READ_AT_ONCE] = snapshot.gather(rows[start : start + _READ_AT_ONCE])
    return vectors
