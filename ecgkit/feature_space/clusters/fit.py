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

NOISE = -1
"""The cluster of a record that HDBSCAN assigns to none."""

WARD_RECORDS, WARD_COMPONENTS = 4000, 50
"""Ward's method takes memory and time that grow with the square of the records."""

HDBSCAN_COMPONENTS = 10
"""Density is hard to estimate in many dimensions."""

MIN_CLUSTER_SIZE, MIN_SAMPLES = 50, 5
"""Of HDBSCAN: a smaller group is noise, and the neighbour whose distance is the measure of density."""


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
    n_fitted : int
        The number of records of folds 1-8 that the clusters were fitted on.
    n_dimensions : int
        Number of features or principal components that were clustered.
    """

    assigned: NDArray[np.int64]
    centres: NDArray[np.float32]
    scaler: Scaler
    seed: int
    n_fitted: int = 0
    n_dimensions: int = 0

    @property
    def k(self) -> int:
        """The number of clusters, noise not counted."""
        return len(self.centres)


def fit_clusters(embeddings: NDArray[np.floating], records: pd.DataFrame, *, k: int, seed: int) -> Clusters:
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
        Seed of the ten starts, of which the one with the lowest inertia is kept.

    Returns
    -------
    Clusters

    Raises
    ------
    EcgkitError
        If ``k`` is not between 2 and the number of records in folds 1-8, or the embeddings do not match.
    """
    space = _Space(embeddings, records, seed)
    check_k(k, len(space.sample))
    model = fit_kmeans(space.points[space.sample], k=k, n_init=10, seed=seed)
    return space.clusters(model.predict(space.points).astype(np.int64))


def fit_kmeans(points: NDArray[np.float32], *, k: int, n_init: int, seed: int) -> KMeans:
    """Fit in one thread: the sums, and so the clusters, do not depend on the number of cores."""
    with threadpool_limits(limits=1):
        return KMeans(n_clusters=k, n_init=n_init, random_state=seed).fit(points)


def check_k(k: int, n_records: int) -> None:
    """Raise EcgkitError if ``k`` is not between 2 and the number of records."""
    if not 2 <= k <= n_records:
        raise EcgkitError(f"k is {k}: give a number of clusters from 2 to {n_records}, the records in folds 1-8")


def fit_ward(embeddings: NDArray[np.floating], records: pd.DataFrame, *, k: int, seed: int) -> Clusters:
    """Cut the tree of Ward's method into clusters, and assign every other record to the nearest centre.

    A random sample of 4,000 records of folds 1-8 is merged, in the space of their first 50 principal components.

    Parameters
    ----------
    embeddings, records, k
        As of `fit_clusters`.
    seed : int
        Seed of the sample.

    Returns
    -------
    Clusters
        The records of the sample keep the cluster of the tree.

    Raises
    ------
    EcgkitError
        As `fit_clusters`.

    References
    ----------
    Ward, "Hierarchical grouping to optimize an objective function", J. Am. Stat. Assoc. 58 (1963),
    doi:10.1080/01621459.1963.10500845.
    """
    space = _Space(embeddings, records, seed, n_components=WARD_COMPONENTS, max_records=WARD_RECORDS)
    points, sample = space.points, space.sample
    check_k(k, len(sample))
    with threadpool_limits(limits=1):
        found = AgglomerativeClustering(n_clusters=k, linkage="ward").fit_predict(points[sample])
        assigned = NearestCentroid().fit(points[sample], found).predict(points).astype(np.int64)
    assigned[sample] = found
    return space.clusters(assigned)


def fit_hdbscan(embeddings: NDArray[np.floating], records: pd.DataFrame, *, seed: int) -> Clusters:
    """Find dense groups with HDBSCAN, and assign every other record to the cluster of its nearest neighbour.

    The number of clusters is found, and a record between the dense groups is in none: noise stays -1, and a record
    whose nearest neighbour is noise is noise. The first 10 principal components of folds 1-8 are clustered. A group of
    fewer than 50 records is noise, or of fewer than a quarter of them where they are few.

    Parameters
    ----------
    embeddings, records
        As of `fit_clusters`.
    seed : int
        The seed of later permutations; HDBSCAN has none.

    Returns
    -------
    Clusters
        ``k`` is 0 where nothing is dense enough, and every record is noise.

    Raises
    ------
    EcgkitError
        If there are fewer than two records in folds 1-8, or the embeddings do not match.

    References
    ----------
    Campello, Moulavi and Sander, "Density-based clustering based on hierarchical density estimates", PAKDD 2013,
    doi:10.1007/978-3-642-37456-2_14.
    """
    space = _Space(embeddings, records, seed, n_components=HDBSCAN_COMPONENTS)
    points, sample = space.points, space.sample
    check_k(2, len(sample))
    size = min(MIN_CLUSTER_SIZE, max(2, len(sample) // 4))
    model = HDBSCAN(min_cluster_size=size, min_samples=min(MIN_SAMPLES, len(sample)), copy=True)
    with threadpool_limits(limits=1):
        found = model.fit_predict(points[sample])
        assigned = KNeighborsClassifier(n_neighbors=1).fit(points[sample], found).predict(points).astype(np.int64)
    assigned[sample] = found  # of two equal records one may be noise and the other not
    return space.clusters(assigned)


class _Space:
    """The records as input of a method: standardised, projected if requested, and a sample of folds 1-8."""

    def __init__(
        self,
        embeddings: NDArray[np.floating],
        records: pd.DataFrame,
        seed: int,
        *,
        n_components: int = 0,
        max_records: int | None = None,
    ) -> None:
        check_embeddings(embeddings, records)
        self.training, self.seed = training_rows(records), seed
        self.scaler = fit_scaler(embeddings[self.training])
        self.standardised = self.scaler.transform(embeddings)
        self.points = principal_components(self.standardised, self.training, n_components)
        self.sample = training_sample(self.training, max_records, seed)

    def clusters(self, assigned: NDArray[np.int64]) -> Clusters:
        """Sort clusters by their size in the sample, and take their centres in folds 1-8."""
        k = int(assigned[self.sample].max()) + 1
        sizes = np.bincount(assigned[self.sample][assigned[self.sample] >= 0], minlength=k)
        renamed = np.append(np.argsort(np.argsort(-sizes, kind="stable")), NOISE)[assigned]  # -1 is the last
        centres = np.full((k, self.standardised.shape[1]), np.nan, dtype=np.float32)
        for cluster in np.unique(renamed[self.training & (renamed >= 0)]):
            centres[cluster] = self.standardised[self.training & (renamed == cluster)].mean(axis=0, dtype=np.float64)
        return Clusters(renamed, centres, self.scaler, self.seed, len(self.sample), self.points.shape[1])


def training_sample(training: NDArray[np.bool_], max_records: int | None, seed: int) -> NDArray[np.int64]:
    """Return the rows of a random sample of the records of folds 1-8, in order; of all if None or few enough."""
    return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(training))[:max_records])


def principal_components(points: NDArray[np.float32], training: NDArray[np.bool_], number: int) -> NDArray[np.float32]:
    """Project standardised embeddings onto components of the training records; 0 leaves the features as they are."""
    if not 0 < number < min(points.shape[1], int(training.sum())):
        return points
    with threadpool_limits(limits=1):
        model = PCA(number, svd_solver="covariance_eigh").fit(points[training])
        return np.asarray(model.transform(points), dtype=np.float32)


def methods_table(clusterings: Mapping[str, Clusters], records: pd.DataFrame) -> pd.DataFrame:
    """Compare the clusters of several methods.

    Parameters
    ----------
    clusterings : mapping of str to Clusters
        Clusters of these records, by the name of the method.
    records : DataFrame
        The records, in the same order; column ``fold``.

    Returns
    -------
    DataFrame
        Index: the methods. Columns: ``fitted_on`` (records of folds 1-8), ``dimensions`` (features or principal
        components), ``clusters``, and in fold 10 ``largest`` and ``smallest`` (records of a cluster) and ``noise``
        (share of the records in no cluster).

    Raises
    ------
    EcgkitError
        If no record is in fold 10.
    """
    table = {}
    for name, clusters in clusterings.items():
        assigned = clusters.assigned[fold_rows(records)]
        sizes = np.bincount(assigned[assigned >= 0], minlength=clusters.k)
        table[name] = {
            "fitted_on": clusters.n_fitted,
            "dimensions": clusters.n_dimensions,
            "clusters": clusters.k,
            "largest": int(sizes.max(initial=0)),
            "smallest": int(sizes.min()) if len(sizes) else 0,
            "noise": float((assigned == NOISE).mean()),
        }
    return pd.DataFrame.from_dict(table, orient="index")
