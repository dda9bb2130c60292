"""Metrics of a predicted quantity, such as an age."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecgkit.errors import EcgkitError
from ecgkit.stats.validation import Floats, divide


def regression_metrics(
    y_true: ArrayLike, predicted: ArrayLike, *, weights: ArrayLike | None = None
) -> dict[str, Floats]:
    """Compute the metrics of a predicted quantity.

    Parameters
    ----------
    y_true, predicted : array-like of float, shape (records,)
        True and predicted values, in the same unit.
    weights : array-like of float, shape (resamples, records), optional
        How often each record counts.

    Returns
    -------
    dict of str to float or ndarray of shape (resamples,)
        ``r2``, the coefficient of determination (NaN where all true values are equal), and ``mae``, the mean absolute
        error in the unit of the values.

    Raises
    ------
    EcgkitError
        If the shapes differ, there is no record, or a value is not finite.
    """
    truth, values = np.asarray(y_true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1 or not truth.size:
        raise EcgkitError(f"true values have the shape {truth.shape} and predicted {values.shape}: pass one per record")
    if not (np.isfinite(truth).all() and np.isfinite(values).all()):
        raise EcgkitError("a true or predicted value is not finite: leave out records of unknown value")
    counts = np.ones((1, len(truth))) if weights is None else np.asarray(weights, dtype=np.float64)
    total = counts.sum(axis=1)
    mean = divide(counts @ truth, total)
    spread = counts @ truth**2 - total * mean**2
    # The difference of two large sums is zero only up to rounding.
    spread = np.where(spread > 1e-12 * (counts @ truth**2), spread, 0.0)
    found = {
        "r2": 1 - divide(counts @ (truth - values) ** 2, spread),
        "mae": divide(counts @ np.abs(truth - values), total),
    }
    return {name: (value if weights is not None else value[0])[()] for name, value in found.items()}
