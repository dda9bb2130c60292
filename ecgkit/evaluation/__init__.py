"""What a session's report says: thresholds and calibration fitted on fold 9, metrics of folds 9 and 10, the files."""

from __future__ import annotations

from ecgkit.evaluation.calibration import add_calibration, apply_calibration, fit_calibration
from ecgkit.evaluation.report import classification_report, evaluate, evaluate_session, fold_metrics, metrics_table
from ecgkit.evaluation.thresholds import fit_thresholds

__all__ = [
    "add_calibration",
    "apply_calibration",
    "classification_report",
    "evaluate",
    "evaluate_session",
    "fit_calibration",
    "fit_thresholds",
    "fold_metrics",
    "metrics_table",
]
