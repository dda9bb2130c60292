"""Linear probes: ridge and logistic regression whose strength is chosen by patient-grouped cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.parts import Scaler, fit_scaler

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 6, 15))
"""The penalties that a ridge probe chooses from; a larger one is stronger."""

CS = tuple(float(c) for c in np.logspace(-5, 0, 6))
"""The inverse penalties that a logistic probe chooses from; a smaller one is stronger."""

N_SPLITS = 5
MAX_ITER = 1000

Split = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear model on frozen embeddings.

    Attributes
    ----------
    scaler : Scaler
        Mean and scale of the records it was fitted on.
    coefficients : ndarray of float64, shape (outputs, features)
        Of the standardised embeddings.
    intercepts : ndarray of float64, shape (outputs,)
        One an output. A regression has one output, a classification of two classes one (the logit of the second), of
        more classes one logit a class.
    classes : tuple of int
        The classes of a classification, ascending; empty for a regression.
    strength_name : str
        ``"alpha"`` of the ridge or ``"C"`` of the logistic regression, as scikit-learn has them.
    strength : float
        The one chosen.
    trials : DataFrame
        One row a strength that was tried: ``alpha`` or ``C``, and the cross-validated ``r2`` or ``log_loss``.
    n_iterations : int
        What the fit took; 0 for a closed form.
    """

    scaler: Scaler
    coefficients: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    classes: tuple[int, ...]
    strength_name: str
    strength: float
    trials: pd.DataFrame
    n_iterations: int = 0

    def outputs(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Give values or logits, shape (records, outputs)."""
        return self.scaler.transform(embeddings).astype(np.float64) @ self.coefficients.T + self.intercepts

    def value(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Give what a regression predicts, shape (records,), in the unit of its target."""
        return self.outputs(embeddings)[:, 0]

    def probability(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Give the probability of each of ``classes``, shape (records, classes)."""
        logits = self.outputs(embeddings)
        if logits.shape[1] == 1:
            second = expit(logits[:, 0])
            return np.stack([1 - second, second], axis=1)
        return softmax(logits, axis=1)

    def decide(self, embeddings: NDArray[np.floating]) -> NDArray[np.int64]:
        """Give the likeliest class, shape (records,)."""
        return np.array(self.classes, dtype=np.int64)[self.probability(embeddings).argmax(axis=1)]


def fit_ridge(
    embeddings: NDArray[np.floating],
    values: NDArray[np.float64],
    patients: NDArray[np.generic],
    *,
    seed: int,
    alphas: Sequence[float] = ALPHAS,
) -> LinearProbe:
    """Fit a ridge regression, with the penalty of the highest cross-validated R2.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        Records that may be learned from.
    values : ndarray of float64, shape (records,)
        The target.
    patients : ndarray, shape (records,)
        A patient's records are held out together.
    seed : int
        Seed of the splits.
    alphas : sequence of float, default `ALPHAS`
        The penalties to choose from.

    Returns
    -------
    LinearProbe

    Raises
    ------
    EcgkitError
        If the records are of fewer than two patients.
    """
    held_out = np.empty((len(alphas), len(values)))
    for inner, outer in patient_splits(patients, seed):
        scaler = fit_scaler(embeddings[inner])
        path = _ridge_path(scaler.transform(embeddings[inner]), values[inner], alphas)
        held_out[:, outer] = path @ scaler.transform(embeddings[outer]).T.astype(np.float64) + values[inner].mean()
    scores = [float(r2_score(values, predicted)) for predicted in held_out]
    best = int(np.argmax(scores))
    scaler = fit_scaler(embeddings)
    model = Ridge(alpha=alphas[best]).fit(scaler.transform(embeddings).astype(np.float64), values)
    return LinearProbe(
        scaler=scaler,
        coefficients=model.coef_[None],
        intercepts=np.array([model.intercept_]),
        classes=(),
        strength_name="alpha",
        strength=float(alphas[best]),
        trials=pd.DataFrame({"alpha": alphas, "r2": scores}),
    )


def _ridge_path(
    points: NDArray[np.float32], values: NDArray[np.float64], alphas: Sequence[float]
) -> NDArray[np.float64]:
    """Solve the ridge regression of centred points for all penalties by one eigendecomposition: (alphas, features)."""
    matrix = points.astype(np.float64)
    eigenvalues, vectors = np.linalg.eigh(matrix.T @ matrix)
    projected = vectors.T @ (matrix.T @ (values - values.mean()))
    shrunk = projected / (np.maximum(eigenvalues, 0.0) + np.asarray(alphas)[:, None])
    return shrunk @ vectors.T


def fit_logistic(
    embeddings: NDArray[np.floating],
    classes: NDArray[np.int64],
    patients: NDArray[np.generic],
    *,
    seed: int,
    cs: Sequence[float] = CS,
    n_splits: int = N_SPLITS,
) -> LinearProbe:
    """Fit a logistic regression, with the penalty of the lowest cross-validated log loss.

    The inverse penalties are tried from the first to the last, each from the solution of the one before; once the loss
    rises, the rest is left out.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        Records that may be learned from.
    classes : ndarray of int64, shape (records,)
        The target, two classes or more.
    patients : ndarray, shape (records,)
        A patient's records are held out together.
    seed : int
        Seed of the splits.
    cs : sequence of float, default `CS`
        The inverse penalties to choose from, the strongest penalty first.
    n_splits : int, default 5
        Number of splits.

    Returns
    -------
    LinearProbe

    Raises
    ------
    EcgkitError
        If the records are of fewer than two patients, or no split leaves two classes to learn from.
    """
    trials = _try_logistic(embeddings, classes, list(patient_splits(patients, seed, n_splits)), cs)
    strength = float(trials["C"].to_numpy()[np.argmin(trials["log_loss"])])
    scaler = fit_scaler(embeddings)
    model = _logistic(strength)
    _fit_quietly(model, scaler.transform(embeddings), classes)
    return LinearProbe(
        scaler=scaler,
        coefficients=np.asarray(model.coef_, dtype=np.float64),
        intercepts=np.asarray(model.intercept_, dtype=np.float64),
        classes=tuple(int(name) for name in model.classes_),
        strength_name="C",
        strength=strength,
        trials=trials,
        n_iterations=int(np.max(model.n_iter_)),
    )


def _try_logistic(
    embeddings: NDArray[np.floating], classes: NDArray[np.int64], splits: Sequence[Split], cs: Sequence[float]
) -> pd.DataFrame:
    """Cross-validate the inverse penalties in their order, until the loss rises."""
    usable = [split for split in splits if len(np.unique(classes[split[0]])) > 1]
    if not usable:
        raise EcgkitError("a logistic probe needs two classes among the patients of folds 1-8: leave this target out")
    parts = []
    for inner, outer in usable:
        scaler = fit_scaler(embeddings[inner])
        parts.append(
            (scaler.transform(embeddings[inner]), classes[inner], scaler.transform(embeddings[outer]), classes[outer])
        )
    models = [_logistic(cs[0], warm_start=True) for _ in parts]
    losses: list[float] = []
    for c in cs:
        total = 0.0
        for model, (points, known, new_points, truth) in zip(models, parts, strict=True):
            model.set_params(C=c)
            _fit_quietly(model, points, known)
            total += _summed_loss(model, new_points, truth)
        losses.append(total / sum(len(truth) for *_, truth in parts))
        if len(losses) > 1 and losses[-1] > losses[-2]:
            break
    return pd.DataFrame({"C": cs[: len(losses)], "log_loss": losses})


def _summed_loss(model: LogisticRegression, points: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Sum the log loss; a class that the model has never seen costs the same whatever its strength."""
    probability = model.predict_proba(points).astype(np.float64)
    column = np.searchsorted(model.classes_, truth).clip(max=len(model.classes_) - 1)
    known = model.classes_[column] == truth
    of_truth = np.where(known, probability[np.arange(len(truth)), column], 1.0)
    return float(-np.log(np.maximum(of_truth, 1e-15)).sum())


def _logistic(c: float, *, warm_start: bool = False) -> LogisticRegression:
    """Make the model; its data are float32, which halves the time."""
    return LogisticRegression(C=c, max_iter=MAX_ITER, warm_start=warm_start)


def _fit_quietly(model: LogisticRegression, points: NDArray[np.float32], classes: NDArray[np.int64]) -> None:
    """Fit; that the iterations ran out is told by the number of iterations in the log, not by a warning a split."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points, classes)


def patient_splits(patients: NDArray[np.generic], seed: int, n_splits: int = N_SPLITS) -> Iterator[Split]:
    """Split records into parts to fit on and parts to test on, with all records of a patient on one side.

    Parameters
    ----------
    patients : ndarray, shape (records,)
        Who each record is of.
    seed : int
        Seed of the assignment.
    n_splits : int, default 5
        Number of splits; fewer where there are not so many patients.

    Yields
    ------
    inner, outer : ndarray of int64
        Positions to fit on, and positions to test on.

    Raises
    ------
    EcgkitError
        If the records are of fewer than two patients.
    """
    number = min(n_splits, len(np.unique(patients)))
    if number < 2:
        raise EcgkitError("cross-validation needs the records of two patients in folds 1-8: leave this target out")
    splitter = GroupKFold(n_splits=number, shuffle=True, random_state=seed)
    yield from splitter.split(np.zeros(len(patients)), groups=patients)
