"""The numbers of a session's report, and its files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import sklearn.metrics

from ecgkit import metrics
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.evaluation.calibration import add_calibration, fit_calibration
from ecgkit.evaluation.thresholds import fit_thresholds
from ecgkit.metrics import FoldScores
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


def fold_metrics(scores: FoldScores, thresholds: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Compute every metric of one fold, or of any choice or resample of its records.

    Ranking and decisions are those of the probabilities as the network gives them; ``brier`` and ``ece`` are those of
    the calibrated ones.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, with the calibrated ones.
    thresholds : mapping
        What `fit_thresholds` gave.

    Returns
    -------
    dict of str to dict of str to float
        Class, ``"macro"``, ``"micro"`` or ``"samples"``, then the metric. NaN where a metric is not defined; a macro
        mean is over the classes where it is.

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities, or a class has no threshold.
    """
    if scores.calibrated is None:
        raise EcgkitError('the predictions have no columns "calibrated_CLASS": add them with add_calibration')
    truth, prob = scores.y_true, scores.prob
    decided = prob >= metrics.class_thresholds(thresholds, scores.classes)
    decided_at_half = prob >= 0.5
    of_classes = {
        "auc": metrics.auc(truth, prob),
        "average_precision": metrics.average_precision(truth, prob),
        **metrics.threshold_metrics(truth, decided),
        **{f"{name}_at_half": value for name, value in metrics.threshold_metrics(truth, decided_at_half).items()},
        "brier": metrics.brier(truth, scores.calibrated),
        "ece": metrics.ece(truth, scores.calibrated),
    }
    table = {
        name: {metric: float(values[i]) for metric, values in of_classes.items()}
        for i, name in enumerate(scores.classes)
    }
    common = thresholds.get("f_max_threshold")
    return table | {
        "macro": {metric: metrics.macro(values) for metric, values in of_classes.items()},
        "micro": {
            "f1": metrics.micro_f1(truth, decided),
            "f1_at_half": metrics.micro_f1(truth, decided_at_half),
        },
        "samples": {
            "subset_accuracy": metrics.subset_accuracy(truth, decided),
            "hamming_loss": metrics.hamming_loss(truth, decided),
            "f_max": math.nan if common is None else metrics.f_max(truth, prob, threshold=common),
        },
    }


def evaluate(predictions: pd.DataFrame, classes: Sequence[str], thresholds: Mapping[str, Any]) -> dict[str, Any]:
    """Compute what ``metrics.json`` holds.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions with folds 9 and 10, calibrated.
    classes : sequence of str
        The classes.
    thresholds : mapping
        What `fit_thresholds` gave.

    Returns
    -------
    dict
        ``{"version": 1, "fold_9": {GROUP: {METRIC: {"value", "low", "high"}}}, "fold_10": ...}``. A value is None
        where the metric is not defined; ``low`` and ``high`` are None.

    Raises
    ------
    EcgkitError
        If a fold, a column or a threshold is missing, or a probability is NaN or outside 0 to 1.
    """
    result: dict[str, Any] = {"version": METRICS_VERSION}
    for fold in (VALIDATION_FOLD, TEST_FOLD):
        values = fold_metrics(metrics.fold_scores(predictions, classes, fold), thresholds)
        result[f"fold_{fold}"] = {
            group: {metric: _entry(value) for metric, value in of_group.items()} for group, of_group in values.items()
        }
    return result


def _entry(value: float, low: float = math.nan, high: float = math.nan) -> dict[str, float | None]:
    """Give one number of ``metrics.json`` with its interval; what is not known is None."""
    numbers = {"value": value, "low": low, "high": high}
    return {name: None if math.isnan(number) else number for name, number in numbers.items()}


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
    groups = results[check_choice("fold", fold, [key for key in results if key != "version"])]
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
    return _report_header(scores, values, set(thresholds.get("not_fitted", ()))) + "\n\n" + body


def _report_header(scores: FoldScores, thresholds: metrics.Floats, not_fitted: set[str]) -> str:
    """Say what a classification report describes: the fold, the checkpoint, the thresholds and what to know of them."""
    width = max(len(name) for name in scores.classes)
    lines = [
        f"fold {scores.fold}, {len(scores.prob):,} records; best checkpoint (by macro AUC on fold {VALIDATION_FOLD})",
        "A class is predicted where its probability, as the network gives it, is at least its threshold,",
        f"which is the one with the highest F1 on fold {VALIDATION_FOLD}:",
    ]
    for name, value in zip(scores.classes, thresholds, strict=True):
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
