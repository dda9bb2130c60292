"""Bootstrap of patients, and percentile intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ecgkit.errors import EcgkitError
from ecgkit.stats.identifiers import patient_codes
from ecgkit.stats.validation import Floats

RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)
MOST_ABSENT = 0.025
"""The largest share of resamples that may lack a metric, before a percentile of the others says too little."""


def patient_weights(patient_ids: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Draw bootstrap resamples of patients, each with all of its records.

    Records of one patient are dependent, so that resampling records would give intervals that are too narrow.

    Parameters
    ----------
    patient_ids : array-like, shape (records,)
        The patient of each record.
    resamples : int, default 1000
        The number of resamples.
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
    ids = np.asarray(patient_ids)
    if pd.isna(ids).any():
        raise EcgkitError(f"{int(pd.isna(ids).sum())} records have no patient_id: give each its own, or leave them out")
    if not ids.size:
        raise EcgkitError("there is no record to resample: pass at least one")
    if resamples < 1:
        raise EcgkitError(f"resamples is {resamples}: pass a positive number")
    codes = patient_codes(ids)
    n_patients = int(codes.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n_patients, np.full(n_patients, 1 / n_patients), resamples)
    return drawn.astype(np.float64)[:, codes]


def count_patients(patient_ids: ArrayLike) -> int:
    """Count the patients, by the keys that `patient_weights` draws."""
    return int(patient_codes(patient_ids).max(initial=-1)) + 1


def several_patients(patient_ids: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Draw resamples as `patient_weights` does; none of a single patient, who has no interval."""
    weights = patient_weights(patient_ids, resamples=resamples, seed=seed)
    return weights if count_patients(patient_ids) > 1 else weights[:0]


def interval(values: ArrayLike) -> tuple[float, float]:
    """Compute the 2.5 and 97.5 percentiles of a metric over the resamples in which it is defined.

    NaN if more than `MOST_ABSENT` of the resamples lack it, as those of the AUC of a class with three positives do: the
    resamples that happen to have it vary far less than the metric would among other patients.
    """
    drawn = np.asarray(values, dtype=np.float64)
    known = drawn[~np.isnan(drawn)]
    if not known.size or drawn.size - known.size > MOST_ABSENT * drawn.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, PERCENTILES)
    return float(low), float(high)


def with_interval(value: float, drawn: Floats) -> dict[str, float | None]:
    """Return a number with the percentiles of its resamples, and None where it is not defined, as reports contain it.

    Parameters
    ----------
    value : float
        On the records themselves; NaN where it is not defined.
    drawn : ndarray of float64, shape (resamples,)
        The same for each bootstrap resample.

    Returns
    -------
    dict of str to float or None
        ``value``, ``low`` and ``high``.
    """
    low, high = interval(drawn)
    known = not np.isnan(value)
    numbers = {"value": value, "low": low, "high": high}
    return {name: float(number) if known and not np.isnan(number) else None for name, number in numbers.items()}


def metric_intervals(
    values: Mapping[str, Mapping[str, Floats]], drawn: Mapping[str, Mapping[str, Floats]]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return all metrics of a fold with their intervals, as reports contain them.

    A calibration error is a mean of absolute gaps, so that resampling biases it upwards. Its resamples are shifted down
    by their mean difference to the error, so that the interval describes its variation only.

    Parameters
    ----------
    values : mapping of str to mapping of str to float
        Group and metric, as returned by `ecgkit.evaluation.fold_metrics`.
    drawn : mapping of str to mapping of str to ndarray of float64, shape (resamples,)
        The same for each bootstrap resample.

    Returns
    -------
    dict
        ``{GROUP: {METRIC: {"value", "low", "high"}}}``.
    """
    return {
        group: {
            metric: with_interval(float(value), _around(float(value), drawn[group][metric], metric))
            for metric, value in of_group.items()
        }
        for group, of_group in values.items()
    }


def _around(value: float, drawn: Floats, metric: str) -> Floats:
    """Return the resamples for an interval, of a calibration error without their bias."""
    if not metric.startswith("ece") or np.isnan(drawn).all():
        return drawn
    return np.maximum(drawn - (np.nanmean(drawn) - value), 0.0)
