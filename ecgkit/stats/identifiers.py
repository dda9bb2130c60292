"""Identifiers of records and patients: text everywhere, and the same order whatever type a table held them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


def as_identifiers(values: Any) -> pd.Series:
    """Convert a column of identifiers to text; 9 and 9.0 both become ``"9"``, missing values stay missing.

    Parameters
    ----------
    values : array-like, shape (records,)
        Identifiers of any type.

    Returns
    -------
    Series of string
        With the index of ``values``, if it has one.
    """
    text = pd.Series(values).astype("string")
    return text.str.strip().str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)


def patient_keys(patient_ids: ArrayLike) -> pd.Series:
    """Return the text by which each record's patient is recognised: without leading zeros, blanks and capitals.

    Two tables may write one patient as ``007`` and ``7``, or as ``P 12`` and ``p12``. One person in two splits is a
    leak, two persons in one split are not: splits and resamples go by these keys.

    Parameters
    ----------
    patient_ids : array-like, shape (records,)
        The patient of each record; what is missing stays missing.

    Returns
    -------
    Series of string, shape (records,)
        With index ``0..records-1``.
    """
    codes, names = pd.factorize(np.asarray(patient_ids, dtype=object))
    keys = as_identifiers(names).str.casefold().str.replace(r"\s+", "", regex=True)
    keys = keys.str.replace(r"(?<![\d.,])0+(?=\d)", "", regex=True)
    return keys.reindex(codes).reset_index(drop=True)


def alike_patients(patient_ids: ArrayLike) -> list[tuple[str, ...]]:
    """Return the groups of identifiers that differ only in leading zeros, blanks or case: those with one key."""
    names = pd.Series(pd.unique(as_identifiers(np.asarray(patient_ids, dtype=object)).dropna()), dtype="string")
    return [tuple(group) for _, group in names.groupby(patient_keys(names).to_numpy()) if len(group) > 1]


def patient_codes(patient_ids: ArrayLike) -> NDArray[np.int64]:
    """Return the number of each record's patient, ordered by the length of the identifier and then its text.

    Whole numbers without leading zeros are thereby in numerical order. Everything that draws or splits patients with
    a seed goes by these codes, so that the same identifiers give the same result as numbers and as text.

    Parameters
    ----------
    patient_ids : array-like, shape (records,)
        The patient of each record; none may be missing. Identifiers with the same `patient_keys` are one patient.

    Returns
    -------
    ndarray of int64, shape (records,)
    """
    text = as_identifiers(np.asarray(patient_ids)).to_numpy(dtype=np.str_)
    names, codes = np.unique(text, return_inverse=True)
    rank, order = np.empty(len(names), np.int64), np.lexsort((names, np.strings.str_len(names)))
    rank[order] = pd.factorize(patient_keys(names[order]))[0]
    return rank[codes]
