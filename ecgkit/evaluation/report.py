"""The numbers of a session's report, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import sklearn.metrics

from ecgkit import stats
from ecgkit.errors import check_choice
from ecgkit.evaluation.fold import fold_report
from ecgkit.evaluation.selective import selective_report
from ecgkit.evaluation.subgroups import subgroup_report
from ecgkit.stats import FoldScores
from ecgkit.stats.calibration import add_calibration, fit_calibration
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.labels import POLICY_DESCRIPTIONS, format_interval
from ecgkit.stats.resampling import RESAMPLES
from ecgkit.stats.thresholds import fit_thresholds

METRICS_VERSION = 1
"""The version of the layout of ``metrics.json``."""


SHOWN = ("auc", "average_precision", "sensitivity", "specificity", "precision", "f1", "brier", "ece")
"""The metrics that a reader is shown first."""


class ReportFolder(Protocol):
    """What a report needs of the session it is written into."""

    def write_json(self, name: str, data: object) -> Path:
        """Write a JSON file."""

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file."""

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a Parquet table."""


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
        scores = stats.fold_scores(predictions, classes, fold)
        patients = predictions.loc[predictions["fold"] == fold, "patient_id"].to_numpy()
        key = f"fold_{fold}"
        result[key], bootstrap[key] = fold_report(scores, thresholds, patients, resamples=resamples)
    return result | {"bootstrap": bootstrap}


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


def interval_table(
    results: Mapping[str, Any], fold: str = "fold_10", names: Sequence[str] = SHOWN, *, digits: int = 3
) -> pd.DataFrame:
    """Lay out metrics with their intervals for reading, such as ``0.927 (0.919 to 0.934)``.

    Parameters
    ----------
    results : mapping
        What ``metrics.json`` holds.
    fold : str, default "fold_10"
        ``"fold_9"`` or ``"fold_10"``.
    names : sequence of str
        The metrics.
    digits : int, default 3
        Digits behind the point.

    Returns
    -------
    DataFrame of str
        One row a class, then ``macro``; one column a metric.

    Raises
    ------
    EcgkitError
        If there is no such fold.
    """
    rows = metrics_table(results, fold).index
    return pd.DataFrame(
        {name: [format_interval(results[fold][row][name], digits=digits) for row in rows] for name in names}, index=rows
    )


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
    values = stats.class_thresholds(thresholds, scores.classes)
    decided = stats.decide(scores, thresholds)
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


def _report_header(scores: FoldScores, values: stats.Floats, thresholds: Mapping[str, Any]) -> str:
    """Say what a classification report describes: the fold, the checkpoint, the thresholds and what to know of them."""
    policy, not_fitted = thresholds.get("policy", "best_f1"), thresholds.get("not_fitted", ())
    width = max(len(name) for name in scores.classes)
    lines = [
        f"fold {scores.fold}, {len(scores.prob):,} records; best checkpoint (by macro AUC on fold {VALIDATION_FOLD})",
        "A class is predicted where its probability, as the network gives it, is at least its threshold,",
        f"which is {POLICY_DESCRIPTIONS[policy]} on fold {VALIDATION_FOLD}:",
    ]
    for name, value in zip(scores.classes, values, strict=True):
        reason = f"  (not fitted: fold {VALIDATION_FOLD} lacks an outcome)" if name in not_fitted else ""
        lines.append(f"  {name:<{width}}  {value:.4f}{reason}")
    absent = [name for i, name in enumerate(scores.classes) if not scores.y_true[:, i].any()]
    if absent:
        names = ", ".join(absent)
        lines.append(f"Not in this fold, counted as 0 in the averages below and left out of metrics.json: {names}")
    return "\n".join(lines)


def evaluate_session(
    session: ReportFolder, predictions: pd.DataFrame, classes: Sequence[str], *, records: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Evaluate a finished training and write the report's files, after all of it has been computed.

    Writes ``predictions.parquet``, ``thresholds.json``, ``calibration.json``, ``metrics.json`` and, for fold 10,
    ``classification_report.txt``; with ``records`` also ``subgroups.json`` and ``selective.json``.

    Parameters
    ----------
    session : ReportFolder
        The session, or a folder inside one.
    predictions : DataFrame
        ``record_id``, ``patient_id``, ``fold`` (9 and 10), ``true_CLASS`` and ``prob_CLASS``, of the best checkpoint.
    classes : sequence of str
        The classes.
    records : DataFrame, optional
        The dataset's table of records, for the subgroups.

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
    scores = stats.fold_scores(calibrated, classes, TEST_FOLD)
    report = classification_report(scores, thresholds)
    more: dict[str, dict[str, Any]] = {}
    if records is not None:
        tested = calibrated[calibrated["fold"] == TEST_FOLD]
        rows = records.set_index("record_id").loc[tested["record_id"]].reset_index()
        more["subgroups.json"] = subgroup_report(scores, rows, thresholds, tested["patient_id"].to_numpy())
        more["selective.json"] = selective_report(calibrated, classes, thresholds, calibration)
    session.write_table("predictions.parquet", calibrated)
    session.write_json("thresholds.json", thresholds)
    session.write_json("calibration.json", calibration)
    session.write_text("classification_report.txt", report)
    for name, data in more.items():
        session.write_json(name, data)
    session.write_json("metrics.json", results)
    return results
