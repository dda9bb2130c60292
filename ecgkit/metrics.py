"""Metrics of multilabel classification on arrays: ranking, thresholds, calibration, and the table of predictions.

A class counts as predicted where its score is at least the threshold. A metric that a class cannot have in the records
at hand (an AUC without both outcomes, a sensitivity without positives) is NaN, never a number that stands in for it,
and a macro mean leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from ecgkit.errors import EcgkitError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FoldScores:
    """The predictions for one fold, as arrays.

    Attributes
    ----------
    fold : int
        The fold.
    classes : tuple of str
        The names of the columns.
    y_true : ndarray of bool, shape (records, classes)
        What the records carry.
    prob : ndarray of float64, shape (records, classes)
        Probabilities as the network gives them.
    calibrated : ndarray of float64, shape (records, classes), or None
        Calibrated probabilities; None if the table has none.
    """

    fold: int
    classes: tuple[str, ...]
    y_true: Bools
    prob: Floats
    calibrated: Floats | None = None

    def take(self, rows: NDArray[Any]) -> FoldScores:
        """Give the same for some of the records: positions (a record may come more than once) or a mask."""
        calibrated = None if self.calibrated is None else self.calibrated[rows]
        return replace(self, y_true=self.y_true[rows], prob=self.prob[rows], calibrated=calibrated)


def fold_scores(predictions: pd.DataFrame, classes: Sequence[str], fold: int) -> FoldScores:
    """Read one fold out of a table of predictions.

    Parameters
    ----------
    predictions : DataFrame
        Columns ``fold``, and for each class ``true_CLASS``, ``prob_CLASS`` and, if there already, ``calibrated_CLASS``.
    classes : sequence of str
        The classes to read.
    fold : int
        The fold to read.

    Returns
    -------
    FoldScores

    Raises
    ------
    EcgkitError
        If a column or the fold is missing, or a score is NaN or outside 0 to 1.
    """
    kinds = ["true", "prob"]
    if f"calibrated_{classes[0]}" in predictions:
        kinds.append("calibrated")
    wanted = ["fold", *(f"{kind}_{name}" for kind in kinds for name in classes)]
    missing = [column for column in wanted if column not in predictions]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise EcgkitError(f"the predictions have no column {missing[0]!r}{more}: give a table with every class in it")
    rows = predictions[predictions["fold"] == fold]
    if rows.empty:
        there = ", ".join(str(one) for one in sorted(predictions["fold"].unique())) or "none"
        raise EcgkitError(f"the predictions have no record of fold {fold} (there: {there}): predict folds 9 and 10")
    # One layout in memory, whatever the table's: sums in another order would differ in the last digit.
    arrays = {kind: np.ascontiguousarray(rows[[f"{kind}_{name}" for name in classes]].to_numpy()) for kind in kinds}
    y_true, prob = check_scores(arrays["true"], arrays["prob"])
    check_probabilities(prob, "prob")
    calibrated = None
    if "calibrated" in arrays:
        calibrated = check_scores(y_true, arrays["calibrated"])[1]
        check_probabilities(calibrated, "calibrated")
    return FoldScores(fold, tuple(classes), y_true, prob, calibrated)


def check_scores(y_true: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats]:
    """Check that outcomes and scores can be compared.

    Parameters
    ----------
    y_true : array-like of bool or of 0 and 1, shape (records,) or (records, classes)
        Outcomes.
    scores : array-like of float, of the same shape
        Scores; float64 comes back, so that no comparison depends on the precision they were stored in.

    Returns
    -------
    tuple of ndarray
        Outcomes as bool, scores as float64.

    Raises
    ------
    EcgkitError
        If the shapes differ, there is no record, an outcome is neither 0 nor 1, or a score is NaN.
    """
    truth, values = np.asarray(y_true), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape:
        raise EcgkitError(f"outcomes have the shape {truth.shape} and scores {values.shape}: give one score an outcome")
    if len(truth) == 0:
        raise EcgkitError("there is no record to evaluate: give at least one")
    if truth.dtype != bool and not np.isin(truth, (0, 1)).all():
        raise EcgkitError("an outcome is neither 0 nor 1: give booleans, without records of unknown outcome")
    if n_nan := int(np.isnan(values).sum()):
        raise EcgkitError(f"{n_nan} of {values.size} scores are NaN: the model has diverged; train it again")
    return truth.astype(bool), values


def check_probabilities(prob: Floats, name: str = "probability") -> None:
    """Check that all values lie between 0 and 1.

    Raises
    ------
    EcgkitError
        If one does not, or is NaN.
    """
    if not ((prob >= 0) & (prob <= 1)).all():
        span = f"{prob.min():g} to {prob.max():g}"
        raise EcgkitError(f"a {name} is outside 0 to 1 ({span}): give probabilities, not logits")


def class_thresholds(thresholds: Mapping[str, Any], classes: Sequence[str]) -> Floats:
    """Bring thresholds into the order of the classes.

    Parameters
    ----------
    thresholds : mapping
        Class to threshold, or what ``thresholds.json`` holds, with that mapping under ``"thresholds"``.
    classes : sequence of str
        The classes.

    Returns
    -------
    ndarray of float64, shape (classes,)

    Raises
    ------
    EcgkitError
        If a class has no threshold.
    """
    values = thresholds.get("thresholds", thresholds)
    missing = [name for name in classes if name not in values]
    if missing:
        raise EcgkitError(f"no threshold for {', '.join(missing)}: fit the thresholds with these classes")
    return np.array([values[name] for name in classes], dtype=np.float64)


def _divide(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Divide; NaN where the denominator is zero."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    out = np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan)
    return np.divide(top, bottom, out=out, where=bottom != 0)[()]


def macro(values: ArrayLike) -> float:
    """Give the mean over the classes that have a value; NaN if none has."""
    values = np.asarray(values, dtype=np.float64)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def auc(y_true: ArrayLike, scores: ArrayLike) -> Floats:
    """Area under the ROC curve of each class, from the ranks of the scores (the Mann-Whitney statistic).

    Parameters
    ----------
    y_true : array-like of bool, shape (records,) or (records, classes)
        Outcomes.
    scores : array-like of float, of the same shape
        Scores; ties count half.

    Returns
    -------
    ndarray of float64, shape (classes,), or a single number for one class
        NaN where a class does not have both outcomes.

    Raises
    ------
    EcgkitError
        As `check_scores`.
    """
    truth, values = check_scores(y_true, scores)
    n_positive = truth.sum(axis=0)
    n_negative = len(truth) - n_positive
    rank_sum = np.where(truth, rankdata(values, axis=0), 0.0).sum(axis=0)
    return _divide(rank_sum - n_positive * (n_positive + 1) / 2, n_positive * n_negative)


def macro_auc(y_true: ArrayLike, scores: ArrayLike) -> float:
    """Mean AUC of the classes that have both outcomes; NaN if none has. See `auc`."""
    return macro(auc(y_true, scores))


def operating_points(y_true: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Count what every possible threshold finds.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    scores : array-like of float, shape (records,)
        Scores.

    Returns
    -------
    thresholds : ndarray of float64
        The distinct scores, the highest first.
    true_positives : ndarray of float64
        Positives with at least that score.
    false_positives : ndarray of float64
        Negatives with at least that score.
    """
    truth, values = check_scores(y_true, scores)
    order = np.argsort(-values, kind="stable")
    values = values[order]
    last_of_ties = np.flatnonzero(np.append(values[1:] < values[:-1], True))
    true_positives = np.cumsum(truth[order])[last_of_ties].astype(np.float64)
    return values[last_of_ties], true_positives, last_of_ties + 1 - true_positives


def average_precision(y_true: ArrayLike, scores: ArrayLike) -> Floats:
    """Average precision of each class: the precision at every threshold, weighted by the recall it adds.

    Parameters and what is raised are those of `auc`.

    Returns
    -------
    ndarray of float64, shape (classes,), or a single number for one class
        NaN where a class does not have both outcomes.
    """
    truth, values = check_scores(y_true, scores)
    if truth.ndim == 2:
        return np.array([average_precision(truth[:, i], values[:, i]) for i in range(truth.shape[1])])
    if truth.all() or not truth.any():
        return np.float64("nan")  # type: ignore[return-value] # a number for one class, as numpy's own reductions
    _, hits, alarms = operating_points(truth, values)
    return np.sum(np.diff(hits, prepend=0.0) * hits / (hits + alarms)) / hits[-1]


def threshold_metrics(y_true: ArrayLike, predicted: ArrayLike) -> dict[str, Floats]:
    """Metrics of decisions.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,) or (records, classes)
        Outcomes.
    predicted : array-like of bool, of the same shape
        Decisions.

    Returns
    -------
    dict of str to ndarray of float64, shape (classes,)
        ``sensitivity``, ``specificity``, ``precision``, ``f1`` and ``accuracy``. Sensitivity, precision and F1 are NaN
        for a class without positives, specificity for one without negatives. Precision is 0, as in scikit-learn, for a
        class that is there and was never predicted: left out, it would make the macro mean the better the fewer are
        predicted.
    """
    truth, positive = check_scores(y_true, predicted)
    decided = positive.astype(bool)
    hits = (truth & decided).sum(axis=0)
    n_true, n_decided = truth.sum(axis=0), decided.sum(axis=0)
    n_negative = len(truth) - n_true
    precision = np.where(n_decided > 0, _divide(hits, n_decided), 0.0)
    return {
        "sensitivity": _divide(hits, n_true),
        "specificity": _divide(n_negative - (n_decided - hits), n_negative),
        "precision": np.where(n_true > 0, precision, np.nan)[()],
        "f1": np.where(n_true > 0, _divide(2 * hits, n_true + n_decided), np.nan)[()],
        "accuracy": (truth == decided).mean(axis=0),
    }


def micro_f1(y_true: ArrayLike, predicted: ArrayLike) -> float:
    """F1 of all decisions on all classes taken together; NaN if there is no positive."""
    truth, decided = check_scores(y_true, predicted)
    return float(threshold_metrics(truth.ravel(), decided.ravel())["f1"])


def subset_accuracy(y_true: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the records of shape (records, classes) for which every class is decided rightly."""
    truth, decided = check_scores(y_true, predicted)
    return float((truth == decided.astype(bool)).all(axis=1).mean())


def hamming_loss(y_true: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the decisions, over all records and classes, that are wrong."""
    truth, decided = check_scores(y_true, predicted)
    return float((truth != decided.astype(bool)).mean())


def best_f1_threshold(y_true: ArrayLike, prob: ArrayLike) -> float:
    """Find the threshold with the highest F1 among all that differ in what they decide.

    A threshold may lie anywhere between two neighbouring probabilities with the same decisions; it is put midway.
    Where several of these gaps give the same F1, it goes into the widest, where a small change of the model changes
    the least.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    prob : array-like of float, shape (records,)
        Probabilities.

    Returns
    -------
    float
        Between 0 and 1; NaN if there are not both outcomes.

    Raises
    ------
    EcgkitError
        As `check_scores`, or if a value is outside 0 to 1.
    """
    truth, values = check_scores(y_true, prob)
    check_probabilities(values)
    if truth.all() or not truth.any():
        return float("nan")
    thresholds, hits, alarms = operating_points(truth, values)
    return _midway(thresholds, 2 * hits / (hits + alarms + truth.sum()))


def _midway(thresholds: Floats, merit: Floats) -> float:
    """Take the widest gap below the thresholds of the highest merit, and its middle; thresholds fall."""
    below = np.append(thresholds[1:], 0.0)
    gap = np.where(merit == merit.max(), thresholds - below, -1.0)
    best = int(np.argmax(gap))
    middle = (thresholds[best] + below[best]) / 2
    # Probabilities are stored as float32: rounded to that, the middle of two neighbours must not fall onto the lower
    # one.
    return float(middle if np.float32(middle) > below[best] else thresholds[best])


def f_max(y_true: ArrayLike, prob: ArrayLike, *, threshold: float) -> float:
    """Sample-centric F measure at one threshold that all classes share.

    Parameters
    ----------
    y_true : array-like of bool, shape (records, classes)
        Outcomes.
    prob : array-like of float, of the same shape
        Probabilities.
    threshold : float
        The common threshold, as `f_max_threshold` finds it on the fold where it may be chosen.

    Returns
    -------
    float
        The harmonic mean of precision, averaged over the records with at least one prediction, and recall, averaged
        over the records with at least one class; NaN if no record carries a class, 0 if nothing is predicted.

    References
    ----------
    Strodthoff et al., "Deep learning for ECG analysis: benchmarks and insights from PTB-XL", IEEE J. Biomed. Health
    Inform. 25 (2021), doi:10.1109/JBHI.2020.3022989; Radivojac et al., Nature Methods 10 (2013),
    doi:10.1038/nmeth.2340, for the average over records with a prediction.
    """
    truth, values = check_scores(y_true, prob)
    decided = values >= threshold
    hits = (truth & decided).sum(axis=1)
    recall = macro(_divide(hits, truth.sum(axis=1)))
    precision = macro(_divide(hits, decided.sum(axis=1)))
    if np.isnan(recall) or np.isnan(precision):
        return recall if np.isnan(recall) else 0.0
    return 2 * precision * recall / (precision + recall) if recall else 0.0


def f_max_threshold(y_true: ArrayLike, prob: ArrayLike) -> float:
    """Find the common threshold with the highest sample-centric F measure, among all that differ in what they decide.

    Parameters
    ----------
    y_true : array-like of bool, shape (records, classes)
        Outcomes.
    prob : array-like of float, of the same shape
        Probabilities.

    Returns
    -------
    float
        Between 0 and 1, in the middle of the widest of the best gaps as in `best_f1_threshold`; NaN if no record
        carries a class.

    Raises
    ------
    EcgkitError
        As `check_scores`, or if a value is outside 0 to 1.
    """
    truth, values = check_scores(y_true, prob)
    check_probabilities(values)
    if not truth.any():
        return float("nan")
    # Lowering the threshold past one score changes the precision and recall of that score's record alone, so the sums
    # over records at all thresholds are running sums of these changes.
    order = np.argsort(-values, axis=1, kind="stable")
    values, truth = np.take_along_axis(values, order, axis=1), np.take_along_axis(truth, order, axis=1)
    n_predicted = np.arange(1, truth.shape[1] + 1)
    precision_change = np.diff(np.cumsum(truth, axis=1) / n_predicted, axis=1, prepend=0.0)
    n_true = truth.sum(axis=1, keepdims=True)
    recall_change = truth / np.maximum(n_true, 1)
    first_of_record = np.broadcast_to(n_predicted == 1, truth.shape)

    flat = np.argsort(-values, axis=None, kind="stable")
    thresholds = values.ravel()[flat]
    last_of_ties = np.flatnonzero(np.append(thresholds[1:] < thresholds[:-1], True))
    sums = [np.cumsum(part.ravel()[flat])[last_of_ties] for part in (precision_change, recall_change, first_of_record)]
    precision, recall = sums[0] / sums[2], sums[1] / (n_true > 0).sum()
    merit = np.nan_to_num(_divide(2 * precision * recall, precision + recall))
    # Running sums carry rounding errors: what is equal to 12 digits is equal.
    return _midway(thresholds[last_of_ties], np.round(merit, 12))


def brier(y_true: ArrayLike, prob: ArrayLike) -> Floats:
    """Brier score of each class: the mean squared difference between probability and outcome; `auc` has the shapes."""
    truth, values = check_scores(y_true, prob)
    check_probabilities(values)
    return ((values - truth) ** 2).mean(axis=0)


def reliability(y_true: ArrayLike, prob: ArrayLike, *, n_bins: int = 15) -> pd.DataFrame:
    """Compare predicted probabilities with observed frequencies in bins of equal width.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    prob : array-like of float, shape (records,)
        Probabilities.
    n_bins : int, default 15
        Bins between 0 and 1; the upper edge belongs to the next bin, except 1.

    Returns
    -------
    DataFrame
        One row a bin that is not empty: ``count``, mean ``predicted`` probability, ``observed`` frequency.
    """
    truth, values = check_scores(y_true, prob)
    check_probabilities(values)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    bins = np.minimum(np.searchsorted(edges, values, side="right") - 1, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    table = pd.DataFrame(
        {
            "count": count,
            "predicted": _divide(np.bincount(bins, weights=values, minlength=n_bins), count),
            "observed": _divide(np.bincount(bins, weights=truth, minlength=n_bins), count),
        }
    )
    return table[table["count"] > 0].reset_index(drop=True)


def ece(y_true: ArrayLike, prob: ArrayLike, *, n_bins: int = 15) -> Floats:
    """Give the expected calibration error of each class: the mean gap between predicted and observed, over bins.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,) or (records, classes)
        Outcomes.
    prob : array-like of float, of the same shape
        Probabilities.
    n_bins : int, default 15
        Bins between 0 and 1.

    Returns
    -------
    ndarray of float64, shape (classes,), or a single number for one class
    """
    truth, values = check_scores(y_true, prob)
    if truth.ndim == 2:
        return np.array([ece(truth[:, i], values[:, i], n_bins=n_bins) for i in range(truth.shape[1])])
    table = reliability(truth, values, n_bins=n_bins)
    return np.average((table["predicted"] - table["observed"]).abs(), weights=table["count"])
