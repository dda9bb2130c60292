"""Calibrated probabilities, and how well they are calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.stats.calibration_error import brier, calibrated_ece_interval, ece
from ecgkit.stats.validation import Floats, FoldScores, as_outcomes, is_quantity

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("identity", "temperature", "platt", "beta", "isotonic")
"""The calibration methods, the simplest first."""

STRICTNESS = 1e-4
"""The weight of the uncalibrated probability in an isotonic calibration, which is constant beyond its last points."""

FEW = 10
"""Outcomes of a kind, in fold 9, below which a class is not calibrated and its threshold is not to be relied on."""

CLIP = 1e-7
"""Probabilities are clipped this far from 0 and 1, where the logit is infinite; float32 resolves no less near 1."""


def clipped_logit(prob: Floats) -> Floats:
    """Compute the logit of probabilities clipped by `CLIP`."""
    return logit(prob.clip(CLIP, 1 - CLIP))


def beta_inputs(prob: Floats) -> Floats:
    """Compute what beta calibration multiplies, log(prob) and -log(1 - prob), clipped as `clipped_logit`."""
    clipped = prob.clip(CLIP, 1 - CLIP)
    return np.stack([np.log(clipped), -np.log1p(-clipped)], axis=-1)


def calibrate(fitted: Mapping[str, Any], prob: Floats) -> Floats:
    """Calibrate the probabilities of one class; strictly increasing, so that the order of records is kept."""
    method = check_choice("method of calibration", fitted["method"], METHODS)
    if method == "identity":
        return prob
    if method == "isotonic":
        # Only upwards: a constant part on the edge of a bin, such as 0.2, would otherwise be divided between two.
        value = np.interp(prob, fitted["x"], fitted["y"])
        return value + prob * np.minimum(STRICTNESS, 1 - value)
    if method == "beta":
        return expit(beta_inputs(prob) @ [fitted["a"], fitted["b"]] + fitted["c"])
    return expit(fitted["slope"] * clipped_logit(prob) + fitted["intercept"])


def apply_calibration(prob: ArrayLike, calibration: Mapping[str, Any], classes: Sequence[str]) -> NDArray[np.float32]:
    """Calibrate probabilities.

    Parameters
    ----------
    prob : array-like of float, shape (records, classes)
        Uncalibrated probabilities.
    calibration : mapping
        As returned by `fit_calibration`; the contents of ``calibration.json``.
    classes : sequence of str
        The names of the columns.

    Returns
    -------
    ndarray of float32, shape (records, classes)

    Raises
    ------
    EcgkitError
        If a class has no calibration or an unknown method, or the number of columns differs.
    """
    values = np.asarray(prob, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(classes):
        raise EcgkitError(
            f"probabilities have the shape {values.shape}: pass one column for each of {len(classes)} classes"
        )
    calibrated = np.empty_like(values)
    for column, name in enumerate(classes):
        fitted = calibration["classes"].get(name)
        if fitted is None:
            raise EcgkitError(f"no calibration for {name}: fit the calibration with this class")
        calibrated[:, column] = calibrate(fitted, values[:, column])
    return calibrated.astype(np.float32)


def uncalibrated_classes(calibration: Mapping[str, Any]) -> dict[str, str]:
    """Return the classes whose calibration could not be fitted, and so whose threshold is not to be relied on.

    Parameters
    ----------
    calibration : mapping
        As returned by `fit_calibration`; the contents of ``calibration.json``.

    Returns
    -------
    dict of str to str
        Class to reason, such as ``"fold 9 has 4 positives, fewer than 10"``. A class that is best left as it is has
        been compared with other methods, and is none of these.
    """
    return {
        name: fitted["reason"]
        for name, fitted in calibration["classes"].items()
        if fitted.get("reason") and set(fitted.get("log_loss", ())) <= {"identity"}  # it was compared with nothing
    }


def add_calibration(predictions: pd.DataFrame, calibration: Mapping[str, Any], classes: Sequence[str]) -> pd.DataFrame:
    """Add the columns ``calibrated_CLASS`` to a table of predictions.

    Parameters
    ----------
    predictions : DataFrame
        ``record_id``, ``patient_id``, ``fold`` and other columns; ``true_CLASS`` and ``prob_CLASS`` of every class.
    calibration : mapping
        As returned by `fit_calibration`.
    classes : sequence of str
        The classes.

    Returns
    -------
    DataFrame
        A new table with the types of ``predictions.parquet``: the columns that belong to no class, then
        ``true_CLASS`` (bool; nullable where a label is unknown), ``prob_CLASS`` (float32) and ``calibrated_CLASS``
        (float32), class by class.
    """
    import pandas as pd

    if is_quantity(predictions, classes):
        return predictions
    calibrated = apply_calibration(predictions[[f"prob_{name}" for name in classes]].to_numpy(), calibration, classes)
    columns: dict[str, Any] = {}
    for i, name in enumerate(classes):
        columns[f"true_{name}"] = as_outcomes(predictions[f"true_{name}"]).reset_index(drop=True)
        columns[f"prob_{name}"] = predictions[f"prob_{name}"].to_numpy(dtype=np.float32)
        columns[f"calibrated_{name}"] = calibrated[:, i]
    kept = predictions[[name for name in predictions if name not in columns]].reset_index(drop=True)
    return pd.concat([kept, pd.DataFrame(columns)], axis=1)


def calibration_summary(scores: FoldScores) -> pd.DataFrame:
    """Tabulate the calibration error before and after calibration, and that of a perfectly calibrated model.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, including the calibrated ones; usually of fold 10.

    Returns
    -------
    DataFrame
        One row per class, then ``macro``, their mean. All columns but the last are floats between 0 and 1:

        - ``ece_before``, ``ece_after``: expected calibration error over 15 bins of equal width;
        - ``brier_before``, ``brier_after``: Brier score;
        - ``perfect_low``, ``perfect_high``: the 95 % interval of ``ece_after`` of a perfectly calibrated model; of
          ``macro``, the same for the mean;
        - ``inside``, bool: whether ``ece_after`` is at most ``perfect_high``, so that no miscalibration is detectable.

        The interval assumes independent records of a patient and independent classes of a record. It is therefore
        slightly too narrow, that of ``macro`` most.

    Raises
    ------
    EcgkitError
        If the scores have no calibrated probabilities.
    """
    import pandas as pd

    truth, before, after = scores.y_true, scores.prob, scores.require_calibrated()
    low, high, of_macro = calibrated_ece_interval(after, known=scores.known)
    columns = {
        "ece_before": ece(truth, before),
        "ece_after": ece(truth, after),
        "brier_before": brier(truth, before),
        "brier_after": brier(truth, after),
        "perfect_low": low,
        "perfect_high": high,
    }
    table = pd.DataFrame(columns, index=pd.Index(scores.classes))
    table.loc["macro"] = table.mean()
    table.loc["macro", ["perfect_low", "perfect_high"]] = of_macro
    table["inside"] = table["ece_after"] <= table["perfect_high"]
    return table
