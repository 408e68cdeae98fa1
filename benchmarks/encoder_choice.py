"""Why the built-in encoder is what it is: layers, whitening and precision, measured on the tasks of encoder_tasks.py.

    python benchmarks/encoder_choice.py --cache DIR

It rebuilds the networks from the exporter (so it needs what that needs: torch, onnx and the weights package), runs
every variant over the same regions in one pass, and compares them offline.

What ships is the row "shipped layers, int8 7-bit weights, fixed, 256": the exporter's defaults. Whitening: "fixed" is
learned from pictures that are in no gallery, "own" from the very regions of the gallery searched, "adapted" is the
shipped prior after them (what `--whitening gallery` does), and "adapted, N" after those of N pictures of the gallery.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from PIL import Image

from common import DATA, ROOT, SEED, report
from encoder_tasks import (
    REGIONS,
    Array,
    Box,
    Data,
    Picture,
    Task,
    build_tasks,
    cells,
    measure,
    read_data,
    standard_error,
)
from patchwise.encoders.whitening import Whitening, normalised
from patchwise.encoders.whitening_prior import WhiteningPrior

sys.path.insert(0, str(ROOT / "scripts"))
import export_builtin_encoder as exporter

LAYERS = list(exporter.LAYERS.values())
BASELINE = "head GeM + stage-7 mean, max"
BLOCKS = {"head": (0, 1280), "depthwise11": (1280, 1952), "s7_mean": (1952, 2272), "s7_max": (2272, 2592)}
TASKS = ("logos", "subjects", "pasted")


# ---------------------------------------------------------------------------------------------- networks
def wide_model(state: dict[str, Array]) -> onnx.ModelProto:
    """Float32 network with every block compared here."""
    graph = exporter.Graph(state)
    taps = graph.network()
    units = [graph.generalised_mean(taps[layer], layer) for layer in exporter.LAYERS]
    for kind, op in (("mean", "GlobalAveragePool"), ("max", "GlobalMaxPool")):
        flat = graph.op("Flatten", [graph.op(op, [taps["stage7"]], f"s7.{kind}")], f"s7.{kind}.flat", axis=1)
        units.append(graph.unit(flat, f"s7.{kind}"))
    graph.op("Concat", units, "descriptor", axis=1)
    return graph.model("descriptor", 2592)


def session(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def cut(job: tuple[Picture, Sequence[Box] | None]) -> npt.NDArray[np.uint8]:
    image = job[0].load()
    size = (exporter.SIZE, exporter.SIZE)
    boxes = cells(image.size) if job[1] is None else job[1]
    crops = [image.crop(tuple(round(v) for v in b)).resize(size, Image.Resampling.BILINEAR) for b in boxes]
    return np.stack([np.asarray(c) for c in crops])


def features(data: Data, models: dict[str, onnx.ModelProto], cache: Path, key: str) -> dict[str, dict[str, Array]]:
    """Set name: network name: descriptors, cached as float16."""
    cache.mkdir(parents=True, exist_ok=True)
    sessions = {name: session(model, 1) for name, model in models.items()}
    jobs: dict[str, list[tuple[Picture, Sequence[Box] | None]]] = {
        name: [(picture, None) for picture in pictures] for name, pictures in data.sets.items()
    } | {f"ask {name}": [(picture, [box]) for picture, box in asks] for name, asks in data.asks.items()}
    result: dict[str, dict[str, Array]] = {}
    for name, todo in jobs.items():
        file = cache / f"{name.replace(' ', '_')}-{key}.npz"
        if not file.exists():
            parts: dict[str, list[npt.NDArray[np.float16]]] = {m: [] for m in models}
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for found in pool.map(lambda job: run_all(sessions, cut(job)), todo):
                    for m, descriptors in found.items():
                        parts[m].append(descriptors)
            np.savez(file, **{m: np.concatenate(p) for m, p in parts.items()})
            print(f"{name}: {len(todo)} pictures", file=sys.stderr)
        with np.load(file) as stored:
            result[name] = {m: stored[m].astype(np.float32) for m in models}
    return result


def run_all(sessions: dict[str, ort.InferenceSession], pixels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Network name: float16 descriptors, two regions at a time, which keeps activations in the processor's cache."""
    starts = range(0, len(pixels), 2)
    return {
        name: np.concatenate([s.run(None, {"pixels": pixels[i : i + 2]})[0] for i in starts]).astype(np.float16)
        for name, s in sessions.items()
    }


def milliseconds(models: dict[str, onnx.ModelProto], rounds: int = 9) -> dict[str, dict[str, list[float]]]:
    """Median and least ms per region by batch and threads; all networks take turns, so that noise meets all alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    runners = {(name, t): session(model, t) for name, model in models.items() for t in (1, 2)}
    spent: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in models}
    for _ in range(rounds):
        for batch in (2, 32):
            for (name, threads), runner in runners.items():
                start = time.perf_counter()
                for i in range(0, 32, batch):
                    runner.run(None, {"pixels": pixels[i : i + batch]})
                taken = (time.perf_counter() - start) / 32 * 1e3
                spent[name][f"batch {batch}, {threads} threads"].append(taken)
    return {n: {k: [float(np.median(x)), min(x)] for k, x in kinds.items()} for n, kinds in spent.items()}


# ---------------------------------------------------------------------------------------------- variants
@dataclass(frozen=True)
class Variant:
    name: str
    blocks: tuple[str, ...]
    network: str = "fp32"
    whitening: str = "fixed"  # none, fixed, own, adapted
    per_layer: bool = True
    dim: int = 256
    pictures: int | None = None  # of the gallery, to learn from; None: all

    @property
    def learned(self) -> str:
        return self.whitening if self.pictures is None else f"{self.whitening}, {self.pictures}"


def variants() -> list[Variant]:
    ours, head, old = ("head", "depthwise11"), ("head",), ("head", "s7_mean", "s7_max")
    shipped = "int8 7-bit weights"
    result = [Variant(BASELINE, old, whitening=w, per_layer=False) for w in ("fixed", "none", "own")]
    result += [Variant("head GeM", head, whitening=w, per_layer=False) for w in ("none", "fixed", "own")]
    result += [Variant("shipped layers, plain PCA", ours, per_layer=False)]
    result += [Variant("shipped layers", ours, whitening=w) for w in ("none", "fixed", "own", "adapted")]
    result += [Variant("shipped layers", ours, dim=d) for d in (128, 384, 512)]
    result += [Variant("shipped layers", ours, network=n) for n in ("fp16", "int8", shipped)]
    kinds = [("own", 10), ("own", 50), ("own", 200), ("adapted", 10), ("adapted", 50), ("adapted", 200)]
    result += [Variant("shipped layers", ours, network=shipped, whitening=w, pictures=n) for w, n in kinds]
    return [*result, Variant("shipped layers", ours, network=shipped, whitening="adapted")]


def learn(v: Variant, elsewhere: Array, gallery: Array) -> Whitening:
    """The whitening of a variant, from regions of pictures in no gallery and those of the gallery."""
    if v.pictures is not None:
        by_picture = gallery.reshape(-1, REGIONS, gallery.shape[1])
        chosen = np.random.default_rng(SEED).permutation(len(by_picture))[: v.pictures]
        gallery = by_picture[chosen].reshape(-1, gallery.shape[1])
    if v.whitening == "adapted":
        return WhiteningPrior.learn(elsewhere, LAYERS, exporter.PRIOR_PER_LAYER).adapted(gallery).whitening(v.dim)
    examples = elsewhere if v.whitening == "fixed" else gallery
    if v.per_layer:
        return WhiteningPrior.learn(examples, LAYERS, v.dim).whitening(v.dim)
    return Whitening.learn(examples, v.dim)


def run_variant(v: Variant, stored: dict[str, dict[str, Array]], tasks: dict[str, Task]) -> dict[str, dict[str, Array]]:
    def descriptors(name: str) -> Array:
        return np.concatenate([stored[name][v.network][:, slice(*BLOCKS[b])] for b in v.blocks], axis=1)

    result: dict[str, dict[str, Array]] = {}
    for name, task in tasks.items():
        gallery = np.concatenate([descriptors(s) for s in task.gallery])
        asks = descriptors("subjects")[::REGIONS] if name == "subjects" else descriptors(f"ask {name}")
        if v.whitening == "none":
            gallery, asks = normalised(gallery), normalised(asks)
        else:
            space = learn(v, descriptors("half A"), gallery)
            gallery, asks = space.apply(gallery), space.apply(asks)
        result[name] = {level: measure(task, asks, gallery, r) for level, r in (("whole", 1), ("L3", REGIONS))}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, subjects/, distractors/")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="folder for the features (about 1 GB)")
    parser.add_argument("--limit", type=int, default=10**6, help="pictures per set, for a quick try")
    args = parser.parse_args()

    data = read_data(args.data, SEED, args.limit)
    state = exporter.load_state()
    shipped, learning = exporter.descriptor_model(state), [p.path for p in data.sets["half A"]]
    int8 = {
        name: exporter.quantise(shipped, exporter.calibration_batches(learning, 100), reduce_range=reduce)
        for name, reduce in (("int8", False), ("int8 7-bit weights", True))
    }
    models = {"fp32": wide_model(state), "fp16": exporter.store_half(shipped), **int8}
    digest = hashlib.sha256(b"".join(m.SerializeToString(deterministic=True) for m in models.values()))
    stored = features(data, models, args.cache, f"{digest.hexdigest()[:12]}-{SEED}-{args.limit}")
    tasks = build_tasks(data)
    speed = milliseconds({**models, "fp32": shipped})
    size = {name: len(m.SerializeToString()) / 1e6 for name, m in {**models, "fp32": shipped}.items()}

    reference: dict[str, dict[str, Array]] | None = None
    rows, details = [], []
    for v in variants():
        found = run_variant(v, stored, tasks)
        reference = reference or found
        error = {n: standard_error(t, (found[n]["L3"] - reference[n]["L3"])[:, 1]) * 100 for n, t in tasks.items()}
        means = {n: {k: (np.nanmean(x, axis=0) * 100).tolist() for k, x in r.items()} for n, r in found.items()}
        details.append({**v.__dict__, "figures": means, "standard_error_of_gain": error})
        cells_ = []
        for n in TASKS:
            local = f" ({means[n]['L3'][2]:.1f})" if n != "subjects" else ""
            cells_.append(f"{means[n]['whole'][1]:.1f} / {means[n]['L3'][1]:.1f}{local}")
        dim = "raw" if v.whitening == "none" else v.dim
        rows.append([v.name, v.network, v.learned, dim, *cells_, f"{error['logos']:.1f}"])
        print(*rows[-1], sep=" | ", file=sys.stderr)
    fastest = "batch 2, 2 threads"
    report(
        "encoder_choice",
        "Layers, precision and whitening of the built-in encoder: mAP of whole images / of L3 (LocScore of L3) on "
        "three tasks; standard error, by bootstrap over labels, of the L3 gain over the first row on the logos. "
        + "; ".join(f"{n}: {size[n]:.1f} MB, {speed[n][fastest][0]:.2f} ms a region on two cores" for n in models)
        + ".",
        ["layers", "network", "whitening", "dimension", *TASKS, "error"],
        rows,
        figures=["R@1", "mAP", "LocScore"],
        variants=details,
        milliseconds=speed,
        megabytes=size,
    )


if __name__ == "__main__":
    main()
