"""Backbones that people know by name: a short alias for each, and what to expect of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["KNOWN", "KnownEncoder"]

_DINOV3 = "DINOv3 License"


@dataclass(frozen=True)
class KnownEncoder:
    """What `alias` stands for.

    Args:
        alias: the short name.
        name: the full name, as `EncoderSpec.parse` reads it.
        repository: on the hub, with its weights as safetensors, readable by everybody; "" where none are needed.
        dimension: length of a vector.
        input_size: side of the square input in pixels.
        million_parameters: of the network that looks at pictures, its projection included; a network that reads texts
            is not counted.
        licence: of the weights, as their repository names it.
        texts: whether it reads texts.
    """

    alias: str
    name: str
    repository: str
    dimension: int
    input_size: int
    million_parameters: float
    licence: str
    texts: bool = False


def _hf(
    alias: str, repository: str, dimension: int, input_size: int, parameters: float, texts: bool = False
) -> KnownEncoder:
    return KnownEncoder(alias, f"hf:{repository}", repository, dimension, input_size, parameters, "Apache-2.0", texts)


def _clip(alias: str, reference: str, repository: str, licence: str, dimension: int, parameters: float) -> KnownEncoder:
    return KnownEncoder(alias, f"open_clip:{reference}", repository, dimension, 224, parameters, licence, texts=True)


def _dinov3(alias: str, architecture: str, dimension: int, parameters: float) -> KnownEncoder:
    # The owner's repositories (facebook/dinov3-...) ask for an application first; timm's copies do not. timm would take
    # the mean of the tokens; the owner's code, and transformers with it, take the class token.
    reference = f"{architecture}.lvd1689m"
    return KnownEncoder(
        alias, f"timm:{reference},pooling=cls", f"timm/{reference}", dimension, 256, parameters, _DINOV3
    )


# OpenAI's own repositories of CLIP hold no safetensors, timm's copies do. Those of OpenCLIP on DataComp hold them for
# ViT-B-32 only.
_ALL = (
    KnownEncoder("builtin", "builtin", "", 256, 224, 3.4, "Apache-2.0"),
    _hf("dinov2-s", "facebook/dinov2-small", 384, 224, 22.1),
    _hf("dinov2-b", "facebook/dinov2-base", 768, 224, 86.6),
    _hf("dinov2-l", "facebook/dinov2-large", 1024, 224, 304.4),
    _hf("dinov2-g", "facebook/dinov2-giant", 1536, 224, 1136.5),
    _hf("dinov2-s-reg", "facebook/dinov2-with-registers-small", 384, 224, 22.1),
    _hf("dinov2-b-reg", "facebook/dinov2-with-registers-base", 768, 224, 86.6),
    _hf("dinov2-l-reg", "facebook/dinov2-with-registers-large", 1024, 224, 304.4),
    _hf("dinov2-g-reg", "facebook/dinov2-with-registers-giant", 1536, 224, 1136.5),
    _dinov3("dinov3-s", "vit_small_patch16_dinov3", 384, 21.6),
    _dinov3("dinov3-b", "vit_base_patch16_dinov3", 768, 85.6),
    _dinov3("dinov3-l", "vit_large_patch16_dinov3", 1024, 303.1),
    _hf("siglip-b", "google/siglip-base-patch16-224", 768, 224, 92.9, texts=True),
    _hf("siglip-l", "google/siglip-large-patch16-256", 1024, 256, 316.0, texts=True),
    _hf("siglip-so400m", "google/siglip-so400m-patch14-384", 1152, 384, 428.2, texts=True),
    _hf("siglip2-b", "google/siglip2-base-patch16-224", 768, 224, 92.9, texts=True),
    _hf("siglip2-l", "google/siglip2-large-patch16-256", 1024, 256, 316.0, texts=True),
    _hf("siglip2-so400m", "google/siglip2-so400m-patch14-384", 1152, 384, 428.2, texts=True),
    _clip("clip-b32", "ViT-B-32/openai", "timm/vit_base_patch32_clip_224.openai", "Apache-2.0", 512, 87.8),
    _clip("clip-b16", "ViT-B-16/openai", "timm/vit_base_patch16_clip_224.openai", "Apache-2.0", 512, 86.2),
    _clip("clip-l14", "ViT-L-14/openai", "timm/vit_large_patch14_clip_224.openai", "Apache-2.0", 768, 304.0),
    _clip("openclip-b32", "ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "MIT", 512, 87.8),
    _clip(
        "openclip-b32-datacomp",
        "ViT-B-32/datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "MIT",
        512,
        87.8,
    ),
    _clip("openclip-b16", "ViT-B-16/laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "MIT", 512, 86.2),
    _clip("openclip-l14", "ViT-L-14/laion2b_s32b_b82k", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "MIT", 768, 304.0),
    _clip("openclip-h14", "ViT-H-14/laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "MIT", 1024, 632.1),
)

KNOWN: Mapping[str, KnownEncoder] = MappingProxyType({one.alias: one for one in _ALL})
