"""The report of a session, comparisons of sessions, and ensembles."""

from __future__ import annotations

# ruff: noqa: F401 # a name is public by its import here
from typing import TYPE_CHECKING

from ecgkit.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__)  # many need scikit-learn or matplotlib
