"""How a folder becomes vectors: walking, change detection, decoding ahead, batching, commit and resume."""

from patchwise.indexing.own_whitening import adopt_whitening, forget_whitening, own_whitening
from patchwise.indexing.parts import Query, QueryPart, QuerySource
from patchwise.indexing.query import (
    EncodedQuery,
    encode_queries,
    encode_query,
    image_of_array,
    lossless_file,
    open_query,
    query_vector,
)
from patchwise.indexing.run import IndexProgress, IndexReport, index_paths
from patchwise.indexing.walk import Walk, listed, walk
from patchwise.indexing.whiten import learn_whitening

__all__ = [
    "EncodedQuery",
    "IndexProgress",
    "IndexReport",
    "Query",
    "QueryPart",
    "QuerySource",
    "Walk",
    "adopt_whitening",
    "encode_queries",
    "encode_query",
    "forget_whitening",
    "image_of_array",
    "index_paths",
    "learn_whitening",
    "listed",
    "lossless_file",
    "open_query",
    "own_whitening",
    "query_vector",
    "walk",
]
