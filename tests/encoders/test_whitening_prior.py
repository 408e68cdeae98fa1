"""The prior of a whitening: every layer by itself, what layers agree on, and how a collection changes that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchwise.encoders import Whitening, WhiteningPrior, load_backbone
from patchwise.encoders.builtin import shipped_whitening
from patchwise.encoders.whitening_prior import Layer
from patchwise.errors import EncoderError

LAYERS = (Layer(10, 1.0), Layer(6, 0.5))


def two_layers(count: int, seed: int = 0, loudness: float = 1.0) -> np.ndarray:
    """Ten and six numbers; one hidden cause moves both layers, the rest of either is its own."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(count, 1))
    first = generator.normal(size=(count, 10)) * np.geomspace(3, 0.3, 10) + shared * np.linspace(0, 3, 10)
    second = generator.normal(size=(count, 6)) * np.geomspace(2, 0.2, 6) + shared * np.linspace(2, 0, 6)
    return np.concatenate([first + 1, loudness * (second - 2)], axis=1).astype(np.float32)


def cosines(whitening: Whitening, vectors: np.ndarray) -> np.ndarray:
    white = whitening.apply(vectors)
    return white @ white.T


def test_every_layer_is_white_by_itself() -> None:
    prior = WhiteningPrior.learn(two_layers(20_000), LAYERS, 4)
    assert prior.spheres.shape == (16, 8)
    assert not prior.spheres[:10, 4:].any() and not prior.spheres[10:, :4].any()
    np.testing.assert_allclose(prior.covariance[:4, :4], np.eye(4) * 1.0 / 4, atol=0.003)
    np.testing.assert_allclose(prior.covariance[4:, 4:], np.eye(4) * 0.25 / 4, atol=0.001)
    assert np.abs(prior.covariance[:4, 4:]).max() > 0.05  # the shared cause


def test_how_loud_a_layer_is_does_not_matter() -> None:
    quiet, loud = two_layers(5000), two_layers(5000, loudness=100)
    one, other = (WhiteningPrior.learn(vectors, LAYERS, 6).whitening(7) for vectors in (quiet, loud))
    np.testing.assert_allclose(cosines(one, quiet[:50]), cosines(other, loud[:50]), atol=2e-3)


def test_what_the_layers_agree_on_is_kept_first() -> None:
    vectors = two_layers(20_000)
    shared = np.random.default_rng(0).normal(size=(20_000, 1))[:, 0]
    direction = WhiteningPrior.learn(vectors, LAYERS, 6).whitening(1)
    found = (vectors - direction.mean) @ direction.projection
    assert abs(np.corrcoef(found[:, 0], shared)[0, 1]) > 0.9


@pytest.mark.parametrize(("before", "after"), [(200, 50), (50, 200), (100, 1)])
def test_adapting_is_learning_from_both_together(before: int, after: int) -> None:
    """With as much worth as it has seen examples, mean and covariance are those of all examples."""
    seen, new = two_layers(before), two_layers(after, seed=1) + 0.5
    prior = WhiteningPrior.learn(seen, LAYERS, 5)
    adapted = prior.adapted(new, worth=before)
    both = np.concatenate([seen, new]).astype(np.float64)
    together = (both - both.mean(axis=0)) @ prior.spheres
    np.testing.assert_allclose(adapted.mean, both.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(adapted.covariance, together.T @ together / len(both), atol=1e-5)
    np.testing.assert_array_equal(adapted.spheres, prior.spheres)


def test_nothing_new_changes_nothing() -> None:
    prior = WhiteningPrior.learn(two_layers(500), LAYERS, 5)
    adapted = prior.adapted(np.empty((0, 16), np.float32))
    np.testing.assert_allclose(adapted.mean, prior.mean)
    np.testing.assert_allclose(adapted.covariance, prior.covariance, atol=1e-7)


def test_few_pictures_move_it_less_than_many() -> None:
    prior = WhiteningPrior.learn(two_layers(2000), LAYERS, 5)
    foreign = two_layers(3000, seed=3)[:, ::-1] * 2
    moved = [
        float(np.abs(prior.adapted(foreign[:count]).covariance - prior.covariance).max()) for count in (1, 100, 3000)
    ]
    assert moved[0] < moved[1] < moved[2]


def test_a_file_gives_it_back_at_half_precision(tmp_path: Path) -> None:
    prior = WhiteningPrior.learn(two_layers(500), LAYERS, 5)
    prior.save(tmp_path / "prior.npz")
    loaded = WhiteningPrior.load(tmp_path / "prior.npz")
    np.testing.assert_array_equal(loaded.mean, prior.mean)
    for name in ("spheres", "covariance"):
        assert getattr(loaded, name).dtype == np.float32
        np.testing.assert_allclose(getattr(loaded, name), getattr(prior, name), rtol=1e-3, atol=1e-6)
    vectors = two_layers(40, seed=5)
    np.testing.assert_allclose(cosines(loaded.whitening(5), vectors), cosines(prior.whitening(5), vectors), atol=0.01)


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_what_is_no_prior_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "prior.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EncoderError, match="not a whitening prior") as raised:
        WhiteningPrior.load(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_the_shipped_prior_belongs_to_the_shipped_whitening() -> None:
    """Learned from the same pictures: the same mean, and nearly the same space."""
    backbone, prior = load_backbone("builtin")
    assert prior is not None
    shipped = shipped_whitening()
    np.testing.assert_array_equal(prior.mean, shipped.mean)
    assert prior.spheres.shape[0] == backbone.dimension
    pixels = np.random.default_rng(0).integers(0, 256, (12, 7, 7, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2)
    vectors = backbone.encode(pixels)
    off = ~np.eye(12, dtype=bool)
    pair = [cosines(whitening, vectors)[off] for whitening in (shipped, prior.whitening(256))]
    assert np.corrcoef(*pair)[0, 1] > 0.95
