"""Clusters matched one to one to label combinations, and scored as predictions on records held out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from ecgkit.feature_space.clusters.agreement import first_of_patients
from ecgkit.feature_space.clusters.fit import Clusters
from ecgkit.feature_space.standardize import training_rows
from ecgkit.stats import Bools
from ecgkit.stats.validation import known_true

N_PERMUTATIONS = 200


def match_clusters(clusters: Clusters, records: pd.DataFrame, labels: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Assign clusters to distinct label combinations on folds 1-8, and predict with them on fold 10.

    The assignment maximises the number of exact matches (the Hungarian method). Clusters left over if there are fewer
    combinations, clusters without a record in folds 1-8 and noise predict the most frequent combination. One record per
    patient is scored, the first in fold 10.

    Parameters
    ----------
    clusters : Clusters
        Clusters of these records, fitted on folds 1-8.
    records : DataFrame
        The records, in the same order; columns ``fold`` and ``patient_id``.
    labels : DataFrame of bool
        One column per class, in the same order.

    Returns
    -------
    scores : DataFrame
        Index ``"matched clusters"`` and ``"constant"`` (always the most frequent combination). Columns:
        ``exact_match``, the share of the records, and ``exact_match_p``, the one-sided p value among 200 shuffles of
        the clusters, NaN for the constant; ``jaccard`` and ``hamming_loss``, means over the records.
    combinations : Series of str
        By cluster the classes that it predicts, joined by ``+``; ``"none"`` for no class.

    Raises
    ------
    EcgkitError
        If there is no record in fold 10, or none in folds 1-8.

    References
    ----------
    Kuhn, "The Hungarian method for the assignment problem", Nav. Res. Logist. Q. 2 (1955),
    doi:10.1002/nav.3800020109. The scores: Godbole and Sarawagi, PAKDD 2004, doi:10.1007/978-3-540-24775-3_5.
    """
    truth, complete = known_true(labels), labels.notna().all(axis=1).to_numpy()
    training = np.flatnonzero(training_rows(records) & complete)
    combinations, of_record = np.unique(truth[training], axis=0, return_inverse=True)
    constant = combinations[np.bincount(of_record.ravel()).argmax()]
    counts = pd.crosstab(clusters.assigned[training], of_record.ravel())
    counts = counts[counts.index >= 0]
    predicted = np.repeat(constant[None], clusters.k + 1, axis=0)  # the last row is noise
    cluster, chosen = linear_sum_assignment(counts, maximize=True)
    predicted[counts.index[cluster]] = combinations[chosen]
    rows = first_of_patients(records)
    rows = rows[complete[rows]]
    assigned, true = clusters.assigned[rows], truth[rows]
    scores = pd.DataFrame(
        {
            "matched clusters": _scores(predicted[assigned], true),
            "constant": _scores(np.repeat(constant[None], len(rows), axis=0), true),
        }
    ).T
    random = np.random.default_rng(clusters.seed)
    shuffled = [predicted[random.permutation(assigned)] for _ in range(N_PERMUTATIONS)]
    reached = sum(_scores(one, true)["exact_match"] >= scores["exact_match"].iloc[0] for one in shuffled)
    scores["exact_match_p"] = [(1 + reached) / (1 + N_PERMUTATIONS), np.nan]
    names = ["+".join(labels.columns[vector].astype(str)) or "none" for vector in predicted[:-1]]
    return scores, pd.Series(names, name="combination", dtype="str")


def _scores(predicted: Bools, true: Bools) -> dict[str, float]:
    """Compare predicted with true label combinations; two empty ones are the same."""
    both, either = (predicted & true).sum(axis=1), (predicted | true).sum(axis=1)
    jaccard = np.divide(both, either, out=np.ones(len(true)), where=either > 0)
    wrong = predicted != true
    exact = float((~wrong.any(axis=1)).mean())
    return {"exact_match": exact, "jaccard": float(jaccard.mean()), "hamming_loss": float(wrong.mean())}
