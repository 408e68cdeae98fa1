"""How near is exact search to the fastest possible pass over the vectors?

The limit is one numpy product of the same float32 matrix with the query, in the same process, in alternation.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from common import SEED, arguments, fill, report
from patchwise.search import ExactSearcher, rank
from patchwise.store import Manifest, Store


def resident_mib() -> float:
    """Private memory of this process now (anonymous pages, so that mapped files do not count)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this benchmark reads /proc/self/status, which is found on Linux only")


def main() -> None:
    options = arguments(__doc__ or "", images=20_000, dimension=256, repeats=25)
    with tempfile.TemporaryDirectory() as folder:
        record: dict[str, str | int] = {"id": "random", "dimension": options.dimension}
        store = Store.create(Path(folder) / "g.pw", Manifest(record, "pyramid:3", "shipped", "", ""))
        fill(store, options.images, options.dimension)
        before = resident_mib()
        snapshot = store.snapshot()
        loaded = time.perf_counter()
        searcher = ExactSearcher(snapshot)
        loading = time.perf_counter() - loaded
        held = resident_mib() - before
        matrix = searcher._matrix
        if matrix is None:
            raise SystemExit("not enough free memory to hold the vectors")
        generator = np.random.default_rng(SEED + 1)
        ours, limit = [], []
        for _ in range(options.repeats + 1):
            query = generator.standard_normal((1, options.dimension), dtype=np.float32)
            query /= np.linalg.norm(query)
            began = time.perf_counter()
            _ = matrix @ query[0]
            middle = time.perf_counter()
            hits = next(rank(snapshot, searcher, query, k=20))
            limit.append(middle - began)
            ours.append(time.perf_counter() - middle)
            if len(hits) != 20:
                raise SystemExit(f"expected 20 hits, got {len(hits)}")
        streaming = ExactSearcher(snapshot, resident_bytes=0)
        streamed = []
        for _ in range(3):
            began = time.perf_counter()
            next(rank(snapshot, streaming, query, k=20))
            streamed.append(time.perf_counter() - began)
        store.close()
    ours_ms, limit_ms = (1e3 * statistics.median(times[1:]) for times in (ours, limit))
    streamed_ms = 1e3 * statistics.median(streamed)
    rows = [
        ["numpy product, scores only (the limit)", f"{limit_ms:.1f}", "1.00"],
        ["patchwise, vectors in memory: 20 hits with boxes", f"{ours_ms:.1f}", f"{ours_ms / limit_ms:.2f}"],
        ["patchwise, vectors streamed from disk", f"{streamed_ms:.1f}", f"{streamed_ms / limit_ms:.2f}"],
    ]
    vectors = 4 * options.images * 30 * options.dimension / 2**20
    report(
        "search_latency",
        f"Exact search over {options.images:,} images x 30 regions x {options.dimension}-d, "
        f"median of {options.repeats} queries. Memory taken: {held:,.0f} MiB for {vectors:,.0f} MiB of float32 "
        f"vectors; loading took {loading:.2f} s.",
        ["one query", "ms", "ratio"],
        rows,
        ours_ms=ours_ms,
        limit_ms=limit_ms,
        ratio=ours_ms / limit_ms,
        streamed_ms=streamed_ms,
        memory_mib=held,
        vector_mib=vectors,
    )


if __name__ == "__main__":
    main()
