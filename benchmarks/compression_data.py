"""What compression_quality.py searches: benchmarks as arrays, and how well scores of their regions rank and place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchwise import Gallery
from patchwise.boxes import iou_xyxy
from patchwise.compression.training_sets import activations
from patchwise.encoders import activation_source
from patchwise.errors import GalleryNotFound, PatchwiseError
from patchwise.evaluation import average_precision, loc_score
from patchwise.evaluation.datasets import read_benchmark
from patchwise.images import cut_regions, read_picture
from patchwise.store import Snapshot

Array = npt.NDArray[np.float32]
Say = Callable[[str], None]

# Name: reader, and folder below --data (None: the reader makes its own).
BENCHMARKS = {"logos": ("logos", ""), "synthetic": ("synthetic", None), "subjects": ("folders", "subjects")}
ENCODER, REGIONS = "builtin", "pyramid:3"
_EDGE = 24  # grey levels between two neighbouring pixels of a region at 64 x 64 that make an edge
_QUERIES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Truth:
    """One query: pictures to leave out, positives, and the IoU of every region of each of them (None: no boxes)."""

    ignored: list[int]
    positives: npt.NDArray[np.int64]
    ious: list[npt.NDArray[np.float64]] | None


@dataclass(frozen=True, eq=False)
class Searched:
    """A benchmark in memory: region vectors (R, d) with `starts` as in a snapshot, queries (Q, d), what is right."""

    name: str
    snapshot: Snapshot
    vectors: Array
    queries: Array
    truths: list[Truth]
    groups: list[str]
    distractors: npt.NDArray[np.bool_]
    strengths: Array
    spread: Array
    edges: Array

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        return self.snapshot.starts

    @property
    def picture_of(self) -> npt.NDArray[np.int64]:
        return np.repeat(np.arange(len(self.snapshot)), np.diff(self.starts))

    def judged(self, scores: Array, exact: Array | None = None, shortlist: int = 0) -> npt.NDArray[np.float64]:
        """Average precision and LocScore of each query, (Q, 2), from (Q, R) scores of regions.

        The pictures of the `shortlist` best regions are ranked and placed by their `exact` scores, before all others.
        """
        best = np.maximum.reduceat(scores, self.starts[:-1], axis=1)
        picture_of, places = self.picture_of, np.arange(len(self.snapshot))
        figures = np.full((len(scores), 2), np.nan)
        for number, truth in enumerate(self.truths):
            ranking, deciding = best[number], {False: scores[number]}
            again = np.zeros(len(ranking), dtype=bool)
            if exact is not None:
                again[picture_of[np.argpartition(-scores[number], shortlist)[:shortlist]]] = True
                of_exact = np.maximum.reduceat(exact[number], self.starts[:-1])
                ranking = np.where(again, of_exact + 4, ranking)  # cosines differ by 2 at most, codes by little more
                deciding[True] = exact[number]
            ranking = ranking.copy()
            ranking[truth.ignored] = -np.inf
            own = ranking[truth.positives][:, None]
            ranks = 1 + (ranking > own).sum(axis=1)
            ranks += ((ranking == own) & (places < truth.positives[:, None])).sum(axis=1)
            order = np.argsort(ranks)
            figures[number, 0] = average_precision(ranks[order], len(ranks))
            if truth.ious is not None:
                ious = []
                for place in order:
                    picture = truth.positives[place]
                    regions = slice(self.starts[picture], self.starts[picture + 1])
                    ious.append(truth.ious[place][deciding[bool(again[picture])][regions].argmax()])
                figures[number, 1] = loc_score(ranks[order], np.array(ious), len(ranks))
        return figures

    def kept(self, scores: Array, exact: Array) -> npt.NDArray[np.float64]:
        """Of the ten pictures that `exact` scores rank first: shares that are so still, and with their region, (Q, 2).

        Both are of (Q, R) scores of regions. A metric can gain from an error, such as one that favours whole images;
        these cannot.
        """
        true, found = (
            np.argsort(-np.maximum.reduceat(one, self.starts[:-1], axis=1), axis=1, kind="stable")[:, :10]
            for one in (exact, scores)
        )
        shares = np.empty((len(scores), 2))
        for number, pictures in enumerate(true):
            rows = [slice(self.starts[one], self.starts[one + 1]) for one in pictures]
            same = [exact[number, row].argmax() == scores[number, row].argmax() for row in rows]
            shares[number] = np.isin(pictures, found[number]).mean(), np.mean(same)
        return shares


def points(figures: npt.NDArray[np.float64]) -> tuple[float, float | None]:
    """mAP and LocScore of (Q, 2) figures in points; None without boxes."""
    boxed = np.isfinite(figures[:, 1])
    return 100 * float(figures[:, 0].mean()), 100 * float(figures[boxed, 1].mean()) if boxed.any() else None


def searched(name: str, data: Path, cache: Path, say: Say) -> Searched:
    """Read a benchmark, index it into a gallery in `cache` as far as it is not there, and take everything out of it."""
    reader, folder = BENCHMARKS[name]
    benchmark = read_benchmark(reader, None if folder is None else data / folder, progress=say)
    place = cache / f"{name}.pw"
    try:
        gallery = Gallery.open(place)
    except GalleryNotFound:
        gallery = Gallery.create(place, encoder=ENCODER, regions=REGIONS)
    with gallery:
        gallery.add_listed(benchmark.root, benchmark.image_ids)
        snapshot, _ = gallery.current()
        queries = [query for query in benchmark.queries if query.positives]
        asked = _kept(cache / f"{name}-queries.npy", lambda: _query_vectors(gallery, queries))
        say(f"{name}: activations and pixels of {snapshot.rows:,} regions")
        strengths = _kept(cache / f"{name}-strengths.npy", lambda: _strengths(gallery, snapshot))
        pixels = _kept(cache / f"{name}-pixels.npy", lambda: _pixels(snapshot))
        root = os.path.join(os.path.abspath(benchmark.root), "")
        paths = [(path, picture) for path, picture in snapshot.paths(range(len(snapshot)))]
        picture_of = {path.removeprefix(root): picture for path, picture in paths}
    distractors = np.zeros(len(snapshot), dtype=bool)
    distractors[[picture for path, picture in paths if Path(path).parent.name == "distractors"]] = True
    return Searched(
        name,
        snapshot,
        snapshot.gather(np.arange(snapshot.rows)).astype(np.float32),
        asked,
        [_truth(snapshot, query, picture_of) for query in queries],
        [query.group for query in queries],
        distractors,
        strengths,
        pixels[0],
        pixels[1],
    )


def _truth(snapshot: Snapshot, query: object, picture_of: dict[str, int]) -> Truth:
    ignored = sorted({picture_of[one] for one in query.ignored if one in picture_of})  # type: ignore[attr-defined]
    boxes = {picture_of[one]: found for one, found in query.positives.items() if one in picture_of}  # type: ignore[attr-defined]
    positives = [picture for picture in sorted(boxes) if picture not in ignored]
    ious = None
    if all(boxes.values()):
        ious = [
            np.array([iou_xyxy(box, np.array(boxes[picture])).max() for box in snapshot.regions(picture).boxes])
            for picture in positives
        ]
    return Truth(ignored, np.array(positives, dtype=np.int64), ious)


def _kept(file: Path, make: Callable[[], Array]) -> Array:
    if not file.exists():
        np.save(file, make())
    return np.load(file)


def _query_vectors(gallery: Gallery, queries: list) -> Array:
    vectors: list[Array] = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        group = queries[start : start + _QUERIES_AT_ONCE]
        for found in gallery.query_vectors([(query.image, query.box) for query in group]):
            if isinstance(found, PatchwiseError):
                raise found
            vectors.append(found)
    return np.stack(vectors)


def _strengths(gallery: Gallery, snapshot: Snapshot) -> Array:
    source = activation_source(gallery.encoder)
    if source is None:
        raise SystemExit(f"{ENCODER}: tells no activations")
    found = np.full(snapshot.rows, np.nan, dtype=np.float32)
    for picture, strengths in activations(snapshot, range(len(snapshot)), source):
        found[snapshot.starts[picture] : snapshot.starts[picture + 1]] = strengths
    return found


def _pixels(snapshot: Snapshot) -> Array:
    """Of every region at 64 x 64 in grey: standard deviation, and the share of pixels that an edge goes through."""
    found = np.empty((2, snapshot.rows), dtype=np.float32)
    path_of = {picture: path for path, picture in snapshot.paths(range(len(snapshot)))}
    for picture, path in path_of.items():
        crops = cut_regions(read_picture(Path(path)), snapshot.regions(picture).boxes, 64)
        grey = crops.astype(np.float32).mean(axis=3)
        rows = slice(snapshot.starts[picture], snapshot.starts[picture + 1])
        steps = np.maximum(np.abs(np.diff(grey, axis=1))[:, :, 1:], np.abs(np.diff(grey, axis=2))[:, 1:])
        found[:, rows] = grey.std(axis=(1, 2)), (steps > _EDGE).mean(axis=(1, 2))
    return found
