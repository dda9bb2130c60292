"""Selective prediction: the metrics of a model that abstains on the records of which it is least confident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ecgkit import stats
from ecgkit.evaluation.fold import bootstrap_description
from ecgkit.stats import Bools, Floats, FoldScores
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD
from ecgkit.stats.resampling import RESAMPLES, several_patients, with_interval
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
    *,
    abstain: float = ABSTAIN,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compute the gain of abstaining on fold 10 below a confidence that is chosen on fold 9.

    Parameters
    ----------
    predictions : DataFrame
        The table of predictions, calibrated. Without fold 10 the report describes fold 9.
    classes : sequence of str
        The classes.
    thresholds : mapping
        As returned by `fit_thresholds`.
    abstain : float, default 0.1
        The share of fold 9 that is less confident than the threshold.
    resamples : int, default 1000
        Bootstrap resamples of the patients; the threshold is the same in all of them.

    Returns
    -------
    dict
        The contents of ``selective.json``. ``abstain``, ``chosen_on``, ``confidence_threshold``, ``n_records``,
        ``n_abstained`` and ``coverage`` (the share of the records that is decided) describe the abstention.

        ``metrics`` has ``hamming_loss``, ``subset_accuracy``, ``macro_f1`` and ``macro_auc``, each ``before`` (all
        records), ``after`` (those that are decided) and their ``change``. A class that is left without
        positives is omitted from the macro means after abstaining, and from the change.

        ``classes`` has for each class the records that carry it (``n_positive``) or are decided wrongly on it
        (``n_wrong``), how many of them are abstained on (``n_positive_abstained``, ``n_wrong_abstained``), and these as
        shares (``positives_abstained``, ``wrong_abstained``).

        ``curve`` has for every twentieth of the records, the most confident ones, ``coverage``, ``confidence``,
        ``hamming_loss``, ``macro_auc`` and ``classes_without_auc``, which its mean leaves out. ``aurc`` is the area
        under the curve of the Hamming loss (`area_under_risk_coverage`), ``aurc_random`` that of an uninformative
        confidence, and ``aurc_best`` that of one that knows which decisions are wrong.

        Every number that is not a count has ``value``, ``low`` and ``high``, or None where it is not defined.

    Raises
    ------
    EcgkitError
        If fold 9, a column or a threshold is missing, or ``abstain`` is not at least 0 and below 1.
    """
    fold = TEST_FOLD if (predictions["fold"] == TEST_FOLD).any() else VALIDATION_FOLD
    chosen_on, scores = (stats.fold_scores(predictions, classes, one) for one in (VALIDATION_FOLD, fold))
    of_chosen, of_scores = confidence(chosen_on, thresholds), confidence(scores, thresholds)
    limit = abstention_threshold(of_chosen, abstain=abstain)
    patients = predictions.loc[predictions["fold"] == fold, "patient_id"].to_numpy()
    # The first row is the records themselves, so that every number and its resamples are computed at once.
    weights = np.vstack([np.ones(len(patients)), several_patients(patients, resamples=resamples)])
    decided = stats.decide(scores, thresholds)
    accepted = of_scores >= limit
    return {
        "version": SELECTIVE_VERSION,
        "fold": f"fold_{fold}",
        "chosen_on": f"fold_{VALIDATION_FOLD}",
        "abstain": abstain,
        "confidence_threshold": limit,
        "n_records": len(accepted),
        "n_abstained": int((~accepted).sum()),
        "coverage": {
            f"fold_{VALIDATION_FOLD}": float((of_chosen >= limit).mean()),
            f"fold_{fold}": _numbers(divide(weights @ accepted, weights.sum(axis=1))),
        },
        "metrics": _before_and_after(scores, decided, accepted, weights),
        "classes": _by_class(scores, decided, accepted, weights),
        "curve": _curve(scores, decided, of_scores, weights),
        **_areas(scores, decided, of_scores, weights),
        "bootstrap": bootstrap_description(patients, resamples),
    }


def _numbers(values: Floats) -> dict[str, float | None]:
    """Return a number, which comes first, with the percentiles of its resamples."""
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
            # Class by class first: a class that is defined in only one of the two would count as a change.
            "change": _numbers(stats.mean_of_classes(after[name] - before[name])),
        }
        for name in before
    }


def _by_class(scores: FoldScores, decided: Bools, accepted: Bools, weights: Floats) -> dict[str, Any]:
    """Count for each class the records on which the model abstains."""
    classes: dict[str, Any] = {name: {} for name in scores.classes}
    kinds = {"n_positive": scores.positive, "n_wrong": (decided != scores.positive) & scores.known}
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
    """Compute the metrics of the most confident records, at falling coverage."""
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
    """Compute the area under the risk-coverage curve, with an uninformative and a perfect confidence to compare."""
    wrong, known = (decided != scores.positive) & scores.known, scores.known.sum(axis=1)
    loss, counts = wrong.sum(axis=1) / np.maximum(known, 1), weights * (known > 0)
    orders = {"aurc": values, "aurc_random": np.zeros(len(loss)), "aurc_best": -loss}
    return {name: _numbers(area_under_risk_coverage(order, loss, weights=counts)) for name, order in orders.items()}
