"""Codebooks against those that FAISS learns when it is asked plainly; few vectors; what cannot be learned."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from safetensors.numpy import load

from patchwise.codecs import Codec, CodecName, train_codec
from patchwise.errors import UsageError
from search.coded import clustered_pictures, unit

DIMENSION = 24
SEEDED = ["fastscan:6", "pq:6", "opq:6", "ivf:6:4", "PQ6x4", "IVF4,SQ8"]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.concatenate(clustered_pictures([5] * 200, DIMENSION))


def lost(vectors: np.ndarray, decoded: np.ndarray) -> float:
    """Mean squared error."""
    return float(((vectors - decoded) ** 2).sum(axis=1).mean())


def learned(codec: Codec) -> np.ndarray:
    """All that was learned, byte for byte as FAISS writes it."""
    (tensor,) = load(codec.content).values()
    return tensor


@pytest.mark.parametrize(("name", "parts", "bits"), [("fastscan:6", 12, 4), ("pq:6", 6, 8), ("fastscan:12", 24, 4)])
def test_a_product_quantiser_is_the_one_of_faiss(name: str, parts: int, bits: int, vectors: np.ndarray) -> None:
    """Learned with the same seed it has the same codes, but for what rounds in another order."""
    plain = faiss.IndexPQ(DIMENSION, parts, bits, faiss.METRIC_INNER_PRODUCT)
    plain.pq.cp.seed, plain.pq.cp.min_points_per_centroid = 3 + 1, 1
    plain.train(vectors)
    expected = plain.sa_decode(plain.sa_encode(vectors))
    ours = train_codec(name, vectors, seed=3)
    assert ours.code_bytes == plain.sa_code_size() == parts * bits // 8
    assert lost(vectors, ours.decode(ours.encode(vectors))) == pytest.approx(lost(vectors, expected), rel=0.02)
    plain_index = faiss.clone_index(plain)
    plain_index.add_sa_codes(ours.encode(vectors))
    assert plain_index.ntotal == len(vectors)  # the codes are laid out as FAISS lays them out


@pytest.mark.parametrize("name", ["fastscan:5", "fastscan:7", "pq:7", "opq:5", "opq:7", "ivf:5:4"])
def test_a_dimension_that_is_no_multiple_of_the_parts(name: str, vectors: np.ndarray) -> None:
    """Codes lose what those of some more bytes or fewer do; a part may hold nothing but what fills up the dimension."""
    family, size = name.split(":")[:2]
    lists = ":4" if family == "ivf" else ""
    errors = []
    for asked in (f"{family}:4{lists}", name, f"{family}:12{lists}"):
        made = train_codec(asked, vectors)
        assert made.transformed(vectors[:3]).shape[1] >= made.dimension == DIMENSION
        errors.append(lost(vectors, made.decode(made.encode(vectors))))
    assert 1.001 * errors[0] >= errors[1] > errors[2]
    assert int(size) not in (4, 12)


@pytest.mark.parametrize("name", SEEDED)
def test_the_seed_decides(name: str, vectors: np.ndarray) -> None:
    made = train_codec(name, vectors, seed=5)
    again = train_codec(name, np.array(vectors), seed=5)
    np.testing.assert_array_equal(learned(made), learned(again))
    assert not np.array_equal(learned(made), learned(train_codec(name, vectors, seed=6)))


def test_names_and_their_text_are_the_same(vectors: np.ndarray) -> None:
    text = train_codec("fastscan:6", vectors)
    np.testing.assert_array_equal(learned(train_codec(CodecName("fastscan", 6), vectors)), learned(text))


@pytest.mark.parametrize("count", [1, 2, 15, 17, 255, 700])
@pytest.mark.parametrize("name", ["fastscan:6", "pq:6", "ivf:6", "ivf:6:20", "SQ8", "PQ6", "IVF8,PQ6x4"])
def test_few_vectors_are_learned_from_in_silence(
    name: str, count: int, vectors: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    """FAISS writes its warnings straight to the terminal."""
    made = train_codec(name, vectors[:count])
    decoded = made.decode(made.encode(vectors[:count]))
    assert np.isfinite(decoded).all()
    if count < 16 and name != "SQ8":  # fewer than there are centres: each has one of its own
        assert lost(vectors[:count], decoded) < 2e-3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("count", "lists"), [(1, 1), (39, 1), (80, 2), (1000, 25)])
def test_the_number_of_lists_follows_the_vectors(count: int, lists: int, vectors: np.ndarray) -> None:
    made = train_codec("ivf:6", vectors[:count])
    assert (made.lists, made.name) == (lists, f"ivf:6:{lists}")


@pytest.mark.parametrize(
    ("fast", "plain"), [("PQ6x4fs", "PQ6x4"), ("PQ6x4fsr", "PQ6x4"), ("IVF4,PQ6x4fs", "IVF4,PQ6x4")]
)
def test_codes_of_a_fast_scan_are_those_of_its_quantiser(fast: str, plain: str, vectors: np.ndarray) -> None:
    one, other = train_codec(fast, vectors), train_codec(plain, vectors)
    assert one.name == fast
    np.testing.assert_array_equal(one.encode(vectors), other.encode(vectors))


def test_larger_codes_lose_less(vectors: np.ndarray) -> None:
    names = ["fastscan:2", "fastscan:3", "fastscan:6", "fastscan:12", "SQ8", "SQfp16"]
    errors = [lost(vectors, made.decode(made.encode(vectors))) for made in (train_codec(n, vectors) for n in names)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fastscan:13", r"more than one number for each of 24 dimensions; at most fastscan:12"),
        ("pq:25", "at most pq:24"),
        ("opq:13", "at most opq:12"),
        ("ivf:13:2", "at most ivf:12"),
        ("nonsense", r"codec nonsense: cannot be used for 24-d vectors \(could not parse index string nonsense\)"),
        ("PQ7", "should be a multiple"),
        ("HNSW8", "not implemented"),
        ("fastscan:", "expected auto"),
        ("ivf:6:100000", r"codec ivf:6:100000: has 100,000 centres in one codebook, more than the 65,536 vectors"),
        ("PQ4x24", "16,777,216 centres"),
    ],
)
def test_what_cannot_be_learned_is_told(
    name: str, reason: str, vectors: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=reason) as told:
        train_codec(name, vectors)
    assert "faiss/" not in str(told.value) and "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UsageError, match="no vectors to learn from"):
        train_codec("SQ8", np.empty((0, DIMENSION), dtype=np.float32))


@pytest.mark.parametrize("name", ["fastscan:6", "pq:6", "opq:6", "SQ8"])
def test_copies_of_one_vector(name: str) -> None:
    """There is but one thing to learn, and it is learned."""
    one = unit(np.random.default_rng(3).normal(size=(1, DIMENSION)))
    made = train_codec(name, np.repeat(one, 300, axis=0))
    np.testing.assert_allclose(made.decode(made.encode(one)), one, atol=1e-5)
    scores, rows = made.segment(made.encode(np.repeat(one, 40, axis=0))).search(made.transformed(one), 40)
    assert sorted(rows[0].tolist()) == list(range(40))
    np.testing.assert_allclose(scores, 1, atol=1e-4)
