"""patchwise demo: the point of the product on real photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from patchwise.cli.options import AsJson


def demo(
    output: Annotated[Path, typer.Argument(help="Folder for scenes, galleries and the report.")] = Path("demo-output"),
    as_json: AsJson = False,
) -> None:
    """placeholder"""
