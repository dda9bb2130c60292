"""Calibration: what share of the records with a predicted probability of 0.3 carries the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sklearn.metrics
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GroupKFold

from ecgkit import stats
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.stats import Bools, Floats, FoldScores
from ecgkit.stats.folds import VALIDATION_FOLD
from ecgkit.stats.identifiers import patient_codes

METHODS = ("identity", "temperature", "platt", "isotonic")
"""The ways to calibrate, the simplest first."""

MIN_RECORDS = 10
"""The fewest positives, and negatives, from which a calibration is fitted."""

N_PARTS = 5
"""The parts of fold 9 in the cross-validation that chooses a method; also the fewest patients it needs."""

TIE = 1e-6
"""Log losses (nats a record) that differ by no more are equal; the fits themselves are not exact to much more."""

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1, where the logit is infinite; float32 tells no finer near 1."""

SLOPES = (1e-3, 1e3)
"""Between these the slope of temperature scaling is looked for; its temperature is 1 / slope."""

Part = tuple[NDArray[np.int64], NDArray[np.int64]]


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
    truth, values = stats.check_scores(y_true, prob)
    x, target = _logit(values), np.where(truth, *_targets(truth))
    centre, scale = x.mean(), x.std() if np.ptp(x) > 0 else 1.0
    z = (x - centre) / scale

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        eta = parameters[0] * z + parameters[1]
        residual = expit(eta) - target
        gradient = np.array([np.mean(residual * z), np.mean(residual)])
        return float(np.mean(np.logaddexp(0.0, eta) - target * eta)), gradient

    best = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    slope = float(best.x[0] / scale)
    return slope, float(best.x[1] - slope * centre)


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
    truth, values = stats.check_scores(y_true, prob)
    x, target = _logit(values), np.where(truth, *_targets(truth))

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
    """Fit the rising function of the probability that is nearest to the outcomes.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes of one class.
    prob : array-like of float, shape (records,)
        Probabilities.

    Returns
    -------
    x, y : list of float
        Points of the function: straight between them, constant outside. Platt's targets (see `fit_platt`) are the
        limits of ``y``, so that no step of a few records is taken for certain.

    References
    ----------
    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """
    truth, values = stats.check_scores(y_true, prob)
    high, low = _targets(truth)
    fitted = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip").fit(values, truth.astype(np.float64))
    return fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist()


def _logit(prob: Floats) -> Floats:
    """Give the logit, finite for 0 and 1 also."""
    return logit(prob.clip(CLIP, 1 - CLIP))


def _targets(truth: Bools) -> tuple[float, float]:
    """Give Platt's targets: what stands for a positive, and for a negative."""
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    return (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2)


def fit_calibration(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Choose and fit the calibration of each class, on fold 9.

    The probability as it is, temperature scaling, Platt's scaling and isotonic regression compete. Each is judged by
    its log loss on the records of patients that it was not fitted on, in five parts of fold 9; the best, of equals the
    simplest, is then fitted on all of fold 9.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions; only its fold 9 is read. Without a column ``patient_id`` each record counts as a
        patient of its own.
    classes : sequence of str
        The classes.

    Returns
    -------
    dict
        What ``calibration.json`` holds: ``fitted_on``, ``of`` (what goes in), ``formula``, ``chosen_by``, and under
        ``classes`` for each class

        - ``method``: ``"identity"``, ``"temperature"``, ``"platt"`` or ``"isotonic"``;
        - its parameters: ``slope`` and ``intercept``, or ``x`` and ``y`` of an isotonic one, the points of the
          function, lists of equal length;
        - ``reason``, of ``"identity"`` alone: why the probability is left as it is;
        - ``log_loss``: each method that was tried to its cross-validated log loss, in nats a record.

        Slopes are positive and isotonic functions never fall, so that no order of two records is turned round; an
        isotonic function may give different probabilities the same value.

    Raises
    ------
    EcgkitError
        If fold 9 or a column is missing, or a probability is NaN or outside 0 to 1.
    """
    fold = stats.fold_scores(predictions, classes, VALIDATION_FOLD)
    parts = _parts(predictions[predictions["fold"] == VALIDATION_FOLD])
    return {
        "fitted_on": f"fold_{VALIDATION_FOLD}",
        "of": "prob",
        "formula": "1 / (1 + exp(-(slope * log(prob / (1 - prob)) + intercept))); of isotonic: straight lines between "
        "the points (x, y), constant outside",
        "chosen_by": f"log loss, cross-validated over {N_PARTS} groups of patients; of equals the simplest",
        "classes": {name: _calibrate(fold.y_true[:, i], fold.prob[:, i], parts) for i, name in enumerate(classes)},
    }


def _parts(rows: pd.DataFrame) -> list[Part]:
    """Divide records into parts, no patient in two: for each part the positions outside and inside; none if too few."""
    of_record = patient_codes(rows["patient_id"]) if "patient_id" in rows else np.arange(len(rows))
    if of_record.max() + 1 < N_PARTS:
        return []
    # Shuffled with a seed: the order in which GroupKFold would else deal out patients is that of a sort with ties.
    return list(GroupKFold(N_PARTS, shuffle=True, random_state=0).split(of_record, groups=of_record))


def _calibrate(truth: Bools, prob: Floats, parts: list[Part]) -> dict[str, Any]:
    """Choose and fit the calibration of one class, or say why it is left as it is."""
    reason = _reason_against(truth, prob, parts)
    if reason is not None:
        return _fit("identity", truth, prob) | {"reason": reason, "log_loss": {"identity": _log_loss(truth, prob)}}
    losses = {method: _cross_validated(method, truth, prob, parts) for method in METHODS}
    best = min(losses.values())
    method = next(name for name in METHODS if losses[name] <= best + TIE)
    why = {"reason": "no other method has a lower cross-validated log loss"} if method == "identity" else {}
    return _fit(method, truth, prob) | why | {"log_loss": losses}


def _reason_against(truth: Bools, prob: Floats, parts: list[Part]) -> str | None:
    """Say why nothing can be fitted to a class; None where something can."""
    n_positive = int(truth.sum())
    for count, what in ((n_positive, "positives"), (len(truth) - n_positive, "negatives")):
        if count < MIN_RECORDS:
            return f"fold {VALIDATION_FOLD} has {count} {what}, fewer than {MIN_RECORDS}"
    if np.ptp(prob) == 0:
        return f"the probability is the same for every record of fold {VALIDATION_FOLD}"
    if not parts:
        return f"fold {VALIDATION_FOLD} has fewer than {N_PARTS} patients"
    slope, _ = fit_platt(truth, prob)
    if not slope > 0:
        return f"the fitted slope is {slope:.3g}, and only a positive one keeps the order of the records"
    return None


def _cross_validated(method: str, truth: Bools, prob: Floats, parts: list[Part]) -> float:
    """Give the log loss, in nats, of all records, each calibrated by what the other parts were fitted to."""
    calibrated = np.empty_like(prob)
    for outside, inside in parts:
        calibrated[inside] = _apply(_fit(method, truth[outside], prob[outside]), prob[inside])
    return _log_loss(truth, calibrated)


def _log_loss(truth: Bools, prob: Floats) -> float:
    return float(sklearn.metrics.log_loss(truth, prob.clip(CLIP, 1 - CLIP), labels=[False, True]))


def _fit(method: str, truth: Bools, prob: Floats) -> dict[str, Any]:
    """Fit one method to one class."""
    if method == "isotonic":
        x, y = fit_isotonic(truth, prob)
        return {"method": method, "x": x, "y": y}
    slope, intercept = 1.0, 0.0
    if method == "temperature":
        slope = fit_temperature(truth, prob)
    elif method == "platt":
        slope, intercept = fit_platt(truth, prob)
    return {"method": method, "slope": slope, "intercept": intercept}


def _apply(fitted: Mapping[str, Any], prob: Floats) -> Floats:
    """Calibrate the probabilities of one class."""
    method = check_choice("method of calibration", fitted["method"], METHODS)
    if method == "identity":
        return prob
    if method == "isotonic":
        return np.interp(prob, fitted["x"], fitted["y"])
    return expit(fitted["slope"] * _logit(prob) + fitted["intercept"])


def apply_calibration(prob: ArrayLike, calibration: Mapping[str, Any], classes: Sequence[str]) -> NDArray[np.float32]:
    """Calibrate probabilities.

    Parameters
    ----------
    prob : array-like of float, shape (records, classes)
        Probabilities as the network gives them.
    calibration : mapping
        What `fit_calibration` gave, or ``calibration.json`` holds.
    classes : sequence of str
        The names of the columns.

    Returns
    -------
    ndarray of float32, shape (records, classes)

    Raises
    ------
    EcgkitError
        If a class was not calibrated, or by an unknown method, or the number of columns is another one.
    """
    values = np.asarray(prob, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(classes):
        raise EcgkitError(
            f"probabilities have the shape {values.shape}: give one column for each of {len(classes)} classes"
        )
    calibrated = np.empty_like(values)
    for column, name in enumerate(classes):
        fitted = calibration["classes"].get(name)
        if fitted is None:
            raise EcgkitError(f"no calibration for {name}: fit the calibration with this class")
        calibrated[:, column] = _apply(fitted, values[:, column])
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


def calibration_summary(scores: FoldScores) -> pd.DataFrame:
    """Lay out how well probabilities are calibrated, before and after, beside what chance alone would leave.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, with the calibrated ones; as a rule of fold 10.

    Returns
    -------
    DataFrame
        One row a class, then ``macro``, their mean. All columns but the last are floats between 0 and 1:

        - ``ece_before``, ``ece_after``: expected calibration error over 15 bins of equal width;
        - ``ece_equal_mass_before``, ``ece_equal_mass_after``: over 15 bins of equally many records;
        - ``brier_before``, ``brier_after``: Brier score;
        - ``brier_reliability``, ``brier_resolution``, ``brier_uncertainty``: its parts after calibration, as
          `ecgkit.stats.brier_decomposition` defines them; what the bins hide is left out;
        - ``perfect_low``, ``perfect_high``: between these lies ``ece_after`` in 95 of 100 folds if each calibrated
          probability is exactly right; of ``macro``, the same for the mean;
        - ``inside``, bool: whether ``ece_after`` is at most ``perfect_high``, so that no miscalibration is to be seen.

        The interval takes the records of a patient, and the classes of a record, for independent. They are not quite,
        so that it is a little too narrow, most of all that of ``macro``.

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities.
    """
    if scores.calibrated is None:
        raise EcgkitError('the predictions have no columns "calibrated_CLASS": add them with add_calibration')
    truth, before, after = scores.y_true, scores.prob, scores.calibrated
    parts = [stats.brier_decomposition(truth[:, i], after[:, i]) for i in range(len(scores.classes))]
    low, high, of_macro = stats.calibrated_ece_interval(after)
    columns = {
        "ece_before": stats.ece(truth, before),
        "ece_after": stats.ece(truth, after),
        "ece_equal_mass_before": stats.ece(truth, before, bins="mass"),
        "ece_equal_mass_after": stats.ece(truth, after, bins="mass"),
        "brier_before": stats.brier(truth, before),
        "brier_after": stats.brier(truth, after),
        **{f"brier_{name}": [part[name] for part in parts] for name in ("reliability", "resolution", "uncertainty")},
        "perfect_low": low,
        "perfect_high": high,
    }
    table = pd.DataFrame(columns, index=pd.Index(scores.classes))
    table.loc["macro"] = table.mean()
    table.loc["macro", ["perfect_low", "perfect_high"]] = of_macro
    table["inside"] = table["ece_after"] <= table["perfect_high"]
    return table
