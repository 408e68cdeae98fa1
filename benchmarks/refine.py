"""How much closer does the second look `refine` place objects, does it rank better, and what does it take?

    python benchmarks/refine.py --cache DIR

A random sample of the queries of each benchmark, against the whole of its images, without and with a second look at
the first 20 and the first 100. Galleries are kept in `--cache`: a second run only searches.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import DATA, SEED, report
from patchwise import Gallery
from patchwise.encoders import Encoder, load_encoder
from patchwise.errors import GalleryNotFound
from patchwise.evaluation import Run, compare_runs, per_query
from patchwise.evaluation.datasets import Benchmark, read_benchmark
from patchwise.evaluation.runner import evaluate
from patchwise.evaluation.sweep import default_cache, slug
from patchwise.rerank.refine import calls

BENCHMARKS = {"synthetic": 0.60, "logos": 0.50}  # and the mean IoU that is aimed at among the first 100
REGIONS = "pyramid:3"
DEPTHS = (20, 100)
TIMES_LOC_SCORE = 1.8  # aimed at
METRICS = {"average_precision": "mAP", "loc_score": "LocScore"}
HEADER = (
    "benchmark",
    "first",
    "look",
    "mAP",
    "LocScore",
    "times",
    "mean IoU of positives",
    "regions per query",
    "at most",
    "s per query",
    "CPU s",
)


class Counted:
    """An encoder that counts the regions it is given."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self.regions = encoder, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.regions += len(pixels)
        return self._encoder.encode(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, distractors/")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the galleries")
    parser.add_argument("--queries", type=int, default=60, help="of each benchmark at most")
    options = parser.parse_args()
    rows, details = [], {}
    for name, aim in BENCHMARKS.items():
        benchmark = sampled(read_benchmark(name, options.data if name == "logos" else None), options.queries)
        found = measured(benchmark, options.cache)
        for depth, looks in found.items():
            rows += [[name, depth, look, *cells(figures)] for look, figures in looks.items()]
        last = found[DEPTHS[-1]]["refine"]
        details[name] = {
            "queries": len(benchmark.queries),
            "images": len(benchmark.image_ids),
            "figures": found,
            "met": {
                "LocScore": bool(last["times"] >= TIMES_LOC_SCORE),
                "mean IoU": bool(last["mean_iou_in_shortlist"] >= aim),
                "mAP": bool(last["gain"]["average_precision"]["mean"] > 0),
            },
        }
    queries = " and ".join(f"{found['queries']} of {name}" for name, found in details.items())
    report(
        "refine",
        f"The built-in encoder with {REGIONS}, without and with `rerank=refine` at the first images of each query; "
        f"queries drawn at random: {queries}.",
        HEADER,
        rows,
        **details,
    )
    for name, found in details.items():
        print(name, found["met"])


def sampled(benchmark: Benchmark, count: int) -> Benchmark:
    """The benchmark with so many of its queries."""
    possible = [query for query in benchmark.queries if query.positives]
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(possible))[:count])
    return replace(benchmark, queries=[possible[at] for at in drawn])


def measured(benchmark: Benchmark, cache: Path) -> dict[int, dict[str, dict[str, Any]]]:
    """Figures by depth, without and with the second look."""
    encoder = Counted(load_encoder("builtin"))
    folder = cache / f"refine-{slug(benchmark.name)}.pw"
    try:
        gallery = Gallery.open(folder, encoder=encoder)
    except GalleryNotFound:
        gallery = Gallery.create(folder, encoder=encoder, regions=REGIONS)
    with gallery:
        evaluate(benchmark, gallery)  # encodes the images
        encoder.regions = 0
        began = time.process_time()
        before = evaluate(benchmark, gallery)
        of_grid = (time.process_time() - began) / len(benchmark.queries)
        of_queries = encoder.regions
        found: dict[int, dict[str, dict[str, Any]]] = {}
        for depth in DEPTHS:
            encoder.regions = 0
            began = time.process_time()
            after = evaluate(benchmark, gallery, rerank=f"refine:{depth}")
            processor = (time.process_time() - began) / len(benchmark.queries)
            taken = (encoder.regions - of_queries) / len(benchmark.queries)
            print(f"{benchmark.name}: {depth} hits refined", file=sys.stderr, flush=True)
            compared = compare_runs(before, after)
            found[depth] = {
                "grid": {**figures(before, depth), "times": 1.0, "regions_per_query": 0.0, "bound": 0, "cpu": of_grid},
                "refine": {
                    **figures(after, depth),
                    "times": float(
                        np.nanmean(per_query(after)["loc_score"]) / np.nanmean(per_query(before)["loc_score"])
                    ),
                    "regions_per_query": taken,
                    "bound": calls(depth),
                    "cpu": processor,
                    "gain": {
                        metric: {
                            "mean": 100 * compared[metric].difference.mean,
                            "low": 100 * compared[metric].difference.low,
                            "high": 100 * compared[metric].difference.high,
                        }
                        for metric in METRICS
                    },
                },
            }
    return found


def figures(run: Run, depth: int) -> dict[str, Any]:
    """What is reported of a run; the mean IoU is over all positives among the first `depth` images."""
    ious = [
        item.iou for outcome in run.outcomes for item in outcome.found if item.rank <= depth and item.iou is not None
    ]
    values = per_query(run)
    return {
        **{metric: 100 * float(np.nanmean(values[metric])) for metric in METRICS},
        "mean_iou_in_shortlist": float(np.mean(ious)),
        "positives_in_shortlist": len(ious),
        "seconds_per_query": run.costs["seconds_per_query"],
    }


def cells(found: dict[str, Any]) -> list[str]:
    gained = found.get("gain", {})

    def gain(metric: str) -> str:
        return f" ({gained[metric]['low']:+.1f} to {gained[metric]['high']:+.1f})" if metric in gained else ""

    return [
        *(f"{found[metric]:.1f}{gain(metric)}" for metric in METRICS),
        f"{found['times']:.2f}",
        f"{found['mean_iou_in_shortlist']:.3f}",
        f"{found['regions_per_query']:,.0f}",
        f"{found['bound']:,}",
        f"{found['seconds_per_query']:.2f}",
        f"{found['cpu']:.2f}",
    ]


if __name__ == "__main__":
    main()
