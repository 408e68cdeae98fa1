"""Local descriptors for AMES: sizes, the learned attention against the public code, and what is strongest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")

from patchwise.errors import EncoderError  # noqa: E402
from patchwise.rerank.ames.descriptors import Attention, _whole_patches, extract, load_attention  # noqa: E402

# Written by `SpatialAttention2d` of pavelsuma/ames at c6af26e for `attention_weights` and `some_tokens`: the four
# strongest of 3 x 5 tokens, their weights, and the first number of their descriptors.
STRONGEST = [6, 2, 1, 0]
WEIGHTS = [0.8358924, 0.8266993, 0.8096226, 0.6497847]
FIRST_NUMBERS = [0.1997862, 0.2075066, 0.1971812, 0.2823538]


def attention_weights() -> dict[str, torch.Tensor]:
    generator, made = np.random.default_rng(3), {}
    for name, tensor in sorted(Attention(16).state_dict().items()):
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(0)
            continue
        values = generator.normal(0, 1, tuple(tensor.shape)).astype("f4") * 0.3
        made[name] = torch.from_numpy((1 + values**2 if name.endswith("running_var") else values).astype("f4"))
    return made


def attention() -> Attention:
    made = Attention(16)
    made.load_state_dict(attention_weights(), strict=True)
    return made.eval().requires_grad_(False)


class SomeTokens:
    """A network that sees the same everywhere."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.seen.append(pixels.shape)
        return np.random.default_rng(4).normal(size=(3, 5, 16)).astype("f4")


def test_the_strongest_are_those_of_the_public_code() -> None:
    found = extract(Image.new("RGB", (70, 42)), SomeTokens(), attention(), 4, longer_side=70)
    np.testing.assert_allclose(found.weights, WEIGHTS, atol=1e-6)
    np.testing.assert_allclose(found.features[:, 0], FIRST_NUMBERS, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-5)
    across, down = np.array(STRONGEST) % 5, np.array(STRONGEST) // 5
    np.testing.assert_allclose(found.places, np.stack([(across + 0.5) / 5, (down + 0.5) / 3], axis=1), atol=1e-6)


def test_without_an_attention_a_token_is_worth_its_length() -> None:
    tokens = SomeTokens()
    found = extract(Image.new("RGB", (70, 42)), tokens, None, 99)
    lengths = np.linalg.norm(tokens(np.empty(0)).reshape(15, 16), axis=1)
    assert len(found.features) == 15
    np.testing.assert_allclose(found.weights, np.sort(lengths)[::-1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), found.weights, atol=1e-5)


def test_a_larger_set_begins_with_the_smaller() -> None:
    few, many = (extract(Image.new("RGB", (70, 42)), SomeTokens(), attention(), count) for count in (3, 11))
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other[:3])


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_sides_are_whole_patches_and_the_longer_one_is_as_published(width: int, height: int) -> None:
    (across, down), _ = _whole_patches((width, height), 14, 770)
    assert across % 14 == down % 14 == 0 and min(across, down) >= 14 and max(across, down) == 770
    if min(across, down) > 14:
        assert abs(across / down / (width / height) - 1) < 14 / min(across, down)


@pytest.mark.parametrize(
    ("size", "seen"), [((1540, 770), (392, 770, 3)), ((300, 400), (770, 574, 3)), ((9, 900), (770, 14, 3))]
)
def test_pictures_are_brought_to_size(size: tuple[int, int], seen: tuple[int, ...]) -> None:
    tokens = SomeTokens()
    extract(Image.new("RGB", size), tokens, None, 5)
    assert tokens.seen == [seen]


def test_tokens_of_a_network(tmp_path: Path) -> None:
    """The network that AMES looks with, but tiny and random: what changes in a patch changes its descriptor most."""
    pytest.importorskip("transformers")
    from encoders.hf_checkpoints import write_checkpoint
    from patchwise.encoders import load_encoder

    write_checkpoint("dinov2_with_registers", tmp_path / "tiny")
    encoder = load_encoder(f"hf:{tmp_path / 'tiny'}", device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[16:24, 40:48] = 255 - changed[16:24, 40:48]  # third row, sixth column
    found, other = (
        extract(Image.fromarray(each), encoder.patch_tokens, None, 99, patch=8, longer_side=64)
        for each in (pixels, changed)
    )
    assert len(found.features) == 32
    of_place = [dict(zip(map(tuple, each.places.tolist()), each.features, strict=True)) for each in (found, other)]
    moved = {place: np.linalg.norm(of_place[1][place] - features) for place, features in of_place[0].items()}
    assert max(moved, key=moved.get) == (5.5 / 8, 2.5 / 4)


def test_published_detectors_are_read_as_they_are(tmp_path: Path) -> None:
    torch.save({"state": attention_weights()}, tmp_path / "detector.pt")
    read = load_attention(tmp_path / "detector.pt")
    for name, values in read.state_dict().items():
        assert torch.equal(values, attention_weights()[name])
    torch.save({"state": {}}, tmp_path / "empty.pt")
    for path in (tmp_path / "empty.pt", tmp_path / "none.pt", Path(__file__)):
        with pytest.raises(EncoderError, match="no detector of AMES"):
            load_attention(path)
