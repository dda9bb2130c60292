"""Linear probes layer by layer of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.linear import Problem, fit_linear
from ecgkit.feature_space.probes.targets import TARGETS, Target
from ecgkit.feature_space.probes.task import make_task
from ecgkit.feature_space.standardize import check_embeddings, check_patients, training_rows
from ecgkit.stats import Floats
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

TRAINED, UNTRAINED = "trained", "untrained"

ALL_TOGETHER = "all layers"
"""The name of the concatenation of all layers."""

COLUMNS = (
    *("target", "metric", "encoder", "layer", "features", "value", "low", "high"),
    *("change", "change_low", "change_high", "strength", "training", "test", "skipped"),
)


def with_all_layers(layers: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Add the concatenation of all layers as the last one; return nothing if there are no layers."""
    return dict(layers) | ({ALL_TOGETHER: np.concatenate(list(layers.values()), axis=1)} if layers else {})


def probe_layers(
    layers: Mapping[str, NDArray[np.floating]],
    records: pd.DataFrame,
    *,
    targets: Sequence[Target] = TARGETS,
    untrained: Mapping[str, NDArray[np.floating]] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Fit linear probes on several layers: fitted on folds 1-8, scored on fold 10.

    Every layer is standardised and probed as `fit_probes` does it, so that the embedding has one value.
    The bootstrap draws the same patients for every layer, so that the change from one layer to the next has its
    interval, which is narrower than the two layers' intervals suggest.

    Parameters
    ----------
    layers : mapping of str to ndarray, each of shape (records, features)
        By the layers' names, in the order of the network.
    records : DataFrame
        The records, in the same order; columns ``patient_id``, ``fold`` and the targets.
    targets : sequence of Target, default `TARGETS`
        The target.
    untrained : mapping of str to ndarray, each of shape (records, features), optional
        The same layers of an untrained network.
    seed : int, default 0
        Seed of splits and resamples.
    resamples : int, default 1000
        Bootstrap resamples of the patients.

    Returns
    -------
    DataFrame
        One row for each target, encoder and layer: ``target``, ``metric`` (``"r2"``, or ``"auc"`` of the second
        category, or for more the mean), ``encoder`` (``"trained"`` or ``"untrained"``), ``layer``, ``features``,
        ``value`` with ``low`` and ``high`` (95 %), ``change`` from the layer before of the same encoder with
        ``change_low`` and ``change_high`` (NaN for the first layer and for all layers together), ``strength``
        (``alpha`` for a quantity, else ``C``), ``training`` and ``test`` (numbers of records), and ``skipped``, the
        reason why there is no value, or empty.

    Raises
    ------
    EcgkitError
        If there is no layer, one does not match the records, a patient is in two splits, or a target cannot be read.

    References
    ----------
    Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644.
    """
    if not layers:
        raise EcgkitError("there is no layer to probe: pass at least one")
    check_patients(records)
    training, patients = np.flatnonzero(training_rows(records)), records["patient_id"].to_numpy()
    tasks = {target.name: make_task(target, records, seed=seed) for target in targets}
    reasons = {name: task.why_skipped() for name, task in tasks.items()}
    problems = {
        name: Problem(task.known[training], is_class=bool(task.target.categories))
        for name, task in tasks.items()
        if not reasons[name]
    }
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in tasks}
    for encoder, of_encoder in ((TRAINED, layers), (UNTRAINED, untrained or {})):
        before: dict[str, tuple[float, Floats]] = {}
        for layer, values in of_encoder.items():
            check_embeddings(values, records)
            probes = fit_linear(values[training], problems, patients[training], seed=seed)
            for name, task in tasks.items():
                row: dict[str, object] = {"target": name, "metric": task.target.main_metric, "encoder": encoder}
                row |= {"layer": layer, "features": values.shape[1], "skipped": reasons[name]}
                row |= {"training": len(task.training), "test": len(task.test)}
                if name in probes:
                    weights = patient_weights(task.patients[task.test], resamples=resamples, seed=seed)
                    found = task.score(task.predict(probes[name], values[task.test]), weights)
                    row |= {"strength": probes[name].strength}
                    row |= _numbers(*found, None if layer == ALL_TOGETHER else before.get(name))
                    before[name] = found
                rows[name].append(row)
    return pd.DataFrame([row for of_target in rows.values() for row in of_target], columns=list(COLUMNS))


def _numbers(value: float, drawn: Floats, before: tuple[float, Floats] | None) -> dict[str, float]:
    """Return a value with its interval, and its change from the layer before with the paired one."""
    low, high = interval(drawn)
    numbers = {"value": value, "low": low, "high": high}
    if before is not None:
        change_low, change_high = interval(drawn - before[1])
        numbers |= {"change": value - before[0], "change_low": change_low, "change_high": change_high}
    return numbers
