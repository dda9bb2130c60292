"""Principal axes of standardised records, along which a ridge is solved at once and a logistic regression in few steps.

All strengths and all targets that the same records know share one eigendecomposition. A split's moments are those of
all records less those of the part that is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

BLOCK = 2048
"""Records at a time whose products are summed in double precision."""

MIN_STD = 1e-6
"""A standardised feature that varies less among some of the records is constant there."""

MAX_ITER = 300
"""Iterations after which a logistic regression is taken as it is."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums and sums of products of features and numbers to predict.

    Attributes
    ----------
    number : int
        Of records.
    sums : ndarray of float64, shape (features + targets,)
        The features come first.
    products : ndarray of float64, shape (features + targets, features + targets)
        Not centred.
    n_targets : int
        How many of the columns are targets.
    """

    number: int
    sums: NDArray[np.float64]
    products: NDArray[np.float64]
    n_targets: int

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.number + other.number, self.sums + other.sums, self.products + other.products, self.n_targets
        )

    def __sub__(self, other: Moments) -> Moments:
        return Moments(
            self.number - other.number, self.sums - other.sums, self.products - other.products, self.n_targets
        )


def moments(points: NDArray[np.float32], targets: NDArray[np.float64]) -> Moments:
    """Sum products in double precision.

    Parameters
    ----------
    points : ndarray of float32, shape (records, features)
        Standardised.
    targets : ndarray of float64, shape (records, targets)
        Numbers to predict; may have no column.

    Returns
    -------
    Moments
    """
    n_columns = points.shape[1] + targets.shape[1]
    sums, products = np.zeros(n_columns), np.zeros((n_columns, n_columns))
    for begin in range(0, len(points), BLOCK):
        block = np.concatenate([points[begin : begin + BLOCK], targets[begin : begin + BLOCK]], axis=1)
        sums += block.sum(axis=0)
        products += block.T @ block
    return Moments(len(points), sums, products, targets.shape[1])


@dataclass(frozen=True, eq=False)
class Axes:
    """Principal axes of some records, standardised by their own mean and deviation.

    Attributes
    ----------
    number : int
        Of records.
    shift, scale : ndarray of float64, shape (features,)
        Mean and standard deviation of the records; the scale of a constant feature is 1.
    eigenvalues : ndarray of float64, shape (features,)
        Of the sum of products of the standardised features.
    vectors : ndarray of float64, shape (features, features)
        The axes as columns.
    along : ndarray of float64, shape (features, targets)
        Sum of products of each axis with each centred target.
    target_means : ndarray of float64, shape (targets,)
        Means of the targets.
    """

    number: int
    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    vectors: NDArray[np.float64]
    along: NDArray[np.float64]
    target_means: NDArray[np.float64]


def principal_axes(of: Moments) -> Axes:
    """Find the principal axes.

    Parameters
    ----------
    of : Moments
        Of the records to learn from.

    Returns
    -------
    Axes
    """
    n_features = len(of.sums) - of.n_targets
    mean = of.sums / of.number
    centred = of.products - of.number * np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(centred)[:n_features], 0.0) / of.number)
    scale = np.where(deviation > MIN_STD, deviation, 1.0)
    eigenvalues, vectors = np.linalg.eigh(centred[:n_features, :n_features] / np.outer(scale, scale))
    return Axes(
        number=of.number,
        shift=mean[:n_features],
        scale=scale,
        eigenvalues=np.maximum(eigenvalues, 0.0),
        vectors=vectors,
        along=vectors.T @ (centred[:n_features, n_features:] / scale[:, None]),
        target_means=mean[n_features:],
    )


def solve_ridge(axes: Axes, target: int, alphas: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Solve a ridge regression for all penalties.

    Parameters
    ----------
    axes : Axes
        Of the records to learn from.
    target : int
        Column of the target.
    alphas : sequence of float
        Penalties on the squared coefficients of the standardised features.

    Returns
    -------
    coefficients : ndarray of float64, shape (alphas, features)
        Of the features as the moments have them.
    intercepts : ndarray of float64, shape (alphas,)
        One a penalty.

    References
    ----------
    Hastie, Tibshirani and Friedman, "The elements of statistical learning", 2nd edition 2009, equation 3.47.
    """
    shrunk = axes.along[:, target] / (axes.eigenvalues + np.asarray(alphas, dtype=np.float64)[:, None])
    coefficients = (shrunk @ axes.vectors.T) / axes.scale
    return coefficients, axes.target_means[target] - coefficients @ axes.shift


@dataclass(eq=False)
class LogisticSolver:
    """A logistic regression that is solved for one strength after the other, each from the solution before.

    The coefficients are sought along the principal axes, each divided by the root of the curvature that the loss has
    there before anything is learned (Böhning 1992 has the like as a bound). That leaves a problem whose directions
    are about equally steep, which L-BFGS solves in some ten steps instead of hundreds.

    Attributes
    ----------
    axes : Axes
        Of the records to learn from.
    points : ndarray of float32, shape (records, features)
        These records, as the moments have them.
    codes : ndarray of int64, shape (records,)
        Their classes, counted from 0 without gaps.

    References
    ----------
    Böhning, "Multinomial logistic regression algorithm", 1992, doi:10.1007/BF00048682. Byrd, Lu, Nocedal and Zhu,
    "A limited memory algorithm for bound constrained optimization", 1995, doi:10.1137/0916069.
    """

    axes: Axes
    points: NDArray[np.float32]
    codes: NDArray[np.int64]

    def __post_init__(self) -> None:
        n_classes = int(self.codes.max()) + 1
        share = np.bincount(self.codes, minlength=n_classes) / len(self.codes)
        self._binary = n_classes == 2
        self._curvature = (share * (1 - share))[1:] if self._binary else share * (1 - share)
        logits = np.log(share)
        self._bias = logits[1:] - logits[:1] if self._binary else logits - logits.mean()
        self._weights = np.zeros((len(self.axes.eigenvalues), len(self._bias)))
        self._vectors = self.axes.vectors.astype(np.float32)
        self._truth = np.zeros((len(self.codes), len(self._bias)), dtype=np.float32)
        if self._binary:
            self._truth[:, 0] = self.codes
        else:
            self._truth[np.arange(len(self.codes)), self.codes] = 1

    def solve(self, c: float, *, tolerance: float) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Solve for one strength.

        Parameters
        ----------
        c : float
            The inverse penalty: the summed log loss plus the squared coefficients divided by ``2 c`` is minimised.
        tolerance : float
            Largest derivative at which to stop; its square is about the loss that could still be gained along an axis.

        Returns
        -------
        coefficients : ndarray of float64, shape (outputs, features)
            Of the features as the moments have them; one output for two classes, else one a class.
        intercepts : ndarray of float64, shape (outputs,)
            One an output.
        n_iterations : int
            How many it took.
        """
        step = 1 / np.sqrt(self.axes.eigenvalues[:, None] * self._curvature + 1 / c)
        bias_step = 1 / np.sqrt(self.axes.number * self._curvature)
        start = np.concatenate([self._weights / step, (self._bias / bias_step)[None]])

        def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            scaled = x.reshape(start.shape)
            weights, bias = scaled[:-1] * step, scaled[-1] * bias_step
            loss, of_weights, of_bias = self._loss(weights, bias)
            gradient = np.concatenate([(of_weights + weights / c) * step, (of_bias * bias_step)[None]])
            return loss + float((weights**2).sum()) / (2 * c), gradient.ravel()

        found = minimize(
            objective,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": tolerance, "ftol": 1e-10, "maxiter": MAX_ITER, "maxcor": 20},
        )
        solution = found.x.reshape(start.shape)
        self._weights, self._bias = solution[:-1] * step, solution[-1] * bias_step
        coefficients = (self.axes.vectors @ self._weights).T / self.axes.scale
        return coefficients, self._bias - coefficients @ self.axes.shift, int(found.nit)

    def _loss(
        self, weights: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Give the summed log loss and its derivatives by the weights along the axes and by the intercepts."""
        coefficients = (self._vectors @ weights.astype(np.float32)) / self.axes.scale[:, None].astype(np.float32)
        offset = bias - self.axes.shift @ coefficients
        logits = self.points @ coefficients + offset.astype(np.float32)
        if self._binary:
            loss = np.logaddexp(0.0, logits[:, 0]).sum(dtype=np.float64)
            loss -= (logits[:, 0] * self._truth[:, 0]).sum(dtype=np.float64)
            residual = expit(logits) - self._truth
        else:
            log_probability = log_softmax(logits, axis=1)
            loss = -(log_probability * self._truth).sum(dtype=np.float64)
            residual = np.exp(log_probability) - self._truth
        of_bias = residual.sum(axis=0, dtype=np.float64)
        of_points = (self.points.T @ residual).astype(np.float64) - np.outer(self.axes.shift, of_bias)
        along = self._vectors.T @ (of_points / self.axes.scale[:, None]).astype(np.float32)
        return float(loss), along.astype(np.float64), of_bias
