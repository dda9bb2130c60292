"""The effect of removing a concept from the embeddings: on the probe of the concept, and on the AUC of each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.explain.directions import N_RANDOM, PER_ROW, ConceptDirection, Head, concept_direction, fit_task
from ecgkit.explain.erasure import Eraser, erase_least_squares, erase_random
from ecgkit.feature_space.probes.controls import exchange_patients
from ecgkit.feature_space.probes.linear import Problem, fit_linear
from ecgkit.feature_space.probes.metrics import permutation_scores
from ecgkit.feature_space.probes.targets import Target
from ecgkit.feature_space.probes.task import MIN_OF_EACH, Task, make_task
from ecgkit.feature_space.standardize import fit_scaler, fold_rows, training_rows
from ecgkit.stats import Floats, auc
from ecgkit.stats.multiple_testing import holm
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

if TYPE_CHECKING:
    from ecgkit.training import TrainedModel

OWN_HEAD, REFITTED = "own head", "refitted head"

Reader = Callable[[Eraser | None], Floats]


@dataclass(frozen=True, eq=False)
class ConceptEffect:
    """A concept removed from the embeddings, and what can still be read off them in fold 10.

    Attributes
    ----------
    direction : ConceptDirection
        Of the concept.
    eraser : Eraser
        Removes all that a linear probe could read of the value and, for a quantity, of its bins.
    variance : float
        The share of the variance of folds 1-8 that is removed.
    probe : DataFrame
        What a probe reads of the concept, index ``removed``: ``"nothing"`` and ``"concept"`` (fitted again on the
        erased embeddings); ``metric`` (``"r2"`` or ``"auc"``), ``value`` with ``low`` and ``high`` (95 %, patients
        resampled), and ``chance_low`` and ``chance_high``, the same with true values exchanged between patients.
    classes : DataFrame
        One row per ``reader`` (``"own head"``, if one was given, and ``"refitted head"``) and ``class``:
        ``auc_before``, ``auc``, ``change`` with ``low`` and ``high`` (patients resampled, paired); ``random_change``,
        ``random_low`` and ``random_high``, mean and range over random directions of the same variance; ``p``, the share
        of these removals, the concept's own among them, that change the AUC as much or more in either direction;
        ``p_holm``, corrected for the classes of the same reader (Holm). NaN if a class is too rare.
    """

    direction: ConceptDirection
    eraser: Eraser
    variance: float
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

    Everything is fitted on folds 1-8 and read on fold 10. The classes are read twice: by the model's own head, which is
    not adapted to the removal, and by a linear head that is fitted again (ridge regression on 0 and 1, with the
    strength chosen for the whole embeddings), which may use what is left. Both are compared with the removal of random
    directions of the same number and variance. A change that few of these reach (a small ``p_holm``) is specific to the
    concept.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        The input of the head, one row per record.
    records : DataFrame
        In the same order; columns ``patient_id``, ``fold`` and that of the target.
    labels : DataFrame of bool, shape (records, classes)
        In the same order.
    target : Target
        The concept: a quantity, or two classes.
    head : callable, optional
        From float32 embeddings of shape (records, features) to logits of shape (records, classes), the classes as in
        ``labels``.
    seed : int, default 0
        Seed of splits, random directions, resamples and exchanges.
    n_random : int, optional
        Number of removals of random directions; by default 100, or 20 per class if that is more.
    resamples : int, default 1000
        Bootstrap resamples of the patients, and exchanges.

    Returns
    -------
    ConceptEffect

    Raises
    ------
    EcgkitError
        As `concept_direction`; or if labels or the head's logits do not match, or ``n_random`` is not positive.

    References
    ----------
    Elazar et al., "Amnesic probing: behavioral explanation with amnesic counterfactuals", 2021, arXiv:2006.00995.
    """
    if len(labels) != len(records):
        raise EcgkitError(f"{len(labels)} rows of labels for {len(records)} records: pass one row per record")
    if n_random is not None and n_random < 1:
        raise EcgkitError(f"n_random is {n_random}: give 1 or more")
    direction = concept_direction(embeddings, records, target, seed=seed)
    task = make_task(direction.target, records)
    eraser = _erase_concept(embeddings[task.training], task)
    test = fold_rows(records)
    patients = records["patient_id"].to_numpy()[test]
    enough = _enough_patients(labels.iloc[test].to_numpy(dtype=np.float64, na_value=np.nan), patients)
    points = eraser.scaler.transform(embeddings[task.training]).astype(np.float64)
    _, axes = np.linalg.eigh(points.T @ points)
    number = n_random or max(N_RANDOM, PER_ROW * int(enough.sum()))
    random = [erase_random(eraser, axes, seed=seed + i) for i in range(number)]
    readers: dict[str, Reader] = {}
    if head is not None:
        readers[OWN_HEAD] = partial(_own_logits, head, embeddings[test], labels.shape[1])
    readers[REFITTED] = _RefittedHead(embeddings, records, labels, seed)
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    tables = [
        _class_table(reader, [eraser, *random], labels.iloc[test], enough, weights).assign(reader=name)
        for name, reader in readers.items()
    ]
    return ConceptEffect(
        direction=direction,
        eraser=eraser,
        variance=eraser.variance_removed(np.cov(points.T, bias=True).reshape(points.shape[1], -1)),
        probe=_probe_table(direction, task, eraser, embeddings, seed=seed, resamples=resamples),
        classes=pd.concat(tables, ignore_index=True),
    )


def own_head(trained: TrainedModel, classes: Sequence[str] | None = None) -> Head | None:
    """Return the head of a model, from embeddings to the logits of some classes; None if it also reads age and sex."""
    import torch

    model = trained.model.cpu().eval()
    if model.n_metadata:
        return None
    columns = [trained.classes.index(name) for name in trained.classes if classes is None or name in classes]

    def logits(embeddings: NDArray[np.float32]) -> NDArray[np.floating]:
        with torch.inference_mode():
            hidden = model.hidden(torch.from_numpy(np.asarray(embeddings, dtype=np.float32)))
            found: Floats = model.head(hidden).double().numpy()
        return found[:, columns]

    return logits


def _erase_concept(embeddings: NDArray[np.floating], task: Task) -> Eraser:
    """Remove what folds 1-8 know of the value and, for a quantity with bins, of these."""
    target, values = task.target, task.known[task.training]
    columns = values[:, None]
    if target.kind == "regression" and target.edges:
        columns = np.column_stack([columns, np.eye(len(target.edges) + 1)[target.bin(values)]])
    return erase_least_squares(embeddings, columns)


def _own_logits(head: Head, test: NDArray[np.floating], n_classes: int, eraser: Eraser | None) -> Floats:
    """Return the logits of the model's own head after a removal, or without one."""
    points = np.asarray(test, dtype=np.float32) if eraser is None else eraser(test)
    logits = np.asarray(head(points), dtype=np.float64)
    if logits.shape != (len(test), n_classes):
        raise EcgkitError(
            f"the head gives shape {logits.shape} for {len(test)} records and {n_classes} classes: pass the head of "
            "the model with these classes"
        )
    return logits


class _RefittedHead:
    """A ridge regression of every class, fitted again after each removal."""

    def __init__(
        self, embeddings: NDArray[np.floating], records: pd.DataFrame, labels: pd.DataFrame, seed: int
    ) -> None:
        training, test = training_rows(records), fold_rows(records)
        truth = labels.to_numpy(dtype=np.float64, na_value=np.nan)[training]
        truth = np.where(np.isnan(truth), np.nanmean(truth, axis=0), truth)  # an unknown label pulls to neither side
        problems = {str(i): Problem(column, is_class=False) for i, column in enumerate(truth.T)}
        probes = fit_linear(embeddings[training], problems, records["patient_id"].to_numpy()[training], seed=seed)
        self.alphas = np.array([probes[name].strength for name in problems])
        self.scaler = fit_scaler(embeddings[training])
        points = self.scaler.transform(embeddings).astype(np.float64)
        self.products = points[training].T @ points[training]
        self.along = points[training].T @ (truth - truth.mean(axis=0))
        self.test = points[test]

    def __call__(self, eraser: Eraser | None) -> Floats:
        """Return the outputs after a removal, or without one: shape (records, classes)."""
        keep = np.eye(len(self.products))
        if eraser is not None:
            stretch = (self.scaler.scale / eraser.scaler.scale)[:, None]
            # A removal is linear, so that the sums of products of what is left follow from those of the whole.
            keep -= (eraser.read * stretch) @ (eraser.removed / stretch).T
        products, along = keep.T @ self.products @ keep, keep.T @ self.along
        coefficients = np.empty_like(along)
        for alpha in np.unique(self.alphas):
            chosen = self.alphas == alpha
            penalised = products + alpha * np.eye(len(products))
            coefficients[:, chosen] = np.linalg.solve(penalised, along[:, chosen])
        return self.test @ (keep @ coefficients)


def _class_table(
    reader: Reader, erasers: list[Eraser], labels: pd.DataFrame, enough: NDArray[np.bool_], weights: Floats
) -> pd.DataFrame:
    """Read the classes before the removal, after it (the first eraser) and after those of random directions."""
    (eraser, *random), truth = erasers, labels.to_numpy(dtype=np.float64, na_value=np.nan)
    before, after = reader(None), reader(eraser)
    known = np.where(enough, 1.0, np.nan)
    auc_before, auc_after = known * auc(truth, before), known * auc(truth, after)
    change = auc_after - auc_before
    drawn = known * (auc(truth, after, weights=weights) - auc(truth, before, weights=weights))
    of_random = np.array([auc(truth, reader(one)) for one in random]) - auc_before
    reached = (np.abs(of_random) >= np.abs(change)).sum(axis=0)
    # With the removal itself among them (Phipson and Smyth 2010, arXiv:1603.05766).
    p = np.where(np.isfinite(change), (1 + reached) / (1 + len(random)), np.nan)
    low, high = np.transpose([interval(column) for column in drawn.T])
    return pd.DataFrame(
        {
            "class": labels.columns.astype(str),
            "auc_before": auc_before,
            "auc": auc_after,
            "change": change,
            "low": low,
            "high": high,
            "random_change": of_random.mean(axis=0),
            "random_low": of_random.min(axis=0),
            "random_high": of_random.max(axis=0),
            "p": p,
            "p_holm": holm(p),
        }
    )


def _enough_patients(truth: Floats, patients: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return for each class whether enough patients have it and enough do not, as for a probe of it."""
    sides = [[len(np.unique(patients[side])) for side in (column == 1, column == 0)] for column in truth.T]
    return np.array([min(counts) >= MIN_OF_EACH for counts in sides])


def _probe_table(
    direction: ConceptDirection,
    task: Task,
    eraser: Eraser,
    embeddings: NDArray[np.floating],
    *,
    seed: int,
    resamples: int,
) -> pd.DataFrame:
    """Read the concept before the removal, and after it with a probe fitted again."""
    patients = task.patients[task.test]
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    exchanged = exchange_patients(patients, resamples, seed)
    erased = eraser(embeddings[task.training]), eraser(embeddings[task.test])
    read = {
        "nothing": task.predict(direction.probe, embeddings[task.test]),
        "concept": task.predict(fit_task(task, erased[0], seed=seed), erased[1]),
    }
    rows = {}
    for removed, prediction in read.items():
        value, drawn = task.score(prediction, weights)
        low, high = interval(drawn)
        chance_low, chance_high = interval(permutation_scores(task.target, prediction, exchanged))
        row = {"metric": task.target.main_metric, "value": value, "low": low, "high": high}
        rows[removed] = row | {"chance_low": chance_low, "chance_high": chance_high}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("removed")
