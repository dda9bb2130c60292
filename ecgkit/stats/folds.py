"""The ten folds: 1-8 train, 9 validates, 10 tests; no patient is in two of these splits."""

from __future__ import annotations

import pandas as pd

TRAIN_FOLDS = tuple(range(1, 9))
VALIDATION_FOLD = 9
TEST_FOLD = 10
PARTS = {"training folds 1-8": TRAIN_FOLDS, "fold 9": (VALIDATION_FOLD,), "fold 10": (TEST_FOLD,)}
PART_OF_FOLD = {fold: part for part, folds in PARTS.items() for fold in folds}
ALL_FOLDS = (*TRAIN_FOLDS, VALIDATION_FOLD, TEST_FOLD)


def patients_in_two_parts(records: pd.DataFrame) -> pd.Index:
    """Give the patients that are in more than one of the parts folds 1-8, fold 9 and fold 10; there must be none.

    Parameters
    ----------
    records : DataFrame
        Columns ``patient_id`` and ``fold``.
    """
    parts_of = records["fold"].map(PART_OF_FOLD).groupby(records["patient_id"].to_numpy()).nunique()
    return parts_of.index[parts_of > 1]
