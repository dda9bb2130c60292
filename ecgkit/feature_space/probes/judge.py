"""How a probe stands beside its controls: metrics with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from ecgkit.feature_space.probes.controls import CONTROL_TASK, ORDER, PERMUTATION, PROBE, UNTRAINED, exchange_patients
from ecgkit.feature_space.probes.metrics import Prediction, over_seeds, permutation_scores, score, with_intervals
from ecgkit.feature_space.probes.task import Task
from ecgkit.stats import Floats
from ecgkit.stats.resampling import interval, patient_weights

COMPARED = ("r2", "auc", "accuracy", "f1")
"""Metrics of which the probe's difference from each control is taken; more is better."""

BEATS, FALLS_SHORT, NO_EVIDENCE = "beats", "falls short of", "no evidence of a difference from"


@dataclass(frozen=True, eq=False)
class Judgement:
    """Metrics on fold 10 and differences between the probe and its controls.

    Attributes
    ----------
    metrics : dict of str to dict of str to dict of str to float
        ``{SOURCE: {METRIC: {"value", "low", "high"}}}`` with the probe first. ``low`` and ``high`` are the 2.5 and 97.5
        percentiles over bootstrap resamples of the patients; of ``untrained`` with several encoders the lowest and the
        highest of them, beside their mean; of ``permutation`` the percentiles over exchanges of the true values.
    differences : DataFrame
        One row a control and metric: ``control``, ``metric``, ``difference`` (probe less control; less the best of
        several encoders), ``low``, ``high`` (over the same resamples for both), ``verdict``: ``"beats"``, ``"falls
        short of"``, or ``"no evidence of a difference from"`` where the interval holds 0.
    p_value : float
        Of the probe's main metric among the exchanges: the share that reach it, the probe itself among them. NaN where
        the metric is not defined.
    p_adjusted : float
        The same, corrected for all targets of one call (Benjamini and Hochberg).
    targets : int
        How many targets these are.
    resamples : int
        How many resamples, and exchanges.
    """

    metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    differences: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["control", "metric", "difference", "low", "high", "verdict"])
    )
    p_value: float = float("nan")
    p_adjusted: float = float("nan")
    targets: int = 1
    resamples: int = 0

    def difference(self, control: str, metric: str) -> pd.Series | None:
        """Give the row of a control and a metric; None if it was not taken."""
        rows = self.differences
        found = rows[(rows["control"] == control) & (rows["metric"] == metric)]
        return None if found.empty else found.iloc[0]


def judge(task: Task, predictions: Mapping[str, Sequence[Prediction]], *, resamples: int, seed: int) -> Judgement:
    """Score the probe and its controls on fold 10, and compare them resample by resample.

    Parameters
    ----------
    task : Task
        What was asked for.
    predictions : mapping of str to sequence of Prediction
        Of the probe and of each control for the records ``task.test``; several of untrained encoders.
    resamples : int
        Of the patients; as many exchanges of true values.
    seed : int
        Of both.

    Returns
    -------
    Judgement
    """
    patients, capped = task.patients[task.test], task.capped[task.test]
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    values: dict[str, dict[str, Floats]] = {}
    drawn: dict[str, dict[str, Floats]] = {}
    for source in sorted(predictions, key=ORDER.index):
        # Values that were exchanged are no longer those of the people whose age is capped.
        cap = None if source == CONTROL_TASK else capped
        of_seeds = [score(task.target, one, capped=cap) for one in predictions[source]]
        drawn_of_seeds = [score(task.target, one, weights, capped=cap) for one in predictions[source]]
        metrics[source] = (over_seeds if source == UNTRAINED else _of_one)(of_seeds, drawn_of_seeds)
        values[source], drawn[source] = _best(of_seeds, drawn_of_seeds)
    main, probe = task.target.main_metric, predictions[PROBE][0]
    chance = permutation_scores(task.target, probe, exchange_patients(patients, resamples, seed))
    low, high = interval(chance)
    typical = float(np.nanmean(chance)) if np.isfinite(chance).any() else float("nan")
    metrics[PERMUTATION] = {main: {"value": typical, "low": low, "high": high}}
    found = float(values[PROBE][main][0])
    p_value = (1 + int((chance >= found).sum())) / (1 + resamples) if np.isfinite(found) else float("nan")
    return Judgement(
        metrics={source: metrics[source] for source in ORDER if source in metrics},
        differences=_differences(values, drawn),
        p_value=p_value,
        p_adjusted=p_value,
        resamples=resamples,
    )


def _of_one(
    values: Sequence[Mapping[str, Floats]], drawn: Sequence[Mapping[str, Floats]]
) -> dict[str, dict[str, float]]:
    return with_intervals(values[0], drawn[0])


def _best(
    values: Sequence[Mapping[str, Floats]], drawn: Sequence[Mapping[str, Floats]]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Give the numbers of the encoder with the most of each metric: what beats it beats them all."""
    best = {name: int(np.argmax([np.nan_to_num(one[name][0], nan=-np.inf) for one in values])) for name in values[0]}
    return {name: values[i][name] for name, i in best.items()}, {name: drawn[i][name] for name, i in best.items()}


def adjust(judgements: Mapping[str, Judgement]) -> dict[str, Judgement]:
    """Correct the p values of several targets for being several.

    Parameters
    ----------
    judgements : mapping of str to Judgement
        By target; one without a p value is no test and stays as it is.

    Returns
    -------
    dict of str to Judgement
        With ``p_adjusted`` and ``targets``. At most 5 % of the targets that are called readable at 0.05 are then
        expected not to be.

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate: a practical and powerful approach to multiple
    testing", 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    tested = [name for name, one in judgements.items() if np.isfinite(one.p_value)]
    adjusted = false_discovery_control([judgements[name].p_value for name in tested], method="bh") if tested else []
    found = {
        name: replace(judgements[name], p_adjusted=float(p), targets=len(tested))
        for name, p in zip(tested, adjusted, strict=True)
    }
    return {name: found.get(name, one) for name, one in judgements.items()}


def _differences(values: Mapping[str, Mapping[str, Floats]], drawn: Mapping[str, Mapping[str, Floats]]) -> pd.DataFrame:
    """Take the probe's difference from each control."""
    rows = []
    for control in values:
        for metric in COMPARED if control != PROBE else ():
            if metric not in values[PROBE]:
                continue
            difference = float(values[PROBE][metric][0] - values[control][metric][0])
            low, high = interval(drawn[PROBE][metric] - drawn[control][metric])
            verdict = BEATS if low > 0 else FALLS_SHORT if high < 0 else NO_EVIDENCE
            rows.append((control, metric, difference, low, high, verdict))
    return pd.DataFrame(rows, columns=["control", "metric", "difference", "low", "high", "verdict"])
