"""The direction of a concept in the embeddings, and the records along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes import task as probe_task
from ecgkit.feature_space.probes.linear import LinearProbe, Problem, fit_linear
from ecgkit.feature_space.probes.targets import Target
from ecgkit.feature_space.probes.task import Task, make_task
from ecgkit.feature_space.standardize import check_embeddings, check_patients, fold_rows
from ecgkit.stats.folds import TEST_FOLD

LOW, HIGH = "low", "high"


@dataclass(frozen=True, eq=False)
class ConceptDirection:
    """The direction in which a linear probe reads a target.

    Attributes
    ----------
    target : Target
        A number, or two words.
    probe : LinearProbe
        Fitted on folds 1-8.
    vector : ndarray of float64, shape (features,)
        Of unit length, in the standardised embeddings; it points to higher numbers, or to the second word.
    centre, spread : float
        Mean and standard deviation of the projections of folds 1-8 on it.
    """

    target: Target
    probe: LinearProbe
    vector: NDArray[np.float64]
    centre: float
    spread: float

    def positions(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Say where records lie along the direction.

        Parameters
        ----------
        embeddings : ndarray, shape (records, features)
            As the network gives them.

        Returns
        -------
        ndarray of float64, shape (records,)
            In standard deviations of folds 1-8 from their mean.
        """
        return (self.probe.scaler.transform(embeddings) @ self.vector - self.centre) / self.spread


def concept_direction(
    embeddings: NDArray[np.floating], records: pd.DataFrame, target: Target, *, seed: int = 0
) -> ConceptDirection:
    """Find the direction in which a target is read, with a linear probe of folds 1-8.

    The probe is a ridge regression for a number and a logistic regression for two words, on standardised embeddings;
    its coefficients, divided by their length, are the direction.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        In the same order; columns ``patient_id``, ``fold`` and the target's.
    target : Target
        A number, or two words.
    seed : int, default 0
        Of the splits that choose the probe's strength.

    Returns
    -------
    ConceptDirection

    Raises
    ------
    EcgkitError
        If a patient is in two parts, the embeddings are not as they should be, or the target is not readable, has more
        than two classes, or is known for too few records of folds 1-8 or 10.

    References
    ----------
    Kim et al., "Interpretability beyond feature attribution: quantitative testing with concept activation vectors",
    2018, arXiv:1711.11279.
    """
    check_embeddings(embeddings, records)
    check_patients(records)
    reason = askable(target, records)
    if reason:
        raise EcgkitError(f"there is no direction of {target.name}: {reason}; leave it out")
    task = make_task(target, records)
    rows = task.training
    probe = fit_task(task, embeddings[rows], seed=seed)
    length = float(np.linalg.norm(probe.coefficients[0]))
    if length == 0:
        raise EcgkitError(f"the probe of {target.name} reads nothing from these embeddings: there is no direction")
    vector = probe.coefficients[0] / length
    projections = probe.scaler.transform(embeddings[rows]) @ vector
    return ConceptDirection(task.target, probe, vector, float(projections.mean()), float(projections.std()))


def askable(target: Target, records: pd.DataFrame) -> str:
    """Say why there can be no direction of a target in these records.

    Parameters
    ----------
    target : Target
        What is to be asked for.
    records : DataFrame
        The records; columns ``patient_id`` and ``fold``.

    Returns
    -------
    str
        The reason, such as that too few records know it, or that it has more than two classes; empty if there can.

    Raises
    ------
    EcgkitError
        If the target's column is not readable, or folds 1-8 are empty.
    """
    if target.kind == "multiclass":
        return f"{target.name} has {len(target.words)} classes, a direction needs a number or two words"
    return probe_task.askable(target, records)


def fit_task(task: Task, embeddings: NDArray[np.floating], *, seed: int) -> LinearProbe:
    """Fit a probe on the embeddings of the records of folds 1-8 that know the target, one row each."""
    problem = Problem(task.known[task.training], is_class=bool(task.target.words))
    return fit_linear(embeddings, {"value": problem}, task.patients[task.training], seed=seed)["value"]


def along_direction(
    direction: ConceptDirection,
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    n_groups: int = 5,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    among: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Order records along a direction, and cut them into groups of equal size.

    Parameters
    ----------
    direction : ConceptDirection
        Fitted on folds 1-8.
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        In the same order.
    n_groups : int, default 5
        Number of groups.
    folds : tuple of int or None, default (10,)
        Whose records; None for all.
    among : ndarray of bool, shape (records,), optional
        Leaves out the records that are False, such as all but those of one class, in which the direction is then
        followed without a change of diagnosis.

    Returns
    -------
    DataFrame
        One row a record, from the low to the high end: ``row`` (its position in ``embeddings``), ``record_id`` and
        ``patient_id`` (if the records have them), ``fold``, ``true`` (the target; NaN where unknown), ``position`` (in
        standard deviations of folds 1-8) and ``group`` (0 at the low end).

    Raises
    ------
    EcgkitError
        If the shapes do not fit, or there are not as many records as groups.
    """
    check_embeddings(embeddings, records)
    rows = fold_rows(records, folds)
    if among is not None:
        if len(among) != len(records):
            raise EcgkitError(f"'among' marks {len(among)} of {len(records)} records: give one value a record")
        rows = rows[among[rows]]
    if not 1 <= n_groups <= len(rows):
        raise EcgkitError(f"n_groups is {n_groups} for {len(rows)} records: give from 1 to that many")
    positions = direction.positions(embeddings[rows])
    order = np.argsort(positions, kind="stable")
    rows, positions = rows[order], positions[order]
    shown = [name for name in ("record_id", "patient_id", "fold") if name in records]
    table = records.iloc[rows][shown].reset_index(drop=True)
    table.insert(0, "row", rows)
    return table.assign(
        true=direction.target.known(records)[rows],
        position=positions,
        group=np.arange(len(rows)) * n_groups // len(rows),
    )


def records_at_ends(along: pd.DataFrame, n: int = 3) -> pd.DataFrame:
    """Pick the records at the two ends of a direction, each of another patient.

    Parameters
    ----------
    along : DataFrame
        As `along_direction` gives it.
    n : int, default 3
        Records at each end, fewer where there are not so many patients.

    Returns
    -------
    DataFrame
        The rows of ``along``, with the column ``end``, ``"low"`` or ``"high"`` in front; the outermost first.

    Raises
    ------
    EcgkitError
        If ``n`` is not positive, or there are not two patients.
    """
    if n < 1:
        raise EcgkitError(f"n is {n}: give the number of records at each end, 1 or more")
    patients = along["patient_id"].nunique()
    if patients < 2:
        raise EcgkitError(f"the records along the direction are of {patients} patients: give those of two or more")
    n = min(n, patients // 2)
    low = along.drop_duplicates("patient_id").head(n)
    rest = along[~along["patient_id"].isin(low["patient_id"])].iloc[::-1]
    high = rest.drop_duplicates("patient_id").head(n)
    table = pd.concat([low.assign(end=LOW), high.assign(end=HIGH)], ignore_index=True)
    return table[["end", *along.columns]]


def group_table(along: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Say who the records of each group along a direction are.

    A direction that was found for age also meets whatever goes with age; the classes' shares say how much.

    Parameters
    ----------
    along : DataFrame
        As `along_direction` gives it.
    labels : DataFrame of bool, shape (records, classes)
        Of all records that ``along`` was made from, in their order.

    Returns
    -------
    DataFrame
        One row a group: ``records``, ``position`` (the mean), ``true`` (the mean of the known ones; of two words the
        share of the second), ``known``, and for each class the share of the group's records that carry it.

    Raises
    ------
    EcgkitError
        If there are fewer labels than records.
    """
    if along["row"].max() >= len(labels):
        raise EcgkitError(f"labels of {len(labels)} records, but row {along['row'].max()}: give those of all records")
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
