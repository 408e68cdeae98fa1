"""Which region strategy retrieves and localises best? The paper's comparison, on logos and on the synthetic scenes.

Every strategy is compared with the one before it, query by query. Galleries are kept in `--cache`, so that a second run
only searches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import DATA, ROOT, report
from patchwise.evaluation import Run, compare_runs, summarise
from patchwise.evaluation.datasets import Benchmark, read_benchmark
from patchwise.evaluation.plots import (
    plot_accuracy_against_memory,
    plot_by_area,
    plot_by_centre_distance,
    plot_loc_score_curve,
    save_plot,
)
from patchwise.evaluation.reports import breakdown_tables
from patchwise.evaluation.sweep import default_cache, sweep
from patchwise.evaluation.tables import detail_table, summary_rows

STRATEGIES = (
    "whole",
    "pyramid:1",
    "pyramid:2",
    "pyramid:3",
    "sliding:3:0.5",
    "sliding:3:0.25",
    "proposals:selective:100",
    "oracle",
)
COMPARED = ("whole", "pyramid:3", "sliding:3:0.5", "sliding:3:0.25", "oracle")  # the paper's order
METRICS = {"average_precision": "mAP", "loc_score": "LocScore", "mean_iou": "mean IoU"}


def steps(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each strategy against the one before it, in the paper's order."""
    by_name = {run.strategy: run for run in runs}
    rows = []
    for before, after in pairwise(COMPARED):
        found = compare_runs(by_name[before], by_name[after])
        rows.append(
            {
                "before": before,
                "after": after,
                **{
                    name: {
                        "gain": 100 * found[key].difference.mean,
                        "low": 100 * found[key].difference.low,
                        "high": 100 * found[key].difference.high,
                        "p": found[key].p_value,
                    }
                    for key, name in METRICS.items()
                },
            }
        )
    return rows


def step_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"| step | {' | '.join(METRICS.values())} |", "|---|" + "---:|" * len(METRICS)]
    for row in rows:
        cells = (
            f"{row[name]['gain']:+.2f} [{row[name]['low']:+.2f}, {row[name]['high']:+.2f}]" for name in METRICS.values()
        )
        lines.append(f"| {row['before']} to {row['after']} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/ and distractors/")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the galleries")
    parser.add_argument("--regions", default=",".join(STRATEGIES))
    options = parser.parse_args()
    for name, root in (("logos", options.data), ("synthetic", None)):
        benchmark = read_benchmark(name, root, progress=lambda text: print(text, file=sys.stderr))
        evaluate(name, benchmark, options.regions.split(","), options.cache)


def evaluate(name: str, benchmark: Benchmark, regions: Sequence[str], cache: Path) -> None:
    runs = list(sweep(benchmark, regions, cache=cache, starting=lambda text: print(text, file=sys.stderr)))
    summaries = [summarise(run) for run in runs]
    compared = steps(runs)
    images = ROOT / "docs" / "images"
    for kind, figure in (
        ("locscore_over_delta", plot_loc_score_curve(runs)),
        ("by_area", plot_by_area(runs)),
        ("by_centre_distance", plot_by_centre_distance(runs)),
        ("accuracy_against_memory", plot_accuracy_against_memory(summaries)),
    ):
        save_plot(figure, images / f"evaluation_{name}_{kind}.png")
    found = detail_table(summaries)
    report(
        f"evaluation_{name}",
        f"{benchmark.name}: {len(runs[0].outcomes)} queries against {len(benchmark.image_ids):,} images. "
        f"{found.notes[0]}",
        list(found.columns),
        [list(row) for row in found.rows],
        steps=compared,
        steps_table=step_table(compared),
        breakdowns=[table.markdown() for table in breakdown_tables(benchmark, runs)],
        results=summary_rows(summaries),
    )
    print("\n".join(step_table(compared)))


if __name__ == "__main__":
    main()
