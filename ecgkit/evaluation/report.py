"""The numbers of a session's report, and its files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import sklearn.metrics
from numpy.typing import ArrayLike

from ecgkit import metrics
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.evaluation.calibration import add_calibration, fit_calibration
from ecgkit.evaluation.resampling import PERCENTILES, RESAMPLES, interval, patient_weights
from ecgkit.evaluation.thresholds import IN_WORDS, fit_thresholds
from ecgkit.metrics import Floats, FoldScores
from ecgkit.metrics.table import divide
from ecgkit.store import TEST_FOLD, VALIDATION_FOLD

METRICS_VERSION = 1
"""The version of the layout of ``metrics.json``."""


class ReportFolder(Protocol):
    """What a report needs of the session it is written into."""

    def write_json(self, name: str, data: object) -> Path:
        """Write a JSON file."""

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file."""

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a Parquet table."""


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
        How often each record counts; see `ecgkit.evaluation.resampling.patient_weights`.

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
        "auc": metrics.auc(truth, prob, weights=weights),
        "average_precision": metrics.average_precision(truth, prob, weights=weights),
        **_of_decisions(scores, thresholds, weights),
        "brier": metrics.brier(truth, scores.calibrated, weights=weights),
        "ece": metrics.ece(truth, scores.calibrated, weights=weights),
        "ece_equal_mass": metrics.ece(truth, scores.calibrated, bins="mass", weights=weights),
    }
    table = {
        name: {metric: values[..., i] for metric, values in of_classes.items()} for i, name in enumerate(scores.classes)
    }
    return table | {
        "macro": {metric: _mean_of_classes(values) for metric, values in of_classes.items()},
        **_of_all_classes(scores, thresholds, weights),
    }


def _of_decisions(
    scores: FoldScores, thresholds: Mapping[str, Any] | None, weights: Floats | None
) -> dict[str, Floats]:
    """Compute what each class's decisions give, at the tuned thresholds and at 0.5."""
    at_half = metrics.threshold_metrics(scores.y_true, scores.prob >= 0.5, weights=weights)
    tuned = {name: np.full_like(values, np.nan) for name, values in at_half.items()}
    if thresholds is not None:
        decided = scores.prob >= metrics.class_thresholds(thresholds, scores.classes)
        tuned = metrics.threshold_metrics(scores.y_true, decided, weights=weights)
    return tuned | {f"{name}_at_half": values for name, values in at_half.items()}


def _of_all_classes(
    scores: FoldScores, thresholds: Mapping[str, Any] | None, weights: Floats | None
) -> dict[str, dict[str, Floats]]:
    """Compute what is defined over all classes of a record together."""
    truth, prob = scores.y_true, scores.prob
    f1_at_half = metrics.micro_f1(truth, prob >= 0.5, weights=weights)
    nothing = np.full_like(f1_at_half, np.nan)
    micro = {"f1": nothing, "f1_at_half": f1_at_half}
    samples = dict.fromkeys(("subset_accuracy", "hamming_loss", "f_max"), nothing)
    if thresholds is not None:
        decided = prob >= metrics.class_thresholds(thresholds, scores.classes)
        micro["f1"] = metrics.micro_f1(truth, decided, weights=weights)
        samples["subset_accuracy"] = metrics.subset_accuracy(truth, decided, weights=weights)
        samples["hamming_loss"] = metrics.hamming_loss(truth, decided, weights=weights)
        common = thresholds.get("f_max_threshold")
        if common is not None:
            samples["f_max"] = metrics.f_max(truth, prob, threshold=common, weights=weights)
    return {"micro": micro, "samples": samples | {"f_max_oracle": metrics.f_max_oracle(truth, prob, weights=weights)}}


def _mean_of_classes(values: Floats) -> Floats:
    """Average over the classes that have a value."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


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
    values, drawn = fold_metrics(scores, thresholds), fold_metrics(scores, thresholds, weights=weights)
    entries = {
        group: {metric: _entry(float(value), *interval(drawn[group][metric])) for metric, value in of_group.items()}
        for group, of_group in values.items()
    }
    bootstrap = {
        "resamples": resamples,
        "of": "patients",
        "patients": len(np.unique(np.asarray(patient_ids))),
        "percentiles": list(PERCENTILES),
        "without_auc": {name: int(np.isnan(drawn[name]["auc"]).sum()) for name in scores.classes},
    }
    return entries, bootstrap


def evaluate(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    thresholds: Mapping[str, Any] | None,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compute what ``metrics.json`` holds.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions with folds 9 and 10, calibrated.
    classes : sequence of str
        The classes.
    thresholds : mapping or None
        What `fit_thresholds` gave. None where there is no fold 9 to choose them on; the result then has fold 10 alone.
    resamples : int, default 1000
        Bootstrap resamples of patients.

    Returns
    -------
    dict
        ``{"version": 1, "fold_9": {GROUP: {METRIC: {"value", "low", "high"}}}, "fold_10": ..., "bootstrap": {"fold_9":
        ..., "fold_10": ...}}``; see `fold_report`. A value is None where the metric is not defined.

    Raises
    ------
    EcgkitError
        If a fold, a column or a threshold is missing, or a probability is NaN or outside 0 to 1.
    """
    result: dict[str, Any] = {"version": METRICS_VERSION}
    bootstrap = {}
    for fold in (TEST_FOLD,) if thresholds is None else (VALIDATION_FOLD, TEST_FOLD):
        scores = metrics.fold_scores(predictions, classes, fold)
        patients = predictions.loc[predictions["fold"] == fold, "patient_id"].to_numpy()
        key = f"fold_{fold}"
        result[key], bootstrap[key] = fold_report(scores, thresholds, patients, resamples=resamples)
    return result | {"bootstrap": bootstrap}


def _entry(value: float, low: float, high: float) -> dict[str, float | None]:
    """Give one number of ``metrics.json`` with its interval; what is not known is None."""
    if math.isnan(value):
        return {"value": None, "low": None, "high": None}
    return {"value": value, "low": None if math.isnan(low) else low, "high": None if math.isnan(high) else high}


def metrics_table(results: Mapping[str, Any], fold: str = "fold_10") -> pd.DataFrame:
    """Lay out the metrics of one fold for reading.

    Parameters
    ----------
    results : mapping
        What ``metrics.json`` holds.
    fold : str, default "fold_10"
        ``"fold_9"`` or ``"fold_10"``.

    Returns
    -------
    DataFrame
        One row a class, then ``macro``; one column a metric; NaN where a metric is not defined.

    Raises
    ------
    EcgkitError
        If there is no such fold.
    """
    groups = results[check_choice("fold", fold, [key for key in results if key.startswith("fold_")])]
    rows = {name: groups[name] for name in groups if name not in ("micro", "samples")}
    table = {name: {metric: entry["value"] for metric, entry in row.items()} for name, row in rows.items()}
    return pd.DataFrame.from_dict(table, orient="index").astype(float)


def classification_report(scores: FoldScores, thresholds: Mapping[str, Any]) -> str:
    """Write scikit-learn's classification report, under a header that says what it describes.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold.
    thresholds : mapping
        What `fit_thresholds` gave.

    Returns
    -------
    str
        The text, many lines.
    """
    values = metrics.class_thresholds(thresholds, scores.classes)
    decided = scores.prob >= values
    n_classes = len(scores.classes)
    one_class = n_classes == 1
    body = sklearn.metrics.classification_report(
        scores.y_true.ravel() if one_class else scores.y_true,
        decided.ravel() if one_class else decided,
        labels=[True] if one_class else list(range(n_classes)),
        target_names=list(scores.classes),
        digits=3,
        zero_division=0,
    )
    return _report_header(scores, values, thresholds) + "\n\n" + body


def _report_header(scores: FoldScores, values: metrics.Floats, thresholds: Mapping[str, Any]) -> str:
    """Say what a classification report describes: the fold, the checkpoint, the thresholds and what to know of them."""
    policy, not_fitted = thresholds.get("policy", "best_f1"), thresholds.get("not_fitted", ())
    width = max(len(name) for name in scores.classes)
    lines = [
        f"fold {scores.fold}, {len(scores.prob):,} records; best checkpoint (by macro AUC on fold {VALIDATION_FOLD})",
        "A class is predicted where its probability, as the network gives it, is at least its threshold,",
        f"which is {IN_WORDS[policy]} on fold {VALIDATION_FOLD}:",
    ]
    for name, value in zip(scores.classes, values, strict=True):
        reason = f"  (not fitted: fold {VALIDATION_FOLD} lacks an outcome)" if name in not_fitted else ""
        lines.append(f"  {name:<{width}}  {value:.4f}{reason}")
    absent = [name for i, name in enumerate(scores.classes) if not scores.y_true[:, i].any()]
    if absent:
        names = ", ".join(absent)
        lines.append(f"Not in this fold, counted as 0 in the averages below and left out of metrics.json: {names}")
    return "\n".join(lines)


def evaluate_session(session: ReportFolder, predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Evaluate a finished training and write the report's files, after all of it has been computed.

    Writes ``predictions.parquet``, ``thresholds.json``, ``calibration.json``, ``metrics.json`` and, for fold 10,
    ``classification_report.txt``.

    Parameters
    ----------
    session : ReportFolder
        The session, or a folder inside one.
    predictions : DataFrame
        ``record_id``, ``patient_id``, ``fold`` (9 and 10), ``true_CLASS`` and ``prob_CLASS``, of the best checkpoint.
    classes : sequence of str
        The classes.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    EcgkitError
        If a fold or a column is missing, or a probability is NaN or outside 0 to 1.
    """
    thresholds = fit_thresholds(predictions, classes)
    calibration = fit_calibration(predictions, classes)
    calibrated = add_calibration(predictions, calibration, classes)
    results = evaluate(calibrated, classes, thresholds)
    report = classification_report(metrics.fold_scores(calibrated, classes, TEST_FOLD), thresholds)
    session.write_table("predictions.parquet", calibrated)
    session.write_json("thresholds.json", thresholds)
    session.write_json("calibration.json", calibration)
    session.write_text("classification_report.txt", report)
    session.write_json("metrics.json", results)
    return results
