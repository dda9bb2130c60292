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


def patient_codes(patient_ids: ArrayLike) -> NDArray[np.int64]:
    """Return the number of each record's patient, ordered by the length of the identifier and then its text.

    Whole numbers without leading zeros are thereby in numerical order. Everything that draws or splits patients with
    a seed goes by these codes, so that the same identifiers give the same result as numbers and as text.

    Parameters
    ----------
    patient_ids : array-like, shape (records,)
        The patient of each record; none may be missing.

    Returns
    -------
    ndarray of int64, shape (records,)
    """
    text = as_identifiers(np.asarray(patient_ids)).to_numpy(dtype=np.str_)
    names, codes = np.unique(text, return_inverse=True)
    rank = np.empty(len(names), np.int64)
    rank[np.lexsort((names, np.strings.str_len(names)))] = np.arange(len(names))
    return rank[codes]
