from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchwise.encoders import EncoderSpec, TextEncoder
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.torch_runtime import Network, TorchEncoder, torch_encoder, weights_digest
from patchwise.errors import EncoderError

torch = pytest.importorskip("torch")

PREPROCESSING = Preprocessing(4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))


def colour_means(pixels: Any) -> Any:
    """(N, 3, 4, 4) to (N, 3): small enough to work out by hand."""
    return pixels.mean(dim=(2, 3))


def encoder(
    features: Callable[[Any], Any] = colour_means,
    name: str = "fake:net",
    texts: Callable[[Sequence[str]], Any] | None = None,
    device: str = "cpu",
) -> TorchEncoder:
    spec = EncoderSpec.parse(name)
    spec = EncoderSpec(spec.family, spec.reference, spec.options, device)
    return torch_encoder(spec, Network(torch.nn.Linear(2, 2), features, texts=texts), PREPROCESSING, "0" * 64)


def pictures(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def test_pixels_are_normalised_as_the_model_says_and_vectors_have_unit_length() -> None:
    white = np.full((1, 4, 4, 3), 255, dtype=np.uint8)
    # (1 - .5) / .5, (1 - .25) / .25, (1 - 0) / 1
    expected = np.array([1.0, 3.0, 1.0]) / np.sqrt(11)
    found = encoder()
    assert found.dimension == 3 and found.input_size == 4
    np.testing.assert_allclose(found.encode(white), [expected], rtol=1e-6)
    assert found.encode(white).dtype == np.float32


def test_activations_are_lengths_before_vectors_are_scaled() -> None:
    white = np.full((1, 4, 4, 3), 255, dtype=np.uint8)
    found = encoder()
    np.testing.assert_allclose(found.activations(white), [np.sqrt(11)], rtol=1e-6)  # of (1, 3, 1), as above
    found.batch_size = 4
    alone = [found.activations(pictures(9)[place : place + 1])[0] for place in range(9)]
    np.testing.assert_allclose(found.activations(pictures(9)), alone, rtol=1e-6)
    assert found.activations(pictures(9)).dtype == np.float32
    assert found.activations(pictures(0)).shape == (0,)


def test_no_region_gives_no_vector() -> None:
    assert encoder().encode(pictures(0)).shape == (0, 3)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 50])
def test_batches_do_not_show(count: int) -> None:
    found = encoder()
    found.batch_size = 16
    alone = np.concatenate([found.encode(pictures(count)[place : place + 1]) for place in range(count)])
    np.testing.assert_allclose(found.encode(pictures(count)), alone, atol=1e-6)


def test_a_batch_too_large_for_memory_is_halved_until_it_fits_and_stays_so() -> None:
    sizes = []

    def small_memory(pixels: Any) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return colour_means(pixels)

    found = encoder(small_memory)
    np.testing.assert_allclose(found.encode(pictures(20)), encoder().encode(pictures(20)), atol=1e-6)
    assert sizes == [1, 20, 10, 5, 5, 5, 5]
    assert found.batch_size == 5


@pytest.mark.parametrize(
    "message", ["MPS backend out of memory (MPS allocated: 1 GB)", "[enforce fail] can't allocate memory"]
)
def test_memory_errors_of_other_devices_are_understood(message: str) -> None:
    def small_memory(pixels: Any) -> Any:
        if len(pixels) > 1:
            raise RuntimeError(message)
        return colour_means(pixels)

    assert encoder(small_memory).encode(pictures(3)).shape == (3, 3)


def test_one_region_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    calls = []

    def no_memory(pixels: Any) -> Any:
        calls.append(len(pixels))
        if len(calls) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return colour_means(pixels)

    with pytest.raises(EncoderError, match=r"does not hold one region.*--device cpu"):
        encoder(no_memory).encode(pictures(3))


def test_threads_take_turns() -> None:
    at_work, most = [], []

    def slow(pixels: Any) -> Any:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.002)
        at_work.pop()
        return colour_means(pixels)

    found = encoder(slow)
    found.batch_size = 1
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda count: found.encode(pictures(count)), [3, 4, 5, 6]))
    assert max(most) == 1 and [len(vectors) for vectors in answers] == [3, 4, 5, 6]


def test_other_failures_of_a_network_are_not_taken_for_memory() -> None:
    calls = []

    def broken(pixels: Any) -> Any:
        calls.append(len(pixels))
        if len(calls) > 1:
            raise RuntimeError("shapes do not match")
        return colour_means(pixels)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        encoder(broken).encode(pictures(3))


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu 0"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(EncoderError, match=f"device '{device}': cannot be used .*; try auto or cpu"):
        encoder(device=device)


def test_auto_takes_what_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert encoder(device="auto").device.type == expected


def test_precision_is_fp32_on_a_cpu_unless_asked_otherwise() -> None:
    seen = []

    def note(pixels: Any) -> Any:
        seen.append(pixels.dtype)
        return colour_means(pixels)

    single, half = encoder(note), encoder(note, "fake:net,precision=bf16")
    assert seen == [torch.float32, torch.bfloat16]
    np.testing.assert_allclose(half.encode(pictures(3)), single.encode(pictures(3)), atol=2e-2)
    assert half.encode(pictures(3)).dtype == np.float32
    assert half.id == "fake:net,precision=bf16"


def test_a_network_that_does_not_take_the_size() -> None:
    def strict(pixels: Any) -> Any:
        raise ValueError("input must be a multiple of 14")

    with pytest.raises(EncoderError, match=r"does not take pictures of 4 x 4.*multiple of 14"):
        encoder(strict)


def test_a_network_that_gives_no_vector() -> None:
    with pytest.raises(EncoderError, match=r"gives \(3, 4, 4\) for a region"):
        encoder(lambda pixels: pixels)


def test_only_networks_that_read_texts_are_text_encoders() -> None:
    def lengths(texts: Sequence[str]) -> Any:
        return torch.tensor([[float(len(text)), 1.0, 0.0] for text in texts])

    reader = encoder(texts=lengths)
    assert isinstance(reader, TextEncoder) and not isinstance(encoder(), TextEncoder)
    np.testing.assert_allclose(reader.encode_texts(["abc", ""]), [[3 / 10**0.5, 1 / 10**0.5, 0], [0, 1, 0]], rtol=1e-6)
    assert reader.encode_texts([]).shape == (0, 3)


def test_many_texts_are_read_a_few_at_a_time_and_fewer_where_memory_is_small() -> None:
    sizes = []

    def lengths(texts: Sequence[str]) -> Any:
        sizes.append(len(texts))
        if len(texts) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.tensor([[float(len(text)), 1.0, 0.0] for text in texts])

    found = encoder(texts=lengths).encode_texts(["a" * count for count in range(70)])
    np.testing.assert_allclose(found[69], [69 / 4762**0.5, 1 / 4762**0.5, 0], rtol=1e-6)
    assert sizes == [64, 32, 32, 6] and found.shape == (70, 3)


def test_a_network_too_large_for_the_device_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def to(self: Any, *arguments: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", to)
    with pytest.raises(EncoderError, match=r"does not hold the network.*--device cpu"):
        encoder()


def test_one_picture_too_large_for_the_device_is_no_wrong_size() -> None:
    def no_memory(pixels: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EncoderError, match="does not hold one picture"):
        encoder(no_memory)


def test_size_and_fit_are_as_asked() -> None:
    found = encoder(name="fake:net,size=8,fit=pad")
    assert found.input_size == 8 and str(found.fit) == "pad:128/64/0"
    assert found.encode(np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 3)


def test_the_digest_covers_files_and_what_else_decides(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    files = [tmp_path / "a", tmp_path / "b"]
    assert weights_digest(files) != weights_digest(files, b"cls") != weights_digest(files, b"mean")
    before = weights_digest(files)
    assert before != weights_digest(files[:1])
    (tmp_path / "a").write_bytes(b"c")
    assert weights_digest(files) != before
