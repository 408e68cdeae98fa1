"""Tiny checkpoints in the form of transformers, one for each kind of model, with weights at random everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

_VIT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_VIT, "image_size": 32, "patch_size": 8}
_TEXT = {**_VIT, "max_position_embeddings": 12}
_COLOURS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
WORDS = ("a", "red", "bicycle", "with", "basket", "blue", "cup", "of", "tea")
_SPECIAL = {"clip": ("<start>", "<end>"), "siglip": ("<pad>", "</s>")}


def _square(kind: str, size: int, resample: int) -> dict[str, Any]:
    return {"image_processor_type": kind, **_COLOURS, "resample": resample, "size": {"height": size, "width": size}}


def _cropped(kind: str, edge: int, size: int) -> dict[str, Any]:
    crop = {"do_center_crop": True, "crop_size": {"height": size, "width": size}}
    return {"image_processor_type": kind, **_COLOURS, "resample": 3, "size": {"shortest_edge": edge}, **crop}


def _clip() -> Any:
    text = {**_TEXT, "vocab_size": 40, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=24))


def _metaclip_2() -> Any:
    text = {**_TEXT, "vocab_size": 40, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.MetaClip2Config(text_config=text, vision_config=_VISION, projection_dim=24)
    return transformers.MetaClip2Model(config)


def _siglip() -> Any:
    text = {**_TEXT, "vocab_size": 40, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "projection_size": 32}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=_VISION))


def _siglip2() -> Any:
    text = {**_TEXT, "vocab_size": 40, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "projection_size": 32}
    vision = {**_VIT, "patch_size": 8, "num_patches": 16}
    return transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision))


def _dinov3_convnext() -> Any:
    config = transformers.DINOv3ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], image_size=64)
    return transformers.DINOv3ConvNextModel(config)


def _swin() -> Any:
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[1, 2], window_size=4
    )
    return transformers.SwinModel(config)


def _swinv2() -> Any:
    config = transformers.Swinv2Config(
        image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[1, 2], window_size=4
    )
    return transformers.Swinv2Model(config)


def _convnext() -> Any:
    return transformers.ConvNextModel(transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2))


# Name -> how its model is built, and what its image processor is written as.
CHECKPOINTS: Mapping[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "dinov2": (
        lambda: transformers.Dinov2Model(transformers.Dinov2Config(**{**_VISION, "image_size": 70, "patch_size": 14})),
        _cropped("BitImageProcessor", 48, 42),
    ),
    "dinov2_with_registers": (
        lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**_VISION)),
        _cropped("BitImageProcessor", 36, 32),
    ),
    "dinov3_vit": (
        lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**_VISION, num_register_tokens=4)),
        {**_square("DINOv3ViTImageProcessorFast", 32, 2), "do_rescale": True, "rescale_factor": 1 / 255},
    ),
    "dinov3_convnext": (_dinov3_convnext, _square("DINOv3ViTImageProcessorFast", 64, 2)),
    "siglip": (_siglip, _square("SiglipImageProcessor", 32, 3)),
    "siglip2": (
        _siglip2,
        {"image_processor_type": "Siglip2ImageProcessor", **_COLOURS, "patch_size": 8, "max_num_patches": 16},
    ),
    "clip": (_clip, _cropped("CLIPImageProcessor", 32, 32)),
    "metaclip_2": (_metaclip_2, _cropped("CLIPImageProcessor", 32, 32)),
    "clip_vision": (
        lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**_VISION)),
        _cropped("CLIPImageProcessor", 35, 32),
    ),
    "clip_vision_projected": (
        lambda: transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**_VISION, projection_dim=24)),
        _cropped("CLIPImageProcessor", 32, 32),
    ),
    "vit": (
        lambda: transformers.ViTModel(transformers.ViTConfig(**_VISION)),
        {"feature_extractor_type": "ViTFeatureExtractor", **_COLOURS, "resample": 1, "size": 32},
    ),
    "vit_classifier": (
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**_VISION)),
        _square("ViTImageProcessor", 32, 2),
    ),
    "deit": (
        lambda: transformers.DeiTModel(transformers.DeiTConfig(**_VISION)),
        {
            "feature_extractor_type": "DeiTFeatureExtractor",
            **_COLOURS,
            "resample": 3,
            "size": 36,
            "do_center_crop": True,
            "crop_size": 32,
        },
    ),
    "beit": (lambda: transformers.BeitModel(transformers.BeitConfig(**_VISION)), _square("BeitImageProcessor", 32, 3)),
    "swin": (_swin, _square("ViTImageProcessor", 32, 3)),
    "swinv2": (_swinv2, _square("ViTImageProcessor", 32, 3)),
    "convnext": (
        _convnext,
        {
            "image_processor_type": "ConvNextImageProcessor",
            **_COLOURS,
            "resample": 3,
            "size": {"shortest_edge": 32},
            "crop_pct": 0.8,
        },
    ),
}


def stirred(model: Any) -> Any:
    """Weights so far from one another that vectors of different pictures differ, and everything has a part in them."""
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.15 if parameter.ndim > 1 else 0.05
            parameter.add_(spread * torch.randn_like(parameter))
    return model.eval()


def write_checkpoint(name: str, folder: Path, **saving: Any) -> Path:
    """Write `CHECKPOINTS[name]`, with a tokenizer where it reads texts."""
    build, processor = CHECKPOINTS[name]
    torch.manual_seed(len(name))
    stirred(build()).save_pretrained(folder, **saving)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    if name in ("clip", "metaclip_2", "siglip", "siglip2"):
        write_tokenizer(folder, "siglip" if name.startswith("siglip") else "clip")
    return folder


def write_tokenizer(folder: Path, kind: str, lower: bool = False) -> None:
    """A tokenizer of single words, which closes texts as that of CLIP (start, end) or SigLIP (end) does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    first, second = _SPECIAL[kind]
    known = [first, second, "<unk>", *WORDS, *(word.upper() for word in WORDS)]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(known))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        made.normalizer = normalizers.Lowercase()
    form = f"{first} $A {second}" if kind == "clip" else f"$A {second}"
    numbers = [(word, vocabulary[word]) for word in (first, second) if word in form]
    made.post_processor = processors.TemplateProcessing(single=form, special_tokens=numbers)
    inputs = ["input_ids", "attention_mask"] if kind == "clip" else ["input_ids"]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=second if kind == "clip" else first,
        unk_token="<unk>",
        eos_token=second,
        model_input_names=inputs,
        model_max_length=_TEXT["max_position_embeddings"],
    )
    tokenizer.save_pretrained(folder)
