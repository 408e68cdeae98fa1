"""Learning codebooks from example vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from patchwise.codecs.codec import Codec
from patchwise.codecs.names import CodecName, parse_codec
from patchwise.errors import UsageError
from patchwise.threads import on_one_thread

__all__ = ["TRAINING_VECTORS", "train_codec"]

TRAINING_VECTORS = 65_536  # that codebooks are learned from; more made them no better
_ROTATION_VECTORS = 8_192  # that a rotation is learned from: its cost grows with them, and it is slow as it is
_ROTATION_ROUNDS = 12
_VECTORS_PER_LIST = 40
_MOST_LISTS = 4_096


def train_codec(name: str | CodecName, vectors: npt.NDArray[np.float32], *, seed: int = 0) -> Codec:
    """Learn a codec from (N, dimension) float32 vectors.

    Raises:
        UsageError: no codec of this name, or none for vectors of this dimension.
    """
    asked = parse_codec(name) if isinstance(name, str) else name
    count, dimension = vectors.shape
    if count == 0:
        raise UsageError(f"codec {asked}: no vectors to learn from")
    if asked.family == "ivf" and not asked.lists:
        asked = replace(asked, lists=int(min(max(count // _VECTORS_PER_LIST, 1), _MOST_LISTS)))
    try:
        index = _untrained(asked, dimension, seed)
        on_one_thread(lambda: _train(index, np.ascontiguousarray(vectors, dtype=np.float32)))
        codec = Codec.of(str(asked), index)
        codec.segment(codec.encode(vectors[:1]))
    except RuntimeError as error:  # what FAISS throws, with the line of its source in front
        reason = str(error).rsplit("Error: ", 1)[-1].rsplit(": ", 1)[-1].splitlines()[0]
        raise UsageError(f"codec {asked}: cannot be used for {dimension}-d vectors ({reason})") from error
    return codec


def _untrained(name: CodecName, dimension: int, seed: int) -> Any:
    import faiss

    product = faiss.METRIC_INNER_PRODUCT
    if name.factory:
        # Codes of a fast scan are those of its plain product quantiser, in another order.
        index = faiss.index_factory(dimension, name.factory.replace("x4fsr", "x4").replace("x4fs", "x4"), product)
        _seed(index, seed)
        return index
    bits, parts = (8, name.bytes) if name.family == "pq" else (4, 2 * name.bytes)
    if parts > dimension:
        raise UsageError(
            f"codec {name}: more than one number for each of {dimension} dimensions; at most {name.family}:"
            f"{dimension * bits // 8}"
        )
    padded = -(-dimension // parts) * parts
    if name.family == "ivf":
        centres = faiss.IndexFlatIP(padded)
        inner = faiss.IndexIVFPQ(centres, padded, name.lists, parts, bits, product)
        centres.this.disown()
        inner.own_fields = True
    else:
        inner = faiss.IndexPQ(padded, parts, bits, product)
    _seed(inner, seed)
    if name.family == "opq":
        rotation = faiss.OPQMatrix(dimension, parts, padded)
        rotation.max_train_points, rotation.niter = _ROTATION_VECTORS, _ROTATION_ROUNDS
        return _behind(rotation, inner)
    if padded != dimension:
        return _behind(faiss.RemapDimensionsTransform(dimension, padded, False), inner)
    return inner


def _behind(transform: Any, inner: Any) -> Any:
    import faiss

    index = faiss.IndexPreTransform(transform, inner)
    transform.this.disown()
    inner.this.disown()
    index.own_fields = True
    return index


def _seed(index: Any, seed: int) -> None:
    """Fix what learning draws at random, and let few examples do without a warning on the user's terminal."""
    import faiss

    if isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    for quantiser in (index, getattr(index, "pq", None)):
        clustering = getattr(quantiser, "cp", None)
        if clustering is not None:
            clustering.seed = seed + 1
            clustering.min_points_per_centroid = 1


def _train(index: Any, vectors: npt.NDArray[np.float32]) -> None:
    """Train; where there are fewer vectors than centres, they are repeated, which FAISS asks for."""
    import faiss

    bare = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    centres = max(getattr(getattr(bare, "pq", None), "ksub", 1), getattr(bare, "nlist", 1), 1)
    if len(vectors) < centres:
        vectors = np.resize(vectors, (centres, vectors.shape[1]))
    index.train(vectors)
