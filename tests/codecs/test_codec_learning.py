"""Learning codebooks from few vectors: silently, by the quick way, and the same each time."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from patchwise.codecs import train_codec, training

FAMILIES = ["fastscan:8", "pq:8", "opq:8", "opq:5", "ivf:8", "ivf:8:5"]
FACTORIES = ["SQ8", "PQ8", "PQ8x4fs", "OPQ8,PQ8", "OPQ8_16,PQ8x4fs", "OPQ8,SQ8", "IVF4,PQ8x4", "RQ2x4", "PRQ2x2x4"]


def unit(count: int, dimension: int = 32, seed: int = 0) -> npt.NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    normed: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normed


@pytest.mark.parametrize("count", [1, 3, 100, 700])
@pytest.mark.parametrize("name", [*FAMILIES, *FACTORIES, "PCA16,SQ8", "PCAR16,PQ8"])
def test_few_vectors_are_enough_and_nothing_is_said(name: str, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    vectors = unit(count)
    codec = train_codec(name, vectors)
    decoded = codec.decode(codec.encode(vectors))
    assert decoded.shape == (count, 32) and np.isfinite(decoded).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [*FAMILIES, *FACTORIES])
def test_learning_again_gives_the_same(name: str) -> None:
    vectors = unit(300)
    first, second = train_codec(name, vectors, seed=3), train_codec(name, vectors, seed=3)
    codes = first.encode(vectors)
    assert np.array_equal(codes, second.encode(vectors))
    assert np.array_equal(first.decode(codes), second.decode(codes))


def test_a_rotation_is_learned_for_codes_of_4_bits() -> None:
    """Where the numbers of a vector go together, a rotation parts them so that codes lose less."""
    mixed = np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)
    vectors = unit(2_000, 4) @ mixed
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def lost(name: str) -> float:
        codec = train_codec(name, vectors)
        return float(((codec.decode(codec.encode(vectors)) - vectors) ** 2).sum(axis=1).mean())

    assert lost("opq:2") < 0.7 * lost("fastscan:2")


@pytest.mark.parametrize("name", ["PQ8", "OPQ8,PQ8x4", "IVF2,PQ8"])
def test_polysemous_training_is_left_out(name: str) -> None:
    index = training._untrained(training.parse_codec(name), 32)
    inner = list(training._learners(index))
    assert any(getattr(learner, "do_polysemous_training", False) for learner in inner) or name.startswith("IVF")
    training._train(name, index, unit(300), 0)
    assert not any(getattr(learner, "do_polysemous_training", False) for learner in inner)


def test_the_setting_of_the_process_is_put_back() -> None:
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    with training._quick_clustering():
        assert faiss.cvar.distance_compute_blas_threshold == training._BLAS_FROM != before
    train_codec("pq:4", unit(300))
    with pytest.raises(RuntimeError), training._quick_clustering():
        raise RuntimeError
    assert faiss.cvar.distance_compute_blas_threshold == before


def test_a_rotation_and_its_quantiser_are_freed_once() -> None:
    code = """
import gc, numpy as np
from patchwise.codecs import train_codec
vectors = np.random.default_rng(0).standard_normal((40, 32)).astype("f4")
for _ in range(20):
    codec = train_codec("opq:8", vectors)
    codec.decode(codec.encode(vectors))
    gc.collect()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
