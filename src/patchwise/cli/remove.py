"""patchwise remove: forget images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from patchwise.cli.options import DEFAULT_GALLERY, AsJson, GalleryPath, print_json, say


def remove(
    paths: Annotated[
        list[Path], typer.Argument(help="Files or folders, whether they still exist or not.", readable=False)
    ],
    gallery: GalleryPath = DEFAULT_GALLERY,
    as_json: AsJson = False,
) -> None:
    """Forget images: files, or everything below folders. The files themselves are not touched."""
    from patchwise.gallery import Gallery

    with Gallery.open(gallery) as opened:
        count = opened.remove(*paths)
        left = len(opened)
    if as_json:
        print_json({"removed": count, "images": left})
    else:
        typer.echo(f"{gallery}: removed {count:,} images, {left:,} are left")
    if count == 0:
        say("none of these paths is in the gallery")
        raise typer.Exit(3)
