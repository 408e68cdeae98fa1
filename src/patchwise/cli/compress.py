"""patchwise compress: write every region in few bytes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchwise.cli.options import DEFAULT_GALLERY, AsJson, GalleryPath, print_json, progress_bars, say
from patchwise.errors import UsageError

if TYPE_CHECKING:
    from patchwise.compression import CompressionInfo, CompressionReport
    from patchwise.gallery import Gallery, GalleryInfo

__all__ = ["compress", "recall_text"]

# Their lines are those of `patchwise.codecs.names.FAMILIES` and `patchwise.compression.TRAINING_SETS`, which cost
# more to import than help may take.
_CODECS = """auto: by the size of the gallery and the memory of this machine.
fastscan:BYTES: 4-bit product quantiser, scanned in registers.
pq:BYTES: 8-bit product quantiser: more exact at equal bytes, many times slower to search.
opq:BYTES: a learned rotation, then fastscan: takes seconds more to learn.
ivf:BYTES[:LISTS]: inverted lists of fastscan codes: looks at the nearest lists only.
Or a factory string of FAISS, such as SQ8.
none: delete the codes, and search exactly from then on."""
_SETS = """random: regions at random, of all images.
whole: whole images only.
distinct: the half of each image's regions that are least like the image as a whole.
salient: the half of each image's regions that excite the encoder most; encodes a sample again.
queries:FILE: pictures that were searched with, in a CSV file as search --queries reads it."""


def compress(
    gallery: GalleryPath = DEFAULT_GALLERY,
    codec: Annotated[str, typer.Option(metavar="NAME", help=f"How a region is written. {_CODECS}")] = "auto",
    train: Annotated[str, typer.Option(metavar="SET", help=f"What the codebooks are learned from. {_SETS}")] = "random",
    codes_only: Annotated[
        bool, typer.Option("--codes-only", help="Delete the vectors afterwards, for good, and keep their codes alone.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the vectors are deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write every region in few bytes as well, so that searches take less time and memory.

    Every search uses the codes from then on, and scores the best by their vectors, as before. Run it again to change
    the codec or to learn it anew. Interrupted, the gallery is searched as it was before.
    """
    from patchwise.gallery import Gallery

    with Gallery.open(gallery) as opened:
        before, codes_before = opened.info(), opened.compression()
        if codes_only and not yes and before.fp16_bytes and codec != "none":
            _confirm(before)
        try:
            with progress_bars("choosing training regions") as advance:
                report = opened.compress(codec, train, codes_only=codes_only, progress=advance)
        except KeyboardInterrupt:
            say(_how_it_was_left(opened, before, codes_before))
            raise typer.Exit(130) from None
        after = opened.info()
    for note in report.notes:
        say(note)
    if as_json:
        print_json(_as_json(report, after))
    elif codec == "none":
        typer.echo(f"{after.path}: no codes any more; every search is exact")
    else:
        for line in _lines(report, after):
            typer.echo(line)
    if report.info.advice:
        say(report.info.advice)


def recall_text(recall: Mapping[int, float]) -> str:
    """Recall at each k, on one line."""
    return ", ".join(f"{share:.3f} of the best {k:,}" for k, share in sorted(recall.items()))


def _confirm(found: GalleryInfo) -> None:
    """Ask whether the vectors may go.

    Raises:
        UsageError: nobody is there to answer.
        typer.Exit: no.
    """
    what = (
        f"the vectors of {found.regions:,} regions ({found.fp16_bytes / 2**20:,.1f} MiB) are deleted for good, "
        "and their codes alone are searched"
    )
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        raise UsageError(f"{found.path}: with --codes-only {what}; add --yes if that is what you want")
    sys.stderr.write(f"{found.path}: {what}. Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        say("nothing was changed")
        raise typer.Exit(1)


def _how_it_was_left(opened: Gallery, before: GalleryInfo, codes_before: CompressionInfo | None) -> str:
    left = opened.info().fp16_bytes
    if left < before.fp16_bytes:
        gone = f"{(before.fp16_bytes - left) / 2**20:,.1f} of {before.fp16_bytes / 2**20:,.1f} MiB of vectors"
        return f"interrupted; {gone} are deleted. Run the same command again to delete the others"
    if opened.compression() != codes_before:
        return "interrupted; the new codes are in use, and no vector is deleted"
    return "interrupted; the gallery is as it was"


def _lines(report: CompressionReport, gallery: GalleryInfo) -> list[str]:
    made = report.info
    region = 2 * int(gallery.encoder["dimension"])
    image = region * gallery.regions / max(gallery.images, 1)
    learned = f"learned from {made.training_vectors:,} vectors ({made.trained_on})" if made.training_vectors else "kept"
    kept = "that were deleted took" if made.codes_only else "take"
    return [
        f"gallery      {gallery.path}, {report.images:,} images, {report.regions:,} regions",
        f"codec        {made.codec}, {learned}",
        f"size         {made.bytes_per_region:,} bytes per region, {made.bytes_per_image:,.0f} per image; "
        f"the fp16 vectors {kept} {region:,} and {image:,.0f}",
        f"memory       {made.memory_bytes / 2**20:,.1f} MiB for the codes, held by a search",
        f"recall       {recall_text(made.recall)}",
        f"seconds      {report.training_seconds:.1f} training, {report.encoding_seconds:.1f} encoding, "
        f"{report.measuring_seconds:.1f} measuring",
    ]


def _as_json(report: CompressionReport, gallery: GalleryInfo) -> dict[str, Any]:
    region = 2 * int(gallery.encoder["dimension"])
    return {
        "gallery": gallery.path,
        **asdict(report),
        "fp16_bytes_per_region": region,
        "fp16_bytes_per_image": region * gallery.regions / max(gallery.images, 1),
    }
