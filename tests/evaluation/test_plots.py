"""Plots: they show the figures of the metrics, the same in every run, and change nothing outside themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rankings import found, outcome, random_run, run

from patchwise.errors import MissingExtra, StorageFull, UsageError
from patchwise.evaluation.breakdown import DELTAS, by_area, loc_score_curve
from patchwise.evaluation.plots import (
    plot_accuracy_against_memory,
    plot_by_area,
    plot_by_centre_distance,
    plot_loc_score_curve,
    save_plot,
)
from patchwise.evaluation.tables import summarise

RUNS = [
    random_run(seed, quality=0.2 * seed, strategy=strategy, costs={"bytes_per_image": size})
    for seed, strategy, size in ((1, "whole", 600.0), (2, "pyramid:3", 15450.0), (3, "sliding:3:0.5", 43000.0))
]
LABELS = ["builtin whole", "builtin pyramid:3", "builtin sliding:3:0.5"]
PLOTS = {
    "delta": lambda: plot_loc_score_curve(RUNS),
    "area": lambda: plot_by_area(RUNS),
    "distance": lambda: plot_by_centre_distance(RUNS),
    "memory": lambda: plot_accuracy_against_memory([summarise(run, resamples=100) for run in RUNS]),
}


def test_the_curve_shows_loc_score_over_delta() -> None:
    [axes] = plot_loc_score_curve(RUNS).axes
    lines = axes.get_lines()
    assert [line.get_label() for line in lines] == LABELS
    for line, one in zip(lines, RUNS, strict=True):
        assert line.get_xdata() == pytest.approx(DELTAS)
        assert line.get_ydata() == pytest.approx(100 * loc_score_curve(one))
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 3
    assert len({line.get_linestyle() for line in lines}) > 1


def test_the_breakdown_shows_both_figures_with_their_bars() -> None:
    ranking, localisation = plot_by_area(RUNS).axes
    assert (ranking.get_ylabel(), localisation.get_ylabel()) == ("mAP (x 100)", "LocScore (x 100)")
    assert "(%)" in ranking.get_xlabel()
    bins = by_area(RUNS[1])
    line, _, [bars] = localisation.containers[1]
    assert line.get_ydata() == pytest.approx([100 * one.loc_score.mean for one in bins])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    expected = [(100 * one.loc_score.low, 100 * one.loc_score.high) for one in bins]
    assert np.array(ends) == pytest.approx(np.array(expected))
    places = [container[0].get_xdata() for container in localisation.containers]
    assert (places[0] < places[1]).all()  # side by side, so that no bar hides another
    assert (places[1] == np.arange(len(bins))).all()
    ticks = [tick.get_text() for tick in ranking.get_xticklabels()]
    assert ticks[1] == f"1–2.5\nn={bins[1].positives}"
    assert ticks[-1] == f"≥ 50\nn={bins[-1].positives}"


def test_empty_bins_at_the_ends_are_not_shown() -> None:
    figure = plot_by_centre_distance([run(outcome([found(1, distance=0.25), found(2, distance=0.45)]))])
    ticks = [tick.get_text().split("\n") for tick in figure.axes[0].get_xticklabels()]
    assert ticks == [["0.2–0.3", "n=1"], ["0.3–0.4", "n=0"], ["0.4–0.5", "n=1"]]
    assert "half diagonals" in figure.axes[0].get_xlabel()


def test_memory_is_shown_in_bytes_on_a_logarithmic_axis() -> None:
    figure = PLOTS["memory"]()
    ranking, localisation = figure.axes
    assert (ranking.get_xscale(), localisation.get_ylabel()) == ("log", "LocScore (x 100)")
    assert [container[0].get_xdata()[0] for container in ranking.containers] == [600, 15450, 43000]
    assert ranking.get_xlim() == (100, 100_000)
    formatter = ranking.xaxis.get_major_formatter()
    assert [formatter(value, 0) for value in (100, 1e3, 1e4, 1e6, 1e9)] == ["100 B", "1 kB", "10 kB", "1 MB", "1 GB"]
    without = run(outcome([found(1, None)]), costs={"bytes_per_image": 10.0})
    assert len(plot_accuracy_against_memory([summarise(without)]).axes) == 1


@pytest.mark.parametrize("name", PLOTS)
def test_files_are_the_same_every_time(tmp_path: Path, name: str) -> None:
    for copy in ("a.svg", "b.svg", "a.png"):
        save_plot(PLOTS[name](), tmp_path / copy)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 500
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50


def test_nothing_global_changes(tmp_path: Path) -> None:
    script = (
        "import sys, matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from rankings import random_run\n"
        "from patchwise.evaluation import plots\n"
        "plots.save_plot(plots.plot_loc_score_curve([random_run(1)]), sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert dict.__eq__(matplotlib.rcParams, before)\n"
    )
    path = tmp_path / "plot.svg"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.stat().st_size > 0


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    without = run(outcome([found(1, None)]))
    for plot in (plot_loc_score_curve, plot_by_area, plot_by_centre_distance):
        with pytest.raises(UsageError, match="no boxes are known"):
            plot([without])
        with pytest.raises(UsageError, match="one benchmark"):
            plot([RUNS[0], random_run(1, benchmark="other")])
        with pytest.raises(UsageError, match="one benchmark"):
            plot([])
    with pytest.raises(UsageError, match="known bytes"):
        plot_accuracy_against_memory([summarise(without)])
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        save_plot(plot_loc_score_curve(RUNS), tmp_path / "plot.pdf")
    with pytest.raises(StorageFull, match="nowhere"):
        save_plot(plot_loc_score_curve(RUNS), tmp_path / "nowhere" / "plot.png")


def test_without_matplotlib_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[eval\]'"):
        plot_loc_score_curve(RUNS)
