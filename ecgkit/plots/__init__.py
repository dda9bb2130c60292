"""Figures: functions that take arrays and tables and return a `matplotlib.figure.Figure`."""

from __future__ import annotations

from ecgkit.plots.beats import beat_difference, beat_grid
from ecgkit.plots.clusters import cluster_agreement, cluster_heatmap, cluster_information, k_selection
from ecgkit.plots.comparison import leaderboard, paired_differences
from ecgkit.plots.concepts import concept_removed
from ecgkit.plots.dashboard import dashboard, overview, probabilities_over_time
from ecgkit.plots.dataset import class_counts, cooccurrence, fold_sizes, metadata_by_sex
from ecgkit.plots.ecg import mistakes, plot_ecg, plot_ecgs, plot_filtering, threshold_examples
from ecgkit.plots.evaluation import (
    confusion_matrices,
    confusion_matrix,
    metric_by_class,
    precision_recall_curves,
    predicted_quantity,
    reliability,
    roc_curves,
    score_histograms,
)
from ecgkit.plots.maps import (
    explained_variance,
    map_columns,
    map_errors,
    map_grid,
    map_panels,
    map_probabilities,
)
from ecgkit.plots.probes import (
    probe_by_epoch,
    probe_by_layer,
    probe_classes,
    probe_comparison,
    probe_probability,
    probe_regression,
)
from ecgkit.plots.style import use_style
from ecgkit.plots.subgroups import cooccurrence_compared, risk_coverage, subgroup_forest
from ecgkit.plots.training import history

__all__ = [
    "beat_difference",
    "beat_grid",
    "class_counts",
    "cluster_agreement",
    "cluster_heatmap",
    "cluster_information",
    "concept_removed",
    "confusion_matrices",
    "confusion_matrix",
    "cooccurrence",
    "cooccurrence_compared",
    "dashboard",
    "explained_variance",
    "fold_sizes",
    "history",
    "k_selection",
    "leaderboard",
    "map_columns",
    "map_errors",
    "map_grid",
    "map_panels",
    "map_probabilities",
    "metadata_by_sex",
    "metric_by_class",
    "mistakes",
    "overview",
    "paired_differences",
    "plot_ecg",
    "plot_ecgs",
    "plot_filtering",
    "precision_recall_curves",
    "predicted_quantity",
    "probabilities_over_time",
    "probe_by_epoch",
    "probe_by_layer",
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
