"""Selective prediction: how confident a model is of each record, and what is gained by abstaining."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from ecgkit.errors import EcgkitError
from ecgkit.stats.calibration import clipped_logit
from ecgkit.stats.validation import Floats, FoldScores, class_thresholds, divide

ABSTAIN = 0.1
"""The share of fold 9 below whose confidence the model abstains."""


def confidence(scores: FoldScores, thresholds: Mapping[str, Any]) -> Floats:
    """Compute how confident a model is of each record: the smallest confidence of its decisions on the classes.

    The confidence of a decision is the distance between the calibrated log-odds of the class and those of its
    threshold. Log-odds, since a distance of 0.05 is large at a threshold of 0.06 and small at 0.5; calibrated, since
    only then does one unit mean the same in all classes. The smallest over the classes counts, since a record is
    decided correctly only if every class is.

    Parameters
    ----------
    scores : FoldScores
        Probabilities of a fold, including the calibrated ones.
    thresholds : mapping
        As returned by `ecgkit.stats.thresholds.fit_thresholds`.

    Returns
    -------
    ndarray of float64, shape (records,)
        0 at a threshold.

    Raises
    ------
    EcgkitError
        If a class has no threshold or no calibrated probabilities.
    """
    calibrated, limits = scores.require_calibrated(), class_thresholds(thresholds, scores.classes)
    distance = np.abs(clipped_logit(calibrated) - clipped_logit(limits))
    margins: Floats = distance.min(axis=1)
    return margins


def abstention_threshold(values: ArrayLike, *, abstain: float = ABSTAIN) -> float:
    """Find the confidence below which a given share of the records is.

    Parameters
    ----------
    values : array-like of float, shape (records,)
        The confidence of the records of fold 9.
    abstain : float, default 0.1
        The share, at least 0 and below 1.

    Returns
    -------
    float
        The confidence of one of the records. Of n records ``abstain * n``, rounded down, are below it; fewer where
        records have equal confidence.

    Raises
    ------
    EcgkitError
        If the share is not at least 0 and below 1, or there is no record.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not 0 <= abstain < 1:
        raise EcgkitError(f"abstain is {abstain}: pass a share of the records, at least 0 and below 1")
    if not ordered.size:
        raise EcgkitError("there is no record to choose the abstention on: pass at least one")
    # 0.29 * 100 is 28.999999999999996.
    return float(ordered[int(abstain * len(ordered) + 1e-9)])


def area_under_risk_coverage(values: ArrayLike, loss: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """Average the risk over all coverages: the mean loss of the k most confident records, over k = 1 to all.

    Records of equal confidence are taken in random order, and the area is its expectation: it does not depend on the
    order of the records.

    Parameters
    ----------
    values : array-like of float, shape (records,)
        Confidence.
    loss : array-like of float, shape (records,)
        The loss of each record, such as the share of its decisions that are wrong.
    weights : array-like of float, shape (resamples, records), optional
        How often each record counts.

    Returns
    -------
    float, or ndarray of shape (resamples,)
        Lower is better; the mean loss of all records if confidence is uninformative. NaN where no record counts.

    References
    ----------
    El-Yaniv and Wiener, "On the foundations of noise-free selective classification", J. Machine Learning Research 11
    (2010), for risk and coverage; Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS
    2017, for the curve of a network; Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural
    classifiers", ICLR 2019, for the area.
    """
    sure, losses = np.asarray(values, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    counts = np.ones((1, len(sure))) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(-sure, kind="stable")
    first_of_ties = np.flatnonzero(np.append(True, np.diff(sure[order]) != 0))
    number = np.add.reduceat(counts[:, order], first_of_ties, axis=1)
    lost = np.add.reduceat((counts * losses)[:, order], first_of_ties, axis=1)
    before, lost_before = np.cumsum(number, axis=1) - number, np.cumsum(lost, axis=1) - lost
    each = np.nan_to_num(divide(lost, number))
    # Taken one by one, the j-th of m equal records makes the risk (lost_before + j * each) / (before + j). Summed over
    # j this is m * each + (lost_before - before * each) * (1 / (before + 1) + ... + 1 / (before + m)).
    harmonic = digamma(before + number + 1) - digamma(before + 1)
    total = (number * each + (lost_before - before * each) * harmonic).sum(axis=1)
    area = divide(total, counts.sum(axis=1))
    return (area if weights is not None else area[0])[()]
