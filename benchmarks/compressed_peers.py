"""What do other engines need for the best images by their best region, on the vectors that ours is measured with?

Each engine is built in a process of its own and searched in another, with two threads. Regions are asked for until k
different images are found; of all settings tried, the cheapest that finds 99 % of the exact top k counts. What is
finished is kept in the working folder: after a crash the same command goes on.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from peer_engines import ENGINES, PER_IMAGE, REGIONS, THREADS, Engine, environment

TARGET = 0.99
KS = (100, 1000)
QUERIES = 60
COSINE = 0.8
_TIE = 1e-5  # exact scores that differ by less are the same to float32
_FEW = 5  # queries that even a slow engine has to answer
_COLD = 12
USUAL = [name for name in ENGINES if name != "qdrant-scan"]  # its scan of multivectors asks for nothing in vain
_FILES_OF_DATA = ("vectors.npy", "queries.npy", "exact.npy")


def prepare(work: Path, images: int, dimension: int) -> None:
    """Write `vectors.npy`, `queries.npy` and `exact.npy`, (queries, images) exact scores, unless they are there."""
    from common import SEED
    from region_vectors import RegionVectors

    made = {"images": images, "dimension": dimension, "queries": QUERIES, "cosine": COSINE, "seed": SEED}
    note = work / "made.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) == made:
        return
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / "peers", ignore_errors=True)  # they were measured with other vectors
    began = time.perf_counter()
    source = RegionVectors(images, dimension)
    queries = source.queries(QUERIES, COSINE)
    exact = np.empty((QUERIES, images), dtype=np.float32)
    shape = (images * REGIONS, dimension)
    stored = np.lib.format.open_memmap(work / _FILES_OF_DATA[0], mode="w+", dtype=np.float16, shape=shape)
    first = 0
    for block in source.blocks():
        rows = block.reshape(-1, dimension).astype(np.float16)
        stored[first * REGIONS : first * REGIONS + len(rows)] = rows
        scores = rows.astype(np.float32) @ queries.T
        exact[:, first : first + len(block)] = scores.reshape(len(block), REGIONS, -1).max(axis=1).T
        first += len(block)
    stored.flush()
    np.save(work / _FILES_OF_DATA[1], queries)
    np.save(work / _FILES_OF_DATA[2], exact)
    note.write_text(json.dumps(made), encoding="utf-8")
    say(f"{images:,} images x {REGIONS} x {dimension}-d made in {time.perf_counter() - began:.0f} s")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def recall(found: np.ndarray, scores: np.ndarray, k: int) -> float:
    """Share of the exact top k among the first k images found; `scores` are the exact ones of all images."""
    limit = np.partition(scores, -k)[-k] - _TIE
    return float((scores[found[:k]] >= limit).sum() / k)


def private_bytes() -> int:
    """Memory that this process and those it started hold for themselves: no mapped files."""
    total, mine = 0, {os.getpid()}
    for entry in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            status = Path(f"/proc/{entry}/status").read_text(encoding="utf-8")
        except OSError:
            continue  # it has ended
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if int(fields["PPid"]) in mine or entry in mine:
            mine.add(entry)
            total += int(fields.get("RssAnon", "0 kB").split()[0]) * 1024
    return total


def evict(folder: Path) -> None:
    """Drop a folder's files from the page cache, also where this process has them mapped."""
    files = {str(path.resolve()): path for path in folder.rglob("*") if path.is_file()}
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] in files and ("w" not in fields[1] or "s" in fields[1]):
            start, end = (int(edge, 16) for edge in fields[0].split("-"))
            madvise(start, end - start, 4)  # MADV_DONTNEED: a page that is mapped would stay in the cache
    for path in files.values():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


@contextmanager
def resident(folder: Path) -> Iterator[None]:
    """Read a folder's files into the page cache, and keep them there where the system allows it."""
    maps = []
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            content = np.frombuffer(held, dtype=np.uint8)
            content[:: mmap.PAGESIZE].sum()
            ctypes.CDLL(None).mlock(ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(len(content)))
            maps.append((held, content))
    yield
    while maps:
        held, content = maps.pop()
        del content
        held.close()  # which unlocks it


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds."""
    return {"median": 1e3 * statistics.median(times), "p95": 1e3 * float(np.percentile(times, 95))}


class Trial:
    """Searches one engine and judges what it finds."""

    def __init__(self, engine: Engine, queries: np.ndarray, exact: np.ndarray) -> None:
        self.engine, self.queries, self.exact = engine, queries, exact

    def ask(self, query: np.ndarray, k: int, setting: dict[str, float]) -> np.ndarray:
        """The first k images; regions are asked for again, twice as many, where they are of too few images."""
        images = self.exact.shape[1]
        knob = {name: value for name, value in setting.items() if name != PER_IMAGE}
        if self.engine.groups:
            return self.engine.search(query, k, knob)
        fetch, found = round(k * setting[PER_IMAGE]), 0
        while True:
            regions = self.engine.search(query, min(fetch, images * REGIONS), knob)
            regions = regions[regions >= 0]
            distinct, first = np.unique(regions // REGIONS, return_index=True)
            if len(distinct) >= k or len(regions) <= found or fetch >= images * REGIONS:
                return distinct[np.argsort(first)][:k]
            fetch, found = 2 * fetch, len(regions)

    def times(self, k: int, setting: dict[str, float], limit: float) -> tuple[list[float], float]:
        """Wall times and mean recall of all queries, or of as many as there is time for, at least of a few."""
        times: list[float] = []
        recalls: list[float] = []
        for query, scores in zip(self.queries, self.exact, strict=True):
            began = time.perf_counter()
            found = self.ask(query, k, setting)
            times.append(time.perf_counter() - began)
            recalls.append(recall(found, scores, k))
            if sum(times) > limit and len(times) >= _FEW:
                break
        return times, statistics.fmean(recalls)

    def cheapest(self, k: int, budget: float) -> dict[str, float]:
        """From the most generous setting down: each value as low as the target allows, with the others as they are.

        The most generous setting itself, where it misses the target or the time is over.
        """
        ladders = self.engine.ladders()
        setting = {name: values[-1] for name, values in ladders.items()}
        end = time.perf_counter() + budget

        def enough(changed: dict[str, float]) -> bool:
            return self.times(k, {**setting, **changed}, budget / 15)[1] >= TARGET

        if not ladders or not enough({}):
            return setting
        for _ in range(2):  # what comes later may leave room for what came before
            for name, values in reversed(ladders.items()):
                low, high = 0, values.index(setting[name])
                while low < high and time.perf_counter() < end:
                    middle = (low + high) // 2
                    if enough({name: values[middle]}):
                        high = middle
                    else:
                        low = middle + 1
                setting[name] = values[high]
        return setting

    def run(self, k: int, budget: float) -> dict[str, Any]:
        """What the cheapest setting takes, with the engine's files in the page cache and without."""
        with resident(self.engine.folder):
            setting = self.cheapest(k, budget)
            times, reached = self.times(k, setting, budget)
        cold: list[float] = []
        for query in self.queries[-_COLD:]:
            evict(self.engine.folder)
            began = time.perf_counter()
            self.ask(query, k, setting)
            cold.append(time.perf_counter() - began)
            if sum(cold) > budget / 2:
                break
        return {
            **summary(times),
            "recall": reached,
            "reached": reached >= TARGET,
            "queries": len(times),
            "setting": setting,
            "cold": summary(cold),
        }


def limit_processors() -> None:
    """Keep this process on as many processors as it may have threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def child(name: str, stage: str, work: Path, images: int, budget: float) -> None:
    """Build or search one engine; what was found goes to PEER.STAGE.json in the working folder."""
    limit_processors()
    folder = work / "peers" / name
    engine = ENGINES[name](folder)
    vectors = np.load(work / "vectors.npy", mmap_mode="r")[: images * REGIONS]
    found: dict[str, Any] = {"images": images}
    note = work / "peers" / f"{name}.{stage}.json"
    if stage == "build":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = time.perf_counter()
        engine.build(vectors)
        found |= {"build_seconds": time.perf_counter() - began, "version": version(engine.package)}
        note.write_text(json.dumps(found), encoding="utf-8")
        return
    queries, exact = np.load(work / "queries.npy"), np.load(work / "exact.npy", mmap_mode="r")
    exact = np.ascontiguousarray(exact[:, :images])
    before = private_bytes()
    began = time.perf_counter()
    engine.open(vectors)
    trial = Trial(engine, queries, exact)
    trial.ask(queries[0], min(KS[0], images), {name: values[0] for name, values in engine.ladders().items()})
    found["open_seconds"] = time.perf_counter() - began
    found["disk_bytes"] = folder_bytes(folder) or vectors.nbytes
    for k in KS:
        if k < images:
            found[str(k)] = trial.run(k, budget)
        found["ram_bytes"] = private_bytes() - before
        note.write_text(json.dumps(found), encoding="utf-8")


class Driver:
    """Starts the processes of one engine after the other, and keeps to their limits."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = options.work / "peers"
        self.folder.mkdir(parents=True, exist_ok=True)

    def measure(self, name: str) -> dict[str, Any]:
        """Everything found out about one engine; taken from the working folder if it is there."""
        note = self.folder / f"{name}.json"
        if note.exists():
            return dict(json.loads(note.read_text(encoding="utf-8")))
        found = {"title": ENGINES[name].title, "package": ENGINES[name].package, **self._measured(name)}
        shutil.rmtree(self.folder / name, ignore_errors=True)
        if found["status"] != "not installed":  # the next interpreter may have it
            note.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return found

    def _measured(self, name: str) -> dict[str, Any]:
        if not self._installed(name):
            return {"status": "not installed"}
        built, tried = self._built(name)
        if not built:
            return {"status": tried.get("problem", "did not finish"), "tried": tried}
        result = self._child(name, "search", int(built["images"]), self.options.search_limit)
        complete = built["images"] == self.options.images
        return {"status": "complete" if complete else "did not finish", "tried": tried, **built, **result}

    def _installed(self, name: str) -> bool:
        code = f"import importlib.metadata as m; m.version({ENGINES[name].package!r})"
        done = subprocess.run([self._python(name), "-c", code], capture_output=True, check=False)
        return done.returncode == 0

    def _python(self, name: str) -> str:
        return sys.executable if name == "plain" else str(self.options.python)

    def _built(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The largest size that was built within the limit, and what became of larger ones."""
        full, limit = self.options.images, self.options.build_limit
        sizes = [full // 20, full // 5, full]
        if not ENGINES[name].grows:
            tried: dict[str, Any] = {}
            for size in reversed(sizes):
                result = self._child(name, "build", size, limit)
                if "build_seconds" in result:
                    return result, tried
                tried = {**tried, str(size): result["problem"], "problem": result["problem"]}
            return {}, tried
        built: dict[str, Any] = {}
        for size in sizes:
            if built:
                growth = size * np.log(size) / (built["images"] * np.log(built["images"]))
                expected = built["build_seconds"] * growth
                if expected > limit:
                    return built, {str(size): f"{expected:.0f} s expected"}
            result = self._child(name, "build", size, limit)
            if "build_seconds" not in result:
                problem = result["problem"]
                if built:  # its files are gone
                    built = self._child(name, "build", int(built["images"]), limit)
                return built if "build_seconds" in built else {}, {str(size): problem, "problem": problem}
            built = result
        return built, {}

    def _child(self, name: str, stage: str, images: int, limit: float) -> dict[str, Any]:
        note = self.folder / f"{name}.{stage}.json"
        note.unlink(missing_ok=True)
        say(f"{name}: {stage}, {images:,} images")
        command = [self._python(name), "-W", "ignore", __file__, "--child", name, "--stage", stage]
        command += ["--work", str(self.options.work), "--images", str(images), "--budget", str(self.options.budget)]
        log = self.folder / f"{name}.{stage}.log"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment(), start_new_session=True)
            try:
                problem = "" if process.wait(limit) == 0 else "failed"
            except subprocess.TimeoutExpired:
                problem = "did not finish"
            finally:  # with whatever it started, and also when this process is stopped
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
        if problem:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            say(f"{name}: {stage} {problem}{': ' + lines[-1][:200] if lines and problem == 'failed' else ''}")
            found["problem"] = problem if problem != "failed" or not lines else f"failed: {lines[-1][:200]}"
        else:
            say(f"{name}: {stage} {json.dumps(found)[:400]}")
        return found


HEADER = ("images", "build s", "RAM MiB", "B / region", "disk MiB")


def figures(found: dict[str, Any], images: int) -> list[Any]:
    """One row of the table: sizes, then for each k the recall, median, 95th percentile and cold median."""
    if "build_seconds" not in found:
        return [found["status"], *["-"] * (len(HEADER) - 1 + 4 * len(KS))]
    regions = REGIONS * found["images"]
    row = [
        f"{found['images']:,}" + ("" if found["images"] == images else " *"),
        f"{found['build_seconds']:.0f}",
        *(
            (f"{found['ram_bytes'] / 2**20:,.0f}", f"{found['ram_bytes'] / regions:,.0f}")
            if "ram_bytes" in found
            else "--"
        ),
        f"{found['disk_bytes'] / 2**20:,.0f}" if "disk_bytes" in found else "-",
    ]
    for k in KS:
        of_k = found.get(str(k))
        row += (
            ["-"] * 4
            if of_k is None
            else [
                f"{of_k['recall']:.3f}",
                *(f"{of_k[name]:,.1f}" for name in ("median", "p95")),
                f"{of_k['cold']['median']:,.1f}",
            ]
        )
    return row


def header(first: str) -> list[str]:
    return [first, *HEADER, *(f"{name} @{k}" for k in KS for name in ("recall", "ms", "p95", "cold ms"))]


def measured(options: argparse.Namespace, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Prepare the vectors and measure these engines."""
    prepare(options.work, options.images, options.dimension)
    driver = Driver(options)
    if options.again:
        for name in ("plain", *names):
            (driver.folder / f"{name}.json").unlink(missing_ok=True)
    return {name: driver.measure(name) for name in dict.fromkeys(["plain", *names])}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the other engines")
    parser.add_argument("--peers", nargs="+", choices=ENGINES, default=USUAL, help="which to measure")
    parser.add_argument("--again", action="store_true", help="measure also what the working folder has results of")
    parser.add_argument("--work", type=Path, help="folder for vectors, indexes and results; kept")
    parser.add_argument("--build-limit", type=float, default=240, help="seconds; beyond, a smaller size is built")
    parser.add_argument("--search-limit", type=float, default=240, help="seconds for all searches of an engine")
    parser.add_argument("--budget", type=float, default=15, help="seconds for trying the settings of one engine and k")


def default_work(images: int, dimension: int) -> Path:
    return Path(tempfile.gettempdir()) / f"patchwise-compressed-{images}x{dimension}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_options(parser)
    parser.add_argument("--child", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.stage, options.work, options.images, options.budget)
        return
    from common import report

    options.work = options.work or default_work(options.images, options.dimension)
    found = measured(options, options.peers)
    versions = sorted({f"{row['package']} {row['version']}" for row in found.values() if "version" in row})
    report(
        "compressed_peers",
        f"The best images by their best region among {options.images:,} images x {REGIONS} regions x "
        f"{options.dimension}-d, two threads, cheapest setting of each engine with recall {TARGET} (else its best "
        f"recall); {QUERIES} queries, fewer where they are slow. A star: at the full size it would have taken more "
        f"than {options.build_limit:.0f} s to build, and the largest size of three that did not is shown. RAM is "
        f"private memory, cold means none of its files in the page cache. {', '.join(versions)}.",
        header("engine"),
        [[row["title"], *figures(row, options.images)] for row in found.values()],
        images=options.images,
        dimension=options.dimension,
        cosine=COSINE,
        build_limit=options.build_limit,
        peers=found,
    )


if __name__ == "__main__":
    main()
