"""patchwise encoders: what can turn a region into a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from patchwise.cli.options import AsJson, print_json

if TYPE_CHECKING:
    from patchwise.encoders import FamilyState

_HEADER = ("name", "full name", "dim", "input", "params", "texts", "licence", "weights")
_NUMBERS = (2, 3, 4)


def encoders(as_json: AsJson = False) -> None:
    """List the encoders known by name and what they cost, and the families that take any other."""
    from patchwise.encoders import list_families, list_known

    known, families = list_known(), list_families()
    if as_json:
        print_json(
            {
                "encoders": [{**asdict(one.encoder), "weights": one.weights, "install": one.install} for one in known],
                "families": [asdict(family) for family in families],
            }
        )
        return
    rows = [
        (
            one.encoder.alias,
            one.encoder.name,
            str(one.encoder.dimension),
            str(one.encoder.input_size),
            f"{one.encoder.million_parameters:,.1f} M",
            "yes" if one.encoder.texts else "no",
            one.encoder.licence,
            one.weights,
        )
        for one in known
    ]
    _print_aligned([_HEADER, *rows], _NUMBERS)
    typer.echo("\nAny other by its family, with options after commas, as in dinov2-s,size=336:")
    _print_aligned([("family", "written", ""), *((one.name, one.forms, _remark(one)) for one in families)])


def _remark(family: FamilyState) -> str:
    if family.plugin:
        return f"plug-in of {family.plugin}"
    return f"package missing: {family.install}" if family.install else ""


def _print_aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        typer.echo("  ".join(cells).rstrip())
