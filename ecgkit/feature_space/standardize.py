"""Standardisation with folds 1-8, and the checks that keep the folds apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.stats.folds import PART_OF_FOLD, TEST_FOLD, TRAIN_FOLDS, patients_in_two_parts

MIN_STD = 1e-6
"""A feature with a smaller share of the typical standard deviation is constant: rounding must not be amplified."""


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of the features of the records that it was fitted on.

    Attributes
    ----------
    mean : ndarray of float64, shape (features,)
        Mean of each feature.
    scale : ndarray of float64, shape (features,)
        Population standard deviation of each feature; 1 for a constant one.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def transform(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """Subtract the mean and divide by the scale; ``(records, features)``, float32."""
        return ((embeddings - self.mean) / self.scale).astype(np.float32)


def fit_scaler(embeddings: NDArray[np.floating]) -> Scaler:
    """Take mean and standard deviation of each feature of records of folds 1-8, ``(records, features)``."""
    fitted = StandardScaler().fit(np.asarray(embeddings, dtype=np.float64))
    scale = np.where(np.sqrt(fitted.var_) > MIN_STD * np.sqrt(np.median(fitted.var_)), fitted.scale_, 1.0)
    return Scaler(fitted.mean_, scale)


def standardize(embeddings: NDArray[np.floating], records: pd.DataFrame) -> NDArray[np.float32]:
    """Standardise all embeddings with the mean and standard deviation of folds 1-8.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        The records, in the same order; column ``fold``.

    Returns
    -------
    ndarray of float32, shape (records, features)

    Raises
    ------
    EcgkitError
        If the shape does not match, a value is not finite, or no record is in folds 1-8.
    """
    check_embeddings(embeddings, records)
    return fit_scaler(embeddings[training_rows(records)]).transform(embeddings)


def check_embeddings(embeddings: NDArray[np.floating], records: pd.DataFrame) -> None:
    """Raise EcgkitError unless the embeddings are finite, one row per record."""
    if embeddings.ndim != 2 or len(embeddings) != len(records):
        raise EcgkitError(
            f"embeddings of shape {embeddings.shape} for {len(records)} records: pass one row per record, in order"
        )
    if not np.isfinite(embeddings).all():
        row = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
        raise EcgkitError(f"the embedding in row {row} is not finite: compute it again, or leave the record out")


def check_patients(records: pd.DataFrame) -> None:
    """Raise EcgkitError if a patient is in two of the splits 1-8, 9 and 10, or a fold is not 1 to 10."""
    unknown = ~records["fold"].isin(PART_OF_FOLD.keys())
    if unknown.any():
        raise EcgkitError(f"fold {records.loc[unknown, 'fold'].iloc[0]} is not one of 1 to 10: assign folds by patient")
    shared = patients_in_two_parts(records)
    if len(shared):
        raise EcgkitError(
            f"{len(shared)} patients are in two splits, the first is patient {shared[0]}: assign folds by patient"
        )


def training_rows(records: pd.DataFrame) -> NDArray[np.bool_]:
    """Mark the records of folds 1-8; raise EcgkitError if there is none."""
    rows = records["fold"].isin(TRAIN_FOLDS).to_numpy(dtype=bool)
    if not rows.any():
        raise EcgkitError("no record of folds 1-8 among the embeddings: embed the training folds, too")
    return rows


def fold_rows(records: pd.DataFrame, folds: Sequence[int] | None = (TEST_FOLD,)) -> NDArray[np.int64]:
    """Return the rows of the records of some folds, of all if None; raise EcgkitError if there is none."""
    if folds is None:
        return np.arange(len(records))
    rows = np.flatnonzero(records["fold"].isin(folds).to_numpy())
    if not len(rows):
        raise EcgkitError(f"no record of fold {', '.join(map(str, folds))} among the embeddings: embed it, too")
    return rows
