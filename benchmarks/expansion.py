"""Do hits help to find more? Query expansion, neighbours in the shortlist, augmented galleries, and several pictures.

Logos, the synthetic scenes and the subjects are searched with a sample of their queries, and again with each of these.
"sure" expands with hits that match (fewer than 0.05 false ones expected), as searches do, and keeps these first; "the
first ten" takes ten hits as they come. A gallery is augmented as by Arandjelovic and Zisserman (CVPR 2012): every
region is averaged with its nearest ones of five other images, before anything is searched. Several pictures of one
object are asked for together, and pictures of two different objects, where an image of either counts.

    python benchmarks/expansion.py [--queries N] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common import DATA, ROOT, SEED, report
from patchwise import Gallery
from patchwise.errors import GalleryNotFound, PatchwiseError
from patchwise.evaluation import average_precision, loc_score, paired
from patchwise.evaluation.datasets import Query, read_benchmark
from patchwise.evaluation.metrics import positive_iou
from patchwise.indexing.query import compose
from patchwise.rerank import Question
from patchwise.rerank.neighbours import Neighbours
from patchwise.search import Hit
from patchwise.search.expansion import best_regions, expanded, expanding, merged
from patchwise.search.fusion import FUSIONS, fused, fused_search

Array = npt.NDArray[np.float32]
Hits = list[Hit]


class Asked(NamedTuple):
    """A query, its vector, and all images as it ranks them."""

    query: Query
    vector: Array
    hits: Hits


Way = Callable[[Asked], Hits]

# Name: reader, and folder below --data (None: the reader makes its own).
BENCHMARKS = {"logos": ("logos", ""), "synthetic": ("synthetic", None), "subjects": ("folders", "subjects")}
FIRST, DEPTHS, NEAREST = 10, (50, 200), 5
DRAWN_PER_OBJECT = 3
K = 20


@dataclass(frozen=True, eq=False)
class Searched:
    """A benchmark in a gallery, with the queries that are asked and their vectors."""

    gallery: Gallery
    root: str
    queries: list[Query]
    vectors: Array

    def hits(self, vector: Array, left_out: frozenset[str]) -> Hits:
        """All images, best first, without those that a query leaves out."""
        (found,) = self.gallery.search_vectors(vector[None], k=len(self.gallery), exact=True)
        return [hit for hit in found if hit.path.removeprefix(self.root) not in left_out]

    def stored(self, hit: Hit) -> npt.NDArray[np.float16]:
        snapshot = self.gallery.snapshot()
        index = snapshot.index_of_path(hit.path)
        if index is None:
            raise SystemExit(f"{hit.path}: left the gallery")
        return snapshot.vectors(index)

    def judged(self, hits: Sequence[Hit], queries: Sequence[Query]) -> tuple[float, float, float]:
        """Average precision, LocScore (NaN without boxes) and R@1 for what any of some queries asks for."""
        left_out = {image for query in queries for image in query.ignored}
        truth = {image: boxes for query in queries for image, boxes in query.positives.items() if image not in left_out}
        names = [name for hit in hits if (name := hit.path.removeprefix(self.root)) not in left_out]
        boxes = {hit.path.removeprefix(self.root): hit.box for hit in hits}
        ranks = np.array([rank for rank, name in enumerate(names, 1) if name in truth])
        placed = np.nan
        if all(truth.values()):
            ious = [positive_iou(boxes[names[rank - 1]], truth[names[rank - 1]]) for rank in ranks]
            placed = loc_score(ranks, ious, len(truth))
        return average_precision(ranks, len(truth)), placed, float(bool(len(ranks)) and ranks[0] == 1)


def searched(name: str, data: Path, cache: Path, most: int) -> Searched:
    reader, folder = BENCHMARKS[name]
    benchmark = read_benchmark(reader, None if folder is None else data / folder, progress=print)
    path = cache / f"{name}.pw"
    try:
        gallery = Gallery.open(path)
    except GalleryNotFound:
        path.parent.mkdir(parents=True, exist_ok=True)
        gallery = Gallery.create(path, encoder="builtin", regions="pyramid:3")
    gallery.add_listed(benchmark.root, benchmark.image_ids)
    queries = [query for query in benchmark.queries if query.positives]
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(queries))[:most])
    queries = [queries[place] for place in drawn]
    vectors: list[Array] = []
    for found in gallery.query_vectors([(query.image, query.box) for query in queries]):
        if isinstance(found, PatchwiseError):
            raise SystemExit(str(found))
        vectors.append(found)
    return Searched(gallery, str(benchmark.root.resolve()) + "/", queries, np.stack(vectors))


def expansions(data: Searched, method: str, *, sure: bool, kept: bool) -> Way:
    """A second search with what the first one found."""

    def again(asked: Asked) -> Hits:
        chosen = expanding(asked.hits) if sure else asked.hits[:FIRST]
        if not chosen:
            return asked.hits
        wider = expanded(asked.vector, *best_regions(asked.vector, chosen, data.stored), method)
        found = data.hits(wider, asked.query.ignored)
        return merged(asked.hits, found) if kept else found

    return again


def neighbours(data: Searched, depth: int) -> Way:
    looker = Neighbours(data.stored, depth=depth)
    return lambda asked: looker.rerank(Question(asked.vector), asked.hits)


def both(data: Searched) -> Way:
    first, then = expansions(data, "average", sure=True, kept=True), neighbours(data, DEPTHS[-1])
    return lambda asked: then(asked._replace(hits=first(asked)))


def augmented(data: Searched) -> Way:
    """Search in a copy of the gallery whose regions were averaged with their nearest ones of other images."""
    snapshot = data.gallery.snapshot()
    path_of = {index: path for path, index in snapshot.paths(range(len(snapshot)))}
    regions = len(snapshot.vectors(0))  # of every image: a pyramid's
    stored = np.concatenate([snapshot.vectors(index) for index in range(len(snapshot))]).astype(np.float32)
    mixed = np.empty_like(stored)
    step = max(2**25 // len(stored), 1)
    for first in range(0, len(stored), step):
        block = stored[first : first + step]
        cosines = (block @ stored.T).reshape(len(block), -1, regions)
        of_images, rows = cosines.max(axis=2), np.arange(len(block))
        of_images[rows, (first + rows) // regions] = -np.inf
        near = np.argpartition(-of_images, NEAREST, axis=1)[:, :NEAREST]
        which = np.take_along_axis(cosines.argmax(axis=2), near, axis=1)
        weights = 0.5 * np.maximum(np.take_along_axis(of_images, near, axis=1), 0)
        mixed[first : first + step] = block + np.einsum("rn,rnd->rd", weights, stored[near * regions + which])
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)

    def search(asked: Asked) -> Hits:
        scores = (mixed @ asked.vector).reshape(-1, regions)
        best, winning = scores.max(axis=1), scores.argmax(axis=1)
        found = []
        for index in np.argsort(-best, kind="stable").tolist():
            path, size = path_of[index], snapshot.size(index)
            if path.removeprefix(data.root) not in asked.query.ignored:
                box = tuple(map(float, snapshot.regions(index).boxes[winning[index]]))
                found.append(Hit(len(found) + 1, path, float(best[index]), box, 0, (0, 0), size, ()))  # type: ignore[arg-type]
        return found

    return search


def compared(name: str, data: Searched) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    ways: dict[str, Way] = {
        "query alone": lambda asked: asked.hits,
        "average, sure": expansions(data, "average", sure=True, kept=True),
        "alpha:3, sure": expansions(data, "alpha:3", sure=True, kept=True),
        "average, sure, free to drift": expansions(data, "average", sure=True, kept=False),
        "average, the first ten": expansions(data, "average", sure=False, kept=False),
        "alpha:3, the first ten": expansions(data, "alpha:3", sure=False, kept=False),
        **{f"neighbours:{depth}": neighbours(data, depth) for depth in DEPTHS},
        f"average, sure, then neighbours:{DEPTHS[-1]}": both(data),
        "augmented gallery": augmented(data),
    }
    everything = [
        Asked(query, vector, data.hits(vector, query.ignored))
        for query, vector in zip(data.queries, data.vectors, strict=True)
    ]
    groups = [query.group for query in data.queries]
    expanded_queries = sum(bool(expanding(asked.hits)) for asked in everything)
    figures: dict[str, Any] = {"queries": len(groups), "expanded queries": expanded_queries}
    rows, alone = [], np.empty(0)
    for way, search in ways.items():
        began = time.perf_counter()
        answers = [search(asked) for asked in everything]
        took = (time.perf_counter() - began) / len(answers)
        judged = np.array([data.judged(hits, [query]) for hits, query in zip(answers, data.queries, strict=True)])
        alone = judged[:, 0] if way == "query alone" else alone
        against = paired(alone, judged[:, 0], groups)
        right = [
            hit.path.removeprefix(data.root) in query.positives
            for hits, query in zip(answers, data.queries, strict=True)
            for hit in hits
            if hit.matches
        ]
        figures[way] = {
            "map": against.b,
            "difference": [against.difference.mean, against.difference.low, against.difference.high],
            "p_value": against.p_value,
            "loc_score": float(judged[:, 1].mean()),
            "recall_at_1": float(judged[:, 2].mean()),
            "worse_by_a_tenth": float((judged[:, 0] < alone - 0.1).mean()),
            "matches": len(right),
            "right_matches": sum(right),
            "milliseconds": 1000 * took,
        }
        rows.append(
            (
                name,
                way,
                f"{against.b:.3f}",
                f"{against.difference.low:+.3f} to {against.difference.high:+.3f}",
                "-" if np.isnan(judged[:, 1]).any() else f"{judged[:, 1].mean():.3f}",
                f"{judged[:, 2].mean():.2f}",
                f"{100 * figures[way]['worse_by_a_tenth']:.0f} %",
                f"{len(right)} ({sum(right)})" if right else "-",
            )
        )
    return rows, figures


def together(name: str, data: Searched) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Several queries of one object, and one each of two objects."""
    generator = np.random.default_rng(SEED)
    of_object: dict[str, list[int]] = {}
    for place, query in enumerate(data.queries):
        of_object.setdefault(query.group, []).append(place)
    tasks: dict[str, list[tuple[int, ...]]] = {}
    for views in (2, 3):
        full = [places for _, places in sorted(of_object.items()) if len(places) >= views]
        drawn = [generator.choice(places, views, replace=False) for places in full for _ in range(DRAWN_PER_OBJECT)]
        tasks[f"{views} of one object"] = sorted({tuple(sorted(each.tolist())) for each in drawn})
    order = [int(generator.choice(places)) for _, places in sorted(of_object.items())]
    tasks["1 each of two objects"] = list(pairwise([*order, order[0]]))
    rows, figures = [], {}
    for task, sets in tasks.items():
        outcomes: dict[str, list[tuple[float, float, float]]] = {}
        depths: list[int] = []
        for places in sets:
            queries = [data.queries[place] for place in places]
            left_out = frozenset(image for query in queries for image in query.ignored)
            answers = [data.hits(data.vectors[place], left_out) for place in places]
            found = {way: fused(answers, _unneeded, way, len(data.gallery)) for way in FUSIONS}
            depths.append(_fetched(answers))
            mixed = compose(data.vectors[list(places)], [1.0] * len(places))
            outcomes.setdefault("the first alone", []).append(data.judged(answers[0], queries))
            outcomes.setdefault("composed", []).append(data.judged(data.hits(mixed, left_out), queries))
            for way, hits in found.items():
                outcomes.setdefault(way, []).append(data.judged(hits, queries))
        figures[task] = {"sets": len(sets), f"hits fetched for {K} by mean": float(np.mean(depths))}
        for way, judged in outcomes.items():
            ap, placed, first = np.mean(judged, axis=0).tolist()
            figures[task][way] = {"map": ap, "loc_score": placed, "recall_at_1": first}
            rows.append((name, task, way, f"{ap:.3f}", "-" if np.isnan(placed) else f"{placed:.3f}", f"{first:.2f}"))
    return rows, figures


def _unneeded(part: int, hit: Hit) -> Hit:
    raise SystemExit(f"{hit.path} is missing in answer {part}")


def _fetched(answers: Sequence[Hits]) -> int:
    """How many hits of each picture were fetched for the first few fused ones."""
    known = [{hit.path: hit for hit in answer} for answer in answers]
    depths = []

    def search(depth: int) -> Sequence[Hits]:
        depths.append(min(depth, len(answers[0])))
        return [answer[:depth] for answer in answers]

    fused_search(search, lambda part, hit: known[part][hit.path], k=K)
    return depths[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, subjects/, distractors/")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "expansion", help="folder of the galleries")
    parser.add_argument("--queries", type=int, default=108, help="queries of each benchmark at most")
    options = parser.parse_args()
    expanding_rows: list[tuple[Any, ...]] = []
    fusing_rows: list[tuple[Any, ...]] = []
    details: dict[str, dict[str, Any]] = {"expansion": {}, "fusion": {}}
    for name in BENCHMARKS:
        print(f"{name} ...", flush=True)
        data = searched(name, options.data, options.cache, options.queries)
        rows, details["expansion"][name] = compared(name, data)
        expanding_rows += rows
        rows, details["fusion"][name] = together(name, data)
        fusing_rows += rows
    report(
        "expansion",
        'Do hits help to find more? The interval is that of the difference in mAP, 95 %; "worse" counts '
        "queries whose AP fell by more than .1. Matches are hits with less than 0.05 expected false ones, in brackets "
        "those that are right.",
        ("searched", "how", "mAP", "difference", "LocScore", "R@1", "worse", "matches"),
        expanding_rows,
        **details["expansion"],
    )
    report(
        "fusion",
        "Several pictures in one query: one vector composed of them, or their answers put together. For two objects an "
        "image of either counts.",
        ("searched", "pictures", "how", "mAP", "LocScore", "R@1"),
        fusing_rows,
        **details["fusion"],
    )


if __name__ == "__main__":
    main()
