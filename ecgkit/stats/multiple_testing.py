"""Corrections of p values for multiple testing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from ecgkit.errors import EcgkitError
from ecgkit.stats.validation import Floats


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p values for the family-wise error rate.

    Parameters
    ----------
    p_values : array-like of float, shape (tests,)
        Between 0 and 1; NaN counts as no test and stays NaN.

    Returns
    -------
    ndarray of float64, shape (tests,)
        Adjusted p values, to be compared with a level such as 0.05.

    Raises
    ------
    EcgkitError
        If a value is outside 0 to 1.

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).
    """
    values = _checked(p_values)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full(values.shape, np.nan)
    stepped = values[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjust p values for the false discovery rate.

    Parameters
    ----------
    p_values : array-like of float, shape (tests,)
        Between 0 and 1; NaN counts as no test and stays NaN.

    Returns
    -------
    ndarray of float64, shape (tests,)
        Adjusted p values.

    Raises
    ------
    EcgkitError
        If a value is outside 0 to 1.

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate", J. R. Stat. Soc. B 57 (1995), 289-300.
    """
    values = _checked(p_values)
    adjusted = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    if tested.any():
        adjusted[tested] = false_discovery_control(values[tested], method="bh")
    return adjusted


def _checked(p_values: ArrayLike) -> Floats:
    """Return p values, shape (tests,), after checking that those that are known are from 0 to 1."""
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1:
        raise EcgkitError(f"p values have the shape {values.shape}: pass one dimension")
    known = values[~np.isnan(values)]
    if not ((known >= 0) & (known <= 1)).all():
        raise EcgkitError(f"a p value is outside 0 to 1 ({known.min():g} to {known.max():g})")
    return values
