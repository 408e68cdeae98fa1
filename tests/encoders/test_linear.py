"""Linear layers: their arithmetic, their files, and which encoder they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import FakeEncoder
from patchwise.encoders import EncoderSpec, LinearAdaptation, Whitening, load_backbone, load_encoder
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.whitening import normalised
from patchwise.errors import EncoderError


def layer(dimension: int = 3, full: int = 5, **notes: str) -> LinearAdaptation:
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(size=(dimension, full)), generator.normal(size=dimension)
    return LinearAdaptation(weight.astype(np.float32), bias.astype(np.float32), notes)


def test_by_hand() -> None:
    one = LinearAdaptation(np.array([[1, 0], [0, 2]], np.float32), np.array([2, 0], np.float32))
    np.testing.assert_allclose(one.apply(np.array([[1, 2]], np.float32)), [[0.6, 0.8]], atol=1e-6)
    assert one.apply(np.empty((0, 2), np.float32)).shape == (0, 2)


def test_equals_the_layer_of_torch() -> None:
    torch = pytest.importorskip("torch")
    one, vectors = layer(), np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    theirs = torch.nn.functional.linear(*map(torch.from_numpy, (vectors, one.weight, one.bias)))
    np.testing.assert_allclose(one.apply(vectors), torch.nn.functional.normalize(theirs, dim=1).numpy(), atol=1e-6)


def test_a_whitening_as_a_layer_gives_the_same_vectors() -> None:
    vectors = np.random.default_rng(2).normal(size=(60, 8)).astype(np.float32) + 1
    whitening = Whitening.learn(vectors, 4)
    np.testing.assert_allclose(
        LinearAdaptation.of_whitening(whitening).apply(vectors), whitening.apply(vectors), atol=1e-5
    )


def test_through_a_file(tmp_path: Path) -> None:
    one = layer(encoder="fake", seed="0", pictures="12")
    for name in ("a", "b"):
        one.save(tmp_path / "new" / f"{name}.safetensors")
    read = LinearAdaptation.load(tmp_path / "new" / "a.safetensors")
    assert read.notes == one.notes and read.sha256 == one.sha256
    assert (tmp_path / "new" / "a.safetensors").read_bytes() == (tmp_path / "new" / "b.safetensors").read_bytes()


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer().save(tmp_path / "layer.safetensors")
    before = (tmp_path / "layer.safetensors").read_bytes()

    def full(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(EncoderError, match=r"cannot be written \(No space"):
        patch.setattr(Path, "write_bytes", full)
        layer(4).save(tmp_path / "layer.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["layer.safetensors"]
    assert (tmp_path / "layer.safetensors").read_bytes() == before
    layer(4).save(tmp_path / "layer.safetensors")
    assert LinearAdaptation.load(tmp_path / "layer.safetensors").dimension == 4


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "layer.safetensors", tmp_path / f"{'long' * 90}.safetensors"):
        with pytest.raises(EncoderError, match="cannot be written"):
            layer().save(path)


def test_files_as_ilias_publishes_them(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    one = layer()
    state = {"layer.weight": torch.from_numpy(one.weight), "layer.bias": torch.from_numpy(one.bias)}
    torch.save(state, tmp_path / "layer.pth")
    read = LinearAdaptation.load(tmp_path / "layer.pth")
    assert read.sha256 == one.sha256 and read.notes == {}


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"layer.weight": Evil()}, tmp_path / "layer.pth")
    with pytest.raises(EncoderError, match="cannot be read as a linear adaptation"):
        LinearAdaptation.load(tmp_path / "layer.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"layer.bias": np.zeros(3)}, "has no 'layer.weight'"),
        ({"layer.weight": np.zeros((3, 5))}, "has no 'layer.bias'"),
        ({"layer.weight": np.zeros((3, 5)), "layer.bias": np.zeros(4)}, "do not fit together"),
        ({"layer.weight": np.full((3, 5), np.nan), "layer.bias": np.zeros(3)}, "not finite"),
    ],
)
def test_what_is_no_layer_is_refused(arrays: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "layer.safetensors"
    save_file({name: value.astype(np.float32) for name, value in arrays.items()}, file)
    with pytest.raises(EncoderError, match=reason) as caught:
        LinearAdaptation.load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"no tensors at all"])
def test_damaged_and_missing_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "layer.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EncoderError, match="cannot be read as a linear adaptation"):
        LinearAdaptation.load(file)


def test_it_says_for_which_encoder_it_was_made() -> None:
    encoder = FakeEncoder()
    assert layer(full=48).made_for(encoder)
    assert layer(full=48, weights_sha256=encoder.weights_sha256).made_for(encoder)
    assert not layer(full=48, weights_sha256="1" * 64).made_for(encoder)
    assert not layer(full=47).made_for(encoder)


def test_regions_and_dense_tokens_of_one_network_need_layers_of_their_own() -> None:
    """The vectors have the same length and come from the same weights, and still lie elsewhere."""
    torch = pytest.importorskip("torch")
    from patchwise.encoders.torch_runtime import Network, torch_encoder

    network = Network(
        torch.nn.Identity(), lambda pixels: pixels.mean((2, 3)), lambda pixels: pixels.permute(0, 2, 3, 1)
    )
    encoders = [
        torch_encoder(EncoderSpec.parse(name), network, Preprocessing(4), "0" * 64)
        for name in ("fake:net", "fake:net,encode=dense")
    ]
    for own, other in (encoders, encoders[::-1]):
        one = layer(2, own.dimension, weights_sha256=own.weights_sha256)
        assert one.made_for(own) and not one.made_for(other)


def test_the_registry_applies_it_to_the_vectors_that_it_was_learned_for(tmp_path: Path) -> None:
    backbone, _ = load_backbone("builtin")
    whitened = load_encoder("builtin")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    for source in (backbone, whitened):
        for notes in ({}, {"weights_sha256": source.weights_sha256}):
            one = layer(7, source.dimension, **notes)
            one.save(tmp_path / "layer.safetensors")
            adapted = load_encoder(f"builtin,adapt={tmp_path / 'layer.safetensors'}")
            vectors = source.encode(pixels)
            np.testing.assert_allclose(adapted.encode(pixels), normalised(vectors @ one.weight.T + one.bias), atol=1e-5)
            assert adapted.dimension == 7
            assert adapted.weights_sha256 != source.weights_sha256


def test_the_registry_refuses_a_layer_of_another_encoder(tmp_path: Path) -> None:
    name = f"builtin,adapt={tmp_path / 'layer.safetensors'}"
    layer(7, 11).save(tmp_path / "layer.safetensors")
    with pytest.raises(EncoderError, match="made for vectors of 11 numbers"):
        load_encoder(name)
    layer(7, 256, encoder="dinov2-s", weights_sha256="1" * 64).save(tmp_path / "layer.safetensors")
    with pytest.raises(EncoderError, match=r"learned for dinov2-s with other weights.*patchwise adapt"):
        load_encoder(name)
