"""Probabilities of an ensemble, computed from those of its members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from ecgkit.errors import EcgkitError
from ecgkit.stats.calibration import clipped_logit
from ecgkit.stats.validation import Floats, check_probabilities

METHODS = ("mean_prob", "mean_logit", "weights", "stacking")
"""The ways to combine models; the last two are fitted on fold 9."""


def apply_ensemble(description: Mapping[str, Any], probabilities: Mapping[str, ArrayLike]) -> Floats:
    """Compute the probabilities of an ensemble from those of its members.

    Parameters
    ----------
    description : mapping
        The contents of ``ensemble.json``.
    probabilities : mapping of str to array-like of float, shape (records, classes)
        Of each member by name, with the columns of ``description["classes"]``.

    Returns
    -------
    ndarray of float64, shape (records, classes)

    Raises
    ------
    EcgkitError
        If a member is missing, shapes differ, or a value is outside 0 to 1.
    """
    if missing := [name for name in description["members"] if name not in probabilities]:
        raise EcgkitError(f"no probabilities of {', '.join(missing)}: pass those of every member")
    values = [np.asarray(probabilities[name], dtype=np.float64) for name in description["members"]]
    wanted = (len(values[0]), len(description["classes"]))
    for name, value in zip(description["members"], values, strict=True):
        if value.shape != wanted:
            raise EcgkitError(f"the probabilities of {name} have the shape {value.shape}: expected {wanted}")
        check_probabilities(value)
    return combine(description, np.stack(values))


def combine(description: Mapping[str, Any], prob: Floats) -> Floats:
    """Compute probabilities of shape (records, classes) from those of the members, (members, records, classes)."""
    members, method = description["members"], description["method"]
    if method == "stacking":
        fits = [description["coefficients"][name] for name in description["classes"]]
        weights = np.array([[fit["weights"][member] for fit in fits] for member in members])
        intercepts = np.array([fit["intercept"] for fit in fits])
        return expit(np.einsum("mrc,mc->rc", clipped_logit(prob), weights) + intercepts)
    weights = np.array([description["weights"][member] for member in members])
    if method == "mean_logit":
        return expit(np.einsum("mrc,m->rc", clipped_logit(prob), weights))
    # Weights that sum to 1 only up to rounding could raise a probability above 1.
    return np.einsum("mrc,m->rc", prob, weights).clip(0.0, 1.0)
