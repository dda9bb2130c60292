"""Metrics of multilabel classification on arrays: ranking, decisions, calibration, and the table of predictions.

A class is predicted where its score is at least the threshold. A metric that is not defined for the records (an AUC
without both outcomes, a sensitivity without positives) is NaN, and left out of a macro mean.

Every metric takes ``weights`` of shape (resamples, records): how often each record counts, for example in a bootstrap.
It then returns one value per resample, as if the records had been repeated.
"""

# ruff: noqa: F401 # a name is public by its import here
from ecgkit.stats.calibration_error import N_BINS, brier, calibrated_ece_interval, ece, reliability
from ecgkit.stats.classification import (
    best_f1_threshold,
    f_max,
    f_max_oracle,
    f_max_threshold,
    hamming_loss,
    micro_f1,
    sensitivity_threshold,
    specificity_threshold,
    subset_accuracy,
    threshold_metrics,
    youden_threshold,
)
from ecgkit.stats.ranking import auc, average_precision, macro_auc, mean_of_classes, operating_points
from ecgkit.stats.validation import (
    Bools,
    Floats,
    FoldScores,
    check_probabilities,
    check_scores,
    class_thresholds,
    decide,
    fold_scores,
)
