"""patchwise eval: how good an encoder and region strategies are on a benchmark."""

from __future__ import annotations

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
from patchwise.cli.options import AsJson, Rerank, print_json, progress_bar, say
from patchwise.errors import UsageError

if TYPE_CHECKING:
    from patchwise.evaluation import Run
    from patchwise.indexing import IndexProgress

_DEFAULT_REGIONS = "whole,pyramid:3"


def evaluate(
    benchmark: Annotated[str | None, typer.Argument(help="What to ask; see --list.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="The folder that the benchmark lies in.", readable=False, show_default=False)
    ] = None,
    regions: Annotated[
        str, typer.Option(help="Region strategies, separated by commas; oracle: the ground-truth boxes.")
    ] = _DEFAULT_REGIONS,
    encoder: EncoderName = None,
    input_size: InputSize = None,
    fit: RegionFit = None,
    pooling: Pooling = None,
    precision: Precision = None,
    encode: Encode = None,
    adapt: Adapt = None,
    device: Device = "auto",
    whitening: Annotated[str, typer.Option(help="shipped, or gallery: adapted to the benchmark's images.")] = "shipped",
    rerank: Rerank = "",
    delta: Annotated[
        float, typer.Option(min=0, max=1, help="IoU that a box must exceed for the discrete LocScore.")
    ] = 0.5,
    cache: Annotated[
        Path | None, typer.Option(help="Where galleries are kept between runs.", show_default="the user's cache")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write tables and plots into this folder.", show_default=False)
    ] = None,
    save_run: Annotated[
        Path | None,
        typer.Option("--save-run", help="Keep each run in this folder, for patchwise compare.", show_default=False),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Write each strategy's rankings into this folder, in ILIAS's format.", show_default=False),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(help="Judge this file of rankings in ILIAS's format; nothing is searched.", show_default=False),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the benchmarks and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask all queries of a benchmark and print mAP and LocScore of each region strategy.

    Images are encoded once per strategy and kept; interrupt it when you like: the same command goes on.
    """
    from patchwise.evaluation import evaluate_ilias_results, result_tables, summarise
    from patchwise.evaluation import save_run as write_run
    from patchwise.evaluation.datasets import BENCHMARKS, read_benchmark
    from patchwise.evaluation.reports import write_report
    from patchwise.evaluation.sweep import slug, sweep
    from patchwise.evaluation.tables import summary_rows

    if list_all:
        if as_json:
            print_json({name: entry.summary for name, entry in BENCHMARKS.items()})
        else:
            for name, entry in BENCHMARKS.items():
                typer.echo(f"{name:12}{entry.summary}")
        return
    if benchmark is None:
        raise UsageError("name a benchmark; patchwise eval --list names them all")
    asked = read_benchmark(benchmark, root, progress=say)
    for note in asked.notes:
        say(note)
    named = encoder_name(
        encoder, input_size=input_size, fit=fit, pooling=pooling, precision=precision, encode=encode, adapt=adapt
    )
    runs: list[Run] = []
    with progress_bar(asked.name) as advance:

        def show(event: IndexProgress) -> None:
            advance(event.done, event.total)
            if event.failed is not None:
                say(f"skipping {event.failed[0]}: {event.failed[1]}")

        found = sweep(
            asked,
            regions.split(","),
            encoder=named or "builtin",
            whitening=whitening,
            device=device,
            rerank=rerank,
            cache=cache,
            results=results,
            starting=lambda name: say(f"{asked.name}: {name}"),
            indexing=show,
            searching=advance,
        )
        for run in found if judge is None else [evaluate_ilias_results(judge, asked)]:
            runs.append(run)
            if save_run is not None:
                path = save_run / f"{slug(f'{run.benchmark}-{run.strategy}')}.json.gz"
                write_run(run, path)
                say(f"wrote {path}")
    summaries = [summarise(run, delta) for run in runs]
    if report is not None:
        for path in write_report(report, asked, runs, summaries):
            say(f"wrote {path}")
    if as_json:
        print_json({"benchmark": asked.name, "results": summary_rows(summaries)})
        return
    for number, table in enumerate(result_tables(summaries)):
        typer.echo(("\n" if number else "") + (table.markdown() if markdown else table.text()), nl=False)
