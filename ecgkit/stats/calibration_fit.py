"""Choosing and fitting the calibration of each class on fold 9."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import sklearn.metrics
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GroupKFold

from ecgkit.stats.calibration import CLIP, FEW, METHODS, beta_inputs, calibrate, clipped_logit
from ecgkit.stats.folds import VALIDATION_FOLD
from ecgkit.stats.identifiers import patient_codes
from ecgkit.stats.validation import Bools, Floats, fold_scores, is_quantity, known_scores

N_SPLITS = 5
"""The number of cross-validation splits of fold 9, and the fewest patients that it needs."""

TIE = 1e-6
"""Log losses (nats per record) that differ by no more count as equal, since the fits are not more accurate."""

SLOPES = (1e-3, 1e3)
"""The range of the slope of temperature scaling, which is 1 / temperature."""

Split = tuple[NDArray[np.int64], NDArray[np.int64]]


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
    truth, values = known_scores(y_true, prob)
    (slope,), intercept = _fit_logistic(truth, clipped_logit(values)[:, None])
    return slope, intercept


def fit_beta(y_true: ArrayLike, prob: ArrayLike) -> tuple[float, float, float]:
    """Fit beta calibration, which bends differently towards 0 and towards 1, to Platt's targets.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    prob : array-like of float, shape (records,)
        Probabilities.

    Returns
    -------
    a, b, c : float
        The calibrated probability is ``expit(a * log(prob) - b * log(1 - prob) + c)``, where
        ``a`` and ``b`` are at least 0.

    References
    ----------
    Kull, Silva Filho and Flach, "Beta calibration: a well-founded and easily implemented improvement on logistic
    calibration for binary classifiers", AISTATS 2017. Platt's targets: see `fit_platt`.
    """
    truth, values = known_scores(y_true, prob)
    (a, b), c = _fit_logistic(truth, beta_inputs(values), lowest=0.0)
    return a, b, c


def _fit_logistic(truth: Bools, inputs: Floats, lowest: float | None = None) -> tuple[list[float], float]:
    """Fit the slopes, of at least ``lowest``, and the intercept of a logistic regression to Platt's targets."""
    target = np.where(truth, *_targets(truth))
    centre, scale = inputs.mean(axis=0), np.where(np.ptp(inputs, axis=0) > 0, inputs.std(axis=0), 1.0)
    z = (inputs - centre) / scale

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        eta = z @ parameters[:-1] + parameters[-1]
        residual = expit(eta) - target
        gradient = np.append(residual @ z, residual.sum()) / len(z)
        return float(np.mean(np.logaddexp(0.0, eta) - target * eta)), gradient

    n_inputs = inputs.shape[1]
    start, bounds = [1.0] * n_inputs + [0.0], [(lowest, None)] * n_inputs + [(None, None)]
    options = {"ftol": 1e-15, "gtol": 1e-9}
    best = minimize(loss, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    slopes = best.x[:-1] / scale
    return slopes.tolist(), float(best.x[-1] - slopes @ centre)


def fit_temperature(y_true: ArrayLike, prob: ArrayLike) -> float:
    """Fit temperature scaling, a single factor for the logit, to Platt's targets.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    prob : array-like of float, shape (records,)
        Probabilities.

    Returns
    -------
    slope : float
        One over the temperature, between 0.001 and 1000. The calibrated probability is ``expit(slope * logit(prob))``.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017, section 4. Platt's targets: see `fit_platt`.
    """
    truth, values = known_scores(y_true, prob)
    x, target = clipped_logit(values), np.where(truth, *_targets(truth))

    def derivative(slope: float) -> float:
        return float(np.mean((expit(slope * x) - target) * x))

    # The loss is convex in the slope: its derivative rises.
    low, high = SLOPES
    if derivative(low) >= 0:
        return low
    if derivative(high) <= 0:
        return high
    return float(brentq(derivative, low, high, xtol=1e-12))


def fit_isotonic(y_true: ArrayLike, prob: ArrayLike) -> tuple[list[float], list[float]]:
    """Fit a centred isotonic regression of the outcome on the probability.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    prob : array-like of float, shape (records,)
        Probabilities.

    Returns
    -------
    x, y : list of float
        Points of the function, which is linear between them and constant outside: each step of the isotonic regression
        is one point, in the middle of its records. Platt's targets (see `fit_platt`) are the limits of ``y``, so that
        no step of a few records reaches 0 or 1.

    References
    ----------
    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    Oron and Flournoy, "Centered isotonic regression: point and interval estimation for dose-response studies",
    Statistics in Biopharmaceutical Research 9, 2017. The steps themselves would raise the probability by up to 0.2
    between two neighbouring records.
    """
    truth, values = known_scores(y_true, prob)
    high, low = _targets(truth)
    fitted = IsotonicRegression(y_min=low, y_max=high).fit(values, truth.astype(np.float64))
    steps, step = np.unique(fitted.predict(values), return_inverse=True)
    return (np.bincount(step, values) / np.bincount(step)).tolist(), steps.tolist()


def _targets(truth: Bools) -> tuple[float, float]:
    """Return Platt's targets for a positive and for a negative."""
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    return (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2)


def fit_calibration(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Choose and fit the calibration of each class, on fold 9.

    The candidates are no calibration, temperature scaling, Platt scaling, beta calibration and centred isotonic
    regression. Each is scored by its log loss in five-fold cross-validation over the patients of fold 9; the best one,
    the simplest among equals, is then fitted on all of fold 9.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions; only its fold 9 is read. Without a column ``patient_id`` each record counts as
        one patient.
    classes : sequence of str
        The classes, or the name of a quantity, which is not calibrated.

    Returns
    -------
    dict
        The contents of ``calibration.json``, empty for a quantity: ``fitted_on``, ``of`` (the input), ``formula``,
        ``chosen_by``, and under ``classes`` for each class

        - ``method``: ``"identity"``, ``"temperature"``, ``"platt"``, ``"beta"`` or ``"isotonic"``;
        - its parameters: ``slope`` and ``intercept``; ``a``, ``b`` and ``c`` of a beta calibration; ``x`` and ``y`` of
          an isotonic one, the points of the function, lists of equal length;
        - ``reason``, of ``"identity"`` only: why the probability is not changed;
        - ``log_loss``: the cross-validated log loss of each method, in nats per record.

        Slopes are positive and isotonic functions never fall, and the uncalibrated probability is
        added to an isotonic function with a weight of 0.0001, so that the order of records is kept.

    Raises
    ------
    EcgkitError
        If fold 9 or a column is missing, or a probability is NaN or outside 0 to 1.
    """
    if is_quantity(predictions, classes):
        return {}
    fold = fold_scores(predictions, classes, VALIDATION_FOLD)
    splits = _splits(predictions[predictions["fold"] == VALIDATION_FOLD])
    return {
        "fitted_on": f"fold_{VALIDATION_FOLD}",
        "of": "prob",
        "formula": "1 / (1 + exp(-(slope * log(prob / (1 - prob)) + intercept))); beta: "
        "1 / (1 + exp(-(a * log(prob) - b * log(1 - prob) + c))); isotonic: 0.9999 * f(prob) + "
        "0.0001 * prob, where f is linear between the points (x, y) and constant outside",
        "chosen_by": f"log loss, cross-validated over {N_SPLITS} groups of patients; the simplest among equals",
        "classes": {
            name: _calibrate(fold.positive[rows, i], fold.prob[rows, i], known_splits(splits, rows))
            for i, (name, rows) in enumerate(zip(classes, fold.known.T, strict=True))
        },
    }


def known_splits(splits: Sequence[Split], known: Bools) -> list[Split]:
    """Return splits of all records as positions among the records whose outcome is known; without empty parts."""
    if known.all():
        return list(splits)
    position = np.cumsum(known) - 1
    chosen = [tuple(position[part[known[part]]] for part in split) for split in splits]
    return [(outside, inside) for outside, inside in chosen if len(outside) and len(inside)]


def _splits(rows: pd.DataFrame) -> list[Split]:
    """Split records by patient: positions outside and inside each split; empty with too few patients."""
    of_record = patient_codes(rows["patient_id"]) if "patient_id" in rows else np.arange(len(rows))
    if of_record.max() + 1 < N_SPLITS:
        return []
    # Shuffled with a seed: GroupKFold would otherwise assign patients in the order of a sort with ties.
    return list(GroupKFold(N_SPLITS, shuffle=True, random_state=0).split(of_record, groups=of_record))


def _calibrate(truth: Bools, prob: Floats, splits: list[Split]) -> dict[str, Any]:
    """Fit the best method for one class by the cross-validated log loss, or state the reason for none."""
    if reason := _reason_against(truth, prob, splits):
        losses = {"identity": _log_loss(truth, prob)} if len(truth) else {}
        return _fit("identity", truth, prob) | {"reason": reason, "log_loss": losses}
    losses = {method: _cross_validated(method, truth, prob, splits) for method in METHODS}
    method = next(name for name in METHODS if losses[name] <= min(losses.values()) + TIE)
    why = {"reason": "no other method has a lower cross-validated log loss"} if method == "identity" else {}
    return _fit(method, truth, prob) | why | {"log_loss": losses}


def too_few_outcomes(truth: Bools) -> str:
    """Return which outcome is too rare to fit on, such as ``"3 positives, fewer than 10"``; empty if none is."""
    counts = {"positives": int(truth.sum()), "negatives": int((~truth).sum())}
    return next((f"{n} {what}, fewer than {FEW}" for what, n in counts.items() if n < FEW), "")


def _reason_against(truth: Bools, prob: Floats, splits: list[Split]) -> str:
    """Return the reason why a class cannot be calibrated; empty if it can."""
    if lacking := too_few_outcomes(truth):
        return f"fold {VALIDATION_FOLD} has {lacking}"
    if np.ptp(prob) == 0:
        return f"the probability is the same for every record of fold {VALIDATION_FOLD}"
    if not splits:
        return f"fold {VALIDATION_FOLD} has fewer than {N_SPLITS} patients"
    slope, _ = fit_platt(truth, prob)
    if not slope > 0:
        return f"the fitted slope is {slope:.3g}, and only a positive one keeps the order of the records"
    return ""


def _cross_validated(method: str, truth: Bools, prob: Floats, splits: list[Split]) -> float:
    """Compute the log loss of all records, each calibrated by a fit on the other splits."""
    calibrated = np.empty_like(prob)
    for outside, inside in splits:
        calibrated[inside] = calibrate(_fit(method, truth[outside], prob[outside]), prob[inside])
    return _log_loss(truth, calibrated)


def _log_loss(truth: Bools, prob: Floats) -> float:
    """Compute the log loss, in nats per record."""
    return float(sklearn.metrics.log_loss(truth, prob.clip(CLIP, 1 - CLIP), labels=[False, True]))


def _fit(method: str, truth: Bools, prob: Floats) -> dict[str, Any]:
    """Fit one method to one class."""
    if method == "isotonic":
        x, y = fit_isotonic(truth, prob)
        return {"method": method, "x": x, "y": y}
    if method == "beta":
        return {"method": method} | dict(zip("abc", fit_beta(truth, prob), strict=True))
    slope, intercept = 1.0, 0.0
    if method == "temperature":
        slope = fit_temperature(truth, prob)
    elif method == "platt":
        slope, intercept = fit_platt(truth, prob)
    return {"method": method, "slope": slope, "intercept": intercept}
