"""Names of metrics, targets and threshold policies, and numbers with intervals, as they are printed."""

from __future__ import annotations

from collections.abc import Mapping

METRIC_NAMES = {
    "auc": "AUC",
    "f1": "F1",
    "f1_at_half": "F1 at 0.5",
    "brier": "Brier score",
    "ece": "ECE",
    "r2": "R2",
    "r2_uncapped": "R2 uncapped",
    "mae": "mean absolute error",
    "mae_uncapped": "mean absolute error uncapped",
    "limit_low": "lower limit of agreement",
    "limit_high": "upper limit of agreement",
}
"""Metrics whose printed name is not their key with spaces."""

SUPERCLASSES = {
    "NORM": "normal ECG",
    "MI": "myocardial infarction",
    "STTC": "ST/T change",
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
}
"""The five superclasses of PTB-XL, spelled out."""

POLICY_DESCRIPTIONS = {
    "best_f1": "the one with the highest F1",
    "sensitivity_90": "the one with the highest specificity at a sensitivity of at least 0.90",
    "specificity_95": "the one with the highest sensitivity at a specificity of at least 0.95",
    "youden": "the one with the highest sum of sensitivity and specificity",
}
"""The criterion of each threshold policy."""


SHOWN_METRICS = (
    *("auc", "average_precision", "sensitivity", "specificity", "precision", "f1", "brier", "ece"),
    *("r2", "mae"),
)
"""The metrics that a reader is shown first."""


def metric_name(metric: str) -> str:
    """Return the printed name of a metric, such as ``"AUC"`` for ``"auc"``."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def target_name(name: object, unit: str = "") -> str:
    """Return the printed name of a target or a column, such as ``"body mass index (kg/m²)"`` for ``"bmi"``."""
    printed = "body mass index" if name == "bmi" else str(name).replace("_", " ")
    return f"{printed} ({unit})" if unit else printed


def format_interval(entry: Mapping[str, float | None], *, digits: int = 3) -> str:
    """Format a number with its 95 % interval, such as ``"0.927 (0.919 to 0.934)"``.

    Parameters
    ----------
    entry : mapping
        ``value``, ``low`` and ``high``, as in ``metrics.json``; None where a number is not defined.
    digits : int, default 3
        Digits after the decimal point.

    Returns
    -------
    str
        ``"-"`` without a value, and the value alone without an interval.
    """
    numbers = (entry[name] for name in ("value", "low", "high"))
    # A negative zero would read as a small negative number.
    value, low, high = (None if x is None else f"{round(x, digits) + 0.0:.{digits}f}" for x in numbers)
    if value is None:
        return "-"
    return f"{value} ({low} to {high})" if low is not None and high is not None else value
