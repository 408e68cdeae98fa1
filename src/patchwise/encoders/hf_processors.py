"""Preprocessing as the processor of a transformers checkpoint does it, read from its own file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from patchwise.encoders.hf_loading import reason
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.vision_packages import in_one_line
from patchwise.errors import EncoderError

__all__ = ["FILES", "read_preprocessing"]

FILES = ("preprocessor_config.json", "processor_config.json")
# Pillow's numbers for its filters.
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_OFFERED = ("lanczos", "bilinear", "bicubic")
# Processors without a Pillow backend, which do what the one for ViT does; theirs resizes after rescaling.
_LIKE_VIT = ("DINOv3ViTImageProcessor",)
_COLOUR_TOLERANCE = 1e-4


def read_preprocessing(spec: EncoderSpec, folder: Path, transformers: Any) -> Preprocessing:
    """What the processor of a checkpoint does to a picture.

    `fit=crop` of the result is what the processor does where it keeps the aspect of pictures. A few (DeiT's) stretch a
    picture before they cut out its middle; there it keeps the aspect, as the transform did that they were trained with.

    Raises:
        EncoderError: the checkpoint does not say, or its processor does what cannot be done here.
    """
    processor = _processor(folder, transformers)
    kind = type(processor).__name__
    _check_colours(folder, processor)
    asked = spec.options.resampling
    resampling = asked or _RESAMPLING[int(2 if processor.resample is None else processor.resample)]
    if resampling not in _OFFERED:
        raise EncoderError(
            f"encoder {spec}: {kind} resizes by {resampling!r}, which patchwise does not; say resampling=bicubic"
        )
    size, short_side = _sides(spec, processor)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    return Preprocessing(
        size,
        resampling,
        mean=_of_channels(mean),
        std=_of_channels(std),
        rescale=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        short_side=short_side,
    )


def _processor(folder: Path, transformers: Any) -> Any:
    """Their processor in its form for Pillow, which does not ask for torchvision."""
    if not _described(folder):
        raise EncoderError(
            f"{folder}: no {FILES[0]} there, which says how pictures become its input (mean, std, size). Copy it from "
            "where the checkpoint came from, or write it with save_pretrained of the model's image processor"
        )
    try:
        written = transformers.models.auto.image_processing_auto.get_image_processor_config(
            str(folder), local_files_only=True
        )
        if str(written.get("image_processor_type", "")).removesuffix("Fast") in _LIKE_VIT:
            mean, std = transformers.image_utils.IMAGENET_DEFAULT_MEAN, transformers.image_utils.IMAGENET_DEFAULT_STD
            return transformers.ViTImageProcessorPil(**{"image_mean": mean, "image_std": std, **written})
        return transformers.AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, backend="pil", trust_remote_code=False
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise EncoderError(
            f"{folder}: its image processor cannot be read by transformers {transformers.__version__} ({reason(error)})"
        ) from error


def _described(folder: Path) -> bool:
    if (folder / FILES[0]).is_file():
        return True
    try:
        return "image_processor" in json.loads((folder / FILES[1]).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _sides(spec: EncoderSpec, processor: Any) -> tuple[int, int]:
    """The side of the square input, and what the shorter side of a picture becomes before the middle is cut out."""
    if hasattr(processor, "max_num_patches"):  # SigLIP2 of any resolution: the largest square of that many patches
        largest = int(processor.patch_size) * math.isqrt(int(processor.max_num_patches))
        return largest, largest
    resized, cropped = processor.size, processor.crop_size if processor.do_center_crop else None
    edge = _edge(resized) if processor.do_resize and resized is not None else None
    side = _edge(cropped) if cropped is not None else edge
    if side is None:
        if spec.options.size is None:
            raise EncoderError(
                f"encoder {spec}: its {type(processor).__name__} resizes to no square ({resized}); regions are square, "
                "so say size=PIXELS"
            )
        return spec.options.size, spec.options.size
    if cropped is None and getattr(processor, "crop_pct", None) and side < 384:  # ConvNeXt, whose own limit this is
        return side, int(side / processor.crop_pct)
    return side, edge or side


def _edge(size: Any) -> int | None:
    if size.shortest_edge:
        return int(size.shortest_edge)
    return int(size.height) if size.height and size.height == size.width else None


def _of_channels(values: Any) -> tuple[float, ...]:
    """One number for each of red, green and blue."""
    return tuple(float(value) for value in np.broadcast_to(np.asarray(values, dtype=np.float64), 3))


def _check_colours(folder: Path, processor: Any) -> None:
    """Refuse processors that do more to colours than to rescale and normalise them."""
    if hasattr(processor, "max_num_patches"):
        return
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    try:
        found = processor(pixels, do_resize=False, do_center_crop=False, do_pad=False, return_tensors="np")
        theirs = np.asarray(found["pixel_values"][0], dtype=np.float64)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EncoderError(
            f"{folder}: {type(processor).__name__} cannot be followed here ({in_one_line(error)})"
        ) from error
    rescale = processor.rescale_factor if processor.do_rescale else 1.0
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    ours = ((pixels * rescale - np.asarray(_of_channels(mean))) / np.asarray(_of_channels(std))).transpose(2, 0, 1)
    if theirs.shape != ours.shape or np.abs(theirs - ours).max() > _COLOUR_TOLERANCE * max(np.abs(ours).max(), 1.0):
        raise EncoderError(
            f"{folder}: {type(processor).__name__} does more to colours than to rescale and normalise them, which "
            "patchwise does not reproduce"
        )
