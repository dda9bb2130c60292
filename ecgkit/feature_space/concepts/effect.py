"""What goes when a concept is removed: the probe's own score, and the AUC of each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.concepts.directions import ConceptDirection, concept_direction, fit_task
from ecgkit.feature_space.concepts.erasure import (
    Eraser,
    erase_direction,
    erase_least_squares,
    erase_matched,
    erase_random,
    overlap,
)
from ecgkit.feature_space.probes.controls import exchange_patients
from ecgkit.feature_space.probes.linear import Problem, fit_linear
from ecgkit.feature_space.probes.metrics import permutation_scores
from ecgkit.feature_space.probes.targets import Target
from ecgkit.feature_space.probes.task import MIN_OF_EACH, Task, make_task
from ecgkit.feature_space.standardize import Scaler, fit_scaler, fold_rows, training_rows
from ecgkit.stats import Floats, auc
from ecgkit.stats.folds import TEST_FOLD
from ecgkit.stats.multiple_testing import holm
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

NOTHING, DIRECTION, LEAST_SQUARES = "nothing", "direction", "least_squares"
OWN_HEAD, REFITTED = "own head", "refitted head"

N_RANDOM = 199
"""How often random directions are removed for comparison, at the least: the smallest p value is then 0.005."""

PER_CLASS = 20
"""And so often for each class: the smallest p value is still below 0.05 when it is corrected for the classes."""

PERMUTATIONS = 1000

Head = Callable[[NDArray[np.float32]], NDArray[np.floating]]


@dataclass(frozen=True, eq=False)
class ConceptEffect:
    """A concept removed from the embeddings, and what can still be read off them in fold 10.

    Attributes
    ----------
    direction : ConceptDirection
        Of the concept.
    erasers : dict of str to Eraser
        ``"direction"``, the probe's own direction, and ``"least_squares"``, all that a linear probe could read of the
        value and, of a number, of its bins.
    variance : DataFrame
        One row an eraser: ``removed``, ``rank``, ``share`` of the variance of folds 1-8 that it takes, of the random
        ones the mean ``random_share``, of the matched ones ``matched_share`` and ``matched_overlap``, their mean
        squared cosine with what they stand beside (0 if they had nothing in common).
    probe : DataFrame
        What a probe reads of the concept: one row for each ``removed`` (with ``"nothing"``) and ``probe``
        (``"fixed"``, that of the direction, or ``"refitted"`` on the erased embeddings); ``metric`` (``"r2"`` or
        ``"auc"``), ``value``, ``low``, ``high`` by resampling patients, and ``chance_low``, ``chance_high``, between
        which 95 % of the values lie where the true values are exchanged between patients.
    classes : DataFrame
        One row for each ``reader`` (``"own head"``, if one was given, and ``"refitted head"``), ``removed`` and
        ``class``: ``auc_before``, ``auc``, ``change`` with ``low`` and ``high`` (patients resampled, before and after
        paired); ``random_change``, ``random_low`` and ``random_high``, the mean and the range over random directions;
        ``matched_change``, ``matched_low`` and ``matched_high``, the same over those that take as much variance;
        ``random_p`` and ``matched_p``, the share of these removals, the concept's own among them, that change the AUC
        as much or more in either direction; ``random_p_holm`` and ``matched_p_holm``, corrected for the classes of the
        same reader and removal (Holm), all of these NaN where a class is too rare to be judged; and for the own head
        the mean absolute change of the probability: ``probability_change``, ``random_probability_change``,
        ``matched_probability_change``.
    """

    direction: ConceptDirection
    erasers: dict[str, Eraser]
    variance: pd.DataFrame
    probe: pd.DataFrame
    classes: pd.DataFrame


def concept_effect(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    labels: pd.DataFrame,
    target: Target,
    *,
    head: Head | None = None,
    seed: int = 0,
    n_random: int | None = None,
    resamples: int = RESAMPLES,
) -> ConceptEffect:
    """Remove a concept from the embeddings, and read the concept and the classes again.

    All is fitted on folds 1-8 and read on fold 10. The classes are read twice: by the model's own head, which knows
    nothing of the removal, and by a linear head that is fitted again (ridge regression on 0 and 1, with the strength
    that suits the whole embeddings), which may use what is left. Beside stand random directions, as many at a time, and
    others that take as much variance. A change that few of these reach (a small ``matched_p_holm``) is of the concept.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        What the head takes, one row a record.
    records : DataFrame
        In the same order; columns ``patient_id``, ``fold`` and the target's.
    labels : DataFrame of bool, shape (records, classes)
        In the same order.
    target : Target
        The concept: a number, or two words.
    head : callable, optional
        From float32 embeddings of shape (records, features) to logits of shape (records, classes), the classes as in
        ``labels``.
    seed : int, default 0
        Of splits, random directions, resamples and exchanges.
    n_random : int, optional
        How often random directions are removed, of each of the two kinds; by default 199, or 20 times for each class
        that can be judged, so that a p value corrected for all of them can be below 0.05.
    resamples : int, default 1000
        Of the patients.

    Returns
    -------
    ConceptEffect

    Raises
    ------
    EcgkitError
        As `concept_direction`; or if labels or the head's logits do not fit, or ``n_random`` is not positive.

    References
    ----------
    Elazar et al., "Amnesic probing: behavioral explanation with amnesic counterfactuals", 2021, arXiv:2006.00995.
    """
    if len(labels) != len(records):
        raise EcgkitError(f"{len(labels)} rows of labels for {len(records)} records: give those of each record")
    if n_random is not None and n_random < 1:
        raise EcgkitError(f"n_random is {n_random}: give 1 or more")
    direction = concept_direction(embeddings, records, target, seed=seed)
    task = make_task(direction.target, records)
    points, test = embeddings[task.training], fold_rows(records, (TEST_FOLD,))
    patients = records["patient_id"].to_numpy()[test]
    judged = _can_be_judged(labels.to_numpy(dtype=bool)[test], patients)
    n_random = n_random or max(N_RANDOM, PER_CLASS * int(judged.sum()))
    removals = {
        name: _make_removal(eraser, points, n_random, seed)
        for name, eraser in (
            (DIRECTION, erase_direction(direction)),
            (LEAST_SQUARES, _erase_concept(points, task)),
        )
    }
    standardised = direction.probe.scaler.transform(points).astype(np.float64)
    covariance = np.cov(standardised.T, bias=True).reshape(points.shape[1], -1)
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    readers: dict[str, _Reader] = {} if head is None else {OWN_HEAD: _OwnHead(head, embeddings[test], labels.shape[1])}
    readers[REFITTED] = _RefittedHead(embeddings, records, labels, seed)
    rows = [
        {"reader": name, "removed": removed, **row}
        for name, reader in readers.items()
        for removed, removal in removals.items()
        for row in _class_rows(reader, removal, labels.iloc[test], judged, weights)
    ]
    return ConceptEffect(
        direction=direction,
        erasers={name: removal.eraser for name, removal in removals.items()},
        variance=pd.DataFrame(
            [{"removed": name, **removal.variance(covariance)} for name, removal in removals.items()]
        ),
        probe=_probe_table(direction, task, removals, embeddings, seed=seed, resamples=resamples),
        classes=pd.DataFrame(rows),
    )


@dataclass(frozen=True, eq=False)
class _Removal:
    """An eraser with those that it is compared with."""

    eraser: Eraser
    random: tuple[Eraser, ...]
    matched: tuple[Eraser, ...]

    def variance(self, covariance: NDArray[np.float64]) -> dict[str, float]:
        """Say how much of the variance goes."""
        return {
            "rank": self.eraser.rank,
            "share": self.eraser.variance_removed(covariance),
            "random_share": float(np.mean([other.variance_removed(covariance) for other in self.random])),
            "matched_share": float(np.mean([other.variance_removed(covariance) for other in self.matched])),
            "matched_overlap": float(np.mean([overlap(self.eraser, other) for other in self.matched])),
        }


def _make_removal(eraser: Eraser, embeddings: NDArray[np.floating], number: int, seed: int) -> _Removal:
    """Draw the directions for comparison."""
    points = eraser.scaler.transform(embeddings).astype(np.float64)
    _, axes = np.linalg.eigh(points.T @ points)
    seeds = range(seed, seed + number)
    return _Removal(
        eraser,
        tuple(erase_random(eraser, seed=i) for i in seeds),
        tuple(erase_matched(eraser, axes, seed=i) for i in seeds),
    )


def _erase_concept(embeddings: NDArray[np.floating], task: Task) -> Eraser:
    """Remove what folds 1-8 know of the value and, of a number with bins, of these."""
    target, values = task.target, task.known[task.training]
    columns = values[:, None]
    if target.kind == "regression" and target.edges:
        columns = np.column_stack([columns, np.eye(len(target.edges) + 1)[target.bin(values)]])
    return erase_least_squares(embeddings, columns)


class _Reader(Protocol):
    """Reads the classes of the records of fold 10."""

    def logits(self, eraser: Eraser | None) -> Floats:
        """Give what is read after a removal, or without one: shape (records, classes)."""


class _OwnHead:
    """The model's head, which does not learn."""

    def __init__(self, head: Head, test: NDArray[np.floating], n_classes: int) -> None:
        self.head, self.test, self.n_classes = head, np.asarray(test, dtype=np.float32), n_classes
        self.points: dict[int, NDArray[np.float32]] = {}

    def logits(self, eraser: Eraser | None) -> Floats:
        """Give what is read after a removal, or without one: shape (records, classes)."""
        logits = np.asarray(self.head(self.test if eraser is None else self._erased(eraser)), dtype=np.float64)
        if logits.shape != (len(self.test), self.n_classes):
            raise EcgkitError(
                f"the head gives {logits.shape} for {len(self.test)} records and {self.n_classes} classes: give the "
                "head of the model with these classes"
            )
        return logits

    def _erased(self, eraser: Eraser) -> NDArray[np.float32]:
        """Remove the directions; hundreds of erasers share a scaler, and the points that it standardised."""
        if id(eraser.scaler) not in self.points:
            self.points[id(eraser.scaler)] = eraser.scaler.transform(self.test)
        return eraser.take_out(self.test, self.points[id(eraser.scaler)])


class _RefittedHead:
    """A ridge regression of every class, fitted again after each removal.

    A removal is linear, so that the sums of products of what is left follow from those of the whole.
    """

    def __init__(
        self, embeddings: NDArray[np.floating], records: pd.DataFrame, labels: pd.DataFrame, seed: int
    ) -> None:
        training, test = training_rows(records), fold_rows(records, (TEST_FOLD,))
        truth = labels.to_numpy(dtype=np.float64)[training]
        problems = {str(i): Problem(column, is_class=False) for i, column in enumerate(truth.T)}
        patients = records["patient_id"].to_numpy()[training]
        probes = fit_linear(embeddings[training], problems, patients, seed=seed)
        self.alphas = np.array([probes[name].strength for name in problems])
        self.scaler: Scaler = fit_scaler(embeddings[training])
        points = self.scaler.transform(embeddings[training]).astype(np.float64)
        # In the principal axes the products are their eigenvalues, and each ridge is a division.
        eigenvalues, self.axes = np.linalg.eigh(points.T @ points)
        self.products = np.maximum(eigenvalues, 0.0)
        self.along = (points @ self.axes).T @ (truth - truth.mean(axis=0))
        self.test = self.scaler.transform(embeddings[test]).astype(np.float64) @ self.axes

    def logits(self, eraser: Eraser | None) -> Floats:
        """Give what is read after a removal, or without one: shape (records, classes)."""
        if eraser is None:
            return self.test @ (self.along / (self.products[:, None] + self.alphas))
        read, removed = (self.axes.T @ side for side in eraser.map_of(self.scaler))
        along = self.along - removed @ (read.T @ self.along)
        coefficients = np.empty_like(along)
        for alpha in np.unique(self.alphas):
            chosen = self.alphas == alpha
            coefficients[:, chosen] = _solve_erased(self.products, float(alpha), read, removed, along[:, chosen])
        return self.test @ coefficients - (self.test @ read) @ (removed.T @ coefficients)


def _solve_erased(products: Floats, alpha: float, read: Floats, removed: Floats, along: Floats) -> Floats:
    """Solve a ridge regression after a removal, in the principal axes of what was there before.

    With products of sums D (diagonal) and the removal z - z A B', what is left is D + U C U' with U = [B, D A] and
    C = [[A'D A, -1], [-1, 0]], of low rank; the inverse follows by the identity of Sherman, Morrison and Woodbury.

    Parameters
    ----------
    products : ndarray of float64, shape (features,)
        D.
    alpha : float
        The penalty, above 0.
    read, removed : ndarray of float64, shape (features, rank)
        A and B.
    along : ndarray of float64, shape (features, classes)
        Sums of products of what is left with the truth.

    Returns
    -------
    ndarray of float64, shape (features, classes)
        The coefficients.
    """
    rank = read.shape[1]
    inverse = 1 / (products + alpha)
    scaled = products[:, None] * read
    sides = np.concatenate([removed, scaled], axis=1)
    none, one = np.zeros((rank, rank)), np.eye(rank)
    small = np.block([[none, -one], [-one, -(read.T @ scaled)]]) + sides.T @ (inverse[:, None] * sides)
    first = inverse[:, None] * along
    return first - inverse[:, None] * (sides @ np.linalg.solve(small, sides.T @ first))


def _class_rows(
    reader: _Reader,
    removal: _Removal,
    labels: pd.DataFrame,
    judged: NDArray[np.bool_],
    weights: Floats,
) -> list[dict[str, object]]:
    """Read the classes before a removal, after it, and after those that it is compared with."""
    truth = labels.to_numpy(dtype=bool)
    before, after = reader.logits(None), reader.logits(removal.eraser)
    known = np.where(judged, 1.0, np.nan)
    auc_before, auc_after = known * auc(truth, before), known * auc(truth, after)
    drawn = known * (auc(truth, after, weights=weights) - auc(truth, before, weights=weights))
    others = {
        kind: [reader.logits(eraser) for eraser in erasers]
        for kind, erasers in (("random", removal.random), ("matched", removal.matched))
    }
    changes = {kind: np.array([auc(truth, one) - auc_before for one in logits]) for kind, logits in others.items()}
    p_values = {kind: _share_reached(auc_after - auc_before, one) for kind, one in changes.items()}
    corrected = {kind: holm(one) for kind, one in p_values.items()}
    rows: list[dict[str, object]] = []
    for i, of_class in enumerate(labels.columns):
        low, high = interval(drawn[:, i])
        change = auc_after[i] - auc_before[i]
        row: dict[str, object] = {"class": of_class, "auc_before": auc_before[i], "auc": auc_after[i]}
        row |= {"change": change, "low": low, "high": high}
        for kind in others:
            other = changes[kind][:, i]
            row |= {f"{kind}_change": other.mean(), f"{kind}_low": other.min(), f"{kind}_high": other.max()}
            row |= {f"{kind}_p": p_values[kind][i], f"{kind}_p_holm": corrected[kind][i]}
        if isinstance(reader, _OwnHead):
            row["probability_change"] = _moved(before[:, i], after[:, i])
            for kind, logits in others.items():
                row[f"{kind}_probability_change"] = np.mean([_moved(before[:, i], other[:, i]) for other in logits])
        rows.append(row)
    return rows


def _can_be_judged(truth: NDArray[np.bool_], patients: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Tell for each class whether patients enough have it, and have it not, as for a probe of it."""
    sides = [[len(np.unique(patients[side])) for side in (column, ~column)] for column in truth.T]
    return np.array([min(counts) >= MIN_OF_EACH for counts in sides])


def _share_reached(change: Floats, others: Floats) -> Floats:
    """Give for each class the p value of a change: the share of all removals, itself among them, that reach it.

    Parameters
    ----------
    change : ndarray of float64, shape (classes,)
        With the concept.
    others : ndarray of float64, shape (removals, classes)
        With what stands beside it.

    Returns
    -------
    ndarray of float64, shape (classes,)
        NaN where the change is.

    References
    ----------
    Phipson and Smyth, "Permutation p-values should never be zero", 2010, arXiv:1603.05766.
    """
    reached = (np.abs(others) >= np.abs(change)).sum(axis=0)
    return np.where(np.isfinite(change), (1 + reached) / (1 + len(others)), np.nan)


def _moved(before: Floats, after: Floats) -> float:
    """Give the mean absolute change of a probability."""
    return float(np.abs(expit(after) - expit(before)).mean())


def _probe_table(
    direction: ConceptDirection,
    task: Task,
    removals: Mapping[str, _Removal],
    embeddings: NDArray[np.floating],
    *,
    seed: int,
    resamples: int,
) -> pd.DataFrame:
    """Read the concept before and after each removal, with the probe of its direction and with one fitted again."""
    patients = task.patients[task.test]
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    exchanged = exchange_patients(patients, PERMUTATIONS, seed)
    erasers: dict[str, Eraser | None] = {NOTHING: None}
    erasers |= {name: removal.eraser for name, removal in removals.items()}
    rows: list[dict[str, object]] = []
    for name, eraser in erasers.items():
        training, test = embeddings[task.training], embeddings[task.test]
        probes = {"fixed": direction.probe}
        if eraser is not None:
            training, test = eraser(training), eraser(test)
            probes["refitted"] = fit_task(task, training, seed=seed)
        for kind, probe in probes.items():
            prediction = task.predict(probe, test)
            value, drawn = task.score(prediction, weights)
            low, high = interval(drawn)
            chance_low, chance_high = interval(permutation_scores(task.target, prediction, exchanged))
            row = {"removed": name, "probe": kind, "metric": task.target.main_metric, "value": value}
            rows.append(row | {"low": low, "high": high, "chance_low": chance_low, "chance_high": chance_high})
    return pd.DataFrame(rows)
