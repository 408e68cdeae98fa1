"""What is said of the encoders known by name, against architectures built without weights and the libraries' tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from patchwise.encoders import (
    EncoderSpec,
    TextEncoder,
    builtin,
    canonical_id,
    list_known,
    load_encoder,
    same_encoder,
)
from patchwise.encoders.known import KNOWN, KnownEncoder
from patchwise.encoders.registry import FAMILIES
from patchwise.errors import EncoderError

# The checkpoints for transformers, by the names that timm has for the same weights.
IN_TIMM = {
    "facebook/dinov2-small": "vit_small_patch14_dinov2.lvd142m",
    "facebook/dinov2-base": "vit_base_patch14_dinov2.lvd142m",
    "facebook/dinov2-large": "vit_large_patch14_dinov2.lvd142m",
    "facebook/dinov2-giant": "vit_giant_patch14_dinov2.lvd142m",
    "facebook/dinov2-with-registers-small": "vit_small_patch14_reg4_dinov2.lvd142m",
    "facebook/dinov2-with-registers-base": "vit_base_patch14_reg4_dinov2.lvd142m",
    "facebook/dinov2-with-registers-large": "vit_large_patch14_reg4_dinov2.lvd142m",
    "facebook/dinov2-with-registers-giant": "vit_giant_patch14_reg4_dinov2.lvd142m",
    "google/siglip-base-patch16-224": "vit_base_patch16_siglip_224.webli",
    "google/siglip-large-patch16-256": "vit_large_patch16_siglip_256.webli",
    "google/siglip-so400m-patch14-384": "vit_so400m_patch14_siglip_384.webli",
    "google/siglip2-base-patch16-224": "vit_base_patch16_siglip_224.v2_webli",
    "google/siglip2-large-patch16-256": "vit_large_patch16_siglip_256.v2_webli",
    # timm cuts the 384 pixels to the 27 patches of 14 that fit in.
    "google/siglip2-so400m-patch14-384": "vit_so400m_patch14_siglip_378.v2_webli",
}


def aliases(family: str) -> list[object]:
    found = [one for one in KNOWN.values() if EncoderSpec.parse(one.name).family == family]
    return [pytest.param(one, id=one.alias) for one in found]


def millions(module: Any) -> float:
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 1)


@cache
def timm_network(name: str) -> SimpleNamespace:
    """The architecture as timm builds it, without its classifier, on no memory; and what timm says of its weights."""
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    with torch.device("meta"):
        module = timm.create_model(name.partition(".")[0], pretrained=False, num_classes=0)
    return SimpleNamespace(
        dimension=module.num_features, parameters=millions(module), weights=timm.get_pretrained_cfg(name)
    )


def test_every_alias_is_here() -> None:
    sizes = {
        "dinov2": ("s", "b", "l", "g", "s-reg", "b-reg", "l-reg", "g-reg"),
        "dinov3": ("s", "b", "l"),
        "siglip": ("b", "l", "so400m"),
        "siglip2": ("b", "l", "so400m"),
        "clip": ("b32", "b16", "l14"),
        "openclip": ("b32", "b32-datacomp", "b16", "l14", "h14"),
    }
    expected = [f"{kind}-{size}" for kind, kinds in sizes.items() for size in kinds]
    assert list(KNOWN) == ["builtin", *expected]
    assert all(KNOWN[alias].alias == alias for alias in KNOWN)


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_names_are_canonical_and_of_known_families(known: KnownEncoder) -> None:
    assert canonical_id(known.alias) == canonical_id(known.name) == known.name
    assert EncoderSpec.parse(known.name).family in FAMILIES


@pytest.mark.parametrize("known", aliases("hf"))
def test_transformers_encoders_are_as_timm_builds_them(known: KnownEncoder) -> None:
    assert known.name == f"hf:{known.repository}"
    twin = timm_network(IN_TIMM[known.repository])
    assert (known.dimension, known.million_parameters) == (twin.dimension, twin.parameters)
    assert known.licence.lower() == twin.weights.license
    assert known.texts == ("siglip" in known.repository)


@pytest.mark.parametrize("known", aliases("hf"))
def test_transformers_encoders_have_their_input_size(known: KnownEncoder) -> None:
    transformers = pytest.importorskip("transformers")
    if "dinov2" in known.repository:
        # Trained last at 518 pixels, as timm has it; its processor in transformers cuts out this many.
        processor = transformers.BitImageProcessor()
        assert known.input_size == processor.crop_size["height"] == processor.crop_size["width"]
        assert timm_network(IN_TIMM[known.repository]).weights.input_size[1] == 518
    else:
        patch = int(known.repository.partition("patch")[2].partition("-")[0])
        assert known.repository.endswith(f"-{known.input_size}")
        side = timm_network(IN_TIMM[known.repository]).weights.input_size[1]
        assert known.input_size // patch == side // patch


@pytest.mark.parametrize("known", aliases("timm"))
def test_timm_encoders_are_as_timm_says(known: KnownEncoder) -> None:
    network = timm_network(EncoderSpec.parse(known.name).reference)
    assert (known.dimension, known.million_parameters) == (network.dimension, network.parameters)
    assert (known.input_size, known.input_size) == network.weights.input_size[1:]
    assert known.repository == network.weights.hf_hub_id
    assert known.licence.lower().replace(" ", "-") == network.weights.license
    assert not known.texts


@pytest.mark.parametrize("known", aliases("timm"))
def test_dinov3_gives_the_class_token_as_its_authors_do(known: KnownEncoder) -> None:
    timm = pytest.importorskip("timm")
    assert EncoderSpec.parse(known.name).options.given() == {"pooling": "cls"}
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        module = timm.create_model(EncoderSpec.parse(known.name).reference.partition(".")[0], num_classes=0)
    # Normalised before it is pooled, so that the class token needs nothing more.
    assert isinstance(module.norm, torch.nn.LayerNorm) and isinstance(module.fc_norm, torch.nn.Identity)


@pytest.mark.parametrize("known", aliases("open_clip"))
def test_open_clip_encoders_are_as_open_clip_builds_them(known: KnownEncoder) -> None:
    torch, open_clip = pytest.importorskip("torch"), pytest.importorskip("open_clip")
    architecture, _, tag = EncoderSpec.parse(known.name).reference.partition("/")
    with torch.device("meta"):
        module = open_clip.model.CLIP(**open_clip.get_model_config(architecture))
    assert known.dimension == module.visual.output_dim
    assert (known.input_size, known.input_size) == module.visual.image_size
    assert known.million_parameters == millions(module.visual)
    assert known.texts and module.transformer is not None
    published = open_clip.get_pretrained_cfg(architecture, tag)
    assert known.repository == published["hf_hub"].rstrip("/")


@pytest.mark.parametrize("known", aliases("open_clip"))
def test_licences_of_open_clip_encoders(known: KnownEncoder) -> None:
    """LAION's repositories are under MIT by their cards; timm's copies under what timm says."""
    if known.repository.startswith("laion/"):
        assert known.licence == "MIT"
    else:
        assert known.licence.lower() == timm_network(known.repository.partition("/")[2]).weights.license


def test_the_built_in_encoder_is_as_shipped() -> None:
    onnx = pytest.importorskip("onnx")
    known, encoder = KNOWN["builtin"], load_encoder("builtin")
    assert (known.dimension, known.input_size) == (encoder.dimension, encoder.input_size)
    graph = onnx.load(str(Path(builtin.__file__).parent / "weights" / "efficientnet_lite0.onnx")).graph
    sizes = {one.name: int(np.prod(one.dims)) for one in graph.initializer}
    quantised = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    learned = [name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]]  # kernels and biases
    assert known.million_parameters == round(sum(sizes[quantised.get(name, name)] for name in learned) / 1e6, 1)
    assert (known.repository, known.texts) == ("", False)


COMMIT = "4a0f3e1" + "0" * 33


@pytest.fixture
def in_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Where the hub's cache, which is empty, keeps a repository's files at `COMMIT`."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def folder(repository: str) -> Path:
        place = tmp_path / f"models--{repository.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(COMMIT)
        (place / "snapshots" / COMMIT).mkdir(parents=True)
        return place / "snapshots" / COMMIT

    return folder


def dinov2(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    configuration = transformers.Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14
    )
    transformers.Dinov2Model(configuration).save_pretrained(folder)
    transformers.BitImageProcessor(size={"shortest_edge": 256}).save_pretrained(folder)


def dinov3(folder: Path) -> None:
    timm, safetensors = pytest.importorskip("timm"), pytest.importorskip("safetensors.torch")
    module = timm.create_model("vit_small_patch16_dinov3.lvd1689m", pretrained=False)
    safetensors.save_file(module.state_dict(), str(folder / "model.safetensors"))


def clip(folder: Path) -> None:
    open_clip, safetensors = pytest.importorskip("open_clip"), pytest.importorskip("safetensors.torch")
    module = open_clip.model.CLIP(**open_clip.get_model_config("ViT-B-32"))
    safetensors.save_file(module.half().state_dict(), str(folder / "open_clip_model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize(("alias", "write"), [("dinov2-s", dinov2), ("dinov3-s", dinov3), ("clip-b32", clip)])
def test_an_alias_loads_what_it_says_from_the_cache(
    alias: str, write: Callable[[Path], None], in_cache: Callable[[str], Path]
) -> None:
    """With random weights, at full size: real loading code from the repository's name to vectors."""
    known = KNOWN[alias]
    with pytest.raises(EncoderError, match=r"not on this machine.*Three ways out"):
        load_encoder(alias, device="cpu")
    assert {one.encoder.alias: one.weights for one in list_known()}[alias] == "to download"
    write(in_cache(known.repository))
    assert {one.encoder.alias: one.weights for one in list_known()}[alias] == "here"
    encoder = load_encoder(alias, device="cpu")
    assert (encoder.dimension, encoder.input_size) == (known.dimension, known.input_size)
    assert isinstance(encoder, TextEncoder) is known.texts
    assert f"@{COMMIT}" in encoder.id and same_encoder(alias, encoder.id)
    side = known.input_size
    vectors = encoder.encode(np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8))
    assert vectors.shape == (2, known.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
