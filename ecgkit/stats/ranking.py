"""Metrics of the ranking of records by their scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.stats.validation import Bools, Floats, columns, divide, known_scores


def mean_of_classes(values: ArrayLike) -> Floats:
    """Average over the last axis without the classes that have no value; NaN where none has."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def auc(y_true: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """Compute the area under the ROC curve of each class.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,) or (records, classes)
        Outcomes; those that are unknown (NaN) are left out of their class.
    scores : array-like of float, of the same shape
        Scores; ties count half.
    weights : array-like of float, shape (resamples, records), optional
        How often each record counts.

    Returns
    -------
    ndarray of float64, shape (classes,), or a single number for one class
        NaN where a class does not have both outcomes. With weights there is one more axis in front, of resamples.

    Raises
    ------
    EcgkitError
        As `check_scores`, or if the weights do not match.
    """
    return columns(y_true, scores, weights).each(_auc)


def macro_auc(y_true: ArrayLike, scores: ArrayLike) -> float:
    """Compute the mean AUC of the classes that have both outcomes; NaN if none has. See `auc`."""
    return float(mean_of_classes(auc(y_true, scores)))


def average_precision(y_true: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """Compute the average precision of each class: the precision at every threshold, weighted by the gain in recall.

    Parameters and errors are those of `auc`.

    Returns
    -------
    ndarray of float64, shape (classes,), or a single number for one class
        NaN where a class does not have both outcomes. With weights there is one more axis in front, of resamples.
    """
    return columns(y_true, scores, weights).each(_average_precision)


def operating_points(y_true: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Count the true and false positives of every possible threshold.

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
    truth, values = known_scores(y_true, scores)
    order, last_of_ties = _falling(values)
    true_positives = np.cumsum(truth[order])[last_of_ties].astype(np.float64)
    return values[order][last_of_ties], true_positives, last_of_ties + 1 - true_positives


def _falling(values: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort scores, the highest first, and find the end of each group of ties."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.append(ordered[1:] < ordered[:-1], True))


def _found(truth: Bools, values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Count positives and negatives with at least each distinct score, falling: shape (resamples, thresholds)."""
    order, last_of_ties = _falling(values)
    ordered = weights[:, order]
    all_found = np.cumsum(ordered, axis=1)[:, last_of_ties]
    hits = np.cumsum(ordered * truth[order], axis=1)[:, last_of_ties]
    return hits, all_found - hits


def _auc(truth: Bools, values: Floats, weights: Floats) -> Floats:
    """Compute the AUC of one class in each resample."""
    hits, alarms = _found(truth, values, weights)
    # The area under straight lines between the points: ties count half, as in the Mann-Whitney statistic.
    area = hits[:, 0] * alarms[:, 0] / 2
    area += np.einsum("rt,rt->r", hits[:, 1:] + hits[:, :-1], np.diff(alarms, axis=1)) / 2
    return divide(area, hits[:, -1] * alarms[:, -1])


def _average_precision(truth: Bools, values: Floats, weights: Floats) -> Floats:
    """Compute the average precision of one class in each resample."""
    hits, alarms = _found(truth, values, weights)
    n_true, has_both = hits[:, -1], hits[:, -1] * alarms[:, -1] > 0
    # Where nothing has been found yet, nothing is added, whatever the precision.
    precision = np.nan_to_num(divide(hits, hits + alarms))
    total = hits[:, 0] * precision[:, 0] + np.einsum("rt,rt->r", np.diff(hits, axis=1), precision[:, 1:])
    return np.where(has_both, divide(total, n_true), np.nan)
