"""Runs as files to keep and to show: JSON, Markdown and plots."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from patchwise.errors import StorageFull
from patchwise.evaluation.breakdown import ILIAS_EDGES, Bin, by_attribute
from patchwise.evaluation.datasets.base import Benchmark
from patchwise.evaluation.outcomes import Run
from patchwise.evaluation.tables import Summary, Table, method_name, ranking_name, result_tables, summary_rows

__all__ = ["breakdown_tables", "write_report"]

_PLOTS = {
    "locscore_over_delta": "LocScore over delta",
    "by_area": "By the object's share of the image",
    "by_centre_distance": "By the object's distance from the image centre",
    "accuracy_against_memory": "Accuracy against memory",
}


def write_report(folder: Path, benchmark: Benchmark, runs: Sequence[Run], summaries: Sequence[Summary]) -> list[Path]:
    """Write `results.json`, `results.md` and the plots of the runs of one benchmark; returns the files.

    Raises:
        MissingExtra: matplotlib is not installed.
        StorageFull: the folder cannot be written to.
    """
    from patchwise.evaluation.plots import (
        plot_accuracy_against_memory,
        plot_by_area,
        plot_by_centre_distance,
        plot_loc_score_curve,
        save_plot,
    )

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFull(f"{folder}: cannot be written to ({error.strerror or error})") from error
    placed = any(summary.metrics["loc_score"].queries for summary in summaries)
    plots = {}
    if any("bytes_per_image" in summary.costs for summary in summaries):
        plots["accuracy_against_memory"] = lambda: plot_accuracy_against_memory(summaries)
    if placed:
        plots |= {
            "locscore_over_delta": lambda: plot_loc_score_curve(runs),
            "by_area": lambda: plot_by_area(runs),
            "by_centre_distance": lambda: plot_by_centre_distance(runs),
        }
    written = []
    for name in _PLOTS:
        if name in plots:
            written.append(folder / f"{name}.png")
            save_plot(plots[name](), written[-1])
    tables = [*result_tables(summaries), *breakdown_tables(benchmark, runs)]
    pictures = [f"![{_PLOTS[path.stem]}]({path.name})\n" for path in written]
    notes = [f"{note}\n" for note in benchmark.notes]
    page = "\n".join([f"# {benchmark.name}\n", *(table.markdown() for table in tables), *pictures, *notes])
    rows = {"benchmark": benchmark.name, "notes": list(benchmark.notes), "results": summary_rows(summaries)}
    for path, text in (
        (folder / "results.md", page),
        (folder / "results.json", json.dumps(rows, indent=1, allow_nan=False) + "\n"),
    ):
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise StorageFull(f"{path}: cannot be written ({error.strerror or error})") from error
        written.append(path)
    return written


def breakdown_tables(benchmark: Benchmark, runs: Sequence[Run]) -> Iterator[Table]:
    """mAP and LocScore by what is known of the positives: ILIAS's scale and clutter, conditions of synthetic scenes."""
    from patchwise.evaluation.datasets.synthetic import SYNTHETIC_EDGES

    known = {name for attributes in benchmark.attributes.values() for name in attributes}
    for name, edges in {**ILIAS_EDGES, **SYNTHETIC_EDGES}.items():
        if name in known:
            yield _breakdown_table(benchmark, runs, name, edges)


def _breakdown_table(benchmark: Benchmark, runs: Sequence[Run], name: str, edges: Sequence[float]) -> Table:
    bins = {method_name(run): by_attribute(run, benchmark.attributes, name, edges) for run in runs}
    columns = ["method", *(_range(low, high) for low, high in pairwise(edges))]
    rows = [[method, *map(_cell, found)] for method, found in bins.items()]
    counts = ", ".join(str(one.positives) for one in next(iter(bins.values())))
    note = f"{ranking_name(runs[0])} / LocScore, x 100; positives in each column: {counts}."
    return Table(f"{benchmark.name} by {name}", columns, rows, [note])


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return f"below {high:.3g}"
    if math.isinf(high):
        return f"from {low:.3g}"
    return f"{low:.3g}" if high - low < 1e-6 else f"{low:.3g} to {high:.3g}"


def _cell(one: Bin) -> str:
    figures = (one.average_precision, one.loc_score)
    return " / ".join("–" if interval.queries == 0 else f"{100 * interval.mean:.1f}" for interval in figures)
