"""Calibration: what share of the records with a predicted probability of 0.3 carries the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from ecgkit import metrics
from ecgkit.errors import EcgkitError
from ecgkit.store import VALIDATION_FOLD

MIN_RECORDS = 10
"""The fewest positives, and negatives, from which a calibration is fitted."""

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1, where the logit is infinite; float32 tells no finer near 1."""


def fit_platt(y_true: ArrayLike, prob: ArrayLike) -> tuple[float, float]:
    """Fit a logistic regression of the outcome on the logit of the probability, with Platt's targets.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    prob : array-like of float, shape (records,)
        Probabilities.

    Returns
    -------
    slope, intercept : float
        The calibrated probability is ``expit(slope * logit(prob) + intercept)``.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods", 1999.
    His targets, (n + 1) / (n + 2) instead of 1 and 1 / (n + 2) instead of 0, keep the slope finite where a threshold
    separates the outcomes perfectly.
    """
    truth, values = metrics.check_scores(y_true, prob)
    x = logit(values.clip(CLIP, 1 - CLIP))
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    centre, scale = x.mean(), x.std() or 1.0
    z = (x - centre) / scale

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        eta = parameters[0] * z + parameters[1]
        residual = expit(eta) - target
        gradient = np.array([np.mean(residual * z), np.mean(residual)])
        return float(np.mean(np.logaddexp(0.0, eta) - target * eta)), gradient

    best = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    slope = float(best.x[0] / scale)
    return slope, float(best.x[1] - slope * centre)


def fit_calibration(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Fit Platt's scaling for each class, on fold 9.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions; only its fold 9 is read.
    classes : sequence of str
        The classes.

    Returns
    -------
    dict
        What ``calibration.json`` holds: ``fitted_on``, ``of`` (what goes in), ``formula``, and under ``classes`` for
        each class ``method`` (``"platt"``, or ``"identity"`` with the ``reason`` why the probability is left as it
        is), ``slope`` and ``intercept``. The slope is positive always, so no order of two records is ever turned
        round.

    Raises
    ------
    EcgkitError
        If fold 9 or a column is missing, or a probability is NaN or outside 0 to 1.
    """
    fold = metrics.fold_scores(predictions, classes, VALIDATION_FOLD)
    return {
        "fitted_on": f"fold_{VALIDATION_FOLD}",
        "of": "prob",
        "formula": "1 / (1 + exp(-(slope * log(prob / (1 - prob)) + intercept)))",
        "classes": {name: _calibrate(fold.y_true[:, i], fold.prob[:, i]) for i, name in enumerate(classes)},
    }


def _calibrate(truth: NDArray[np.bool_], prob: NDArray[np.float64]) -> dict[str, Any]:
    """Fit one class, or say why it is left as it is."""

    def identity(reason: str) -> dict[str, Any]:
        return {"method": "identity", "slope": 1.0, "intercept": 0.0, "reason": reason}

    n_positive = int(truth.sum())
    for count, what in ((n_positive, "positives"), (len(truth) - n_positive, "negatives")):
        if count < MIN_RECORDS:
            return identity(f"fold {VALIDATION_FOLD} has {count} {what}, fewer than {MIN_RECORDS}")
    if np.ptp(prob) == 0:
        return identity(f"the probability is the same for every record of fold {VALIDATION_FOLD}")
    slope, intercept = fit_platt(truth, prob)
    if not slope > 0:
        return identity(f"the fitted slope is {slope:.3g}, and only a positive one keeps the order of the records")
    return {"method": "platt", "slope": slope, "intercept": intercept}


def apply_calibration(prob: ArrayLike, calibration: Mapping[str, Any], classes: Sequence[str]) -> NDArray[np.float32]:
    """Calibrate probabilities.

    Parameters
    ----------
    prob : array-like of float, shape (records, classes)
        Probabilities as the network gives them.
    calibration : mapping
        What `fit_calibration` gave.
    classes : sequence of str
        The names of the columns.

    Returns
    -------
    ndarray of float32, shape (records, classes)

    Raises
    ------
    EcgkitError
        If a class was not calibrated, or the number of columns is another one.
    """
    values = np.asarray(prob, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(classes):
        raise EcgkitError(
            f"probabilities have the shape {values.shape}: give one column for each of {len(classes)} classes"
        )
    calibrated = values.copy()
    for column, name in enumerate(classes):
        fitted = calibration["classes"].get(name)
        if fitted is None:
            raise EcgkitError(f"no calibration for {name}: fit the calibration with this class")
        if fitted["method"] != "identity":
            x = logit(values[:, column].clip(CLIP, 1 - CLIP))
            calibrated[:, column] = expit(fitted["slope"] * x + fitted["intercept"])
    return calibrated.astype(np.float32)


def add_calibration(predictions: pd.DataFrame, calibration: Mapping[str, Any], classes: Sequence[str]) -> pd.DataFrame:
    """Give the table of predictions its columns ``calibrated_CLASS``.

    Parameters
    ----------
    predictions : DataFrame
        ``record_id``, ``patient_id``, ``fold`` and other columns; ``true_CLASS`` and ``prob_CLASS`` of every class.
    calibration : mapping
        What `fit_calibration` gave.
    classes : sequence of str
        The classes.

    Returns
    -------
    DataFrame
        A new table with the types of ``predictions.parquet``: the columns that belong to no class first, then
        ``true_CLASS`` (bool), ``prob_CLASS`` (float32) and ``calibrated_CLASS`` (float32), class by class.
    """
    calibrated = apply_calibration(predictions[[f"prob_{name}" for name in classes]].to_numpy(), calibration, classes)
    columns: dict[str, Any] = {}
    for i, name in enumerate(classes):
        columns[f"true_{name}"] = predictions[f"true_{name}"].to_numpy(dtype=bool)
        columns[f"prob_{name}"] = predictions[f"prob_{name}"].to_numpy(dtype=np.float32)
        columns[f"calibrated_{name}"] = calibrated[:, i]
    kept = predictions[[c for c in predictions if c not in columns]].reset_index(drop=True)
    return pd.concat([kept, pd.DataFrame(columns)], axis=1)
