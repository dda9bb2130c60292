"""Linear probes: ridge and logistic regression whose strength is chosen by patient-grouped cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax
from threadpoolctl import threadpool_limits

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.axes import Axes, LogisticSolver, Moments, moments, principal_axes, solve_ridge
from ecgkit.feature_space.probes.splits import N_SPLITS, Split, check_apart, patient_splits
from ecgkit.feature_space.standardize import Scaler, fit_scaler

__all__ = ["ALPHAS", "CS", "LinearProbe", "Problem", "fit_linear", "fit_logistic", "fit_ridge", "patient_splits"]

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 6, 15))
"""The penalties that a ridge probe chooses from; a larger one is stronger."""

CS = tuple(float(c) for c in np.logspace(-5, 0, 6))
"""The inverse penalties that a logistic probe chooses from; a smaller one is stronger."""

TOLERANCE, FINAL_TOLERANCE = 1e-1, 1e-2
"""Of a logistic regression: while its strength is chosen, and at last."""

RISEN = 1.01
"""Once its loss is so many times the lowest, a split tries no weaker penalty."""


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


@dataclass(frozen=True, eq=False)
class Problem:
    """One thing to be fitted.

    Attributes
    ----------
    truth : ndarray of float64, shape (records,)
        A number, or the number of a class; NaN where unknown, and the record is left out.
    is_class : bool
        Whether the truth is a class: a logistic regression instead of a ridge.
    strengths : tuple of float, optional
        The penalties ``alpha`` or inverse penalties ``C`` to choose from, the latter from the strongest penalty to the
        weakest; `ALPHAS` or `CS` where empty. One alone is taken without cross-validation.
    n_tried : int, default 5
        So many of the splits choose the strength.
    """

    truth: NDArray[np.float64]
    is_class: bool
    strengths: tuple[float, ...] = ()
    n_tried: int = N_SPLITS

    @property
    def tried(self) -> tuple[float, ...]:
        """The strengths to choose from."""
        return self.strengths or (CS if self.is_class else ALPHAS)

    def take(self, rows: NDArray[np.int64]) -> Problem:
        """Give the same problem on some of the records."""
        return replace(self, truth=self.truth[rows])


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
    problem = Problem(np.asarray(values, dtype=np.float64), is_class=False, strengths=tuple(alphas))
    return fit_linear(embeddings, {"value": problem}, patients, seed=seed)["value"]


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
    of a split has risen clearly, the rest is left out.

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
    truth = np.asarray(classes, dtype=np.float64)
    problem = Problem(truth, is_class=True, strengths=tuple(cs), n_tried=n_splits)
    return fit_linear(embeddings, {"value": problem}, patients, seed=seed, n_splits=n_splits)["value"]


def fit_linear(
    embeddings: NDArray[np.floating],
    problems: Mapping[str, Problem],
    patients: NDArray[np.generic],
    *,
    seed: int,
    n_splits: int = N_SPLITS,
) -> dict[str, LinearProbe]:
    """Fit many problems on the same embeddings; those that the same records know share nearly all of the work.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        Records that may be learned from.
    problems : mapping of str to Problem
        What is to be fitted.
    patients : ndarray, shape (records,)
        A patient's records are held out together.
    seed : int
        Seed of the splits.
    n_splits : int, default 5
        Number of splits.

    Returns
    -------
    dict of str to LinearProbe
        By the problems' names.

    Raises
    ------
    EcgkitError
        If a strength has to be chosen on records of fewer than two patients, or no split leaves two classes to learn
        from.
    """
    alike: dict[bytes, list[str]] = {}
    for name, problem in problems.items():
        alike.setdefault(np.isfinite(problem.truth).tobytes(), []).append(name)
    fitted: dict[str, LinearProbe] = {}
    with threadpool_limits(limits=1):
        for names in alike.values():
            rows = np.flatnonzero(np.isfinite(problems[names[0]].truth))
            group = _Group(embeddings[rows], {name: problems[name].take(rows) for name in names}, patients[rows])
            fitted |= group.fit(seed, n_splits)
    return {name: fitted[name] for name in problems}


class _Group:
    """Problems whose truth is known for all of the records."""

    def __init__(
        self, embeddings: NDArray[np.floating], problems: Mapping[str, Problem], patients: NDArray[np.generic]
    ) -> None:
        self.problems, self.patients = problems, patients
        self.scaler = fit_scaler(embeddings)
        self.points = self.scaler.transform(embeddings)
        self.column = {name: i for i, name in enumerate(name for name, p in problems.items() if not p.is_class)}
        numbers = [problems[name].truth for name in self.column]
        self.numbers = np.stack(numbers, axis=1) if numbers else np.empty((len(self.points), 0))
        # Numbers far from 0 would lose digits in sums of squares.
        self.means = self.numbers.mean(axis=0)
        self.numbers = self.numbers - self.means
        self.classes = {name: np.unique(p.truth, return_inverse=True) for name, p in problems.items() if p.is_class}

    def fit(self, seed: int, n_splits: int) -> dict[str, LinearProbe]:
        """Choose the strengths, and fit all records with them."""
        whole: Moments | None = None
        trials = {name: pd.DataFrame({_strength(p): p.tried, _merit(p): np.nan}) for name, p in self.problems.items()}
        if any(len(problem.tried) > 1 for problem in self.problems.values()):
            splits = list(patient_splits(self.patients, seed, n_splits))
            for split in splits:
                check_apart(self.patients, split)
            parts = [moments(self.points[outer], self.numbers[outer]) for _, outer in splits]
            whole = reduce(add, parts)
            # Threads inside each fit would only wait for one another; one split a core is faster, and gives the same
            # numbers whatever the number of cores.
            found = joblib.Parallel(n_jobs=min(joblib.cpu_count(), len(splits)), prefer="threads")(
                joblib.delayed(self._try_split)(i, split, whole - part)
                for i, (split, part) in enumerate(zip(splits, parts, strict=True))
            )
            trials |= {name: self._trials(name, found) for name, p in self.problems.items() if len(p.tried) > 1}
        axes = principal_axes(whole or moments(self.points, self.numbers))
        return {name: self._finish(name, axes, trials[name]) for name in self.problems}

    def _try_split(self, index: int, split: Split, of_inner: Moments) -> dict[str, tuple[NDArray[np.float64], int]]:
        """Give for each problem the summed error of each strength on what is held out, and of how many records."""
        inner, outer = split
        axes = principal_axes(of_inner)
        points = self.points[inner] if self.classes else self.points[:0]
        new_points = self.points[outer].astype(np.float64)
        found = {}
        for name, problem in self.problems.items():
            if len(problem.tried) < 2 or index >= problem.n_tried:
                continue
            if problem.is_class:
                classes, codes = self.classes[name]
                found[name] = _logistic_losses(
                    problem.tried, axes, (points, codes[inner]), (new_points, codes[outer]), len(classes)
                )
            else:
                coefficients, intercepts = solve_ridge(axes, self.column[name], problem.tried)
                predicted = new_points @ coefficients.T + intercepts
                error = predicted - self.numbers[outer, self.column[name], None]
                found[name] = ((error**2).sum(axis=0), len(outer))
        return found

    def _trials(self, name: str, found: Sequence[dict[str, tuple[NDArray[np.float64], int]]]) -> pd.DataFrame:
        """Lay out what each strength reached in all splits that tried it."""
        problem, parts = self.problems[name], [part[name] for part in found if name in part]
        total, number = np.sum([losses for losses, _ in parts], axis=0), sum(count for _, count in parts)
        if not number:
            raise EcgkitError(
                "a logistic probe needs two classes among the patients of folds 1-8: leave this target out"
            )
        if problem.is_class:
            score = total / number
        else:
            spread = float((self.numbers[:, self.column[name]] ** 2).sum())
            score = 1 - total / spread if spread else np.zeros_like(total)
        table = pd.DataFrame({_strength(problem): problem.tried, _merit(problem): score})
        return table[np.isfinite(score)].reset_index(drop=True)

    def _finish(self, name: str, axes: Axes, trials: pd.DataFrame) -> LinearProbe:
        """Fit all records with the strength that did best."""
        problem, merit = self.problems[name], trials.iloc[:, 1].to_numpy()
        best = 0 if len(trials) == 1 else int(np.argmin(merit) if problem.is_class else np.argmax(merit))
        strength, n_iterations = float(trials.iloc[:, 0].to_numpy()[best]), 0
        classes: tuple[int, ...] = ()
        if problem.is_class:
            names, codes = self.classes[name]
            classes = tuple(int(number) for number in names)
            solver = LogisticSolver(axes, self.points, codes)
            coefficients, intercepts, n_iterations = solver.solve(strength, tolerance=FINAL_TOLERANCE)
        else:
            coefficients, intercepts = solve_ridge(axes, self.column[name], [strength])
            intercepts = intercepts + self.means[self.column[name]]
        return LinearProbe(
            self.scaler, coefficients, intercepts, classes, _strength(problem), strength, trials, n_iterations
        )


def _strength(problem: Problem) -> str:
    return "C" if problem.is_class else "alpha"


def _merit(problem: Problem) -> str:
    return "log_loss" if problem.is_class else "r2"


def _logistic_losses(
    cs: Sequence[float],
    axes: Axes,
    inner: tuple[NDArray[np.float32], NDArray[np.int64]],
    outer: tuple[NDArray[np.float64], NDArray[np.int64]],
    n_classes: int,
) -> tuple[NDArray[np.float64], int]:
    """Sum the log loss of each inverse penalty on the held-out records of known classes; infinite if not tried."""
    known, codes = np.unique(inner[1], return_inverse=True)
    if len(known) < 2:
        return np.zeros(len(cs)), 0
    code_of = np.full(n_classes, -1)
    code_of[known] = np.arange(len(known))
    truth = code_of[outer[1]]
    rows = np.flatnonzero(truth >= 0)
    losses = np.full(len(cs), np.inf)
    solver = LogisticSolver(axes, inner[0], codes)
    for i, c in enumerate(cs):
        coefficients, intercepts, _ = solver.solve(c, tolerance=TOLERANCE)
        logits = outer[0][rows] @ coefficients.T + intercepts
        if len(known) == 2:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        losses[i] = -log_softmax(logits, axis=1)[np.arange(len(rows)), truth[rows]].sum()
        if losses[i] > RISEN * losses[:i].min(initial=np.inf):
            break
    return losses, len(rows)
