"""How a probe stands beside its controls: metrics with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ecgkit.evaluation.resampling import interval, patient_weights
from ecgkit.feature_space.probes.controls import CONTROL_TASK, ORDER, PERMUTATION, PROBE, UNTRAINED, exchange_patients
from ecgkit.feature_space.probes.metrics import Prediction, over_seeds, permutation_scores, score, with_intervals
from ecgkit.feature_space.probes.task import Task
from ecgkit.metrics import Floats
from ecgkit.metrics.ranking import mean_of_classes

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
        One row a control and metric: ``control``, ``metric``, ``difference`` (probe less control; less the mean of
        several encoders), ``low``, ``high`` (over the same resamples for both), ``verdict``: ``"beats"``, ``"falls
        short of"``, or ``"no evidence of a difference from"`` where the interval holds 0.
    p_value : float
        Of the probe's main metric among the exchanges: the share that reach it, the probe itself among them.
    resamples : int
        How many resamples, and exchanges.
    """

    metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    differences: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["control", "metric", "difference", "low", "high", "verdict"])
    )
    p_value: float = float("nan")
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
        values[source], drawn[source] = _mean(of_seeds), _mean(drawn_of_seeds)
    main, probe = task.target.main_metric, predictions[PROBE][0]
    chance = permutation_scores(task.target, probe, exchange_patients(patients, resamples, seed))
    low, high = interval(chance)
    metrics[PERMUTATION] = {main: {"value": float(np.nanmean(chance)), "low": low, "high": high}}
    reached = int((chance >= values[PROBE][main][0]).sum())
    return Judgement(
        metrics={source: metrics[source] for source in ORDER if source in metrics},
        differences=_differences(values, drawn),
        p_value=(1 + reached) / (1 + resamples),
        resamples=resamples,
    )


def _of_one(
    values: Sequence[Mapping[str, Floats]], drawn: Sequence[Mapping[str, Floats]]
) -> dict[str, dict[str, float]]:
    return with_intervals(values[0], drawn[0])


def _mean(of_seeds: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Average over the encoders, resample by resample."""
    return {name: mean_of_classes(np.stack([one[name] for one in of_seeds], axis=-1)) for name in of_seeds[0]}


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
