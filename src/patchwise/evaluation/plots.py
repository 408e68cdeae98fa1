"""Plots of runs, PNG or SVG: LocScore over delta, figures by area and by place, accuracy against memory.

Drawn with matplotlib's objects and never with pyplot: nothing global changes, no window opens, any thread may draw.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from patchwise.errors import MissingExtra, StorageFull, UsageError
from patchwise.evaluation.breakdown import DELTAS, Bin, by_area, by_centre_distance, loc_score_curve
from patchwise.evaluation.outcomes import Run
from patchwise.evaluation.tables import Summary, method_name, ranking_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_accuracy_against_memory",
    "plot_by_area",
    "plot_by_centre_distance",
    "plot_loc_score_curve",
    "save_plot",
]

# Okabe and Ito's colours, which colour-blind people tell apart, without the yellow that is lost on white; the markers
# and dashes tell the lines apart without any colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.5, 1, 1.5)))
_PANEL = (4.6, 3.6)


def plot_loc_score_curve(runs: Sequence[Run], deltas: Sequence[float] = DELTAS) -> Figure:
    """Discrete LocScore (x 100) against delta, one line per run of one benchmark.

    Raises:
        MissingExtra: matplotlib is not installed.
        UsageError: no runs, runs of several benchmarks, or no run with known boxes.
    """
    _one_benchmark(runs)
    curves = [100 * loc_score_curve(run, deltas) for run in runs]
    if all(np.isnan(curve).all() for curve in curves):
        raise UsageError(f"{runs[0].benchmark}: no boxes are known, so there is no LocScore to plot")
    figure, (axes,) = _panels(1, f"{runs[0].benchmark}: how good is localisation?")
    for number, (run, curve) in enumerate(zip(runs, curves, strict=True)):
        axes.plot(deltas, curve, label=method_name(run), markevery=2, **_style(number))
    _label(axes, "delta: IoU that a region must exceed", "LocScore, discrete (x 100)")
    axes.set_xlim(0, 1)
    _legend(figure, axes)
    return figure


def plot_by_area(runs: Sequence[Run]) -> Figure:
    """Mean average precision and LocScore (x 100) by the object's share of its image, one line per run.

    The lines join the bins of `breakdown.AREA_EDGES`; the bars are 95 % intervals over queries.

    Raises:
        MissingExtra: matplotlib is not installed.
        UsageError: no runs, runs of several benchmarks, missed positives that are not listed, or no known boxes.
    """
    return _breakdown_plot(runs, by_area, "object's share of the image area (%)", lambda edge: f"{100 * edge:g}")


def plot_by_centre_distance(runs: Sequence[Run]) -> Figure:
    """Mean average precision and LocScore (x 100) by the object's distance from the image centre, one line per run.

    The lines join the bins of `breakdown.DISTANCE_EDGES`; the bars are 95 % intervals over queries.

    Raises:
        MissingExtra: matplotlib is not installed.
        UsageError: no runs, runs of several benchmarks, missed positives that are not listed, or no known boxes.
    """
    label = "distance of the object from the image centre\n(half diagonals: 0 centre, 1 corner)"
    return _breakdown_plot(runs, by_centre_distance, label, lambda edge: f"{edge:g}")


def plot_accuracy_against_memory(summaries: Sequence[Summary]) -> Figure:
    """Mean average precision and LocScore (x 100) against bytes per image on a logarithmic axis, one mark per run.

    Raises:
        MissingExtra: matplotlib is not installed.
        UsageError: no run of one benchmark whose bytes per image are known.
    """
    known = [one for one in summaries if one.costs.get("bytes_per_image", 0) > 0]
    if not known or len({one.benchmark for one in known}) > 1:
        raise UsageError("accuracy against memory needs runs of one benchmark with known bytes per image")
    shown = [("average_precision", f"{known[0].ranking} (x 100)")]
    if any(one.metrics["loc_score"].queries for one in known):
        shown.append(("loc_score", "LocScore (x 100)"))
    figure, panels = _panels(len(shown), f"{known[0].benchmark}: accuracy against memory")
    for axes, (key, label) in zip(panels, shown, strict=True):
        for number, one in enumerate(known):
            value = one.metrics[key]
            axes.errorbar(
                one.costs["bytes_per_image"],
                100 * value.mean,
                yerr=_bars([value.mean], [value.low], [value.high]),
                label=one.method,
                capsize=3,
                **{**_style(number), "linestyle": "none", "markersize": 8},
            )
        low, high = (pick(one.costs["bytes_per_image"] for one in known) for pick in (min, max))
        first, last = math.floor(math.log10(low / 1.3)), math.ceil(math.log10(high * 1.3))
        axes.set_xscale("log", subs=(2, 5))
        axes.set_xlim(10**first, 10**last)
        axes.xaxis.set_major_formatter(_bytes)
        axes.xaxis.set_minor_formatter(_bytes if last - first < 3 else "")
        axes.tick_params(which="minor", labelsize=8)
        _label(axes, "memory per image, vectors and ids", label)
    _legend(figure, panels[0])
    return figure


def save_plot(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; `.png` or `.svg` by the name's ending. The same figure gives the same file.

    Raises:
        UsageError: another ending.
        StorageFull: it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"{path}: plots are written as .png or .svg")
    from matplotlib import rc_context

    try:
        with rc_context({"svg.hashsalt": "patchwise"}):
            metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
            figure.savefig(path, dpi=150, metadata=metadata)
    except OSError as error:
        raise StorageFull(f"{path}: cannot be written ({error.strerror or error})") from error


def _breakdown_plot(
    runs: Sequence[Run], by: Callable[[Run], list[Bin]], label: str, edge_text: Callable[[float], str]
) -> Figure:
    _one_benchmark(runs)
    bins = [by(run) for run in runs]
    used = [number for number, one in enumerate(bins[0]) if one.positives]
    if not used:
        raise UsageError(f"{runs[0].benchmark}: no boxes are known, so figures cannot be broken down by them")
    used = list(range(used[0], used[-1] + 1))
    figure, panels = _panels(2, f"{runs[0].benchmark}: " + label.split("\n", maxsplit=1)[0].split(" (", maxsplit=1)[0])
    for axes, key, name in (
        (panels[0], "average_precision", ranking_name(runs[0])),
        (panels[1], "loc_score", "LocScore"),
    ):
        for number, (run, row) in enumerate(zip(runs, bins, strict=True)):
            values = [getattr(row[place], key) for place in used]
            # Side by side, so that the bars do not hide each other.
            places = np.arange(len(used)) + 0.08 * (number - (len(runs) - 1) / 2)
            means, lows, highs = ([getattr(value, part) for value in values] for part in ("mean", "low", "high"))
            bars = _bars(means, lows, highs)
            axes.errorbar(
                places,
                100 * np.array(means),
                yerr=bars,
                label=method_name(run),
                capsize=2,
                elinewidth=0.9,
                **_style(number),
            )
        ticks = [_bin_text(bins[0][place], edge_text) + f"\nn={bins[0][place].positives}" for place in used]
        axes.set_xticks(range(len(used)), ticks, fontsize=8)
        _label(axes, label, f"{name} (x 100)")
    _legend(figure, panels[0])
    return figure


def _bin_text(one: Bin, edge_text: Callable[[float], str]) -> str:
    return f"≥ {edge_text(one.low)}" if math.isinf(one.high) else f"{edge_text(one.low)}–{edge_text(one.high)}"


def _bars(means: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> np.ndarray[Any, Any]:
    """Lengths below and above (2, N), 0 where no interval is known."""
    centre = np.array(means)
    lengths = 100 * np.stack([centre - np.array(lows), np.array(highs) - centre])
    bars: np.ndarray[Any, Any] = np.maximum(np.nan_to_num(lengths), 0)
    return bars


def _bytes(value: float, _position: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:g} {unit}"
        value /= 1000
    return f"{value:g} GB"


def _one_benchmark(runs: Sequence[Run]) -> None:
    if len({run.benchmark for run in runs}) != 1:
        raise UsageError("a plot is of the runs of one benchmark")


def _panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("drawing plots", "eval") from error
    figure = Figure(figsize=(_PANEL[0] * count, _PANEL[1] + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure, [figure.add_subplot(1, count, number + 1) for number in range(count)]


def _style(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "linewidth": 1.6,
        "markersize": 5,
    }


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, below them, where it covers no line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2 if len(figure.axes) == 1 else 5,
        fontsize=8,
        frameon=False,
    )
