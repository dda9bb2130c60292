"""The report of a session, comparisons of sessions, and ensembles."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecgkit.evaluation.comparison import Comparison, compare, compare_sessions
    from ecgkit.evaluation.comparison_session import ComparisonRun, open_comparison
    from ecgkit.evaluation.ensembles import fit_ensemble, write_ensemble
    from ecgkit.evaluation.external import ExternalPredictions, compare_predictions, read_predictions
    from ecgkit.evaluation.fold import fold_metrics, fold_report
    from ecgkit.evaluation.fold_10 import evaluate_test_fold
    from ecgkit.evaluation.leaderboard import Leaderboard, format_table, published, standing
    from ecgkit.evaluation.mistakes import confident_mistakes, cooccurrence_tables, threshold_examples
    from ecgkit.evaluation.page import write_page
    from ecgkit.evaluation.report import (
        classification_report,
        evaluate,
        evaluate_session,
        interval_table,
        metrics_table,
        reported_fold,
        write_report,
    )
    from ecgkit.evaluation.selective import selective_report
    from ecgkit.evaluation.subgroups import subgroup_report
    from ecgkit.stats.calibration import add_calibration, apply_calibration, calibration_summary
    from ecgkit.stats.calibration_fit import fit_calibration
    from ecgkit.stats.thresholds import fit_thresholds, policy_table

__all__ = [
    "Comparison",
    "ComparisonRun",
    "ExternalPredictions",
    "Leaderboard",
    "add_calibration",
    "apply_calibration",
    "calibration_summary",
    "classification_report",
    "compare",
    "compare_predictions",
    "compare_sessions",
    "confident_mistakes",
    "cooccurrence_tables",
    "evaluate",
    "evaluate_session",
    "evaluate_test_fold",
    "fit_calibration",
    "fit_ensemble",
    "fit_thresholds",
    "fold_metrics",
    "fold_report",
    "format_table",
    "interval_table",
    "metrics_table",
    "open_comparison",
    "policy_table",
    "published",
    "read_predictions",
    "reported_fold",
    "selective_report",
    "standing",
    "subgroup_report",
    "threshold_examples",
    "write_ensemble",
    "write_page",
    "write_report",
]

MODULES = (
    *("comparison", "comparison_session", "ensembles", "external", "fold", "fold_10", "leaderboard", "mistakes"),
    *("page", "report", "selective", "subgroups"),
)
STATS_MODULES = ("calibration", "calibration_fit", "thresholds")


def __getattr__(name: str) -> object:
    """Import a public name on first use, since many of them need scikit-learn, matplotlib or torch."""
    modules = [f"ecgkit.evaluation.{module}" for module in MODULES] + [f"ecgkit.stats.{one}" for one in STATS_MODULES]
    for module in modules if name in __all__ else ():
        found = getattr(importlib.import_module(module), name, None)
        if found is not None and found.__module__ == module:
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
