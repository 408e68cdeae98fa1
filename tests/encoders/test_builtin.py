"""The built-in encoder as shipped: unit vectors that depend on the picture and on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchwise.encoders import (
    Encoder,
    Projected,
    Whitening,
    activation_source,
    builtin,
    encoder_families,
    encoder_record,
    load_backbone,
    load_encoder,
)
from patchwise.errors import EncoderError


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("builtin")


def crops(encoder: Encoder, *pictures: Image.Image) -> np.ndarray:
    side = encoder.input_size
    return np.stack([np.asarray(picture.convert("RGB").resize((side, side))) for picture in pictures])


@pytest.fixture(scope="module")
def pixels(encoder: Encoder) -> np.ndarray:
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (19, 7, 7, 3), dtype=np.uint8)
    return crops(encoder, *map(Image.fromarray, coarse))


@pytest.fixture(scope="module")
def vectors(encoder: Encoder, pixels: np.ndarray) -> np.ndarray:
    return encoder.encode(pixels)


def test_it_is_known_by_its_id() -> None:
    assert "builtin" in encoder_families()


def test_unit_vectors_of_256(encoder: Encoder, vectors: np.ndarray) -> None:
    assert encoder.dimension == 256
    assert vectors.shape == (19, 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_different_pictures_have_different_vectors(vectors: np.ndarray) -> None:
    scores = vectors @ vectors.T
    assert (scores[~np.eye(len(vectors), dtype=bool)] < 0.99).all()


def test_the_same_pictures_have_the_same_vectors(encoder: Encoder, pixels: np.ndarray, vectors: np.ndarray) -> None:
    np.testing.assert_array_equal(encoder.encode(pixels), vectors)
    np.testing.assert_array_equal(load_encoder("builtin").encode(pixels[:2]), encoder.encode(pixels[:2]))


@pytest.mark.parametrize("sizes", [[1] * 19, [2, 17], [8, 8, 3], [9, 10], [16, 3]])
def test_batches_do_not_matter(encoder: Encoder, pixels: np.ndarray, vectors: np.ndarray, sizes: list[int]) -> None:
    parts = np.split(pixels, np.cumsum(sizes)[:-1])
    np.testing.assert_allclose(np.concatenate([encoder.encode(part) for part in parts]), vectors, atol=1e-5)


def test_the_order_of_a_batch_is_kept(encoder: Encoder, pixels: np.ndarray, vectors: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(len(pixels))
    np.testing.assert_allclose(encoder.encode(pixels[order]), vectors[order], atol=1e-5)


def test_threads_do_not_matter(pixels: np.ndarray) -> None:
    one, three = (builtin.BuiltinBackbone(threads).encode(pixels[:9]) for threads in (1, 3))
    np.testing.assert_allclose(one, three, atol=1e-5)


def test_no_regions_at_all(encoder: Encoder) -> None:
    side = encoder.input_size
    assert encoder.encode(np.empty((0, side, side, 3), dtype=np.uint8)).shape == (0, 256)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_plain_region_has_a_usable_vector(encoder: Encoder, value: int) -> None:
    side = encoder.input_size
    vector = encoder.encode(np.full((1, side, side, 3), value, dtype=np.uint8))
    assert np.isfinite(vector).all()
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-5)


def test_pixels_need_not_be_contiguous(encoder: Encoder, pixels: np.ndarray, vectors: np.ndarray) -> None:
    np.testing.assert_allclose(encoder.encode(np.asfortranarray(pixels[:3])), vectors[:3], atol=1e-5)


def test_similar_pictures_are_closer_than_different_ones(encoder: Encoder, picture: Callable[..., Image.Image]) -> None:
    pictures = [picture(seed, (300, 300)) for seed in range(6)]
    shifted = [image.crop((12, 12, 300, 300)) for image in pictures]
    scores = encoder.encode(crops(encoder, *pictures)) @ encoder.encode(crops(encoder, *shifted)).T
    assert (scores.argmax(axis=1) == np.arange(6)).all()


def test_real_photographs_of_one_object_are_closer(encoder: Encoder, shared_data: Path) -> None:
    photos = [sorted(folder.glob("*.jpg"))[:2] for folder in sorted((shared_data / "subjects").iterdir())]
    photos = [pair for pair in photos if len(pair) == 2][:8]
    first, second = (encoder.encode(crops(encoder, *(Image.open(pair[i]) for pair in photos))) for i in (0, 1))
    scores = first @ second.T
    right = np.eye(len(photos), dtype=bool)
    assert scores[right].mean() > scores[~right].mean() + 0.1
    assert (scores.argmax(axis=1) == np.arange(len(photos))).mean() > 0.5


def test_the_record_tells_encoders_apart(encoder: Encoder) -> None:
    record = encoder_record(encoder)
    assert record["id"] == "builtin"
    assert len(str(record["weights_sha256"])) == 64
    backbone, prior = load_backbone("builtin")
    assert encoder_record(backbone)["weights_sha256"] != record["weights_sha256"]
    own = Whitening(np.zeros(backbone.dimension, np.float32), np.eye(backbone.dimension, 5, dtype=np.float32))
    adapted = load_encoder("builtin", own)
    assert isinstance(adapted, Projected)
    assert adapted.dimension == 5
    assert prior is not None
    assert encoder_record(adapted)["weights_sha256"] != record["weights_sha256"]


@pytest.mark.parametrize("load", [load_encoder, load_backbone])
def test_an_unknown_id_names_the_nearest(load: Callable[[str], Encoder]) -> None:
    with pytest.raises(EncoderError, match=r"encoder 'bultin': unknown; did you mean builtin\?"):
        load("bultin")


def test_missing_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builtin, "_NETWORK", tmp_path / "nothing.onnx")
    backbone = builtin.BuiltinBackbone()
    for use in (
        lambda: backbone.dimension,
        lambda: backbone.weights_sha256,
        lambda: backbone.encode(np.zeros((1, 224, 224, 3), np.uint8)),
    ):
        with pytest.raises(EncoderError, match=r"nothing.onnx.*reinstall patchwise"):
            use()


@pytest.mark.parametrize("content", [b"", b"no network at all", b"\x08\x07" * 300])
def test_wrong_weights(content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    monkeypatch.setattr(builtin, "_NETWORK", path)
    with pytest.raises(EncoderError, match=r"bad.onnx: onnxruntime cannot load it.*reinstall patchwise"):
        builtin.BuiltinBackbone().encode(np.zeros((1, 224, 224, 3), np.uint8))


def test_missing_whitening(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builtin, "_WEIGHTS", tmp_path)
    with pytest.raises(EncoderError, match=r"whitening.npz"):
        load_encoder("builtin")
    with pytest.raises(EncoderError, match=r"whitening_prior.npz"):
        load_backbone("builtin")


def test_activations_are_what_vectors_are_divided_by(pixels: np.ndarray) -> None:
    """The same network, taken apart with the onnx package: the length of its pooled last feature map."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    network = onnx.load(builtin._NETWORK)
    network.graph.output.append(onnx.helper.make_tensor_value_info("head.gem", onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(network.SerializeToString())
    pooled = session.run(["head.gem"], {"pixels": pixels})[0]
    source = activation_source(load_encoder("builtin"))
    assert source is not None
    found = source.activations(pixels)
    assert found.shape == (19,) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.linalg.norm(pooled, axis=1), rtol=1e-4)
    assert source.activations(pixels[:0]).shape == (0,)


def test_a_plain_region_excites_least(encoder: Encoder, pixels: np.ndarray) -> None:
    backbone = builtin.BuiltinBackbone()
    plain = np.full((1, 224, 224, 3), 128, dtype=np.uint8)
    assert backbone.activations(plain)[0] < backbone.activations(pixels).min()
