"""How a folder becomes vectors: walking, change detection, decoding ahead, batching, commit and resume."""

from patchwise.indexing.own_whitening import adopt_whitening, own_whitening
from patchwise.indexing.query import query_vector, query_vectors
from patchwise.indexing.run import IndexProgress, IndexReport, index_paths
from patchwise.indexing.walk import Walk, listed, walk
from patchwise.indexing.whiten import learn_whitening

__all__ = [
    "IndexProgress",
    "IndexReport",
    "Walk",
    "adopt_whitening",
    "index_paths",
    "learn_whitening",
    "listed",
    "own_whitening",
    "query_vector",
    "query_vectors",
    "walk",
]
