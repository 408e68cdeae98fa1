"""How good it is: metrics of ranking and localisation."""

from patchwise.evaluation.breakdown import Bin, breakdown, by_area, by_attribute, by_centre_distance, loc_score_curve
from patchwise.evaluation.ilias_results import IliasResultsWriter, evaluate_ilias_results, read_ilias_results
from patchwise.evaluation.metrics import average_precision, loc_score, mean_iou, pass_share, per_query
from patchwise.evaluation.outcomes import Found, Missed, QueryOutcome, Run
from patchwise.evaluation.run_files import load_run, save_run
from patchwise.evaluation.statistics import Comparison, Interval, bootstrap, compare_runs, paired
from patchwise.evaluation.tables import Summary, Table, comparison_table, result_tables, summarise

__all__ = [
    "Bin",
    "Comparison",
    "Found",
    "IliasResultsWriter",
    "Interval",
    "Missed",
    "QueryOutcome",
    "Run",
    "Summary",
    "Table",
    "average_precision",
    "bootstrap",
    "breakdown",
    "by_area",
    "by_attribute",
    "by_centre_distance",
    "compare_runs",
    "comparison_table",
    "evaluate_ilias_results",
    "load_run",
    "loc_score",
    "loc_score_curve",
    "mean_iou",
    "paired",
    "pass_share",
    "per_query",
    "read_ilias_results",
    "result_tables",
    "save_run",
    "summarise",
]
