"""The direction of a concept in the embeddings, and the records along it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.linear import LinearProbe, Problem, fit_linear
from ecgkit.feature_space.probes.targets import Target
from ecgkit.feature_space.probes.task import Task, check_probeable, make_task
from ecgkit.feature_space.similar import describe_record
from ecgkit.feature_space.standardize import check_embeddings, check_patients, fold_rows
from ecgkit.stats.multiple_testing import holm
from ecgkit.stats.resampling import PERCENTILES, RESAMPLES, interval, patient_weights

Head = Callable[[NDArray[np.float32]], NDArray[np.floating]]

N_RANDOM, PER_ROW = 100, 20
"""Number of random directions, at least, and per p value: the smallest is then below 0.05 after the correction."""

N_MOVED = 200
"""Records whose embeddings are moved."""

LOW, HIGH = "low", "high"


@dataclass(frozen=True, eq=False)
class ConceptDirection:
    """The direction along which a linear probe reads a target.

    Attributes
    ----------
    target : Target
        A quantity, or two classes.
    probe : LinearProbe
        Fitted on folds 1-8.
    vector : ndarray of float64, shape (features,)
        Of unit length, in the standardised embeddings; it points to higher values, or to the second class.
    centre, spread : float
        Mean and standard deviation of the projections of folds 1-8 on it.
    """

    target: Target
    probe: LinearProbe
    vector: NDArray[np.float64]
    centre: float
    spread: float

    def positions(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Project records on the direction.

        Parameters
        ----------
        embeddings : ndarray, shape (records, features)
            Not standardised.

        Returns
        -------
        ndarray of float64, shape (records,)
            In standard deviations of folds 1-8 from their mean.
        """
        return (self.probe.scaler.transform(embeddings) @ self.vector - self.centre) / self.spread


def concept_direction(
    embeddings: NDArray[np.floating], records: pd.DataFrame, target: Target, *, seed: int = 0
) -> ConceptDirection:
    """Find the direction along which a target is read, with a linear probe on folds 1-8.

    The probe is a ridge regression for a quantity and a logistic regression for two classes, on standardised
    embeddings; its coefficients, divided by their length, are the direction.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        In the same order; columns ``patient_id``, ``fold`` and that of the target.
    target : Target
        A quantity, or two classes.
    seed : int, default 0
        Seed of the splits with which the strength of the penalty is chosen.

    Returns
    -------
    ConceptDirection

    Raises
    ------
    EcgkitError
        If a patient is in two splits, the embeddings do not match the records, or the target is not readable, has more
        than two classes, or is known for too few records of folds 1-8 or 10.

    References
    ----------
    Kim et al., "Interpretability beyond feature attribution: quantitative testing with concept activation vectors",
    2018, arXiv:1711.11279.
    """
    check_embeddings(embeddings, records)
    check_patients(records)
    if target.kind == "multiclass":
        raise EcgkitError(
            f"{target.name} has {len(target.classes)} classes: a direction needs a quantity or two classes"
        )
    check_probeable(target, records)
    task = make_task(target, records)
    probe = fit_task(task, embeddings[task.training], seed=seed)
    length = float(np.linalg.norm(probe.coefficients[0]))
    if length == 0:
        raise EcgkitError(f"the probe of {target.name} is constant on these embeddings: there is no direction")
    vector = probe.coefficients[0] / length
    projections = probe.scaler.transform(embeddings[task.training]) @ vector
    return ConceptDirection(task.target, probe, vector, float(projections.mean()), float(projections.std()))


def fit_task(task: Task, embeddings: NDArray[np.floating], *, seed: int) -> LinearProbe:
    """Fit a probe on the embeddings of the records of folds 1-8 with a known value, one row each."""
    problem = Problem(task.known[task.training], is_class=bool(task.target.categories))
    return fit_linear(embeddings, {"value": problem}, task.patients[task.training], seed=seed)["value"]


def concept_moves(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    targets: Sequence[Target],
    *,
    classes: Sequence[str],
    head: Head | None,
    n_random: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how well concepts are linearly encoded, and how far moving along each moves the logit of each class.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        The input of the head.
    records : DataFrame
        In the same order; columns ``patient_id``, ``fold`` and those of the targets.
    targets : sequence of Target
        Quantities, or two classes each.
    classes : sequence of str
        One per logit.
    head : callable or None
        From embeddings to logits of shape (records, classes); None leaves the changes unknown.
    n_random : int, optional
        Directions of random concepts, which are independent of the ECG, with which each is compared; by default 100, or
        20 per row of the result if that is more.
    resamples : int, default 1000
        Bootstrap resamples of the patients.
    seed : int, default 0
        Of splits, random directions and resamples.

    Returns
    -------
    DataFrame
        One row per ``concept`` and ``class``: ``unit``, ``metric`` (``"r2"`` or ``"auc"``) with ``value``, ``low`` and
        ``high``, of the probe of folds 1-8 in fold 10; ``change``, the mean change of the logit of up to 200 records of
        fold 10 when the embedding moves as it does in folds 1-8 with one standard deviation of what the probe reads
        (the pattern of the probe, not its coefficients, which also cancel what has nothing to do with the concept);
        ``random_low`` and ``random_high``, the 2.5 and 97.5 percentiles of the same for random concepts; ``p``, the
        share of these, with the direction itself, that move it as far, and ``p_holm``, corrected for all rows.

    Raises
    ------
    EcgkitError
        As `concept_direction`.

    References
    ----------
    Haufe et al., "On the interpretation of weight vectors of linear models in multivariate neuroimaging", NeuroImage 87
    (2014). Pahde et al., "Navigating neural space: revisiting concept activation vectors to overcome directional
    divergence", 2022, arXiv:2202.03482.
    """
    moved = np.random.default_rng(seed).permutation(fold_rows(records))[:N_MOVED]
    number = n_random or max(N_RANDOM, PER_ROW * len(targets) * len(classes))
    tables = []
    for target in targets:
        direction = concept_direction(embeddings, records, target, seed=seed)
        task = make_task(direction.target, records)
        weights = patient_weights(task.patients[task.test], resamples=resamples, seed=seed)
        value, drawn = task.score(task.predict(direction.probe, embeddings[task.test]), weights)
        low, high = interval(drawn)
        table = pd.DataFrame({"class": list(classes)})
        table[["concept", "unit", "metric"]] = target.name, target.unit, target.main_metric
        table[["value", "low", "high"]] = value, low, high
        table[["change", "random_low", "random_high", "p"]] = np.nan
        if head is not None:
            standardised = direction.probe.scaler.transform(embeddings[task.training]).astype(np.float64)
            steps = _patterns(direction.vector, standardised, number, seed) * direction.probe.scaler.scale
            changes = _logit_changes(head, embeddings[moved], steps)
            change, random = changes[0], changes[1:]
            table["change"] = change
            table["random_low"], table["random_high"] = np.percentile(random, PERCENTILES, axis=0)
            table["p"] = (1 + (np.abs(random) >= np.abs(change)).sum(axis=0)) / (1 + number)
        tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    return result.assign(p_holm=holm(result["p"]))


def _patterns(
    vector: NDArray[np.float64], standardised: NDArray[np.float64], number: int, seed: int
) -> NDArray[np.float64]:
    """Return how the embedding changes with one standard deviation of what a direction reads, and random ones read.

    A probe of random numbers reads the whitened embedding in a random direction.
    """
    covariance = np.cov(standardised.T, bias=True)
    variances, axes = np.linalg.eigh(covariance)
    random = np.random.default_rng(seed).standard_normal((number, len(axes)))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    own = covariance @ vector / np.sqrt(vector @ covariance @ vector)
    return np.vstack([own, (random * np.sqrt(variances.clip(0))) @ axes.T])


def _logit_changes(head: Head, embeddings: NDArray[np.floating], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean change of each logit with each step, shape (steps, classes)."""
    points = np.asarray(embeddings, np.float32)
    before = head(points)
    return np.array([np.mean(head(points + step.astype(np.float32)) - before, axis=0) for step in steps])


def along_direction(
    direction: ConceptDirection, embeddings: NDArray[np.floating], records: pd.DataFrame, *, n_groups: int = 5
) -> pd.DataFrame:
    """Order the records of fold 10 along a direction, and divide them into groups of equal size.

    Parameters
    ----------
    direction : ConceptDirection
        Fitted on folds 1-8.
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        In the same order.
    n_groups : int, default 5
        Number of groups.

    Returns
    -------
    DataFrame
        One row per record, from the low to the high end: ``row`` (in ``embeddings``), ``record_id``, ``patient_id`` and
        ``fold`` if the records have them, ``true`` (the target; NaN where unknown), ``position`` (in standard
        deviations of folds 1-8) and ``group`` (from 1, at the low end).

    Raises
    ------
    EcgkitError
        If the shapes do not match, no record is in fold 10, or there are fewer of them than groups.
    """
    check_embeddings(embeddings, records)
    rows = fold_rows(records)
    if not 1 <= n_groups <= len(rows):
        raise EcgkitError(f"n_groups is {n_groups}: give a number from 1 to {len(rows)}, the number of records")
    positions = direction.positions(embeddings[rows])
    order = np.argsort(positions, kind="stable")
    rows, positions = rows[order], positions[order]
    shown = [name for name in ("record_id", "patient_id", "fold") if name in records]
    table = records.iloc[rows][shown].reset_index(drop=True)
    table.insert(0, "row", rows)
    return table.assign(
        true=direction.target.values(records)[rows],
        position=positions,
        group=1 + np.arange(len(rows)) * n_groups // len(rows),
    )


def group_members(along: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the records of each group along a direction, by names such as ``"fifth 1"``."""
    groups = along["group"].to_numpy(np.int64)
    return {f"fifth {group}": along["row"].to_numpy()[groups == group] for group in np.unique(groups).tolist()}


def group_table(along: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Describe the records of each group along a direction.

    A direction that was found for age also meets whatever comes with age; the shares of the classes show how much.

    Parameters
    ----------
    along : DataFrame
        As from `along_direction`.
    labels : DataFrame of bool, shape (records, classes)
        Of all records that ``along`` was made from, in their order.

    Returns
    -------
    DataFrame
        One row per group: ``records``, ``position`` (mean), ``true`` (mean of the known values; for two classes the
        share of the second), ``known``, and for each class the share of the group's records that carry it.
    """
    carried = labels.iloc[along["row"]].astype(float).reset_index(drop=True)
    by_group = along.groupby("group")
    table = pd.DataFrame(
        {
            "records": by_group.size(),
            "position": by_group["position"].mean(),
            "true": by_group["true"].mean(),
            "known": by_group["true"].count(),
        }
    )
    return table.join(carried.groupby(along["group"].to_numpy()).mean())


def describe_ends(ends: pd.DataFrame, records: pd.DataFrame, labels: pd.DataFrame) -> list[str]:
    """Return a title for each record of `records_at_ends`: its position, and who it is."""
    return [
        f"{row['end']} end, {row['position']:+.1f} standard deviations\n"
        f"{describe_record(records.iloc[row['row']], labels.iloc[row['row']])}"
        for row in ends.to_dict("records")
    ]


def records_at_ends(along: pd.DataFrame, n: int = 3) -> pd.DataFrame:
    """Select the records at the two ends of a direction, each of another patient.

    Parameters
    ----------
    along : DataFrame
        As from `along_direction`.
    n : int, default 3
        Records at each end; fewer if there are not enough patients.

    Returns
    -------
    DataFrame
        The rows of ``along``, after a column ``end``, ``"low"`` or ``"high"``; the outermost first.

    Raises
    ------
    EcgkitError
        If there are not two patients.
    """
    patients = along["patient_id"].nunique()
    if patients < 2:
        raise EcgkitError(f"the records along the direction are of {patients} patients: two or more are needed")
    n = min(n, patients // 2)
    low = along.drop_duplicates("patient_id").head(n)
    rest = along[~along["patient_id"].isin(low["patient_id"])].iloc[::-1]
    high = rest.drop_duplicates("patient_id").head(n)
    table = pd.concat([low.assign(end=LOW), high.assign(end=HIGH)], ignore_index=True)
    return table[["end", *along.columns]]
