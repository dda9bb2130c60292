"""Linear erasure: removing from embeddings all that a linear probe could read, or random directions for comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.standardize import Scaler, fit_scaler

TOLERANCE = 1e-6
"""A direction with less than this share of the largest variance or correlation is rounding."""


@dataclass(frozen=True, eq=False)
class Eraser:
    """Removes a few directions from embeddings, and leaves the mean embedding unchanged.

    In the standardised space a row z becomes z - (z W U) (W⁺ U)ᵀ, which is orthogonal in the whitened space.

    Attributes
    ----------
    scaler : Scaler
        Of the records it was fitted on.
    basis : ndarray of float64, shape (features, rank)
        U, orthonormal columns.
    whitening, colouring : ndarray of float64, shape (features, features)
        W and its pseudoinverse, both symmetric.
    """

    scaler: Scaler
    basis: NDArray[np.float64]
    whitening: NDArray[np.float64]
    colouring: NDArray[np.float64]

    @property
    def rank(self) -> int:
        """Number of directions that are removed."""
        return self.basis.shape[1]

    @property
    def read(self) -> NDArray[np.float64]:
        """Directions that are read off the standardised embeddings, shape (features, rank)."""
        return self.whitening @ self.basis

    @property
    def removed(self) -> NDArray[np.float64]:
        """Directions that are subtracted, per unit of what is read, shape (features, rank)."""
        return self.colouring @ self.basis

    def __call__(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """Remove the directions.

        Parameters
        ----------
        embeddings : ndarray, shape (records, features)
            Not standardised.

        Returns
        -------
        ndarray of float32, shape (records, features)
            In the same units.
        """
        points = self.scaler.transform(embeddings)
        return (embeddings - (points @ self.read) @ (self.removed.T * self.scaler.scale)).astype(np.float32)

    def variance_removed(self, covariance: NDArray[np.float64]) -> float:
        """Return the removed share of the variance, given the covariance of the standardised embeddings."""
        read, removed = self.read, self.removed
        along = covariance @ read
        # The trace of the covariance of z - z A B', with tr(XY') as the sum of the products of the elements.
        taken = 2 * (along * removed).sum() - ((read.T @ along) * (removed.T @ removed)).sum()
        return float(taken / np.trace(covariance))


def erase_least_squares(embeddings: NDArray[np.floating], concept: NDArray[np.floating]) -> Eraser:
    """Remove all that a linear probe could read of a concept, with the least change to the embeddings.

    After it no feature correlates with the concept in the records it is fitted on, so that no linear probe fitted on
    these does better than a constant. A non-linear probe may still read it.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        Records of folds 1-8.
    concept : ndarray, shape (records,) or (records, columns)
        A quantity, or one column per class with 0 and 1.

    Returns
    -------
    Eraser
        Of at most as many directions as there are columns.

    Raises
    ------
    EcgkitError
        If the rows do not match, a value of the concept is not finite, or nothing correlates with the concept.

    References
    ----------
    Belrose et al., "LEACE: perfect linear concept erasure in closed form", 2023, arXiv:2306.03819, theorem 4.3.
    """
    columns = np.asarray(concept, dtype=np.float64).reshape(len(concept), -1)
    if len(columns) != len(embeddings):
        raise EcgkitError(f"a concept of {len(columns)} records for {len(embeddings)} embeddings: pass one per record")
    if not np.isfinite(columns).all():
        raise EcgkitError("the concept is unknown for a record: leave such records out")
    scaler = fit_scaler(embeddings)
    points = scaler.transform(embeddings).astype(np.float64)
    eigenvalues, vectors = np.linalg.eigh(points.T @ points / len(points))
    kept = eigenvalues > TOLERANCE * eigenvalues.max()
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    whitening = (vectors / np.sqrt(eigenvalues)) @ vectors.T
    colouring = (vectors * np.sqrt(eigenvalues)) @ vectors.T
    spread = columns.std(axis=0)
    centred = (columns - columns.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    correlations = whitening @ (points.T @ centred) / len(points)
    basis, sizes, _ = np.linalg.svd(correlations, full_matrices=False)
    basis = basis[:, sizes > TOLERANCE]
    if not basis.shape[1]:
        raise EcgkitError("no feature of the embeddings correlates with the concept: there is nothing to remove")
    return Eraser(scaler, basis, whitening, colouring)


def erase_random(like: Eraser, axes: NDArray[np.floating], *, seed: int) -> Eraser:
    """Remove as many random directions with the same share of the variance.

    Embeddings have a few directions with most of the variance. A direction near these takes much with it whatever it
    means, so that uniformly random directions are not a fair comparison. Here the component along each principal axis
    keeps its size and gets a random sign.

    Parameters
    ----------
    like : Eraser
        The eraser to compare with.
    axes : ndarray, shape (features, features)
        The principal axes, as columns, of the standardised embeddings on which ``like`` was fitted.
    seed : int
        Seed of the signs.

    Returns
    -------
    Eraser
    """
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], axes.shape[1])
    return replace(like, basis=axes @ (signs[:, None] * (axes.T @ like.basis)))
