"""The report of a session, comparisons of sessions, and ensembles."""

from __future__ import annotations

# ruff: noqa: F401 # a name is public by its import here
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

NAMES = {
    "evaluation.comparison": ("Comparison", "compare", "compare_sessions"),
    "evaluation.comparison_session": ("ComparisonRun", "open_comparison"),
    "evaluation.ensembles": ("fit_ensemble", "write_ensemble"),
    "evaluation.external": ("ExternalPredictions", "compare_predictions", "read_predictions"),
    "evaluation.fold": ("fold_metrics", "fold_report"),
    "evaluation.fold_10": ("evaluate_test_fold",),
    "evaluation.leaderboard": ("Leaderboard", "format_table", "published", "standing"),
    "evaluation.mistakes": ("confident_mistakes", "cooccurrence_tables", "threshold_examples"),
    "evaluation.page": ("write_page",),
    "evaluation.report": (
        *("classification_report", "evaluate", "evaluate_session", "interval_table", "metrics_table"),
        *("reported_fold", "write_report"),
    ),
    "evaluation.selective": ("selective_report",),
    "evaluation.subgroups": ("subgroup_report",),
    "stats.calibration": ("add_calibration", "apply_calibration", "calibration_summary"),
    "stats.calibration_fit": ("fit_calibration",),
    "stats.thresholds": ("fit_thresholds", "policy_table"),
}
"""The public names of each module, which is imported on first use, since many need scikit-learn or matplotlib."""


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562)."""
    for module, names in NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"ecgkit.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
