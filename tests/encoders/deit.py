"""DeiT-tiny's real weights, from the keys of timm to those of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

__all__ = ["write_transformers_deit"]

_RENAMED = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_RENAMED_IN_BLOCKS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def write_transformers_deit(timm_file: Path, folder: Path) -> Path:
    """Write the checkpoint of a ViT without its classifier, in the keys that transformers has used since version 3.

    Preprocessing is timm's for these weights: bicubic, the shorter side 248 pixels, the middle 224 of them.
    """
    safetensors = pytest.importorskip("safetensors.torch")
    transformers = pytest.importorskip("transformers")
    weights = safetensors.load_file(str(timm_file))
    width = weights["cls_token"].shape[-1]
    renamed = {}
    for name, tensor in weights.items():
        if name in _RENAMED:
            renamed[_RENAMED[name]] = tensor
        elif name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            layer = f"encoder.layer.{number}"
            if part == "attn.qkv":
                for role, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    renamed[f"{layer}.attention.attention.{role}.{kind}"] = piece.contiguous()
            else:
                renamed[f"{layer}.{_RENAMED_IN_BLOCKS[part]}.{kind}"] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save_file(renamed, str(folder / "model.safetensors"), metadata={"format": "pt"})
    transformers.ViTConfig(
        hidden_size=width,
        num_hidden_layers=12,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        layer_norm_eps=1e-6,
        image_size=224,
        patch_size=16,
    ).save_pretrained(folder)
    preprocessing = {
        "image_processor_type": "BitImageProcessor",
        "resample": 3,
        "size": {"shortest_edge": 248},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing), encoding="utf-8")
    return folder
