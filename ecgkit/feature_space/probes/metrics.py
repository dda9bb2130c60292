"""Metrics of probes, on the records and on bootstrap resamples of their patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from ecgkit.feature_space.probes.targets import Target
from ecgkit.stats import Floats, auc
from ecgkit.stats.ranking import mean_of_classes
from ecgkit.stats.resampling import interval
from ecgkit.stats.validation import divide

LIMITS = 1.96
"""Standard deviations between the bias and a limit of agreement; 95 % of normally distributed errors are within."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted and true values of some records.

    Attributes
    ----------
    true : ndarray of float64, shape (records,)
        A quantity, or the index of a class.
    true_codes : ndarray of int64, shape (records,)
        The class, or the bin of the quantity.
    predicted : ndarray of float64, shape (records,)
        The predicted quantity; of two classes the probability of the second, of more that of the most probable.
    codes : ndarray of int64, shape (records,)
        The predicted class or bin.
    probabilities : ndarray of float64, shape (records, classes), optional
        Of the classes.
    """

    true: NDArray[np.float64]
    true_codes: NDArray[np.int64]
    predicted: NDArray[np.float64]
    codes: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None


def score(
    target: Target, prediction: Prediction, weights: ArrayLike | None = None, *, capped: NDArray[np.bool_] | None = None
) -> dict[str, Floats]:
    """Score predictions.

    Parameters
    ----------
    target : Target
        The target.
    prediction : Prediction
        Of the records.
    weights : array-like of float, shape (resamples, records), optional
        How often each record counts; once if not given.
    capped : ndarray of bool, shape (records,), optional
        Records whose true value is a cap.

    Returns
    -------
    dict of str to ndarray of float64, shape (resamples,)
        For a quantity ``r2``, ``mae``, ``calibration_slope`` and ``calibration_intercept`` (of the line of the true
        over the predicted values; 1 and 0 for calibrated predictions), ``bias`` (mean of predicted minus true),
        ``limit_low`` and ``limit_high`` (limits of agreement), and with ``capped`` also ``r2_uncapped`` and
        ``mae_uncapped`` of the others; for classes ``auc`` (for more than two the mean over the classes, each against
        the rest). Then for classes or bins ``accuracy`` and ``f1``, the mean over the classes that occur among the true
        ones. NaN where a metric is not defined.

    References
    ----------
    Bland and Altman, "Statistical methods for assessing agreement between two methods of clinical measurement", 1986,
    doi:10.1016/S0140-6736(86)90837-8. Cox, "Two further applications of a model for binary regression", 1958 (slope).
    """
    counts = np.ones((1, len(prediction.true))) if weights is None else np.asarray(weights, dtype=np.float64)
    numbers: dict[str, Floats] = {}
    if target.kind == "regression":
        numbers |= _of_numbers(prediction.true, prediction.predicted, counts)
        if capped is not None and capped.any():
            rest = _of_numbers(prediction.true[~capped], prediction.predicted[~capped], counts[:, ~capped])
            numbers |= {f"{name}_uncapped": rest[name] for name in ("r2", "mae")}
    elif target.kind == "binary":
        numbers["auc"] = auc(prediction.true_codes == 1, prediction.predicted, weights=counts)
    else:
        assert prediction.probabilities is not None  # noqa: S101 # for the type checker
        truth = prediction.true_codes[:, None] == np.arange(len(target.classes))
        numbers["auc"] = mean_of_classes(auc(truth, prediction.probabilities, weights=counts))
    return numbers | _of_classes(prediction.true_codes, prediction.codes, counts, len(target.classes))


def _of_numbers(true: NDArray[np.float64], predicted: NDArray[np.float64], weights: Floats) -> dict[str, Floats]:
    """Score a regression; all but the absolute error are functions of weighted moments."""
    # Numbers far from 0 would lose digits in sums of squares.
    centre = true.mean() if len(true) else 0.0
    t, p = true - centre, predicted - centre
    error = p - t
    number = weights.sum(axis=1)
    columns = np.stack([t, p, t * t, p * p, t * p, error, error * error, np.abs(error)], axis=1)
    mean_t, mean_p, tt, pp, tp, bias, squared, mae = divide(weights @ columns, number[:, None]).T
    of_true, of_predicted = _variance(tt, mean_t), _variance(pp, mean_p)
    slope = divide(tp - mean_t * mean_p, of_predicted)
    spread = LIMITS * np.sqrt(divide(np.maximum(squared - bias**2, 0.0) * number, number - 1))
    return {
        "r2": 1 - divide(squared, of_true),
        "mae": mae,
        "calibration_slope": slope,
        "calibration_intercept": mean_t + centre - slope * (mean_p + centre),
        "bias": bias,
        "limit_low": bias - spread,
        "limit_high": bias + spread,
    }


def _variance(mean_square: Floats, mean: Floats) -> Floats:
    """Return the variance, 0 if it is no more than rounding."""
    variance = mean_square - mean**2
    return np.where(variance > 1e-10 * mean_square, variance, 0.0)


def _of_classes(
    true: NDArray[np.int64], predicted: NDArray[np.int64], weights: Floats, n_classes: int
) -> dict[str, Floats]:
    """Score decisions from the confusion matrix of each resample."""
    cells, of_record = np.unique(true * n_classes + predicted, return_inverse=True)
    flat = np.zeros((len(weights), n_classes * n_classes))
    flat[:, cells] = weights @ np.eye(len(cells))[of_record]
    matrix = flat.reshape(-1, n_classes, n_classes)
    hits, of_true, of_predicted = np.diagonal(matrix, axis1=1, axis2=2), matrix.sum(axis=2), matrix.sum(axis=1)
    f1 = np.where(of_true > 0, divide(2 * hits, of_true + of_predicted), np.nan)
    return {"accuracy": divide(hits.sum(axis=1), weights.sum(axis=1)), "f1": mean_of_classes(f1)}


def with_intervals(
    values: Sequence[Mapping[str, Floats]], drawn: Sequence[Mapping[str, Floats]]
) -> dict[str, dict[str, float]]:
    """Return each metric with the 2.5 and 97.5 percentiles of its resamples, or for several encoders with their range.

    Parameters
    ----------
    values : sequence of mapping of str to ndarray of float64, shape (1,)
        As from `score` without weights, one per encoder.
    drawn : sequence of mapping of str to ndarray of float64, shape (resamples,)
        The same with weights.

    Returns
    -------
    dict of str to dict of str to float
        ``{METRIC: {"value", "low", "high"}}``, NaN if not defined; for several encoders mean, lowest and highest value.
    """
    found = {}
    for name in values[0]:
        numbers = np.array([of_seed[name][0] for of_seed in values])
        low, high = interval(drawn[0][name]) if len(values) == 1 else (numbers.min(), numbers.max())
        entry = {"value": float(numbers.mean()), "low": float(low), "high": float(high)}
        found[name] = dict.fromkeys(entry, float("nan")) if np.isnan(numbers.mean()) else entry
    return found


def permutation_scores(target: Target, prediction: Prediction, order: NDArray[np.int64]) -> Floats:
    """Score predictions with true values that were exchanged between patients.

    Parameters
    ----------
    target : Target
        The target.
    prediction : Prediction
        Of the records.
    order : ndarray of int64, shape (permutations, records)
        The record whose true value each record gets.

    Returns
    -------
    ndarray of float64, shape (permutations,)
        The target's main metric, R2 or AUC.
    """
    if target.kind == "regression":
        centre = prediction.true.mean()
        true, predicted = (prediction.true - centre)[order], prediction.predicted - centre
        squared = (true**2).mean(axis=1) - 2 * true @ predicted / len(predicted) + (predicted**2).mean()
        return 1 - divide(squared, true.var(axis=1))
    codes, probabilities = prediction.true_codes[order], prediction.probabilities
    if target.kind == "binary" or probabilities is None:
        return _rank_auc(codes == 1, prediction.predicted)
    return mean_of_classes(np.stack([_rank_auc(codes == i, one) for i, one in enumerate(probabilities.T)], axis=1))


def _rank_auc(truth: NDArray[np.bool_], values: NDArray[np.float64]) -> Floats:
    """Return the area under the ROC curve of each row of the truth from the ranks of the same values."""
    positives = truth.sum(axis=1)
    ranks = truth.astype(np.float64) @ rankdata(values)
    return divide(ranks - positives * (positives + 1) / 2, positives * (truth.shape[1] - positives))
