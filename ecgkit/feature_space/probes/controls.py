"""The controls of a probe: simpler features, shuffled labels, and networks trained for the target."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.targets import AGE, SEX, Target, align
from ecgkit.stats.identifiers import patient_codes

PROBE, BASELINE, DEMOGRAPHICS, MEASUREMENTS = "probe", "baseline", "demographics", "measurements"
UNTRAINED, SHUFFLED, PERMUTATION, END_TO_END = "untrained", "shuffled_labels", "permutation", "end_to_end"

ORDER = (PROBE, BASELINE, DEMOGRAPHICS, MEASUREMENTS, UNTRAINED, SHUFFLED, PERMUTATION, END_TO_END)
"""The order of reports and figures."""

ANGLES = ("qrs_axis",)
"""Measurements in degrees."""

MIN_VARIATION = 1e-6
"""A measurement must vary in folds 1-8 by this share of its size."""


def demographics(
    records: pd.DataFrame, target: Target, training: NDArray[np.int64]
) -> tuple[NDArray[np.float64], str] | None:
    """Return age and sex as features, without the one that is the target.

    Parameters
    ----------
    records : DataFrame
        The records; columns ``age`` and ``sex`` if known.
    target : Target
        The target.
    training : ndarray of int64
        Rows of the records of folds 1-8.

    Returns
    -------
    tuple of ndarray of float64, shape (records, features), and str, or None
        Age and its square, sex, and their product, with a description; an unknown age counts as the median, an unknown
        sex as the share of women, both of folds 1-8. None if there is neither column.
    """
    parts, names = [], []
    for source in (AGE, SEX):
        if source.name == target.name or source.name not in records:
            continue
        values = source.values(records)
        known = values[training][np.isfinite(values[training])]
        if len(known):
            typical = float(np.median(known) if source is AGE else known.mean())
            parts.append(np.where(np.isfinite(values), values, typical) - typical)
            names.append(source.name)
    if not parts:
        return None
    columns = list(parts)
    if "age" in names:
        columns.append(parts[0] ** 2)
    if len(parts) == 2:
        columns.append(parts[0] * parts[1])
    return np.stack(columns, axis=1), f"{' and '.join(names)} alone"


def measurement_features(
    measurements: pd.DataFrame, records: pd.DataFrame, target: Target, training: NDArray[np.int64]
) -> tuple[NDArray[np.float64], str] | None:
    """Return the ECG measurements as features, without those that contain the target.

    Parameters
    ----------
    measurements : DataFrame
        Numeric columns, with the index of the records.
    records : DataFrame
        The records.
    target : Target
        The target.
    training : ndarray of int64
        Rows of the records of folds 1-8.

    Returns
    -------
    tuple of ndarray of float64, shape (records, features), and str, or None
        The electrical axis, an angle, is there as its sine and cosine. An unknown measurement counts as the median of
        folds 1-8; one that is unknown or constant there is left out. The description names those that contain the
        target. None if none remains.

    Raises
    ------
    EcgkitError
        If a record is missing.
    """
    left_out = [name for name in target.from_measurements if name in measurements]
    description = "ECG measurements alone" + (f" (without {', '.join(left_out)})" if left_out else "")
    table = align(measurements, records, "measurements").drop(columns=left_out)
    for name in set(ANGLES) & set(table):  # -179 and 179 degrees are neighbours
        radians = np.deg2rad(table.pop(name).astype(np.float64))
        table = table.assign(**{f"{name}_sine": np.sin(radians), f"{name}_cosine": np.cos(radians)})
    values = table.to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.where(np.isfinite(values), values, np.nan)
    values = values[:, np.isfinite(values[training]).any(axis=0)]
    values = np.where(np.isfinite(values), values, np.nanmedian(values[training], axis=0))
    varied = values[training].std(axis=0) > MIN_VARIATION * np.abs(values[training]).max(axis=0)
    return (values[:, varied], description) if varied.any() else None


def exchange_patients(patients: NDArray[np.generic], number: int, seed: int) -> NDArray[np.int64]:
    """Assign to each patient the records of another, in their order, repeated if there are too few.

    Parameters
    ----------
    patients : ndarray, shape (records,)
        The patient of each record.
    number : int
        Number of exchanges.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    ndarray of int64, shape (number, records)
        The record whose value each record gets.
    """
    of_record = patient_codes(patients)
    counts = np.bincount(of_record)
    order = np.argsort(of_record, kind="stable")
    begins = np.cumsum(counts) - counts
    place = np.empty(len(patients), dtype=np.int64)
    place[order] = np.arange(len(patients)) - begins[of_record[order]]
    random = np.random.default_rng(seed)
    others = random.permuted(np.tile(np.arange(len(counts)), (number, 1)), axis=1)[:, of_record]
    return order[begins[others] + place % counts[others]]


def end_to_end_values(target: Target, table: pd.DataFrame, record_ids: pd.Series) -> NDArray[np.float64]:
    """Return the predictions, for these records, of a network that was trained for a quantity or two categories.

    Raises
    ------
    EcgkitError
        If a record is missing or there twice, or the target has more than two classes.
    """
    if target.kind == "multiclass":
        raise EcgkitError(f"{target.name} has {len(target.classes)} classes: compare quantities or two classes")
    values = table.drop_duplicates("record_id").set_index("record_id")["predicted"]
    found = values.reindex(record_ids).to_numpy(dtype=np.float64)
    if np.isnan(found).any() or len(values) < len(table):
        raise EcgkitError(
            f"the network trained for {target.name} predicts {np.isfinite(found).sum()} of {len(found)} records of "
            "fold 10, or some twice: train it on the dataset of this session"
        )
    return found
