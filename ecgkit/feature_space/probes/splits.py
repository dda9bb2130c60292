"""Splits of records with all of a patient's records on one side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from ecgkit.errors import EcgkitError
from ecgkit.stats.identifiers import patient_codes

N_SPLITS = 5

Split = tuple[NDArray[np.int64], NDArray[np.int64]]


def check_apart(patients: NDArray[np.generic], split: Split) -> None:
    """Check that no patient is on both sides of a split.

    Parameters
    ----------
    patients : ndarray, shape (records,)
        Who each record is of.
    split : tuple of ndarray of int64
        Positions to fit on, and positions to test on.

    Raises
    ------
    EcgkitError
        If a patient is on both sides.
    """
    shared = np.intersect1d(patients[split[0]], patients[split[1]])
    if len(shared):
        raise EcgkitError(
            f"{len(shared)} patients are on both sides of a split, the first is patient {shared[0]}: split by patient"
        )


def patient_splits(patients: NDArray[np.generic], seed: int, n_splits: int = N_SPLITS) -> Iterator[Split]:
    """Split records into parts to fit on and parts to test on, with all records of a patient on one side.

    Parameters
    ----------
    patients : ndarray, shape (records,)
        Who each record is of.
    seed : int
        Seed of the assignment.
    n_splits : int, default 5
        Number of splits; fewer where there are not so many patients.

    Yields
    ------
    inner, outer : ndarray of int64
        Positions to fit on, and positions to test on.

    Raises
    ------
    EcgkitError
        If the records are of fewer than two patients.
    """
    codes = patient_codes(patients)
    number = min(n_splits, len(np.unique(codes)))
    if number < 2:
        raise EcgkitError("cross-validation needs the records of two patients in folds 1-8: leave this target out")
    splitter = GroupKFold(n_splits=number, shuffle=True, random_state=seed)
    yield from splitter.split(np.zeros(len(patients)), groups=codes)
