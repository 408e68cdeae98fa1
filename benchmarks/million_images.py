"""What do a million images cost, to compress and to search, and how do both grow with the number of images?

Bars: 1,000,000 images x 30 regions x 384-d are compressed within 4 GiB and searched within 3 GiB of memory, at a recall
of 0.95 in 150 ms. Each step is a process of its own; where memory groups (cgroups) may be made, each is given no more
than that, page cache included. The same searches are then timed with the whole machine's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import ROOT, report
from compressed_peers import COSINE, evict, folder_bytes, limit_processors, private_bytes, recall, say
from patchwise.compression import codes_searcher, compress
from patchwise.regions import Pyramid, View
from patchwise.search import ExactSearcher
from patchwise.store import Encoded, Manifest, Store
from region_vectors import BLOCK_IMAGES, REGIONS, RegionVectors

_GROUPS = Path("/sys/fs/cgroup/memory")
_GIB = 2**30
_LIMITS = {"fill": 4 * _GIB, "compress": 4 * _GIB, "search": 3 * _GIB}
_RECALLS = (0.95, 0.99)
_K = 100
_QUERIES = 64
_TRUE_QUERIES = 32
_SIZE = (1024, 768)
_STORED_AT_ONCE = 4_000
_EXTRAPOLATED = {"mini-ILIAS": 5_004_715, "10,000,000": 10_000_000}


def fill(folder: Path, images: int, dimension: int) -> dict[str, Any]:
    """Images up to this number; those that are there already are kept."""
    if not folder.exists():
        record: dict[str, str | int] = {"id": "synthetic", "dimension": dimension}
        Store.create(folder, Manifest(record, "pyramid:3", "shipped", "", "")).close()
    regions, began = Pyramid(3).regions(View(_SIZE)), time.perf_counter()
    with Store(folder) as store, store.writer() as writer:
        there = store.catalogue.counts()["images"]
        waiting: list[Encoded] = []
        for number, block in enumerate(RegionVectors(images, dimension).blocks(first=there)):
            for place, vectors in enumerate(block, there + number * BLOCK_IMAGES):
                waiting.append(Encoded(f"/{place:08d}.jpg", 0, 0, place.to_bytes(16, "big"), _SIZE, regions, vectors))
            if len(waiting) >= _STORED_AT_ONCE:
                writer.add(waiting)
                waiting = []
        writer.add(waiting)
    return {"seconds": time.perf_counter() - began, "images": images - there}


def compress_step(folder: Path, codec: str) -> dict[str, Any]:
    with Store(folder) as store:
        began = time.perf_counter()
        done = compress(store, codec)
        seconds = time.perf_counter() - began
    return {
        "codec": done.info.codec,
        "bytes_per_region": done.info.bytes_per_region,
        "seconds": seconds,
        "training_seconds": done.training_seconds,
        "encoding_seconds": done.encoding_seconds,
        "measuring_seconds": done.measuring_seconds,
        "regions_per_second": done.regions / done.encoding_seconds,
        "recall_told": done.info.recall,
        "disk_bytes": folder_bytes(folder),
    }


def truth(folder: Path, dimension: int) -> dict[str, Any]:
    """Exact scores of all images for some queries, kept beside the gallery."""
    with Store(folder) as store:
        snapshot = store.snapshot()
        queries = RegionVectors(len(snapshot), dimension).queries(_QUERIES, COSINE)
        began = time.perf_counter()
        scores = ExactSearcher(snapshot, resident_bytes=0).scores(queries[:_TRUE_QUERIES])
        seconds = time.perf_counter() - began
    np.save(folder.with_suffix(".queries.npy"), queries)
    np.save(folder.with_suffix(".scores.npy"), scores)
    return {"seconds": seconds, "queries": _TRUE_QUERIES}


def search(folder: Path) -> dict[str, Any]:
    queries = np.load(folder.with_suffix(".queries.npy"))
    scores = np.load(folder.with_suffix(".scores.npy"), mmap_mode="r")
    before = private_bytes()
    began = time.perf_counter()
    with Store(folder) as store:
        snapshot = store.snapshot()
        searcher = codes_searcher(store, snapshot)
        if searcher is None:
            raise SystemExit("the gallery has no codes")
        opened = time.perf_counter() - began
        found: dict[str, Any] = {"open_seconds": opened}
        for aim in _RECALLS:
            aimed = searcher.aiming_at(aim)
            evict(folder / "vectors")
            cold, _ = _timed(lambda query, aimed=aimed: aimed.top(query[None], _K)[0], queries)
            warm, answers = _timed(lambda query, aimed=aimed: aimed.top(query[None], _K)[0], queries)
            ranked = [each.pictures[np.argsort(-each.scores, kind="stable")] for each in answers]
            shares = [recall(of_query, row, _K) for of_query, row in zip(ranked, scores, strict=False)]
            found[str(aim)] = {
                "recall": statistics.mean(shares),
                "cold": _figures(cold),
                "warm": _figures(warm),
            }
        found["private_bytes"] = private_bytes() - before
    return found


def _timed(
    search_one: Callable[[npt.NDArray[np.float32]], Any], queries: npt.NDArray[np.float32]
) -> tuple[list[float], list[Any]]:
    times, answers = [], []
    for query in queries:
        began = time.perf_counter()
        answers.append(search_one(query))
        times.append(time.perf_counter() - began)
    return times, answers


def _figures(times: list[float]) -> dict[str, float]:
    return {"median_ms": 1e3 * statistics.median(times), "p95_ms": 1e3 * float(np.quantile(times, 0.95))}


def step(name: str, options: argparse.Namespace, images: int, limit: int | None) -> dict[str, Any]:
    """Run one step as a process, with no more memory than `limit` where that can be enforced."""
    limited = None if limit is None else _group(limit)
    command = [sys.executable, __file__, "--step", name, "--images", str(images), "--work", str(options.work)]
    command += ["--dimension", str(options.dimension), "--codec", options.codec]
    if limited is not None:
        command += ["--group", str(limited)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    peak = _Peak(process.pid)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{name} at {images:,} images ended with exit code {process.returncode}")
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return {**result, "peak_private_bytes": peak.stop(), "limit_bytes": limit if limited is not None else None}


class _Peak:
    """The most private memory a process has held, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self._status, self._most = Path(f"/proc/{pid}/status"), 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            try:
                lines = self._status.read_text(encoding="ascii").splitlines()
            except OSError:
                return
            held = [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")]
            self._most = max([self._most, *held])

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._most


def _group(limit: int) -> Path | None:
    """A memory group with this limit, page cache included; None where none may be made."""
    group = _GROUPS / "patchwise-benchmark"
    try:
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(limit), encoding="ascii")
    except OSError:
        return None
    return group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--codec", default="auto")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/patchwise-million"))  # tmpfs would be memory
    parser.add_argument("--keep", action="store_true", help="leave the gallery there")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--group", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_processors()
    folder = options.work / "million.pw"
    if options.group is not None:
        (options.group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    if options.step:
        work: dict[str, Callable[[], dict[str, Any]]] = {
            "fill": lambda: fill(folder, options.images, options.dimension),
            "compress": lambda: compress_step(folder, options.codec),
            "truth": lambda: truth(folder, options.dimension),
            "search": lambda: search(folder),
        }
        print(json.dumps(work[options.step]()))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size < options.images] + [options.images]
    measured: dict[str, dict[str, Any]] = {}
    for images in sizes:
        of_size: dict[str, Any] = {}
        for name in ("fill", "compress", "truth"):
            of_size[name] = step(name, options, images, _LIMITS.get(name))
            say(f"{images:,} images: {name} {of_size[name]}")
        of_size["search, limited"] = step("search", options, images, _LIMITS["search"])
        of_size["search"] = step("search", options, images, None)
        say(f"{images:,} images: {of_size['search, limited']} {of_size['search']}")
        measured[f"{images}"] = of_size
        write(options, measured)
    if not options.keep:
        shutil.rmtree(options.work)


def write(options: argparse.Namespace, measured: dict[str, dict[str, Any]]) -> None:
    rows = []
    for images, of_size in measured.items():
        found, limited, built = of_size["search"], of_size["search, limited"], of_size["compress"]
        aim = str(_RECALLS[0])
        rows.append(
            [
                f"{int(images):,}",
                built["codec"],
                f"{built['seconds']:.0f}",
                f"{built['regions_per_second']:,.0f}",
                f"{built['peak_private_bytes'] / 2**20:,.0f}",
                f"{found[aim]['recall']:.3f}",
                f"{found[aim]['warm']['median_ms']:.1f}",
                f"{limited[aim]['cold']['median_ms']:.1f}",
                f"{found[str(_RECALLS[1])]['warm']['median_ms']:.1f}",
                f"{found['private_bytes'] / 2**20:,.0f}",
                f"{found['open_seconds']:.1f}",
            ]
        )
    largest = max(measured, key=int)
    rows += [
        [f"{name} (extrapolated)", *_extrapolated(measured[largest], images / int(largest))]
        for name, images in _EXTRAPOLATED.items()
    ]
    first = next(iter(measured.values()))
    within = (
        "each step ran with no more than that, page cache included"
        if first["search, limited"]["limit_bytes"]
        else "memory could not be limited on this machine"
    )
    report(
        "million_images",
        f"Compressing and searching up to {int(largest):,} images x {REGIONS} regions x {options.dimension}-d "
        f"(synthetic, as hard to compress as those of photographs), two threads, the best {_K} images of a query; "
        f"limits {_LIMITS['compress'] // _GIB} GiB to build and {_LIMITS['search'] // _GIB} GiB to search ({within}). "
        "Warm: with the machine's whole memory, the queries asked once before. Cold: within the limit, vectors not in "
        "memory.",
        [
            "images",
            "codec",
            "compressing s",
            "regions encoded / s",
            "peak MiB",
            "recall (aim 0.95)",
            "warm ms",
            "cold ms, limited",
            "warm ms (aim 0.99)",
            "search MiB",
            "opening s",
        ],
        rows,
        dimension=options.dimension,
        queries=_QUERIES,
        sizes=measured,
    )
    plot(measured, ROOT / "docs" / "images" / "million_images.png")


def plot(measured: dict[str, dict[str, Any]], path: Path) -> None:
    """Time of a search and memory it holds over the number of images, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    images = np.array([int(size) for size in measured])
    further = np.array(list(_EXTRAPOLATED.values()))
    aim = str(_RECALLS[0])
    lines = (
        (times, "warm", "#0072B2", "o", [found["search"][aim]["warm"]["median_ms"] for found in measured.values()]),
        (
            times,
            f"cold, {_LIMITS['search'] // _GIB} GiB",
            "#D55E00",
            "s",
            [found["search, limited"][aim]["cold"]["median_ms"] for found in measured.values()],
        ),
        (memory, "a search", "#0072B2", "o", [found["search"]["private_bytes"] / _GIB for found in measured.values()]),
        (
            memory,
            "compressing, peak",
            "#D55E00",
            "s",
            [found["compress"]["peak_private_bytes"] / _GIB for found in measured.values()],
        ),
    )
    for axes, label, colour, marker, values in lines:
        axes.plot(images, values, color=colour, marker=marker, label=label)
        if label in ("warm", "a search"):  # what grows with the images
            axes.plot(further, values[-1] * further / images[-1], marker, color=colour, fillstyle="none")
    times.axhline(150, color="#777777", linewidth=0.8, linestyle=":")
    times.set_ylabel("median of a search (ms)")
    times.set_title(f"recall {_RECALLS[0]}, k = {_K}; dotted: 150 ms", fontsize=9)
    memory.set_ylabel("memory (GiB)")
    for axes in (times, memory):
        axes.set(xscale="log", yscale="log", xlabel=f"images x {REGIONS} regions (hollow: extrapolated)")
        for name, count in _EXTRAPOLATED.items():
            if not name[0].isdigit():
                axes.axvline(count, color="#bbbbbb", linewidth=0.8)
                axes.text(count, axes.get_ylim()[0], f" {name}", rotation=90, va="bottom", ha="right", fontsize=8)
        axes.grid(True, which="major", linewidth=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def _extrapolated(largest: dict[str, Any], times: float) -> list[str]:
    """What grows in proportion to the images, times as many as were measured; recall is not known."""
    built, found = largest["compress"], largest["search"]
    encoding = built["training_seconds"] + times * (built["encoding_seconds"] + built["measuring_seconds"])
    warm, exact = found[str(_RECALLS[0])]["warm"], found[str(_RECALLS[1])]["warm"]
    return [
        built["codec"],
        f"{encoding:.0f}",
        f"{built['regions_per_second']:,.0f}",
        "-",
        "-",
        f"{times * warm['median_ms']:.0f}",
        "-",
        f"{times * exact['median_ms']:.0f}",
        f"{times * found['private_bytes'] / 2**20:,.0f}",
        f"{times * found['open_seconds']:.0f}",
    ]


if __name__ == "__main__":
    main()
