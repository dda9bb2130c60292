"""Targets of a training that are not label sets: age, height and weight, which are quantities, and sex."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ecgkit.errors import EcgkitError
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD

if TYPE_CHECKING:
    from ecgkit.datasets import Dataset

MIN_RECORDS = 10
"""Known values that folds 1-8, and fold 9, need for a training."""


class Quantity(NamedTuple):
    """A target that is a number; values outside its range count as unknown."""

    unit: str
    lowest: float
    highest: float


QUANTITIES = {
    "age": Quantity("years", 0, 120),
    "height": Quantity("cm", 40, 250),
    "weight": Quantity("kg", 1, 400),
}
TARGETS = ("age", "sex", "height", "weight")
POSITIVE_SEX = "female"
"""The class of the target sex."""


def with_target(dataset: Dataset, target: str) -> Dataset:
    """Replace the labels of a dataset by a target, and leave out the records whose value is unknown.

    Parameters
    ----------
    dataset : Dataset
        Opened without a label set.
    target : str
        A name of `TARGETS`.

    Returns
    -------
    Dataset
        With one class: the quantity in its unit (float), or ``"female"`` (bool).

    Raises
    ------
    EcgkitError
        If fewer than `MIN_RECORDS` values are known in folds 1-8 or in fold 9.
    """
    column = dataset.records[target]
    if quantity := QUANTITIES.get(target):
        known = column.between(quantity.lowest, quantity.highest)
        labels = pd.DataFrame({target: column.astype("float64")})
    else:
        known = column.notna()
        labels = pd.DataFrame({POSITIVE_SEX: (column == POSITIVE_SEX).to_numpy(bool, na_value=False)})
    kept = np.flatnonzero(known.to_numpy(bool, na_value=False))
    named = replace(dataset, labels=labels, classes=tuple(map(str, labels)), n_unlabelled=len(known) - len(kept))
    found = named.subset(kept)
    for where, folds in (("folds 1-8", TRAIN_FOLDS), ("fold 9", (VALIDATION_FOLD,))):
        if (count := len(found.folds(*folds))) < MIN_RECORDS:
            raise EcgkitError(
                f"{target} is known for {count} records of {where} of {dataset.name}: {MIN_RECORDS} are needed"
            )
    return found
