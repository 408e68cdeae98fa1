"""The matching network of AMES against what the public code gives for the same weights and descriptors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from patchwise.errors import EncoderError  # noqa: E402
from patchwise.rerank.ames.network import Matcher, MatcherShape, load_matcher  # noqa: E402

# Written by pavelsuma/ames at c6af26e with torch 2.13.0, for `weights` and `pairs` below.
GOLDEN = {
    False: [0.6932681798934937, 0.7025599479675293, 0.7662420868873596, 0.8368577361106873],
    True: [-0.2743145227432251, -0.311501681804657, -0.12245482206344604, -0.07215441763401031],
}


def weights(binary: bool) -> dict[str, torch.Tensor]:
    """Numbers that follow from the names and shapes of a checkpoint alone."""
    generator = np.random.default_rng(8 if binary else 7)
    made = {}
    for name, tensor in sorted(Matcher(MatcherShape(binary=binary)).state_dict().items()):
        values = generator.normal(0, 1, tuple(tensor.shape)).astype("f4")
        is_norm = "norm" in name or (name.startswith("remap_local") and tensor.ndim == 1)
        if is_norm and name.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values *= 0.5 / np.sqrt(values.shape[-1]) if values.ndim > 1 else 0.1
        made[name] = torch.from_numpy(values.astype("f4"))
    return made


def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four pairs of 9 and 13 descriptors, in three of which some are padding."""
    generator = np.random.default_rng(1)
    query = generator.normal(size=(4, 9, 768)).astype("f4")
    image = generator.normal(size=(4, 13, 768)).astype("f4")
    image[0, :9] = query[0]
    query_padding, image_padding = np.zeros((4, 9), bool), np.zeros((4, 13), bool)
    query_padding[1, 6:] = image_padding[2, 5:] = image_padding[3, 1:] = True
    return tuple(map(torch.from_numpy, (query, query_padding, image, image_padding)))


def matcher(binary: bool) -> Matcher:
    made = Matcher(MatcherShape(binary=binary))
    made.load_state_dict(weights(binary), strict=True)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("binary", [False, True])
def test_logits_are_those_of_the_public_code(binary: bool) -> None:
    np.testing.assert_allclose(matcher(binary)(*pairs()).numpy(), GOLDEN[binary], atol=1e-5)


@pytest.mark.parametrize("binary", [False, True])
def test_what_is_padding_says_nothing(binary: bool) -> None:
    query, query_padding, image, image_padding = pairs()
    before = matcher(binary)(query, query_padding, image, image_padding)
    query[query_padding], image[image_padding] = 7.0, -3.0
    np.testing.assert_allclose(matcher(binary)(query, query_padding, image, image_padding), before, atol=1e-6)


@pytest.mark.parametrize("binary", [False, True])
def test_published_checkpoints_are_read_as_they_are(tmp_path: Path, binary: bool) -> None:
    torch.save({"state": weights(binary), "epoch": 3}, tmp_path / "ames.pt")
    read = load_matcher(tmp_path / "ames.pt")
    assert read.shape == MatcherShape(binary=binary)
    np.testing.assert_allclose(read(*pairs()).numpy(), GOLDEN[binary], atol=1e-5)


def test_sizes_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    shape = MatcherShape(descriptor=20, width=8, layers=2, heads=2, feed_forward=12)
    torch.save({"state": Matcher(shape).state_dict()}, tmp_path / "small.pt")
    assert load_matcher(tmp_path / "small.pt").shape == shape


@pytest.mark.parametrize(
    "damage", ["missing", "left over", "other shape", "no state", "garbage", "empty", "numbers", "no file"]
)
def test_what_is_no_checkpoint_is_told_in_one_line(tmp_path: Path, damage: str) -> None:
    path, state = tmp_path / "ames.pt", weights(binary=False)
    if damage == "missing":
        del state["decoder.layers.2.norm3.bias"]
    elif damage == "left over":
        state["decoder.norm.weight"] = torch.zeros(128)
    elif damage == "other shape":
        state["classifier.weight"] = torch.zeros(2, 128)
    if damage == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "numbers":
        torch.save({"state": dict.fromkeys(state, 1)}, path)
    elif damage != "no file":
        torch.save({} if damage == "no state" else {"state": state}, path)
    with pytest.raises(EncoderError, match=r"ames\.pt: no checkpoint of AMES \(") as told:
        load_matcher(path)
    assert "\n" not in str(told.value)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state": Trap()}, tmp_path / "ames.pt")
    with pytest.raises(EncoderError):
        load_matcher(tmp_path / "ames.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("asked", "shown"), [(1, 1), (7, 3), (2, 9)])
def test_a_layer_is_attention_over_all_with_a_mask(asked: int, shown: int, padded: bool) -> None:
    """As the public code has it: who may not see whom is masked, the matching token sees all and is seen by all."""
    shape = MatcherShape(descriptor=6, width=8, layers=1, feed_forward=12)
    torch.manual_seed(asked)
    layer = Matcher(shape).eval().decoder.layers[0]
    tokens = torch.randn(2, 1 + asked + shown, 8)
    padding = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    padding[1, -1] = padded
    side = torch.tensor([0] + [1] * asked + [2] * shown)
    images = (side[:, None] > 0) & (side > 0)

    def seen(attention: torch.nn.MultiheadAttention, at: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return attention(at, at, at, attn_mask=mask, key_padding_mask=padding, need_weights=False)[0]

    with torch.no_grad():
        expected = layer.norm1(tokens + seen(layer.self_attn, tokens, images & (side[:, None] != side)))
        expected = layer.norm2(expected + seen(layer.cross_attn, expected, images & (side[:, None] == side)))
        expected = layer.norm3(expected + layer.linear2(torch.relu(layer.linear1(expected))))
        given = (tokens, asked, padding if padded else None)
        np.testing.assert_allclose(layer(*given, only_matching=False)[~padding], expected[~padding], atol=1e-5)
        np.testing.assert_allclose(layer(*given, only_matching=True), expected[:, :1], atol=1e-5)
