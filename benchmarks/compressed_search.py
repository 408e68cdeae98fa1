"""How much faster than the plain product is compressed search, at what recall, memory and cost of building?

Bars: at 100,000 images x 30 x 384-d with two threads at least 8 times as fast as a numpy float32 product with each
image's maximum, in the same run, at a recall of 0.99 for the best 100 and the best 1,000 images, in at most 100 bytes
of memory per region, and ahead of other engines at equal recall; a search restricted to some of the images, or in a
gallery that lost half of them, costs at most 5 ms more. Ours and the product are timed in alternation.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import SEED, report, table
from compressed_peers import (
    COSINE,
    KS,
    QUERIES,
    TARGET,
    add_options,
    default_work,
    evict,
    figures,
    folder_bytes,
    header,
    limit_processors,
    measured,
    prepare,
    private_bytes,
    recall,
    resident,
    say,
    summary,
)
from patchwise.compression import codes_searcher, compress
from patchwise.regions import Pyramid, View
from patchwise.search import CompressedSearcher, rank
from patchwise.store import Encoded, Manifest, Snapshot, Store
from peer_engines import REGIONS, PlainProduct, environment, plain_product

_WARM_UP = 3
_IN_A_ROW = 10  # queries of one engine, as when it is all that runs
_COLD = 12
_SIZE = (1024, 768)
_GALLERY = "ours.pw"
SEARCHES = {"patchwise": "images", "patchwise hits": "images with their boxes"}
Search = Callable[[npt.NDArray[np.float32], int], npt.NDArray[np.int64]]


def fill_from(store: Store, vectors: npt.NDArray[np.float16]) -> None:
    """Store (images * 30, dimension) vectors; image i is called by its number."""
    regions = Pyramid(3).regions(View(_SIZE))
    images = vectors.reshape(-1, REGIONS, vectors.shape[1])
    with store.writer() as writer:
        for start in range(0, len(images), 1000):
            writer.add(
                [
                    Encoded(path_of(number), 0, 0, number.to_bytes(16, "big"), _SIZE, regions, of_image)
                    for number, of_image in enumerate(images[start : start + 1000].astype(np.float32), start)
                ]
            )


def path_of(number: int) -> str:
    return f"/{number:07d}.jpg"


class Ours:
    """The compressed gallery as it is now, searched for images by their numbers."""

    def __init__(self, store: Store) -> None:
        self.snapshot: Snapshot = store.snapshot()
        searcher = codes_searcher(store, self.snapshot)
        if searcher is None:
            raise SystemExit("the gallery has no codes")
        self.searcher: CompressedSearcher = searcher.aiming_at(TARGET)
        self.numbers = np.empty(len(self.snapshot), dtype=np.int64)
        for path, index in self.snapshot.paths(range(len(self.snapshot))):
            self.numbers[index] = int(path[1:-4])

    def images(
        self, query: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64]:
        """Numbers of the k best images, best first; `allowed` is by number."""
        of_snapshot = None if allowed is None else allowed[self.numbers]
        return self.found(self.searcher.top(query[None], k, of_snapshot)[0], k)

    def found(self, candidates: Any, k: int) -> npt.NDArray[np.int64]:
        return self.numbers[candidates.pictures[np.argsort(-candidates.scores, kind="stable")[:k]]]

    def hits(self, query: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
        """The same with exact scores, boxes and ten regions of each image."""
        return np.array([int(hit.path[1:-4]) for hit in next(rank(self.snapshot, self.searcher, query[None], k=k))])


def build(work: Path, codec: str) -> dict[str, Any]:
    folder = work / _GALLERY
    shutil.rmtree(folder, ignore_errors=True)
    vectors = np.load(work / "vectors.npy", mmap_mode="r")
    record: dict[str, str | int] = {"id": "synthetic", "dimension": vectors.shape[1]}
    began = time.perf_counter()
    store = Store.create(folder, Manifest(record, "pyramid:3", "shipped", "", ""))
    fill_from(store, vectors)
    filled = time.perf_counter()
    done = compress(store, codec)
    ended = time.perf_counter()
    store.close()
    codes = folder_bytes(folder / "compressed")
    return {
        "images": done.images,
        "build_seconds": ended - began,
        "storing_seconds": filled - began,
        "compressing_seconds": ended - filled,
        "training_seconds": done.training_seconds,
        "encoding_seconds": done.encoding_seconds,
        "measuring_seconds": done.measuring_seconds,
        "codec": done.info.codec,
        "disk_bytes": folder_bytes(folder),
        "code_file_bytes": codes,
        "recall_told": done.info.recall,
    }


def held(work: Path) -> dict[str, Any]:
    """Memory of a process that does nothing but search."""
    store, queries = Store(work / _GALLERY), np.load(work / "queries.npy")
    before = private_bytes()
    began = time.perf_counter()
    snapshot = store.snapshot()
    searcher = codes_searcher(store, snapshot)
    if searcher is None:
        raise SystemExit("the gallery has no codes")
    searcher = searcher.aiming_at(TARGET)
    opened = time.perf_counter() - began
    for k in KS:
        for query in queries[:20]:
            searcher.top(query[None], k)
    return {"ram_bytes": private_bytes() - before, "open_seconds": opened}


def race(work: Path) -> dict[str, Any]:
    """Ours and the plain product in turn, a few queries each; then with none of our files in the page cache."""
    queries, exact = np.load(work / "queries.npy"), np.load(work / "exact.npy")
    store = Store(work / _GALLERY)
    ours = Ours(store)
    product = PlainProduct(work)
    product.open(np.load(work / "vectors.npy", mmap_mode="r"))
    searches: dict[str, Search] = {
        "plain": lambda query, k: plain_product(product.matrix, query, k),
        "patchwise": ours.images,
        "patchwise hits": ours.hits,
    }
    result: dict[str, Any] = {name: {} for name in searches}
    for k in (k for k in KS if k < exact.shape[1]):
        times: dict[str, list[float]] = {name: [] for name in searches}
        recalls: dict[str, list[float]] = {name: [] for name in searches}
        with resident(work / _GALLERY):
            for query in queries[:_WARM_UP]:
                for search in searches.values():
                    search(query, k)
            for first in range(0, len(queries), _IN_A_ROW):
                some = slice(first, first + _IN_A_ROW)
                for name, search in searches.items():
                    for query, scores in zip(queries[some], exact[some], strict=True):
                        began = time.perf_counter()
                        found = search(query, k)
                        times[name].append(time.perf_counter() - began)
                        recalls[name].append(recall(found, scores, k))
        cold: dict[str, list[float]] = {name: [] for name in searches}
        for query in queries[-_COLD:]:
            for name, search in searches.items():
                evict(work / _GALLERY)
                began = time.perf_counter()
                search(query, k)
                cold[name].append(time.perf_counter() - began)
        for name in searches:
            result[name][str(k)] = {
                **summary(times[name]),
                "recall": statistics.fmean(recalls[name]),
                "least_recall": min(recalls[name]),
                "queries": len(times[name]),
                "reached": statistics.fmean(recalls[name]) >= TARGET,
                "cold": summary(cold[name]),
                "times_as_fast": statistics.median(times["plain"]) / statistics.median(times[name]),
            }
    store.close()
    return result


def filters(work: Path) -> dict[str, Any]:
    """Searches among some of the images against the search among all, in alternation; then with half of them gone."""
    queries, exact = np.load(work / "queries.npy"), np.load(work / "exact.npy")
    images = exact.shape[1]
    generator = np.random.default_rng(SEED)
    store = Store(work / _GALLERY)
    ours = Ours(store)

    def at_random(count: int) -> npt.NDArray[np.bool_]:
        return np.isin(np.arange(images), generator.choice(images, count, replace=False))

    def together(count: int) -> npt.NDArray[np.bool_]:
        first = int(generator.integers(images - count))
        return (np.arange(images) >= first) & (np.arange(images) < first + count)

    one, half = max(images // 100, 1), images // 2
    kept = at_random(half)
    allowed = {
        "1 % of the images, at random": at_random(one),
        "1 % of the images, one after the other": together(one),
        "50 % of the images, at random": kept,
        "50 % of the images, one after the other": together(half),
    }
    among = {name: (mask, lambda query, k, mask=mask: ours.images(query, k, mask)) for name, mask in allowed.items()}
    with resident(work / _GALLERY):
        result = _compared(among, ours, queries, exact)
    with store.writer() as writer:
        writer.record(forgotten=[path_of(number) for number in np.flatnonzero(~kept).tolist()])
    left = Ours(store)
    with resident(work / _GALLERY):
        result |= _compared({"50 % deleted, at random": (kept, left.images)}, ours, queries, exact)
    store.close()
    return result


def _compared(
    searches: dict[str, tuple[npt.NDArray[np.bool_], Search]],
    ours: Ours,
    queries: npt.NDArray[np.float32],
    exact: npt.NDArray[np.float32],
) -> dict[str, Any]:
    result: dict[str, Any] = {name: {} for name in searches}
    for k in (k for k in KS if k < exact.shape[1]):
        times: dict[str, list[float]] = {name: [] for name in searches}
        recalls: dict[str, list[float]] = {name: [] for name in searches}
        unrestricted: list[float] = []
        for number, (query, scores) in enumerate(zip(queries, exact, strict=True)):
            began = time.perf_counter()
            ours.images(query, k)
            unrestricted.append(time.perf_counter() - began)
            for name, (mask, search) in searches.items():
                wanted = min(k, int(mask.sum()))
                began = time.perf_counter()
                found = search(query, wanted)
                times[name].append(time.perf_counter() - began)
                if not mask[found].all():
                    raise SystemExit(f"{name}: an image was found that may not be")
                recalls[name].append(recall(found, np.where(mask, scores, -np.inf), wanted))
                if number < _WARM_UP:
                    times[name].clear()
            if number < _WARM_UP:
                unrestricted.clear()
        for name, (mask, _) in searches.items():
            result[name][str(k)] = {
                **summary(times[name]),
                "recall": statistics.fmean(recalls[name]),
                "wanted": min(k, int(mask.sum())),
                "unrestricted": summary(unrestricted),
                "more": summary(times[name])["median"] - summary(unrestricted)["median"],
            }
    return result


STAGES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "build": lambda options: build(options.work, options.codec),
    "held": lambda options: held(options.work),
    "race": lambda options: race(options.work),
    "filters": lambda options: filters(options.work),
}


def staged(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Run a stage in a process of its own, with two threads; what it found stays in the working folder."""
    say(f"ours: {name}")
    note = options.work / f"ours.{name}.json"
    note.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--stage", name, "--work", str(options.work), "--codec", options.codec]
    # Idle threads of OpenBLAS, which the plain product uses, would otherwise spin beside the searches that follow.
    subprocess.run(command, check=True, env=environment() | {"OPENBLAS_THREAD_TIMEOUT": "4"})
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    say(f"ours: {name} {json.dumps(found)[:400]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_options(parser)
    parser.add_argument("--codec", default="auto")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        limit_processors()
        found = STAGES[options.stage](options)
        (options.work / f"ours.{options.stage}.json").write_text(json.dumps(found), encoding="utf-8")
        return
    options.work = options.work or default_work(options.images, options.dimension)
    prepare(options.work, options.images, options.dimension)
    own = {name: staged(options, name) for name in STAGES}
    shutil.rmtree(options.work / _GALLERY)
    peers = measured(options, options.peers)
    show(options, own, peers)


def show(options: argparse.Namespace, own: dict[str, Any], peers: dict[str, dict[str, Any]]) -> None:
    images = options.images
    rows = [["numpy float32 product", *figures({**peers.get("plain", own["build"]), **own["race"]["plain"]}, images)]]
    for name, what in SEARCHES.items():
        of_ours = {**own["build"], **own["held"], **own["race"][name]}
        rows.append([f"patchwise {own['build']['codec']}, {what}", *figures(of_ours, images)])
    rows += [[found["title"], *figures(found, images)] for name, found in peers.items() if name != "plain"]
    versions = sorted({f"{found['package']} {found['version']}" for found in peers.values() if "version" in found})
    fastest = own["race"]["patchwise"]
    ratios = ", ".join(f"{fastest[str(k)]['times_as_fast']:.1f} for k = {k:,}" for k in KS if str(k) in fastest)
    filter_rows = [
        [
            name,
            *(
                cell
                for k in KS
                for cell in (
                    [f"{found[str(k)][field]:{form}}" for field, form in _FILTER_CELLS]
                    if str(k) in found
                    else ["-"] * len(_FILTER_CELLS)
                )
            ),
        ]
        for name, found in own["filters"].items()
    ]
    names = ("recall", "ms", "p95", "more than unrestricted")
    filters_table = table(["searched", *(f"{name} @{k}" for k in KS for name in names)], filter_rows)
    print("\n".join(filters_table), flush=True)
    report(
        "compressed_search",
        f"The best images by their best region among {images:,} images x {REGIONS} regions x {options.dimension}-d, "
        f"two threads, {QUERIES} queries. Compressed search takes the plain product's time divided by {ratios} (in one "
        f"process, in alternation). Each engine with its cheapest setting that reaches a recall of {TARGET}, else "
        f"its best recall. A star: it would have taken more than {options.build_limit:.0f} s to build, and the largest "
        "size of three that did not is shown. RAM is private memory; cold: none of its files in the page cache. "
        f"{', '.join(versions)}.",
        header("search"),
        rows,
        images=images,
        dimension=options.dimension,
        cosine=COSINE,
        ours=own,
        filters_table=filters_table,
        peers=peers,
    )


_FILTER_CELLS = (("recall", ".3f"), ("median", ",.1f"), ("p95", ",.1f"), ("more", "+.1f"))


if __name__ == "__main__":
    main()
