"""Projections of embeddings to a plane: PCA keeps distances as well as a plane can, UMAP and t-SNE keep neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.feature_space.standardize import fold_rows, standardize, training_rows
from ecgkit.stats.folds import TEST_FOLD

STARTS = ("pca", "random")
METHODS = {"pca": "PCA", "umap": "UMAP", "tsne": "t-SNE"}
"""The methods and their names."""

TSNE_RECORDS = 5000
"""t-SNE of more records takes minutes for each seed."""

PERPLEXITY = 30.0
"""Approximate number of neighbours of each record for t-SNE; at most a third of the records."""

JITTER = 0.01
"""The noise on the start of t-SNE, as a share of its spread: without it, seeds would differ in nothing."""

START_SPREAD = 1e-4
"""The standard deviation of the start of t-SNE along its first axis (Kobak and Berens 2019)."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Records as points.

    Attributes
    ----------
    coordinates : ndarray of float32, shape (points, dimensions)
        One row per record shown.
    positions : ndarray of int64, shape (points,)
        Which record each point is: its position in the table of records.
    axis_labels : tuple of str
        Labels of the axes.
    method : str
        One of `METHODS`.
    seed : int or None
        The seed of the layout; None for PCA, which has none.
    """

    coordinates: NDArray[np.float32]
    positions: NDArray[np.int64]
    axis_labels: tuple[str, ...]
    method: str = "pca"
    seed: int | None = None

    @property
    def name(self) -> str:
        """Title of a panel, such as ``"UMAP, seed 0"``."""
        name = METHODS[self.method]
        return name if self.seed is None else f"{name}, seed {self.seed}"


def project(
    method: str,
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    max_records: int | None = None,
    start: str = "pca",
    n_neighbors: int = 15,
) -> tuple[Projection, ...]:
    """Project records to a plane by one method, once per seed.

    PCA takes the principal components of folds 1-8; the sign of each is chosen so that its largest loading is positive.
    UMAP and t-SNE are made for the records that they show, and nothing is predicted from them: they keep
    neighbourhoods, while distances between groups, and their sizes, mean little. The neighbours are searched exactly,
    and the layout of a seed is the same every time.

    Parameters
    ----------
    method : str
        ``"pca"``, ``"umap"`` or ``"tsne"``.
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8.
    records : DataFrame
        The records, in the same order; column ``fold``.
    seeds : sequence of int, default (0, 1, 2)
        One layout each. PCA does not depend on a seed and has one.
    folds : tuple of int or None, default (10,)
        The folds to show; None for all.
    max_records : int or None, default None
        Show a random choice of so many, the same for every method and seed.
    start : str, default "pca"
        Where UMAP and t-SNE start: at the principal components, or with ``"random"`` anywhere. From the principal
        components seeds differ little; from random positions they show what is chance.
    n_neighbors : int, default 15
        Number of neighbours of each record for UMAP; fewer if there are not so many records. t-SNE has a perplexity of
        30, or a third of the records.

    Returns
    -------
    tuple of Projection
        In the order of the seeds.

    Raises
    ------
    EcgkitError
        If there is no such method or start, no seed, no record in ``folds``, fewer than 4 records for UMAP or t-SNE,
        more than 5,000 for t-SNE, fewer than two features for PCA, or the embeddings do not match.

    References
    ----------
    McInnes, Healy and Melville, "UMAP: uniform manifold approximation and projection for dimension reduction", 2018,
    arXiv:1802.03426. van der Maaten and Hinton, "Visualizing data using t-SNE", Journal of Machine Learning Research 9
    (2008). For the start: Kobak and Linderman, Nature Biotechnology 39 (2021), doi:10.1038/s41587-020-00809-z, and
    Kobak and Berens, Nature Communications 10 (2019), doi:10.1038/s41467-019-13056-x.
    """
    check_choice("method", method, METHODS)
    check_choice("start", start, STARTS)
    if not seeds:
        raise EcgkitError(f"no seed for {METHODS[method]}: give at least one")
    points = standardize(embeddings, records)
    positions = choose(fold_rows(records, folds), max_records)
    if method == "pca":
        model = _components(points[training_rows(records)], 2)
        shares = model.explained_variance_ratio_
        labels = tuple(f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares))
        return (Projection(model.transform(points[positions]).astype(np.float32), positions, labels),)
    _check_number(len(positions), method)
    layout = partial(_umap, n_neighbors=n_neighbors) if method == "umap" else _tsne
    labels = (f"{METHODS[method]} 1", f"{METHODS[method]} 2")
    return tuple(
        Projection(layout(points[positions], seed=seed, start=start), positions, labels, method, seed) for seed in seeds
    )


def explained_variance(embeddings: NDArray[np.floating], records: pd.DataFrame) -> NDArray[np.float64]:
    """Return the share of the variance of folds 1-8 that each of the first 50 principal components explains.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8.
    records : DataFrame
        The records, in the same order; column ``fold``.

    Returns
    -------
    ndarray of float64, shape (components,)
        Falling; all components together have 1.
    """
    training = standardize(embeddings, records)[training_rows(records)]
    return _components(training, min(50, *training.shape)).explained_variance_ratio_


def _components(points: NDArray[np.float32], number: int) -> PCA:
    """Fit principal components."""
    if number > min(points.shape):
        raise EcgkitError(f"embeddings of shape {points.shape} in folds 1-8: give at least {number} of both for a map")
    return PCA(n_components=number, svd_solver="covariance_eigh").fit(points.astype(np.float64))


def _umap(points: NDArray[np.float32], *, seed: int, start: str, n_neighbors: int) -> NDArray[np.float32]:
    """Lay points out by UMAP, with their exact neighbours."""
    search = NearestNeighbors(n_neighbors=min(n_neighbors, len(points) - 1), algorithm="brute").fit(points)
    distances, indices = search.kneighbors(points)
    with warnings.catch_warnings():
        # umap warns that TensorFlow is not there, and that no other records can be added to this layout.
        warnings.simplefilter("ignore", ImportWarning)
        warnings.filterwarnings("ignore", message=".*transforming new data", category=UserWarning)
        import umap

        model = umap.UMAP(
            n_neighbors=indices.shape[1],
            init=start,
            random_state=seed,
            n_jobs=1,  # a seeded layout uses one thread, and more are a warning
            precomputed_knn=(indices, distances.astype(np.float32), None),
        )
        return np.asarray(model.fit_transform(points), np.float32)


def _tsne(points: NDArray[np.float32], *, seed: int, start: str) -> NDArray[np.float32]:
    """Lay points out by t-SNE, from their principal components with a little noise, or from noise alone."""
    begin = np.random.default_rng(seed).standard_normal((len(points), 2))
    if start == "pca":
        components = _components(points, 2).transform(points.astype(np.float64))
        begin = components / components[:, 0].std() + JITTER * begin
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    model = TSNE(perplexity=perplexity, init=(START_SPREAD * begin).astype(np.float32), random_state=seed)
    with threadpool_limits(1):  # threads sum the forces in any order, and small differences grow
        return np.asarray(model.fit_transform(points), np.float32)


def _check_number(number: int, method: str) -> None:
    """Refuse so few records that none of them has neighbours to speak of, and too many for t-SNE."""
    name = METHODS[method]
    if number < 4:
        raise EcgkitError(f"{number} records are too few for {name}: give more folds, or a larger max_records")
    if method == "tsne" and number > TSNE_RECORDS:
        raise EcgkitError(
            f"{number:,} records are too many for {name}: give max_records={TSNE_RECORDS}, or fewer folds"
        )


def shown_records(projections: Sequence[Projection]) -> NDArray[np.int64]:
    """Return the positions that maps show; raise EcgkitError if there is no map, or they show different records."""
    if not projections:
        raise EcgkitError("projections is empty: give one or more maps")
    for other in projections[1:]:
        if not np.array_equal(projections[0].positions, other.positions):
            raise EcgkitError(f"{projections[0].name} and {other.name} show different records: project the same ones")
    return projections[0].positions


def choose(positions: NDArray[np.int64], max_records: int | None) -> NDArray[np.int64]:
    """Choose so many positions at random, in order; all of them where ``max_records`` is None or not fewer."""
    if max_records is None or len(positions) <= max_records:
        return positions
    return np.sort(np.random.default_rng(0).choice(positions, max_records, replace=False))
