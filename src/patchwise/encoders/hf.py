"""Backbones of the transformers library: DINOv2, DINOv3, SigLIP, SigLIP2, CLIP, and others of their kind."""

from __future__ import annotations

import json
from typing import Any

from patchwise.encoders.hub import checkpoint
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.torch_runtime import Network, TorchEncoder, import_torch, torch_encoder, weights_digest

__all__ = ["load"]


def load(spec: EncoderSpec) -> TorchEncoder:
    """Load `hf:OWNER/NAME` or `hf:FOLDER`."""
    spec.allow(("size", "fit", "resampling", "pooling", "precision", "encode", "picture_size"))
    import_torch(spec)
    import transformers

    found = checkpoint(spec)
    model = transformers.AutoModel.from_pretrained(found.folder, local_files_only=True, use_safetensors=True)
    raw = json.loads((found.folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    size = raw.get("crop_size") or raw["size"]
    side = size.get("height") or size["shortest_edge"]
    preprocessing = Preprocessing(side, mean=tuple(raw["image_mean"]), std=tuple(raw["image_std"]))

    def features(pixels: Any) -> Any:
        return model(pixel_values=pixels).last_hidden_state[:, 0]

    return torch_encoder(found.spec, Network(model, features), preprocessing, weights_digest(found.weights))
