"""Probes compared with their controls: metrics with intervals, paired differences, p values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecgkit.feature_space.probes.controls import ORDER, PERMUTATION, PROBE, SHUFFLED, exchange_patients
from ecgkit.feature_space.probes.metrics import Prediction, permutation_scores, score, with_intervals
from ecgkit.feature_space.probes.task import Task
from ecgkit.stats import Floats
from ecgkit.stats.resampling import interval, patient_weights

COMPARED = ("r2", "auc", "accuracy", "f1")
"""Metrics of which differences are taken; higher is better."""

BETTER, WORSE, NO_EVIDENCE = "better", "worse", "no evidence of a difference"

Scored = tuple[float, Floats]
"""A metric, and the same of each resample."""


@dataclass(frozen=True, eq=False)
class ProbeComparison:
    """Metrics on fold 10 and differences between the probe and its controls.

    Attributes
    ----------
    metrics : dict of str to dict of str to dict of str to float
        ``{SOURCE: {METRIC: {"value", "low", "high"}}}`` with the probe first. ``low`` and ``high`` are the 2.5 and 97.5
        percentiles over bootstrap resamples of the patients; for several untrained encoders the lowest and the highest
        of them, around their mean; for ``permutation`` the percentiles over exchanges of the true values.
    differences : dict of str to dict of str to dict
        ``{CONTROL: {METRIC: {"value", "low", "high", "verdict"}}}``: probe minus control (the best of several
        encoders), with the interval over the same resamples for both; the verdict is ``"better"``, ``"worse"``, or
        ``"no evidence of a difference"`` if the interval includes 0.
    p_value : float
        Of the probe's main metric: the share of the exchanges that reach it, the probe itself among them. NaN if the
        metric is not defined.
    p_adjusted : float
        The same, corrected for all targets of one call (Benjamini and Hochberg).
    targets : int
        Number of these targets.
    resamples : int
        Number of resamples, and of exchanges.
    """

    metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    differences: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    p_value: float = float("nan")
    p_adjusted: float = float("nan")
    targets: int = 1
    resamples: int = 0


def compare_with_controls(
    task: Task, predictions: Mapping[str, Sequence[Prediction]], *, resamples: int, seed: int
) -> ProbeComparison:
    """Score the probe and its controls on fold 10, and compare them resample by resample.

    Parameters
    ----------
    task : Task
        The target and its values.
    predictions : mapping of str to sequence of Prediction
        Of the probe and of each control for the records ``task.test``; several for untrained encoders.
    resamples : int
        Bootstrap resamples of the patients, and exchanges of true values.
    seed : int
        Seed of both.

    Returns
    -------
    ProbeComparison
    """
    patients, capped = task.patients[task.test], task.capped[task.test]
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    best: dict[str, dict[str, Scored]] = {}
    for source in sorted(predictions, key=ORDER.index):
        # Exchanged values are no longer those of the patients whose age is capped.
        cap = None if source == SHUFFLED else capped
        values = [score(task.target, one, capped=cap) for one in predictions[source]]
        drawn = [score(task.target, one, weights, capped=cap) for one in predictions[source]]
        metrics[source], best[source] = with_intervals(values, drawn), _best(values, drawn)
    main, probe = task.target.main_metric, predictions[PROBE][0]
    chance = permutation_scores(task.target, probe, exchange_patients(patients, resamples, seed))
    low, high = interval(chance)
    typical = float(np.nanmean(chance)) if np.isfinite(chance).any() else float("nan")
    metrics[PERMUTATION] = {main: {"value": typical, "low": low, "high": high}}
    found = best[PROBE][main][0]
    p_value = (1 + int((chance >= found).sum())) / (1 + resamples) if np.isfinite(found) else float("nan")
    return ProbeComparison(
        metrics={source: metrics[source] for source in ORDER if source in metrics},
        differences={name: _differences(best[PROBE], best[name]) for name in best if name != PROBE},
        p_value=p_value,
        p_adjusted=p_value,
        resamples=resamples,
    )


def _best(values: Sequence[Mapping[str, Floats]], drawn: Sequence[Mapping[str, Floats]]) -> dict[str, Scored]:
    """Return the numbers of the best encoder by each metric: what is better than it is better than all of them."""
    found = {}
    for name in values[0]:
        i = int(np.argmax([np.nan_to_num(one[name][0], nan=-np.inf) for one in values]))
        found[name] = float(values[i][name][0]), drawn[i][name]
    return found


def _differences(probe: Mapping[str, Scored], control: Mapping[str, Scored]) -> dict[str, dict[str, Any]]:
    """Take the difference between the probe and one control by each metric."""
    found = {}
    for metric in [name for name in COMPARED if name in probe]:
        low, high = interval(probe[metric][1] - control[metric][1])
        verdict = BETTER if low > 0 else WORSE if high < 0 else NO_EVIDENCE
        found[metric] = {"value": probe[metric][0] - control[metric][0], "low": low, "high": high, "verdict": verdict}
    return found
