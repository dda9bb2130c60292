"""Projections of embeddings to a plane: PCA keeps distances as well as a plane can, UMAP and t-SNE keep neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

METHODS = ("pca", "umap", "tsne")
STARTS = ("pca", "random")
METHOD_NAMES = {"pca": "PCA", "umap": "UMAP", "tsne": "t-SNE"}

TSNE_RECORDS = 5000
"""t-SNE of more records takes minutes for each seed."""

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
        name = METHOD_NAMES[self.method]
        return name if self.seed is None else f"{name}, seed {self.seed}"


def project(
    method: str,
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    max_records: int | None = None,
    **settings: Any,
) -> tuple[Projection, ...]:
    """Project by one method with several seeds, all of the same records.

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
    **settings
        ``n_neighbors``, ``min_dist`` and ``start`` of `project_umap`, ``perplexity`` and ``start`` of `project_tsne`,
        ``n_components`` of `project_pca`.

    Returns
    -------
    tuple of Projection
        In the order of the seeds. The coordinates are those that `project_pca`, `project_umap` and `project_tsne` give
        for the same records; what the seeds share is computed once.

    Raises
    ------
    EcgkitError
        If there is no such method, no seed, or the method refuses the records.
    """
    check_choice("method", method, METHODS)
    if not seeds:
        raise EcgkitError(f"no seed for {METHOD_NAMES[method]}: give at least one")
    if method == "pca":
        return (project_pca(embeddings, records, folds=folds, max_records=max_records, **settings),)
    positions = choose(fold_rows(records, folds), max_records, seed=0)
    prepare = _prepare_umap if method == "umap" else _prepare_tsne
    layout = prepare(embeddings, records, positions, **settings)
    return tuple(layout.with_seed(seed) for seed in seeds)


def project_pca(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    max_records: int | None = None,
    n_components: int = 2,
    seed: int = 0,
) -> Projection:
    """Project onto the principal components of folds 1-8.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8.
    records : DataFrame
        The records, in the same order; column ``fold``.
    folds : tuple of int or None, default (10,)
        The folds to show; None for all.
    max_records : int or None, default None
        Show a random choice of so many.
    n_components : int, default 2
        Number of components.
    seed : int, default 0
        Seed of the choice.

    Returns
    -------
    Projection
        The sign of each component is chosen so that its largest loading is positive.

    Raises
    ------
    EcgkitError
        If there are fewer records in folds 1-8 or features than components, no record in ``folds``, or the embeddings
        do not fit.
    """
    points = standardize(embeddings, records)
    training = points[training_rows(records)]
    if n_components > min(training.shape):
        raise EcgkitError(f"n_components is {n_components}: {min(training.shape)} are all that these embeddings have")
    model = PCA(n_components=n_components, svd_solver="covariance_eigh").fit(training.astype(np.float64))
    positions = choose(fold_rows(records, folds), max_records, seed)
    shares = model.explained_variance_ratio_
    labels = tuple(f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares))
    return Projection(model.transform(points[positions]).astype(np.float32), positions, labels)


def explained_variance(
    embeddings: NDArray[np.floating], records: pd.DataFrame, *, n_components: int = 50
) -> NDArray[np.float64]:
    """Return the share of the variance of folds 1-8 that each principal component explains.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8.
    records : DataFrame
        The records, in the same order; column ``fold``.
    n_components : int, default 50
        Number of components, or all that there are.

    Returns
    -------
    ndarray of float64, shape (components,)
        Falling; all components together have 1.
    """
    training = standardize(embeddings, records)[training_rows(records)]
    number = min(n_components, *training.shape)
    model = PCA(n_components=number, svd_solver="covariance_eigh").fit(training.astype(np.float64))
    return model.explained_variance_ratio_


def project_umap(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    max_records: int | None = None,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    start: str = "pca",
    seed: int = 0,
) -> Projection:
    """Lay the records out by UMAP, the same for the same seed.

    The layout is made for the records that it shows. Nothing is predicted from it: it keeps neighbourhoods, while
    distances between groups, and their sizes, mean little. The neighbours are searched for exactly.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8.
    records : DataFrame
        The records, in the same order; column ``fold``.
    folds : tuple of int or None, default (10,)
        The folds to show; None for all.
    max_records : int or None, default None
        Show a random choice of so many.
    n_neighbors : int, default 15
        Number of neighbours of each record; fewer if there are not so many records.
    min_dist : float, default 0.1
        How close points may come.
    start : str, default "pca"
        Where the points start: at their principal components, or with ``"random"`` anywhere. From the principal
        components seeds differ little; from random positions they show what is chance.
    seed : int, default 0
        Seed of the layout and of the choice.

    Returns
    -------
    Projection

    Raises
    ------
    EcgkitError
        If fewer than 4 records are to be shown, there is no such start, or the embeddings do not fit.

    References
    ----------
    McInnes, Healy and Melville, "UMAP: uniform manifold approximation and projection for dimension reduction", 2018,
    arXiv:1802.03426; Kobak and Linderman, Nature Biotechnology 39 (2021), doi:10.1038/s41587-020-00809-z, for the
    start.
    """
    positions = choose(fold_rows(records, folds), max_records, seed)
    layout = _prepare_umap(embeddings, records, positions, n_neighbors=n_neighbors, min_dist=min_dist, start=start)
    return layout.with_seed(seed)


def project_tsne(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    *,
    folds: tuple[int, ...] | None = (TEST_FOLD,),
    max_records: int | None = None,
    perplexity: float = 30.0,
    start: str = "pca",
    seed: int = 0,
) -> Projection:
    """Lay the records out by t-SNE, the same for the same seed.

    The layout is made for the records that it shows: it keeps neighbourhoods, while distances between groups, and
    their sizes, mean little. A seed moves each principal component of the start by 1 % of their spread.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row per record; standardised with the statistics of folds 1-8.
    records : DataFrame
        The records, in the same order; column ``fold``.
    folds : tuple of int or None, default (10,)
        The folds to show; None for all.
    max_records : int or None, default None
        Show a random choice of so many.
    perplexity : float, default 30
        Approximate number of neighbours of each record; at most a third of the records.
    start : str, default "pca"
        Where the points start: at their principal components, or with ``"random"`` anywhere. From the principal
        components seeds differ little; from random positions they show what is chance.
    seed : int, default 0
        Seed of the start and of the choice.

    Returns
    -------
    Projection

    Raises
    ------
    EcgkitError
        If fewer than 4 or more than 5,000 records are to be shown, there is no such start, or the embeddings are not as
        do not fit.

    References
    ----------
    van der Maaten and Hinton, "Visualizing data using t-SNE", Journal of Machine Learning Research 9 (2008);
    Kobak and Berens, Nature Communications 10 (2019), doi:10.1038/s41467-019-13056-x, for the start and the step.
    """
    positions = choose(fold_rows(records, folds), max_records, seed)
    return _prepare_tsne(embeddings, records, positions, perplexity=perplexity, start=start).with_seed(seed)


@dataclass(frozen=True, eq=False)
class _UmapLayout:
    """The part that the layouts of all seeds share: points and nearest neighbours."""

    points: NDArray[np.float32]
    positions: NDArray[np.int64]
    neighbours: tuple[NDArray[np.int64], NDArray[np.float32]]
    min_dist: float
    start: str

    def with_seed(self, seed: int) -> Projection:
        indices, distances = self.neighbours
        model = _import_umap().UMAP(
            n_neighbors=indices.shape[1],
            min_dist=self.min_dist,
            init=self.start,
            random_state=seed,
            n_jobs=1,  # a seeded layout uses one thread, and more are a warning
            precomputed_knn=(indices, distances, None),
        )
        with warnings.catch_warnings():
            # No other records are added to this layout, for which the search index would be needed.
            warnings.filterwarnings("ignore", message=".*transforming new data", category=UserWarning)
            coordinates = model.fit_transform(self.points)
        return Projection(
            np.asarray(coordinates, np.float32), self.positions, ("UMAP 1", "UMAP 2"), method="umap", seed=seed
        )


@dataclass(frozen=True, eq=False)
class _TsneLayout:
    """The part that the layouts of all seeds share: points and, as a start, their principal components."""

    points: NDArray[np.float32]
    positions: NDArray[np.int64]
    components: NDArray[np.float32] | None
    perplexity: float

    def with_seed(self, seed: int) -> Projection:
        start = np.random.default_rng(seed).standard_normal((len(self.points), 2))
        if self.components is not None:
            start = self.components + JITTER * start
        model = TSNE(perplexity=self.perplexity, init=(START_SPREAD * start).astype(np.float32), random_state=seed)
        with threadpool_limits(1):  # threads sum the forces in any order, and small differences grow
            coordinates = model.fit_transform(self.points)
        return Projection(
            np.asarray(coordinates, np.float32), self.positions, ("t-SNE 1", "t-SNE 2"), method="tsne", seed=seed
        )


def _prepare_umap(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    positions: NDArray[np.int64],
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    start: str = "pca",
) -> _UmapLayout:
    """Check that UMAP can show these records, and find the neighbours of each."""
    check_choice("start", start, STARTS)
    _check_enough(len(positions), "UMAP")
    points = standardize(embeddings, records)[positions]
    search = NearestNeighbors(n_neighbors=min(n_neighbors, len(points) - 1), algorithm="brute").fit(points)
    distances, indices = search.kneighbors(points)
    return _UmapLayout(points, positions, (indices, distances.astype(np.float32)), min_dist, start)


def _prepare_tsne(
    embeddings: NDArray[np.floating],
    records: pd.DataFrame,
    positions: NDArray[np.int64],
    *,
    perplexity: float = 30.0,
    start: str = "pca",
) -> _TsneLayout:
    """Check that t-SNE can show these records, and find where it starts."""
    check_choice("start", start, STARTS)
    _check_enough(len(positions), "t-SNE")
    if len(positions) > TSNE_RECORDS:
        raise EcgkitError(
            f"{len(positions):,} records are too many for t-SNE: give max_records={TSNE_RECORDS}, or fewer folds"
        )
    points = standardize(embeddings, records)[positions]
    components = None
    if start == "pca":
        found = PCA(n_components=2, svd_solver="covariance_eigh").fit_transform(points.astype(np.float64))
        components = (found / found[:, 0].std()).astype(np.float32)
    return _TsneLayout(points, positions, components, min(perplexity, (len(points) - 1) / 3))


def _check_enough(number: int, method: str) -> None:
    """Refuse so few records that none of them has neighbours to speak of."""
    if number < 4:
        raise EcgkitError(f"{number} records are too few for {method}: give more folds, or a larger max_records")


def _import_umap() -> Any:
    """Import umap, which takes seconds, without its warning that the part of it that needs TensorFlow is not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        import umap
    return umap


def choose(positions: NDArray[np.int64], max_records: int | None, seed: int) -> NDArray[np.int64]:
    """Choose so many positions at random, in order; all of them where ``max_records`` is None or not fewer."""
    if max_records is None or len(positions) <= max_records:
        return positions
    return np.sort(np.random.default_rng(seed).choice(positions, max_records, replace=False))
