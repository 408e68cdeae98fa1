"""What others offer for the nearest region vectors on one machine, each behind the same four calls.

Read by `compressed_peers.py` in an interpreter of its own, which has these packages and not patchwise. An engine that
knows regions only is asked for more regions than images are wanted, as its user would do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
REGIONS = 30
PER_IMAGE = "regions per image"
_BATCH = 30_000  # vectors handed over at once


class Engine:
    """`build` makes files from (N, d) fp16 vectors, `open` reads them in another process, `search` finds regions.

    `knobs` are the values to try of each setting, cheapest first; of an engine that knows regions only, one of them is
    how many regions to ask for, per image wanted. `grows` says that the time to build is first estimated at smaller
    sizes, `groups` that the engine returns images by itself.
    """

    title = ""
    package = ""
    grows = False
    groups = False
    knobs: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ladders(self) -> dict[str, tuple[float, ...]]:
        """The settings to find out, in the order in which they are made cheaper."""
        return {**dict(self.knobs), **({} if self.groups else {PER_IMAGE: (1.5, 2, 3, 4, 6, 8, 16)})}

    def build(self, vectors: np.ndarray) -> None:
        raise NotImplementedError

    def open(self, vectors: np.ndarray) -> None:
        raise NotImplementedError

    def search(self, query: np.ndarray, fetch: int, knob: dict[str, Any]) -> np.ndarray:
        """Ids of the `fetch` best regions (images, where `groups`), best first."""
        raise NotImplementedError


def batches(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(vectors), _BATCH):
        yield start, vectors[start : start + _BATCH].astype(np.float32)


class PlainProduct(Engine):
    """One numpy product of all float32 vectors with the query, then each image's maximum."""

    title, package, groups = "numpy float32 product", "numpy", True

    def build(self, vectors: np.ndarray) -> None:
        pass  # it searches what there is

    def open(self, vectors: np.ndarray) -> None:
        self.matrix = np.empty(vectors.shape, dtype=np.float32)
        for start, part in batches(vectors):
            self.matrix[start : start + len(part)] = part

    def search(self, query: np.ndarray, fetch: int, _knob: dict[str, Any]) -> np.ndarray:
        return plain_product(self.matrix, query, fetch)


def plain_product(matrix: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    """The k images with the best regions, best first: the search that everything is compared with."""
    images = np.maximum.reduceat(matrix @ query, np.arange(0, len(matrix), REGIONS))
    best = np.argpartition(-images, k - 1)[:k]
    return best[np.argsort(-images[best])]


class Faiss(Engine):
    """An index of FAISS by its factory string."""

    package = "faiss-cpu"
    factory = "Flat"

    def build(self, vectors: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(THREADS)
        lists = 2 ** round(np.log2(np.sqrt(len(vectors))))
        codes = vectors.shape[1] // 4
        factory = self.factory.format(lists=lists, d_8=codes, d_4=2 * codes)
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if "IVF" in factory:
            clustering = faiss.extract_index_ivf(index).cp
            clustering.niter, clustering.max_points_per_centroid = 10, 64
        rows = np.random.default_rng(0).choice(len(vectors), min(64 * lists, len(vectors)), replace=False)
        index.train(vectors[np.sort(rows)].astype(np.float32))
        for _, part in batches(vectors):
            index.add(part)
        faiss.write_index(index, str(self.folder / "index.faiss"))

    def open(self, _vectors: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(THREADS)
        self.index = faiss.read_index(str(self.folder / "index.faiss"))

    def search(self, query: np.ndarray, fetch: int, knob: dict[str, Any]) -> np.ndarray:
        return self.index.search(query[None], fetch, params=self.parameters(knob))[1][0]

    def parameters(self, _knob: dict[str, Any]) -> Any:
        return None


class FaissFlat(Faiss):
    title = "FAISS Flat"


class FaissSQ8(Faiss):
    title, factory = "FAISS SQ8", "SQ8"


class FaissFastScan(Faiss):
    """Fast-scan codes; the best of them are scored again from fp16, all in memory."""

    title, factory = "FAISS PQ fast-scan d/4, refined from fp16", "PQ{d_4}x4fs,Refine(SQfp16)"

    knobs = (("k_factor", (1, 1.5, 2, 3, 4, 6, 8, 16, 32)),)

    def parameters(self, knob: dict[str, Any]) -> Any:
        import faiss

        return faiss.IndexRefineSearchParameters(k_factor=knob["k_factor"])


class FaissFastScanSmall(FaissFastScan):
    title, factory = "FAISS PQ fast-scan d/8, refined from fp16", "PQ{d_8}x4fs,Refine(SQfp16)"


class FaissLists(Faiss):
    """Only the lists nearest to the query are looked through."""

    title, factory = "FAISS IVF-Flat", "IVF{lists},Flat"

    knobs = (("nprobe", tuple(2**power for power in range(3, 12))),)

    def open(self, vectors: np.ndarray) -> None:
        super().open(vectors)
        self.index.parallel_mode = 1  # over the lists of one query; over queries would leave a thread idle

    def parameters(self, knob: dict[str, Any]) -> Any:
        import faiss

        return faiss.SearchParametersIVF(nprobe=knob["nprobe"])


class FaissListsFastScan(FaissFastScan):
    title, factory = "FAISS IVF, PQ fast-scan d/4, refined from fp16", "IVF{lists},PQ{d_4}x4fs,Refine(SQfp16)"
    knobs = (*FaissLists.knobs, *FaissFastScan.knobs)

    def parameters(self, knob: dict[str, Any]) -> Any:
        import faiss

        inner = faiss.SearchParametersIVF(nprobe=knob["nprobe"])
        return faiss.IndexRefineSearchParameters(k_factor=knob["k_factor"], base_index_params=inner)


class FaissGraph(Faiss):
    title, factory, grows = "FAISS HNSW", "HNSW32", True

    knobs = (("efSearch", tuple(2**power for power in range(7, 15))),)

    def parameters(self, knob: dict[str, Any]) -> Any:
        import faiss

        return faiss.SearchParametersHNSW(efSearch=knob["efSearch"])


class QdrantEdge(Engine):
    """HNSW over int8 vectors held in memory, the best scored again from the float32 vectors on disk."""

    title, package, grows = "Qdrant Edge, HNSW int8", "qdrant-edge-py", True
    edges = 16

    knobs = (("hnsw_ef", tuple(2**power for power in range(7, 15))),)

    def config(self, dimension: int) -> Any:
        import qdrant_edge as q

        graph = q.HnswIndexConfig(
            m=self.edges, ef_construct=100, full_scan_threshold=10_000, max_indexing_threads=THREADS
        )
        vectors = q.EdgeVectorParams(
            size=dimension,
            distance=q.Distance.Dot,
            hnsw_config=graph,
            quantization_config=q.ScalarQuantizationConfig(q.ScalarType.Int8, memory=q.Memory.Pinned),
            multivector_config=q.MultiVectorConfig(q.MultiVectorComparator.MaxSim) if self.groups else None,
        )
        # One segment per thread: a segment is searched by one thread.
        optimizers = q.EdgeOptimizersConfig(default_segment_number=THREADS, indexing_threshold=1_000)
        return q.EdgeConfig(vectors=vectors, optimizers=optimizers, max_search_threads=THREADS, wal_enabled=False)

    def build(self, vectors: np.ndarray) -> None:
        import qdrant_edge as q

        shard = q.EdgeShard.create(str(self.folder), self.config(vectors.shape[1]))
        for start, part in batches(vectors):
            rows: Any = part
            if self.groups:
                start, rows = start // REGIONS, part.reshape(-1, REGIONS, part.shape[1])
            points = [q.Point(start + i, row, None) for i, row in enumerate(rows.tolist())]
            shard.update(q.UpdateOperation.upsert_points(points))
        shard.flush()
        shard.optimize()
        shard.close()

    def open(self, vectors: np.ndarray) -> None:
        import qdrant_edge as q

        self.shard = q.EdgeShard.load(str(self.folder), self.config(vectors.shape[1]))

    def search(self, query: np.ndarray, fetch: int, knob: dict[str, Any]) -> np.ndarray:
        import qdrant_edge as q

        quantization = q.QuantizationSearchParams(rescore=True, oversampling=knob.get("oversampling", 1.0))
        parameters = q.SearchParams(hnsw_ef=knob.get("hnsw_ef"), quantization=quantization)
        vector = [query.tolist()] if self.groups else query.tolist()
        request = q.QueryRequest(limit=fetch, query=q.Query.Nearest(vector), params=parameters)
        return np.array([point.id for point in self.shard.query(request)], dtype=np.int64)


class QdrantEdgeScan(QdrantEdge):
    """No graph: all int8 vectors are looked at."""

    title, grows, edges = "Qdrant Edge, int8 scan", False, 0

    knobs = (("oversampling", (1.0, 1.2, 1.5, 2.0, 3.0)),)


class QdrantEdgeImages(QdrantEdgeScan):
    """An image is one point with 30 vectors, its score their maximum."""

    title, groups = "Qdrant Edge, int8 scan of multivectors", True


class LanceFlat(Engine):
    title, package = "LanceDB flat", "lancedb"

    def build(self, vectors: np.ndarray) -> None:
        import lancedb
        import pyarrow as pa

        schema = pa.schema([("id", pa.int32()), ("vector", pa.list_(pa.float32(), vectors.shape[1]))])

        def rows() -> Iterator[Any]:
            for start, part in batches(vectors):
                ids = pa.array(np.arange(start, start + len(part), dtype=np.int32))
                flat = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), vectors.shape[1])
                yield pa.record_batch([ids, flat], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, rows())
        self.index(lancedb.connect(str(self.folder)).create_table("regions", data=reader), len(vectors))

    def index(self, table: Any, rows: int) -> None:
        pass

    def open(self, _vectors: np.ndarray) -> None:
        import lancedb

        self.table = lancedb.connect(str(self.folder)).open_table("regions")

    def search(self, query: np.ndarray, fetch: int, knob: dict[str, Any]) -> np.ndarray:
        asked = self.table.search(query).distance_type("dot").limit(fetch).select(["id", "_distance"])
        for name, value in knob.items():
            asked = getattr(asked, name)(value)
        return asked.to_arrow()["id"].to_numpy()


class LanceLists(LanceFlat):
    """RaBitQ codes in lists, the best scored again: the quickest of its indexes to build here."""

    title, grows, kind = "LanceDB IVF_RQ, refined", True, "IVF_RQ"

    knobs = (("nprobes", tuple(2**power for power in range(4, 12))), ("refine_factor", (1, 2, 3, 4, 6, 8, 16)))

    def index(self, table: Any, rows: int) -> None:
        lists = 2 ** round(np.log2(np.sqrt(rows)))
        table.create_index(metric="dot", index_type=self.kind, num_partitions=lists, max_iterations=10, sample_rate=64)


class Milvus(Engine):
    """Milvus Lite, grouping by image."""

    title, package, grows, groups = "Milvus Lite IVF_SQ8, grouped", "milvus-lite", True, True

    knobs = (("nprobe", tuple(2**power for power in range(4, 12))),)

    def build(self, vectors: np.ndarray) -> None:
        from pymilvus import DataType, MilvusClient

        client = MilvusClient(str(self.folder / "regions.db"))
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("image", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        client.create_collection("regions", schema=schema)
        for start in range(0, len(vectors), 3_000):
            rows = enumerate(vectors[start : start + 3_000].astype(np.float32), start)
            client.insert("regions", [{"id": i, "image": i // REGIONS, "vector": vector} for i, vector in rows])
        client.flush("regions")
        lists = 2 ** round(np.log2(np.sqrt(len(vectors))))
        index = client.prepare_index_params()
        index.add_index("vector", index_type="IVF_SQ8", metric_type="IP", params={"nlist": lists})
        client.create_index("regions", index)
        client.close()

    def open(self, _vectors: np.ndarray) -> None:
        from pymilvus import MilvusClient

        self.client = MilvusClient(str(self.folder / "regions.db"))
        self.client.load_collection("regions")

    def search(self, query: np.ndarray, fetch: int, knob: dict[str, Any]) -> np.ndarray:
        found = self.client.search(
            "regions",
            [query.tolist()],
            anns_field="vector",
            limit=fetch,
            group_by_field="image",
            output_fields=["image"],
            search_params={"metric_type": "IP", "params": knob},
        )
        return np.array([hit["entity"]["image"] for hit in found[0]], dtype=np.int64)


ENGINES: dict[str, type[Engine]] = {
    "plain": PlainProduct,
    "faiss-flat": FaissFlat,
    "faiss-sq8": FaissSQ8,
    "faiss-fastscan-d4": FaissFastScan,
    "faiss-fastscan-d8": FaissFastScanSmall,
    "faiss-ivf": FaissLists,
    "faiss-ivf-fastscan": FaissListsFastScan,
    "faiss-hnsw": FaissGraph,
    "qdrant-scan": QdrantEdgeScan,
    "qdrant-images": QdrantEdgeImages,
    "qdrant-hnsw": QdrantEdge,
    "lance-flat": LanceFlat,
    "lance-ivf": LanceLists,
    "milvus": Milvus,
}


def environment() -> dict[str, str]:
    """Variables for a process whose libraries shall start no more than two threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    others = ("LANCE_CPU_THREADS", "TOKIO_WORKER_THREADS")
    # Threads of OpenMP that wait actively make the training of small quantisers ten times slower on a busy machine.
    return {**os.environ, **dict.fromkeys((*names, *others), str(THREADS)), "OMP_WAIT_POLICY": "passive"}
