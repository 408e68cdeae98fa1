"""Learning codebooks from example vectors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
_BLAS_FROM = 20  # vectors at once
_settings = threading.Lock()


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
        index = _untrained(asked, dimension)
        on_one_thread(lambda: _train(str(asked), index, np.ascontiguousarray(vectors, dtype=np.float32), seed))
        codec = Codec.of(str(asked), index)
        codec.segment(codec.encode(vectors[:1]))
    except RuntimeError as error:  # what FAISS throws, with the line of its source in front
        reason = str(error).rsplit("Error: ", 1)[-1].rsplit(": ", 1)[-1].splitlines()[0]
        raise UsageError(f"codec {asked}: cannot be used for {dimension}-d vectors ({reason})") from error
    return codec


def _untrained(name: CodecName, dimension: int) -> Any:
    import faiss

    product = faiss.METRIC_INNER_PRODUCT
    if name.factory:
        # Codes of a fast scan are those of its plain product quantiser, in another order.
        return faiss.index_factory(dimension, name.factory.replace("x4fsr", "x4").replace("x4fs", "x4"), product)
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


def _train(name: str, index: Any, vectors: npt.NDArray[np.float32], seed: int) -> None:
    """Train; where there are fewer vectors than FAISS asks for, they are repeated."""
    import faiss

    learners = list(_learners(index))
    bits = max((learner.nbits for learner in learners if isinstance(learner, faiss.ProductQuantizer)), default=8)
    rotations = [learner for learner in learners if isinstance(learner, faiss.OPQMatrix)]
    # A rotation is learned for the codes that are written, not for those of 8 bits that are its default.
    quantisers = [faiss.ProductQuantizer(rotation.d_out, rotation.M, bits) for rotation in rotations]
    for learner in [*learners, *quantisers]:
        _set_up(learner, seed)
    fewest = max(map(_fewest, [*learners, *quantisers]))
    if fewest > TRAINING_VECTORS:
        raise UsageError(
            f"codec {name}: has {fewest:,} centres in one codebook, more than the {TRAINING_VECTORS:,} vectors that "
            "codebooks are learned from; choose fewer bits or lists"
        )
    if len(vectors) < fewest:
        vectors = np.resize(vectors, (fewest, vectors.shape[1]))
    for rotation, quantiser in zip(rotations, quantisers, strict=True):
        rotation.pq = quantiser
    try:
        with _quick_clustering():
            index.train(vectors)
    finally:
        for rotation in rotations:
            rotation.pq = None
        for quantiser in quantisers:
            quantiser.this.own(True)  # which the rotation was taken to do, but does not


def _learners(index: Any) -> Iterator[Any]:
    """An index, and whatever in it learns by itself: transforms, quantisers, and the quantisers these are made of."""
    import faiss

    if isinstance(index, faiss.IndexPreTransform):
        for number in range(index.chain.size()):
            yield faiss.downcast_VectorTransform(index.chain.at(number))
        index = faiss.downcast_index(index.index)
    yield index
    for quantiser in (getattr(index, name, None) for name in ("pq", "rq", "prq")):
        if quantiser is not None:
            yield quantiser
            for number in range(getattr(quantiser, "nsplits", 0)):
                yield faiss.downcast_AdditiveQuantizer(quantiser.subquantizer(number))


def _set_up(learner: Any, seed: int) -> None:
    """Fix what is drawn at random, let few examples do without a warning, and leave out what serves nobody here."""
    clustering = getattr(learner, "cp", None)
    if clustering is not None:
        clustering.seed = seed + 1
        clustering.min_points_per_centroid = 1
    if hasattr(learner, "do_polysemous_training"):  # orders centres for a search by Hamming distance; takes minutes
        learner.do_polysemous_training = False


def _fewest(learner: Any) -> int:
    """How many vectors FAISS asks for: as many as there are centres, or dimensions where a rotation is learned."""
    import faiss

    if isinstance(learner, faiss.LinearTransform):
        return int(max(learner.d_in, learner.d_out))
    if isinstance(learner, faiss.AdditiveQuantizer):
        return int(max(learner.d, *(1 << learner.nbits.at(number) for number in range(learner.nbits.size()))))
    return int(max(getattr(learner, "ksub", 1), getattr(learner, "nlist", 1)))


@contextmanager
def _quick_clustering() -> Iterator[None]:
    """Distances to centres by matrix products, however few dimensions a part has.

    FAISS computes small ones directly: with 5,000 vectors, 32 parts of 8 dimensions and 256 centres that takes eleven
    times as long. The setting is one for the whole process.
    """
    import faiss

    with _settings:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = _BLAS_FROM
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before
