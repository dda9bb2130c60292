"""Age and sex as the input of a network, and a quantity as its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.signals.ecg import SEXES


@dataclass(frozen=True)
class MetadataScaler:
    """Age and sex as four numbers: scaled age, whether age is unknown, male, female.

    Attributes
    ----------
    age_mean, age_std : float
        In years, of the training folds. An unknown age becomes the mean, and an unknown sex half of each.
    has_unknown : bool
        Whether the training folds have unknown ages. Without one, nothing was learned of the column that marks them,
        which then stays 0.
    """

    age_mean: float
    age_std: float
    has_unknown: bool = False

    n_columns = 4

    def __call__(self, age: ArrayLike, sex: Sequence[str | None]) -> NDArray[np.float32]:
        """Scale age and sex.

        Parameters
        ----------
        age : array-like of float, shape (records,)
            In years, NaN where unknown.
        sex : sequence of str or None
            ``"male"`` or ``"female"``; anything else is unknown.

        Returns
        -------
        ndarray of float32, shape (records, 4)
        """
        years = np.asarray(age, np.float64)
        unknown = np.isnan(years)
        scaled = np.where(unknown, 0.0, (years - self.age_mean) / self.age_std)
        known = [value if isinstance(value, str) and value in SEXES else None for value in sex]
        shares = [[0.5 if value is None else float(value == name) for value in known] for name in SEXES]
        return np.stack([scaled, unknown & self.has_unknown, *shares], axis=1).astype(np.float32)


@dataclass(frozen=True)
class TargetScale:
    """The quantity that a network was trained for: its output is in standard deviations from the mean.

    Attributes
    ----------
    name : str
        Such as ``"age"``.
    unit : str
        Such as ``"years"``.
    mean, std : float
        Of the training folds, in this unit.
    """

    name: str
    unit: str
    mean: float
    std: float
