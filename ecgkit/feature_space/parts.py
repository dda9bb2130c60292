"""Who may learn from whom: embeddings checked against their records, patients against parts, scalers of folds 1-8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.stats.folds import PART_OF_FOLD, TRAIN_FOLDS, patients_in_two_parts

MIN_STD = 1e-6
"""A feature that varies less than this share of the typical feature is constant: rounding must not be blown up."""


@dataclass(frozen=True)
class Scaler:
    """Standardises embeddings with the statistics of the records it was fitted on.

    Attributes
    ----------
    mean : ndarray of float64, shape (features,)
        Mean of each feature.
    scale : ndarray of float64, shape (features,)
        Population standard deviation of each feature; 1 for a feature that is constant.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def transform(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """Subtract the mean and divide by the scale.

        Parameters
        ----------
        embeddings : ndarray, shape (records, features)
            As the network gives them.

        Returns
        -------
        ndarray of float32, shape (records, features)
        """
        return ((embeddings - self.mean) / self.scale).astype(np.float32)


def fit_scaler(embeddings: NDArray[np.floating]) -> Scaler:
    """Take mean and standard deviation of each feature.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        Records that may be learned from, of folds 1-8.

    Returns
    -------
    Scaler
    """
    fitted = StandardScaler().fit(np.asarray(embeddings, dtype=np.float64))
    scale = np.where(np.sqrt(fitted.var_) > MIN_STD * np.sqrt(np.median(fitted.var_)), fitted.scale_, 1.0)
    return Scaler(fitted.mean_, scale)


def check_embeddings(embeddings: NDArray[np.floating], records: pd.DataFrame) -> None:
    """Check that embeddings are numbers, one row for each record.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        The records, in the same order.

    Raises
    ------
    EcgkitError
        If the shape does not fit, or a value is NaN or infinite.
    """
    if embeddings.ndim != 2 or len(embeddings) != len(records):
        raise EcgkitError(
            f"embeddings of shape {embeddings.shape} for {len(records)} records: give one row a record, in their order"
        )
    if not np.isfinite(embeddings).all():
        row = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
        raise EcgkitError(f"the embedding in row {row} is not finite: make it again, or leave the record out")


def check_patients(records: pd.DataFrame) -> None:
    """Check that no patient is in two of the parts folds 1-8, fold 9 and fold 10.

    Parameters
    ----------
    records : DataFrame
        Columns ``patient_id`` and ``fold``.

    Raises
    ------
    EcgkitError
        If a patient is in two parts, or a fold is none of 1 to 10.
    """
    strange = ~records["fold"].isin(PART_OF_FOLD.keys())
    if strange.any():
        raise EcgkitError(f"fold {records.loc[strange, 'fold'].iloc[0]} is none of 1 to 10: assign folds by patient")
    shared = patients_in_two_parts(records)
    if len(shared):
        raise EcgkitError(
            f"{len(shared)} patients are in two parts, the first is patient {shared[0]}: assign folds by patient"
        )


def training_rows(records: pd.DataFrame) -> NDArray[np.bool_]:
    """Mark the records of folds 1-8.

    Parameters
    ----------
    records : DataFrame
        Column ``fold``.

    Returns
    -------
    ndarray of bool, shape (records,)

    Raises
    ------
    EcgkitError
        If there is none.
    """
    rows = records["fold"].isin(TRAIN_FOLDS).to_numpy(dtype=bool)
    if not rows.any():
        raise EcgkitError("no record of folds 1-8 among the embeddings: embed the training folds, too")
    return rows


def fold_rows(records: pd.DataFrame, folds: tuple[int, ...] | None) -> NDArray[np.int64]:
    """Give the positions of the records of some folds; of all where ``folds`` is None.

    Raises
    ------
    EcgkitError
        If there is none.
    """
    if folds is None:
        return np.arange(len(records))
    rows = np.flatnonzero(records["fold"].isin(folds).to_numpy())
    if not len(rows):
        raise EcgkitError(f"no record of fold {', '.join(map(str, folds))} among the embeddings: embed it, too")
    return rows


def standardise(embeddings: NDArray[np.floating], records: pd.DataFrame) -> NDArray[np.float32]:
    """Standardise all embeddings with the mean and standard deviation of folds 1-8.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        The records, in the same order; column ``fold``.

    Returns
    -------
    ndarray of float32, shape (records, features)

    Raises
    ------
    EcgkitError
        If the shape does not fit, a value is not finite, or no record is in folds 1-8.
    """
    check_embeddings(embeddings, records)
    return fit_scaler(embeddings[training_rows(records)]).transform(embeddings)
