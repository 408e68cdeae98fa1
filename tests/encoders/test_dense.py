"""Dense encoding: one pass per image, and regions that are means of its patch tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import make_picture
from patchwise.encoders import DenseEncoder, EncoderSpec, TextEncoder, encoder_record, load_encoder
from patchwise.encoders.dense import TorchDenseEncoder, covered_shares
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.torch_runtime import Network, torch_encoder
from patchwise.errors import EncoderError
from patchwise.images import Picture, cut_regions

torch = pytest.importorskip("torch")

Pixels = npt.NDArray[np.uint8]
WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (WHOLE, [[1, 1], [1, 1]]),
        ((0, 0, 0.5, 0.5), [[1, 0], [0, 0]]),
        ((0.5, 0, 1, 1), [[0, 1], [0, 1]]),
        ((0.25, 0, 0.75, 1), [[1, 1], [1, 1]]),
        ((0.25, 0, 1, 0.5), [[1, 2], [0, 0]]),  # half of the first patch, the whole of the second
        ((0.25, 0.375, 1, 1), [[1, 2], [4, 8]]),
        ((0.1, 0.6, 0.2, 0.7), [[0, 0], [1, 0]]),  # smaller than a patch
        ((0.3, 0.3, 0.3, 0.3), [[1, 0], [0, 0]]),  # a point
        ((1, 1, 1, 1), [[0, 0], [0, 1]]),
    ],
)
def test_a_patch_counts_by_its_covered_share(box: Sequence[float], expected: list[list[float]]) -> None:
    (shares,) = covered_shares(np.array([box]), 2, 2, 4)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares, np.array(expected) / np.sum(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (WHOLE, [[1, 1], [1, 1]]),
        ((0, 0, 0.8, 0.8), [[1, 1], [1, 1]]),
        ((0, 0, 0.4, 0.4), [[1, 0], [0, 0]]),
        ((0.4, 0.2, 1, 0.6), [[0, 1], [0, 1]]),
        ((0.82, 0, 1, 0.4), [[0, 1], [0, 0]]),  # in the strip alone
        ((0.9, 0.9, 1, 1), [[0, 0], [0, 1]]),
    ],
)
def test_patches_that_leave_a_strip(box: Sequence[float], expected: list[list[float]]) -> None:
    """Two patches of two pixels in a picture of five: the fifth column and row are seen by none of them."""
    (shares,) = covered_shares(np.array([box]), 2, 2, 5)
    np.testing.assert_allclose(shares, np.array(expected) / np.sum(expected), rtol=1e-6)


@given(patch=st.integers(1, 8), rows=st.integers(1, 6), columns=st.integers(1, 6), data=st.data())
def test_shares_are_those_of_the_pixels_counted_one_by_one(
    patch: int, rows: int, columns: int, data: st.DataObject
) -> None:
    rows = columns  # pictures are squares
    side = rows * patch
    x0, y0 = (data.draw(st.integers(0, side - 1)) for _ in range(2))
    x1, y1 = data.draw(st.integers(x0 + 1, side)), data.draw(st.integers(y0 + 1, side))
    inside = np.zeros((side, side))
    inside[y0:y1, x0:x1] = 1
    counted = inside.reshape(rows, patch, columns, patch).sum(axis=(1, 3))
    (shares,) = covered_shares(np.array([(x0, y0, x1, y1)]) / side, rows, columns, side)
    np.testing.assert_allclose(shares, counted / counted.sum(), atol=1e-6)


def patch_means(pixels: Any) -> Any:
    """Tokens: the mean colours of patches of 2 x 2 pixels, (N, rows, columns, 3)."""
    return torch.nn.functional.avg_pool2d(pixels, 2).permute(0, 2, 3, 1)


def encoder(
    options: str = ",encode=dense", tokens: Callable[[Any], Any] | None = patch_means, **network: Any
) -> TorchDenseEncoder:
    spec = EncoderSpec.parse(f"fake:net{options}")
    spec = EncoderSpec(spec.family, spec.reference, spec.options, "cpu")
    given = Network(torch.nn.Linear(2, 2), lambda pixels: pixels[:, :, 0, 0], tokens, **network)
    found = torch_encoder(spec, given, Preprocessing(4, mean=(0.0,) * 3, std=(1.0,) * 3), "0" * 64)
    assert isinstance(found, TorchDenseEncoder)
    return found


def noise(count: int, side: int) -> Pixels:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def unit(vectors: npt.ArrayLike) -> npt.NDArray[np.float64]:
    vectors = np.asarray(vectors, dtype=np.float64)
    length: npt.NDArray[np.float64] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / length


def test_regions_are_means_of_the_patches_they_cover() -> None:
    red, green, blue, white = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    picture = np.array([[red, green], [blue, white]], dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    boxes = [WHOLE, (0, 0, 0.5, 0.5), (0, 0, 1, 0.5), (0.375, 0, 1, 0.5), (0.5, 0.5, 0.51, 0.51)]
    (vectors,) = encoder().encode_regions(picture[None], [np.array(boxes, dtype=np.float32)])
    # One column of red patches is covered by half, two of green ones whole.
    expected = [[2, 2, 2], [1, 0, 0], [1, 1, 0], [0.5, 2, 0], [1, 1, 1]]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, unit(expected), atol=1e-6)


def test_pictures_with_different_numbers_of_regions_in_batches_of_any_size() -> None:
    generator = np.random.default_rng(0)
    pictures = noise(7, 8)
    boxes = [np.sort(generator.random((count, 2, 2), dtype=np.float32), axis=1).reshape(-1, 4) for count in range(1, 8)]
    found = encoder()
    alone = [found.encode_regions(pictures[i : i + 1], boxes[i : i + 1])[0] for i in range(7)]
    for size in (1, 2, 3, 7, 100):
        found.picture_batch_size = size
        together = found.encode_regions(pictures, boxes)
        assert [len(vectors) for vectors in together] == list(range(1, 8))
        np.testing.assert_allclose(np.concatenate(together), np.concatenate(alone), atol=1e-6)
    assert found.encode_regions(pictures[:0], []) == []


def test_a_query_is_the_mean_of_all_its_tokens() -> None:
    found = encoder()
    pixels = noise(3, found.input_size)
    np.testing.assert_allclose(found.encode(pixels), unit(pixels.mean(axis=(1, 2))), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "query", "picture", "name"),
    [
        (",encode=dense", 4, 8, "fake:net,encode=dense,picture_size=8"),
        (",encode=dense,picture_size=12", 4, 12, "fake:net,encode=dense,picture_size=12"),
        (",size=6,encode=dense", 6, 12, "fake:net,size=6,encode=dense,picture_size=12"),
        (",size=6,encode=dense,picture_size=10", 6, 10, "fake:net,size=6,encode=dense,picture_size=10"),
    ],
)
def test_sizes(options: str, query: int, picture: int, name: str) -> None:
    found = encoder(options)
    assert (found.input_size, found.picture_size, found.id) == (query, picture, name)
    assert found.encode(noise(2, query)).shape == (2, 3)
    (vectors,) = found.encode_regions(noise(1, picture), [np.array([WHOLE], dtype=np.float32)])
    np.testing.assert_allclose(vectors, unit(noise(1, picture).mean(axis=(1, 2))), atol=1e-6)


def test_the_picture_size_is_part_of_what_a_gallery_remembers() -> None:
    records = [
        encoder_record(encoder(options))
        for options in (",size=4,encode=dense", ",size=4,encode=dense,picture_size=10", ",size=6,encode=dense")
    ]
    assert records[0] != records[1] and records[0] != records[2]
    assert encoder_record(encoder(",size=4,encode=dense,picture_size=8")) == records[0]


def test_batches_of_pictures_hold_as_many_pixels_as_batches_of_regions() -> None:
    found = encoder(",size=224,encode=dense")
    assert (found.picture_size, found.batch_size, found.picture_batch_size) == (448, 8, 2)
    assert encoder(",size=224,encode=dense,picture_size=2240").picture_batch_size == 1


def test_images_that_do_not_fit_into_memory_are_encoded_fewer_at_a_time() -> None:
    sizes = []

    def small_memory(pixels: Any) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return patch_means(pixels)

    found = encoder(tokens=small_memory)
    found.picture_batch_size = 5
    boxes = [np.array([WHOLE], dtype=np.float32)] * 5
    vectors = np.concatenate(found.encode_regions(noise(5, 8), boxes))
    np.testing.assert_allclose(vectors, unit(noise(5, 8).mean(axis=(1, 2))), atol=1e-6)
    assert sizes == [1, 1, 5, 2, 2, 1] and found.picture_batch_size == 2


def test_one_image_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    def no_memory(pixels: Any) -> Any:
        if pixels.shape[-1] == 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return patch_means(pixels)

    with pytest.raises(EncoderError, match=r"does not hold one picture.*--device cpu"):
        encoder(",size=4,encode=dense", no_memory)


@pytest.mark.parametrize("failure", [ValueError, AssertionError, RuntimeError])
def test_a_network_that_does_not_take_the_picture_size(failure: type[Exception]) -> None:
    def strict(pixels: Any) -> Any:
        if pixels.shape[-1] % 4:
            raise failure("must be a multiple of 4")
        return patch_means(pixels)

    with pytest.raises(EncoderError, match=r"does not take pictures of 6 x 6 .*multiple of 4"):
        encoder(",size=4,encode=dense,picture_size=6", strict)


def test_the_same_weights_are_another_encoder_than_for_regions() -> None:
    network = Network(torch.nn.Linear(2, 2), lambda pixels: pixels[:, :, 0, 0], patch_means)
    regions, dense = (
        torch_encoder(EncoderSpec.parse(f"fake:net{options}"), network, Preprocessing(4), "0" * 64)
        for options in ("", ",encode=dense")
    )
    assert regions.weights_sha256 == "0" * 64 != dense.weights_sha256 and len(dense.weights_sha256) == 64


@pytest.mark.parametrize(
    ("options", "tokens", "complaint"),
    [
        (",encode=dense", None, "has no patch tokens, which encode=dense needs"),
        (",fit=pad,encode=dense", patch_means, "stretches pictures to a square; leave fit out"),
        (",fit=crop,encode=dense", patch_means, "leave fit out"),
        (",pooling=cls,encode=dense", patch_means, "takes the mean of tokens; leave pooling out"),
        (",picture_size=8", patch_means, "picture_size is for encode=dense"),
        (",encode=regions,picture_size=8", patch_means, "picture_size is for encode=dense"),
    ],
)
def test_what_cannot_be_had_is_refused(options: str, tokens: Callable[[Any], Any] | None, complaint: str) -> None:
    with pytest.raises(EncoderError, match=complaint):
        encoder(options, tokens)


def test_the_mean_may_be_asked_for_by_name() -> None:
    assert encoder(",fit=square,pooling=mean,encode=dense").picture_size == 8


def test_protocols_tell_what_an_encoder_can_do() -> None:
    def read(texts: Sequence[str]) -> Any:
        return torch.ones(len(texts), 3)

    dense = encoder(texts=read)
    assert isinstance(dense, DenseEncoder) and not isinstance(dense, TextEncoder)
    spec = EncoderSpec.parse("fake:net")
    network = Network(torch.nn.Linear(2, 2), lambda pixels: pixels[:, :, 0, 0], patch_means)
    assert not isinstance(torch_encoder(spec, network, Preprocessing(4), "0" * 64), DenseEncoder)


# --------------------------------------------------------------------------- real loading code
PATCH = 14


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from encoders.hf_checkpoints import write_checkpoint

    return write_checkpoint("dinov2", tmp_path_factory.mktemp("dense") / "dinov2")


def stretched(picture: Image.Image, side: int) -> Pixels:
    box = np.array([[0, 0, *picture.size]], dtype=np.float32)
    return cut_regions(Picture(picture, picture.size), box, side, "bicubic")


@pytest.mark.parametrize(("size", "picture_size"), [(42, 84), (45, 101), (28, 59), (70, 70)])
def test_dinov2_equals_a_plain_use_of_transformers(dinov2: Path, size: int, picture_size: int) -> None:
    """Odd sizes too: 101 pixels hold seven patches of 14 and a strip of 3."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(dinov2).eval()
    found = load_encoder(f"hf:{dinov2},size={size},encode=dense,picture_size={picture_size}", device="cpu")
    assert isinstance(found, DenseEncoder)

    def tokens(pixels: Pixels) -> npt.NDArray[np.float32]:
        normalised = (pixels / 255 - (0.5, 0.4, 0.3)) / (0.2, 0.25, 0.3)
        with torch.inference_mode():
            given = torch.from_numpy(normalised.transpose(0, 3, 1, 2).astype(np.float32))
            hidden = model(pixel_values=given).last_hidden_state[:, 1:].numpy()
        side = pixels.shape[1] // PATCH
        grid: npt.NDArray[np.float32] = hidden.reshape(len(pixels), side, side, -1)
        return grid

    query = stretched(make_picture(1, (61, 47)), size)
    np.testing.assert_allclose(found.encode(query), unit(tokens(query).mean(axis=(1, 2))), atol=1e-4)

    pictures = np.concatenate([stretched(make_picture(seed, (150, 97)), picture_size) for seed in (2, 3)])
    grid = tokens(pictures)
    across = np.array([0, 1, 1, 0.5, 0, 0, 0])[: grid.shape[2]]  # x from 14 to 49
    box = np.array([PATCH, 0, min(3.5 * PATCH, picture_size), PATCH]) / picture_size
    expected = [[each.mean(axis=(0, 1)), np.average(each[0], axis=0, weights=across)] for each in grid]
    vectors = found.encode_regions(pictures, [np.array([WHOLE, box], dtype=np.float32)] * 2)
    np.testing.assert_allclose(vectors, unit(expected), atol=1e-4)


def test_the_whole_image_is_the_mean_of_the_same_pass(dinov2: Path) -> None:
    dense = load_encoder(f"hf:{dinov2},size=70,encode=dense,picture_size=70", device="cpu")
    plain = load_encoder(f"hf:{dinov2},size=70,pooling=mean", device="cpu")
    assert isinstance(dense, DenseEncoder)
    pixels = stretched(make_picture(1, (150, 97)), 70)
    (vectors,) = dense.encode_regions(pixels, [np.array([WHOLE], dtype=np.float32)])
    np.testing.assert_allclose(vectors, plain.encode(pixels), atol=1e-5)
    np.testing.assert_allclose(vectors, dense.encode(pixels), atol=1e-5)


def test_deit_through_timm(shared_data: Path) -> None:
    pytest.importorskip("timm")
    weights = shared_data / "weights" / "deit_tiny_patch16_224.timm.safetensors"
    dense = load_encoder(f"timm:deit_tiny_patch16_224,encode=dense,weights={weights}", device="cpu")
    assert isinstance(dense, DenseEncoder) and (dense.input_size, dense.picture_size) == (224, 448)
    plain = load_encoder(f"timm:deit_tiny_patch16_224,size=448,pooling=mean,weights={weights}", device="cpu")
    boxes = np.array([WHOLE, (0, 0, 0.5, 0.5)], dtype=np.float32)
    pixels = stretched(make_picture(1, (600, 500)), 448)
    (vectors,) = dense.encode_regions(pixels, [boxes])
    np.testing.assert_allclose(vectors[:1], plain.encode(pixels), atol=1e-4)
    assert vectors[0] @ vectors[1] < 0.99
