"""The ten folds: 1-8 train, 9 validates, 10 tests; no patient is in two of these splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError, check_seed
from ecgkit.stats.identifiers import patient_keys

TRAIN_FOLDS = tuple(range(1, 9))
VALIDATION_FOLD = 9
TEST_FOLD = 10
PARTS = {"training folds 1-8": TRAIN_FOLDS, "fold 9": (VALIDATION_FOLD,), "fold 10": (TEST_FOLD,)}
PART_OF_FOLD = {fold: part for part, folds in PARTS.items() for fold in folds}
ALL_FOLDS = (*TRAIN_FOLDS, VALIDATION_FOLD, TEST_FOLD)


def patients_in_two_parts(records: pd.DataFrame) -> pd.Index:
    """Return the patients that are in more than one of the splits folds 1-8, fold 9 and fold 10; there must be none.

    Parameters
    ----------
    records : DataFrame
        Columns ``patient_id`` and ``fold``; identifiers with the same `patient_keys` are one patient.
    """
    keys = patient_keys(records["patient_id"]).to_numpy()
    n_parts = records["fold"].map(PART_OF_FOLD).groupby(keys).transform("nunique")
    return pd.Index(records.loc[n_parts > 1, "patient_id"].unique()).sort_values()


def assign_folds(
    patient_ids: ArrayLike,
    labels: pd.DataFrame,
    *,
    seed: int | None = 0,
    n_folds: int = 10,
    shares: Sequence[float] | None = None,
) -> NDArray[np.int64]:
    """Assign patients to folds so that the classes are spread evenly, the rarest class first.

    The iterative stratification of Sechidis et al. [1]_, with patients instead of records.

    Parameters
    ----------
    patient_ids : array-like, shape (records,)
        The patient of each record; identifiers with the same `patient_keys` are one patient.
    labels : DataFrame
        One boolean column per class, the rows as in ``patient_ids``; a missing value counts as false.
    seed : int or None, default 0
        Decides between patients that are alike; None takes them in the order in which they appear.
    n_folds : int, default 10
        Number of folds.
    shares : sequence of float, optional
        The part of the records that each fold gets; by default the same.

    Returns
    -------
    ndarray of int64, shape (records,)
        From 1 to ``n_folds``; the same for all records of a patient.

    Raises
    ------
    EcgkitError
        If a patient is unknown, there are fewer patients than folds, not one row of labels per record, or the seed is
        negative or too large.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011.
    """
    codes, patients = pd.factorize(patient_keys(patient_ids))
    if len(labels) != len(codes):
        raise EcgkitError(f"{len(labels):,} rows of labels for {len(codes):,} records: pass one row per record")
    if n_unknown := int((codes < 0).sum()):
        raise EcgkitError(f"{n_unknown:,} records have no patient_id: give each its own, or leave them out")
    if seed is not None:
        check_seed(seed)
    if len(patients) < n_folds:
        raise EcgkitError(f"{len(patients)} patients cannot be divided into {n_folds} folds: pass more records")
    truth = labels.astype("boolean").fillna(value=False).to_numpy(dtype=np.int64)
    members = np.zeros((len(patients), truth.shape[1]), np.int64)
    np.add.at(members, codes, truth)
    sizes = np.bincount(codes)
    rarity = np.where(members > 0, members.sum(axis=0), np.iinfo(np.int64).max)
    order = np.arange(len(patients)) if seed is None else np.random.default_rng(seed).permutation(len(patients))
    # Among equally rare ones, patients with many records come first, while there is still room to balance them.
    order = order[np.lexsort((-sizes[order], rarity.min(axis=1, initial=np.iinfo(np.int64).max)[order]))]
    counts, totals = np.zeros((n_folds, truth.shape[1])), np.zeros(n_folds)
    weights = np.ones(n_folds) if shares is None else np.asarray(shares, float) * n_folds
    fold_of = np.zeros(len(patients), np.int64)
    for patient in order:
        has_class = members[patient].any()
        crowding = totals + (1000.0 * n_folds * counts[:, rarity[patient].argmin()] if has_class else 0)
        fold = int((crowding / weights).argmin())
        fold_of[patient] = fold + 1
        counts[fold] += members[patient]
        totals[fold] += sizes[patient]
    return fold_of[codes]


def split_patients(
    patient_ids: ArrayLike, labels: pd.DataFrame, parts: Sequence[float], *, seed: int = 0
) -> NDArray[np.int64]:
    """Divide patients into a training, a validation and a test part, written as folds 1-8, 9 and 10.

    Parameters
    ----------
    patient_ids, labels, seed
        See `assign_folds`.
    parts : sequence of float
        The shares of the three parts, such as ``(0.70, 0.15, 0.15)``.

    Returns
    -------
    ndarray of int64, shape (records,)
        From 1 to 10.

    Raises
    ------
    EcgkitError
        If these are not three positive shares that sum to 1, or `assign_folds` refuses the records.
    """
    check_parts(parts)
    shares = [parts[0] / len(TRAIN_FOLDS)] * len(TRAIN_FOLDS) + [parts[1], parts[2]]
    return assign_folds(patient_ids, labels, seed=seed, shares=shares)


def check_parts(parts: Sequence[float]) -> None:
    """Raise an `EcgkitError` unless these are three positive shares that sum to 1."""
    if len(parts) != 3 or not all(share > 0 for share in parts) or abs(sum(parts) - 1) > 1e-6:
        found = " ".join(f"{share:g}" for share in parts)
        raise EcgkitError(f"split is {found}: give three shares with the sum 1, such as 0.7 0.15 0.15")
