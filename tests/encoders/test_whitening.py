"""Whitening against scikit-learn, on data of known covariance, and through a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import FakeEncoder
from patchwise.encoders import Whitening, encoder_record, projected
from patchwise.encoders.whitening import normalised
from patchwise.errors import EncoderError


def examples(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    """Correlated vectors with an offset; no two directions vary equally."""
    generator = np.random.default_rng(seed)
    mixing = np.linalg.qr(generator.normal(size=(dimension, dimension)))[0] * np.geomspace(3, 0.3, dimension)[:, None]
    return (generator.normal(size=(count, dimension)) @ mixing + generator.normal(size=dimension)).astype(np.float32)


def up_to_sign(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return ours * np.sign((ours * theirs).sum(axis=0))


@pytest.mark.parametrize(("count", "full", "dimension"), [(40, 12, 12), (40, 12, 5), (30, 48, 20), (2000, 16, 16)])
def test_learning_agrees_with_scikit_learn(count: int, full: int, dimension: int) -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors = examples(count, full)
    double = vectors.astype(np.float64)
    whitening = Whitening.learn(vectors, dimension)

    shrunk = covariance.LedoitWolf().fit(double)
    pca = decomposition.PCA(n_components=dimension, whiten=True).fit(double)
    components = pca.components_
    variance = np.einsum("ij,jk,ik->i", components, shrunk.covariance_, components)
    expected = components.T / np.sqrt(variance)

    np.testing.assert_allclose(whitening.mean, pca.mean_, atol=1e-5)
    np.testing.assert_allclose(up_to_sign(whitening.projection, expected), expected, atol=2e-3)


def test_without_need_for_shrinkage_it_is_plain_pca_whitening() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors = examples(50_000, 6)
    ours = Whitening.learn(vectors, 6)
    whitened = (vectors - ours.mean) @ ours.projection
    theirs = decomposition.PCA(whiten=True).fit_transform(vectors.astype(np.float64))
    np.testing.assert_allclose(up_to_sign(whitened, theirs), theirs, atol=0.02)


def test_whitened_examples_have_unit_covariance() -> None:
    vectors = examples(20_000, 10)
    whitening = Whitening.learn(vectors, 7)
    whitened = (vectors - whitening.mean) @ whitening.projection
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(7), atol=0.02)


def test_the_strongest_directions_are_kept() -> None:
    generator = np.random.default_rng(2)
    vectors = (generator.normal(size=(5000, 4)) * [0.1, 5, 1, 0.01]).astype(np.float32)
    projection = Whitening.learn(vectors, 2).projection
    assert np.abs(projection).argmax(axis=0).tolist() == [1, 2]


def test_few_examples_do_not_blow_up_noise() -> None:
    vectors = examples(40, 128)
    unshrunk = 1 / np.sqrt(np.linalg.eigvalsh(np.cov(vectors.T, bias=True))[-33:].min())
    projection = Whitening.learn(vectors, 33).projection
    assert np.linalg.norm(projection, axis=0).max() < unshrunk


def test_examples_along_one_line_still_give_finite_vectors() -> None:
    vectors = np.ones((20, 4), dtype=np.float32) * np.arange(20, dtype=np.float32)[:, None]
    whitening = Whitening.learn(vectors, 3)
    others = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(whitening.apply(others), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_examples_that_are_all_alike_teach_nothing(value: float) -> None:
    with pytest.raises(EncoderError, match=r"all 20 regions look alike; index more pictures"):
        Whitening.learn(np.full((20, 4), value, dtype=np.float32), 3)


def test_learning_is_deterministic() -> None:
    first, second = (Whitening.learn(examples(100, 8), 4) for _ in range(2))
    assert first.sha256 == second.sha256


@pytest.mark.parametrize("count", [0, 1, 8])
def test_too_few_examples_say_what_to_do(count: int) -> None:
    with pytest.raises(
        EncoderError, match=rf"8-d whitening needs more than 8 regions, got {count}; index more pictures"
    ):
        Whitening.learn(np.zeros((count, 16), dtype=np.float32), 8)


def test_apply_worked_by_hand() -> None:
    whitening = Whitening(np.float32([1, 1, 0]), np.float32([[3, 0], [0, 4], [0, 0]]))
    applied = whitening.apply(np.float32([[2, 2, 9], [1, 1, 5], [0, 1, 0]]))
    np.testing.assert_allclose(applied, [[0.6, 0.8], [0, 0], [-1, 0]], atol=1e-7)
    assert applied.dtype == np.float32
    assert whitening.apply(np.empty((0, 3), dtype=np.float32)).shape == (0, 2)


def test_normalised() -> None:
    np.testing.assert_allclose(normalised(np.float32([[3, 4], [0, 0], [1e-15, 0]])), [[0.6, 0.8], [0, 0], [1, 0]])


def test_a_file_gives_back_the_same_whitening(tmp_path: Path) -> None:
    whitening = Whitening.learn(examples(50, 8), 5)
    whitening.save(tmp_path / "w")
    loaded = Whitening.load(tmp_path / "w")
    np.testing.assert_array_equal(loaded.mean, whitening.mean)
    np.testing.assert_array_equal(loaded.projection, whitening.projection)
    assert loaded.mean.dtype == loaded.projection.dtype == np.float32
    assert loaded.sha256 == whitening.sha256


@pytest.mark.parametrize("changed", ["mean", "projection"])
def test_the_digest_covers_everything_learned(changed: str) -> None:
    arrays = {"mean": np.float32([1, 2]), "projection": np.float32([[1, 0], [0, 1]])}
    before = Whitening(**arrays).sha256
    arrays[changed] = arrays[changed] + np.float32(1e-6)
    assert Whitening(**arrays).sha256 != before


def not_a_whitening(kind: str, path: Path) -> None:
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "directory":
        path.mkdir()
    elif kind == "single array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "other arrays":
        with path.open("wb") as file:
            np.savez(file, weights=np.zeros(3))
    elif kind == "pickled objects":
        with path.open("wb") as file:
            np.savez(file, mean=np.array([{}]), projection=np.array([{}]))
    elif kind == "shapes that do not fit":
        with path.open("wb") as file:
            np.savez(file, mean=np.zeros(3), projection=np.zeros((4, 2)))
    elif kind == "flat":
        with path.open("wb") as file:
            np.savez(file, mean=np.zeros(3), projection=np.zeros(3))
    elif kind in ("cut short", "altered"):
        Whitening(np.ones(64, np.float32), np.ones((64, 8), np.float32)).save(path)
        content = bytearray(path.read_bytes())
        if kind == "altered":
            content[1000] ^= 1
        path.write_bytes(content if kind == "altered" else content[:1200])


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "empty",
        "text",
        "directory",
        "single array",
        "other arrays",
        "pickled objects",
        "shapes that do not fit",
        "flat",
        "cut short",
        "altered",
    ],
)
def test_what_is_no_whitening_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "whitening.npz"
    not_a_whitening(kind, path)
    with pytest.raises(EncoderError, match="not a whitening file") as raised:
        Whitening.load(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_whitened_encoder(fake_encoder: FakeEncoder) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    whitening = Whitening.learn(fake_encoder.encode(pixels), 10)
    encoder = projected(fake_encoder, whitening)
    np.testing.assert_array_equal(encoder.encode(pixels), whitening.apply(fake_encoder.encode(pixels)))
    record = encoder_record(encoder)
    assert record == {**encoder_record(fake_encoder), "dimension": 10, "weights_sha256": record["weights_sha256"]}
    assert encoder.batch_size == fake_encoder.batch_size
    other = projected(fake_encoder, Whitening(whitening.mean + 1, whitening.projection))
    assert len({encoder.weights_sha256, other.weights_sha256, fake_encoder.weights_sha256}) == 3
