"""Directions removed from embeddings: the probe's own, all that a linear probe could read, and random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.concepts.directions import ConceptDirection
from ecgkit.feature_space.standardize import Scaler, fit_scaler

TOLERANCE = 1e-6
"""A direction with less than this share of the greatest variance or correlation is taken for rounding."""


@dataclass(frozen=True, eq=False)
class Eraser:
    """Removes a few directions from embeddings, and leaves the mean embedding where it is.

    In the standardised space a row z becomes z - (z W U) (W⁺ U)ᵀ: an orthogonal projection if W is the identity, and
    otherwise one that is orthogonal in the whitened space.

    Attributes
    ----------
    scaler : Scaler
        Of the records it was fitted on.
    basis : ndarray of float64, shape (features, rank)
        U, orthonormal columns.
    whitening, colouring : ndarray of float64, shape (features, features), or None
        W and its pseudoinverse, both symmetric; None for the identity.
    """

    scaler: Scaler
    basis: NDArray[np.float64]
    whitening: NDArray[np.float64] | None = None
    colouring: NDArray[np.float64] | None = None

    @property
    def rank(self) -> int:
        """How many directions are removed."""
        return self.basis.shape[1]

    @property
    def read(self) -> NDArray[np.float64]:
        """What is read off the standardised embeddings, shape (features, rank)."""
        return self.basis if self.whitening is None else self.whitening @ self.basis

    @property
    def removed(self) -> NDArray[np.float64]:
        """What is taken out for a unit of each of these, shape (features, rank)."""
        return self.basis if self.colouring is None else self.colouring @ self.basis

    def __call__(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """Remove the directions.

        Parameters
        ----------
        embeddings : ndarray, shape (records, features)
            As the network gives them.

        Returns
        -------
        ndarray of float32, shape (records, features)
            In the same units.
        """
        return self.take_out(embeddings, self.scaler.transform(embeddings))

    def take_out(self, embeddings: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Remove the directions from embeddings whose standardised ones are at hand, both (records, features)."""
        return (embeddings - (points @ self.read) @ (self.removed.T * self.scaler.scale)).astype(np.float32)

    def map_of(self, scaler: Scaler) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give A and B for which it is z - z A Bᵀ, but for a constant, on rows that another scaler standardised."""
        stretch = (scaler.scale / self.scaler.scale)[:, None]
        return self.read * stretch, self.removed / stretch

    def variance_removed(self, covariance: NDArray[np.float64]) -> float:
        """Give the share of the variance that goes, from 0 to 1.

        Parameters
        ----------
        covariance : ndarray of float64, shape (features, features)
            Of the standardised embeddings.

        Returns
        -------
        float
        """
        read, removed = self.read, self.removed
        along = covariance @ read
        # The trace of the covariance of z - z A B', with tr(XY') as the sum of the products of the elements.
        taken = 2 * (along * removed).sum() - ((read.T @ along) * (removed.T @ removed)).sum()
        return float(taken / np.trace(covariance))


def erase_direction(direction: ConceptDirection) -> Eraser:
    """Project the embeddings onto the space orthogonal to a concept's direction.

    What the probe reads is gone; what another probe can read elsewhere stays (Ravfogel et al. iterate for that reason;
    `erase_least_squares` does it in one step).

    Parameters
    ----------
    direction : ConceptDirection
        The direction.

    Returns
    -------
    Eraser
        Of rank 1.

    References
    ----------
    Ravfogel et al., "Null it out: guarding protected attributes by iterative nullspace projection", 2020,
    arXiv:2004.07667, equation 2.
    """
    return Eraser(direction.probe.scaler, direction.vector[:, None])


def erase_least_squares(embeddings: NDArray[np.floating], concept: NDArray[np.floating]) -> Eraser:
    """Remove all that a linear probe could read of a concept, with the least change to the embeddings.

    After it no feature correlates with the concept in the records it is fitted on, so that no linear probe of these
    does better than a constant. What a probe that is not linear reads may stay.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        Records that may be learned from, of folds 1-8.
    concept : ndarray, shape (records,) or (records, columns)
        Numbers, or one column a class with 0 and 1.

    Returns
    -------
    Eraser
        Of at most as many directions as there are columns.

    Raises
    ------
    EcgkitError
        If the rows do not fit, a value of the concept is not finite, or nothing correlates with the concept.

    References
    ----------
    Belrose et al., "LEACE: perfect linear concept erasure in closed form", 2023, arXiv:2306.03819, theorem 4.3.
    """
    columns = np.asarray(concept, dtype=np.float64).reshape(len(concept), -1)
    if len(columns) != len(embeddings):
        raise EcgkitError(
            f"a concept of {len(columns)} records for {len(embeddings)} embeddings: give one row a record"
        )
    if not np.isfinite(columns).all():
        raise EcgkitError("the concept is unknown in a record: leave out the records that do not know it")
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
        raise EcgkitError("nothing in the embeddings correlates with the concept: there is nothing to remove")
    return Eraser(scaler, basis, whitening, colouring)


def erase_random(like: Eraser, *, seed: int) -> Eraser:
    """Remove as many random directions, in the same way: what happens if the directions mean nothing.

    Parameters
    ----------
    like : Eraser
        Whose scaler, rank and whitening are taken.
    seed : int
        Of the directions, which are uniform on the sphere, in the whitened space where there is one.

    Returns
    -------
    Eraser
    """
    drawn = np.random.default_rng(seed).standard_normal(like.basis.shape)
    if like.whitening is not None and like.colouring is not None:
        # Whitening and colouring together are the projection onto the directions in which the embeddings vary.
        drawn = like.colouring @ (like.whitening @ drawn)
    return replace(like, basis=np.linalg.qr(drawn)[0])


def erase_matched(like: Eraser, axes: NDArray[np.floating], *, seed: int) -> Eraser:
    """Remove other directions that lie along each principal axis as much, and so take as much variance.

    Embeddings have a few directions with most of the variance. One that lies near these takes much with it, whatever
    it means, and uniform directions are no measure for it. Here the direction's part along each axis keeps its size
    and gets a random sign.

    Parameters
    ----------
    like : Eraser
        Whose scaler, rank and whitening are taken.
    axes : ndarray, shape (features, features)
        The principal axes of the standardised embeddings that ``like`` was fitted on, as columns.
    seed : int
        Of the signs.

    Returns
    -------
    Eraser
    """
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], axes.shape[1])
    return replace(like, basis=axes @ (signs[:, None] * (axes.T @ like.basis)))


def overlap(one: Eraser, other: Eraser) -> float:
    """Give the mean squared cosine between the spaces that two erasers remove: 1 for the same, 0 for orthogonal."""
    return float(((one.basis.T @ other.basis) ** 2).sum() / one.rank)
