"""Every metric of one fold, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ecgkit import stats
from ecgkit.stats import Floats, FoldScores
from ecgkit.stats.regression import regression_metrics
from ecgkit.stats.resampling import PERCENTILES, RESAMPLES, count_patients, metric_intervals, several_patients


def fold_metrics(
    scores: FoldScores, thresholds: Mapping[str, Any] | None, *, weights: Floats | None = None
) -> dict[str, dict[str, Floats]]:
    """Compute every metric of one fold, or of all bootstrap resamples of it at once.

    Ranking metrics and decisions at 0.5 use the uncalibrated probabilities; decisions at the tuned thresholds,
    ``brier``, ``ece`` and ``ece_equal_mass`` use the calibrated ones.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, including the calibrated ones.
    thresholds : mapping or None
        As returned by `fit_thresholds`; None leaves the metrics that need them undefined.
    weights : ndarray of float64, shape (resamples, records), optional
        How often each record counts; see `ecgkit.stats.resampling.patient_weights`.

    Returns
    -------
    dict of str to dict of str to float or ndarray of shape (resamples,)
        Class, ``"macro"``, ``"micro"`` or ``"samples"``, then the metric. NaN where a metric is not defined; a macro
        mean is over the classes where it is defined, in each resample separately. Unknown labels are left out: of a
        class's metrics the records for which it is unknown, of ``micro``, ``hamming_loss`` and ``f_max`` the single
        labels, and of ``subset_accuracy`` every record with an unknown label.

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities, or a class has no threshold.
    """
    truth, prob, calibrated, at_half = scores.y_true, scores.prob, scores.require_calibrated(), scores.prob >= 0.5
    decided, common = at_half, None
    if thresholds is not None:
        decided, common = stats.decide(scores, thresholds), thresholds.get("f_max_threshold")

    def tuned(values: Floats, *, is_defined: bool = thresholds is not None) -> Floats:
        return values if is_defined else np.full_like(values, np.nan)

    of_decisions = stats.threshold_metrics(truth, decided, weights=weights)
    of_halves = stats.threshold_metrics(truth, at_half, weights=weights)
    of_classes = {
        "auc": stats.auc(truth, prob, weights=weights),
        "average_precision": stats.average_precision(truth, prob, weights=weights),
        **{name: tuned(values) for name, values in of_decisions.items()},
        **{f"{name}_at_half": values for name, values in of_halves.items()},
        "brier": stats.brier(truth, calibrated, weights=weights),
        "ece": stats.ece(truth, calibrated, weights=weights),
        "ece_equal_mass": stats.ece(truth, calibrated, bins="mass", weights=weights),
    }
    f_max = stats.f_max(truth, prob, threshold=0.5 if common is None else common, weights=weights)
    return {
        **{name: {metric: v[..., i] for metric, v in of_classes.items()} for i, name in enumerate(scores.classes)},
        "macro": {metric: stats.mean_of_classes(values) for metric, values in of_classes.items()},
        "micro": {
            "f1": tuned(stats.micro_f1(truth, decided, weights=weights)),
            "f1_at_half": stats.micro_f1(truth, at_half, weights=weights),
        },
        "samples": {
            "subset_accuracy": tuned(stats.subset_accuracy(truth, decided, weights=weights)),
            "hamming_loss": tuned(stats.hamming_loss(truth, decided, weights=weights)),
            "f_max": tuned(f_max, is_defined=common is not None),
            "f_max_oracle": stats.f_max_oracle(truth, prob, weights=weights),
        },
    }


def fold_report(
    scores: FoldScores, thresholds: Mapping[str, Any] | None, patient_ids: ArrayLike, *, resamples: int = RESAMPLES
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute every metric of one fold with its interval.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, including the calibrated ones.
    thresholds : mapping or None
        As returned by `fit_thresholds`.
    patient_ids : array-like, shape (records,)
        The patient of each record.
    resamples : int, default 1000
        Bootstrap resamples of patients.

    Returns
    -------
    metrics : dict
        ``{GROUP: {METRIC: {"value", "low", "high"}}}``: the 2.5 and 97.5 percentiles over the resamples, as
        `ecgkit.stats.resampling.metric_intervals`.
    bootstrap : dict
        How the intervals were computed: ``resamples``, ``patients``, ``percentiles``, and under ``without_auc`` for
        each class the number of resamples in which it lacked an outcome and was left out of the macro mean.
    """
    weights = several_patients(patient_ids, resamples=resamples)
    values, drawn = fold_metrics(scores, thresholds), fold_metrics(scores, thresholds, weights=weights)
    without_auc = {name: int(np.isnan(drawn[name]["auc"]).sum()) for name in scores.classes}
    return metric_intervals(values, drawn), bootstrap_description(patient_ids, resamples) | {"without_auc": without_auc}


def quantity_report(
    predictions: pd.DataFrame, name: str, *, resamples: int = RESAMPLES
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the metrics of a predicted quantity with their intervals.

    Parameters
    ----------
    predictions : DataFrame
        The rows of one fold: ``patient_id``, ``true_NAME`` and ``predicted_NAME``.
    name : str
        The quantity, such as ``"age"``.
    resamples : int, default 1000
        Bootstrap resamples of patients.

    Returns
    -------
    metrics, bootstrap : dict
        As of `fold_report`, with the metrics of `ecgkit.stats.regression.regression_metrics`.
    """
    true, predicted = (predictions[f"{kind}_{name}"].to_numpy() for kind in ("true", "predicted"))
    patients = predictions["patient_id"].to_numpy()
    values = {name: regression_metrics(true, predicted)}
    drawn = {name: regression_metrics(true, predicted, weights=several_patients(patients, resamples=resamples))}
    return metric_intervals(values, drawn), bootstrap_description(patients, resamples)


def bootstrap_description(patient_ids: ArrayLike, resamples: int) -> dict[str, Any]:
    """Describe a bootstrap of patients, as the JSON files of a report do."""
    patients = count_patients(patient_ids)
    return {"resamples": resamples, "of": "patients", "patients": patients, "percentiles": list(PERCENTILES)}
