"""Does the server stay quick, whole and of one size under 32 clients, and does a kill lose anything?

The limit for the slow answers is three times what is fair: 32 clients on 2 cores, each answer as long as one alone.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import SEED, argument_parser, photographs, report
from patchwise.images import digest_of
from serving import Client, Server, client, large_gallery

_TIMES_FAIR = 3
_PICTURES_PER_UPLOAD = 8
_FIRST_JOB = 5.0  # seconds in which what encodes pictures takes the memory that it keeps
_UNTIL_KILLED = 6.0  # seconds
_PATIENCE = 120.0  # seconds until everything acknowledged is found after a kill


@dataclass
class Answers:
    """What clients were told: when each request began, how long it took, and what went wrong."""

    began: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def between(self, begin: float, end: float) -> list[float]:
        """Seconds of those that began then."""
        return [taken for at, taken in zip(self.began, self.seconds, strict=True) if begin <= at < end]


class Asking:
    """Requests as people send them: a picture that was uploaded before, and a box drawn on it."""

    def __init__(self, server: Server, pictures: list[Path]) -> None:
        self._pictures = []
        with client(server) as ask:
            for path in pictures:
                kept = ask.upload("/galleries/load/pictures", "picture", [path.read_bytes()])
                self._pictures.append((kept["image"], kept["size"]))

    def request(self, generator: np.random.Generator) -> bytes:
        image, (width, height) = self._pictures[generator.integers(len(self._pictures))]
        x0, y0 = generator.uniform(0, 0.5, 2)
        x1, y1 = x0 + generator.uniform(0.25, 0.5), y0 + generator.uniform(0.25, 0.5)
        box = [x0 * width, y0 * height, x1 * width, y1 * height]
        return json.dumps({"parts": [{"picture": image, "box": [round(edge, 1) for edge in box]}], "k": 20}).encode()


def ask_for(
    server: Server, asking: Asking, answers: Answers, seed: int, until: float, stopped: threading.Event
) -> None:
    """One client: the next request as soon as the answer to the last one is there."""
    generator = np.random.default_rng(seed)
    with client(server) as ask:
        while time.perf_counter() < until and not stopped.is_set():
            body = asking.request(generator)
            began = time.perf_counter()
            try:
                status, answer = ask("POST", "/galleries/load/search", body, "application/json")
            except (OSError, http.client.HTTPException) as error:
                if not stopped.is_set():
                    answers.errors.append(repr(error))
                return
            answers.began.append(began)
            answers.seconds.append(time.perf_counter() - began)
            if status != 200:
                answers.errors.append(f"{status} {answer[:200]!r}")
            elif len(json.loads(answer)["hits"]) != 20:
                answers.errors.append("fewer than 20 hits")


class Adding:
    """A client that uploads pictures that are new, one job after the other."""

    def __init__(self, sources: list[Path], seed: int) -> None:
        self._sources, self._generator = sources, np.random.default_rng(seed)
        self.acknowledged: list[str] = []  # image ids
        self.searchable: list[float] = []  # seconds from the end of a job to the first hit
        self.jobs: list[float] = []
        self.errors: list[str] = []

    def _new_picture(self) -> bytes:
        with Image.open(self._sources[self._generator.integers(len(self._sources))]) as image:
            pixels = np.asarray(image.convert("RGB").resize((640, 480)), dtype=np.int16)
        noise = self._generator.normal(0, 6, pixels.shape[:2])[..., None].astype(np.int16)
        buffer = io.BytesIO()
        Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
        return buffer.getvalue()

    def upload(self, ask: Client) -> tuple[dict[str, Any], list[str]]:
        """The job, and the ids of its images."""
        contents = [self._new_picture() for _ in range(_PICTURES_PER_UPLOAD)]
        job = ask.upload("/galleries/load/images", "pictures", contents)
        ids = [digest_of(content) for content in contents]
        self.acknowledged += ids
        return job, ids

    def run(self, server: Server, until: float) -> None:
        with client(server) as ask:
            while time.perf_counter() < until:
                began = time.perf_counter()
                job, ids = self.upload(ask)
                while job["state"] in ("queued", "running"):
                    time.sleep(0.1)
                    job = ask.json("GET", f"/jobs/{job['job']}")
                self.jobs.append(time.perf_counter() - began)
                if job["state"] != "done" or job["added"] != len(ids):
                    self.errors.append(json.dumps(job))
                    continue
                done = time.perf_counter()
                found = ask.json("POST", "/galleries/load/search", {"parts": [{"picture": ids[0]}], "k": 1})
                self.searchable.append(time.perf_counter() - done)
                if found["hits"][0]["image"] != ids[0]:
                    self.errors.append(f"{ids[0]}: not found after its job was done")


def watch_memory(server: Server, memory: list[tuple[float, float]], stopped: threading.Event) -> None:
    while not stopped.wait(1.0):
        memory.append((time.perf_counter(), server.memory_mib()))


def slope(memory: list[tuple[float, float]], begin: float, end: float) -> float:
    """MiB per minute."""
    at, held = np.array([each for each in memory if begin <= each[0] < end]).T
    return float(np.polyfit(at, held, 1)[0] * 60)


def alone(server: Server, asking: Asking, requests: int) -> list[float]:
    """Seconds of requests one after the other, after some that are not counted."""
    generator, taken = np.random.default_rng(SEED + 2), []
    with client(server) as ask:
        for _ in range(requests + 5):
            body = asking.request(generator)
            began = time.perf_counter()
            ask("POST", "/galleries/load/search", body, "application/json")
            taken.append(time.perf_counter() - began)
    return taken[5:]


def killed(gallery: Path, cache: Path, pictures: list[Path], clients: int) -> dict[str, Any]:
    """Kill a server that is searched and added to; is everything there afterwards that it acknowledged?"""
    adding, answers, stopped = Adding(pictures, SEED + 3), Answers(), threading.Event()
    with Server(gallery, cache) as server:
        asking = Asking(server, pictures[:8])
        until = time.perf_counter() + _PATIENCE
        threads = [
            threading.Thread(target=ask_for, args=(server, asking, answers, seed, until, stopped))
            for seed in range(clients)
        ]
        for thread in threads:
            thread.start()
        end = time.perf_counter() + _UNTIL_KILLED
        adding.run(server, end)
        with client(server) as ask:  # these are acknowledged, and perhaps not indexed
            adding.upload(ask)
            stopped.set()
            server.kill()
        for thread in threads:
            thread.join()
    if answers.errors or adding.errors:
        raise SystemExit(f"errors before the kill: {(answers.errors + adding.errors)[:3]}")
    verified = subprocess.run(
        [sys.executable, "-m", "patchwise", "verify", "--gallery", str(gallery)],
        capture_output=True,
        text=True,
        check=False,
    )
    missing = set(adding.acknowledged)
    with Server(gallery, cache) as server, client(server) as ask:
        began = time.perf_counter()
        while missing and time.perf_counter() - began < _PATIENCE:
            missing = {image for image in missing if ask("GET", f"/galleries/load/images/{image}")[0] != 200}
            time.sleep(0.2)
        back = time.perf_counter() - began
    return {
        "acknowledged": len(adding.acknowledged),
        "lost": len(missing),
        "verify_exit": verified.returncode,
        "verify": (verified.stdout + verified.stderr).strip()[-400:],
        "all_there_after_s": back,
        "searches_before": len(answers.seconds),
    }


# As the server does it: one thread for each product, so that its searches share the processors.
_PRODUCT = """
import os, sys, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
vectors = np.random.default_rng(0).standard_normal((int(sys.argv[1]), 256), dtype=np.float32)
taken = []
for number in range(9):
    began = time.perf_counter()
    vectors @ vectors[number]
    taken.append(time.perf_counter() - began)
print(sorted(taken)[4])
"""


def product(vectors: int) -> float:
    """Seconds of one numpy product over as many vectors as are searched: what no exact search can do without."""
    done = subprocess.run([sys.executable, "-c", _PRODUCT, str(vectors)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argument_parser(__doc__ or "", images=20_000, clients=32, seconds=60, requests=60)
    parser.add_argument("--cache", type=Path, help="keep the gallery here, and take it from here (default: make it)")
    options = parser.parse_args()
    pictures = photographs(options.data)[:: max(len(photographs(options.data)) // 24, 1)][:24]
    with tempfile.TemporaryDirectory() as temporary:
        kept = options.cache or Path(temporary) / "made"
        kept.mkdir(parents=True, exist_ok=True)
        gallery, cache = Path(temporary) / "g.pw", Path(temporary) / "cache"
        shutil.copytree(large_gallery(kept, options.images, options.data), gallery)
        floor = product(30 * options.images)
        answers, adding = Answers(), Adding(pictures, SEED + 1)
        memory: list[tuple[float, float]] = []
        stopped = threading.Event()
        with Server(gallery, cache) as server:
            asking = Asking(server, pictures)
            single = alone(server, asking, options.requests)
            before = server.memory_mib()
            watching = threading.Thread(target=watch_memory, args=(server, memory, stopped))
            watching.start()
            begin, ours, theirs, all_of_it = time.perf_counter(), _own_cpu(), server.cpu_seconds(), _busy()
            half, end = begin + options.seconds / 2, begin + options.seconds
            threads = [
                threading.Thread(target=ask_for, args=(server, asking, answers, seed, end, stopped))
                for seed in range(options.clients)
            ]
            for thread in threads:
                thread.start()
            time.sleep(half - time.perf_counter())
            adding.run(server, end)
            for thread in threads:
                thread.join()
            wall = time.perf_counter() - begin
            ours, theirs = _own_cpu() - ours, server.cpu_seconds() - theirs
            others = _busy() - all_of_it - ours - theirs
            stopped.set()
            watching.join()
            after = server.memory_mib()
        lost = killed(gallery, cache, pictures, options.clients)
    cores = len(os.sched_getaffinity(0))
    median = statistics.median(single)
    fair = options.clients / cores * median
    searching, both = answers.between(begin, half), answers.between(half, end)

    def percentile(taken: list[float], share: float) -> str:
        return f"{1e3 * float(np.quantile(taken, share)):,.0f}"

    limit = f"{1e3 * _TIMES_FAIR * fair:,.0f}"
    growth, growth_adding = slope(memory, begin + 5, half), slope(memory, half + _FIRST_JOB, end)
    report(
        "server_load",
        f"`patchwise serve` over {options.images:,} images x 30 regions: {options.clients} clients for "
        f"{options.seconds} s on {cores} cores, searching with boxes of uploaded pictures by the built-in encoder, 20 "
        f"hits each; in the second half pictures are uploaded as well, {len(adding.acknowledged)} in all. Fair is "
        f"{options.clients}/{cores} of the median alone. The clients took {ours / wall:.2f} of the {cores} cores, the "
        f"server {theirs / wall:.2f}, other programs {others / wall:.2f}.",
        ["what", "measured", "limit"],
        [
            ["one client alone: median, ms", percentile(single, 0.5), ""],
            ["for comparison: one numpy product over as many vectors, one thread, ms", f"{1e3 * floor:,.0f}", ""],
            ["one client alone: 95th percentile, ms", percentile(single, 0.95), ""],
            [f"{options.clients} clients: median, ms", percentile(searching, 0.5), f"{1e3 * fair:,.0f} (fair)"],
            [f"{options.clients} clients: 95th percentile, ms", percentile(searching, 0.95), limit],
            ["the same while pictures are added: 95th percentile, ms", percentile(both, 0.95), limit],
            ["searches per second", f"{len(searching) / (half - begin):.1f}", f"{cores / median:.1f} (fair)"],
            ["errors", len(answers.errors) + len(adding.errors), 0],
            ["memory growth while searching, MiB per minute", f"{growth:.1f}", "0"],
            ["memory growth while adding, MiB per minute", f"{growth_adding:.1f}", ""],
            ["an added picture is found after its job, s", f"{max(adding.searchable, default=0):.2f}", ""],
            ["kill -9: pictures acknowledged", lost["acknowledged"], ""],
            ["kill -9: pictures lost", lost["lost"], 0],
            ["kill -9: exit code of patchwise verify", lost["verify_exit"], 0],
        ],
        product_ms=1e3 * floor,
        single_ms=[1e3 * each for each in single],
        fair_ms=1e3 * fair,
        limit_ms=1e3 * _TIMES_FAIR * fair,
        searching_p95_ms=1e3 * float(np.quantile(searching, 0.95)),
        adding_p95_ms=1e3 * float(np.quantile(both, 0.95)),
        slowest_ms=1e3 * max(answers.seconds),
        searches=len(answers.seconds),
        errors=answers.errors[:20] + adding.errors[:20],
        jobs_s=adding.jobs,
        searchable_s=adding.searchable,
        memory_mib=[round(held, 1) for _, held in memory],
        memory_before_mib=before,
        memory_after_mib=after,
        client_cores=ours / wall,
        server_cores=theirs / wall,
        other_cores=others / wall,
        killed=lost,
    )


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _busy() -> float:
    """Processor time of the whole machine so far, without what was idle or waited."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
