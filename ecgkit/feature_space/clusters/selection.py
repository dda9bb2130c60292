"""How many clusters: inertia, silhouette and stability of KMeans over a range of k."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score

from ecgkit.feature_space.clusters.fit import check_k, fit_kmeans, principal_components, training_sample
from ecgkit.feature_space.standardize import standardize, training_rows
from ecgkit.stats.identifiers import patient_codes

COLUMNS = (
    *("k", "inertia", "silhouette", "stability", "stability_low", "stability_high"),
    *("silhouette_reference", "stability_reference"),
)

N_INIT, N_COMPONENTS = 3, 50

MAX_RECORDS = 3000
"""The cost of the silhouette grows with their square."""


def k_selection(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    ks: Sequence[int] = tuple(range(2, 13)),
    seed: int,
    n_repeats: int = 8,
) -> pd.DataFrame:
    """Fit KMeans for several numbers of clusters, and repeatedly for each, to measure its stability.

    A number of clusters is stable if fits on bootstraps of patients, which assign all records, find the same clusters.
    Two solutions are compared by the adjusted Rand index. Few clusters can be stable, and have a silhouette above 0,
    without any structure: both are compared with those of a normal distribution with the same covariance, which has no
    clusters. Of more than 3,000 records a random sample is taken, the same for each number, and of more than 50
    features the first 50 principal components.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record.
    records : DataFrame
        The records, in the same order; columns ``fold`` and ``patient_id``. Only folds 1-8 are used.
    ks : sequence of int, default 2 to 12
        Numbers of clusters.
    seed : int
        Seed of the starts, the sample and the bootstraps.
    n_repeats : int, default 8
        Number of bootstraps; with fewer than 2 the stability is NaN.

    Returns
    -------
    DataFrame
        One row per number of clusters: ``k``, ``inertia`` (the sum over these records), ``silhouette`` (-1 to 1, higher
        is better separated), ``stability``, the mean adjusted Rand index of pairs of solutions, 1 for the same and 0
        for chance, with ``stability_low`` and ``stability_high``, the percentiles 2.5 and 97.5 of the pairs, and
        ``silhouette_reference`` and ``stability_reference``, those of the normal distribution.

    Raises
    ------
    EcgkitError
        If a ``k`` is not between 2 and the number of records in folds 1-8, or the embeddings do not match.

    References
    ----------
    Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", J. Comput.
    Appl. Math. 20 (1987), doi:10.1016/0377-0427(87)90125-7. Ben-Hur, Elisseeff and Guyon, "A stability based method
    for discovering structure in clustered data", Pac. Symp. Biocomput. 2002. Hennig, "Cluster-wise assessment of
    cluster stability", Comput. Stat. Data Anal. 52 (2007), doi:10.1016/j.csda.2006.11.025. von Luxburg, "Clustering
    stability: an overview", Found. Trends Mach. Learn. 2 (2010), doi:10.1561/2200000008. The reference: Tibshirani,
    Walther and Hastie, "Estimating the number of clusters in a data set via the gap statistic", J. R. Stat. Soc. B 63
    (2001), doi:10.1111/1467-9868.00293, with another distribution.
    """
    training = training_rows(records)
    sample = training_sample(training, MAX_RECORDS, seed)
    points = principal_components(standardize(embeddings, records), training, N_COMPONENTS)[sample]
    patients = records["patient_id"].to_numpy()[sample]
    normal = _without_clusters(points, seed)
    rows = []
    for k in ks:
        check_k(k, len(points))
        model, of_normal = (fit_kmeans(table, k=k, n_init=N_INIT, seed=seed) for table in (points, normal))
        stability, reference = (_stability(table, patients, k, seed, n_repeats) for table in (points, normal))
        silhouettes = _silhouette(points, model.labels_), _silhouette(normal, of_normal.labels_)
        rows.append((k, float(model.inertia_), silhouettes[0], *stability, silhouettes[1], reference[0]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _silhouette(points: NDArray[np.float32], found: NDArray[np.integer]) -> float:
    """Return the mean silhouette; NaN for one cluster, or as many as points."""
    can = 1 < len(np.unique(found)) < len(points)
    return float(silhouette_score(points, found)) if can else float("nan")


def _without_clusters(points: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Draw as many points from the normal distribution with the same mean and covariance."""
    mean, covariance = points.mean(axis=0, dtype=np.float64), np.atleast_2d(np.cov(points, rowvar=False))
    drawn = np.random.default_rng(seed).multivariate_normal(mean, covariance, len(points), method="eigh")
    return drawn.astype(np.float32)


def _stability(
    points: NDArray[np.float32], patients: NDArray[np.generic], k: int, seed: int, number: int
) -> tuple[float, float, float]:
    """Fit on bootstraps of patients; return mean and percentiles of the adjusted Rand index of pairs of solutions."""
    of_record = patient_codes(patients)
    n_patients = int(of_record.max()) + 1
    random = np.random.default_rng(seed)
    solutions = []
    for _ in range(number):
        drawn = random.multinomial(n_patients, np.full(n_patients, 1 / n_patients))
        rows = np.repeat(np.arange(len(points)), drawn[of_record])
        check_k(k, len(rows))
        # One seed for all: only the records differ.
        solutions.append(fit_kmeans(points[rows], k=k, n_init=N_INIT, seed=seed).predict(points))
    pairs = [adjusted_rand_score(one, other) for one, other in combinations(solutions, 2)]
    if not pairs:
        return float("nan"), float("nan"), float("nan")
    low, high = np.percentile(pairs, (2.5, 97.5))
    return float(np.mean(pairs)), float(low), float(high)
