"""Figures: functions that take arrays and tables and return a `matplotlib.figure.Figure`."""

from __future__ import annotations

from ecgkit.plots.comparison import leaderboard, paired_differences
from ecgkit.plots.dataset import class_counts, cooccurrence, fold_sizes, metadata_by_sex
from ecgkit.plots.ecg import plot_ecg, plot_filtering
from ecgkit.plots.evaluation import (
    confusion_matrices,
    confusion_matrix,
    metric_by_class,
    precision_recall_curves,
    reliability,
    roc_curves,
    score_histograms,
)
from ecgkit.plots.feature_space import (
    cluster_heatmap,
    explained_variance,
    k_selection,
    map_by,
    map_grid,
    probe_classes,
    probe_comparison,
    probe_probability,
    probe_regression,
)
from ecgkit.plots.style import use_style
from ecgkit.plots.subgroups import (
    cooccurrence_compared,
    ecg_strips,
    mistakes,
    risk_coverage,
    subgroup_forest,
    threshold_examples,
)
from ecgkit.plots.training import history

__all__ = [
    "class_counts",
    "cluster_heatmap",
    "confusion_matrices",
    "confusion_matrix",
    "cooccurrence",
    "cooccurrence_compared",
    "ecg_strips",
    "explained_variance",
    "fold_sizes",
    "history",
    "k_selection",
    "leaderboard",
    "map_by",
    "map_grid",
    "metadata_by_sex",
    "metric_by_class",
    "mistakes",
    "paired_differences",
    "plot_ecg",
    "plot_filtering",
    "precision_recall_curves",
    "probe_classes",
    "probe_comparison",
    "probe_probability",
    "probe_regression",
    "reliability",
    "risk_coverage",
    "roc_curves",
    "score_histograms",
    "subgroup_forest",
    "threshold_examples",
    "use_style",
]
