"""The numbers of a session's report, and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import sklearn.metrics

from ecgkit import stats
from ecgkit.errors import check_choice
from ecgkit.evaluation.card import write_model_card
from ecgkit.evaluation.files import UNLABELLED
from ecgkit.evaluation.fold import fold_report, quantity_report
from ecgkit.evaluation.page import write_page
from ecgkit.evaluation.selective import selective_report
from ecgkit.evaluation.subgroups import subgroup_report
from ecgkit.sessions import Session
from ecgkit.stats import FoldScores
from ecgkit.stats.calibration import add_calibration
from ecgkit.stats.calibration_fit import fit_calibration
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.labels import POLICY_DESCRIPTIONS, SHOWN_METRICS, format_interval
from ecgkit.stats.resampling import RESAMPLES
from ecgkit.stats.thresholds import fit_thresholds
from ecgkit.stats.validation import is_quantity

if TYPE_CHECKING:
    from ecgkit.datasets import Dataset

METRICS_VERSION = 1
"""The version of the layout of ``metrics.json``."""


def reported_fold(predictions: pd.DataFrame) -> int:
    """Return the fold that a report is about: fold 10, or fold 9 while fold 10 has not been predicted."""
    return TEST_FOLD if (predictions["fold"] == TEST_FOLD).any() else VALIDATION_FOLD


def evaluate(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    thresholds: Mapping[str, Any] | None = None,
    *,
    unlabelled: pd.DataFrame | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compute the contents of ``metrics.json``.

    Parameters
    ----------
    predictions : DataFrame
        ``patient_id``, ``fold`` (9, 10 or both) and, for each class, ``true_CLASS``, ``prob_CLASS`` and
        ``calibrated_CLASS``; for a quantity, ``true_NAME`` and ``predicted_NAME``.
    classes : sequence of str
        The classes, or the name of the quantity.
    thresholds : mapping, optional
        As returned by `fit_thresholds`; without them the metrics at tuned thresholds are None.
    unlabelled : DataFrame, optional
        Predictions of the records without a label of the set, with the same columns; see ``with_unlabelled`` below.
    resamples : int, default 1000
        Bootstrap resamples of patients.

    Returns
    -------
    dict
        ``{"version": 1, "fold_9": {GROUP: {METRIC: {"value", "low", "high"}}}, "fold_10": ..., "bootstrap": {"fold_9":
        ..., "fold_10": ...}}`` with the folds that were predicted; see `fold_report`. A group is a class, ``"macro"``,
        ``"micro"`` or ``"samples"``, or the quantity. A value is None where the metric is not defined. With
        ``unlabelled``, also ``"with_unlabelled"``: the same for all records, of which those without a label count as
        negative for each class, and the numbers of ``records`` and ``unlabelled`` of each fold.

    Raises
    ------
    EcgkitError
        If a column or a threshold is missing, or a probability is NaN or outside 0 to 1.
    """
    result: dict[str, Any] = {"version": METRICS_VERSION}
    bootstrap = {}
    for fold in (VALIDATION_FOLD, TEST_FOLD):
        rows = predictions[predictions["fold"] == fold]
        if rows.empty:
            continue
        key, patients = f"fold_{fold}", rows["patient_id"].to_numpy()
        if is_quantity(predictions, classes):
            result[key], bootstrap[key] = quantity_report(rows, classes[0], resamples=resamples)
        else:
            scores = stats.fold_scores(predictions, classes, fold)
            result[key], bootstrap[key] = fold_report(scores, thresholds, patients, resamples=resamples)
    result["bootstrap"] = bootstrap
    if unlabelled is not None and len(unlabelled):
        everything = pd.concat([predictions, unlabelled], ignore_index=True)
        counted = {
            name: {f"fold_{fold}": int(n) for fold, n in table["fold"].value_counts().sort_index().items()}
            for name, table in (("records", everything), ("unlabelled", unlabelled))
        }
        result["with_unlabelled"] = counted | evaluate(everything, classes, thresholds, resamples=resamples)
    return result


def metrics_table(results: Mapping[str, Any], fold: str = "fold_10") -> pd.DataFrame:
    """Tabulate the metrics of one fold.

    Parameters
    ----------
    results : mapping
        The contents of ``metrics.json``.
    fold : str, default "fold_10"
        ``"fold_9"`` or ``"fold_10"``.

    Returns
    -------
    DataFrame
        One row per class, then ``macro``; one column per metric; NaN where a metric is not defined.

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
    results: Mapping[str, Any], fold: str = "fold_10", names: Sequence[str] = SHOWN_METRICS, *, digits: int = 3
) -> pd.DataFrame:
    """Tabulate metrics with their 95 % intervals as text, such as ``0.927 (0.919 to 0.934)``.

    Parameters
    ----------
    results : mapping
        The contents of ``metrics.json``.
    fold : str, default "fold_10"
        ``"fold_9"`` or ``"fold_10"``.
    names : sequence of str
        The metrics; those that the results lack are left out.
    digits : int, default 3
        Digits after the decimal point.

    Returns
    -------
    DataFrame of str
        One row per class, then ``macro``; one column per metric.

    Raises
    ------
    EcgkitError
        If there is no such fold.
    """
    table = metrics_table(results, fold)
    rows, shown = table.index, [name for name in names if name in table]
    return pd.DataFrame(
        {name: [format_interval(results[fold][row][name], digits=digits) for row in rows] for name in shown}, index=rows
    )


def classification_report(scores: FoldScores, thresholds: Mapping[str, Any]) -> str:
    """Format scikit-learn's classification report, with a header that states what it describes.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities of a fold, including the calibrated ones.
    thresholds : mapping
        As returned by `fit_thresholds`.

    Returns
    -------
    str
        The text, with many lines.
    """
    # Precision, recall and F1 do not count true negatives: unknown labels become these, and thereby do not count.
    truth, decided, n_classes = scores.positive, stats.decide(scores, thresholds) & scores.known, len(scores.classes)
    one_class = n_classes == 1
    body = sklearn.metrics.classification_report(
        truth.ravel() if one_class else truth,
        decided.ravel() if one_class else decided,
        labels=[True] if one_class else list(range(n_classes)),
        target_names=list(scores.classes),
        digits=3,
        zero_division=0,
    )
    return _report_header(scores, thresholds) + "\n\n" + body


def _report_header(scores: FoldScores, thresholds: Mapping[str, Any]) -> str:
    """Describe the fold, the checkpoint and the thresholds of a classification report."""
    policy, not_fitted = thresholds.get("policy", "best_f1"), thresholds.get("not_fitted", ())
    width = max(len(name) for name in scores.classes)
    lines = [
        f"fold {scores.fold}, {len(scores.prob):,} records; best checkpoint (by macro AUC on fold {VALIDATION_FOLD})",
        "A class is predicted where its calibrated probability is at least its threshold,",
        f"which is {POLICY_DESCRIPTIONS[policy]} on fold {VALIDATION_FOLD}:",
    ]
    for name, value in zip(scores.classes, stats.class_thresholds(thresholds, scores.classes), strict=True):
        reason = f"  (not fitted: fold {VALIDATION_FOLD} lacks an outcome)" if name in not_fitted else ""
        lines.append(f"  {name:<{width}}  {value:.4f}{reason}")
    n_unknown = (~scores.known).sum(axis=0)
    if n_unknown.any():
        counts = ", ".join(f"{name} {n}" for name, n in zip(scores.classes, n_unknown, strict=True) if n)
        lines.append(f"Unknown labels, which count nowhere below: {counts}")
    absent = [name for i, name in enumerate(scores.classes) if not scores.positive[:, i].any()]
    if absent:
        names = ", ".join(absent)
        lines.append(f"Not in this fold, counted as 0 in the averages below and left out of metrics.json: {names}")
    return "\n".join(lines)


def evaluate_session(
    session: Session,
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    unlabelled: pd.DataFrame | None = None,
    data: Dataset | None = None,
    header: str = "",
) -> dict[str, Any]:
    """Calibrate, choose thresholds, evaluate and write the report: the four steps of notebook 2 in one call.

    Parameters
    ----------
    session : Session
        Where the files go; see `write_report`.
    predictions : DataFrame
        ``record_id``, ``patient_id``, ``fold`` (9, or 9 and 10), and for each class ``true_CLASS`` and ``prob_CLASS``,
        of the best checkpoint; for a quantity, ``true_NAME`` and ``predicted_NAME``.
    classes : sequence of str
        The classes, or the name of the quantity.
    unlabelled : DataFrame, optional
        Predictions of the records without a label of the set, as of `ecgkit.training.predict_unlabelled`.
    data : Dataset, optional
        The dataset, for the subgroups and for figures of ECGs.
    header : str, default ""
        The first line of ``classification_report.txt``.

    Returns
    -------
    dict
        The contents of ``metrics.json``.

    Raises
    ------
    EcgkitError
        If fold 9 or a column is missing, or a probability is NaN or outside 0 to 1.
    """
    calibration = fit_calibration(predictions, classes)
    predictions = add_calibration(predictions, calibration, classes)
    thresholds = fit_thresholds(predictions, classes, calibration)
    fitted: dict[str, Any] = {"calibration": calibration, "thresholds": thresholds}
    if unlabelled is not None:
        unlabelled = add_calibration(unlabelled, calibration, classes)
    results = evaluate(predictions, classes, thresholds, unlabelled=unlabelled)
    write_report(session, predictions, results, unlabelled=unlabelled, **fitted, data=data, header=header)
    return results


def write_report(
    session: Session,
    predictions: pd.DataFrame,
    results: Mapping[str, Any],
    *,
    calibration: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, Any] | None = None,
    unlabelled: pd.DataFrame | None = None,
    data: Dataset | None = None,
    header: str = "",
    redraw: bool = False,
) -> None:
    """Write the files of a report, after all of them have been computed.

    Writes ``predictions.parquet``, ``calibration.json``, ``thresholds.json``, ``classification_report.txt``,
    ``subgroups.json``, ``selective.json`` and ``model_card.md`` (with ``data``), the figures of ``report.html``, the
    page itself and, last, ``metrics.json``. A quantity has only predictions, figures, page and metrics. The predictions
    of records without a label are in ``unlabelled.parquet``.

    Parameters
    ----------
    session : Session
        The session.
    predictions : DataFrame
        Calibrated, as for `evaluate`.
    results : mapping
        As returned by `evaluate`.
    calibration, thresholds : mapping, optional
        As returned by `fit_calibration` and `fit_thresholds`; empty or None for a quantity.
    unlabelled : DataFrame, optional
        The calibrated predictions that `evaluate` got under this name.
    data : Dataset, optional
        The dataset, for the subgroups and for figures of ECGs.
    header : str, default ""
        The first line of ``classification_report.txt``.
    redraw : bool, default False
        Draw the figures again that the session has.
    """
    reports: dict[str, Mapping[str, Any]] = {}
    text = ""
    if thresholds and calibration:
        classes = list(thresholds["thresholds"])
        scores = stats.fold_scores(predictions, classes, reported_fold(predictions))
        text = f"{header}\n" * bool(header) + classification_report(scores, thresholds)
        reports = {"calibration.json": calibration, "thresholds.json": thresholds}
        if data is not None:
            reports["subgroups.json"] = subgroup_report(scores, _records_of(predictions, data, scores.fold), thresholds)
            reports["selective.json"] = selective_report(predictions, classes, thresholds)
    session.write_table("predictions.parquet", predictions)
    if unlabelled is not None and len(unlabelled):
        session.write_table(UNLABELLED, unlabelled)
    for name, report in reports.items():
        session.write_json(name, report)
    if text:
        session.write_text("classification_report.txt", text)
    if data is not None and session.best_weights.is_file():
        write_model_card(session, data, results)
    write_page(session, results, data=data, redraw=redraw)
    session.write_json("metrics.json", results)


def _records_of(predictions: pd.DataFrame, data: Dataset, fold: int) -> pd.DataFrame:
    """Return the rows of the dataset's table of records for one fold, in the order of the predictions."""
    ids = predictions.loc[predictions["fold"] == fold, "record_id"]
    return data.records.set_index("record_id").loc[ids].reset_index()
