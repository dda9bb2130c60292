"""Metrics of decisions, and thresholds that optimise them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ecgkit.errors import EcgkitError
from ecgkit.stats.ranking import operating_points
from ecgkit.stats.validation import (
    Columns,
    Floats,
    check_probabilities,
    check_scores,
    columns,
    divide,
    known_scores,
)

GRID = np.linspace(0.0, 1.0, 101)
"""The thresholds from which the PTB-XL benchmark chooses its F_max."""


def threshold_metrics(
    y_true: ArrayLike, predicted: ArrayLike, *, weights: ArrayLike | None = None
) -> dict[str, Floats]:
    """Compute metrics of decisions.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,) or (records, classes)
        Outcomes; those that are unknown (NaN) are left out of their class.
    predicted : array-like of bool, of the same shape
        Decisions.
    weights : array-like of float, shape (resamples, records), optional
        How often each record counts.

    Returns
    -------
    dict of str to ndarray of float64, shape (classes,)
        ``sensitivity``, ``specificity``, ``precision``, ``f1`` and ``accuracy``, each with one more axis in front, of
        resamples, if there are weights. Sensitivity, precision and F1 are NaN for a class without positives,
        specificity for one without negatives. Precision is 0, as in scikit-learn, for a class that occurs and was
        never predicted: leaving it out would reward predicting fewer classes.
    """
    case = columns(y_true, predicted, weights)
    truth, decided = case.truth, case.decided
    hits, n_true, n_decided = case.weights @ (truth & decided), case.weights @ truth, case.weights @ decided
    total = case.weights @ case.known
    n_negative = total - n_true
    precision = np.where(n_decided > 0, divide(hits, n_decided), 0.0)
    return {
        "sensitivity": case.shaped(divide(hits, n_true)),
        "specificity": case.shaped(divide(n_negative - (n_decided - hits), n_negative)),
        "precision": case.shaped(np.where(n_true > 0, precision, np.nan)),
        "f1": case.shaped(np.where(n_true > 0, divide(2 * hits, n_true + n_decided), np.nan)),
        "accuracy": case.shaped(divide(case.weights @ ((truth == decided) & case.known), total)),
    }


def micro_f1(y_true: ArrayLike, predicted: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """F1 of the decisions of known outcome on all classes together; NaN if there is no positive."""
    case = columns(y_true, predicted, weights)
    truth, decided = case.truth, case.decided
    hits, n_true = case.weights @ (truth & decided).sum(axis=1), case.weights @ truth.sum(axis=1)
    f1 = np.where(n_true > 0, divide(2 * hits, n_true + case.weights @ decided.sum(axis=1)), np.nan)
    return case.of_records(f1)


def subset_accuracy(y_true: ArrayLike, predicted: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """Share of the records, of those whose every outcome is known, for which every class is decided correctly."""
    case = columns(y_true, predicted, weights)
    complete = case.known.all(axis=1)
    right = (case.truth == case.decided).all(axis=1) & complete
    return case.of_records(divide(case.weights @ right, case.weights @ complete))


def hamming_loss(y_true: ArrayLike, predicted: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """Share of the decisions of known outcome, over all records and classes, that are wrong."""
    case = columns(y_true, predicted, weights)
    wrong, known = (case.truth != case.decided).sum(axis=1), case.known.sum(axis=1)
    return case.of_records(divide(case.weights @ wrong, case.weights @ known))


def best_f1_threshold(y_true: ArrayLike, prob: ArrayLike) -> float:
    """Find the threshold with the highest F1.

    All thresholds between two neighbouring probabilities give the same decisions; the midpoint is returned. Where
    several of these gaps give the same F1, the widest is chosen, where a small change of the model changes least.

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
    return _best_threshold(y_true, prob, lambda hits, alarms: 2 * hits / (hits + alarms + hits[-1]))


def youden_threshold(y_true: ArrayLike, prob: ArrayLike) -> float:
    """Find the threshold with the highest sum of sensitivity and specificity (Youden 1950); see `best_f1_threshold`."""
    # Multiplied by positives and negatives, the sum consists of integers: rounding cannot separate equal values.
    return _best_threshold(y_true, prob, lambda hits, alarms: hits * alarms[-1] - alarms * hits[-1])


def sensitivity_threshold(y_true: ArrayLike, prob: ArrayLike, *, at_least: float) -> float:
    """Find the threshold with the highest specificity among those with at least a given sensitivity.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    prob : array-like of float, shape (records,)
        Probabilities.
    at_least : float
        The lowest sensitivity, above 0 and at most 1.

    Returns
    -------
    float
        Between 0 and 1, the midpoint of its gap as in `best_f1_threshold`; NaN if there are not both outcomes. Among
        several thresholds with that specificity, the one with the highest sensitivity.

    Raises
    ------
    EcgkitError
        As `best_f1_threshold`, or if ``at_least`` is not above 0 and at most 1.
    """
    _check_share(at_least)

    def score(hits: Floats, alarms: Floats) -> Floats:
        # One false positive outweighs all true positives.
        return np.where(hits >= at_least * hits[-1] - 1e-9, hits - alarms * (hits[-1] + 1), -np.inf)

    return _best_threshold(y_true, prob, score)


def specificity_threshold(y_true: ArrayLike, prob: ArrayLike, *, at_least: float) -> float:
    """Find the threshold with the highest sensitivity among those with at least a given specificity.

    Parameters and errors are those of `sensitivity_threshold`.

    Returns
    -------
    float
        The midpoint of its gap; NaN if there are not both outcomes. Among several thresholds with that sensitivity, the
        one with the highest specificity. If no threshold with so few false positives has a true positive, the threshold
        is above all probabilities, and above 1 by the least float32 if one of them is 1.
    """
    _check_share(at_least)

    def score(hits: Floats, alarms: Floats) -> Floats:
        # One true positive outweighs all false positives.
        return np.where(alarms <= (1 - at_least) * alarms[-1] + 1e-9, hits * (alarms[-1] + 1) - alarms, -np.inf)

    return _best_threshold(y_true, prob, score, score_without_positives=0.0)


def _check_share(at_least: float) -> None:
    """Check that a share is above 0 and at most 1."""
    if not 0 < at_least <= 1:
        raise EcgkitError(f"at_least is {at_least}: pass a share above 0 and at most 1")


def _best_threshold(
    y_true: ArrayLike,
    prob: ArrayLike,
    score: Callable[[Floats, Floats], Floats],
    *,
    score_without_positives: float = -np.inf,
) -> float:
    """Find the threshold of the highest score, a function of true and false positives; NaN without both outcomes."""
    truth, values = known_scores(y_true, prob)
    check_probabilities(values)
    if truth.all() or not truth.any():
        return float("nan")
    thresholds, hits, alarms = operating_points(truth, values)
    scores = score(hits, alarms)
    if scores.max() < score_without_positives:
        highest = np.float32(thresholds[0])
        return float(max(np.float32((1 + thresholds[0]) / 2), np.nextafter(highest, np.float32(2))))
    return _midway(thresholds, scores)


def _midway(thresholds: Floats, score: Floats) -> float:
    """Return the midpoint of the widest gap below the thresholds (falling) of the highest score."""
    below = np.append(thresholds[1:], 0.0)
    gap = np.where(score == score.max(), thresholds - below, -1.0)
    best = int(np.argmax(gap))
    middle = (thresholds[best] + below[best]) / 2
    # Probabilities are float32: rounded to that, the middle of two neighbours must not fall onto the lower one.
    rounded = float(np.float32(middle))
    return rounded if rounded > below[best] else float(thresholds[best])


def f_max(y_true: ArrayLike, prob: ArrayLike, *, threshold: float, weights: ArrayLike | None = None) -> Floats:
    """Sample-centric F measure at one threshold that all classes share.

    Parameters
    ----------
    y_true : array-like of bool, shape (records, classes)
        Outcomes.
    prob : array-like of float, of the same shape
        Probabilities.
    threshold : float
        The common threshold, as `f_max_threshold` finds it on the fold where it may be chosen.
    weights : array-like of float, shape (resamples, records), optional
        How often each record counts.

    Returns
    -------
    float, or ndarray of shape (resamples,)
        The harmonic mean of precision, averaged over the records with at least one prediction, and recall, averaged
        over the records with at least one class; NaN if no record carries a class, 0 if nothing is predicted. Unknown
        outcomes (NaN) count neither as classes nor as predictions of a record.

    References
    ----------
    Strodthoff et al., "Deep learning for ECG analysis: benchmarks and insights from PTB-XL", IEEE J. Biomed. Health
    Inform. 25 (2021), doi:10.1109/JBHI.2020.3022989; Radivojac et al., Nature Methods 10 (2013),
    doi:10.1038/nmeth.2340, for the average over records with a prediction.
    """
    case = columns(y_true, prob, weights)
    return case.of_records(_sample_f(case, np.array([threshold]))[:, 0])


def f_max_oracle(y_true: ArrayLike, prob: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """Sample-centric F measure at the best of the thresholds 0, 0.01, ..., 1, chosen on the same records.

    This is how the PTB-XL benchmark reports F_max. It is optimistic, since the threshold is chosen on the test records;
    see `f_max`.

    Returns
    -------
    float, or ndarray of shape (resamples,)
        NaN if no record carries a class.
    """
    case = columns(y_true, prob, weights)
    return case.of_records(_sample_f(case, GRID).max(axis=1))


def _sample_f(case: Columns, thresholds: Floats) -> Floats:
    """Compute the sample-centric F measure of each resample at each threshold, shape (resamples, thresholds)."""
    truth, weights = case.truth, case.weights
    decided = np.where(case.known, case.scores, -np.inf)[:, :, None] >= thresholds
    hits, n_decided = (truth[:, :, None] & decided).sum(axis=1), decided.sum(axis=1)
    n_true = truth.sum(axis=1)
    has_true, has_decided = n_true > 0, n_decided > 0
    recall = divide(weights @ (hits / np.maximum(n_true, 1)[:, None]), (weights @ has_true)[:, None])
    precision = np.nan_to_num(divide(weights @ (hits / np.maximum(n_decided, 1)), weights @ has_decided))
    f = np.nan_to_num(divide(2 * precision * recall, precision + recall))
    return np.where(np.isnan(recall), np.nan, f)


def f_max_threshold(y_true: ArrayLike, prob: ArrayLike) -> float:
    """Find the threshold, common to all classes, with the highest sample-centric F measure.

    Parameters
    ----------
    y_true : array-like of bool, shape (records, classes)
        Outcomes.
    prob : array-like of float, of the same shape
        Probabilities.

    Returns
    -------
    float
        Between 0 and 1, the midpoint of the widest of the best gaps as in `best_f1_threshold`; NaN if no record
        carries a class.

    Raises
    ------
    EcgkitError
        As `check_scores`, or if a value is outside 0 to 1.
    """
    truth, values, known = check_scores(y_true, prob)
    check_probabilities(values)
    if not truth.any():
        return float("nan")
    # Lowering the threshold past one score changes the precision and recall of that score's record alone, so the sums
    # over records at all thresholds are running sums of these changes. Unknown outcomes come last, and are left out.
    order = np.argsort(np.where(known, -values, np.inf), axis=1, kind="stable")
    values, truth = np.take_along_axis(values, order, axis=1), np.take_along_axis(truth, order, axis=1)
    known = np.take_along_axis(known, order, axis=1)
    n_predicted = np.arange(1, truth.shape[1] + 1)
    precision_change = np.diff(np.cumsum(truth, axis=1) / n_predicted, axis=1, prepend=0.0)
    n_true = truth.sum(axis=1, keepdims=True)
    recall_change = truth / np.maximum(n_true, 1)
    first_of_record = np.broadcast_to(n_predicted == 1, truth.shape)

    flat = np.argsort(-values[known], kind="stable")
    thresholds = values[known][flat]
    last_of_ties = np.flatnonzero(np.append(thresholds[1:] < thresholds[:-1], True))
    sums = [np.cumsum(part[known][flat])[last_of_ties] for part in (precision_change, recall_change, first_of_record)]
    precision, recall = sums[0] / sums[2], sums[1] / (n_true > 0).sum()
    score = np.nan_to_num(divide(2 * precision * recall, precision + recall))
    # Running sums carry rounding errors: values that agree to 12 digits are equal.
    return _midway(thresholds[last_of_ties], np.round(score, 12))
