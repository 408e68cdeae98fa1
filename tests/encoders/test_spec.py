"""The language of encoder names: families, references that may hold anything, options from the right."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.encoders import EncoderOptions, EncoderSpec
from patchwise.errors import EncoderError


@pytest.mark.parametrize(
    ("text", "family", "reference", "options"),
    [
        ("builtin", "builtin", "", {}),
        (" builtin \n", "builtin", "", {}),
        ("hf:facebook/dinov2-small", "hf", "facebook/dinov2-small", {}),
        ("hf:facebook/dinov2-small,size=336", "hf", "facebook/dinov2-small", {"size": 336}),
        ("timm:vit.tag@abc,fit=pad,size=448", "timm", "vit.tag@abc", {"fit": "pad", "size": 448}),
        ("hf:/a,1=2/d,size=1", "hf", "/a,1=2/d", {"size": 1}),
        ("hf:/a, b,size=8192", "hf", "/a, b", {"size": 8192}),
        ("hf:C:\\models", "hf", "C:\\models", {}),
        ("onnx:net.onnx,mean=0.5/0.5/0.5,std=1/2/3,output=last", "onnx", "net.onnx",
         {"mean": (0.5, 0.5, 0.5), "std": (1.0, 2.0, 3.0), "output": "last"}),
        ("x:,precision=bf16,encode=dense,picture_size=448,pooling=mean,resampling=bicubic", "x", "",
         {"precision": "bf16", "encode": "dense", "picture_size": 448, "pooling": "mean", "resampling": "bicubic"}),
        ("x:y,weights=/w.safetensors,adapt=/a.pth", "x", "y", {"weights": "/w.safetensors", "adapt": "/a.pth"}),
        ("", "", "", {}),
    ],
)  # fmt: skip
def test_reading(text: str, family: str, reference: str, options: dict[str, object]) -> None:
    spec = EncoderSpec.parse(text)
    assert (spec.family, spec.reference, spec.options.given()) == (family, reference, options)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("colour=red", r"unknown option 'colour'; known are size, fit, .*adapt"),
        ("size=0", "size=0: expected a whole number of pixels between 1 and 8,192"),
        ("size=8193", "between 1 and 8,192"),
        ("size=-224", "expected a whole number"),
        ("size=224.0", "expected a whole number"),
        ("size=²", "expected a whole number"),
        ("size=", "expected a whole number"),
        ("size=1,size=2", "'size' is given twice"),
        ("fit=stretch", "fit=stretch: expected square, pad or crop"),
        ("resampling=lanczos", "expected bilinear or bicubic"),
        ("pooling=max", "expected cls, mean, pooler or projection"),
        ("precision=fp8", "expected fp32, fp16 or bf16"),
        ("encode=both", "expected regions or dense"),
        ("mean=0.5", "expected three numbers"),
        ("std=a/b/c", "could not convert"),
        ("adapt=", "expected a file"),
        ("output=", "expected a name"),
    ],
)
def test_bad_options_are_named(option: str, reason: str) -> None:
    with pytest.raises(EncoderError, match=reason) as raised:
        EncoderSpec.parse(f"hf:name,{option}")
    assert f"encoder 'hf:name,{option}'" in str(raised.value)


def test_files_among_the_options_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options = EncoderSpec.parse("x:y,adapt=layer.pth,weights=~/w.safetensors").options
    assert options.adapt == str(tmp_path / "layer.pth")
    assert options.weights == str(tmp_path / "home" / "w.safetensors")


def test_the_order_of_options_does_not_matter() -> None:
    one, other = EncoderSpec.parse("x:y,fit=pad,size=5"), EncoderSpec.parse("x:y,size=5,fit=pad")
    assert one == other and str(one) == str(other) == "x:y,size=5,fit=pad"


@pytest.mark.parametrize("option", ["fit=square", "encode=regions"])
def test_an_option_that_says_what_holds_anyway_makes_no_other_encoder(option: str) -> None:
    assert EncoderSpec.parse(f"x:y,{option}") == EncoderSpec.parse("x:y")
    assert str(EncoderSpec.parse(f"x:y,size=5,{option}")) == "x:y,size=5"


def test_the_device_is_no_part_of_what_an_encoder_is() -> None:
    assert EncoderSpec("x", "y", device="cpu") == EncoderSpec("x", "y", device="cuda:1")
    assert EncoderSpec("x", "y", device="cpu").with_reference("z") == EncoderSpec("x", "z")


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=10)
# Anything may stand in a path, but what looks like an option at the end of it is one, and blanks at the end are not.
REFERENCES = st.text(max_size=30).filter(lambda text: "=" not in text and text == text.strip())
COLOURS = st.tuples(*[st.floats(-10, 10)] * 3)
PATHS = st.text("abc/._-", min_size=1, max_size=20).map(lambda text: os.path.abspath("/" + text))
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "size": st.integers(1, 8192),
        "fit": st.sampled_from(["square", "pad", "crop"]),
        "resampling": st.sampled_from(["bilinear", "bicubic"]),
        "pooling": st.sampled_from(["cls", "mean", "pooler", "projection"]),
        "precision": st.sampled_from(["fp32", "fp16", "bf16"]),
        "encode": st.sampled_from(["regions", "dense"]),
        "picture_size": st.integers(1, 8192),
        "weights": PATHS,
        "output": NAMES,
        "mean": COLOURS,
        "std": st.tuples(*[st.floats(1e-6, 10)] * 3),
        "adapt": PATHS,
    },
)


@given(NAMES, REFERENCES, OPTIONS)
def test_what_is_written_is_read_back(family: str, reference: str, options: dict[str, object]) -> None:
    spec = EncoderSpec(family, reference, EncoderOptions(**options))  # type: ignore[arg-type]
    assert EncoderSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("folder", ["/a, b", "/a,b=c d"])
def test_paths_may_hold_commas(folder: str) -> None:
    text = f"hf:{folder},adapt={folder}/layer.safetensors,size=8"
    if "=" in folder:
        with pytest.raises(EncoderError, match="unknown option 'b'"):
            EncoderSpec.parse(text)
        return
    spec = EncoderSpec.parse(text)
    assert (spec.reference, spec.options.adapt, spec.options.size) == (folder, f"{folder}/layer.safetensors", 8)
    assert EncoderSpec.parse(str(spec)) == spec


def test_a_path_that_would_not_be_read_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x,size=3").mkdir()
    monkeypatch.chdir(tmp_path / "x,size=3")
    with pytest.raises(EncoderError, match="reads like another option"):
        EncoderSpec.parse("builtin,adapt=layer.safetensors")


@pytest.mark.parametrize("option", ["mean=nan/0/0", "mean=0.5/0.5", "std=0/1/1", "std=1/1/inf", "std=-1/1/1"])
def test_colours_that_make_no_sense(option: str) -> None:
    with pytest.raises(EncoderError, match="expected"):
        EncoderSpec.parse(f"onnx:net.onnx,{option}")


def test_every_option_is_tried_above() -> None:
    assert set(OPTIONS.wrapped_strategy.optional) == {one.name for one in fields(EncoderOptions)}


def test_options_that_a_family_cannot_honour_are_refused() -> None:
    spec = EncoderSpec.parse("x:y,size=5,adapt=/a.pth")
    spec.allow(("size", "fit"))
    EncoderSpec.parse("x:y,adapt=/a.pth").allow(())
    with pytest.raises(EncoderError, match=r"encoder x:y,.*'x' takes no option 'size'; it takes fit, adapt"):
        spec.allow(("fit",))
