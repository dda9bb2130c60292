"""Clusters matched to label vectors: each cluster predicts one, and the predictions are scored on records kept out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.feature_space.clusters.agreement import first_of_patients
from ecgkit.feature_space.clusters.fit import Clusters
from ecgkit.feature_space.clusters.tables import permuted_tables
from ecgkit.feature_space.standardize import training_rows
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS

SCORES = ("exact_match", "jaccard", "hamming_loss")
"""Shares of the records, or means over them; of the last a smaller value is better."""

RULES = ("one to one", "commonest", "majority", "constant")
"""How a cluster comes to its label vector; the last knows nothing of clusters."""


@dataclass(frozen=True, eq=False)
class Matching:
    """What each cluster predicts, and how good that is.

    Attributes
    ----------
    prototypes : DataFrame
        Index ``cluster``, 0 to k - 1. Columns: ``records`` of folds 1-8, and for each of `RULES` the classes that the
        cluster predicts, joined by ``+``; ``"none"`` for no class.
    scores : DataFrame
        Index: `RULES`. Columns: each of `SCORES`, and with ``_permuted``, ``_low`` and ``_high`` the mean and the
        percentiles 2.5 and 97.5 if the clusters are shuffled over the records; ``_p``, one-sided. NaN for the constant.
    n_records : int
        The number of records that were scored, one a patient.
    n_combinations : int
        The number of label combinations in folds 1-8.
    """

    prototypes: pd.DataFrame
    scores: pd.DataFrame
    n_records: int
    n_combinations: int


def match_clusters(
    clusters: Clusters,
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    objective: str = "exact_match",
    folds: tuple[int, ...] = (TEST_FOLD,),
    n_permutations: int = 200,
) -> Matching:
    """Match clusters to label vectors on folds 1-8, and predict with them on other folds.

    Four rules are compared. ``one to one``: the clusters are assigned to distinct label combinations so that the
    objective, summed over the records, is the best that any such assignment reaches (the Hungarian method; a cluster
    that takes its best first can leave the others worse off). ``commonest``: the cluster's own commonest combination.
    ``majority``: the classes that half of the cluster's records carry, or more. ``constant``: the commonest combination
    of all records, whatever the cluster. Clusters left over where there are fewer combinations, clusters without a
    record in folds 1-8 and noise predict the constant. One record a patient is scored, the first in the folds: the
    records of a patient look alike, and the permutations take records for independent.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records, fitted on folds 1-8.
    records : DataFrame
        The records, in the same order; columns ``fold`` and ``patient_id``.
    labels : DataFrame of bool
        One column a class, the same order.
    objective : str, default "exact_match"
        What the one-to-one assignment makes best: one of `SCORES`.
    folds : tuple of int, default (10,)
        The folds to predict, none of 1 to 8.
    n_permutations : int, default 200
        How often the clusters are shuffled over the predicted records.

    Returns
    -------
    Matching

    Raises
    ------
    EcgkitError
        If the objective is unknown, a fold to predict is one of 1 to 8, or there is no record in the folds.

    References
    ----------
    Kuhn, "The Hungarian method for the assignment problem", Nav. Res. Logist. Q. 2 (1955),
    doi:10.1002/nav.3800020109. The scores: Godbole and Sarawagi, PAKDD 2004, doi:10.1007/978-3-540-24775-3_5.
    """
    check_choice("objective", objective, SCORES)
    if set(folds) & set(TRAIN_FOLDS):
        raise EcgkitError(f"folds {folds} are partly those that the clusters were matched on: give 9 or 10")
    truth = labels.to_numpy(dtype=bool)
    training = np.flatnonzero(training_rows(records))
    combinations, counts = _count(truth[training], clusters.assigned[training], clusters.k)
    constant = combinations[counts.sum(axis=0).argmax()]
    shares = _shares(truth[training], clusters.assigned[training], clusters.k)
    seen = counts[:-1].sum(axis=1) > 0  # the last row is noise
    predicted = {
        "one to one": _one_to_one(counts[:-1], combinations, constant, objective),
        "commonest": np.where(seen[:, None], combinations[counts[:-1].argmax(axis=1)], constant),
        "majority": np.where(seen[:, None], shares >= 0.5, constant),
        "constant": np.repeat(constant[None], clusters.k, axis=0),
    }
    rows = first_of_patients(records, folds)
    there, found = _count(truth[rows], clusters.assigned[rows], clusters.k)
    permuted = permuted_tables(found, n_permutations, np.random.default_rng(clusters.seed))
    scores = {
        rule: _scores(np.vstack([prototypes, constant]), there, found, permuted)
        for rule, prototypes in predicted.items()
    }
    names = [str(name) for name in labels.columns]
    prototypes = {rule: [_name(vector, names) for vector in vectors] for rule, vectors in predicted.items()}
    return Matching(
        prototypes=pd.DataFrame({"records": counts[:-1].sum(axis=1), **prototypes}).rename_axis("cluster"),
        scores=_without_chance(pd.DataFrame.from_dict(scores, orient="index")),
        n_records=len(rows),
        n_combinations=len(combinations),
    )


def _count(
    truth: NDArray[np.bool_], assigned: NDArray[np.int64], k: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Give the distinct label combinations, and how often each occurs in each cluster; the last row is noise."""
    combinations, of_record = np.unique(truth, axis=0, return_inverse=True)
    cluster = np.where(assigned < 0, k, assigned)
    flat = np.bincount(cluster * len(combinations) + of_record.ravel(), minlength=(k + 1) * len(combinations))
    return combinations, flat.reshape(k + 1, len(combinations)).astype(np.int64)


def _shares(truth: NDArray[np.bool_], assigned: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Give the share of each class in each cluster, 0 in an empty one."""
    shares = np.zeros((k, truth.shape[1]))
    for cluster in range(k):
        members = truth[assigned == cluster]
        if len(members):
            shares[cluster] = members.mean(axis=0)
    return shares


def _one_to_one(
    counts: NDArray[np.int64], combinations: NDArray[np.bool_], constant: NDArray[np.bool_], objective: str
) -> NDArray[np.bool_]:
    """Assign clusters to distinct combinations; those left over predict the constant."""
    used = np.flatnonzero(counts.sum(axis=1))
    sign = -1 if objective == "hamming_loss" else 1
    gain = sign * counts[used] @ _similarity(combinations, combinations)[objective].T
    alone = sign * counts[used] @ _similarity(constant[None], combinations)[objective].T
    # As many times the constant as there are more clusters than combinations.
    left_over = np.repeat(alone, max(len(used) - len(combinations), 0), axis=1)
    cluster, chosen = linear_sum_assignment(np.hstack([gain, left_over]), maximize=True)
    predicted = np.repeat(constant[None], len(counts), axis=0)
    own = chosen < len(combinations)
    predicted[used[cluster[own]]] = combinations[chosen[own]]
    return predicted


def _similarity(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
    """Score each predicted label vector against each true one; two empty ones are the same."""
    # Products of matrices: with thousands of combinations there is no room for a third axis of classes.
    one, other = predicted.astype(np.float32), true.astype(np.float32)
    both = one @ other.T
    either = one.sum(axis=1)[:, None] + other.sum(axis=1) - both
    return {
        "exact_match": (both == either).astype(np.float32),
        "jaccard": np.where(either > 0, both / np.maximum(either, np.float32(1)), np.float32(1)),
        "hamming_loss": (either - both) / np.float32(true.shape[1]),
    }


def _scores(
    prototypes: NDArray[np.bool_],
    combinations: NDArray[np.bool_],
    found: NDArray[np.int64],
    permuted: NDArray[np.int64],
) -> dict[str, float]:
    """Average the scores over the records of a table of clusters and combinations, and over its permutations."""
    scores = {}
    total = found.sum()
    for name, similarity in _similarity(prototypes, combinations).items():
        observed = float((found * similarity).sum() / total)
        shuffled = (permuted * similarity).sum(axis=(1, 2)) / total
        sign = -1 if name == "hamming_loss" else 1
        low, high = np.percentile(shuffled, (2.5, 97.5)) if len(shuffled) else (float("nan"), float("nan"))
        at_least = int((sign * shuffled >= sign * observed - 1e-12).sum())
        scores[name] = observed
        scores[f"{name}_permuted"] = float(shuffled.mean()) if len(shuffled) else float("nan")
        scores |= {f"{name}_low": float(low), f"{name}_high": float(high)}
        scores[f"{name}_p"] = (1 + at_least) / (1 + len(shuffled)) if len(shuffled) else float("nan")
    return scores


def _without_chance(scores: pd.DataFrame) -> pd.DataFrame:
    """Leave out the permutations of the constant, which they cannot change."""
    scores.loc["constant", [column for column in scores if column not in SCORES]] = float("nan")
    return scores


def _name(vector: NDArray[np.bool_], classes: list[str]) -> str:
    """Name a label vector after its classes."""
    return "+".join(name for name, carries in zip(classes, vector, strict=True) if carries) or "none"
