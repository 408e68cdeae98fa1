"""Why the built-in encoder is what it is: layers, whitening and precision, measured on three retrieval tasks.

    python benchmarks/encoder_choice.py --data DIR --cache DIR --json benchmarks/results/encoder_choice.json

It rebuilds the networks from the exporter (so it needs what that needs: torch, onnx and the weights package), runs
every variant over the same regions in one pass, and compares them offline. Tasks, all mAP over the full ranking:

logos     every FlickrLogos-27 photo asks with one random box of each of its logos; gallery: all other logo photos,
          photos without logo, half of the distractors. LocScore is the continuous one.
subjects  every DreamBooth photo asks, whole; gallery: all other subject photos and the same distractors.
pasted    subject and logo crops pasted small (6 to 20 % of the area, off centre) into distractors and photos without
          logo; other views of the same thing ask. LocScore against the pasted box.

What ships is the row "shipped layers, int8 7-bit weights, fixed, 256": the exporter's defaults.

Whitening and int8 calibration see only the other half of the distractors; "own" is learned from the very regions of
the gallery searched. The last column is the standard error of the L3 mAP difference to the baseline on the logos, by
bootstrap over labels.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import subprocess
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
import PIL
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import export_builtin_encoder as exporter  # noqa: E402

Array = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
REGIONS = 30
HEADING = (
    """\
| layers | network | whitening | dim | logos whole: R@1 mAP | L3: R@1 mAP Loc | subjects whole: R@1 mAP | L3: R@1 mAP |
 pasted whole: R@1 mAP | L3: R@1 mAP Loc | +- |""".replace("\n", "")
    + "\n"
    + "|---" * 11
    + "|"
)
BASELINE = "head GeM + stage-7 mean, max"
BLOCKS = {"head": (0, 1280), "depthwise11": (1280, 1952), "s7_mean": (1952, 2272), "s7_max": (2272, 2592)}


# ---------------------------------------------------------------------------------------------- pictures
@dataclass(frozen=True)
class Picture:
    """A photo, or a photo with a crop of another one pasted into it."""

    path: Path
    group: str = ""
    source: Path | None = None
    source_box: Box = (0, 0, 0, 0)
    place: tuple[int, int, int, int] = (0, 0, 0, 0)

    def load(self) -> Image.Image:
        image = open_rgb(self.path)
        if self.source is not None:
            left, top, right, bottom = self.place
            crop = open_rgb(self.source).crop(tuple(int(v) for v in self.source_box))
            image.paste(crop.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
        return image


@dataclass
class Data:
    sets: dict[str, list[Picture]]  # galleries, cut into 30 regions each
    asks: dict[str, list[tuple[Picture, Box]]]  # one box each
    logos: dict[str, list[tuple[str, Box]]]  # file name: its boxes


def open_rgb(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return ImageOps.exif_transpose(file).convert("RGB")


def centre(path: Path, share: float = 0.7) -> Box:
    width, height = open_rgb(path).size
    low, high = (1 - share) / 2, (1 + share) / 2
    return (low * width, low * height, high * width, high * height)


def read_data(root: Path, seed: int, limit: int) -> Data:
    rng = np.random.default_rng(seed)
    boxes: dict[str, list[tuple[str, Box]]] = defaultdict(list)
    with (root / "logos/boxes.csv").open() as file:
        for row in csv.DictReader(file):
            corners = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
            boxes[row["file"]].append((row["label"], corners))
    plain_names = sorted(json.loads((root / "logos/without_logo.json").read_text())["none"])[:limit]
    photos = [Picture(root / "logos/images" / name) for name in sorted(boxes)][:limit]
    plain = [Picture(root / "logos/images" / name) for name in plain_names]
    distractors = [Picture(p) for p in sorted((root / "distractors").glob("*.jpg"))][: 2 * limit]
    subjects = [Picture(p, p.parent.name) for p in sorted((root / "subjects").glob("*/*.jpg"))][:limit]

    logo_asks: list[tuple[Picture, Box]] = []
    small: dict[str, list[tuple[Path, Box]]] = defaultdict(list)
    for photo in photos:
        by_label: dict[str, list[Box]] = defaultdict(list)
        for label, box in boxes[photo.path.name]:
            by_label[label].append(box)
        for label, found in sorted(by_label.items()):
            side = [min(b[2] - b[0], b[3] - b[1]) for b in found]
            usable = [b for b, s in zip(found, side, strict=True) if s >= 20] or [found[int(np.argmax(side))]]
            logo_asks.append((Picture(photo.path, label), usable[int(rng.integers(len(usable)))]))
            if max(side) >= 48:
                small[label].append((photo.path, found[int(np.argmax(side))]))
    subject_asks = [(s, centre(s.path)) for s in subjects]

    things: list[tuple[str, Path, Box]] = [(s.group, s.path, box) for s, box in subject_asks]
    pasted_asks = list(subject_asks)
    for label, found in sorted(small.items()):
        order = rng.permutation(len(found))
        things += [(label, *found[i]) for i in order[:7]]
        pasted_asks += [(Picture(found[i][0], label), found[i][1]) for i in order[7:13]]
    backgrounds = [*distractors[1::2], *plain]
    picks = rng.permutation(len(things))[: len(backgrounds)]
    scenes = [paste(b.path, things[i], rng) for b, i in zip(backgrounds, picks, strict=False)]
    known = {scene.group for scene in scenes}
    return Data(
        {"half A": distractors[::2], "half B": distractors[1::2], "logos": photos, "plain": plain}
        | {"subjects": subjects, "scenes": scenes},
        {"logos": logo_asks, "pasted": [(p, b) for p, b in pasted_asks if p.group in known]},
        boxes,
    )


def paste(background: Path, thing: tuple[str, Path, Box], rng: np.random.Generator) -> Picture:
    group, source, box = thing
    width, height = open_rgb(background).size
    aspect = (box[2] - box[0]) / (box[3] - box[1])
    area = rng.uniform(0.06, 0.20) * width * height
    h = min(min((area * aspect) ** 0.5, 0.8 * width) / aspect, 0.8 * height)
    w = h * aspect
    x = y = 0.0
    for _ in range(50):
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        if abs(x + w / 2 - width / 2) > 0.15 * width or abs(y + h / 2 - height / 2) > 0.15 * height:
            break
    return Picture(background, group, source, box, (int(x), int(y), int(x + w), int(y + h)))


def cells(size: tuple[int, int]) -> list[Box]:
    result: list[Box] = []
    for n in range(1, 5):
        xs, ys = ([int(i * side / n + 0.5) for i in range(n + 1)] for side in size)
        result += [(xs[c], ys[r], xs[c + 1], ys[r + 1]) for r in range(n) for c in range(n)]
    return result


def iou(boxes: Sequence[Box], target: Box) -> Array:
    a, b = np.asarray(boxes, np.float64), target
    width = np.clip(np.minimum(a[:, 2], b[2]) - np.maximum(a[:, 0], b[0]), 0, None)
    height = np.clip(np.minimum(a[:, 3], b[3]) - np.maximum(a[:, 1], b[1]), 0, None)
    union = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return (width * height / union).astype(np.float32)


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


# ---------------------------------------------------------------------------------------------- tasks and figures
@dataclass
class Task:
    gallery: tuple[str, ...]
    asks: str
    positive: npt.NDArray[np.bool_]  # (queries, pictures)
    ignored: npt.NDArray[np.bool_]
    groups: list[str]
    overlap: dict[str, Array] | None  # group: (pictures, 30) IoU of every cell with the truth


def build_tasks(data: Data) -> dict[str, Task]:
    galleries = {"logos": ("logos", "plain", "half B"), "subjects": ("subjects", "half B"), "pasted": ("scenes",)}
    asks = {**data.asks, "subjects": [(p, (0.0, 0.0, 0.0, 0.0)) for p in data.sets["subjects"]]}
    tasks: dict[str, Task] = {}
    for name, sets in galleries.items():
        pictures = [p for s in sets for p in data.sets[s]]
        groups = [query.group for query, _ in asks[name]]
        labels = [{b[0] for b in data.logos.get(p.path.name, [])} if name == "logos" else {p.group} for p in pictures]
        own = [p.path if p.source is None else p.source for p in pictures]
        ignored = np.array([[query.path == path for path in own] for query, _ in asks[name]])
        positive = np.array([[group in found for found in labels] for group in groups]) & ~ignored
        keep = positive.any(axis=1)
        overlap = None
        if name != "subjects":
            overlap = {g: np.zeros((len(pictures), REGIONS), np.float32) for g in set(groups)}
            for i, picture in enumerate(pictures):
                grid = cells(open_rgb(picture.path).size)
                truth = data.logos.get(picture.path.name, []) if name == "logos" else [(picture.group, picture.place)]
                for label, box in truth:
                    if label in overlap:
                        overlap[label][i] = np.maximum(overlap[label][i], iou(grid, box))
        tasks[name] = Task(sets, name, positive & keep[:, None], ignored, groups, overlap)
    return tasks


def measure(task: Task, queries: Array, gallery: Array, regions: int) -> Array:
    """Per query: R@1, AP, LocScore (all in [0, 1]); queries without a positive are left out as NaN."""
    result = np.full((len(queries), 3), np.nan, np.float32)
    vectors = gallery.reshape(-1, REGIONS, gallery.shape[1])[:, :regions]
    scores = np.einsum("qd,nrd->qnr", queries, vectors, optimize=True)
    best, place = scores.max(axis=2), scores.argmax(axis=2)
    best[task.ignored] = -np.inf
    for q, group in enumerate(task.groups):
        order = np.argsort(-best[q], kind="stable")
        relevant = task.positive[q, order]
        if relevant.any():
            gain = relevant * np.cumsum(relevant) / np.arange(1, len(order) + 1) / relevant.sum()
            where = 0.0 if task.overlap is None else task.overlap[group][order, place[q, order]]
            result[q] = relevant[0], gain.sum(), (gain * where).sum()
    return result


def unit(x: Array) -> Array:
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def learn(kind: str, x: Array, dim: int) -> tuple[Array, Array]:
    """Mean and projection: the exporter's, or plain PCA-whitening of the concatenation."""
    if kind == "shipped":
        return exporter.learn_whitening(x, list(exporter.LAYERS.values()), exporter.LAYER_WEIGHTS, dim)
    mean = x.mean(axis=0)
    values, axes = exporter.principal_axes((x - mean).astype(np.float64))
    return mean, (axes[:, :dim] / np.sqrt(values[:dim])).astype(np.float32)


@dataclass(frozen=True)
class Variant:
    name: str
    blocks: tuple[str, ...]
    network: str = "fp32"
    whitening: str = "fixed"  # none, fixed (half A) or own (the gallery's regions)
    learner: str = "shipped"
    dim: int = 256


def variants() -> list[Variant]:
    ours, head, old = ("head", "depthwise11"), ("head",), ("head", "s7_mean", "s7_max")
    result = [Variant(BASELINE, old, learner="plain")]
    result += [Variant("head GeM", head, whitening=w, learner="plain") for w in ("none", "fixed", "own")]
    result += [Variant(BASELINE, old, whitening=w, learner="plain") for w in ("none", "own")]
    result += [Variant("shipped layers, plain PCA", ours, learner="plain")]
    result += [Variant("shipped layers", ours, whitening=w) for w in ("none", "fixed", "own")]
    result += [Variant("shipped layers", ours, dim=d) for d in (128, 384, 512)]
    result += [Variant("shipped layers", ours, whitening="own", dim=512)]
    return result + [Variant("shipped layers", ours, network=n) for n in ("fp16", "int8", "int8 7-bit weights")]


def run_variant(v: Variant, stored: dict[str, dict[str, Array]], tasks: dict[str, Task]) -> dict[str, dict[str, Array]]:
    def descriptors(name: str) -> Array:
        parts = [stored[name][v.network][:, slice(*BLOCKS[b])] for b in v.blocks]
        return np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts)))

    fixed = learn(v.learner, descriptors("half A"), v.dim) if v.whitening == "fixed" else None
    result: dict[str, dict[str, Array]] = {}
    for name, task in tasks.items():
        gallery = np.concatenate([descriptors(s) for s in task.gallery])
        asks = descriptors("subjects")[::REGIONS] if name == "subjects" else descriptors(f"ask {name}")
        space = fixed or (learn(v.learner, gallery, v.dim) if v.whitening == "own" else None)
        if space is not None:
            gallery, asks = ((x - space[0]) @ space[1] for x in (gallery, asks))
        gallery, asks = unit(gallery), unit(asks)
        result[name] = {level: measure(task, asks, gallery, r) for level, r in (("whole", 1), ("L3", REGIONS))}
    return result


def standard_error(task: Task, difference: Array, rounds: int = 500) -> float:
    """Of the mean difference over queries, by resampling whole groups (labels, subjects)."""
    rng = np.random.default_rng(0)
    by = [difference[[g == name for g in task.groups]] for name in sorted(set(task.groups))]
    draws = [np.nanmean(np.concatenate([by[i] for i in rng.integers(len(by), size=len(by))])) for _ in range(rounds)]
    return float(np.std(draws))


def provenance(seed: int) -> dict[str, Any]:
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return {
        "commit": git.stdout.strip() if git.returncode == 0 else None,
        "seed": seed,
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "vnni": "avx512_vnni" in flags},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "onnxruntime": ort.__version__}
        | {"onnx": onnx.__version__, "pillow": PIL.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("PATCHWISE_SHARED_DATA", ROOT / "../shared/data"))
    parser.add_argument("--cache", type=Path, required=True, help="folder for the features (about 1 GB)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=10**6, help="pictures per set, for a quick try")
    args = parser.parse_args()

    data = read_data(Path(args.data), args.seed, args.limit)
    state = exporter.load_state()
    shipped, learning = exporter.descriptor_model(state), [p.path for p in data.sets["half A"]]
    int8 = {
        name: exporter.quantise(shipped, exporter.calibration_batches(learning, 100), reduce_range=reduce)
        for name, reduce in (("int8", False), ("int8 7-bit weights", True))
    }
    models = {"fp32": wide_model(state), "fp16": exporter.store_half(shipped), **int8}
    digest = hashlib.sha256(b"".join(m.SerializeToString(deterministic=True) for m in models.values()))
    stored = features(data, models, args.cache, f"{digest.hexdigest()[:12]}-{args.seed}-{args.limit}")
    tasks = build_tasks(data)

    reference: dict[str, dict[str, Array]] | None = None
    rows: list[dict[str, Any]] = []
    print(HEADING)
    for v in variants():
        found = run_variant(v, stored, tasks)
        reference = reference or found
        error = {n: standard_error(t, (found[n]["L3"] - reference[n]["L3"])[:, 1]) * 100 for n, t in tasks.items()}
        means = {n: {k: (np.nanmean(x, axis=0) * 100).tolist() for k, x in r.items()} for n, r in found.items()}
        rows.append({**v.__dict__, "figures": means, "standard_error_of_gain": error})
        columns = (("logos", "whole", 2), ("logos", "L3", 3), ("subjects", "whole", 2), ("subjects", "L3", 2))
        columns += (("pasted", "whole", 2), ("pasted", "L3", 3))
        text = [" ".join(f"{x:.1f}" for x in means[n][k][:c]) for n, k, c in columns]
        dim = "raw" if v.whitening == "none" else str(v.dim)
        print(f"| {' | '.join([v.name, v.network, v.whitening, dim, *text])} | {error['logos']:.1f} |", flush=True)

    speed = milliseconds({**models, "fp32": shipped})
    for name, figures in speed.items():
        size = len(({**models, "fp32": shipped}[name]).SerializeToString()) / 1e6
        print(
            f"{name}: {size:.1f} MB, ms per region "
            + "; ".join(f"{k}: {x[0]:.2f} (least {x[1]:.2f})" for k, x in figures.items())
        )
    if args.json:
        report = {**provenance(args.seed), "columns": ["R@1", "mAP", "LocScore"], "rows": rows, "milliseconds": speed}
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
