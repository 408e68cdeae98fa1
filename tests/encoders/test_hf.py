"""Backbones of transformers: vectors equal those of a plain use of the library, whatever the kind of model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from conftest import make_picture
from encoders.deit import write_transformers_deit
from encoders.hf_checkpoints import CHECKPOINTS, write_checkpoint
from patchwise.encoders import Encoder, TextEncoder, load_encoder
from patchwise.errors import EncoderError
from patchwise.images import Picture, cut_regions

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# Sides under three times the smallest input, above which regions are cut from copies halved beforehand.
PICTURES = [make_picture(1, (61, 47)), make_picture(2, (38, 90)), make_picture(3, (52, 52))]
OTHER_SIZE = {"siglip2": 40, "dinov3_convnext": 75}  # the first takes whole patches only
ODD_SIZE = 45
# Models that must be told to interpolate their position embeddings; others always do, or have none.
INTERPOLATED = ("siglip", "clip", "metaclip_2", "clip_vision", "clip_vision_projected", "vit", "vit_classifier", "deit")
USUAL = {
    "dinov2": "cls",
    "dinov2_with_registers": "cls",
    "dinov3_vit": "cls",
    "dinov3_convnext": "pooler",
    "siglip": "pooler",
    "siglip2": "pooler",
    "clip": "projection",
    "metaclip_2": "projection",
    "clip_vision": "pooler",
    "clip_vision_projected": "projection",
    "vit": "cls",
    "vit_classifier": "cls",
    "deit": "cls",
    "beit": "pooler",
    "swin": "pooler",
    "swinv2": "pooler",
    "convnext": "pooler",
}
SPECIAL = {
    "dinov2_with_registers": 5,
    "dinov3_vit": 5,
    "deit": 2,
    "siglip": 0,
    "siglip2": 0,
    "swin": 0,
    "swinv2": 0,
    "convnext": 0,
}
# Rows of patches at the usual size and at the other one.
ROWS = {"dinov2": (3, 3), "dinov3_convnext": (2, 2), "swin": (4, 6), "swinv2": (4, 6)}
Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = write_checkpoint(name, tmp_path_factory.mktemp("hf") / name)
        return made[name]

    return get


def whole(picture: Image.Image, encoder: Encoder) -> npt.NDArray[np.uint8]:
    box = np.array([[0, 0, *picture.size]], dtype=np.float32)
    return cut_regions(Picture(picture, picture.size), box, encoder.input_size, encoder.resampling, encoder.fit)


def ours(name: str, pictures: list[Image.Image] = PICTURES) -> npt.NDArray[np.float32]:
    encoder = encoder_of(name)
    vectors = encoder.encode(np.concatenate([whole(picture, encoder) for picture in pictures]))
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(pictures), encoder.dimension)
    return vectors


def processor_of(name: str, folder: Path) -> Any:
    if name.startswith("dinov3"):  # theirs is for torchvision alone, and rounds elsewhere; that for ViT does the same
        return transformers.ViTImageProcessorPil(**CHECKPOINTS[name][1])
    return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")


@cache
def model_of(family: Any, folder: Path) -> Any:
    return family.from_pretrained(folder).eval()


@contextmanager
def evaluated(family: Any, folder: Path) -> Iterator[Any]:
    with torch.inference_mode():
        yield model_of(family, folder)


@cache
def encoder_of(name: str) -> Any:
    return load_encoder(name, device="cpu")


def outputs(name: str, folder: Path, inputs: Any, interpolate: bool) -> dict[str, Any]:
    """What the library gives for prepared pictures: its pooled outputs, and the tokens after the last norm."""
    arguments = {"interpolate_pos_encoding": True} if interpolate and name in INTERPOLATED else {}
    if name in ("clip", "metaclip_2"):
        with evaluated(transformers.AutoModel, folder) as model:
            seen = model.vision_model(**inputs, **arguments)
            found = {"projection": model.get_image_features(**inputs, **arguments).pooler_output}
            hidden = model.vision_model.post_layernorm(seen.last_hidden_state)
            return {**found, "pooler": seen.pooler_output, "hidden": hidden}
    if name == "clip_vision_projected":
        with evaluated(transformers.CLIPVisionModelWithProjection, folder) as model:
            seen = model.vision_model(**inputs, **arguments)
            hidden = model.vision_model.post_layernorm(seen.last_hidden_state)
            return {
                "projection": model(**inputs, **arguments).image_embeds,
                "pooler": seen.pooler_output,
                "hidden": hidden,
            }
    if name in ("siglip", "siglip2"):
        with evaluated(transformers.AutoModel, folder) as model:
            found = {"pooler": model.get_image_features(**inputs, **arguments).pooler_output}
            return {**found, "hidden": model.vision_model(**inputs, **arguments).last_hidden_state}
    with evaluated(transformers.AutoModel, folder) as model:
        seen = model(**inputs, **arguments)
        hidden = seen.last_hidden_state
        if name == "clip_vision":
            hidden = model.post_layernorm(hidden)
        if hidden.ndim == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        pooled = {} if name == "vit_classifier" else {"pooler": seen.pooler_output.flatten(1)}
        return {**pooled, "hidden": hidden}


def vectors_of(name: str, found: dict[str, Any], pooling: str) -> npt.NDArray[np.float32]:
    special = SPECIAL.get(name, 1)
    ways = {"cls": lambda: found["hidden"][:, 0], "mean": lambda: found["hidden"][:, special:].mean(1)}
    vectors = ways[pooling]() if pooling in ways else found[pooling]
    unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(vectors, dim=-1).numpy()
    return unit


def squares(pictures: list[Image.Image], size: int, processor: Any) -> list[Image.Image]:
    return [picture.resize((size, size), processor.resample) for picture in pictures]


def prepared(name: str, processor: Any, pictures: list[Image.Image], **arguments: Any) -> Any:
    if name == "siglip2":
        largest = (pictures[0].width // processor.patch_size) ** 2
        return processor(pictures, do_resize=False, max_num_patches=largest, return_tensors="pt")
    return processor(pictures, **arguments, return_tensors="pt")


def plain(name: str, folder: Path, size: int, pooling: str | None = None) -> npt.NDArray[np.float32]:
    """The library's own way, its processor set to a square of `size` pixels and no cropping."""
    processor = processor_of(name, folder)
    if name in ("siglip2", "convnext"):  # these processors cannot be set so
        inputs = prepared(name, processor, squares(PICTURES, size, processor), do_resize=False)
        if name == "convnext":
            inputs = processor(squares(PICTURES, size, processor), do_resize=False, return_tensors="pt")
    else:
        inputs = processor(PICTURES, size={"height": size, "width": size}, do_center_crop=False, return_tensors="pt")
    found = outputs(name, folder, inputs, interpolate=size != load_size(name))
    return vectors_of(name, found, pooling or USUAL[name])


def load_size(name: str) -> int:
    return {"dinov2": 42, "dinov3_convnext": 64}.get(name, 32)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_vectors_are_those_of_the_library(name: str, folder: Folders) -> None:
    vectors = ours(f"hf:{folder(name)}")
    np.testing.assert_allclose(vectors, plain(name, folder(name), load_size(name)), atol=1e-4)
    assert np.abs(vectors @ vectors.T - np.eye(3))[~np.eye(3, dtype=bool)].max() < 0.999


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_another_size_and_an_odd_one(name: str, folder: Folders) -> None:
    size = OTHER_SIZE.get(name, ODD_SIZE)
    vectors = ours(f"hf:{folder(name)},size={size}")
    np.testing.assert_allclose(vectors, plain(name, folder(name), size), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in CHECKPOINTS if name not in ("siglip2", "deit")])
def test_cropping_as_their_processor_does(name: str, folder: Folders) -> None:
    processor = processor_of(name, folder(name))
    arguments: dict[str, Any] = {}
    if not CHECKPOINTS[name][1].get("do_center_crop") and name != "convnext":  # those that stretch, told not to
        size = load_size(name)
        arguments = {"size": {"shortest_edge": size}, "do_center_crop": True}
        arguments["crop_size"] = {"height": size, "width": size}
    encoder = encoder_of(f"hf:{folder(name)},fit=crop")
    cuts = np.concatenate([whole(picture, encoder) for picture in PICTURES])
    pixels = processor(PICTURES, **arguments, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(cuts, pixels.transpose(0, 2, 3, 1))
    inputs = processor(PICTURES, **arguments, return_tensors="pt")
    theirs = vectors_of(name, outputs(name, folder(name), inputs, interpolate=False), USUAL[name])
    np.testing.assert_allclose(ours(f"hf:{folder(name)},fit=crop"), theirs, atol=1e-4)


@pytest.mark.parametrize("name", ["dinov3_vit", "dinov3_convnext"])
def test_close_to_a_processor_that_rounds_elsewhere(name: str, folder: Folders) -> None:
    pytest.importorskip("torchvision")
    inputs = transformers.AutoImageProcessor.from_pretrained(folder(name))(PICTURES, return_tensors="pt")
    theirs = vectors_of(name, outputs(name, folder(name), inputs, interpolate=False), USUAL[name])
    np.testing.assert_allclose(ours(f"hf:{folder(name)}"), theirs, atol=5e-3)


@pytest.mark.parametrize("name", ["dinov2", "siglip", "clip"])
@pytest.mark.parametrize("size", [None, ODD_SIZE])
def test_padding_with_the_mean_colour(name: str, size: int | None, folder: Folders) -> None:
    side = size or load_size(name)
    processor = processor_of(name, folder(name))
    padded = []
    for picture in PICTURES:
        longer = max(picture.size)
        width, height = (side * part // longer for part in picture.size)
        square = Image.new("RGB", (side, side), tuple(round(255 * part) for part in processor.image_mean))
        square.paste(picture.resize((width, height), processor.resample), ((side - width) // 2, (side - height) // 2))
        padded.append(square)
    inputs = processor(padded, do_resize=False, do_center_crop=False, return_tensors="pt")
    theirs = vectors_of(name, outputs(name, folder(name), inputs, interpolate=size is not None), USUAL[name])
    options = ",fit=pad" if size is None else f",size={size},fit=pad"
    np.testing.assert_allclose(ours(f"hf:{folder(name)}{options}"), theirs, atol=1e-4)


def test_parts_of_a_picture(folder: Folders) -> None:
    encoder = encoder_of(f"hf:{folder('dinov2')}")
    boxes = np.array([[3, 5, 40, 44], [20, 0, 61, 31]], dtype=np.float32)
    cuts = cut_regions(Picture(PICTURES[0], PICTURES[0].size), boxes, 42, encoder.resampling, encoder.fit)
    crops = [PICTURES[0].crop(tuple(int(side) for side in box)) for box in boxes]
    np.testing.assert_allclose(encoder.encode(cuts), ours(f"hf:{folder('dinov2')}", crops), atol=1e-4)


@pytest.mark.parametrize("name", ["dinov2", "clip", "siglip2"])
def test_large_pictures_stay_close(name: str, folder: Folders) -> None:
    large = [picture.resize((picture.width * 8, picture.height * 8), Image.Resampling.BICUBIC) for picture in PICTURES]
    processor = processor_of(name, folder(name))
    size = load_size(name)
    inputs = prepared(name, processor, squares(large, size, processor), do_resize=False, do_center_crop=False)
    theirs = vectors_of(name, outputs(name, folder(name), inputs, interpolate=False), USUAL[name])
    assert (ours(f"hf:{folder(name)}", large) * theirs).sum(1).min() > 0.999


POOLINGS = {
    "cls": [name for name in CHECKPOINTS if SPECIAL.get(name, 1)],
    "mean": list(CHECKPOINTS),
    "pooler": [name for name in CHECKPOINTS if name != "vit_classifier"],
    "projection": ["clip", "metaclip_2", "clip_vision_projected"],
}


@pytest.mark.parametrize(
    ("pooling", "name"), [(pooling, name) for pooling, names in POOLINGS.items() for name in names]
)
def test_every_pooling(pooling: str, name: str, folder: Folders) -> None:
    vectors = ours(f"hf:{folder(name)},pooling={pooling}")
    np.testing.assert_allclose(vectors, plain(name, folder(name), load_size(name), pooling), atol=1e-4)


@pytest.mark.parametrize(
    ("pooling", "name", "has"),
    [
        ("cls", "siglip", "mean, pooler"),
        ("cls", "siglip2", "mean, pooler"),
        ("cls", "swin", "mean, pooler"),
        ("cls", "convnext", "mean, pooler"),
        ("pooler", "vit_classifier", "cls, mean"),
        ("projection", "dinov2", "cls, mean, pooler"),
        ("projection", "clip_vision", "cls, mean, pooler"),
    ],
)
def test_pooling_that_a_model_lacks(pooling: str, name: str, has: str, folder: Folders) -> None:
    with pytest.raises(EncoderError, match=f"has no pooling={pooling}; it has {has}"):
        load_encoder(f"hf:{folder(name)},pooling={pooling}", device="cpu")


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("odd", [False, True])
def test_tokens_are_the_patches_in_their_places(name: str, odd: bool, folder: Folders) -> None:
    side = OTHER_SIZE.get(name, ODD_SIZE) if odd else load_size(name)
    encoder = encoder_of(f"hf:{folder(name)},size={side},pooling=mean")
    rows = ROWS.get(name, (4, 5))[odd]
    pixels = np.random.default_rng(5).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    with torch.inference_mode():
        tokens = encoder._network.tokens(encoder.normalised(pixels)).numpy()
    assert tokens.shape == (2, rows, rows, encoder.dimension)
    mean = tokens.reshape(2, rows * rows, -1).mean(1)
    np.testing.assert_allclose(mean / np.linalg.norm(mean, axis=1, keepdims=True), encoder.encode(pixels), atol=1e-5)


@pytest.mark.parametrize("name", ["dinov2_with_registers", "clip", "siglip", "siglip2", "convnext"])
def test_a_token_looks_most_at_its_own_place(name: str, folder: Folders) -> None:
    encoder = encoder_of(f"hf:{folder(name)}")
    grey = np.full((1, 32, 32, 3), 128, dtype=np.uint8)
    changed = grey.copy()
    changed[:, 8:16, 24:32] = (255, 0, 40)  # second row, last column of four
    with torch.inference_mode():
        before, after = (encoder._network.tokens(encoder.normalised(pixels)) for pixels in (grey, changed))
    moved = (after - before).norm(dim=-1)[0].numpy()
    assert np.unravel_index(moved.argmax(), moved.shape) == (1, 3)


@pytest.mark.parametrize(("name", "special"), [("dinov2_with_registers", 5), ("clip", 1), ("siglip", 0)])
@pytest.mark.parametrize(("height", "width"), [(24, 40), (64, 16), (32, 32)])
def test_tokens_of_a_picture_of_any_shape(name: str, special: int, height: int, width: int, folder: Folders) -> None:
    encoder = encoder_of(f"hf:{folder(name)}")
    picture = np.random.default_rng(6).integers(0, 256, (height, width, 3), dtype=np.uint8)
    tokens = encoder.patch_tokens(picture)
    assert tokens.shape[:2] == (height // 8, width // 8)
    changed = picture.copy()
    changed[8:16, 8:16] = 255 - changed[8:16, 8:16]
    moved = np.linalg.norm(encoder.patch_tokens(changed) - tokens, axis=2)
    assert np.unravel_index(moved.argmax(), moved.shape) == (1, 1)
    with torch.inference_mode():
        if name.startswith("dino"):  # whose model ends with the last norm
            whole = encoder._network.module(pixel_values=encoder.normalised(picture[None])).last_hidden_state
            np.testing.assert_allclose(tokens.reshape(-1, tokens.shape[2]), whole[0, special:], atol=1e-5)


def test_a_network_without_tokens_says_so(folder: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(f"hf:{folder('dinov2')}")
    with pytest.raises(EncoderError, match="does not take pictures of 3 x 5"):
        encoder.patch_tokens(np.zeros((5, 3, 3), dtype=np.uint8))
    monkeypatch.setattr(encoder, "_network", replace(encoder._network, tokens=None))
    with pytest.raises(EncoderError, match="has no patch tokens"):
        encoder.patch_tokens(np.zeros((32, 32, 3), dtype=np.uint8))


def test_sizes_that_are_no_whole_number_of_patches_are_refused_where_the_model_cannot(folder: Folders) -> None:
    with pytest.raises(EncoderError, match="size must be a multiple of it, such as 40"):
        load_encoder(f"hf:{folder('siglip2')},size=45", device="cpu")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["dinov2", "dinov3_vit", "siglip", "siglip2", "clip", "swin", "swinv2"])
def test_half_precision_stays_close(name: str, precision: str, folder: Folders) -> None:
    exact, rough = ours(f"hf:{folder(name)}"), ours(f"hf:{folder(name)},precision={precision}")
    assert (exact * rough).sum(1).min() > 0.995
    assert not np.array_equal(exact, rough)


def test_what_the_model_computes_for_itself_stays_exact_in_half_precision(folder: Folders) -> None:
    encoder = encoder_of(f"hf:{folder('dinov3_vit')},precision=bf16")
    with evaluated(transformers.AutoModel, folder("dinov3_vit")) as model:
        assert encoder._network.module.embeddings.cls_token.dtype == torch.bfloat16
        torch.testing.assert_close(
            encoder._network.module.rope_embeddings.inv_freq, model.rope_embeddings.inv_freq, rtol=0, atol=0
        )


def test_a_network_that_does_not_run_with_both_precisions_is_refused(
    folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotary = type(model_of(transformers.AutoModel, folder("dinov3_vit")).rope_embeddings)
    asked = rotary.forward

    def in_one_precision(self: Any, pixels: Any) -> Any:
        torch.ones(1, 1, dtype=pixels.dtype) @ self.inv_freq[:1, None]
        return asked(self, pixels)

    monkeypatch.setattr(rotary, "forward", in_one_precision)
    with pytest.raises(EncoderError, match=r"does not run in half precision \(.*\); say precision=fp32"):
        load_encoder(f"hf:{folder('dinov3_vit')},precision=bf16", device="cpu")


def test_only_the_vision_tower_is_loaded(folder: Folders) -> None:
    encoder = encoder_of(f"hf:{folder('clip')}")
    assert isinstance(encoder, TextEncoder)
    names = [name for name, _ in encoder._network.module.named_parameters()]
    assert names
    assert not [name for name in names if "text" in name]


def test_real_weights(shared_data: Path, tmp_path: Path) -> None:
    folder = write_transformers_deit(shared_data / "weights" / "deit_tiny_patch16_224.timm.safetensors", tmp_path)
    pictures = [Image.open(file).convert("RGB") for file in sorted((shared_data / "subjects").rglob("*.jpg"))[::40]]
    small = [picture.resize((picture.width // 2, picture.height // 2)) for picture in pictures]
    vectors = ours(f"hf:{folder}", small)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    size = {"height": 224, "width": 224}
    with evaluated(transformers.ViTModel, folder) as model:
        inputs = processor(small, size=size, do_center_crop=False, return_tensors="pt")
        theirs = torch.nn.functional.normalize(model(**inputs).last_hidden_state[:, 0], dim=-1).numpy()
    np.testing.assert_allclose(vectors, theirs, atol=1e-4)
    assert vectors.shape == (len(pictures), 192)
