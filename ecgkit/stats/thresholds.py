"""Thresholds of the calibrated probabilities, chosen on fold 9 only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.stats.calibration import apply_calibration
from ecgkit.stats.classification import (
    best_f1_threshold,
    f_max_threshold,
    sensitivity_threshold,
    specificity_threshold,
    threshold_metrics,
    youden_threshold,
)
from ecgkit.stats.folds import VALIDATION_FOLD
from ecgkit.stats.validation import Floats, FoldScores, class_thresholds, fold_scores, is_quantity

if TYPE_CHECKING:
    import pandas as pd

UNFITTED_THRESHOLD = 0.5
"""The threshold of a class that lacks positives or negatives in fold 9."""

POLICIES: dict[str, Callable[..., float]] = {
    "best_f1": best_f1_threshold,
    "sensitivity_90": partial(sensitivity_threshold, at_least=0.90),
    "specificity_95": partial(specificity_threshold, at_least=0.95),
    "youden": youden_threshold,
}
"""The criteria for a threshold: the highest F1; the highest specificity at a sensitivity of at least 0.90; the highest
sensitivity at a specificity of at least 0.95; the highest sum of both."""

COLUMNS = ("sensitivity", "specificity", "precision", "f1")


def fit_thresholds(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    calibration: Mapping[str, Any] | None = None,
    *,
    policy: str = "best_f1",
) -> dict[str, Any]:
    """Choose the threshold of each class on fold 9, by every policy.

    A class is predicted where its calibrated probability is at least its threshold.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions; only its fold 9 is read.
    classes : sequence of str
        The classes, or the name of a quantity, which has no thresholds.
    calibration : mapping, optional
        As returned by `fit_calibration`: thresholds are chosen for the uncalibrated probabilities and calibrated as
        these are. Without it they are chosen for the calibrated probabilities in the table.
    policy : {"best_f1", "sensitivity_90", "specificity_95", "youden"}, default "best_f1"
        The policy that decides; see `POLICIES`.

    Returns
    -------
    dict
        The contents of ``thresholds.json``, empty for a quantity: ``policy``, ``fitted_on``, ``of`` (the column that is
        compared), ``thresholds`` (class to threshold, by that policy), ``policies`` (policy to such a mapping),
        ``not_fitted`` (the classes that lack positives or negatives in fold 9; their threshold is 0.5), and
        ``f_max_threshold``, the threshold of the uncalibrated probabilities of all classes for the sample-centric F
        measure (null if no record of fold 9 carries a class). Thresholds of calibrated probabilities are float32
        numbers.

    Raises
    ------
    EcgkitError
        If the policy is unknown, fold 9 or a column is missing, or a probability is NaN or outside 0 to 1.
    """
    check_choice("threshold policy", policy, POLICIES)
    if is_quantity(predictions, classes):
        return {}
    fold = fold_scores(predictions, classes, VALIDATION_FOLD)
    prob = fold.prob if calibration is not None else fold.require_calibrated()
    n_positive = fold.positive.sum(axis=0)
    has_both = (n_positive > 0) & (n_positive < fold.known.sum(axis=0))
    limits = np.full((len(POLICIES), len(classes)), UNFITTED_THRESHOLD)
    for i in np.flatnonzero(has_both):
        limits[:, i] = [find(fold.y_true[:, i], prob[:, i]) for find in POLICIES.values()]
    if calibration is not None:
        limits[:, has_both] = _calibrated_limits(fold, limits, calibration)[:, has_both]
    policies = {name: dict(zip(classes, row, strict=True)) for name, row in zip(POLICIES, limits.tolist(), strict=True)}
    common = f_max_threshold(fold.y_true, fold.prob)
    return {
        "policy": policy,
        "fitted_on": f"fold_{VALIDATION_FOLD}",
        "of": "calibrated",
        "thresholds": dict(policies[policy]),
        "not_fitted": [name for i, name in enumerate(classes) if not has_both[i]],
        "f_max_threshold": None if np.isnan(common) else common,
        "policies": policies,
    }


def _calibrated_limits(fold: FoldScores, limits: Floats, calibration: Mapping[str, Any]) -> NDArray[np.float32]:
    """Calibrate thresholds, shape (policies, classes), so that the decisions on the fold stay the same.

    Where calibrating rounds probabilities on both sides of a threshold to one number, that cannot be: this threshold is
    then chosen for the calibrated probabilities.
    """
    calibrated = apply_calibration(fold.prob, calibration, fold.classes)
    mapped = apply_calibration(limits, calibration, fold.classes)
    for row, find in enumerate(POLICIES.values()):
        changed = ((fold.prob >= limits[row]) != (calibrated >= mapped[row])) & fold.known
        for i in np.flatnonzero(changed.any(axis=0)):
            mapped[row, i] = find(fold.y_true[:, i], calibrated[:, i])
    return mapped


def policy_table(scores: FoldScores, thresholds: Mapping[str, Any]) -> pd.DataFrame:
    """Tabulate the metrics that the thresholds of each policy give on another fold.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, including the calibrated ones; usually of fold 10.
    thresholds : mapping
        The contents of ``thresholds.json``.

    Returns
    -------
    DataFrame
        One row per class and policy (the index), in the order of the classes and of `POLICIES`; columns ``threshold``,
        ``sensitivity``, ``specificity``, ``precision`` and ``f1``, all between 0 and 1, NaN where the fold lacks an
        outcome that a metric needs.

    Raises
    ------
    EcgkitError
        If a policy or a class has no thresholds.
    """
    import pandas as pd

    policies = thresholds.get("policies", {})
    missing = [name for name in POLICIES if name not in policies]
    if missing:
        raise EcgkitError(f"no thresholds by the policy {missing[0]!r}: fit the thresholds again with fit_thresholds")
    tables = {}
    for name in POLICIES:
        limits = class_thresholds(policies[name], scores.classes)
        found = threshold_metrics(scores.y_true, scores.require_calibrated() >= limits)
        columns = {"threshold": limits} | {column: found[column] for column in COLUMNS}
        tables[name] = pd.DataFrame(columns, index=pd.Index(scores.classes))
    order = pd.MultiIndex.from_product([scores.classes, list(POLICIES)], names=["class", "policy"])
    return pd.concat(tables).swaplevel().reindex(order)
