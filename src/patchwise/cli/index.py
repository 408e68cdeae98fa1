"""patchwise index: bring a gallery up to date with folders of images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from patchwise.cli.encoder_options import (
    Adapt,
    Device,
    Encode,
    EncoderName,
    InputSize,
    Pooling,
    Precision,
    RegionFit,
    encoder_name,
)
from patchwise.cli.options import (
    DEFAULT_GALLERY,
    AsJson,
    GalleryPath,
    MaxPixels,
    print_json,
    progress_bar,
    say,
)
from patchwise.errors import UsageError

if TYPE_CHECKING:
    from patchwise.gallery import Gallery
    from patchwise.metadata import MetadataReport


def index(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders and image files; none are needed where --metadata is given.", readable=False),
    ] = None,
    gallery: GalleryPath = DEFAULT_GALLERY,
    regions: Annotated[
        str | None,
        typer.Option(
            help="Where to look: whole, pyramid:L (L from 0 to 7), sliding:L:RATIO, proposals:selective:COUNT, "
            "detector:DIR:COUNT, or boxes:FILE.",
            show_default="pyramid:3",
        ),
    ] = None,
    encoder: EncoderName = None,
    input_size: InputSize = None,
    fit: RegionFit = None,
    pooling: Pooling = None,
    precision: Precision = None,
    encode: Encode = None,
    adapt: Adapt = None,
    device: Device = "auto",
    whitening: Annotated[
        str | None,
        typer.Option(help="shipped, or gallery: learned from the first pictures indexed.", show_default="shipped"),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What you say of your images: .csv or .parquet, a row for each, named in a column path or file.",
            readable=False,
        ),
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Enter folders that are symbolic links.")
    ] = False,
    max_pixels: MaxPixels = None,
    as_json: AsJson = False,
) -> None:
    """Index folders of images: new, changed, renamed and vanished files; unchanged ones cost nothing.

    Interrupt it when you like: the same command goes on where it stopped.
    """
    from patchwise.gallery import Gallery
    from patchwise.images import DEFAULT_MAX_PIXELS
    from patchwise.indexing import IndexProgress
    from patchwise.metadata import open_metadata

    if not paths:
        if metadata is None:
            raise UsageError(
                "nothing to index: name at least one folder or image file, or a file by --metadata; "
                "see: patchwise index --help"
            )
        of_images = (regions, encoder, input_size, fit, pooling, precision, encode, adapt, whitening, max_pixels)
        if follow_links or device != "auto" or any(each is not None for each in of_images):
            raise UsageError(
                "nothing to index: --metadata alone looks at no image; name folders, or drop the other options"
            )
        with Gallery.open(gallery) as opened:
            _only_describe(opened, metadata, as_json)
        return
    if metadata is not None:
        open_metadata(metadata)  # a mistake in it shall not leave an empty gallery behind
    named = encoder_name(
        encoder, input_size=input_size, fit=fit, pooling=pooling, precision=precision, encode=encode, adapt=adapt
    )
    with Gallery.open_or_create(gallery, encoder=named, regions=regions, whitening=whitening, device=device) as opened:
        try:
            with progress_bar("indexing") as advance:

                def show(event: IndexProgress) -> None:
                    advance(event.done, event.total)
                    if event.failed is not None:
                        say(f"skipping {event.failed[0]}: {event.failed[1]}")

                report = opened.add(
                    *paths,
                    follow_links=follow_links,
                    metadata=metadata,
                    max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
                    progress=show,
                )
        except KeyboardInterrupt:
            say(f"interrupted; {len(opened):,} images are stored. Run the same command again to go on")
            raise typer.Exit(130) from None
        for folder, reason in report.unreadable_folders:
            say(f"skipping {folder}: {reason}")
        total, codes = len(opened), opened.compression()
    counts = {
        "added": report.added,
        "changed": report.changed,
        "renamed": report.renamed,
        "copied": report.copied,
        "removed": report.removed,
        "unchanged": report.unchanged,
        "failed": len(report.failed),
        "still_failing": report.still_failing,
    }
    if as_json:
        print_json(
            {
                "gallery": str(gallery),
                "images": total,
                **counts,
                "encoded_regions": report.encoded_regions,
                "seconds": round(report.seconds, 3),
                "failures": [{"path": path, "reason": reason} for path, reason in report.failed],
                "unreadable_folders": [{"path": path, "reason": reason} for path, reason in report.unreadable_folders],
                **({} if report.metadata is None else {"metadata": asdict(report.metadata)}),
            }
        )
    else:
        done = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)
        typer.echo(f"{gallery}: {total:,} images ({done or 'nothing found'}) in {report.seconds:.1f} s")
    if report.metadata is not None:
        _say_joined(report.metadata)
    if codes is not None and codes.advice:
        say(codes.advice)
    if total == 0 and not (report.failed or report.still_failing or report.removed):
        say("no images found there; known endings are .jpg, .png, .webp, .tif, .bmp, .gif and others that Pillow reads")
        raise typer.Exit(3)


def _only_describe(gallery: Gallery, metadata: Path, as_json: bool) -> None:
    report = gallery.add_metadata(metadata)
    if as_json:
        print_json({"gallery": str(gallery.path), "images": len(gallery), "metadata": asdict(report)})
    else:
        typer.echo(f"{gallery.path}: {report.images:,} of {len(gallery):,} images described by {metadata}")
    _say_joined(report)


def _say_joined(report: MetadataReport) -> None:
    """What did not go as its author may have thought."""
    if report.unknown:
        names = ", ".join(name or "(no name)" for name in report.unknown_names)
        more = ", ..." if report.unknown > len(report.unknown_names) else ""
        say(f"{report.file}: {report.unknown:,} of {report.rows:,} rows name no image of the gallery: {names}{more}")
    if report.repeated:
        say(f"{report.file}: {report.repeated:,} rows name an image that a row before named; the last one counts")
