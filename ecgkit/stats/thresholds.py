"""Thresholds, chosen on fold 9 and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ecgkit import stats
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.stats import FoldScores
from ecgkit.stats.folds import VALIDATION_FOLD

UNFITTED_THRESHOLD = 0.5
"""The threshold of a class that fold 9 cannot tell anything about."""

POLICIES: dict[str, Callable[..., float]] = {
    "best_f1": stats.best_f1_threshold,
    "sensitivity_90": partial(stats.sensitivity_threshold, at_least=0.90),
    "specificity_95": partial(stats.specificity_threshold, at_least=0.95),
    "youden": stats.youden_threshold,
}
"""What a threshold can be chosen for: the highest F1; the highest specificity with a sensitivity of at least 0.90; the
highest sensitivity with a specificity of at least 0.95; the highest sum of both."""

COLUMNS = ("sensitivity", "specificity", "precision", "f1")


def fit_thresholds(predictions: pd.DataFrame, classes: Sequence[str], *, policy: str = "best_f1") -> dict[str, Any]:
    """Choose the threshold of each class on fold 9, by every policy.

    Thresholds are compared with ``prob_CLASS``, the probability as the network gives it. Calibration never turns the
    order of two records round, but an isotonic one gives many of them the same probability: a threshold that parts
    those is a threshold of ``prob_CLASS`` only.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions; only its fold 9 is read.
    classes : sequence of str
        The classes.
    policy : {"best_f1", "sensitivity_90", "specificity_95", "youden"}, default "best_f1"
        The policy whose thresholds decide; see `POLICIES`. What it promises holds on fold 9.

    Returns
    -------
    dict
        What ``thresholds.json`` holds: ``policy``, ``fitted_on``, ``of`` (the column that is compared), ``thresholds``
        (class to threshold, by that policy), ``policies`` (each policy to its own such mapping), ``not_fitted`` (the
        classes that lack positives or negatives in fold 9; their threshold is 0.5), and ``f_max_threshold``, the
        common threshold of the sample-centric F measure (null if fold 9 carries no class at all).

    Raises
    ------
    EcgkitError
        If there is no such policy, fold 9 or a column is missing, or a probability is NaN or outside 0 to 1.
    """
    check_choice("threshold policy", policy, POLICIES)
    fold = stats.fold_scores(predictions, classes, VALIDATION_FOLD)
    n_positive = fold.y_true.sum(axis=0)
    has_both = (n_positive > 0) & (n_positive < len(fold.y_true))
    policies = {
        name: {
            one: find(fold.y_true[:, i], fold.prob[:, i]) if has_both[i] else UNFITTED_THRESHOLD
            for i, one in enumerate(classes)
        }
        for name, find in POLICIES.items()
    }
    common = stats.f_max_threshold(fold.y_true, fold.prob)
    return {
        "policy": policy,
        "fitted_on": f"fold_{VALIDATION_FOLD}",
        "of": "prob",
        "thresholds": dict(policies[policy]),
        "not_fitted": [name for i, name in enumerate(classes) if not has_both[i]],
        "f_max_threshold": None if np.isnan(common) else common,
        "policies": policies,
    }


def policy_table(scores: FoldScores, thresholds: Mapping[str, Any]) -> pd.DataFrame:
    """Show what each policy's thresholds, chosen on fold 9, make of another fold.

    Parameters
    ----------
    scores : FoldScores
        Outcomes and probabilities, as a rule of fold 10.
    thresholds : mapping
        What ``thresholds.json`` holds.

    Returns
    -------
    DataFrame
        One row a class and policy (the index), in the order of the classes and of `POLICIES`; columns ``threshold``,
        ``sensitivity``, ``specificity``, ``precision`` and ``f1``, all between 0 and 1, NaN where the fold lacks an
        outcome that a metric needs.

    Raises
    ------
    EcgkitError
        If the thresholds are not those of every policy, or a class has none.
    """
    policies = thresholds.get("policies", {})
    missing = [name for name in POLICIES if name not in policies]
    if missing:
        raise EcgkitError(f"no thresholds by the policy {missing[0]!r}: fit the thresholds again with fit_thresholds")
    tables = {}
    for name in POLICIES:
        limits = stats.class_thresholds(policies[name], scores.classes)
        found = stats.threshold_metrics(scores.y_true, scores.prob >= limits)
        columns = {"threshold": limits} | {column: found[column] for column in COLUMNS}
        tables[name] = pd.DataFrame(columns, index=pd.Index(scores.classes))
    order = pd.MultiIndex.from_product([scores.classes, list(POLICIES)], names=["class", "policy"])
    return pd.concat(tables).swaplevel().reindex(order)
