"""Probes compared with their controls: metrics with intervals, paired differences, p values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from ecgkit.feature_space.probes.controls import ORDER, PERMUTATION, PROBE, SHUFFLED, UNTRAINED, exchange_patients
from ecgkit.feature_space.probes.metrics import Prediction, over_seeds, permutation_scores, score, with_intervals
from ecgkit.feature_space.probes.task import Task
from ecgkit.stats import Floats
from ecgkit.stats.resampling import interval, patient_weights

COMPARED = ("r2", "auc", "accuracy", "f1")
"""Metrics of which differences are taken; higher is better."""

BETTER, WORSE, NO_EVIDENCE = "better", "worse", "no evidence of a difference"
COLUMNS = ("control", "metric", "difference", "low", "high", "verdict")


@dataclass(frozen=True, eq=False)
class ProbeComparison:
    """Metrics on fold 10 and differences between the probe and its controls.

    Attributes
    ----------
    metrics : dict of str to dict of str to dict of str to float
        ``{SOURCE: {METRIC: {"value", "low", "high"}}}`` with the probe first. ``low`` and ``high`` are the 2.5 and 97.5
        percentiles over bootstrap resamples of the patients; for several untrained encoders the lowest and the highest
        of them, around their mean; for ``permutation`` the percentiles over exchanges of the true values.
    differences : DataFrame
        One row per control and metric: ``control``, ``metric``, ``difference`` (probe minus control; minus the best of
        several encoders), ``low``, ``high`` (over the same resamples for both), ``verdict``: ``"better"``, ``"worse"``,
        or ``"no evidence of a difference"`` if the interval includes 0.
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
    differences: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
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
    values: dict[str, dict[str, Floats]] = {}
    drawn: dict[str, dict[str, Floats]] = {}
    for source in sorted(predictions, key=ORDER.index):
        # Exchanged values are no longer those of the patients whose age is capped.
        cap = None if source == SHUFFLED else capped
        of_seeds = [score(task.target, one, capped=cap) for one in predictions[source]]
        drawn_of_seeds = [score(task.target, one, weights, capped=cap) for one in predictions[source]]
        if source == UNTRAINED:
            metrics[source] = over_seeds(of_seeds, drawn_of_seeds)
        else:
            metrics[source] = with_intervals(of_seeds[0], drawn_of_seeds[0])
        values[source], drawn[source] = _best(of_seeds, drawn_of_seeds)
    main, probe = task.target.main_metric, predictions[PROBE][0]
    chance = permutation_scores(task.target, probe, exchange_patients(patients, resamples, seed))
    low, high = interval(chance)
    typical = float(np.nanmean(chance)) if np.isfinite(chance).any() else float("nan")
    metrics[PERMUTATION] = {main: {"value": typical, "low": low, "high": high}}
    found = float(values[PROBE][main][0])
    p_value = (1 + int((chance >= found).sum())) / (1 + resamples) if np.isfinite(found) else float("nan")
    return ProbeComparison(
        metrics={source: metrics[source] for source in ORDER if source in metrics},
        differences=_differences(values, drawn),
        p_value=p_value,
        p_adjusted=p_value,
        resamples=resamples,
    )


def _best(
    values: Sequence[Mapping[str, Floats]], drawn: Sequence[Mapping[str, Floats]]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the numbers of the best encoder by each metric: what is better than it is better than all of them."""
    best = {name: int(np.argmax([np.nan_to_num(one[name][0], nan=-np.inf) for one in values])) for name in values[0]}
    return {name: values[i][name] for name, i in best.items()}, {name: drawn[i][name] for name, i in best.items()}


def adjust_p_values(comparisons: Mapping[str, ProbeComparison]) -> dict[str, ProbeComparison]:
    """Correct the p values of several targets for their number (Benjamini and Hochberg 1995).

    Parameters
    ----------
    comparisons : mapping of str to ProbeComparison
        By target; one without a p value is not a test and stays as it is.

    Returns
    -------
    dict of str to ProbeComparison
        With ``p_adjusted`` and ``targets``.
    """
    tested = [name for name, one in comparisons.items() if np.isfinite(one.p_value)]
    adjusted = false_discovery_control([comparisons[name].p_value for name in tested], method="bh") if tested else []
    found = {
        name: replace(comparisons[name], p_adjusted=float(p), targets=len(tested))
        for name, p in zip(tested, adjusted, strict=True)
    }
    return {name: found.get(name, one) for name, one in comparisons.items()}


def _differences(values: Mapping[str, Mapping[str, Floats]], drawn: Mapping[str, Mapping[str, Floats]]) -> pd.DataFrame:
    """Take the difference between the probe and each control."""
    rows = []
    for control in values:
        for metric in COMPARED if control != PROBE else ():
            if metric not in values[PROBE]:
                continue
            difference = float(values[PROBE][metric][0] - values[control][metric][0])
            low, high = interval(drawn[PROBE][metric] - drawn[control][metric])
            verdict = BETTER if low > 0 else WORSE if high < 0 else NO_EVIDENCE
            rows.append((control, metric, difference, low, high, verdict))
    return pd.DataFrame(rows, columns=list(COLUMNS))
