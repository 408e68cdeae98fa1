"""Encoders as strings: a family, what it shall load, and options, as in `hf:facebook/dinov2-small,size=336`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from patchwise.errors import EncoderError

__all__ = ["EncoderOptions", "EncoderSpec"]

_SIZES = range(1, 8193)


@dataclass(frozen=True)
class EncoderOptions:
    """What may be asked of an encoder; None takes what the model's own metadata says.

    Args:
        size: side of the square input in pixels; position embeddings are interpolated to it.
        fit: how a region becomes square: "square" (stretched, the paper's), "pad" (aspect kept, filled with the mean
            colour, ILIAS's), "crop" (aspect kept, cut at the edges as the model's metadata says).
        resampling: "bilinear" or "bicubic".
        pooling: which output is the vector: "cls", "mean", "pooler" or "projection".
        precision: "fp32", "fp16" or "bf16".
        encode: "regions" (one pass per region, the paper's) or "dense" (one pass per image, tokens pooled per region).
        picture_size: side of the square input of that one pass, in pixels.
        weights: a file of weights to use instead of the ones that belong to the name.
        output: which output of an ONNX network is the vector.
        mean, std: of the colours in [0, 1], for an ONNX network without metadata.
        adapt: file of a linear layer that is applied to every vector.
    """

    size: int | None = None
    fit: str | None = None
    resampling: str | None = None
    pooling: str | None = None
    precision: str | None = None
    encode: str | None = None
    picture_size: int | None = None
    weights: str | None = None
    output: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    adapt: str | None = None

    def __post_init__(self) -> None:
        for name, default in _DEFAULTS.items():
            if getattr(self, name) == default:  # said or not, it is the same encoder
                object.__setattr__(self, name, None)

    def given(self) -> dict[str, object]:
        """The options that were asked for, by name."""
        pairs = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: value for name, value in pairs if value is not None}


@dataclass(frozen=True)
class EncoderSpec:
    """`family` and `reference` name the weights; `str` gives the canonical string, which `parse` reads back.

    `device` ("auto", "cpu", "cuda", "cuda:1", "mps") is where the encoder runs now, and no part of what it is.
    """

    family: str
    reference: str = ""
    options: EncoderOptions = field(default_factory=EncoderOptions)
    device: str = field(default="auto", compare=False)

    def __str__(self) -> str:
        name = f"{self.family}:{self.reference}" if self.reference else self.family
        return name + "".join(f",{key}={_written(value)}" for key, value in self.options.given().items())

    @classmethod
    def parse(cls, text: str) -> EncoderSpec:
        """Read a string such as `timm:vit_small_patch14_dinov2.lvd142m,size=448,fit=pad`.

        An option begins at a comma that a word and "=" follow, so that paths may hold other commas.

        Raises:
            EncoderError: an option is unknown or has a bad value.
        """
        rest, *options = re.split(r",(?=[A-Za-z_]\w*=)", text.strip())
        found: dict[str, Any] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key not in _READERS:
                raise EncoderError(f"encoder {text!r}: unknown option {key!r}; known are {', '.join(_READERS)}")
            if key in found:
                raise EncoderError(f"encoder {text!r}: option {key!r} is given twice")
            try:
                found[key] = _READERS[key](value)
            except ValueError as error:
                raise EncoderError(f"encoder {text!r}: {key}={value}: {error}") from error
        family, _, reference = rest.partition(":")
        return cls(family, reference, EncoderOptions(**found))

    def with_reference(self, reference: str) -> EncoderSpec:
        """The same with another reference, for example one pinned to a revision."""
        return replace(self, reference=reference)

    def allow(self, names: Collection[str]) -> None:
        """Refuse options that this family cannot honour; `adapt` is always honoured.

        Raises:
            EncoderError: one of them was given.
        """
        for name in self.options.given():
            if name not in names and name != "adapt":
                known = ", ".join([*names, "adapt"])
                raise EncoderError(f"encoder {self}: {self.family!r} takes no option {name!r}; it takes {known}")


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def _side(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) not in _SIZES:
        raise ValueError(f"expected a whole number of pixels between {_SIZES[0]} and {_SIZES[-1]:,}")
    return int(text)


def _colour(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split("/"))
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise ValueError("expected three numbers for red, green and blue, as in 0.485/0.456/0.406")
    return values


def _spread(text: str) -> tuple[float, ...]:
    values = _colour(text)
    if min(values) <= 0:
        raise ValueError("expected numbers above 0")
    return values


def _path(text: str) -> str:
    if not text:
        raise ValueError("expected a file")
    path = os.path.abspath(os.path.expanduser(text))
    if re.search(r",[A-Za-z_]\w*=", path):
        raise ValueError(f"the path {path} reads like another option; move the file")
    return path


def _name(text: str) -> str:
    if not text:
        raise ValueError("expected a name")
    return text


_DEFAULTS = {"fit": "square", "encode": "regions"}
_READERS: Mapping[str, Callable[[str], object]] = {
    "size": _side,
    "fit": _one_of("square", "pad", "crop"),
    "resampling": _one_of("bilinear", "bicubic"),
    "pooling": _one_of("cls", "mean", "pooler", "projection"),
    "precision": _one_of("fp32", "fp16", "bf16"),
    "encode": _one_of("regions", "dense"),
    "picture_size": _side,
    "weights": _path,
    "output": _name,
    "mean": _colour,
    "std": _spread,
    "adapt": _path,
}


def _written(value: object) -> str:
    return "/".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
