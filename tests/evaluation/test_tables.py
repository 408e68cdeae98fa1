"""Tables: the poster's layout, figures that are those of the metrics, notes where a figure needs one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from rankings import POSTER, found, outcome, random_run, run

from patchwise.errors import UsageError
from patchwise.evaluation.metrics import METRICS, per_query
from patchwise.evaluation.outcomes import Missed
from patchwise.evaluation.statistics import compare_runs
from patchwise.evaluation.tables import (
    Table,
    comparison_rows,
    comparison_table,
    detail_table,
    method_name,
    ranking_name,
    result_tables,
    summarise,
    summary_rows,
)

COSTS = {"regions_per_image": 30.0, "bytes_per_image": 15450.0, "seconds_per_query": 0.0123}


def cells(table: Table, row: int = 0) -> dict[str, str]:
    return dict(zip(table.columns, table.rows[row], strict=True))


def test_the_poster_example_as_a_table() -> None:
    table = detail_table([summarise(replace(POSTER, costs=COSTS))])
    assert cells(table) == {
        "method": "builtin pyramid:3",
        "mAP": "74.70",
        "LocScore": "27.45",
        "LocScore > 0.5": "18.75",
        "mean IoU": "0.390",
        "IoU > 0.5": "25.0 %",
        "R@1": "100.0 %",
        "regions/image": "30.0",
        "bytes/image": "15,450",
        "s/query": "0.012",
    }
    assert cells(detail_table([summarise(POSTER, delta=0.3)]))["LocScore > 0.3"] == "49.70"


def test_markdown_and_text_hold_the_same_cells() -> None:
    table = Table("Title", ["method", "a|b"], [["x", "1"], ["longer", "22.5"]], ["A note."])
    assert table.markdown() == (
        "**Title**\n\n| method | a\\|b |\n|---|---:|\n| x | 1 |\n| longer | 22.5 |\n\nA note.\n"
    )
    assert table.text() == "Title\n\nmethod   a|b\n------  ----\nx          1\nlonger  22.5\n\nA note.\n"


def test_figures_come_with_the_interval_of_the_groups() -> None:
    summary = summarise(random_run(1))
    value = summary.metrics["loc_score"]
    assert value.mean == pytest.approx(per_query(random_run(1))["loc_score"].mean())
    assert value.low < value.mean < value.high
    shown = cells(detail_table([summary]))["LocScore"]
    assert shown == f"{100 * value.mean:.2f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"
    assert detail_table([summary]).notes[0].endswith("the 95% interval by bootstrap over groups of queries.")


def test_several_benchmarks_begin_with_the_posters_layout() -> None:
    summaries = [
        summarise(random_run(seed, strategy=strategy, benchmark=benchmark, rule=rule, depth=depth), resamples=100)
        for benchmark, rule, depth in (("INSTRE", "trapezoid", None), ("ILIAS", "at depth", 1000))
        for seed, strategy in ((1, "whole"), (2, "pyramid:3"))
    ]
    poster, instre, ilias = result_tables(summaries[:3])
    assert poster.columns == [
        "method",
        "INSTRE mAP (trapezoid)",
        "INSTRE LocScore",
        "ILIAS mAP@1000",
        "ILIAS LocScore",
    ]
    assert [row[0] for row in poster.rows] == ["builtin whole", "builtin pyramid:3"]
    assert poster.rows[1][3:] == ["–", "–"]
    assert poster.rows[0][1] == cells(instre)["mAP (trapezoid)"]
    assert (len(instre.rows), len(ilias.rows)) == (2, 1)
    assert [table.title for table in result_tables(summaries[:2])] == ["INSTRE, 30 queries"]


def test_the_ceiling_of_loc_score_is_printed_where_the_map_is_another() -> None:
    assert not any("rectangles" in note for note in detail_table([summarise(POSTER)]).notes)
    other = detail_table([summarise(replace(POSTER, average_precision="trapezoid"))])
    assert other.notes[1] == "LocScore never exceeds the mAP by rectangles, which is: builtin pyramid:3 74.70."
    part = run(outcome([found(1), found(2, None)]), rule="trapezoid")
    assert not any("rectangles" in note for note in detail_table([summarise(part)]).notes)


@pytest.mark.parametrize(
    ("rule", "depth", "name"),
    [
        ("rectangle", None, "mAP"),
        ("trapezoid", None, "mAP (trapezoid)"),
        ("at depth", 1000, "mAP@1000"),
        ("rectangle", 50, "mAP of the first 50"),
    ],
)
def test_the_printed_map_says_which_it_is(rule: str, depth: int | None, name: str) -> None:
    assert ranking_name(replace(POSTER, average_precision=rule, depth=depth)) == name


def test_what_is_unknown_is_a_dash_and_null() -> None:
    summary = summarise(run(outcome([found(1, None)], [Missed("m", None, None)])))
    shown = cells(detail_table([summary]))
    assert shown["mAP"] == "50.00"
    assert {shown[name] for name in ("LocScore", "mean IoU", "IoU > 0.5", "bytes/image")} == {"–"}
    [row] = json.loads(json.dumps(summary_rows([summary]), allow_nan=False))
    assert row["metrics"]["average_precision"] == {"mean": 0.5, "low": None, "high": None, "queries": 1}
    assert row["metrics"]["loc_score"] == {"mean": None, "low": None, "high": None, "queries": 0}
    assert (row["placed"], row["method"], tuple(row["metrics"])) == (0, "builtin pyramid:3", METRICS)


def test_partly_known_places_are_said() -> None:
    part = run(outcome([found(1), found(2, None)], [Missed("m", 0.1, 0.1), Missed("n", None, None)]))
    summary = summarise(part)
    assert summary.placed == 0.5
    assert any("the place of 50.0% of the positives is known" in note for note in detail_table([summary]).notes)
    assert summarise(POSTER).placed == 1


def test_methods_of_one_name_differ_by_their_whitening() -> None:
    assert method_name(replace(POSTER, details={"whitening": "shipped"})) == "builtin pyramid:3"
    assert method_name(replace(POSTER, details={"whitening": "gallery"})) == "builtin pyramid:3 own whitening"
    assert method_name(replace(POSTER, encoder={})) == "pyramid:3"


def test_two_runs_compared() -> None:
    a, b = random_run(1, quality=0.3), random_run(2, quality=0.6, strategy="sliding:3:0.5")
    comparisons = compare_runs(a, b, delta=0.4, confidence=0.9)
    table = comparison_table(a, b, comparisons, 0.4, 0.9)
    assert [row[0] for row in table.rows] == ["mAP", "R@1", "LocScore", "LocScore > 0.4", "mean IoU", "IoU > 0.4"]
    shown = cells(table, 4)
    one = comparisons["mean_iou"]
    assert shown["B - A"] == f"{100 * one.difference.mean:+.2f}"
    assert shown["90% interval"] == f"[{100 * one.difference.low:+.2f}, {100 * one.difference.high:+.2f}]"
    assert shown["p"] == "0.002"  # ten groups, all of one sign: 2 of the 2^10 sign flips
    assert sum(int(shown[name]) for name in ("better", "equal", "worse")) == one.difference.queries
    assert table.notes[0] == "A: builtin pyramid:3. B: builtin sliding:3:0.5."
    rows = json.loads(json.dumps(comparison_rows(comparisons), allow_nan=False))
    assert rows["mean_iou"]["difference"]["mean"] == pytest.approx(one.difference.mean)


def test_a_comparison_leaves_out_what_neither_run_knows() -> None:
    without = run(outcome([found(1, None)], query="a"), outcome([found(2, None)], query="b"), depth=10, rule="at depth")
    table = comparison_table(without, without, compare_runs(without, without), 0.5, 0.95)
    assert [row[0] for row in table.rows] == ["mAP@10", "mAP (rectangle)", "R@1"]
    single = run(outcome([found(1, None)]))
    shown = cells(comparison_table(single, single, compare_runs(single, single), 0.5, 0.95))
    assert (shown["95% interval"], shown["p"]) == ("–", "–")
    assert comparison_rows(compare_runs(single, single))["loc_score"]["p_value"] is None


def test_tables_of_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="no queries"):
        summarise(run())
    with pytest.raises(UsageError, match="one benchmark"):
        detail_table([])
    with pytest.raises(UsageError, match="one delta"):
        detail_table([summarise(POSTER), summarise(POSTER, delta=0.3)])
    assert result_tables([]) == []
    assert np.isnan(summarise(POSTER).metrics["loc_score"].low)
