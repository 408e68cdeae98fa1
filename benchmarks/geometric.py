"""What does geometric verification do for flat objects, and for those where it has nothing to see?

posters     photographs hung in perspective into other photographs (`geometric_scenes.py`)
covers      the same with generated covers: text and plain shapes
landmark    ten photographs of one church among distractors; no boxes
logos       box crops of logos, some of the queries
unrelated   pairs of pictures that show nothing in common: verifications against those that the test allows for

Rankings are full; a second look takes the first 50 (refine: 20). Each is timed with features that are not known yet,
and `geometric:50` once more with those that the gallery has kept.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from common import DATA, SEED, photographs, report
from geometric_scenes import OBJECTS, covers, make_flat, opened, posters, shuffled
from patchwise import Gallery
from patchwise.evaluation import per_query
from patchwise.evaluation.datasets import Benchmark, Query, read_benchmark
from patchwise.evaluation.runner import evaluate
from patchwise.images import read_picture
from patchwise.rerank.geometric import VERIFIED, Sift, projections
from patchwise.store.remembered import REMEMBERED

KINDS = ("posters", "covers", "landmark", "logos", "unrelated")
DEPTH = 50
LOOKS = ("", f"geometric:{DEPTH}", f"geometric:{DEPTH} again", "refine:20", f"refine:20,geometric:{DEPTH}")
METRICS = ("average_precision", "loc_score", "mean_iou", "recall_at_1")
THRESHOLDS = (0.0, -1.0, -2.0, VERIFIED, -4.0)


def landmark(data: Path) -> Benchmark:
    shown = [f"landmark/{path.name}" for path in photographs(data / "landmark")]
    others = [f"distractors/{path.name}" for path in photographs(data / "distractors")]
    queries = [
        Query(name, data / name, None, {other: () for other in shown if other != name}, frozenset({name}), "church")
        for name in shown
    ]
    return Benchmark("landmark", data, [*shown, *others], queries)


def read(kind: str, data: Path, folder: Path, queries: int) -> Benchmark:
    if kind == "landmark":
        return landmark(data)
    if kind == "logos":
        benchmark = read_benchmark("logos", data / "logos")
        usable = [query for query in benchmark.queries if query.positives]
        chosen = np.random.default_rng(SEED).permutation(len(usable))[:queries]
        return replace(benchmark, queries=[usable[number] for number in sorted(chosen)])
    files = shuffled(photographs(data / "distractors"))
    backgrounds = [opened(path) for path in files[OBJECTS : OBJECTS + 60]]
    objects = posters(data / "distractors") if kind == "posters" else covers(np.random.default_rng(SEED))
    return make_flat(kind, objects, backgrounds, folder / kind)


def measure(kind: str, benchmark: Benchmark, gallery: Gallery, looks: list[str]) -> None:
    rows, details = [], {}
    for look in looks:
        if "again" not in look:
            for file in (Path(gallery.path) / REMEMBERED).glob("*/*"):
                file.unlink()
        run = evaluate(benchmark, gallery, rerank=look.removesuffix(" again"))
        values = per_query(run)
        figures = {name: float(np.nanmean(values[name])) for name in METRICS if np.isfinite(values[name]).any()}
        seconds = run.costs["seconds_per_query"]
        hits = min(DEPTH, len(benchmark.image_ids))
        details[look or "grid"] = figures | {"seconds_per_query": seconds, "queries": len(run.outcomes)}
        rows.append(
            [
                look or "grid",
                *(shown(figures, name) for name in METRICS),
                f"{seconds:.2f}",
                f"{1000 * seconds / hits:.0f}" if look.startswith("geometric") else "",
            ]
        )
    report(
        f"geometric_{kind}",
        f"{kind}: {len(benchmark.queries)} queries, {len(benchmark.image_ids)} images, pyramid:3, built-in encoder.",
        ["second look", "mAP", "LocScore", "mean IoU", "R@1", "s / query", "ms / hit"],
        rows,
        **details,
    )


def shown(figures: dict[str, float], name: str) -> str:
    return f"{figures[name]:.3f}" if name in figures else "-"


def unrelated(data: Path, pairs: int) -> None:
    """Box crops of logos and whole subjects against distractors, drawn at random."""
    sift, generator = Sift(), np.random.default_rng(SEED)
    logos = read_benchmark("logos", data / "logos")
    asked: list[tuple[Path, tuple[float, ...] | None]] = [(query.image, query.box) for query in logos.queries]
    asked += [(path, None) for path in photographs(data / "subjects")]
    images = photographs(data / "distractors")
    side = max(round(pairs**0.5), 1)
    queries = [asked[number] for number in generator.permutation(len(asked))[:side]]
    chosen = [images[number] for number in generator.permutation(len(images))[: -(-pairs // side)]]
    known = []
    for path in chosen:
        picture = read_picture(path).pixels
        known.append((sift.keypoints(sift.found(picture)), picture.size))
    alarms = []
    for path, box in queries:
        picture = read_picture(path).pixels
        picture = picture if box is None else picture.crop(tuple(round(edge) for edge in box))
        keypoints = sift.keypoints(sift.found(picture))
        for seen, size in known:
            found = projections(keypoints, seen, picture.size, size, significant=VERIFIED)
            alarms.append(found[0].log_alarms if found else np.inf)
    observed = {threshold: int((np.array(alarms) <= threshold).sum()) for threshold in THRESHOLDS}
    report(
        "geometric_unrelated",
        f"{len(queries)} queries x {len(chosen)} distractors: projections among unrelated pictures.",
        ["log10 false alarms", "at most", "observed"],
        [[f"{each:.0f}", f"{len(alarms) * 10**each:.1f}", count] for each, count in observed.items()],
        pairs=len(alarms),
        observed={str(each): count for each, count in observed.items()},
        smallest=sorted(float(each) for each in alarms)[:20],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cache", type=Path, help="folder for galleries and scenes (default: a temporary one)")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--looks", nargs="*", choices=LOOKS, default=LOOKS)
    parser.add_argument("--queries", type=int, default=40, help="of the logos")
    parser.add_argument("--pairs", type=int, default=10_000, help="of unrelated pictures")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.cache or Path(temporary)
        for kind in options.only:
            if kind == "unrelated":
                unrelated(options.data, options.pairs)
                continue
            benchmark = read(kind, options.data, folder, options.queries)
            place = folder / f"{kind}.pw"
            gallery = Gallery.open(place) if place.exists() else Gallery.create(place, regions="pyramid:3")
            with gallery:
                measure(kind, benchmark, gallery, list(options.looks))


if __name__ == "__main__":
    main()
