"""What does an evaluation spend on searching, beyond the matrix product that nothing can avoid?

1,232 queries (as many as ILIAS has) against 20,000 images x 30 regions. The limit is the product of all queries with
all vectors, in blocks, in the same process, in alternation; ours also takes the maximum per image, ranks, and finds the
place of every positive and its winning region.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from common import SEED, arguments, fill, peak_memory_mib, report
from patchwise import Gallery
from patchwise.evaluation.datasets import Benchmark, Query
from patchwise.evaluation.runner import judge
from patchwise.search import ExactSearcher
from patchwise.store import Manifest, Store

POSITIVES = 4
BLOCK_ROWS = 8192


def main() -> None:
    options = arguments(__doc__ or "", images=20_000, dimension=256, queries=1232, repeats=3)
    generator = np.random.default_rng(SEED)
    vectors = generator.standard_normal((options.queries, options.dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"{number:06d}.jpg" for number in range(options.images)]
    queries = []
    for number in range(options.queries):
        positives = {names[i]: ((0.0, 0.0, 512.0, 384.0),) for i in generator.integers(options.images, size=POSITIVES)}
        queries.append(Query(str(number), Path("query.jpg"), None, positives))
    found: dict[str, list[float]] = {"product": [], "full ranking": [], "1,000 best": [], "1,000 best, from disk": []}
    with tempfile.TemporaryDirectory() as folder:
        record: dict[str, str | int] = {"id": "builtin", "dimension": options.dimension}
        store = Store.create(Path(folder) / "g.pw", Manifest(record, "pyramid:3", "shipped", "", ""))
        fill(store, options.images, options.dimension)
        gallery = Gallery(store)
        snapshot, searcher = gallery.current()
        matrix = searcher._matrix if isinstance(searcher, ExactSearcher) else None
        if matrix is None:
            raise SystemExit("not enough free memory to hold the vectors")
        product = np.empty((BLOCK_ROWS, options.queries), dtype=np.float32)
        benchmarks = {
            name: Benchmark("random", Path("/"), names, queries, depth=depth)
            for name, depth in (("full ranking", None), ("1,000 best", 1000))
        }
        for _ in range(options.repeats):
            began = time.perf_counter()
            for start in range(0, len(matrix), BLOCK_ROWS):
                block = matrix[start : start + BLOCK_ROWS]
                np.matmul(block, vectors.T, out=product[: len(block)])
            found["product"].append(time.perf_counter() - began)
            for name, benchmark in benchmarks.items():
                began = time.perf_counter()
                outcomes = judge(benchmark, gallery, queries, vectors)
                found[name].append(time.perf_counter() - began)
                if len(outcomes) != options.queries:
                    raise SystemExit(f"expected {options.queries} outcomes, got {len(outcomes)}")
        memory = peak_memory_mib()
        gallery._searching = (snapshot, ExactSearcher(snapshot, resident_bytes=0))
        began = time.perf_counter()
        judge(benchmarks["1,000 best"], gallery, queries, vectors)
        found["1,000 best, from disk"].append(time.perf_counter() - began)
        gallery.close()
    limit = statistics.median(found["product"])
    labels = {
        "product": "blocked numpy product (the limit)",
        "full ranking": "evaluation, full ranking",
        "1,000 best": "evaluation, 1,000 best",
        "1,000 best, from disk": "the same, vectors streamed from disk",
    }
    medians = {name: statistics.median(times) for name, times in found.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(times, found["product"], strict=False))
        for name, times in found.items()
    }
    report(
        "eval_search",
        f"Searching {options.images:,} images x 30 regions x {options.dimension}-d with {options.queries:,} queries of "
        f"{POSITIVES} positives each, median of {options.repeats} rounds; peak memory {memory:,.0f} MiB, of which "
        f"{4 * len(matrix) * options.dimension / 2**20:,.0f} are the vectors.",
        ["search", "seconds", "ratio", "ms per query"],
        [
            [labels[name], f"{seconds:.2f}", f"{ratios[name]:.2f}", f"{1e3 * seconds / options.queries:.2f}"]
            for name, seconds in medians.items()
        ],
        seconds=medians,
        ratios=ratios,
        limit_seconds=limit,
        peak_memory_mib=memory,
    )


if __name__ == "__main__":
    main()
