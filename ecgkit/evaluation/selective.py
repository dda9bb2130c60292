"""Selective prediction: what a model gains if it may abstain on the records that it is least sure of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ecgkit import stats
from ecgkit.stats import Bools, Floats, FoldScores
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.resampling import PERCENTILES, RESAMPLES, patient_weights, with_interval
from ecgkit.stats.selective import ABSTAIN, abstention_threshold, area_under_risk_coverage, confidence
from ecgkit.stats.validation import divide

SELECTIVE_VERSION = 1
"""The version of the layout of ``selective.json``."""

COVERAGES = tuple(k / 20 for k in range(20, 0, -1))
"""The points of the risk-coverage curve."""


def selective_report(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    thresholds: Mapping[str, Any],
    calibration: Mapping[str, Any] | None,
    *,
    abstain: float = ABSTAIN,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compute what abstaining gains on fold 10, with the confidence to abstain below chosen on fold 9.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions with folds 9 and 10.
    classes : sequence of str
        The classes.
    thresholds : mapping
        What `ecgkit.evaluation.fit_thresholds` gave.
    calibration : mapping or None
        What `ecgkit.evaluation.fit_calibration` gave; see `confidence`.
    abstain : float, default 0.1
        The share of fold 9 that is less confident than the threshold. That of fold 10 comes out as it does.
    resamples : int, default 1000
        Bootstrap resamples of the patients of fold 10; the threshold of fold 9 stays as it is in all of them.

    Returns
    -------
    dict
        What ``selective.json`` holds. ``abstain``, ``chosen_on``, ``confidence_threshold``, ``n_records``,
        ``n_abstained`` and ``coverage`` (the share of the records that is decided, of each fold) say what was done.

        ``metrics`` has ``hamming_loss``, ``subset_accuracy``, ``macro_f1`` and ``macro_auc``, each ``before`` (all
        records), ``after`` (those that are decided) and their ``change``. A class that abstaining leaves without
        positives is out of the macro means after it, and out of the change.

        ``classes`` has for each class the records that carry it (``n_positive``) or are decided wrongly on it
        (``n_wrong``), how many of them are abstained on (``n_positive_abstained``, ``n_wrong_abstained``), and these as
        shares (``positives_abstained``, ``wrong_abstained``).

        ``curve`` has for every twentieth of the records, the most confident ones, ``coverage``, ``confidence``,
        ``hamming_loss``, ``macro_auc`` and ``classes_without_auc``, which its mean leaves out. ``aurc`` is the area
        under the curve of the Hamming loss (`area_under_risk_coverage`), ``aurc_random`` that of a confidence that says
        nothing, and ``aurc_best`` that of one that knows which decisions are wrong.

        Every number that is not a count has ``value``, ``low`` and ``high``, or None where it is not defined.

    Raises
    ------
    EcgkitError
        If a fold, a column, a threshold or a calibration is missing, or ``abstain`` is not at least 0 and below 1.
    """
    chosen_on, scores = (stats.fold_scores(predictions, classes, fold) for fold in (VALIDATION_FOLD, TEST_FOLD))
    of_fold_9 = confidence(chosen_on, thresholds, calibration)
    of_fold_10 = confidence(scores, thresholds, calibration)
    limit = abstention_threshold(of_fold_9, abstain=abstain)
    patients = predictions.loc[predictions["fold"] == TEST_FOLD, "patient_id"].to_numpy()
    # The first row is the records themselves, so that every number and its resamples are computed at once.
    weights = np.vstack([np.ones(len(patients)), patient_weights(patients, resamples=resamples)])
    decided = stats.decide(scores, thresholds)
    accepted = of_fold_10 >= limit
    return {
        "version": SELECTIVE_VERSION,
        "fold": f"fold_{TEST_FOLD}",
        "chosen_on": f"fold_{VALIDATION_FOLD}",
        "abstain": abstain,
        "confidence_threshold": limit,
        "n_records": len(accepted),
        "n_abstained": int((~accepted).sum()),
        "coverage": {
            f"fold_{VALIDATION_FOLD}": float((of_fold_9 >= limit).mean()),
            f"fold_{TEST_FOLD}": _numbers(divide(weights @ accepted, weights.sum(axis=1))),
        },
        "metrics": _before_and_after(scores, decided, accepted, weights),
        "classes": _by_class(scores, decided, accepted, weights),
        "curve": _curve(scores, decided, of_fold_10, weights),
        **_areas(scores, decided, of_fold_10, weights),
        "bootstrap": {
            "resamples": resamples,
            "of": "patients",
            "patients": len(np.unique(patients)),
            "percentiles": list(PERCENTILES),
        },
    }


def _numbers(values: Floats) -> dict[str, float | None]:
    """Give a number, which comes first, with the percentiles of its resamples."""
    return with_interval(float(values[0]), values[1:])


def _before_and_after(scores: FoldScores, decided: Bools, accepted: Bools, weights: Floats) -> dict[str, Any]:
    """Compute the metrics of all records, of those that are accepted, and the differences."""
    truth = scores.y_true

    def measure(counts: Floats) -> dict[str, Floats]:
        of_records = {
            "hamming_loss": stats.hamming_loss(truth, decided, weights=counts),
            "subset_accuracy": stats.subset_accuracy(truth, decided, weights=counts),
        }
        return {name: values[:, None] for name, values in of_records.items()} | {
            "macro_f1": stats.threshold_metrics(truth, decided, weights=counts)["f1"],
            "macro_auc": stats.auc(truth, scores.prob, weights=counts),
        }

    before, after = measure(weights), measure(weights * accepted)
    return {
        name: {
            "before": _numbers(stats.mean_of_classes(before[name])),
            "after": _numbers(stats.mean_of_classes(after[name])),
            # Class by class first: a class that is defined in one of the two only would pass for a change.
            "change": _numbers(stats.mean_of_classes(after[name] - before[name])),
        }
        for name in before
    }


def _by_class(scores: FoldScores, decided: Bools, accepted: Bools, weights: Floats) -> dict[str, Any]:
    """Count for each class whom the model abstains on."""
    classes: dict[str, Any] = {name: {} for name in scores.classes}
    kinds = {"n_positive": scores.y_true, "n_wrong": decided != scores.y_true}
    shares = {"n_positive": "positives_abstained", "n_wrong": "wrong_abstained"}
    for kind, marked in kinds.items():
        abstained = marked & ~accepted[:, None]
        drawn = divide(weights @ abstained, weights @ marked)
        for i, name in enumerate(scores.classes):
            classes[name] |= {
                kind: int(marked[:, i].sum()),
                f"{kind}_abstained": int(abstained[:, i].sum()),
                shares[kind]: _numbers(drawn[:, i]),
            }
    return classes


def _curve(scores: FoldScores, decided: Bools, values: Floats, weights: Floats) -> list[dict[str, Any]]:
    """Measure the most confident records, fewer and fewer."""
    falling = -np.sort(-values)
    limits = dict.fromkeys(falling[int(np.ceil(share * len(falling) - 1e-9)) - 1] for share in COVERAGES)
    points = []
    for limit in limits:
        rows = values >= limit
        truth, prob, counts = scores.y_true[rows], scores.prob[rows], weights[:, rows]
        auc = stats.auc(truth, prob, weights=counts)
        missing = [name for name, value in zip(scores.classes, auc[0], strict=True) if np.isnan(value)]
        points.append(
            {
                "coverage": float(rows.mean()),
                "confidence": float(limit),
                "hamming_loss": _numbers(stats.hamming_loss(truth, decided[rows], weights=counts)),
                "macro_auc": _numbers(stats.mean_of_classes(auc)),
                "classes_without_auc": missing,
            }
        )
    return points


def _areas(scores: FoldScores, decided: Bools, values: Floats, weights: Floats) -> dict[str, Any]:
    """Compute the area under the risk-coverage curve, and what it would be at worst and at best."""
    loss = (decided != scores.y_true).mean(axis=1)
    orders = {"aurc": values, "aurc_random": np.zeros(len(loss)), "aurc_best": -loss}
    return {name: _numbers(area_under_risk_coverage(order, loss, weights=weights)) for name, order in orders.items()}
