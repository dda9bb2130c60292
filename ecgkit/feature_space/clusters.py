"""Clusters of embeddings, and how far they agree with classes of which a record may carry several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.parts import Scaler, check_embeddings, fit_scaler, fold_rows, standardise, training_rows
from ecgkit.store import TEST_FOLD

EXACTLY_ONE = "exactly one class"
"""The row of `cluster_agreement` for the records that carry one class and no other."""

ALL_RECORDS = "all"
"""The row of `cluster_composition` for all clusters together."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """KMeans clusters, fitted on folds 1-8 and assigned to every record.

    Attributes
    ----------
    assigned : ndarray of int64, shape (records,)
        The cluster of each record, 0 to k - 1; cluster 0 holds the most records of folds 1-8, then falling.
    centres : ndarray of float32, shape (k, features)
        Centres of the standardised embeddings.
    scaler : Scaler
        Mean and scale of folds 1-8.
    inertia : float
        Sum of the squared distances of the records of folds 1-8 to their centres, in standard deviations squared.
    seed : int
        The seed.
    """

    assigned: NDArray[np.int64]
    centres: NDArray[np.float32]
    scaler: Scaler
    inertia: float
    seed: int

    @property
    def k(self) -> int:
        """The number of clusters."""
        return len(self.centres)


def fit_clusters(
    embeddings: NDArray[np.floating], records: pd.DataFrame, *, k: int, seed: int, n_init: int = 10
) -> Clusters:
    """Fit KMeans on the standardised embeddings of folds 1-8 and assign every record to its nearest centre.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        The records, in the same order; column ``fold``.
    k : int
        Number of clusters; the number of classes is where to start.
    seed : int
        Seed of the starts.
    n_init : int, default 10
        Number of starts; the one with the lowest inertia is kept.

    Returns
    -------
    Clusters

    Raises
    ------
    EcgkitError
        If ``k`` is not between 2 and the number of records in folds 1-8, or the embeddings are not as they should be.
    """
    check_embeddings(embeddings, records)
    training = training_rows(records)
    _check_k(k, int(training.sum()))
    scaler = fit_scaler(embeddings[training])
    points = scaler.transform(embeddings)
    model = _fit_kmeans(points[training], k, n_init, seed)
    order = np.argsort(-np.bincount(model.labels_, minlength=k), kind="stable")
    rank = np.empty(k, dtype=np.int64)
    rank[order] = np.arange(k)
    return Clusters(
        assigned=rank[model.predict(points)],
        centres=model.cluster_centers_[order].astype(np.float32),
        scaler=scaler,
        inertia=float(model.inertia_),
        seed=seed,
    )


def _fit_kmeans(points: NDArray[np.float32], k: int, n_init: int, seed: int) -> KMeans:
    """Fit in one thread: the sums, and so the clusters, do not depend on the number of cores."""
    with threadpool_limits(limits=1):
        return KMeans(n_clusters=k, n_init=n_init, random_state=seed).fit(points)


def _check_k(k: int, n_records: int) -> None:
    """Refuse a number of clusters that cannot be had."""
    if not 2 <= k <= n_records:
        raise EcgkitError(f"k is {k}: give a number of clusters from 2 to {n_records}, the records in folds 1-8")


def k_selection(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    ks: Sequence[int] = tuple(range(2, 13)),
    seed: int,
    n_init: int = 3,
    max_records: int = 5000,
) -> pd.DataFrame:
    """Fit KMeans for several numbers of clusters.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        The records, in the same order; column ``fold``. Only folds 1-8 are looked at.
    ks : sequence of int, default 2 to 12
        Numbers of clusters.
    seed : int
        Seed of the starts and of the sample.
    n_init : int, default 3
        Number of starts.
    max_records : int, default 5000
        Of more records a random sample of so many is taken, the same for each k; the cost of the silhouette grows with
        their square.

    Returns
    -------
    DataFrame
        One row a number of clusters: ``k``, ``inertia`` (the sum over these records), ``silhouette`` (-1 to 1,
        higher is better separated).

    Raises
    ------
    EcgkitError
        If a ``k`` is not between 2 and the number of records in folds 1-8, or the embeddings are not as they should be.

    References
    ----------
    Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", J. Comput.
    Appl. Math. 20 (1987), doi:10.1016/0377-0427(87)90125-7.
    """
    training = standardise(embeddings, records)[training_rows(records)]
    points = training[np.sort(np.random.default_rng(seed).permutation(len(training))[:max_records])]
    rows = []
    for k in ks:
        _check_k(k, len(points))
        model = _fit_kmeans(points, k, n_init, seed)
        can = 1 < len(np.unique(model.labels_)) < len(points)
        silhouette = float(silhouette_score(points, model.labels_)) if can else float("nan")
        rows.append({"k": k, "inertia": float(model.inertia_), "silhouette": silhouette})
    return pd.DataFrame(rows)


def purity(assigned: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Give the share of the records that are of the commonest kind of their cluster.

    Parameters
    ----------
    assigned : ndarray of int, shape (records,)
        Clusters, counted from 0.
    truth : ndarray of int or bool, shape (records,)
        Kinds, counted from 0.

    Returns
    -------
    float
        Between the share of the commonest kind of all and 1; NaN without records.

    References
    ----------
    Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 16.3, 2008.
    """
    if not len(truth):
        return float("nan")
    kinds = int(truth.max()) + 1
    table = np.bincount(np.asarray(assigned, np.int64) * kinds + truth, minlength=(int(assigned.max()) + 1) * kinds)
    return float(table.reshape(-1, kinds).max(axis=1).sum() / len(truth))


def agreement(
    assigned: NDArray[np.integer], truth: NDArray[np.integer], *, seed: int, n_permutations: int = 200
) -> dict[str, float]:
    """Say how far clusters agree with one partition of the same records, and what chance alone would give.

    Parameters
    ----------
    assigned : ndarray of int, shape (records,)
        Clusters, counted from 0.
    truth : ndarray of int or bool, shape (records,)
        Kinds, counted from 0.
    seed : int
        Seed of the permutations.
    n_permutations : int, default 200
        How often the kinds are shuffled over the records for the purity that chance gives.

    Returns
    -------
    dict of str to float
        ``ari`` and ``ami``, 0 for chance and 1 for the same partition; ``purity``, which nothing corrects for chance,
        beside ``purity_majority`` (of one single cluster) and ``purity_permuted`` (mean over the permutations). All
        NaN if the records are fewer than two or all of one kind.

    References
    ----------
    Hubert and Arabie, "Comparing partitions", J. Classification 2 (1985), doi:10.1007/BF01908075; Vinh, Epps and
    Bailey, J. Mach. Learn. Res. 11 (2010), 2837-2854.
    """
    names = ("ari", "ami", "purity", "purity_majority", "purity_permuted")
    if len(truth) < 2 or len(np.unique(truth)) < 2:
        return dict.fromkeys(names, float("nan"))
    kinds = np.asarray(truth, dtype=np.int64)
    random = np.random.default_rng(seed)
    permuted = [purity(assigned, random.permutation(kinds)) for _ in range(n_permutations)]
    values = (
        adjusted_rand_score(kinds, assigned),
        adjusted_mutual_info_score(kinds, assigned),
        purity(assigned, kinds),
        np.bincount(kinds).max() / len(kinds),
        np.mean(permuted) if permuted else float("nan"),
    )
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def cluster_agreement(
    clusters: Clusters,
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    n_permutations: int = 200,
) -> pd.DataFrame:
    """Compare clusters with classes of which a record may carry several.

    A partition cannot agree with labels that overlap, so the question is put in two ways that are well defined: for
    each class alone, clusters against "carries it or not" over all records; and for the records with exactly one
    class, clusters against that class. The records with several classes are not in the second.

    Parameters
    ----------
    clusters : Clusters
        What `fit_clusters` gave for these records.
    records : DataFrame
        The records, in the same order; column ``fold``.
    labels : DataFrame of bool
        One column a class, the same order.
    folds : tuple of int or None, default (10,)
        The folds to read; None for all.
    n_permutations : int, default 200
        As `agreement`.

    Returns
    -------
    DataFrame
        Index: the classes, then ``"exactly one class"``. Columns: ``records`` compared, ``positives`` (that carry the
        class; with exactly one class, the same as ``records``), then those of `agreement`.

    Raises
    ------
    EcgkitError
        If no record is in the folds.
    """
    rows = fold_rows(records, folds)
    assigned, truth = clusters.assigned[rows], labels.to_numpy(dtype=bool)[rows]
    table = {
        str(name): {
            "records": len(rows),
            "positives": int(truth[:, i].sum()),
            **agreement(assigned, truth[:, i], seed=clusters.seed, n_permutations=n_permutations),
        }
        for i, name in enumerate(labels.columns)
    }
    single = truth.sum(axis=1) == 1
    table[EXACTLY_ONE] = {
        "records": int(single.sum()),
        "positives": int(single.sum()),
        **agreement(assigned[single], truth[single].argmax(axis=1), seed=clusters.seed, n_permutations=n_permutations),
    }
    return pd.DataFrame.from_dict(table, orient="index").astype({"records": int, "positives": int})


def metadata_agreement(
    clusters: Clusters,
    records: pd.DataFrame,
    columns: Sequence[str] = ("device", "sex"),
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    n_permutations: int = 200,
) -> pd.DataFrame:
    """Compare clusters with columns of words, such as the recording device, which may be what they follow instead.

    Parameters
    ----------
    clusters : Clusters
        What `fit_clusters` gave for these records.
    records : DataFrame
        The records, in the same order; ``fold`` and the columns asked for. Unknown values are left out.
    columns : sequence of str, default device and sex
        The columns.
    folds : tuple of int or None, default (10,)
        The folds to read; None for all.
    n_permutations : int, default 200
        As `agreement`.

    Returns
    -------
    DataFrame
        Index: the columns. Columns: ``records`` with a known value, ``kinds`` among them, then those of `agreement`.

    Raises
    ------
    EcgkitError
        If no record is in the folds.
    """
    rows = fold_rows(records, folds)
    table = {}
    for column in columns:
        values = records[column].iloc[rows]
        known = values.notna().to_numpy()
        codes, kinds = pd.factorize(values[known], sort=True)
        compared = agreement(clusters.assigned[rows][known], codes, seed=clusters.seed, n_permutations=n_permutations)
        table[column] = {"records": int(known.sum()), "kinds": len(kinds), **compared}
    return pd.DataFrame.from_dict(table, orient="index").astype({"records": int, "kinds": int})


def cluster_composition(
    clusters: Clusters,
    records: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
) -> pd.DataFrame:
    """Count what each cluster holds.

    Parameters
    ----------
    clusters : Clusters
        What `fit_clusters` gave for these records.
    records : DataFrame
        The records, in the same order; column ``fold``.
    labels : DataFrame of bool
        One column a class, the same order.
    folds : tuple of int or None, default (10,)
        The folds to read; None for all.

    Returns
    -------
    DataFrame
        Index ``cluster``: 0 to k - 1, then ``"all"``. Column ``records``, then for each class the number of the
        cluster's records that carry it; a record with several classes counts for each.

    Raises
    ------
    EcgkitError
        If no record is in the folds.
    """
    rows = fold_rows(records, folds)
    truth = labels.iloc[rows].astype(np.int64).reset_index(drop=True)
    counts = truth.groupby(clusters.assigned[rows]).sum().reindex(range(clusters.k), fill_value=0)
    counts.insert(0, "records", np.bincount(clusters.assigned[rows], minlength=clusters.k))
    everything = counts.sum().to_frame(ALL_RECORDS).T
    return pd.concat([counts, everything]).rename_axis("cluster")
