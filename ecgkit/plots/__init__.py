"""Figures: functions that take arrays and tables and return a `matplotlib.figure.Figure`."""

# ruff: noqa: F401 # a name is public by its import here
from ecgkit.plots.beats import beat_difference, beat_grid
from ecgkit.plots.clusters import cluster_agreement, cluster_heatmap, cluster_information, k_selection
from ecgkit.plots.comparison import leaderboard, paired_differences
from ecgkit.plots.concepts import concept_moves, concept_removed
from ecgkit.plots.counterfactuals import changed_ecg, sign_curves
from ecgkit.plots.dashboard import dashboard, probabilities_over_time
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
from ecgkit.plots.explanations import beat_relevance, explained_ecg, lead_segments
from ecgkit.plots.filters import plot_filtered_beats, plot_spectrogram
from ecgkit.plots.maps import explained_variance, map_columns, map_errors, map_grid, map_panels, map_probabilities
from ecgkit.plots.pretraining import visible_tokens
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
from ecgkit.plots.survey import lengths_and_rates, overview, per_lead
from ecgkit.plots.training import history, pretraining_history
