"""patchwise adapt: fit an encoder to one's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchwise.cli.encoder_options import Device
from patchwise.cli.options import AsJson, MaxPixels, print_json, progress_bar, say
from patchwise.errors import UsageError

if TYPE_CHECKING:
    from patchwise.adaptation import AdaptationReport

_REGIONS = "pyramid:3"


def adapt(
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Folders and image files to learn from.", readable=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write, in .safetensors.", readable=False, show_default=False),
    ] = None,
    from_gallery: Annotated[
        Path | None,
        typer.Option(
            help="Learn from the vectors that this gallery holds, instead of pictures.",
            readable=False,
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="linear: a layer learned by crops that look for their picture (needs torch); whitening: "
            "PCA-whitening.",
            show_default="linear",
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="What to adapt; see patchwise encoders.", show_default="builtin")
    ] = None,
    regions: Annotated[
        str | None, typer.Option(help="Where a gallery of these pictures would look.", show_default=_REGIONS)
    ] = None,
    dimension: Annotated[
        int | None,
        typer.Option(min=1, help="Length of the vectors.", show_default="as without the file, at most 512"),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Learn from at most so many pictures, spread evenly, and never more than 5,000.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and pictures give the same file.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is there; galleries made with it are lost.")
    ] = False,
    device: Device = "auto",
    max_pixels: MaxPixels = None,
    as_json: AsJson = False,
) -> None:
    """Learn from pictures without labels what tells them apart, measure it on others, and write a file.

    The encoder NAME,adapt=FILE uses it. Interrupted, it writes nothing.
    """
    from patchwise.images import DEFAULT_MAX_PIXELS

    if output is None:
        raise UsageError("name the file to write: --output layer.safetensors")
    if bool(pictures) == (from_gallery is not None):
        raise UsageError("name pictures to learn from, or a gallery with --from-gallery, and not both")
    if from_gallery is not None and (encoder is not None or regions is not None):
        raise UsageError("a gallery has its encoder and regions already; leave out --encoder and --regions")
    settings: dict[str, Any] = {
        "method": method or "linear",
        "dimension": dimension,
        "limit": limit,
        "seed": seed,
        "force": force,
        "max_pixels": max_pixels or DEFAULT_MAX_PIXELS,
    }
    try:
        report = _report(pictures or [], output, from_gallery, encoder, regions, device, settings)
    except KeyboardInterrupt:
        say("interrupted; nothing was written")
        raise typer.Exit(130) from None
    for path, reason in report.failed:
        say(f"skipping {path}: {reason}")
    if as_json:
        print_json(_as_json(report))
    else:
        typer.echo(_as_text(report))


def _report(
    pictures: Sequence[Path],
    output: Path,
    from_gallery: Path | None,
    encoder: str | None,
    regions: str | None,
    device: str,
    settings: dict[str, Any],
) -> AdaptationReport:
    from patchwise.adaptation import adapt as adapt_pictures
    from patchwise.adaptation import adapt_gallery
    from patchwise.gallery import Gallery

    with ExitStack() as open_now:
        settings["advance"] = _Bars(open_now)
        if from_gallery is not None:
            return adapt_gallery(open_now.enter_context(Gallery.open(from_gallery, device=device)), output, **settings)
        return adapt_pictures(
            pictures, output, encoder=encoder or "builtin", regions=regions or _REGIONS, device=device, **settings
        )


class _Bars:
    """A progress bar for each thing that is done, one after the other."""

    def __init__(self, outer: ExitStack) -> None:
        self._open = outer.enter_context(ExitStack())
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self._open.close()
            self._what = what
            self._advance = self._open.enter_context(progress_bar(what))
        self._advance(done, total)


def _as_json(report: AdaptationReport) -> dict[str, Any]:
    def interval(name: str) -> dict[str, float] | None:
        found = getattr(report, name)
        if found is None:
            return None
        return {"mean": found.difference.mean, "low": found.difference.low, "high": found.difference.high}

    return {
        "output": str(report.output),
        "encoder": report.encoder,
        "method": report.method,
        "input_dimension": report.input_dimension,
        "dimension": report.dimension,
        "pictures": report.pictures,
        "held_out": report.held_out,
        "crops": report.crops,
        "epochs": report.epochs,
        "seconds": round(report.seconds, 3),
        "measured": {
            name: {
                "recall_at_1": float(found.found_first.mean()),
                "average_precision": float(found.average_precision.mean()),
            }
            for name, found in report.measured.items()
        },
        "gain": interval("gain"),
        "over_whitening": interval("over_whitening"),
        "verdict": report.verdict,
        "failures": [{"path": path, "reason": reason} for path, reason in report.failed],
    }


def _as_text(report: AdaptationReport) -> str:
    """What was learned, before and after, what that says, and how to use it."""
    lines = [
        f"{report.output}: {report.method}, {report.input_dimension} to {report.dimension} numbers, learned from "
        f"{report.pictures:,} pictures in {report.seconds:.0f} s"
    ]
    if report.gain is None:
        lines.append("not measured: there are too few pictures to hold some out")
    else:
        lines.append(
            f"{report.crops:,} altered crops of {report.held_out:,} held-out pictures look for their picture among "
            f"{report.pictures + report.held_out:,}:"
        )
        lines.append(f"{'':16}{'R@1':>7}{'mAP':>7}")
        for name, found in report.measured.items():
            figures = (100 * found.found_first.mean(), 100 * found.average_precision.mean())
            lines.append(f"{name:16}" + "".join(f"{figure:7.1f}" for figure in figures))
        for what, gain in (("the encoder alone", report.gain), ("whitening", report.over_whitening)):
            if gain is not None:
                interval = (100 * gain.difference.mean, 100 * gain.difference.low, 100 * gain.difference.high)
                lines.append("mAP over {}: {:+.1f}, 95 % interval {:+.1f} to {:+.1f}".format(what, *interval))
        lines.append(_ADVICE[report.verdict])
    if report.method == "linear" and report.epochs == 0:
        lines.append("no epoch of learning helped: the file holds what learning began with")
    return "\n".join(
        [*lines, f"to use it: patchwise index PICTURES --gallery NEW --encoder {report.encoder},adapt={report.output}"]
    )


_ADVICE = {
    "better": "better than the encoder alone on such crops; your own queries decide (patchwise eval)",
    "worse": "worse than the encoder alone: better left out, unless shorter vectors are worth it",
    "no clear difference": "no clear difference to the encoder alone: more pictures may help",
}
