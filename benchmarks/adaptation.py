"""Is a linear map learned from a collection's own pictures, without labels, better than the encoder alone?

On logos, subjects and the synthetic scenes, with 30 regions an image: the encoder alone, with the whitening that is
shipped for it, with `--whitening gallery`, and with what `patchwise adapt` learns from the pictures of the same gallery
(a quarter of them held out, as always) and from those of the other two. Labels only judge; files with the same content
count once. Vectors are encoded once and kept in `--cache`.

    python benchmarks/adaptation.py [--encoder NAME]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import DATA, ROOT, SEED, report
from patchwise.adaptation.examples import Examples, encode_examples
from patchwise.adaptation.learning import Subject, learn
from patchwise.adaptation.starts import whitening_of
from patchwise.boxes import iou_xyxy
from patchwise.encoders import Projected, load_backbone, load_encoder
from patchwise.encoders.whitening import normalised
from patchwise.evaluation import paired
from patchwise.evaluation.datasets import Benchmark, read_benchmark
from patchwise.evaluation.metrics import average_precision, loc_score
from patchwise.images import DEFAULT_MAX_PIXELS, read_picture
from patchwise.indexing import query_vector
from patchwise.indexing.walk import FoundFile, listed
from patchwise.regions import View, parse_regions

Array = npt.NDArray[np.float32]
Map = Callable[[Array], Array]
REGIONS = "pyramid:3"
SETS = {"logos": "", "subjects": "subjects", "synthetic": None}  # benchmark: its folder below --data
READERS = {"logos": "logos", "subjects": "folders", "synthetic": "synthetic"}
ALONE, SHIPPED, GALLERY = "encoder alone", "shipped whitening", "`--whitening gallery`"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, eq=False)
class Encoded:
    """A benchmark with the vectors of its pictures, in the order of `names`, and of its queries."""

    benchmark: Benchmark
    names: list[str]
    boxes: Array
    examples: Examples
    queries: Array


def encoded(name: str, options: argparse.Namespace, encoder: Any) -> Encoded:
    folder = SETS[name]
    benchmark = read_benchmark(READERS[name], None if folder is None else options.data / folder, progress=say)
    strategy = parse_regions(REGIONS)
    files = without_copies(listed(benchmark.root, benchmark.image_ids).files)
    cache = options.cache / f"{name}-{encoder.weights_sha256[:16]}.npz"
    if not cache.exists():
        options.cache.mkdir(parents=True, exist_ok=True)
        examples, failed = encode_examples(
            encoder,
            strategy,
            files,
            seed=SEED,
            max_pixels=DEFAULT_MAX_PIXELS,
            advance=lambda _what, done, total: say(f"{name}: {done} of {total}") if done % 128 == 0 else None,
        )
        if failed:
            raise SystemExit(f"{name}: {failed[0]}")
        queries = [query_vector(encoder, query.image, query.box) for query in benchmark.queries]
        np.savez(
            cache,
            regions=examples.regions.astype(np.float16),
            starts=examples.starts,
            crops=examples.crops.astype(np.float16),
            crop_of=examples.crop_of,
            queries=np.stack(queries),
        )
    with np.load(cache) as kept:
        examples = Examples(
            kept["regions"].astype(np.float32), kept["starts"], kept["crops"].astype(np.float32), kept["crop_of"]
        )
        queries_encoded = kept["queries"]
    sizes = (read_picture(Path(file.path)).size for file in files)
    boxes = np.concatenate([strategy.regions(View(size)).boxes for size in sizes])
    root = str(benchmark.root.resolve()) + "/"
    names = [str(Path(file.path).resolve()).removeprefix(root) for file in files]
    return Encoded(benchmark, names, boxes, examples, queries_encoded)


def without_copies(files: list[FoundFile]) -> list[FoundFile]:
    """Of files with the same content the first."""
    first: dict[bytes, FoundFile] = {}
    for file in files:
        first.setdefault(hashlib.sha256(Path(file.path).read_bytes()).digest(), file)
    return list(first.values())


def judge(data: Encoded, apply: Map) -> npt.NDArray[np.float64]:
    """Per query: average precision, LocScore (NaN without boxes)."""
    starts = data.examples.starts
    scores = apply(data.queries) @ apply(data.examples.regions).T
    best = np.maximum.reduceat(scores, starts[:-1], axis=1)
    index = {name: number for number, name in enumerate(data.names)}
    figures = np.full((len(data.benchmark.queries), 2), np.nan)
    for number, query in enumerate(data.benchmark.queries):
        truth = {name: boxes for name, boxes in query.positives.items() if name in index}
        if not truth:
            continue
        best[number, [index[name] for name in query.ignored if name in index]] = -np.inf
        order = np.argsort(-best[number], kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(1, len(order) + 1)
        positives = sorted(truth, key=lambda name: rank[index[name]])
        ranks = rank[[index[name] for name in positives]]
        figures[number, 0] = average_precision(ranks, len(ranks))
        if all(truth.values()):
            ious = []
            for name in positives:
                own = slice(starts[index[name]], starts[index[name] + 1])
                predicted = data.boxes[own][scores[number, own].argmax()]
                ious.append(float(iou_xyxy(predicted, np.array(truth[name])).max()))
            figures[number, 1] = loc_score(ranks, np.array(ious), len(ranks))
    return figures


def together(parts: list[Examples]) -> Examples:
    return Examples.joined(
        [one.regions[one.starts[i] : one.starts[i + 1]] for one in parts for i in range(len(one))],
        [one.crops[one.crop_of == i] for one in parts for i in range(len(one))],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, subjects/, distractors/")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "adaptation", help="folder of the vectors")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--name", default="adaptation", help="of the file of results")
    parser.add_argument("--title", help="what to call the encoder")
    options = parser.parse_args()
    whole, prior = load_encoder(options.encoder), load_backbone(options.encoder)[1]
    shipped = whole.projection.apply if isinstance(whole, Projected) else None
    backbone = whole.backbone if isinstance(whole, Projected) else whole
    sets = {name: encoded(name, options, backbone) for name in options.sets.split(",")}
    subject = Subject(backbone, shipped or normalised, whole.dimension, prior)
    dimension = min(whole.dimension, 512)

    figures: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    held_out: dict[str, Any] = {}
    for name, data in sets.items():
        own = data.examples
        maps: dict[str, Map] = {ALONE: normalised}
        if shipped is not None:
            maps[SHIPPED] = shipped
        maps[GALLERY] = whitening_of(own.regions, min(dimension, 256), prior).apply
        sources = {
            "these pictures": own,
            "the others": together([sets[other].examples for other in sets if other != name]),
        }
        for where, examples in sources.items():
            for method in ("whitening", "linear"):
                learned = learn(subject, examples, method, dimension, SEED, lambda *_: None)
                maps[f"{method}, from {where}"] = learned.layer.apply
                held_out[f"{name}: {method}, from {where}"] = {
                    "pictures": learned.pictures,
                    "epochs": learned.epochs,
                    **{what: float(one.average_precision.mean()) for what, one in learned.measured.items()},
                }
                say(f"{name}: {method} from {where}: {held_out[f'{name}: {method}, from {where}']}")
        figures[name] = {how: judge(data, apply) for how, apply in maps.items()}

    rows, details = [], {}
    for how in next(iter(figures.values())):
        row = [how]
        for name, by_map in figures.items():
            ap, loc = (
                np.nanmean(by_map[how][:, column]) if np.isfinite(by_map[how][:, column]).any() else None
                for column in (0, 1)
            )
            row += [f"{100 * ap:.1f}", *([f"{100 * loc:.1f}"] if loc is not None else [])]
            details[f"{name}: {how}"] = {"mAP": ap, "LocScore": loc}
        rows.append(row)
    header = ["vectors"]
    for name, by_map in figures.items():
        header += [f"{name} mAP"] + ([f"{name} LocScore"] if np.isfinite(by_map[ALONE][:, 1]).any() else [])
    gains = {}
    for name, data in sets.items():
        groups = [query.group for query in data.benchmark.queries]
        for where in ("these pictures", "the others"):
            layer = figures[name][f"linear, from {where}"]
            for against in (SHIPPED if shipped is not None else ALONE, GALLERY, f"whitening, from {where}"):
                found = paired(figures[name][against][:, 0], layer[:, 0], groups).difference
                gains[f"{name}: layer from {where} over {against}"] = [
                    100 * found.mean,
                    100 * found.low,
                    100 * found.high,
                ]
    lines = ["| mAP of the layer | " + " | ".join(sets) + " |", "|---|" + "---:|" * len(sets)]
    for key in [key.split(": ", 1)[1] for key in gains if key.startswith(next(iter(sets)))]:
        cells = ("{:+.1f} [{:+.1f}, {:+.1f}]".format(*gains[f"{name}: {key}"]) for name in sets)
        lines.append(f"| {key.removeprefix('layer ')} | " + " | ".join(cells) + " |")
    counts = ", ".join(f"{name} {len(data.examples):,} pictures" for name, data in sets.items())
    report(
        options.name,
        f"{options.title or options.encoder}, {backbone.dimension} numbers a vector before and {dimension} after, "
        f"{REGIONS}: {counts}.",
        header,
        rows,
        figures=details,
        held_out=held_out,
        gains=gains,
        gains_table=lines,
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
