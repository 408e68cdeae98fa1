"""patchwise info: what a gallery holds."""

from __future__ import annotations

from dataclasses import asdict

import typer

from patchwise.cli.options import DEFAULT_GALLERY, AsJson, GalleryPath, print_json


def info(gallery: GalleryPath = DEFAULT_GALLERY, as_json: AsJson = False) -> None:
    """Show what a gallery holds, how large it is and how it was made."""
    from patchwise.gallery import Gallery
    from patchwise.report.text import printable

    with Gallery.open(gallery) as opened:
        found = opened.info()
    if as_json:
        answer = asdict(found)
        answer["unreadable"] = [{"path": path, "reason": reason} for path, reason in found.unreadable]
        print_json(answer)
        return
    typer.echo(f"gallery      {found.path}, made {found.created}")
    typer.echo(f"images       {found.images:,} files, {found.distinct_images:,} distinct")
    typer.echo(f"regions      {found.regions:,} ({found.regions_strategy})")
    name = str(found.encoder["id"])
    whitened = found.whitening == "gallery" or name == "builtin"  # no whitening is shipped for others
    whitening = f", {found.whitening} whitening" if whitened else ""
    typer.echo(f"encoder      {name}, {found.encoder['dimension']}-d{whitening}")
    typer.echo(f"size         {found.total_bytes / 2**20:,.1f} MiB, {found.bytes_per_image:,.0f} bytes per image")
    if found.dead_regions:
        typer.echo(f"dead         {found.dead_regions:,} regions of removed images; free them with: patchwise compact")
    if found.unreadable:
        typer.echo(f"unreadable   {len(found.unreadable):,} files:")
        for path, reason in found.unreadable:
            typer.echo(f"  {printable(path)}: {printable(reason)}")
