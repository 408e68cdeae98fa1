"""Can "nothing found" be trusted? Expected false matches against those observed, with every object taken out in turn.

For each object of a benchmark all images that show it are removed from a copy of the gallery, and its queries are asked
there: whatever matches is false. Then they are asked where the object is: what is found, and what false matches come
along.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import SEED, arguments, photographs, report
from patchwise import Gallery
from patchwise.evaluation.datasets import Benchmark, Query, read_benchmark
from patchwise.search import MATCH_BELOW

PREDICTED = (0.05, 0.5, 5.0, 50.0)
QUERIES_PER_OBJECT = 6
HEADER = (
    "gallery",
    "images",
    "queries",
    *(f"observed at {predicted:g}" for predicted in PREDICTED),
    "absent, yet a match",
    "present, matched",
    "recall",
    "false per query",
)


def benchmarks(data: Path) -> Iterator[tuple[str, Benchmark, list[Path], str]]:
    """Name, queries and truth, more images without any of the objects, and the encoder."""
    distractors = photographs(data / "distractors")
    logos = read_benchmark("logos:no-distractors", data)
    yield "logos among photographs", logos, distractors, "builtin"
    yield "synthetic scenes", read_benchmark("synthetic", progress=print), [], "builtin"
    subjects = read_benchmark("folders", data / "subjects")
    yield "subjects alone", subjects, [], "builtin"
    yield "subjects among photographs", subjects, distractors, "builtin"
    yield (
        "the same, ImageNet ViT",
        subjects,
        distractors,
        f"timm:deit_tiny_patch16_224,weights={data / 'weights/deit_tiny_patch16_224.timm.safetensors'}",
    )


def chosen(benchmark: Benchmark) -> list[Query]:
    """At most so many queries of each object, drawn at random."""
    generator = np.random.default_rng(SEED)
    by_object: dict[str, list[Query]] = {}
    for query in benchmark.queries:
        if query.positives:
            by_object.setdefault(query.group or query.id, []).append(query)
    kept = []
    for queries in by_object.values():
        drawn = generator.permutation(len(queries))[:QUERIES_PER_OBJECT]
        kept += [queries[place] for place in sorted(drawn)]
    return kept


def shown(benchmark: Benchmark, name: str) -> set[str]:
    """Every image that shows an object."""
    own = [query for query in benchmark.queries if (query.group or query.id) == name]
    return {image for query in own for image in (*query.positives, *query.ignored)}


def asked(gallery: Gallery, query: Query) -> list[tuple[str, float]]:
    """Every image of the gallery and how many as good are expected by chance."""
    hits = gallery.search(query.image, box=query.box, k=len(gallery))
    return [(hit.path, hit.expected_false_matches) for hit in hits if hit.expected_false_matches is not None]


def measured(benchmark: Benchmark, gallery: Gallery, root: Path, scratch: Path) -> dict[str, Any]:
    """Means over queries, without their object and with it."""
    absent, counts, found, recalls, false = [], [], [], [], []
    queries = chosen(benchmark)
    for name in sorted({query.group or query.id for query in queries}):
        without = scratch / "without.pw"
        shutil.copytree(gallery.path, without)
        with Gallery.open(without) as rest:
            rest.remove(*(root / image for image in shown(benchmark, name)))
            for query in queries:
                if (query.group or query.id) == name:
                    expected = np.array([each for _, each in asked(rest, query)])
                    counts.append([int((expected < predicted).sum()) for predicted in PREDICTED])
                    absent.append(bool((expected < MATCH_BELOW).any()))
        shutil.rmtree(without)
    for query in queries:
        matched = {path for path, expected in asked(gallery, query) if expected < MATCH_BELOW}
        positives = {str(root / image) for image in query.positives}
        passed = {str(root / image) for image in query.ignored}
        found.append(bool(matched & positives))
        recalls.append(len(matched & positives) / len(positives))
        false.append(len(matched - positives - passed))
    return {
        "images": len(gallery),
        "queries": len(queries),
        "observed": np.mean(counts, axis=0).tolist(),
        "absent_matched": float(np.mean(absent)),
        "present_matched": float(np.mean(found)),
        "recall": float(np.mean(recalls)),
        "false_per_query": float(np.mean(false)),
    }


def main() -> None:
    options = arguments(__doc__ or "")
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, benchmark, more, encoder) in enumerate(benchmarks(options.data)):
            print(f"{name} ...", flush=True)
            root = benchmark.root.resolve()
            with Gallery.create(Path(folder) / f"{number}.pw", encoder=encoder, regions="pyramid:3") as gallery:
                gallery.add_listed(root, benchmark.image_ids)
                if more:
                    gallery.add(*more)
                figures[name] = found = measured(benchmark, gallery, root, Path(folder))
            rows.append(
                (
                    name,
                    found["images"],
                    found["queries"],
                    *(f"{each:.2f}" for each in found["observed"]),
                    f"{100 * found['absent_matched']:.1f} %",
                    f"{100 * found['present_matched']:.1f} %",
                    f"{100 * found['recall']:.1f} %",
                    f"{found['false_per_query']:.2f}",
                )
            )
    report(
        "verdict",
        "Images that match although the object is not there: observed, at each number that was expected; and what is "
        f"matched where it is. A match is expected less than {MATCH_BELOW} times by chance.",
        HEADER,
        rows,
        predicted=PREDICTED,
        figures=figures,
    )


if __name__ == "__main__":
    main()
