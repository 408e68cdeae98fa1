"""Options of the commands that choose an encoder; each is short for an option in the encoder's name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from patchwise.errors import UsageError

__all__ = ["Adapt", "Device", "Encode", "EncoderName", "InputSize", "Pooling", "Precision", "RegionFit", "encoder_name"]

EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="What turns a region into a vector: a name that patchwise encoders lists, or FAMILY:REFERENCE, "
        "with options as in dinov2-s,size=336.",
        show_default="builtin",
    ),
]
InputSize = Annotated[
    int | None,
    typer.Option("--input-size", min=1, help="Side of the encoder's square input in pixels.", show_default=False),
]
RegionFit = Annotated[
    str | None,
    typer.Option(
        "--fit", help="How a region becomes square: square (stretched), pad or crop (aspect kept).", show_default=False
    ),
]
Pooling = Annotated[
    str | None,
    typer.Option(help="Which output is the vector: cls, mean, pooler or projection.", show_default=False),
]
Precision = Annotated[
    str | None, typer.Option(help="fp32, fp16 or bf16.", show_default="fp16 on a CUDA device, else fp32")
]
Encode = Annotated[
    str | None,
    typer.Option(
        help="regions: one pass per region; dense: one pass per image, tokens pooled per region.", show_default=False
    ),
]
Adapt = Annotated[
    Path | None,
    typer.Option(
        help="Apply the linear layer in this file to every vector; patchwise adapt learns one.",
        readable=False,
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option(envvar="PATCHWISE_DEVICE", help="Where the encoder runs: auto, cpu, cuda, cuda:1, mps.")
]


def encoder_name(
    encoder: str | None,
    *,
    input_size: int | None = None,
    fit: str | None = None,
    pooling: str | None = None,
    precision: str | None = None,
    encode: str | None = None,
    adapt: Path | None = None,
) -> str | None:
    """The encoder's name with the options written into it, or None where nothing was said."""
    options = {
        "size": input_size,
        "fit": fit,
        "pooling": pooling,
        "precision": precision,
        "encode": encode,
        "adapt": adapt,
    }
    if encoder is None and any(value is not None for key, value in options.items() if key != "adapt"):
        raise UsageError(
            "--input-size, --fit, --pooling, --precision and --encode need --encoder NAME beside them; the built-in "
            "encoder has its own"
        )
    given = "".join(f",{key}={value}" for key, value in options.items() if value is not None)
    return encoder if not given else (encoder or "builtin") + given
