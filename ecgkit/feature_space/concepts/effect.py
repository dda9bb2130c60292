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
from ecgkit.evaluation.resampling import RESAMPLES, interval, patient_weights
from ecgkit.feature_space.concepts.directions import ConceptDirection, concept_direction, fit_question
from ecgkit.feature_space.concepts.erasure import (
    Eraser,
    erase_direction,
    erase_least_squares,
    erase_matched,
    erase_random,
    overlap,
)
from ecgkit.feature_space.parts import Scaler, fit_scaler, fold_rows, training_rows
from ecgkit.feature_space.probes.by_layer import Question, make_question
from ecgkit.feature_space.probes.controls import exchange_patients
from ecgkit.feature_space.probes.linear import Problem, fit_linear
from ecgkit.feature_space.probes.metrics import permutation_scores
from ecgkit.feature_space.probes.targets import Target
from ecgkit.metrics import Floats, auc
from ecgkit.store import TEST_FOLD

NOTHING, DIRECTION, LEAST_SQUARES = "nothing", "direction", "least_squares"
OWN_HEAD, REFITTED = "own head", "refitted head"

N_RANDOM = 20
"""How often random directions are removed for comparison."""

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
        ``matched_change``, ``matched_low`` and ``matched_high``, the same over those that take as much variance; and
        for the own head the mean absolute change of the probability: ``probability_change``,
        ``random_probability_change``, ``matched_probability_change``.
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
    n_random: int = N_RANDOM,
    resamples: int = RESAMPLES,
) -> ConceptEffect:
    """Remove a concept from the embeddings, and read the concept and the classes again.

    All is fitted on folds 1-8 and read on fold 10. The classes are read twice: by the model's own head, which knows
    nothing of the removal, and by a linear head that is fitted again (ridge regression on 0 and 1, with the strength
    that suits the whole embeddings), which may use what is left. Beside stand as many random directions, and others
    that take as much variance: what a class loses with the concept and not with these is of the concept.

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
    n_random : int, default 20
        How often random directions are removed, of each of the two kinds.
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
    if n_random < 1:
        raise EcgkitError(f"n_random is {n_random}: give 1 or more")
    direction = concept_direction(embeddings, records, target, seed=seed)
    question = make_question(target, records)
    points = embeddings[question.training]
    removals = {
        name: _make_removal(eraser, points, n_random, seed)
        for name, eraser in (
            (DIRECTION, erase_direction(direction)),
            (LEAST_SQUARES, _erase_concept(points, question)),
        )
    }
    test = fold_rows(records, (TEST_FOLD,))
    weights = patient_weights(records["patient_id"].to_numpy()[test], resamples=resamples, seed=seed)
    readers: dict[str, _Reader] = {} if head is None else {OWN_HEAD: _OwnHead(head, embeddings[test], labels.shape[1])}
    readers[REFITTED] = _RefittedHead(embeddings, records, labels, seed)
    rows = [
        row
        for name, reader in readers.items()
        for removed, removal in removals.items()
        for row in _class_rows(reader, removal, labels.iloc[test], weights, {"reader": name, "removed": removed})
    ]
    return ConceptEffect(
        direction=direction,
        erasers={name: removal.eraser for name, removal in removals.items()},
        variance=pd.DataFrame([{"removed": name, **removal.variance(points)} for name, removal in removals.items()]),
        probe=_probe_table(direction, question, removals, embeddings, records, seed=seed, resamples=resamples),
        classes=pd.DataFrame(rows),
    )


@dataclass(frozen=True, eq=False)
class _Removal:
    """An eraser with those that it is compared with."""

    eraser: Eraser
    random: tuple[Eraser, ...]
    matched: tuple[Eraser, ...]

    def variance(self, embeddings: NDArray[np.floating]) -> dict[str, float]:
        """Say how much of the variance goes."""
        return {
            "rank": self.eraser.rank,
            "share": self.eraser.variance_removed(embeddings),
            "random_share": float(np.mean([other.variance_removed(embeddings) for other in self.random])),
            "matched_share": float(np.mean([other.variance_removed(embeddings) for other in self.matched])),
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


def _erase_concept(embeddings: NDArray[np.floating], question: Question) -> Eraser:
    """Remove what folds 1-8 know of the value and, of a number with bins, of these."""
    target, values = question.target, question.known[question.training]
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

    def logits(self, eraser: Eraser | None) -> Floats:
        """Give what is read after a removal, or without one: shape (records, classes)."""
        logits = np.asarray(self.head(self.test if eraser is None else eraser(self.test)), dtype=np.float64)
        if logits.shape != (len(self.test), self.n_classes):
            raise EcgkitError(
                f"the head gives {logits.shape} for {len(self.test)} records and {self.n_classes} classes: give the "
                "head of the model with these classes"
            )
        return logits


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
        self.products = points.T @ points
        self.along = points.T @ (truth - truth.mean(axis=0))
        self.test = self.scaler.transform(embeddings[test]).astype(np.float64)

    def logits(self, eraser: Eraser | None) -> Floats:
        """Give what is read after a removal, or without one: shape (records, classes)."""
        read, removed = (np.zeros((len(self.products), 1)),) * 2 if eraser is None else eraser.map_of(self.scaler)
        left = self.products - read_out(self.products, read, removed)
        left -= read_out(left.T, read, removed).T
        along = self.along - removed @ (read.T @ self.along)
        eigenvalues, vectors = np.linalg.eigh((left + left.T) / 2)
        shrunk = (vectors.T @ along) / (np.maximum(eigenvalues, 0.0)[:, None] + self.alphas)
        return (self.test - read_out(self.test, read, removed)) @ (vectors @ shrunk)


def read_out(rows: Floats, read: Floats, removed: Floats) -> Floats:
    """Give what a removal takes out of rows."""
    return (rows @ read) @ removed.T


def _class_rows(
    reader: _Reader, removal: _Removal, labels: pd.DataFrame, weights: Floats, names: Mapping[str, str]
) -> list[dict[str, object]]:
    """Read the classes before a removal, after it, and after those that it is compared with."""
    truth = labels.to_numpy(dtype=bool)
    before, after = reader.logits(None), reader.logits(removal.eraser)
    auc_before, auc_after = auc(truth, before), auc(truth, after)
    drawn = auc(truth, after, weights=weights) - auc(truth, before, weights=weights)
    others = {
        kind: [reader.logits(eraser) for eraser in erasers]
        for kind, erasers in (("random", removal.random), ("matched", removal.matched))
    }
    rows: list[dict[str, object]] = []
    for i, of_class in enumerate(labels.columns):
        low, high = interval(drawn[:, i])
        change = auc_after[i] - auc_before[i]
        row: dict[str, object] = {**names, "class": of_class, "auc_before": auc_before[i], "auc": auc_after[i]}
        row |= {"change": change, "low": low, "high": high}
        for kind, logits in others.items():
            changes = [float(auc(truth[:, i], other[:, i])) - auc_before[i] for other in logits]
            row |= {f"{kind}_change": np.mean(changes), f"{kind}_low": min(changes), f"{kind}_high": max(changes)}
        if isinstance(reader, _OwnHead):
            row["probability_change"] = _moved(before[:, i], after[:, i])
            for kind, logits in others.items():
                row[f"{kind}_probability_change"] = np.mean([_moved(before[:, i], other[:, i]) for other in logits])
        rows.append(row)
    return rows


def _moved(before: Floats, after: Floats) -> float:
    """Give the mean absolute change of a probability."""
    return float(np.abs(expit(after) - expit(before)).mean())


def _probe_table(
    direction: ConceptDirection,
    question: Question,
    removals: Mapping[str, _Removal],
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    seed: int,
    resamples: int,
) -> pd.DataFrame:
    """Read the concept before and after each removal, with the probe of its direction and with one fitted again."""
    patients = records["patient_id"].to_numpy()[question.test]
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    exchanged = exchange_patients(patients, PERMUTATIONS, seed)
    erasers: dict[str, Eraser | None] = {NOTHING: None}
    erasers |= {name: removal.eraser for name, removal in removals.items()}
    rows: list[dict[str, object]] = []
    for name, eraser in erasers.items():
        training, test = embeddings[question.training], embeddings[question.test]
        probes = {"fixed": direction.probe}
        if eraser is not None:
            training, test = eraser(training), eraser(test)
            probes["refitted"] = fit_question(question, training, records, seed=seed)
        for kind, probe in probes.items():
            prediction = question.predict(probe, test)
            value, drawn = question.score(prediction, weights)
            low, high = interval(drawn)
            chance_low, chance_high = interval(permutation_scores(question.target, prediction, exchanged))
            row = {"removed": name, "probe": kind, "metric": question.target.main_metric, "value": value}
            rows.append(row | {"low": low, "high": high, "chance_low": chance_low, "chance_high": chance_high})
    return pd.DataFrame(rows)
