"""Intervals by resampling patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecgkit.errors import EcgkitError
from ecgkit.metrics import Floats

RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)


def patient_weights(patient_ids: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Draw bootstrap resamples of patients; each brings all of its records along.

    Records of one patient resemble each other, so that resampling records would give intervals that are too narrow.

    Parameters
    ----------
    patient_ids : array-like, shape (records,)
        Whose record each is.
    resamples : int, default 1000
        How many resamples.
    seed : int, default 0
        Of the random numbers. Resamples of the same patients in the same order with the same seed are the same, so
        that two models can be compared resample by resample.

    Returns
    -------
    ndarray of float64, shape (resamples, records)
        How often each record was drawn.

    Raises
    ------
    EcgkitError
        If there is no record, or not at least one resample.

    References
    ----------
    Efron and Tibshirani, "An introduction to the bootstrap" (1993), chapters 8 and 13.
    """
    patients, of_record = np.unique(np.asarray(patient_ids), return_inverse=True)
    if not len(patients):
        raise EcgkitError("there is no record to resample: give at least one")
    if resamples < 1:
        raise EcgkitError(f"resamples is {resamples}: give a positive number")
    drawn = np.random.default_rng(seed).multinomial(len(patients), np.full(len(patients), 1 / len(patients)), resamples)
    return drawn.astype(np.float64)[:, of_record]


def interval(values: ArrayLike) -> tuple[float, float]:
    """Give the 2.5 and 97.5 percentiles of a metric over the resamples that have it; NaN where none has."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, PERCENTILES)
    return float(low), float(high)


def with_interval(value: float, drawn: Floats) -> dict[str, float | None]:
    """Give a number as the reports hold it: with the percentiles of its resamples, and None for what is not defined.

    Parameters
    ----------
    value : float
        Of the records themselves; NaN where it is not defined.
    drawn : ndarray of float64, shape (resamples,)
        The same of each bootstrap resample.

    Returns
    -------
    dict of str to float or None
        ``value``, ``low`` and ``high``.
    """
    low, high = interval(drawn)
    known = not np.isnan(value)
    numbers = {"value": value, "low": low, "high": high}
    return {name: float(number) if known and not np.isnan(number) else None for name, number in numbers.items()}
