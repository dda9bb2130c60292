"""Projections of embeddings to a plane: PCA, which keeps distances as well as a plane can, and UMAP, which does not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.parts import fold_rows, standardise, training_rows
from ecgkit.store import TEST_FOLD


@dataclass(frozen=True, eq=False)
class Projection:
    """Records as points.

    Attributes
    ----------
    coordinates : ndarray of float32, shape (points, dimensions)
        One row a record shown.
    positions : ndarray of int64, shape (points,)
        Which record each point is: its position in the table of records.
    axis_labels : tuple of str
        What the axes are.
    """

    coordinates: NDArray[np.float32]
    positions: NDArray[np.int64]
    axis_labels: tuple[str, ...]


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
        One row a record; standardised with the statistics of folds 1-8.
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
        are not as they should be.
    """
    points = standardise(embeddings, records)
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
    """Give the share of the variance of folds 1-8 that each principal component explains.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record; standardised with the statistics of folds 1-8.
    records : DataFrame
        The records, in the same order; column ``fold``.
    n_components : int, default 50
        Number of components, or all that there are.

    Returns
    -------
    ndarray of float64, shape (components,)
        Falling; all components together have 1.
    """
    training = standardise(embeddings, records)[training_rows(records)]
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
    seed: int = 0,
) -> Projection:
    """Lay the records out by UMAP, from a start at their principal components, the same for the same seed.

    The layout is made for the records that it shows. Nothing is predicted from it: it keeps neighbourhoods, while
    distances between groups, and their sizes, mean little.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        One row a record; standardised with the statistics of folds 1-8.
    records : DataFrame
        The records, in the same order; column ``fold``.
    folds : tuple of int or None, default (10,)
        The folds to show; None for all.
    max_records : int or None, default None
        Show a random choice of so many.
    n_neighbors : int, default 15
        Neighbours that a record is kept close to; fewer where there are not so many records.
    min_dist : float, default 0.1
        How close points may come.
    seed : int, default 0
        Seed of the layout and of the choice.

    Returns
    -------
    Projection

    Raises
    ------
    EcgkitError
        If fewer than 4 records are to be shown, or the embeddings are not as they should be.

    References
    ----------
    McInnes, Healy and Melville, "UMAP: uniform manifold approximation and projection for dimension reduction", 2018,
    arXiv:1802.03426; Kobak and Linderman, Nature Biotechnology 39 (2021), doi:10.1038/s41587-020-00809-z, for the
    start.
    """
    positions = choose(fold_rows(records, folds), max_records, seed)
    if len(positions) < 4:
        raise EcgkitError(f"{len(positions)} records are too few for UMAP: give more folds, or a larger max_records")
    points = standardise(embeddings, records)[positions]
    umap = _import_umap()
    model = umap.UMAP(
        n_neighbors=min(n_neighbors, len(points) - 1),
        min_dist=min_dist,
        init="pca",
        random_state=seed,
        n_jobs=1,  # a seeded layout is made by one thread anyway; to ask for more is a warning
    )
    return Projection(np.asarray(model.fit_transform(points), np.float32), positions, ("UMAP 1", "UMAP 2"))


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
