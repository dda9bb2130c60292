"""Probabilities in a population where a class is more or less frequent than in training: one additive logit offset."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit

from ecgkit.stats.calibration import clipped_logit
from ecgkit.stats.validation import Floats, known_scores

LARGEST_OFFSET = 15.0
"""Offsets are between minus and plus this; it takes a probability of 0.5 to one of 3e-7."""
STEPS = 10_000
TOLERANCE = 1e-9


def prior_by_em(prob: ArrayLike, prior: float) -> float:
    """Estimate how frequent a class is among unlabelled records, by expectation maximisation.

    Assumes that the ECGs of the class, and those of the others, are like those of training, and that the probabilities
    were calibrated there.

    Parameters
    ----------
    prob : array-like of float, shape (records,)
        Calibrated probabilities of the class.
    prior : float
        The share of the class where the probabilities were calibrated, between 0 and 1.

    Returns
    -------
    float
        The share of the class among these records.

    References
    ----------
    Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
    Computation 14 (2002).
    """
    odds = clipped_logit(np.asarray(prob, np.float64)) - logit(prior)
    share = prior
    for _ in range(STEPS):
        before, share = share, float(expit(odds + logit(np.clip(share, 1e-9, 1 - 1e-9))).mean())
        if abs(share - before) < TOLERANCE:
            break
    return share


def fit_offset(y_true: ArrayLike, prob: ArrayLike) -> float:
    """Fit the number that is added to the logits of a class, by maximum likelihood; the slope stays 1.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes; unknown ones (NaN) are left out. Half a record of each outcome is added, so that the offset is finite.
    prob : array-like of float, shape (records,)
        Calibrated probabilities.

    Returns
    -------
    float
        With it, the mean probability is the share of the class.
    """
    truth, values = known_scores(y_true, prob)
    z, wanted = clipped_logit(values), float(truth.mean() * len(truth) + 0.5) / (len(truth) + 1)

    def gap(offset: float) -> float:
        return float(expit(z + offset).mean()) - wanted

    if gap(-LARGEST_OFFSET) >= 0:
        return -LARGEST_OFFSET
    if gap(LARGEST_OFFSET) <= 0:
        return LARGEST_OFFSET
    return float(brentq(gap, -LARGEST_OFFSET, LARGEST_OFFSET, xtol=1e-10))


def add_offset(prob: ArrayLike, offset: float) -> Floats:
    """Return the probabilities after a number was added to their logits; in the same order of records."""
    result: Floats = expit(clipped_logit(np.asarray(prob, np.float64)) + offset)
    return result


def difference_interval(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Return the difference of two numbers from independent samples with its interval, from their own intervals.

    Parameters
    ----------
    first, second : tuple of float
        Value, low and high.

    Returns
    -------
    value, low, high : float
        First minus second.

    References
    ----------
    Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27 (2008).
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    below, above = np.hypot(a - a_low, b_high - b), np.hypot(a_high - a, b - b_low)
    return a - b, float(a - b - below), float(a - b + above)
