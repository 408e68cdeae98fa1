"""patchwise info: what a gallery holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from patchwise.cli.compress import recall_text
from patchwise.cli.options import DEFAULT_GALLERY, AsJson, GalleryPath, print_json

if TYPE_CHECKING:
    from patchwise.compression import CompressionInfo
    from patchwise.gallery import GalleryInfo
    from patchwise.store import MetadataColumn

_VALUES, _LONGEST = 5, 30


def info(gallery: GalleryPath = DEFAULT_GALLERY, as_json: AsJson = False) -> None:
    """Show what a gallery holds, how large it is and how it was made."""
    from patchwise.gallery import Gallery
    from patchwise.report.text import printable

    with Gallery.open(gallery) as opened:
        found, codes, columns = opened.info(), opened.compression(), opened.metadata_columns()
    if as_json:
        answer = asdict(found)
        answer["unreadable"] = [{"path": path, "reason": reason} for path, reason in found.unreadable]
        answer["metadata"] = [asdict(column) for column in columns]
        answer["compression"] = None
        if codes is not None:
            answer["compression"] = {**asdict(codes), "bytes_per_image_of": _bytes_per_image(found, codes)}
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
    if codes is not None:
        for line in _of_codes(found, codes):
            typer.echo(line)
    for number, column in enumerate(columns):
        typer.echo(f"{'' if number else 'metadata':<12} {printable(_of_column(column))}")
    if found.dead_regions:
        typer.echo(f"dead         {found.dead_regions:,} regions of removed images; free them with: patchwise compact")
    if found.unreadable:
        typer.echo(f"unreadable   {len(found.unreadable):,} files:")
        for path, reason in found.unreadable:
            typer.echo(f"  {printable(path)}: {printable(reason)}")


def _of_codes(found: GalleryInfo, codes: CompressionInfo) -> Iterator[str]:
    learned = (
        f", learned from {codes.training_vectors:,} vectors ({codes.trained_on})" if codes.training_vectors else ""
    )
    yield f"compressed   {codes.codec}, {codes.bytes_per_region:,} bytes per region{learned}"
    parts = ", ".join(f"{count:,.0f} {what}" for what, count in _bytes_per_image(found, codes).items() if count)
    yield f"per image    bytes: {parts.replace('_', ' ')}"
    yield f"memory       {codes.memory_bytes / 2**20:,.1f} MiB for the codes, held by a search"
    if codes.recall_now:
        yield f"recall       {recall_text(codes.recall_now)}"
    if codes.recall != codes.recall_now:
        yield f"before       {recall_text(codes.recall)}, until the search was widened for what was added"
    if codes.codes_only:
        yield f"codes only   the vectors are deleted; {_given_up(codes)}"
    if codes.advice:
        yield f"advice       {codes.advice}"


def _of_column(column: MetadataColumn) -> str:
    if column.kind == "number":
        values = f"{column.minimum} to {column.maximum}"
    else:
        shown = [str(value)[:_LONGEST] for value in column.values[:_VALUES]]
        values = ", ".join(shown) + (", ..." if len(column.values) > _VALUES else "")
    return f"{column.name}: {column.kind}, of {column.images:,} images: {values}"


def _bytes_per_image(found: GalleryInfo, codes: CompressionInfo) -> dict[str, float]:
    """What an image takes on disk, by what it is for; all of it together is `bytes_per_image` of the gallery."""
    parts = {
        "codes": codes.codes_bytes,
        "vectors": found.fp16_bytes,
        "region_boxes": found.region_bytes,
        "catalogue": found.catalogue_bytes,
    }
    parts["codebooks_and_settings"] = max(found.total_bytes - sum(parts.values()), 0)
    return {what: count / max(found.images, 1) for what, count in parts.items()}


def _given_up(codes: CompressionInfo) -> str:
    measured = codes.given_up
    if not {"map", "overlap", "same_region"} <= measured.keys():
        return "what that gave up is not known any more"
    return (
        f"measured before: mAP {100 * measured['map']:.1f} for the best 10 of exact search, "
        f"{100 * measured['overlap']:.1f} % of them among the best 10 by codes, the same region wins in "
        f"{100 * measured['same_region']:.1f} %"
    )
