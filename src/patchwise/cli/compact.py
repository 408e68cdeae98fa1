"""patchwise compact: free the space of removed and changed images."""

from __future__ import annotations

import typer

from patchwise.cli.options import DEFAULT_GALLERY, AsJson, GalleryPath, print_json


def compact(gallery: GalleryPath = DEFAULT_GALLERY, as_json: AsJson = False) -> None:
    """Free the space that removed and changed images still take."""
    from patchwise.gallery import Gallery

    with Gallery.open(gallery) as opened:
        before = opened.info().total_bytes
        dropped = opened.compact()
        after = opened.info().total_bytes
    if as_json:
        print_json({"dropped_regions": dropped, "bytes_before": before, "bytes_after": after})
    else:
        typer.echo(
            f"{gallery}: dropped {dropped:,} regions, {before / 2**20:,.1f} MiB before, {after / 2**20:,.1f} MiB now"
        )
