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


def k_selection(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    ks: Sequence[int] = tuple(range(2, 13)),
    seed: int,
    n_init: int = 3,
    max_records: int = 3000,
    n_components: int = 50,
    n_repeats: int = 8,
    reference: bool = True,
) -> pd.DataFrame:
    """Fit KMeans for several numbers of clusters, and again and again for each, to see whether the same is found.

    A number of clusters is stable if fits that should not differ do not: over seeds (the starts differ, the records
    are the same), and over bootstraps of patients (the records differ, and the fit assigns all of them). Two solutions
    are compared by the adjusted Rand index. Few clusters can be stable, and have a silhouette above 0, without any
    structure: both stand beside those of a normal distribution with the same covariance, which has no clusters.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record.
    records : DataFrame
        The records, in the same order; columns ``fold`` and ``patient_id``. Only folds 1-8 are looked at.
    ks : sequence of int, default 2 to 12
        Numbers of clusters.
    seed : int
        Seed of the starts, the sample and the bootstraps.
    n_init : int, default 3
        Number of starts of each fit; the one with the lowest inertia is kept.
    max_records : int, default 3000
        Of more records a random sample of so many is taken, the same for each k; the cost of the silhouette grows with
        their square.
    n_components : int, default 50
        Of more features so many principal components of folds 1-8 are taken; 0 takes the features.
    n_repeats : int, default 8
        Number of fits with other seeds, and of bootstraps; with fewer than 2 the stability is NaN.
    reference : bool, default True
        Whether to do the same with normally distributed points, which takes half as long again.

    Returns
    -------
    DataFrame
        One row a number of clusters: ``k``, ``inertia`` (the sum over these records), ``silhouette`` (-1 to 1,
        higher is better separated), and the adjusted Rand index of pairs of solutions, 1 for the same and 0 for
        chance: ``stability_seeds`` and ``stability_bootstraps``, the means over all pairs, each with ``_low`` and
        ``_high``, the percentiles 2.5 and 97.5 of the pairs. ``silhouette_reference`` and ``stability_reference``
        (over bootstraps) are those of the normal distribution, NaN where not asked for.

    Raises
    ------
    EcgkitError
        If a ``k`` is not between 2 and the number of records in folds 1-8, or the embeddings are not as they should be.

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
    standardised = standardize(embeddings, records)
    sample = training_sample(records, max_records, seed)
    points = principal_components(standardised, training_rows(records), n_components)[sample]
    patients = records["patient_id"].to_numpy()[sample]
    normal = _without_clusters(points, seed) if reference else None
    rows = []
    for k in ks:
        check_k(k, len(points))
        model = fit_kmeans(points, k=k, n_init=n_init, seed=seed)
        over_seeds = [
            fit_kmeans(points, k=k, n_init=n_init, seed=seed + 1 + repeat).labels_ for repeat in range(n_repeats)
        ]
        over_bootstraps = _bootstraps(points, patients, k=k, n_init=n_init, seed=seed, number=n_repeats)
        rows.append(
            {
                "k": k,
                "inertia": float(model.inertia_),
                "silhouette": _silhouette(points, model.labels_),
                **_spread("stability_seeds", over_seeds),
                **_spread("stability_bootstraps", over_bootstraps),
                "silhouette_reference": float("nan"),
                "stability_reference": float("nan"),
            }
        )
        if normal is not None:
            found = fit_kmeans(normal, k=k, n_init=n_init, seed=seed).labels_
            repeated = _bootstraps(normal, patients, k=k, n_init=n_init, seed=seed, number=n_repeats)
            rows[-1]["silhouette_reference"] = _silhouette(normal, found)
            rows[-1]["stability_reference"] = _spread("stability", repeated)["stability"]
    return pd.DataFrame(rows)


def _silhouette(points: NDArray[np.float32], found: NDArray[np.integer]) -> float:
    """Give the mean silhouette; NaN for one cluster, or as many as points."""
    can = 1 < len(np.unique(found)) < len(points)
    return float(silhouette_score(points, found)) if can else float("nan")


def _without_clusters(points: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Draw as many points from the normal distribution with the same mean and covariance."""
    mean, covariance = points.mean(axis=0, dtype=np.float64), np.atleast_2d(np.cov(points, rowvar=False))
    drawn = np.random.default_rng(seed).multivariate_normal(mean, covariance, len(points), method="eigh")
    return drawn.astype(np.float32)


def _bootstraps(
    points: NDArray[np.float32], patients: NDArray[np.generic], *, k: int, n_init: int, seed: int, number: int
) -> list[NDArray[np.int32]]:
    """Draw patients with replacement, fit on their records, and assign all records to the nearest centre."""
    of_record = patient_codes(patients)
    n_patients = int(of_record.max()) + 1
    random = np.random.default_rng(seed)
    solutions = []
    for _ in range(number):
        drawn = random.multinomial(n_patients, np.full(n_patients, 1 / n_patients))
        rows = np.repeat(np.arange(len(points)), drawn[of_record])
        check_k(k, len(rows))
        # One seed for all: what differs is the records.
        solutions.append(fit_kmeans(points[rows], k=k, n_init=n_init, seed=seed).predict(points))
    return solutions


def _spread(name: str, solutions: Sequence[NDArray[np.integer]]) -> dict[str, float]:
    """Compare all pairs of solutions."""
    pairs = [adjusted_rand_score(one, other) for one, other in combinations(solutions, 2)]
    if not pairs:
        return {name: float("nan"), f"{name}_low": float("nan"), f"{name}_high": float("nan")}
    low, high = np.percentile(pairs, (2.5, 97.5))
    return {name: float(np.mean(pairs)), f"{name}_low": float(low), f"{name}_high": float(high)}
