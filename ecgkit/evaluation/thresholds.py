"""Thresholds, chosen on fold 9 and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ecgkit import metrics
from ecgkit.store import VALIDATION_FOLD

UNFITTED_THRESHOLD = 0.5
"""The threshold of a class that fold 9 cannot tell anything about."""


def fit_thresholds(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Choose for each class the threshold that maximises its F1 on fold 9.

    Thresholds are compared with ``prob_CLASS``, the probability as the network gives it. Calibration is monotone, so a
    decision on the calibrated probability could be no other one.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions; only its fold 9 is read.
    classes : sequence of str
        The classes.

    Returns
    -------
    dict
        What ``thresholds.json`` holds: ``policy``, ``fitted_on``, ``of`` (the column that is compared), ``thresholds``
        (class to threshold), ``not_fitted`` (the classes that lack positives or negatives in fold 9; their threshold
        is 0.5), and ``f_max_threshold``, the common threshold of the sample-centric F measure (null if fold 9 carries
        no class at all).

    Raises
    ------
    EcgkitError
        If fold 9 or a column is missing, or a probability is NaN or outside 0 to 1.
    """
    fold = metrics.fold_scores(predictions, classes, VALIDATION_FOLD)
    found = {name: metrics.best_f1_threshold(fold.y_true[:, i], fold.prob[:, i]) for i, name in enumerate(classes)}
    common = metrics.f_max_threshold(fold.y_true, fold.prob)
    return {
        "policy": "best_f1",
        "fitted_on": f"fold_{VALIDATION_FOLD}",
        "of": "prob",
        "thresholds": {name: UNFITTED_THRESHOLD if np.isnan(value) else value for name, value in found.items()},
        "not_fitted": [name for name, value in found.items() if np.isnan(value)],
        "f_max_threshold": None if np.isnan(common) else common,
    }
