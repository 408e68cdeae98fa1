"""How good it is: metrics of ranking and localisation."""

from patchwise.evaluation.metrics import average_precision, loc_score, mean_iou, pass_share

__all__ = ["average_precision", "loc_score", "mean_iou", "pass_share"]
