"""Clusters matched one to one to label combinations, and scored as predictions on records held out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.clusters.agreement import first_of_patients, permuted_tables
from ecgkit.feature_space.clusters.fit import Clusters
from ecgkit.feature_space.standardize import training_rows
from ecgkit.stats import Bools, Floats
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS
from ecgkit.stats.validation import known_true

SCORES = ("exact_match", "jaccard", "hamming_loss")
"""Shares of the records, or means over them; of the last a smaller value is better."""


def match_clusters(
    clusters: Clusters,
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    folds: tuple[int, ...] = (TEST_FOLD,),
    n_permutations: int = 200,
) -> tuple[pd.DataFrame, pd.Series]:
    """Assign clusters to distinct label combinations on folds 1-8, and predict with them on other folds.

    The assignment maximises the number of exact matches (the Hungarian method). Clusters left over if there are fewer
    combinations, clusters without a record in folds 1-8 and noise predict the most frequent combination. One record per
    patient is scored, the first in the folds.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records, fitted on folds 1-8.
    records : DataFrame
        The records, in the same order; columns ``fold`` and ``patient_id``.
    labels : DataFrame of bool
        One column per class, in the same order.
    folds : tuple of int, default (10,)
        The folds to predict, none of 1 to 8.
    n_permutations : int, default 200
        Shuffles of the clusters over the predicted records.

    Returns
    -------
    scores : DataFrame
        Index ``"matched clusters"`` and ``"constant"`` (always the most frequent combination). Columns: each of
        `SCORES`, and with ``_permuted`` and ``_p`` the mean over the permutations and the one-sided p value, NaN for
        the constant.
    combinations : Series of str
        By cluster the classes that it predicts, joined by ``+``; ``"none"`` for no class.

    Raises
    ------
    EcgkitError
        If a fold to predict is one of 1 to 8, or there is no record in the folds.

    References
    ----------
    Kuhn, "The Hungarian method for the assignment problem", Nav. Res. Logist. Q. 2 (1955),
    doi:10.1002/nav.3800020109. The scores: Godbole and Sarawagi, PAKDD 2004, doi:10.1007/978-3-540-24775-3_5.
    """
    if set(folds) & set(TRAIN_FOLDS):
        raise EcgkitError(f"folds {folds} include training folds: give 9 or 10")
    truth, complete = known_true(labels), labels.notna().all(axis=1).to_numpy()
    training = np.flatnonzero(training_rows(records) & complete)
    combinations, counts = _count(truth[training], clusters.assigned[training], clusters.k)
    constant = combinations[counts.sum(axis=0).argmax()]
    predicted = np.repeat(constant[None], clusters.k + 1, axis=0)  # the last row is noise
    used = np.flatnonzero(counts[:-1].sum(axis=1))
    # As many times the constant as there are more clusters than combinations.
    left_over = np.repeat(
        _similarity(constant[None], combinations)["exact_match"], max(len(used) - len(combinations), 0), 0
    )
    gain = counts[used] @ np.concatenate([np.eye(len(combinations)), left_over]).T
    cluster, chosen = linear_sum_assignment(gain, maximize=True)
    own = chosen < len(combinations)
    predicted[used[cluster[own]]] = combinations[chosen[own]]
    rows = first_of_patients(records, folds)
    rows = rows[complete[rows]]
    there, found = _count(truth[rows], clusters.assigned[rows], clusters.k)
    permuted = permuted_tables(found, n_permutations, np.random.default_rng(clusters.seed))
    scores = pd.DataFrame.from_dict(
        {
            "matched clusters": _scores(predicted, there, found, permuted),
            "constant": _scores(np.repeat(constant[None], clusters.k + 1, axis=0), there, found, permuted[:0]),
        },
        orient="index",
    )
    names = [str(name) for name in labels.columns]
    return scores, pd.Series([_name(vector, names) for vector in predicted[:-1]], name="combination")


def _count(truth: Bools, assigned: NDArray[np.int64], k: int) -> tuple[Bools, NDArray[np.int64]]:
    """Return the distinct label combinations, and how often each occurs in each cluster; the last row is noise."""
    combinations, of_record = np.unique(truth, axis=0, return_inverse=True)
    cluster = np.where(assigned < 0, k, assigned)
    flat = np.bincount(cluster * len(combinations) + of_record.ravel(), minlength=(k + 1) * len(combinations))
    return combinations, flat.reshape(k + 1, len(combinations)).astype(np.int64)


def _similarity(predicted: Bools, true: Bools) -> dict[str, NDArray[np.float32]]:
    """Score each predicted label vector against each true one; two empty ones are the same."""
    # Products of matrices: with thousands of combinations a third axis of classes would not fit into memory.
    one, other = predicted.astype(np.float32), true.astype(np.float32)
    both = one @ other.T
    either = one.sum(axis=1)[:, None] + other.sum(axis=1) - both
    return {
        "exact_match": (both == either).astype(np.float32),
        "jaccard": np.where(either > 0, both / np.maximum(either, np.float32(1)), np.float32(1)),
        "hamming_loss": (either - both) / np.float32(true.shape[1]),
    }


def _scores(
    predicted: Bools, combinations: Bools, found: NDArray[np.int64], permuted: NDArray[np.int64]
) -> dict[str, float]:
    """Average the scores over the records of a table of clusters and combinations, and over its permutations."""
    scores = {}
    for name, similarity in _similarity(predicted, combinations).items():
        scores[name] = float((found * similarity).sum() / found.sum())
        shuffled: Floats = (permuted * similarity).sum(axis=(1, 2)) / found.sum()
        sign = -1 if name == "hamming_loss" else 1
        reached = int((sign * shuffled >= sign * scores[name] - 1e-12).sum())
        scores[f"{name}_permuted"] = float(shuffled.mean()) if len(shuffled) else float("nan")
        scores[f"{name}_p"] = (1 + reached) / (1 + len(shuffled)) if len(shuffled) else float("nan")
    return scores


def _name(vector: Bools, classes: list[str]) -> str:
    """Return the name of a label combination."""
    return "+".join(name for name, carries in zip(classes, vector, strict=True) if carries) or "none"
