"""Every metric of one fold, by itself and with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.stats import Floats, FoldScores
from ecgkit.stats.resampling import PERCENTILES, RESAMPLES, metric_intervals, patient_weights


def fold_metrics(
    scores: FoldScores, thresholds: Mapping[str, Any] | None, *, weights: Floats | None = None
) -> dict[str, dict[str, Floats]]:
    """Compute every metric of one fold, or of all bootstrap resamples of it at once.

    Ranking and decisions are those of the probabilities as the network gives them; ``brier``, ``ece`` and
    ``ece_equal_mass`` are those of the calibrated ones.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, with the calibrated ones.
    thresholds : mapping or None
        What `fit_thresholds` gave; None leaves what needs them undefined.
    weights : ndarray of float64, shape (resamples, records), optional
        How often each record counts; see `ecgkit.stats.resampling.patient_weights`.

    Returns
    -------
    dict of str to dict of str to float or ndarray of shape (resamples,)
        Class, ``"macro"``, ``"micro"`` or ``"samples"``, then the metric. NaN where a metric is not defined; a macro
        mean is over the classes where it is, in each resample by itself.

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities, or a class has no threshold.
    """
    if scores.calibrated is None:
        raise EcgkitError('the predictions have no columns "calibrated_CLASS": add them with add_calibration')
    truth, prob = scores.y_true, scores.prob
    of_classes = {
        "auc": stats.auc(truth, prob, weights=weights),
        "average_precision": stats.average_precision(truth, prob, weights=weights),
        **_of_decisions(scores, thresholds, weights),
        "brier": stats.brier(truth, scores.calibrated, weights=weights),
        "ece": stats.ece(truth, scores.calibrated, weights=weights),
        "ece_equal_mass": stats.ece(truth, scores.calibrated, bins="mass", weights=weights),
    }
    table = {
        name: {metric: values[..., i] for metric, values in of_classes.items()} for i, name in enumerate(scores.classes)
    }
    return table | {
        "macro": {metric: stats.mean_of_classes(values) for metric, values in of_classes.items()},
        **_of_all_classes(scores, thresholds, weights),
    }


def _of_decisions(
    scores: FoldScores, thresholds: Mapping[str, Any] | None, weights: Floats | None
) -> dict[str, Floats]:
    """Compute what each class's decisions give, at the tuned thresholds and at 0.5."""
    at_half = stats.threshold_metrics(scores.y_true, scores.prob >= 0.5, weights=weights)
    tuned = {name: np.full_like(values, np.nan) for name, values in at_half.items()}
    if thresholds is not None:
        decided = stats.decide(scores, thresholds)
        tuned = stats.threshold_metrics(scores.y_true, decided, weights=weights)
    return tuned | {f"{name}_at_half": values for name, values in at_half.items()}


def _of_all_classes(
    scores: FoldScores, thresholds: Mapping[str, Any] | None, weights: Floats | None
) -> dict[str, dict[str, Floats]]:
    """Compute what is defined over all classes of a record together."""
    truth, prob = scores.y_true, scores.prob
    f1_at_half = stats.micro_f1(truth, prob >= 0.5, weights=weights)
    nothing = np.full_like(f1_at_half, np.nan)
    micro = {"f1": nothing, "f1_at_half": f1_at_half}
    samples = dict.fromkeys(("subset_accuracy", "hamming_loss", "f_max"), nothing)
    if thresholds is not None:
        decided = stats.decide(scores, thresholds)
        micro["f1"] = stats.micro_f1(truth, decided, weights=weights)
        samples["subset_accuracy"] = stats.subset_accuracy(truth, decided, weights=weights)
        samples["hamming_loss"] = stats.hamming_loss(truth, decided, weights=weights)
        common = thresholds.get("f_max_threshold")
        if common is not None:
            samples["f_max"] = stats.f_max(truth, prob, threshold=common, weights=weights)
    return {"micro": micro, "samples": samples | {"f_max_oracle": stats.f_max_oracle(truth, prob, weights=weights)}}


def fold_report(
    scores: FoldScores, thresholds: Mapping[str, Any] | None, patient_ids: ArrayLike, *, resamples: int = RESAMPLES
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute every metric of one fold with its interval.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, with the calibrated ones.
    thresholds : mapping
        What `fit_thresholds` gave.
    patient_ids : array-like, shape (records,)
        Whose record each is.
    resamples : int, default 1000
        Bootstrap resamples of patients.

    Returns
    -------
    metrics : dict
        ``{GROUP: {METRIC: {"value", "low", "high"}}}``: the 2.5 and 97.5 percentiles over the resamples in which the
        metric is defined. None where it is not.
    bootstrap : dict
        How the intervals came about: ``resamples``, ``patients``, ``percentiles``, and under ``without_auc`` for each
        class in how many resamples it lacked an outcome, so that it was left out of their macro mean.
    """
    weights = patient_weights(patient_ids, resamples=resamples)
    if len(np.unique(np.asarray(patient_ids))) < 2:
        weights = weights[:0]  # one patient says nothing about others: there is no interval
    values, drawn = fold_metrics(scores, thresholds), fold_metrics(scores, thresholds, weights=weights)
    entries = metric_intervals(values, drawn)
    bootstrap = {
        "resamples": resamples,
        "of": "patients",
        "patients": len(np.unique(np.asarray(patient_ids))),
        "percentiles": list(PERCENTILES),
        "without_auc": {name: int(np.isnan(drawn[name]["auc"]).sum()) for name in scores.classes},
    }
    return entries, bootstrap
