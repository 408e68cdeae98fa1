"""What is known of an ONNX file's preprocessing: what patchwise wrote into it, or a configuration beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from patchwise.encoders.preprocessing import Preprocessing
from patchwise.errors import EncoderError
from patchwise.images import Fit

__all__ = ["METADATA_KEY", "Configuration", "ExportRecord", "read_configuration"]

METADATA_KEY = "patchwise"
_FORMAT = 1

# Pillow's numbers of resampling filters, as transformers writes them
_RESAMPLING = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class ExportRecord:
    """What a file written by `patchwise export-onnx` says of itself.

    Its network takes (N, S, S, 3) uint8 RGB and gives (N, dimension) float32 of unit length; `preprocessing` says what
    S is, how regions become such squares, and which normalisation the network holds. `encoder` and `weights_sha256`
    are those of the encoder that it was made from, `patchwise` the version that made it.
    """

    encoder: str
    weights_sha256: str
    dimension: int
    preprocessing: Preprocessing
    patchwise: str

    def __str__(self) -> str:
        return json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def read(cls, text: str, path: Path) -> ExportRecord:
        """Read what `str` wrote.

        Raises:
            EncoderError: it was written by a newer patchwise, or is damaged.
        """
        try:
            raw = json.loads(text)
            if raw.pop("format") > _FORMAT:
                raise EncoderError(f"{path}: written by patchwise {raw['patchwise']}, which is newer; update patchwise")
            told = raw.pop("preprocessing")
            fit = told.pop("fit")
            return cls(
                preprocessing=Preprocessing(
                    **{**told, "mean": tuple(told["mean"]), "std": tuple(told["std"])},
                    fit=Fit(**{**fit, "fill": tuple(fit["fill"])}),
                ),
                **raw,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EncoderError(f"{path}: what patchwise wrote into it is damaged ({error}); export it again") from error


@dataclass(frozen=True)
class Configuration:
    """What a `preprocessor_config.json` says; None where it says nothing."""

    size: int | None = None
    short_side: int = 0
    resampling: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    rescale: float = 1 / 255


def read_configuration(path: Path) -> Configuration:
    """Read a `preprocessor_config.json` of the transformers library.

    Raises:
        EncoderError: it cannot be read.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        size, crop = _sides(raw.get("size")), _sides(raw.get("crop_size"))
        cut = raw.get("do_center_crop", crop is not None)
        normalise = raw.get("do_normalize", True)
        return Configuration(
            size=(crop if cut else size) or size,
            short_side=size if cut and size and crop else 0,
            resampling=_RESAMPLING.get(raw.get("resample")),
            mean=_colour(raw.get("image_mean")) if normalise else (0.0, 0.0, 0.0),
            std=_colour(raw.get("image_std")) if normalise else (1.0, 1.0, 1.0),
            rescale=float(raw.get("rescale_factor", 1 / 255)) if raw.get("do_rescale", True) else 1.0,
        )
    except OSError as error:
        raise EncoderError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise EncoderError(f"{path}: not the configuration of a preprocessor ({error})") from error


def _sides(size: Any) -> int | None:
    """The side of a square, or the shorter side, in any of the ways that transformers has written it."""
    if isinstance(size, dict):
        if size.get("height") != size.get("width"):
            raise ValueError(f"size {size} is not square")
        size = size.get("height", size.get("shortest_edge"))
    return None if size is None else int(size)


def _colour(values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    colour = tuple(float(value) for value in values)
    if len(colour) != 3:
        raise ValueError(f"expected red, green and blue, found {values}")
    return colour
