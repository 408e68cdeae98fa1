"""One pass per image against one pass per region: what is gained in time, and what is lost in accuracy?

    python benchmarks/dense_encoding.py --cache DIR

DeiT-tiny has its real weights; the ViT-S, measured for its speed alone, has random ones, which cost the same. All kinds
take turns, so that other work on the machine meets all alike. Galleries are kept in `--cache`: a second run only
searches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import DATA, ROOT, SEED, photographs, report, table
from patchwise import Gallery
from patchwise.encoders import Encoder, load_encoder
from patchwise.evaluation import Run, compare_runs, per_query
from patchwise.evaluation.datasets import Benchmark, read_benchmark
from patchwise.evaluation.sweep import default_cache, sweep
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing.passes import passes_of
from patchwise.indexing.prepare import cut_picture
from patchwise.regions import parse_regions

DEIT = "deit_tiny_patch16_224"
SMALL = "vit_small_patch16_224"
PER_REGION = "one pass per region"
TIMED_REGIONS = "pyramid:3"
TIMED = {
    PER_REGION: "",
    "dense, 336": ",encode=dense,picture_size=336",
    "dense, 448": ",encode=dense,picture_size=448",
    "dense, 672": ",encode=dense,picture_size=672",
}
CLASS_TOKEN, MEAN = f"{PER_REGION}, class token", f"{PER_REGION}, mean of tokens"
COMPARED = {
    CLASS_TOKEN: "",
    MEAN: ",pooling=mean",
    "dense, 336": ",encode=dense,picture_size=336",
    "dense, 448": ",encode=dense,picture_size=448",
    "dense, 448, queries at 448": ",size=448,encode=dense,picture_size=448",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, subjects/, weights/")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the galleries")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--regions", default="pyramid:2", help="of the galleries that are searched")
    parser.add_argument("--logos", type=int, default=60, help="photographs of logos in the gallery")
    parser.add_argument("--queries", type=int, default=80, help="logos that are asked for")
    parser.add_argument("--images", type=int, default=2, help="photographs that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "shim"))  # where torchvision was built for another torch
    import sitecustomize  # noqa: F401

    weights = options.data / "weights" / f"{DEIT}.timm.safetensors"
    with tempfile.TemporaryDirectory() as temporary:
        names = {"DeiT-tiny": f"timm:{DEIT},weights={weights}", "ViT-S/16": random_network(Path(temporary))}
        files = photographs(options.data / "subjects")[: options.images]
        speeds = {net: speed(name, files, options.device, options.rounds) for net, name in names.items()}
    benchmarks = [
        read_benchmark("folders", options.data / "subjects"),
        fewer(read_benchmark("logos:no-distractors", options.data), options.logos, options.queries),
        read_benchmark("synthetic:scenes=3:empty=8", progress=lambda text: print(text, file=sys.stderr)),
    ]
    found = {one.name: accuracy(one, f"timm:{DEIT},weights={weights}", options) for one in benchmarks}
    report(
        "dense_encoding",
        f"Images per second with {TIMED_REGIONS} on {options.device}: of the encoder alone, and from JPEG files to a "
        f"stored gallery; median of {options.rounds} rounds over {len(files)} photographs of a megapixel.",
        ["network", "encoding", "encoder alone", "times", "indexing", "times"],
        [row for net, kinds in speeds.items() for row in speed_rows(net, kinds)],
        device=options.device,
        regions=options.regions,
        speeds=speeds,
        accuracy=found,
        accuracy_tables={name: accuracy_table(rows) for name, rows in found.items()},
    )
    for name, rows in found.items():
        print(name, *accuracy_table(rows), sep="\n")


# ---------------------------------------------------------------------------------------------- speed
def random_network(folder: Path) -> str:
    """A ViT-S/16 with random weights, by name."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    weights = folder / f"{SMALL}.safetensors"
    save_file(timm.create_model(SMALL, pretrained=False, num_classes=0).state_dict(), weights)
    return f"timm:{SMALL},weights={weights}"


def speed(name: str, files: Sequence[Path], device: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images per second of every kind in every round."""
    encoders = {kind: load_encoder(name + options, device=device) for kind, options in TIMED.items()}
    rates: dict[str, dict[str, list[float]]] = {kind: {"alone": [], "indexing": []} for kind in encoders}
    for encoder in encoders.values():
        alone_rate(encoder, files[:1])  # the first pass is slower
    for _ in range(rounds):
        for kind, encoder in encoders.items():
            rates[kind]["alone"].append(alone_rate(encoder, files))
            rates[kind]["indexing"].append(indexing_rate(encoder, files))
    return rates


def alone_rate(encoder: Encoder, files: Sequence[Path]) -> float:
    """Of the encoder on inputs that are ready."""
    passes, strategy = passes_of(encoder), parse_regions(TIMED_REGIONS)
    cut = [cut_picture(path, str(path), passes, strategy, DEFAULT_MAX_PIXELS).inputs for path in files]
    together = type(cut[0]).joined(cut)
    began = time.perf_counter()
    for start in range(0, len(together), passes.batch_size):
        passes.encode(together[start : start + passes.batch_size])
    return len(files) / (time.perf_counter() - began)


def indexing_rate(encoder: Encoder, files: Sequence[Path]) -> float:
    """Of a whole indexing run."""
    with (
        tempfile.TemporaryDirectory() as place,
        Gallery.create(Path(place) / "g.pw", encoder=encoder, regions=TIMED_REGIONS) as gallery,
    ):
        done = gallery.add(*files)
        return done.added / done.seconds


def speed_rows(network: str, kinds: dict[str, dict[str, list[float]]]) -> list[list[str]]:
    rows = []
    for kind, rates in kinds.items():
        cells = [network, kind]
        for what in ("alone", "indexing"):
            gain = statistics.median(a / b for a, b in zip(rates[what], kinds[PER_REGION][what], strict=True))
            cells += [f"{statistics.median(rates[what]):.2f}", f"{gain:.2f}"]
        rows.append(cells)
    return rows


# ---------------------------------------------------------------------------------------------- accuracy
def fewer(benchmark: Benchmark, images: int, asked_at_most: int) -> Benchmark:
    """A random part of a benchmark's images, and of the queries that have a positive among them."""
    generator = np.random.default_rng(SEED)
    kept = set(generator.permutation(benchmark.image_ids)[:images].tolist())
    queries = [
        replace(query, positives={image: boxes for image, boxes in query.positives.items() if image in kept})
        for query in benchmark.queries
    ]
    possible = [query for query in queries if query.positives]
    asked = [possible[index] for index in np.sort(generator.permutation(len(possible))[:asked_at_most])]
    return replace(benchmark, name=f"{benchmark.name}, {images} photographs", image_ids=sorted(kept), queries=asked)


def accuracy(benchmark: Benchmark, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """mAP and LocScore of every kind, and its difference from one pass per region at equal pooling."""
    runs: dict[str, Run] = {}
    for kind, more in COMPARED.items():
        print(f"{benchmark.name}: {kind}", file=sys.stderr, flush=True)
        (runs[kind],) = sweep(
            benchmark, [options.regions], encoder=name + more, device=options.device, cache=options.cache
        )
    rows = {}
    for kind, run in runs.items():
        values, compared = per_query(run), compare_runs(runs[MEAN], run)
        rows[kind] = {
            metric: {"mean": 100 * float(np.nanmean(values[metric])), **difference(compared[metric])}
            for metric in ("average_precision", "loc_score")
            if not np.isnan(values[metric]).all()  # no boxes are known
        }
    asked = next(iter(runs.values())).outcomes
    return {"queries": len(asked), "images": len(benchmark.image_ids), "kinds": rows}


def difference(compared: Any) -> dict[str, float]:
    found = compared.difference
    return {"gain": 100 * found.mean, "low": 100 * found.low, "high": 100 * found.high}


def accuracy_table(found: dict[str, Any]) -> list[str]:
    rows = []
    for kind, metrics in found["kinds"].items():
        cells = [kind]
        for values in metrics.values():
            against = "" if kind == MEAN else f"{values['gain']:+.1f} [{values['low']:+.1f}, {values['high']:+.1f}]"
            cells += [f"{values['mean']:.1f}", against]
        rows.append(cells)
    header = ["encoding", "mAP", "against the mean", "LocScore", "against the mean"]
    return table(header[: len(rows[0])], rows)


if __name__ == "__main__":
    main()
