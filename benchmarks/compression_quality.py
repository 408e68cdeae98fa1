"""What do few bytes per region cost in mAP and LocScore, and which regions should codebooks be learned from?

On logos, the synthetic scenes and subjects, with the built-in encoder and 30 regions an image. All figures are points
of difference to the uncompressed vectors: for codes alone (decoded, as they are or scaled to unit length again), and
with the pictures of the best 1 % or 5 % of the regions scored again by their stored vectors. `kept` are points of the
ten pictures that uncompressed vectors rank first: those still among the ten, and those with the same winning region.

- Training sets, at an equal number of vectors; learned from the searched pictures themselves, from the 300 distractors
  of logos only, which no query asks for, or from the pictures of the two other benchmarks. The set to take by default
  is chosen by its mean loss over codecs and seeds on two benchmarks, and judged on the third, for each of the three.
- Codecs of equal size, and some of their own size.
- Regions dropped because a larger one of the same image is nearly the same, or because there is little to see.

Galleries and what is measured on pixels are kept in `--cache`.

    python benchmarks/compression_quality.py [--seeds 3]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import DATA, ROOT, report, table
from compression_data import BENCHMARKS, ENCODER, REGIONS, Array, Searched, points, searched
from patchwise.codecs import train_codec
from patchwise.compression.training_sets import telling_rows, training_vectors

SETS = ("random", "whole", "distinct", "salient", "queries")
BYTES = (64, 32, 16)
# Vectors to learn from, no more than there are whole images or half of the regions: of the distractors (whole images,
# regions), of the searched pictures of subjects (regions), of synthetic and subjects together (whole images).
FEW, MANY, OWN, OTHERS = 300, 4500, 1500, 450
AS_PICTURES = 0  # as many as the searched pictures are
WAYS = ("raw", "unit", "1 %", "5 %", "kept raw", "kept unit")
SET_WAYS = ("raw", "unit", "1 %", "kept unit")
# At 256-d. Residual, turbo and RaBitQ codes come in the sizes that they have.
CODECS = {
    64: ("fastscan:64", "fastscan:64 score-aware", "pq:64", "opq:64", "PRQ16x4x8", "SQtqmse2", "RR,SQtqmse2"),
    32: ("fastscan:32", "fastscan:32 score-aware", "pq:32", "opq:32", "PRQ8x4x8", "RR,SQtqmse1", "RaBitQ"),
    16: ("fastscan:16", "fastscan:16 score-aware", "pq:16", "opq:16", "PRQ4x4x8"),
    128: ("SQ4", "SQtqmse4"),
}
SCORE_AWARE = 4.0  # how much more an error along the vector counts than one across it
SIMILAR = (0.99, 0.97, 0.95, 0.9)
PLAIN = {"deviation": (8.0, 16.0, 24.0), "edges": (0.005, 0.02, 0.05)}

Losses = dict[str, dict[str, tuple[float, float | None]]]  # benchmark: way: mAP, LocScore


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def score_aware(vectors: Array, codebooks: Array, weight: float = SCORE_AWARE, rounds: int = 3) -> Array:
    """Decode the codes that lose least of the scores, and not of the vectors.

    An error e of a vector x of unit length costs |e|^2 + (weight - 1) <e, x>^2, because that part of it which lies
    along x moves the scores of the queries that x is found by (Guo et al., "Accelerating large-scale inference with
    anisotropic vector quantization", ICML 2020). Codebooks (parts, centres, d / parts) stay as they are; the centre of
    one part is chosen after the other, with those of all others fixed.
    """
    parts = np.split(vectors, len(codebooks), axis=1)
    rows = np.arange(len(vectors))
    costs, along = [], []
    for part, book in zip(parts, codebooks, strict=True):
        products, own = part @ book.T, (part**2).sum(axis=1, keepdims=True)
        costs.append(own - 2 * products + (book**2).sum(axis=1))
        along.append(own - products)
    codes = [cost.argmin(axis=1) for cost in costs]
    total = sum(one[rows, code] for one, code in zip(along, codes, strict=True))
    for _ in range(rounds):
        for number, code in enumerate(codes):
            rest = total - along[number][rows, code]
            codes[number] = (costs[number] + (weight - 1) * (rest[:, None] + along[number]) ** 2).argmin(axis=1)
            total = rest + along[number][rows, codes[number]]
    return np.concatenate([book[code] for book, code in zip(codebooks, codes, strict=True)], axis=1)


def coder(name: str, training: Array, seed: int) -> tuple[Callable[[Array], Array], int]:
    """Vectors to what is left of them, and bytes of a code."""
    import faiss

    faiss.cvar.distance_compute_blas_threshold = 20  # its own choice makes k-means of so few vectors ten times slower
    name, _, score = name.partition(" ")
    codec = train_codec(name.replace("RR,", f"RR{training.shape[1]},"), training, seed=seed)
    if not score:
        return lambda vectors: codec.decode(codec.encode(vectors)), codec.code_bytes
    quantiser = codec.segment(codec.encode(training[:0])).pq
    codebooks = faiss.vector_to_array(quantiser.centroids).reshape(quantiser.M, quantiser.ksub, quantiser.dsub)
    return lambda vectors: score_aware(vectors, codebooks), codec.code_bytes


def judged(data: Searched, decoded: Array, exact: Array) -> dict[str, npt.NDArray[np.float64]]:
    raw = data.queries @ decoded.T
    unit = raw / np.maximum(np.linalg.norm(decoded, axis=1), 1e-12)
    shares = {"1 %": 0.01, "5 %": 0.05}
    return {
        "raw": data.judged(raw),
        "unit": data.judged(unit),
        **{way: data.judged(raw, exact, int(share * len(decoded))) for way, share in shares.items()},
        "kept raw": data.kept(raw, exact),
        "kept unit": data.kept(unit, exact),
    }


class Bench:
    """All benchmarks with their exact scores, and every loss against them."""

    def __init__(self, sets: dict[str, Searched]) -> None:
        self.sets = sets
        self.exact = {name: data.queries @ data.vectors.T for name, data in sets.items()}
        self.baseline = {name: points(data.judged(self.exact[name])) for name, data in sets.items()}

    def losses(self, name: str, figures: dict[str, npt.NDArray[np.float64]]) -> dict[str, tuple[float, float | None]]:
        found = {}
        for way, one in figures.items():
            before = (100.0, 100.0) if way.startswith("kept") else self.baseline[name]
            after = points(one)
            loc = None if after[1] is None or before[1] is None else round(after[1] - before[1], 3)
            found[way] = (round(after[0] - before[0], 3), loc)
        return found

    def codec(self, codec: str, training: dict[str, Array] | Array, seed: int) -> tuple[Losses, int, float]:
        """Losses on every benchmark with codebooks from `training`, of its own or of all; code size, seconds."""
        began = time.perf_counter()
        shared = coder(codec, training, seed) if isinstance(training, np.ndarray) else None
        seconds = time.perf_counter() - began
        losses: Losses = {}
        for name, data in self.sets.items():
            code, size = shared or coder(codec, training[name], seed)  # type: ignore[index]
            losses[name] = self.losses(name, judged(data, code(data.vectors), self.exact[name]))
        return losses, size, seconds

    def query_log(self, codec: str, others: Array, count: int, seed: int) -> Losses:
        """Codebooks from the queries of half of the instances, judged on those of the other half, both ways round."""
        generator = np.random.default_rng(seed)
        losses: Losses = {}
        for name, data in self.sets.items():
            instances = generator.permutation(sorted(set(data.groups)))
            of_first = np.isin(data.groups, instances[::2])
            figures: dict[str, npt.NDArray[np.float64]] = {}
            for asked in (of_first, ~of_first):
                log = data.queries[~asked]
                log = log[generator.permutation(len(log))[:count]]
                training = np.concatenate([log, others[: count - len(log)]])
                code, _ = coder(codec, training, seed)
                for way, one in judged(data, code(data.vectors), self.exact[name]).items():
                    figures.setdefault(way, np.empty_like(one))[asked] = one[asked]
            losses[name] = self.losses(name, figures)
        return losses


def training(kind: str, data: Searched, count: int, seed: int, held_out: npt.NDArray[np.bool_] | None = None) -> Array:
    if kind != "salient":
        found = training_vectors(kind, data.snapshot, count=count, fewest=0, seed=seed, held_out=held_out)
    else:  # from the activations that were measured once
        starts = data.starts
        rows = telling_rows(
            data.snapshot,
            lambda pictures: ((one, data.strengths[starts[one] : starts[one + 1]]) for one in pictures),
            count,
            np.random.default_rng(seed),
            None if held_out is None else ~held_out,
        )
        found = data.vectors[rows]
    if len(found) != count:
        raise SystemExit(f"{data.name}, {kind}: {len(found)} vectors instead of {count}")
    return found


def training_of_others(kind: str, bench: Bench, name: str, count: int, seed: int) -> Array:
    """From all benchmarks but one, each according to its number of pictures."""
    others = [data for other, data in bench.sets.items() if other != name]
    ends = np.round(
        np.cumsum([len(data.snapshot) for data in others]) / sum(len(data.snapshot) for data in others) * count
    )
    shares = np.diff(ends, prepend=0).astype(int).tolist()
    return np.concatenate([training(kind, data, share, seed) for data, share in zip(others, shares, strict=True)])


def training_set_runs(bench: Bench, seeds: int) -> list[dict[str, Any]]:
    """One row per comparison, training set, codec and seed."""
    source = bench.sets["logos"]
    elsewhere = ~source.distractors
    plans = [
        ("distractors", FEW, SETS, [f"fastscan:{size}" for size in BYTES]),
        ("distractors", MANY, ("random", "distinct", "salient"), [f"fastscan:{size}" for size in BYTES]),
        ("distractors", MANY, ("random", "distinct", "salient"), [f"pq:{size}" for size in BYTES]),
        ("distractors", MANY, ("random", "distinct", "salient"), ["opq:32"]),
        ("other benchmarks", OTHERS, SETS[:-1], [f"fastscan:{size}" for size in BYTES]),
        ("the searched", OWN, ("random", "distinct", "salient"), [f"fastscan:{size}" for size in BYTES]),
        ("the searched", AS_PICTURES, SETS[:-1], [f"fastscan:{size}" for size in BYTES]),
    ]
    rows = []
    for learned_from, count, kinds, codecs in plans:
        for seed in range(seeds):
            for kind in kinds:
                if learned_from == "the searched":
                    vectors: Any = {
                        name: training(kind, data, count or len(data.snapshot), seed)
                        for name, data in bench.sets.items()
                    }
                elif learned_from == "other benchmarks":
                    vectors = {name: training_of_others(kind, bench, name, count, seed) for name in bench.sets}
                else:
                    known = "random" if kind == "queries" else kind  # a log is filled up at random
                    vectors = training(known, source, count, seed, elsewhere)
                for codec in codecs:
                    if kind == "queries":
                        losses = bench.query_log(codec, vectors, count, seed)
                    else:
                        losses, _, _ = bench.codec(codec, vectors, seed)
                    rows.append(
                        {
                            "from": learned_from,
                            "vectors": count or "as pictures",
                            "set": kind,
                            "codec": codec,
                            "seed": seed,
                            "losses": losses,
                        }
                    )
                say(f"{learned_from}, {count} vectors, seed {seed}, {kind}")
    return rows


def codec_runs(bench: Bench, seeds: int) -> list[dict[str, Any]]:
    source = bench.sets["logos"]
    rows = []
    for size, names in CODECS.items():
        for name in names:
            for seed in range(seeds):
                vectors = training("random", source, MANY, seed, ~source.distractors)
                losses, code_bytes, seconds = bench.codec(name, vectors, seed)
                rows.append(
                    {
                        "codec": name,
                        "group": size,
                        "bytes": code_bytes,
                        "seed": seed,
                        "training_seconds": seconds,
                        "losses": losses,
                    }
                )
            say(f"{name}: {code_bytes} bytes, learned in {seconds:.1f} s")
    return rows


def pruning_runs(bench: Bench) -> list[dict[str, Any]]:
    """Exact scores with some regions left out; the whole image always stays."""
    rules: list[tuple[str, Callable[[Searched], npt.NDArray[np.bool_]]]] = [
        *((f"cosine to a larger one >= {limit}", lambda data, limit=limit: repeated(data, limit)) for limit in SIMILAR),
        *((f"deviation of grey < {one:g}", lambda data, one=one: data.spread < one) for one in PLAIN["deviation"]),
        *((f"edges through < {100 * one:g} %", lambda data, one=one: data.edges < one) for one in PLAIN["edges"]),
    ]
    rows = []
    for rule, dropped_by in rules:
        row: dict[str, Any] = {"rule": rule, "saved": {}, "losses": {}}
        for name, data in bench.sets.items():
            dropped = dropped_by(data).copy()
            dropped[data.starts[:-1]] = False
            scores = np.where(dropped, -2.0, bench.exact[name]).astype(np.float32)
            row["saved"][name] = float(dropped.mean())
            row["losses"][name] = bench.losses(name, {"exact": data.judged(scores)})
        rows.append(row)
    return rows


def repeated(data: Searched, limit: float) -> npt.NDArray[np.bool_]:
    """Regions whose cosine with a larger one that is kept, of the same image, is at least `limit`: (R,) bool."""
    dropped = np.zeros(len(data.vectors), dtype=bool)
    for picture in range(len(data.snapshot)):
        first, end = data.starts[picture], data.starts[picture + 1]
        boxes = data.snapshot.regions(picture).boxes
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        cosines = data.vectors[first:end] @ data.vectors[first:end].T
        kept: list[int] = []
        for region in np.argsort(-areas, kind="stable").tolist():
            larger = [other for other in kept if areas[other] > areas[region]]
            if larger and cosines[region, larger].max() >= limit:
                dropped[first + region] = True
            else:
                kept.append(region)
    return dropped


def average(losses: Sequence[Losses], way: str, benchmarks: Sequence[str]) -> npt.NDArray[np.float64]:
    """Mean over benchmarks and both metrics, for each of the runs."""
    return np.array(
        [np.mean([figure for name in benchmarks for figure in run[name][way] if figure is not None]) for run in losses]
    )


def chosen(rows: Sequence[dict[str, Any]], benchmarks: Sequence[str]) -> list[dict[str, Any]]:
    """For each comparison and benchmark: the set that is best on the others, and what it brings over random here."""
    found = []
    for key in dict.fromkeys((row["from"], row["vectors"]) for row in rows):
        own = [row for row in rows if (row["from"], row["vectors"]) == key]
        by_set: dict[str, list[Losses]] = defaultdict(list)
        for row in own:
            by_set[row["set"]].append(row["losses"])
        for way in ("raw", "unit", "1 %", "kept raw", "kept unit"):
            for left_out in benchmarks:
                others = [name for name in benchmarks if name != left_out]
                means = {kind: float(average(runs, way, others).mean()) for kind, runs in by_set.items()}
                best = max(means, key=lambda kind: means[kind])
                gain = average(by_set[best], way, [left_out]) - average(by_set["random"], way, [left_out])
                found.append(
                    {
                        "from": key[0],
                        "vectors": key[1],
                        "way": way,
                        "left_out": left_out,
                        "chosen": best,
                        "gain_over_random": float(gain.mean()),
                    }
                )
    return found


def stretching(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, list[float]]:
    """What decoded vectors gain by being scaled to unit length: means over runs, per benchmark.

    Points of mAP, LocScore where there are boxes, and of the two that are kept.
    """
    gains: dict[str, list[float]] = {}
    for name in names:
        gains[name] = []
        for before, after in (("raw", "unit"), ("kept raw", "kept unit")):
            pairs = [(row["losses"][name][before], row["losses"][name][after]) for row in rows]
            columns = [[unit[i] - raw[i] for raw, unit in pairs if raw[i] is not None] for i in (0, 1)]
            gains[name] += [float(np.mean(column)) for column in columns if column]
    return gains


def cell(losses: Sequence[Losses], way: str, name: str) -> str:
    """`mAP / LocScore`, means over runs, with the standard deviation of the first."""
    runs = [run[name][way] for run in losses]
    maps = [one[0] for one in runs]
    locs = [one[1] for one in runs if one[1] is not None]
    spread = f" ±{np.std(maps):.2f}" if len(runs) > 1 else ""
    return f"{np.mean(maps):+.2f}{spread}" + (f" / {np.mean(locs):+.2f}" if locs else "")


def set_table(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    groups: dict[tuple[Any, ...], list[Losses]] = defaultdict(list)
    for row in rows:
        groups[row["from"], row["vectors"], row["codec"], row["set"]].append(row["losses"])
    ways = [(way, name) for way in SET_WAYS for name in names]
    header = ["learned from", "vectors", "codec", "training set", *(f"{name} {way}" for way, name in ways)]
    return table(header, [[*key, *(cell(runs, *one) for one in ways)] for key, runs in groups.items()])


def codec_table(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    groups: dict[tuple[int, str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["group"], row["codec"], row["bytes"]].append(row)
    header = ["codec", "bytes", "seconds", *(f"{name} {way}" for way in WAYS for name in names)]
    lines = []
    for (_, codec, size), runs in groups.items():
        seconds = float(np.mean([run["training_seconds"] for run in runs]))
        losses = [run["losses"] for run in runs]
        lines.append([codec, size, f"{seconds:.1f}", *(cell(losses, way, name) for way in WAYS for name in names)])
    return header, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, subjects/, distractors/")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "compression", help="folder of the galleries")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    began = time.perf_counter()
    options.cache.mkdir(parents=True, exist_ok=True)
    bench = Bench({name: searched(name, options.data, options.cache, say) for name in BENCHMARKS})
    names = list(bench.sets)
    say(f"uncompressed: {bench.baseline}")

    pruned = pruning_runs(bench)
    codecs = codec_runs(bench, options.seeds)
    sets = training_set_runs(bench, options.seeds)

    header, lines = codec_table(codecs, names)
    of_sets = set_table(sets, names)
    of_pruning = table(
        ["rule", *(f"{name} saved" for name in names), *names],
        [
            [
                row["rule"],
                *(f"{100 * row['saved'][name]:.1f} %" for name in names),
                *(cell([row["losses"]], "exact", name) for name in names),
            ]
            for row in pruned
        ],
    )
    choice = chosen(sets, names)
    by_codec = {str(row["codec"]): [one for one in codecs if one["codec"] == row["codec"]] for row in codecs}
    stretched = {codec: stretching(rows, names) for codec, rows in by_codec.items()}
    of_stretching = table(
        ["codec", *names],
        [
            [codec, *(" / ".join(f"{gain:+.2f}" for gain in gains[name]) for name in names)]
            for codec, gains in stretched.items()
        ],
    )
    of_choice = table(
        ["learned from", "vectors", "scores", "left out", "best on the others", "gain over random here"],
        [[*list(one.values())[:-1], f"{one['gain_over_random']:+.2f}"] for one in choice],
    )
    counts = ", ".join(f"{name} {len(one.snapshot):,}" for name, one in bench.sets.items())
    before = "; ".join(
        f"{name} mAP {mean:.2f}" + (f", LocScore {loc:.2f}" if loc is not None else "")
        for name, (mean, loc) in bench.baseline.items()
    )
    report(
        "compression_quality",
        f"Points of mAP / LocScore lost (below 0) to codes learned from {MANY:,} random regions of the distractors of "
        f"logos, {ENCODER}, {REGIONS}, pictures: {counts}; means and deviations of {options.seeds} seeds. "
        f"Uncompressed: {before}.",
        header,
        lines,
        uncompressed=bench.baseline,
        seeds=list(range(options.seeds)),
        training_sets_table=of_sets,
        choice_table=of_choice,
        pruning_table=of_pruning,
        unit_length_table=of_stretching,
        codecs=codecs,
        training_sets=sets,
        choice=choice,
        pruning=pruned,
        seconds=time.perf_counter() - began,
    )
    for one in (of_sets, of_choice, of_stretching, of_pruning):
        print("\n" + "\n".join(one))


if __name__ == "__main__":
    main()
