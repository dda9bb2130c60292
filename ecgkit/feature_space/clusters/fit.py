"""Clusters of embeddings by KMeans, Ward's method and HDBSCAN, fitted on folds 1-8 and assigned to every record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from threadpoolctl import threadpool_limits

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.standardize import Scaler, check_embeddings, fit_scaler, fold_rows, training_rows
from ecgkit.stats.folds import TEST_FOLD

NOISE = -1
"""The cluster of a record that HDBSCAN assigns to none."""

MIN_SAMPLES = 5
"""The neighbour whose distance is HDBSCAN's measure of density."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters, fitted on folds 1-8 and assigned to every record.

    Attributes
    ----------
    assigned : ndarray of int64, shape (records,)
        The cluster of each record, 0 to k - 1, by falling number of the records that the clusters were fitted on; -1
        for a record in none (HDBSCAN only).
    centres : ndarray of float32, shape (k, features)
        Means of the standardised embeddings of folds 1-8; NaN for a cluster without a record there.
    scaler : Scaler
        Mean and scale of folds 1-8.
    seed : int
        The seed.
    method : str
        ``"KMeans"``, ``"Ward"`` or ``"HDBSCAN"``.
    n_fitted : int
        The number of records of folds 1-8 that the clusters were fitted on.
    n_dimensions : int
        Number of features or principal components that were clustered.
    """

    assigned: NDArray[np.int64]
    centres: NDArray[np.float32]
    scaler: Scaler
    seed: int
    method: str = "KMeans"
    n_fitted: int = 0
    n_dimensions: int = 0

    @property
    def k(self) -> int:
        """The number of clusters, noise not counted."""
        return len(self.centres)


def fit_clusters(
    embeddings: NDArray[np.floating], records: pd.DataFrame, *, k: int, seed: int, n_init: int = 10
) -> Clusters:
    """Fit KMeans on the standardised embeddings of folds 1-8 and assign every record to its nearest centre.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        The records, in the same order; column ``fold``.
    k : int
        Number of clusters.
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
        If ``k`` is not between 2 and the number of records in folds 1-8, or the embeddings do not match.
    """
    space = _space(embeddings, records, n_components=0, max_records=None, seed=seed)
    check_k(k, len(space.sample))
    model = fit_kmeans(space.points[space.sample], k=k, n_init=n_init, seed=seed)
    return space.clusters(model.predict(space.points).astype(np.int64), "KMeans")


def fit_kmeans(points: NDArray[np.float32], *, k: int, n_init: int, seed: int) -> KMeans:
    """Fit in one thread: the sums, and so the clusters, do not depend on the number of cores."""
    with threadpool_limits(limits=1):
        return KMeans(n_clusters=k, n_init=n_init, random_state=seed).fit(points)


def check_k(k: int, n_records: int) -> None:
    """Raise EcgkitError if ``k`` is not between 2 and the number of records."""
    if not 2 <= k <= n_records:
        raise EcgkitError(f"k is {k}: give a number of clusters from 2 to {n_records}, the records in folds 1-8")


def fit_ward(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    k: int,
    seed: int,
    max_records: int = 4000,
    n_components: int = 50,
) -> Clusters:
    """Cut the tree of Ward's method into clusters, and assign every other record to the nearest centre.

    The method needs memory and time that grow with the square of the records, so a random sample of folds 1-8 is
    merged, in the space of the principal components of folds 1-8.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        The records, in the same order; column ``fold``.
    k : int
        Number of clusters.
    seed : int
        Seed of the sample.
    max_records : int, default 4000
        Of more records in folds 1-8 a random sample of so many is merged.
    n_components : int, default 50
        Of more features so many principal components are taken; 0 takes the features.

    Returns
    -------
    Clusters
        The records of the sample keep the cluster of the tree.

    Raises
    ------
    EcgkitError
        If ``k`` is not between 2 and the number of records in the sample, or the embeddings do not match.

    References
    ----------
    Ward, "Hierarchical grouping to optimize an objective function", J. Am. Stat. Assoc. 58 (1963),
    doi:10.1080/01621459.1963.10500845.
    """
    space = _space(embeddings, records, n_components=n_components, max_records=max_records, seed=seed)
    points, sample = space.points, space.sample
    check_k(k, len(sample))
    with threadpool_limits(limits=1):
        found = AgglomerativeClustering(n_clusters=k, linkage="ward").fit_predict(points[sample])
        assigned = NearestCentroid().fit(points[sample], found).predict(points).astype(np.int64)
    assigned[sample] = found
    return space.clusters(assigned, "Ward")


def fit_hdbscan(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    seed: int,
    min_cluster_size: int = 50,
    max_records: int | None = None,
    n_components: int = 10,
) -> Clusters:
    """Find dense groups with HDBSCAN, and assign every other record to the cluster of its nearest neighbour.

    The number of clusters is found, and a record between the dense groups is in none: noise stays -1, and a record
    whose nearest neighbour is noise is noise. Density is hard to estimate in many dimensions, so few principal
    components are used.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        The records, in the same order; column ``fold``.
    seed : int
        Seed of the sample.
    min_cluster_size : int, default 50
        A smaller group is noise; of fewer than 200 records a quarter of them.
    max_records : int or None, default None
        Of more records in folds 1-8 a random sample of so many is taken; None takes all. The 17,084 of PTB-XL take
        seconds in 10 dimensions; the time grows faster than the number, and more with more dimensions.
    n_components : int, default 10
        Of more features so many principal components are taken; 0 takes the features.

    Returns
    -------
    Clusters
        ``k`` is 0 where nothing is dense enough, and every record is noise.

    Raises
    ------
    EcgkitError
        If ``min_cluster_size`` is below 2, there are fewer than two records in the sample, or the embeddings do not
        match.

    References
    ----------
    Campello, Moulavi and Sander, "Density-based clustering based on hierarchical density estimates", PAKDD 2013,
    doi:10.1007/978-3-642-37456-2_14.
    """
    space = _space(embeddings, records, n_components=n_components, max_records=max_records, seed=seed)
    points, sample = space.points, space.sample
    if min_cluster_size < 2 or len(sample) < 2:
        raise EcgkitError(f"min_cluster_size is {min_cluster_size} for {len(sample)} records: give 2 or more of both")
    size = min(min_cluster_size, max(2, len(sample) // 4))
    model = HDBSCAN(min_cluster_size=size, min_samples=min(MIN_SAMPLES, len(sample)), copy=True)
    with threadpool_limits(limits=1):
        found = model.fit_predict(points[sample])
        assigned = KNeighborsClassifier(n_neighbors=1).fit(points[sample], found).predict(points).astype(np.int64)
    assigned[sample] = found  # of two equal records one may be noise and the other not
    return space.clusters(assigned, "HDBSCAN")


def training_sample(records: pd.DataFrame, max_records: int | None, seed: int) -> NDArray[np.int64]:
    """Return the rows of a random sample of the records of folds 1-8, in order; of all if None or few enough."""
    if max_records is not None and max_records < 2:
        raise EcgkitError(f"max_records is {max_records}: give 2 or more")
    training = np.flatnonzero(training_rows(records))
    return np.sort(np.random.default_rng(seed).permutation(training)[:max_records])


def principal_components(points: NDArray[np.float32], training: NDArray[np.bool_], number: int) -> NDArray[np.float32]:
    """Project standardised embeddings onto components of the training records; 0 leaves the features as they are."""
    if number < 0:
        raise EcgkitError(f"n_components is {number}: give a number of components, or 0 for the features")
    if not 0 < number < min(points.shape[1], int(training.sum())):
        return points
    with threadpool_limits(limits=1):
        model = PCA(number, svd_solver="covariance_eigh").fit(points[training])
        return np.asarray(model.transform(points), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Space:
    """The records as input of a method: standardised, and projected if requested."""

    scaler: Scaler
    standardised: NDArray[np.float32]
    points: NDArray[np.float32]
    training: NDArray[np.bool_]
    sample: NDArray[np.int64]
    seed: int

    def clusters(self, assigned: NDArray[np.int64], method: str) -> Clusters:
        """Sort clusters by their size in the sample, and take their centres in folds 1-8."""
        k = int(assigned[self.sample].max()) + 1
        sizes = np.bincount(assigned[self.sample][assigned[self.sample] >= 0], minlength=k)
        renamed = np.append(np.argsort(np.argsort(-sizes, kind="stable")), NOISE)[assigned]  # -1 is the last
        members = [self.standardised[self.training & (renamed == cluster)] for cluster in range(k)]
        empty = np.full(self.standardised.shape[1], np.nan)
        centres = [one.mean(axis=0, dtype=np.float64) if len(one) else empty for one in members]
        return Clusters(
            assigned=renamed,
            centres=np.array(centres, dtype=np.float32).reshape(k, len(empty)),
            scaler=self.scaler,
            seed=self.seed,
            method=method,
            n_fitted=len(self.sample),
            n_dimensions=self.points.shape[1],
        )


def _space(
    embeddings: NDArray[np.floating], records: pd.DataFrame, *, n_components: int, max_records: int | None, seed: int
) -> _Space:
    """Standardise, project if requested, and draw the sample."""
    check_embeddings(embeddings, records)
    training = training_rows(records)
    scaler = fit_scaler(embeddings[training])
    standardised = scaler.transform(embeddings)
    points = principal_components(standardised, training, n_components)
    return _Space(scaler, standardised, points, training, training_sample(records, max_records, seed), seed)


def methods_table(
    clusterings: Mapping[str, Clusters], records: pd.DataFrame, *, folds: tuple[int, ...] | None = (TEST_FOLD,)
) -> pd.DataFrame:
    """Compare the clusters of several methods.

    Parameters
    ----------
    clusterings : mapping of str to Clusters
        Clusters of these records, by the name of the method.
    records : DataFrame
        The records, in the same order; column ``fold``.
    folds : tuple of int or None, default (10,)
        The folds to count; None for all.

    Returns
    -------
    DataFrame
        Index: the methods. Columns: ``fitted_on`` (records of folds 1-8), ``dimensions`` (features or principal
        components), ``clusters``, and in the folds ``largest`` and ``smallest`` (records of a cluster) and ``noise``
        (share of the records in no cluster).

    Raises
    ------
    EcgkitError
        If no record is in the folds.
    """
    rows = fold_rows(records, folds)
    table = {}
    for name, clusters in clusterings.items():
        sizes = np.bincount(clusters.assigned[rows][clusters.assigned[rows] >= 0], minlength=clusters.k)
        table[name] = {
            "fitted_on": clusters.n_fitted,
            "dimensions": clusters.n_dimensions,
            "clusters": clusters.k,
            "largest": int(sizes.max(initial=0)),
            "smallest": int(sizes.min()) if len(sizes) else 0,
            "noise": float((clusters.assigned[rows] == NOISE).mean()),
        }
    return pd.DataFrame.from_dict(table, orient="index")
