"""patchwise export-onnx: a torch backbone as a file that runs without torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from patchwise.cli.options import AsJson, print_json, printable, say


def export_onnx(
    encoder: Annotated[str, typer.Argument(help="An encoder as for patchwise index, options included.")],
    file: Annotated[Path, typer.Argument(help="Where to write; ends in .onnx.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an encoder that runs on torch to an ONNX file, which runs without it, and compare the two."""
    from patchwise.encoders.export import export_onnx as export

    try:
        found = export(encoder, file, force=force)
    except KeyboardInterrupt:
        say("interrupted; nothing was written")
        raise
    if as_json:
        print_json({**asdict(found), "path": str(found.path)})
        return
    size = f"{found.bytes / 2**20:,.1f} MiB, {found.dimension}-d, {found.input_size} x {found.input_size} pixels"
    typer.echo(f"{printable(str(file))}: {size}")
    typer.echo(
        f"against {printable(found.encoder)}: largest difference {found.largest_difference:.2g}, "
        f"smallest cosine {found.smallest_cosine:.6f}"
    )
    say(f"use it with: --encoder onnx:{file}")
