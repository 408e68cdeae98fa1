"""patchwise verify: check every stored byte."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from patchwise.cli.options import DEFAULT_GALLERY, AsJson, GalleryPath, print_json, progress_bar, say


def verify(
    gallery: GalleryPath = DEFAULT_GALLERY,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Forget images whose vectors are lost; the next index encodes them again."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a gallery against its checksums; exit code 1 if anything is not as it was written."""
    from patchwise.gallery import Gallery

    with Gallery.open(gallery) as opened, progress_bar("verifying") as advance:
        report = opened.verify(repair=repair, progress=advance)
    if as_json:
        print_json({**asdict(report), "ok": report.ok})
    else:
        for problem in report.problems:
            say(problem)
        state = "ok" if not report.problems else "repaired" if report.repaired else "damaged"
        typer.echo(
            f"{gallery}: {state}; {report.images:,} images, {report.regions:,} regions checked, "
            f"{len(report.problems):,} problems"
        )
        if report.problems and not repair:
            say("to forget what is lost, so that the next index encodes it again: patchwise verify --repair")
        elif report.affected_files:
            say(f"to encode these {len(report.affected_files):,} images again: patchwise index, on their folders")
    if not report.ok:
        raise typer.Exit(1)
