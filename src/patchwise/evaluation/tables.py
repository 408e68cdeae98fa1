"""Runs as tables: Markdown, plain text and JSON-able rows, in the layout of the Patch-wise Retrieval poster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from patchwise.errors import UsageError
from patchwise.evaluation.metrics import per_query
from patchwise.evaluation.outcomes import Run
from patchwise.evaluation.statistics import Comparison, Interval, bootstrap, groups_of

__all__ = [
    "COSTS",
    "Summary",
    "Table",
    "comparison_rows",
    "comparison_table",
    "detail_table",
    "method_name",
    "ranking_name",
    "result_tables",
    "summarise",
    "summary_rows",
]

COSTS = ("regions_per_image", "bytes_per_image", "seconds_per_query")
_NONE = "–"


@dataclass(frozen=True)
class Table:
    """Cells as text: the first column is aligned left, the others right; `notes` stand below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table in GitHub's Markdown, with its title in bold above and the notes below."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        ruler = "|---|" + "---:|" * (len(self.columns) - 1)
        parts = [f"**{self.title}**", "", line(self.columns), ruler, *map(line, self.rows)]
        return "\n".join([*parts, *(part for note in self.notes for part in ("", note))]) + "\n"

    def text(self) -> str:
        """The table for a terminal, columns aligned by spaces."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]

        def line(cells: Sequence[str]) -> str:
            first, *others = (cell.ljust(widths[0]) if not n else cell.rjust(widths[n]) for n, cell in enumerate(cells))
            return "  ".join([first, *others]).rstrip()

        ruler = "  ".join("-" * width for width in widths)
        return (
            "\n".join([self.title, "", line(self.columns), ruler, *map(line, self.rows), "", *self.notes]).rstrip()
            + "\n"
        )


@dataclass(frozen=True)
class Summary:
    """The figures of one run, in [0, 1], each with its interval; `metrics` has the keys of `metrics.METRICS`.

    `placed` is the share of the positives whose place is known, over which localisation is judged.
    """

    benchmark: str
    method: str
    ranking: str
    delta: float
    confidence: float
    queries: int
    placed: float
    metrics: Mapping[str, Interval]
    costs: Mapping[str, float]

    def row(self) -> dict[str, Any]:
        """The same as plain JSON types; what is unknown is None."""
        record = asdict(self)
        record["metrics"] = {name: _finite(asdict(interval)) for name, interval in self.metrics.items()}
        record["costs"] = _finite(self.costs)
        return record


def ranking_name(run: Run) -> str:
    """How the printed mean average precision is called: `mAP`, `mAP (trapezoid)` or `mAP@1000`."""
    if run.average_precision == "at depth":
        return f"mAP@{run.depth}"
    name = "mAP" if run.average_precision == "rectangle" else f"mAP ({run.average_precision})"
    return name if run.depth is None else f"{name} of the first {run.depth}"


def method_name(run: Run) -> str:
    """Encoder, region strategy, and whatever else tells this run from others of them."""
    adapted = run.details.get("whitening") == "gallery"
    return " ".join(filter(None, [str(run.encoder.get("id", "")), run.strategy, "own whitening" if adapted else ""]))


def summarise(
    run: Run, delta: float = 0.5, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Summary:
    """Every metric of a run with its bootstrap interval, resampling whole groups of queries.

    Raises:
        UsageError: a run without queries, or what `per_query` and `bootstrap` refuse.
    """
    if not run.outcomes:
        raise UsageError(f"the run of {run.strategy} on {run.benchmark} has no queries, so there is nothing to average")
    groups = groups_of(run)
    metrics = {
        name: bootstrap(values, groups, confidence, resamples, seed) for name, values in per_query(run, delta).items()
    }
    unplaced = sum(item.iou is None for outcome in run.outcomes for item in outcome.found)
    unplaced += sum(item.object_share is None for outcome in run.outcomes for item in outcome.missed)
    positives = sum(outcome.positives for outcome in run.outcomes)
    return Summary(
        benchmark=run.benchmark,
        method=method_name(run),
        ranking=ranking_name(run),
        delta=delta,
        confidence=confidence,
        queries=len(run.outcomes),
        placed=1 - unplaced / positives if metrics["loc_score"].queries else 0.0,
        metrics=metrics,
        costs=run.costs,
    )


def summary_rows(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """One JSON-able row per run."""
    return [summary.row() for summary in summaries]


def result_tables(summaries: Sequence[Summary]) -> list[Table]:
    """The poster's table (method; mAP and LocScore of each benchmark), then the details of each benchmark.

    With one benchmark the details come alone, since they begin with the same columns.
    """
    benchmarks = list(dict.fromkeys(summary.benchmark for summary in summaries))
    details = [detail_table([one for one in summaries if one.benchmark == name]) for name in benchmarks]
    if len(benchmarks) < 2:
        return details
    cells = {(one.method, one.benchmark): one for one in summaries}
    columns, rows = ["method"], []
    for name in benchmarks:
        ranking = next(one.ranking for one in summaries if one.benchmark == name)
        columns += [f"{name} {ranking}", f"{name} LocScore"]
    for method in dict.fromkeys(one.method for one in summaries):
        row = [method]
        for name in benchmarks:
            one = cells.get((method, name))
            row += [_percent(one.metrics[key]) if one else _NONE for key in ("average_precision", "loc_score")]
        rows.append(row)
    return [Table("Retrieval and localisation", columns, rows, [_interval_note(summaries)]), *details]


def detail_table(summaries: Sequence[Summary]) -> Table:
    """All figures of one benchmark's runs: rankings and LocScore x 100 with intervals, IoU, and what the search costs.

    Raises:
        UsageError: no summaries, or summaries of several benchmarks, rankings or deltas.
    """
    if len({(one.benchmark, one.ranking, one.delta) for one in summaries}) != 1:
        raise UsageError("a detail table is of one benchmark, with one ranking and one delta")
    first = summaries[0]
    columns = [
        "method",
        first.ranking,
        "LocScore",
        f"LocScore > {first.delta:g}",
        "mean IoU",
        f"IoU > {first.delta:g}",
        "R@1",
        "regions/image",
        "bytes/image",
        "s/query",
    ]
    rows = [
        [
            one.method,
            _percent(one.metrics["average_precision"]),
            _percent(one.metrics["loc_score"]),
            _plain(one.metrics["loc_score_discrete"].mean, "{:.2f}", 100),
            _plain(one.metrics["mean_iou"].mean, "{:.3f}"),
            _plain(one.metrics["pass_share"].mean, "{:.1f} %", 100),
            _plain(one.metrics["recall_at_1"].mean, "{:.1f} %", 100),
            _plain(one.costs.get("regions_per_image"), "{:.1f}"),
            _plain(one.costs.get("bytes_per_image"), "{:,.0f}"),
            _plain(one.costs.get("seconds_per_query"), "{:.2g}"),
        ]
        for one in summaries
    ]
    notes = [_interval_note(summaries)]
    judged = [one for one in summaries if one.placed == 1]
    if first.ranking != "mAP" and judged:
        ceilings = ", ".join(
            f"{one.method} {_plain(one.metrics['average_precision_rectangle'].mean, '{:.2f}', 100)}" for one in judged
        )
        notes.append(f"LocScore never exceeds the mAP by rectangles, which is: {ceilings}.")
    for one in summaries:
        if 0 < one.placed < 1:
            notes.append(
                f"{one.method}: the place of {one.placed:.1%} of the positives is known; localisation is judged on "
                f"these, over {one.metrics['loc_score'].queries} queries, with the others taken out of the ranking."
            )
    return Table(f"{first.benchmark}, {first.queries} queries", columns, rows, notes)


def comparison_table(a: Run, b: Run, comparisons: Mapping[str, Comparison], delta: float, confidence: float) -> Table:
    """Two runs side by side: each metric of `compare_runs`, its difference, interval and p-value.

    `delta` and `confidence` are those that `compare_runs` was called with.
    """
    names = {
        "average_precision": ranking_name(a),
        "average_precision_rectangle": "mAP (rectangle)",
        "recall_at_1": "R@1",
        "loc_score": "LocScore",
        "loc_score_discrete": f"LocScore > {delta:g}",
        "mean_iou": "mean IoU",
        "pass_share": f"IoU > {delta:g}",
    }
    if a.average_precision == "rectangle":
        del names["average_precision_rectangle"]
    columns = ["x 100", "A", "B", "B - A", f"{confidence:.0%} interval", "p", "better", "equal", "worse"]
    rows = []
    for name, shown in names.items():
        one = comparisons[name]
        if one.difference.queries == 0:
            continue
        rows.append(
            [
                shown,
                _plain(one.a, "{:.2f}", 100),
                _plain(one.b, "{:.2f}", 100),
                _plain(one.difference.mean, "{:+.2f}", 100),
                _range(one.difference, "{:+.2f}"),
                _p(one.p_value),
                *(str(count) for count in (one.better, one.equal, one.worse)),
            ]
        )
    notes = [
        f"A: {method_name(a)}. B: {method_name(b)}.",
        "p: two-sided sign-flip test; better, equal, worse: queries of which B is above, level with or below A.",
    ]
    return Table(f"{a.benchmark}, {len(a.outcomes)} queries", columns, rows, notes)


def comparison_rows(comparisons: Mapping[str, Comparison]) -> dict[str, dict[str, Any]]:
    """The comparison as plain JSON types; what is unknown is None."""
    rows = {}
    for name, one in comparisons.items():
        record = _finite(asdict(one))
        record["difference"] = _finite(record["difference"])
        rows[name] = record
    return rows


def _interval_note(summaries: Sequence[Summary]) -> str:
    share = " and ".join(sorted({f"{one.confidence:.0%}" for one in summaries}))
    return f"mAP and LocScore x 100; in brackets the {share} interval by bootstrap over groups of queries."


def _percent(interval: Interval) -> str:
    said = _plain(interval.mean, "{:.2f}", 100)
    return said if math.isnan(interval.low) else f"{said} {_range(interval, '{:.1f}')}"


def _range(interval: Interval, form: str) -> str:
    if math.isnan(interval.low):
        return _NONE
    return f"[{form.format(100 * interval.low)}, {form.format(100 * interval.high)}]"


def _plain(value: float | None, form: str, factor: float = 1) -> str:
    return _NONE if value is None or math.isnan(value) else form.format(factor * value)


def _p(value: float) -> str:
    if math.isnan(value):
        return _NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }
