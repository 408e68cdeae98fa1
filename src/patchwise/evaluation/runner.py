"""A benchmark searched: its images encoded once, its queries answered in batches, its positives located."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box
from patchwise.errors import PatchwiseError, UsageError
from patchwise.evaluation.datasets.base import Benchmark, Query
from patchwise.evaluation.metrics import positive_iou
from patchwise.evaluation.outcomes import Found, Missed, QueryOutcome, Run, placement
from patchwise.evaluation.reranked import reranked_outcome, reranked_scores
from patchwise.gallery import Gallery
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing import EncodedQuery, IndexProgress, QueryPart
from patchwise.search import Candidates, Hit, rank
from patchwise.search.ranking import region_scores
from patchwise.second_look import SecondLook
from patchwise.store import Snapshot

__all__ = ["Ranked", "evaluate", "judge", "oracle_boxes"]

Ranked = Callable[[Query, Sequence[str], npt.NDArray[np.float32]], None]

_ENCODED_AT_ONCE = 64
_SCORES_AT_ONCE = 128 * 2**20  # cosines of queries with images held in memory
_COMPARED_AT_ONCE = 4 * 2**20


def evaluate(
    benchmark: Benchmark,
    gallery: Gallery,
    *,
    rerank: str = "",
    indexing: Callable[[IndexProgress], None] | None = None,
    searching: Callable[[int, int], None] | None = None,
    ranked: Ranked | None = None,
) -> Run:
    """Index the benchmark's images into `gallery` as far as they are not there yet, ask all queries, and judge.

    Args:
        benchmark: what to ask, and the answers.
        gallery: the benchmark's own, with no other images in it; its encoder and regions are what is evaluated.
        rerank: second looks at the first images of each query, as for `Gallery.search`.
        indexing: told of every image that is indexed.
        searching: told how many queries are answered, and how many there are.
        ranked: given each query with the ids of its images, best first and no deeper than the benchmark's depth, and
            their scores.

    Raises:
        ImageError, BoxError: a query cannot be used; without it the figures would mean something else.
        UsageError: the benchmark has no query with a positive, or no such second look.
        MissingExtra: a package that a second look needs is not installed.
    """
    look = SecondLook(gallery, rerank, fetch=False, max_pixels=DEFAULT_MAX_PIXELS)
    report = gallery.add_listed(benchmark.root, benchmark.image_ids, progress=indexing)
    queries = [query for query in benchmark.queries if query.positives]
    if not queries:
        raise UsageError(f"benchmark {benchmark.name}: no query has a positive")
    began = time.perf_counter()
    vectors = _query_vectors(gallery, queries)
    encoding = time.perf_counter() - began

    began = time.perf_counter()
    outcomes = judge(benchmark, gallery, queries, vectors, searching, ranked, look)
    seconds = time.perf_counter() - began

    info = gallery.info()
    return Run(
        benchmark=benchmark.name,
        strategy=" + ".join(filter(None, (gallery.strategy.name, rerank))),
        encoder=info.encoder,
        depth=benchmark.depth,
        average_precision=benchmark.average_precision,
        outcomes=outcomes,
        costs={
            "regions_per_image": info.regions / max(info.distinct_images, 1),
            "bytes_per_image": info.bytes_per_image,
            "seconds_per_query": seconds / len(queries),
            "encoding_seconds_per_query": encoding / len(queries),
            "indexing_seconds": report.seconds,
            "encoded_regions": report.encoded_regions,
        },
        details={
            "whitening": info.whitening,
            "images": info.images,
            "unreadable_images": len(info.unreadable) + len(report.unreadable_folders),
            "queries_without_positives": len(benchmark.queries) - len(queries),
        },
    )


def judge(
    benchmark: Benchmark,
    gallery: Gallery,
    queries: Sequence[Query],
    vectors: npt.NDArray[np.float32],
    searching: Callable[[int, int], None] | None = None,
    ranked: Ranked | None = None,
    look: SecondLook | None = None,
) -> list[QueryOutcome]:
    """Search a gallery that holds the benchmark with the (Q, dimension) unit vectors of its queries, and judge.

    All queries share one pass over the vectors where a ranking has a depth; full rankings are taken in as many passes
    as memory asks for.
    """
    at_work = _Judge(benchmark, gallery)
    outcomes: list[QueryOutcome] = []
    deepest = len(at_work.snapshot)
    if benchmark.depth is not None and deepest * len(queries) > _SCORES_AT_ONCE:  # otherwise picking the best is dearer
        deepest = min(benchmark.depth + max(len(query.ignored) for query in queries), deepest)
    step = max(_SCORES_AT_ONCE // max(deepest, 1), 1)
    for start in range(0, len(queries), step):
        asked = slice(start, start + step)
        answers = at_work.searcher.top(vectors[asked], deepest)
        for query, vector, candidates in zip(queries[asked], vectors[asked], answers, strict=True):
            outcome = at_work.outcome(query, vector, candidates)
            shortlist = at_work.shortlist(query, vector, look) if look is not None and look.depth else []
            outcomes.append(reranked_outcome(outcome, query, shortlist))
            if ranked is not None:
                ids, scores = at_work.ranking(query, candidates, benchmark.depth or len(benchmark.image_ids))
                ranked(query, *reranked_scores(ids, scores, shortlist))
            if searching is not None:
                searching(len(outcomes), len(queries))
    return outcomes


def oracle_boxes(benchmark: Benchmark) -> dict[str, list[Box]]:
    """Every ground-truth box of every image, by absolute path: the regions that no detector can beat."""
    boxes: dict[str, dict[Box, None]] = {}
    for query in benchmark.queries:
        for image, found in query.positives.items():
            boxes.setdefault(os.path.join(os.path.abspath(benchmark.root), image), {}).update(dict.fromkeys(found))
    return {path: list(found) for path, found in boxes.items()}


def _query_vectors(gallery: Gallery, queries: Sequence[Query]) -> npt.NDArray[np.float32]:
    vectors = np.empty((len(queries), gallery.encoder.dimension), dtype=np.float32)
    for start in range(0, len(queries), _ENCODED_AT_ONCE):
        group = queries[start : start + _ENCODED_AT_ONCE]
        for place, found in enumerate(gallery.query_vectors([(query.image, query.box) for query in group]), start):
            if isinstance(found, PatchwiseError):
                raise found
            vectors[place] = found
    return vectors


class _Judge:
    """Ranks and places the positives of one query after another."""

    def __init__(self, benchmark: Benchmark, gallery: Gallery) -> None:
        self.snapshot, self.searcher = gallery.current(recall=1.0)  # a figure is of the method, not of its codes
        self._background = gallery.background()
        self._root = os.path.join(os.path.abspath(benchmark.root), "")
        named = {image for query in benchmark.queries for image in (*query.positives, *query.ignored)}
        places = ((image, self.snapshot.index_of_path(self._root + image)) for image in named)
        self._picture_of = {image: picture for image, picture in places if picture is not None}
        # Identical files are one picture in the gallery, and as many images in the benchmark.
        self._images = self.snapshot.files_per_picture()

    def outcome(self, query: Query, vector: npt.NDArray[np.float32], candidates: Candidates) -> QueryOutcome:
        weights = self._images[candidates.pictures]
        place_of = self._places(query, candidates.pictures)
        for image in query.ignored:
            place = place_of.get(self._picture_of.get(image, -1))
            if place is not None:
                weights[place] -= 1
        places = {
            image: place_of[self._picture_of[image]]
            for image in query.positives
            if self._picture_of.get(image, -1) in place_of
        }
        ranks = dict(zip(places, self._ranks(query, list(places.items()), candidates, weights), strict=True))
        found, missed = [], []
        for image, boxes in query.positives.items():
            picture = self._picture_of.get(image)
            share, distance = placement(boxes, self.snapshot.size(picture)) if picture is not None else (None, None)
            if image not in ranks or picture is None:
                missed.append(Missed(image, share, distance))
                continue
            scores = region_scores(self.snapshot, picture, vector)
            best = int(scores.argmax())
            box = _box(self.snapshot, picture, best)
            iou = positive_iou(box, boxes) if boxes else None
            found.append(Found(image, *ranks[image], float(scores[best]), box, iou, share, distance))
        found.sort(key=lambda item: item.rank)
        return QueryOutcome(query.id, query.group, len(query.positives), found, missed)

    def shortlist(self, query: Query, vector: npt.NDArray[np.float32], look: SecondLook) -> list[tuple[str, Hit]]:
        """The first images after a second look: ids and hits, best first."""
        deep = look.depth + len(query.ignored)
        (hits,) = rank(self.snapshot, self.searcher, vector[None], k=deep, background=self._background)
        counted = [hit for hit in hits if hit.path[len(self._root) :] not in query.ignored][: look.depth]
        asked = EncodedQuery((QueryPart(query.image, box=query.box),), vector, vector[None])
        return [(hit.path[len(self._root) :], hit) for hit in look.at(asked, counted)]

    def ranking(self, query: Query, candidates: Candidates, depth: int) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Ids of the best images and their scores, best first; ties are ordered by id."""
        wanted = min(depth + len(query.ignored), len(candidates.scores))
        floor = np.partition(candidates.scores, -wanted)[-wanted]
        pictures = candidates.pictures[candidates.scores >= floor]
        score_of = dict(zip(pictures.tolist(), candidates.scores[candidates.scores >= floor], strict=True))
        named = ((path[len(self._root) :], picture) for path, picture in self.snapshot.paths(pictures.tolist()))
        best = sorted((-score_of[picture], name) for name, picture in named if name not in query.ignored)[:depth]
        return [name for _, name in best], -np.array([negated for negated, _ in best], dtype=np.float32)

    def _places(self, query: Query, pictures: npt.NDArray[np.int64]) -> dict[int, int]:
        """Where the pictures of this query's positives and ignored images stand among the candidates."""
        wanted = np.unique(
            [self._picture_of[image] for image in (*query.positives, *query.ignored) if image in self._picture_of]
        ).astype(np.int64)
        if len(pictures) == len(self.snapshot):  # all of them, in order
            return {int(picture): int(picture) for picture in wanted}
        places = np.flatnonzero(np.isin(pictures, wanted))
        return {int(pictures[place]): int(place) for place in places}

    def _ranks(
        self,
        query: Query,
        positives: Sequence[tuple[str, int]],
        candidates: Candidates,
        weights: npt.NDArray[np.int64],
    ) -> list[tuple[int, int]]:
        """(rank, last rank of the tie) of each (image, place among the candidates); ties are ordered by id."""
        own = candidates.scores[[place for _, place in positives]]
        plain = bool((weights == 1).all())
        ranks: list[tuple[int, int]] = []
        step = max(_COMPARED_AT_ONCE // max(len(candidates.scores), 1), 1)
        for start in range(0, len(own), step):
            block = own[start : start + step, None]
            above, level = candidates.scores > block, candidates.scores == block
            counts = [np.count_nonzero(flags, axis=1) if plain else flags @ weights for flags in (above, level)]
            for (image, _), ahead, tied, flags in zip(positives[start : start + step], *counts, level, strict=True):
                before = 0
                if tied > 1:
                    names = self._names(candidates.pictures[flags], query.ignored)
                    before = sum(name < image for name in names)
                ranks.append((int(ahead) + before + 1, int(ahead + tied)))
        return ranks

    def _names(self, pictures: npt.NDArray[np.int64], ignored: frozenset[str]) -> list[str]:
        names = (path[len(self._root) :] for path, _ in self.snapshot.paths(pictures.tolist()))
        return [name for name in names if name not in ignored]


def _box(snapshot: Snapshot, picture: int, region: int) -> Box:
    edges = snapshot.regions(picture).boxes[region]
    return (float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3]))
