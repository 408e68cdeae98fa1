"""Preprocessing: what options make of it, and how it is read from the files of transformers checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.spec import EncoderOptions, EncoderSpec
from patchwise.errors import EncoderError
from patchwise.images import SQUARE, Fit

OWN = Preprocessing(224, short_side=256, mean=(0.5, 0.25, 0.0), std=(0.2, 0.2, 0.2))


def test_a_region_is_stretched_unless_options_say_otherwise() -> None:
    asked = OWN.asked(EncoderOptions())
    assert (asked.size, asked.resampling, asked.fit) == (224, "bicubic", SQUARE)


def test_the_margin_around_the_middle_grows_with_the_size() -> None:
    assert OWN.asked(EncoderOptions(fit="crop")).fit == Fit("crop", short_side=256)
    assert OWN.asked(EncoderOptions(fit="crop", size=448)).fit == Fit("crop", short_side=512)
    assert Preprocessing(224).asked(EncoderOptions(fit="crop", size=300)).fit == Fit("crop", short_side=300)


def test_padding_is_of_the_mean_colour() -> None:
    assert OWN.asked(EncoderOptions(fit="pad")).fit == Fit("pad", fill=(128, 64, 0))
    bytes_as_they_are = Preprocessing(64, mean=(120.0, 7.0, 300.0), rescale=1.0)
    assert bytes_as_they_are.asked(EncoderOptions(fit="pad")).fit.fill == (120, 7, 255)


def test_resampling_as_asked() -> None:
    assert OWN.asked(EncoderOptions(resampling="bilinear")).resampling == "bilinear"


def test_the_digest_is_of_the_colours() -> None:
    same = Preprocessing(512, "bilinear", mean=OWN.mean, std=OWN.std)
    assert OWN.digest() == same.digest()
    others = [Preprocessing(224, mean=OWN.mean), Preprocessing(224, std=OWN.std)]
    others.append(Preprocessing(224, mean=OWN.mean, std=OWN.std, rescale=1.0))
    assert len({OWN.digest(), *(one.digest() for one in others)}) == 4


@pytest.fixture
def transformers() -> Any:
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


COLOURS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


def read(
    transformers: Any, folder: Path, written: dict[str, Any], kind: str = "vit", options: str = ""
) -> Preprocessing:
    from patchwise.encoders.hf_processors import read_preprocessing

    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    if written:
        (folder / "preprocessor_config.json").write_text(json.dumps(written))
    return read_preprocessing(EncoderSpec.parse(f"hf:{folder}{options}"), folder, transformers)


@pytest.mark.parametrize(
    ("written", "size", "short_side", "resampling"),
    [
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 192}, 192, 192, "bilinear"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 96, "width": 96}}, 96, 96, "bilinear"),
        ({"image_processor_type": "ViTImageProcessorFast", "resample": 1}, 224, 224, "lanczos"),
        (
            {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "crop_size": 224},
            224,
            256,
            "bicubic",
        ),
        (
            {
                "feature_extractor_type": "CLIPFeatureExtractor",
                "size": 336,
                "crop_size": 336,
                "do_center_crop": True,
                "resample": 3,
            },
            336,
            336,
            "bicubic",
        ),
        (
            {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 200}, "do_center_crop": False},
            200,
            200,
            "bicubic",
        ),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}, 224, 256, "bicubic"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}, 384, 384, "bicubic"),
        ({"image_processor_type": "DINOv3ViTImageProcessorFast", "resample": 2}, 224, 224, "bilinear"),
        (
            {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 14, "max_num_patches": 300, "resample": 2},
            238,
            238,
            "bilinear",
        ),
    ],
)
def test_what_processors_say(
    written: dict[str, Any], size: int, short_side: int, resampling: str, transformers: Any, tmp_path: Path
) -> None:
    found = read(transformers, tmp_path, {**COLOURS, **written})
    assert (found.size, found.short_side, found.resampling) == (size, short_side, resampling)
    assert (found.mean, found.std, found.rescale) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), pytest.approx(1 / 255))


def test_without_normalising_or_rescaling(transformers: Any, tmp_path: Path) -> None:
    plain = read(
        transformers, tmp_path, {"image_processor_type": "ViTImageProcessor", **COLOURS, "do_normalize": False}
    )
    assert (plain.mean, plain.std) == ((0.0,) * 3, (1.0,) * 3)
    raw = {
        "image_processor_type": "ViTImageProcessor",
        "do_rescale": False,
        "image_mean": [120] * 3,
        "image_std": [60] * 3,
    }
    found = read(transformers, tmp_path, raw)
    assert (found.mean, found.std, found.rescale) == ((120.0,) * 3, (60.0,) * 3, 1.0)


def test_dinov3_without_its_numbers_is_normalised_as_its_processor_does(transformers: Any, tmp_path: Path) -> None:
    found = read(transformers, tmp_path, {"image_processor_type": "DINOv3ViTImageProcessor"})
    assert (found.mean, found.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_the_form_of_transformers_5(transformers: Any, tmp_path: Path) -> None:
    nested = {"image_processor_type": "SiglipImageProcessor", **COLOURS, "size": {"height": 64, "width": 64}}
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"processor_class": "SiglipProcessor", "image_processor": nested})
    )
    found = read(transformers, tmp_path, {}, kind="siglip")
    assert (found.size, found.mean) == (64, (0.1, 0.2, 0.3))


@pytest.mark.parametrize("written", [None, {"processor_class": "CLIPProcessor"}])
def test_a_checkpoint_that_does_not_say(written: dict[str, Any] | None, transformers: Any, tmp_path: Path) -> None:
    if written is not None:
        (tmp_path / "processor_config.json").write_text(json.dumps(written))
    with pytest.raises(EncoderError, match=r"no preprocessor_config\.json there.*Copy it from"):
        read(transformers, tmp_path, {})


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"image_processor_type": "OfAnotherTimeImageProcessor"}, "cannot be read by transformers"),
        ({"image_processor_type": "ViTImageProcessor", "resample": 0}, "resizes by 'nearest'.*say resampling=bicubic"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 128}}, "say size=PIXELS"),
        ({"image_processor_type": "MobileViTImageProcessor"}, "does more to colours than to rescale and normalise"),
        ({"image_processor_type": "EfficientNetImageProcessor", **COLOURS}, "does more to colours"),
    ],
)
def test_what_cannot_be_done_here(written: dict[str, Any], says: str, transformers: Any, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=says) as caught:
        read(transformers, tmp_path, written)
    assert "\n" not in str(caught.value)


def test_options_instead_of_what_cannot_be_done(transformers: Any, tmp_path: Path) -> None:
    odd = {"image_processor_type": "ViTImageProcessor", "resample": 0, "size": {"height": 64, "width": 128}}
    found = read(transformers, tmp_path, odd, options=",size=48,resampling=bilinear")
    assert (found.size, found.resampling) == (48, "bilinear")
