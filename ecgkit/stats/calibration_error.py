"""Metrics of calibration: whether a class with a probability of 0.3 occurs in 30 % of the records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.stats.validation import Bools, Floats, check_probabilities, columns, divide, known_scores

if TYPE_CHECKING:
    import pandas as pd

N_BINS = 15
BINS = ("width", "mass")


def brier(y_true: ArrayLike, prob: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """Brier score of each class: the mean squared difference between probability and outcome; `auc` has the shapes."""
    case = columns(y_true, prob, weights)
    check_probabilities(case.scores)
    squared = (case.scores - case.truth) ** 2 * case.known
    return case.shaped(divide(case.weights @ squared, case.weights @ case.known))


def reliability(y_true: ArrayLike, prob: ArrayLike, *, n_bins: int = N_BINS, bins: str = "width") -> pd.DataFrame:
    """Compare predicted probabilities with observed frequencies in bins.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class; those that are unknown (NaN) are left out.
    prob : array-like of float, shape (records,)
        Probabilities.
    n_bins : int, default 15
        Bins between 0 and 1; the upper edge belongs to the next bin, except 1.
    bins : {"width", "mass"}
        Bins of equal width, or of equally many records (as far as equal probabilities allow it).

    Returns
    -------
    DataFrame
        One row per non-empty bin: ``count``, mean ``predicted`` probability, ``observed`` frequency.
    """
    import pandas as pd

    truth, values = known_scores(y_true, prob)
    check_probabilities(values)
    of = _bins(values, n_bins, bins)
    count = np.bincount(of, minlength=n_bins)
    table = pd.DataFrame(
        {
            "count": count,
            "predicted": divide(np.bincount(of, weights=values, minlength=n_bins), count),
            "observed": divide(np.bincount(of, weights=truth, minlength=n_bins), count),
        }
    )
    return table[table["count"] > 0].reset_index(drop=True)


def ece(
    y_true: ArrayLike,
    prob: ArrayLike,
    *,
    n_bins: int = N_BINS,
    bins: str = "width",
    weights: ArrayLike | None = None,
) -> Floats:
    """Compute the expected calibration error of each class: the mean gap between predicted and observed over bins.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,) or (records, classes)
        Outcomes; those that are unknown (NaN) are left out of their class.
    prob : array-like of float, of the same shape
        Probabilities.
    n_bins : int, default 15
        Bins between 0 and 1.
    bins : {"width", "mass"}
        As for `reliability`; bins of equal mass are those of the records without weights.
    weights : array-like of float, shape (resamples, records), optional
        How often each record counts.

    Returns
    -------
    ndarray of float64, shape (classes,), or a single number for one class
        With weights there is one more axis in front, of resamples.
    """
    case = columns(y_true, prob, weights)
    check_probabilities(case.scores)

    def one(truth: Bools, values: Floats, counts: Floats) -> Floats:
        in_bin = _bins(values, n_bins, bins)[:, None] == np.arange(n_bins)
        gaps = np.abs(counts @ (in_bin * (values - truth)[:, None]))
        return divide(gaps.sum(axis=1), counts.sum(axis=1))

    return case.each(one)


def calibrated_ece_interval(
    prob: ArrayLike, *, known: ArrayLike = True, n_bins: int = N_BINS, resamples: int = 1000, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Simulate the calibration error that these probabilities would show if each were exactly right.

    Even a perfectly calibrated model has an error, since the observed frequency in a finite bin deviates from the
    predicted one.

    Parameters
    ----------
    prob : array-like of float, shape (records,) or (records, classes)
        Probabilities, from which outcomes are drawn class by class.
    known : array-like of bool, of the same shape
        For which of them an outcome is drawn; by default for all.
    n_bins : int, default 15
        Bins of equal width.
    resamples : int, default 1000
        Simulations.
    seed : int, default 0
        Of the random numbers.

    Returns
    -------
    low, high : ndarray of float64, shape (classes,)
        The 2.5 and 97.5 percentiles of each class's error; NaN for a class without a known outcome.
    of_macro : ndarray of float64, shape (2,)
        The same of the mean over classes.
    """
    values = np.asarray(prob, dtype=np.float64)
    masks = np.broadcast_to(np.asarray(known, dtype=bool), values.shape).reshape(len(values), -1)
    values = values.reshape(masks.shape)
    check_probabilities(values)
    rng = np.random.default_rng(seed)
    errors = np.full((resamples, values.shape[1]), np.nan)
    for column in np.flatnonzero(masks.any(axis=0)):
        one = values[masks[:, column], column]
        # float32: its rounding is far below the noise of drawing outcomes.
        p = one.astype(np.float32)
        gaps = (rng.random((resamples, len(p)), dtype=np.float32) < p) - p
        in_bin = (_bins(one, n_bins, "width")[:, None] == np.arange(n_bins)).astype(np.float32)
        errors[:, column] = np.abs(gaps @ in_bin).sum(axis=1) / len(p)
    low, high = np.percentile(errors, [2.5, 97.5], axis=0)
    return low, high, np.percentile(errors[:, masks.any(axis=0)].mean(axis=1), [2.5, 97.5])


def _bins(values: Floats, n_bins: int, kind: str) -> NDArray[np.int64]:
    """Return the bin of each probability."""
    check_choice("kind of bins", kind, BINS)
    if n_bins < 1:
        raise EcgkitError(f"n_bins is {n_bins}: give 1 or more")
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    if kind == "mass" and len(values):
        # An edge is the probability that starts a bin: an interpolated quantile could round past it.
        edges[1:-1] = np.sort(values)[np.arange(1, n_bins) * len(values) // n_bins]
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, n_bins - 1)
