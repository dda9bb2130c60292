"""What a probe has to beat: simpler things that can be read, and labels that mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.metrics import Prediction
from ecgkit.feature_space.probes.targets import TARGETS, Target, align
from ecgkit.stats.identifiers import patient_codes

PROBE, BASELINE, DEMOGRAPHICS, MEASURES = "probe", "baseline", "demographics", "measures"
UNTRAINED, CONTROL_TASK, PERMUTATION, SUPERVISED = "untrained", "control_task", "permutation", "supervised"

ORDER = (PROBE, BASELINE, DEMOGRAPHICS, MEASURES, UNTRAINED, CONTROL_TASK, PERMUTATION, SUPERVISED)
"""The order of reports and figures."""

ANGLES = ("qrs_axis",)
"""Measures in degrees."""

NEAREST = 1e-6
"""How much a measure has to vary in folds 1-8, as a share of its size, to count as one."""


def demographics(
    records: pd.DataFrame, target: Target, training: NDArray[np.int64]
) -> tuple[NDArray[np.float64], str] | None:
    """Give what age and sex alone say, without the one that is the target.

    Parameters
    ----------
    records : DataFrame
        The records; columns ``age`` and ``sex`` where known.
    target : Target
        What is asked for.
    training : ndarray of int64
        Positions of the records of folds 1-8.

    Returns
    -------
    tuple of ndarray of float64, shape (records, features), and str, or None
        Age and its square, sex, and their product, with the name in words; an unknown age counts as the median, an
        unknown sex as the share of women, both of folds 1-8. None if there is neither column.
    """
    age, sex = (target_ for target_ in TARGETS if target_.name in ("age", "sex"))
    parts, names = [], []
    for source in (age, sex):
        if source.name == target.name or source.name not in records:
            continue
        values = source.known(records)
        known = values[training][np.isfinite(values[training])]
        if len(known):
            typical = float(np.median(known) if source.kind == "regression" else known.mean())
            parts.append(np.where(np.isfinite(values), values, typical) - typical)
            names.append(source.name)
    if not parts:
        return None
    columns = list(parts)
    if "age" in names:
        columns.append(parts[0] ** 2)
    if len(parts) == 2:
        columns.append(parts[0] * parts[1])
    return np.stack(columns, axis=1), " and ".join(names) + " alone"


def measures_in_words(measures: pd.DataFrame, target: Target) -> str:
    """Name the control of simple ECG measures, with those that were left out since they tell the target itself."""
    left_out = [name for name in target.from_measures if name in measures]
    return "simple ECG measures alone" + (f" (without {', '.join(left_out)})" if left_out else "")


def measure_features(
    measures: pd.DataFrame, records: pd.DataFrame, target: Target, training: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Give the simple measures of the ECG, without those that are the target.

    Parameters
    ----------
    measures : DataFrame
        Columns of numbers, with the index of the records.
    records : DataFrame
        The records.
    target : Target
        What is asked for.
    training : ndarray of int64
        Positions of the records of folds 1-8.

    Returns
    -------
    ndarray of float64, shape (records, measures), or None
        The electrical axis, an angle, is there as its sine and cosine. An unknown measure counts as the median of folds
        1-8; a measure that folds 1-8 do not know, or that is the same in all of them, is left out. None if no measure
        remains.

    Raises
    ------
    EcgkitError
        If a record is missing, or a column is not of numbers.
    """
    table = align(measures, records, "measures").drop(columns=list(target.from_measures), errors="ignore")
    words = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    if words:
        raise EcgkitError(f"the measure {words[0]} is not a number: leave the column out")
    values = _directions(table).to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.where(np.isfinite(values), values, np.nan)
    values = values[:, np.isfinite(values[training]).any(axis=0)]
    values = np.where(np.isfinite(values), values, np.nanmedian(values[training], axis=0))
    varied = values[training].std(axis=0) > NEAREST * np.abs(values[training]).max(axis=0)
    return values[:, varied] if varied.any() else None


def _directions(table: pd.DataFrame) -> pd.DataFrame:
    """Replace angles in degrees by sine and cosine: -179 and 179 are neighbours, which a line cannot see."""
    for name in ANGLES:
        if name in table:
            radians = np.deg2rad(table[name].astype(np.float64))
            table = table.drop(columns=name).assign(
                **{f"{name}_sine": np.sin(radians), f"{name}_cosine": np.cos(radians)}
            )
    return table


def exchange_patients(patients: NDArray[np.generic], number: int, seed: int) -> NDArray[np.int64]:
    """Give each patient the records of another, in their order, from the first again where these are too few.

    Parameters
    ----------
    patients : ndarray, shape (records,)
        Who each record is of.
    number : int
        How many times.
    seed : int
        Of the random numbers.

    Returns
    -------
    ndarray of int64, shape (number, records)
        Of which record each record gets what is exchanged.
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


def supervised_prediction(
    target: Target, table: pd.DataFrame, record_ids: Sequence[object], true: Prediction
) -> Prediction:
    """Read what a network that was trained for a target predicts.

    Parameters
    ----------
    target : Target
        What was asked for: a number or two words.
    table : DataFrame
        Columns ``record_id`` and ``predicted``, in the target's unit, or the probability of the second word.
    record_ids : sequence
        The records that are scored.
    true : Prediction
        Any prediction for these records, for what is true.

    Returns
    -------
    Prediction

    Raises
    ------
    EcgkitError
        If a column or a record is missing, a record is there twice, or the target has more than two classes.
    """
    if target.kind == "multiclass":
        raise EcgkitError(
            f"{target.name} has {len(target.words)} classes: pass supervised predictions of numbers or two words"
        )
    missing = {"record_id", "predicted"} - set(table)
    if missing:
        raise EcgkitError(f"the supervised predictions of {target.name} have no column {sorted(missing)[0]!r}: add it")
    if table["record_id"].duplicated().any():
        raise EcgkitError(f"the supervised predictions of {target.name} have a record twice: give one row a record")
    values = table.set_index("record_id")["predicted"].reindex(list(record_ids)).to_numpy(dtype=np.float64)
    if np.isnan(values).any():
        raise EcgkitError(
            f"the supervised predictions of {target.name} lack {np.isnan(values).sum()} of {len(values)} records of "
            "fold 10: predict them, too"
        )
    codes = target.bin(values) if target.kind == "regression" else (values > 0.5).astype(np.int64)
    return Prediction(true.true, true.true_codes, values, codes)
