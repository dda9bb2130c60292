"""Linear probes: ridge and logistic regression whose strength is chosen by patient-grouped cross-validation.

The results are those of scikit-learn's ``GridSearchCV`` over ``StandardScaler`` and ``Ridge`` or
``LogisticRegression``. All strengths and all targets that the same records know share one eigendecomposition per split,
and the moments of a split are those of all records minus those of the held-out part: ``benchmarks/feature_space.py``
measures how much faster that is.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import joblib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.standardize import Scaler, fit_scaler
from ecgkit.stats import Floats
from ecgkit.stats.identifiers import patient_codes

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 6, 15))
"""Penalties from which a ridge probe chooses; a larger one is stronger."""

CS = tuple(float(c) for c in np.logspace(-5, 0, 6))
"""Inverse penalties from which a logistic probe chooses; a smaller one is stronger."""

TOLERANCE, FINAL_TOLERANCE = 1e-1, 1e-2
"""Largest derivative at which a logistic regression stops: while its strength is chosen, and in the final fit."""

RISEN = 1.01
"""When its loss has risen to so many times the lowest, a split tries no weaker penalty."""

N_SPLITS = 5
MULTICLASS_SPLITS = 3  # of the splits for a problem of more than two classes, which takes the longest
BLOCK = 2048  # records whose products are summed at a time in double precision
MIN_STD = 1e-6  # a standardised feature that varies less among some of the records is constant there
MAX_ITER = 300  # iterations after which a logistic regression stops

Key = TypeVar("Key", bound=Hashable)
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
        A regression has one output, a classification of two classes one (the logit of the second), of more classes one
        logit per class.
    classes : tuple of int
        The classes of a classification, ascending; empty for a regression.
    strength_name : str
        ``"alpha"`` of the ridge or ``"C"`` of the logistic regression, as in scikit-learn.
    strength : float
        The chosen one.
    trials : DataFrame
        One row per strength that was tried: ``alpha`` or ``C``, and the cross-validated ``r2`` or ``log_loss``.
    """

    scaler: Scaler
    coefficients: Floats
    intercepts: Floats
    classes: tuple[int, ...]
    strength_name: str
    strength: float
    trials: pd.DataFrame

    def outputs(self, embeddings: NDArray[np.floating]) -> Floats:
        """Return values in the unit of the target, or logits, shape (records, outputs)."""
        return self.scaler.transform(embeddings).astype(np.float64) @ self.coefficients.T + self.intercepts

    def probability(self, embeddings: NDArray[np.floating]) -> Floats:
        """Return the probability of each of ``classes``, shape (records, classes)."""
        logits = self.outputs(embeddings)
        if logits.shape[1] == 1:
            second = expit(logits[:, 0])
            return np.stack([1 - second, second], axis=1)
        return softmax(logits, axis=1)

    def decide(self, embeddings: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the most probable class, shape (records,)."""
        return np.array(self.classes, dtype=np.int64)[self.probability(embeddings).argmax(axis=1)]


@dataclass(frozen=True, eq=False)
class Problem:
    """One probe to fit.

    Attributes
    ----------
    truth : ndarray of float64, shape (records,)
        A quantity, or the index of a class; NaN where unknown, and the record is left out.
    is_class : bool
        Whether the truth is a class: a logistic regression instead of a ridge.
    strengths : tuple of float, optional
        The penalties ``alpha``, or inverse penalties ``C`` in ascending order, from which to choose; `ALPHAS` or `CS`
        by default. A single one is used without cross-validation.
    """

    truth: Floats
    is_class: bool
    strengths: tuple[float, ...] = ()

    @property
    def tried(self) -> tuple[float, ...]:
        """The strengths from which to choose."""
        return self.strengths or (CS if self.is_class else ALPHAS)

    @property
    def n_splits(self) -> int:
        """The number of splits on which the strength is chosen, wherever the same problem is fitted."""
        n_kinds = len(np.unique(self.truth[np.isfinite(self.truth)]))
        return MULTICLASS_SPLITS if self.is_class and n_kinds > 2 else N_SPLITS

    @property
    def columns(self) -> tuple[str, str]:
        """The names of the strength and of the score that chooses it."""
        return ("C", "log_loss") if self.is_class else ("alpha", "r2")


def patient_splits(patients: ArrayLike, *, seed: int) -> list[Split]:
    """Split records five times into rows to fit on and rows to score, with each patient on one side.

    Parameters
    ----------
    patients : array-like, shape (records,)
        The patient of each record.
    seed : int
        Seed of the splits.

    Returns
    -------
    list of tuple of two ndarray of int64
        As `cv` of scikit-learn's searches.

    Raises
    ------
    EcgkitError
        If there are fewer than two patients.
    """
    codes = patient_codes(patients)
    number = min(N_SPLITS, len(np.unique(codes)))
    if number < 2:
        raise EcgkitError("cross-validation needs the records of two patients in folds 1-8: leave this target out")
    splitter = GroupKFold(n_splits=number, shuffle=True, random_state=seed)
    return list(splitter.split(codes, groups=codes))


def fit_linear(
    embeddings: NDArray[np.floating],
    problems: Mapping[Key, Problem],
    patients: NDArray[np.generic],
    *,
    seed: int,
    n_jobs: int | None = None,
) -> dict[Key, LinearProbe]:
    """Fit many probes on the same embeddings; those that the same records know share nearly all of the work.

    Parameters
    ----------
    embeddings : ndarray, shape (records, features)
        Records of folds 1-8.
    problems : mapping of any key to Problem
        The probes to fit.
    patients : ndarray, shape (records,)
        Records of the same patient are held out together.
    seed : int
        Seed of the splits.
    n_jobs : int, optional
        Threads, one per split; by default as many as there are cores. The numbers do not depend on it.

    Returns
    -------
    dict of any key to LinearProbe
        By the keys of the problems.

    Raises
    ------
    EcgkitError
        If a strength has to be chosen on records of fewer than two patients, or no split leaves two classes to fit.
    """
    alike: dict[bytes, list[Key]] = {}
    for name, problem in problems.items():
        alike.setdefault(np.isfinite(problem.truth).tobytes(), []).append(name)
    fitted: dict[Key, LinearProbe] = {}
    with threadpool_limits(limits=1):
        for names in alike.values():
            rows = np.flatnonzero(np.isfinite(problems[names[0]].truth))
            of_rows = {name: replace(problems[name], truth=problems[name].truth[rows]) for name in names}
            fitted |= _Group(embeddings[rows], of_rows, patients[rows]).fit(seed, n_jobs)
    return {name: fitted[name] for name in problems}


class _Group(Generic[Key]):
    """Problems whose truth is known for all of the records."""

    def __init__(
        self, embeddings: NDArray[np.floating], problems: Mapping[Key, Problem], patients: NDArray[np.generic]
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

    def fit(self, seed: int, n_jobs: int | None) -> dict[Key, LinearProbe]:
        """Choose the strengths, and fit all records with them."""
        is_wide = len(self.points) < self.points.shape[1]
        whole = None if is_wide else _moments(self.points, self.numbers)
        trials = {
            name: pd.DataFrame(dict(zip(problem.columns, (problem.tried, np.nan), strict=True)))
            for name, problem in self.problems.items()
        }
        if any(len(problem.tried) > 1 for problem in self.problems.values()):
            splits = patient_splits(self.patients, seed=seed)
            # One thread per split: threads inside each fit would wait for one another.
            found = joblib.Parallel(n_jobs=n_jobs or min(joblib.cpu_count(), len(splits)), prefer="threads")(
                joblib.delayed(self._try_split)(i, split, whole) for i, split in enumerate(splits)
            )
            trials |= {name: self._trials(name, found) for name, p in self.problems.items() if len(p.tried) > 1}
        axes = _Axes(self.points, self.numbers, whole)
        return {name: self._finish(name, axes, trials[name]) for name in self.problems}

    def _try_split(self, index: int, split: Split, whole: _Moments | None) -> dict[Key, tuple[Floats, int]]:
        """Return per problem the summed error of each strength on the held-out records, and their number."""
        inner, outer = split
        points = self.points[inner]
        # The moments of a split are those of all records minus those of the held-out part.
        of_inner = None if whole is None else whole - _moments(self.points[outer], self.numbers[outer])
        axes = _Axes(points, self.numbers[inner], of_inner)
        new_points = self.points[outer].astype(np.float64)
        found = {}
        for name, problem in self.problems.items():
            if len(problem.tried) < 2 or index >= problem.n_splits:
                continue
            if problem.is_class:
                classes, codes = self.classes[name]
                found[name] = _logistic_losses(
                    problem.tried, axes, (points, codes[inner]), (new_points, codes[outer]), len(classes)
                )
            else:
                coefficients, intercepts = axes.ridge(self.column[name], problem.tried)
                predicted = new_points @ coefficients.T + intercepts
                error = predicted - self.numbers[outer, self.column[name], None]
                found[name] = ((error**2).sum(axis=0), len(outer))
        return found

    def _trials(self, name: Key, found: Sequence[dict[Key, tuple[Floats, int]]]) -> pd.DataFrame:
        """Return the score of each strength over all splits that tried it."""
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
        table = pd.DataFrame(dict(zip(problem.columns, (problem.tried, score), strict=True)))
        return table[np.isfinite(score)].reset_index(drop=True)

    def _finish(self, name: Key, axes: _Axes, trials: pd.DataFrame) -> LinearProbe:
        """Fit all records with the best strength."""
        problem, scores = self.problems[name], trials.iloc[:, 1].to_numpy()
        best = 0 if len(trials) == 1 else int(np.argmin(scores) if problem.is_class else np.argmax(scores))
        strength = float(trials.iloc[:, 0].to_numpy()[best])
        classes: tuple[int, ...] = ()
        if problem.is_class:
            names, codes = self.classes[name]
            classes = tuple(int(number) for number in names)
            solver = _LogisticSolver(axes, self.points, codes)
            coefficients, intercepts = solver.solve(strength, tolerance=FINAL_TOLERANCE)
        else:
            coefficients, intercepts = axes.ridge(self.column[name], [strength])
            intercepts = intercepts + self.means[self.column[name]]
        return LinearProbe(self.scaler, coefficients, intercepts, classes, problem.columns[0], strength, trials)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Number of records, and sums and products of features and targets (the last columns), not centred."""

    number: int
    sums: Floats
    products: Floats

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.number - other.number, self.sums - other.sums, self.products - other.products)


def _moments(points: NDArray[np.float32], targets: Floats) -> _Moments:
    """Sum products of standardised features and targets in double precision."""
    n_columns = points.shape[1] + targets.shape[1]
    sums, products = np.zeros(n_columns), np.zeros((n_columns, n_columns))
    for begin in range(0, len(points), BLOCK):
        block = np.concatenate([points[begin : begin + BLOCK], targets[begin : begin + BLOCK]], axis=1)
        sums += block.sum(axis=0)
        products += block.T @ block
    return _Moments(len(points), sums, products)


class _Axes:
    """Principal axes of some records, standardised by their own mean ``shift`` and deviation ``scale``.

    They are those of the products of the features, in ``of``, or for fewer records than features, without ``of``, those
    of the products of the records.
    """

    def __init__(self, points: NDArray[np.float32], targets: Floats, of: _Moments | None) -> None:
        if of is None:
            self._from_records(points, targets)
        else:
            self._from_features(of, points.shape[1])

    def _from_records(self, points: NDArray[np.float32], targets: Floats) -> None:
        """Take the axes of the products of the records."""
        deviation = points.std(axis=0, dtype=np.float64)
        self.number, self.shift = len(points), points.mean(axis=0, dtype=np.float64)
        self.target_means, self.scale = targets.mean(axis=0), np.where(deviation > MIN_STD, deviation, 1.0)
        standardised = (points - self.shift) / self.scale
        values, rows = np.linalg.eigh(standardised @ standardised.T)
        kept = values > MIN_STD * values[-1]
        self.eigenvalues = values[kept]
        self.vectors = standardised.T @ (rows[:, kept] / np.sqrt(self.eigenvalues))
        self.along = self.vectors.T @ (standardised.T @ (targets - self.target_means))

    def _from_features(self, of: _Moments, n_features: int) -> None:
        """Take the axes of the products of the features."""
        mean = of.sums / of.number
        centred = of.products - of.number * np.outer(mean, mean)
        deviation = np.sqrt(np.maximum(np.diag(centred)[:n_features], 0.0) / of.number)
        self.number, self.shift, self.target_means = of.number, mean[:n_features], mean[n_features:]
        self.scale = np.where(deviation > MIN_STD, deviation, 1.0)
        values, self.vectors = np.linalg.eigh(centred[:n_features, :n_features] / np.outer(self.scale, self.scale))
        self.eigenvalues = np.maximum(values, 0.0)
        self.along = self.vectors.T @ (centred[:n_features, n_features:] / self.scale[:, None])

    def ridge(self, target: int, alphas: Sequence[float]) -> tuple[Floats, Floats]:
        """Return coefficients (alphas, features) and intercepts (alphas,) of ridge regressions for all penalties.

        Hastie, Tibshirani and Friedman, "The elements of statistical learning", 2nd edition 2009, equation 3.47.
        """
        shrunk = self.along[:, target] / (self.eigenvalues + np.asarray(alphas, dtype=np.float64)[:, None])
        coefficients = (shrunk @ self.vectors.T) / self.scale
        return coefficients, self.target_means[target] - coefficients @ self.shift


class _LogisticSolver:
    """A logistic regression solved for one strength after the other, each starting from the solution before.

    The coefficients are sought along the principal axes, each divided by the root of the curvature that the loss has
    there at the start (compare the bound of Böhning 1992, doi:10.1007/BF00048682). The directions of that problem are
    about equally steep, and L-BFGS (Byrd et al. 1995, doi:10.1137/0916069) takes some ten steps instead of hundreds.
    """

    def __init__(self, axes: _Axes, points: NDArray[np.float32], codes: NDArray[np.int64]) -> None:
        self.axes, self.points = axes, points
        n_classes = int(codes.max()) + 1
        share = np.bincount(codes, minlength=n_classes) / len(codes)
        self.binary = n_classes == 2
        self.curvature = (share * (1 - share))[1:] if self.binary else share * (1 - share)
        logits = np.log(share)
        self.bias = logits[1:] - logits[:1] if self.binary else logits - logits.mean()
        self.weights = np.zeros((len(axes.eigenvalues), len(self.bias)))
        self.vectors = axes.vectors.astype(np.float32)
        self.truth = np.eye(n_classes, dtype=np.float32)[codes][:, 1 if self.binary else 0 :]

    def solve(self, c: float, *, tolerance: float) -> tuple[Floats, Floats]:
        """Return coefficients (outputs, features) and intercepts (outputs,) for one ``C``."""
        step = 1 / np.sqrt(self.axes.eigenvalues[:, None] * self.curvature + 1 / c)
        bias_step = 1 / np.sqrt(self.axes.number * self.curvature)
        start = np.concatenate([self.weights / step, (self.bias / bias_step)[None]])

        def objective(x: Floats) -> tuple[float, Floats]:
            scaled = x.reshape(start.shape)
            weights, bias = scaled[:-1] * step, scaled[-1] * bias_step
            loss, of_weights, of_bias = self._loss(weights, bias)
            gradient = np.concatenate([(of_weights + weights / c) * step, (of_bias * bias_step)[None]])
            return loss + float((weights**2).sum()) / (2 * c), gradient.ravel()

        options = {"gtol": tolerance, "ftol": 1e-10, "maxiter": MAX_ITER, "maxcor": 20}
        found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        solution = found.x.reshape(start.shape)
        self.weights, self.bias = solution[:-1] * step, solution[-1] * bias_step
        coefficients = (self.axes.vectors @ self.weights).T / self.axes.scale
        return coefficients, self.bias - coefficients @ self.axes.shift

    def _loss(self, weights: Floats, bias: Floats) -> tuple[float, Floats, Floats]:
        """Return the summed log loss and its derivatives by the weights along the axes and by the intercepts."""
        coefficients = (self.vectors @ weights.astype(np.float32)) / self.axes.scale[:, None].astype(np.float32)
        offset = bias - self.axes.shift @ coefficients
        logits = self.points @ coefficients + offset.astype(np.float32)
        if self.binary:
            loss = (np.logaddexp(0.0, logits) - logits * self.truth).sum(dtype=np.float64)
            residual = expit(logits) - self.truth
        else:
            log_probability = log_softmax(logits, axis=1)
            loss = -(log_probability * self.truth).sum(dtype=np.float64)
            residual = np.exp(log_probability) - self.truth
        of_bias = residual.sum(axis=0, dtype=np.float64)
        of_points = (self.points.T @ residual).astype(np.float64) - np.outer(self.axes.shift, of_bias)
        along = self.vectors.T @ (of_points / self.axes.scale[:, None]).astype(np.float32)
        return float(loss), along.astype(np.float64), of_bias


def _logistic_losses(
    cs: Sequence[float],
    axes: _Axes,
    inner: tuple[NDArray[np.float32], NDArray[np.int64]],
    outer: tuple[Floats, NDArray[np.int64]],
    n_classes: int,
) -> tuple[Floats, int]:
    """Sum the log loss of each inverse penalty on the held-out records of known classes; infinite if not tried."""
    known, codes = np.unique(inner[1], return_inverse=True)
    if len(known) < 2:
        return np.zeros(len(cs)), 0
    code_of = np.full(n_classes, -1)
    code_of[known] = np.arange(len(known))
    truth = code_of[outer[1]]
    rows = np.flatnonzero(truth >= 0)
    losses = np.full(len(cs), np.inf)
    solver = _LogisticSolver(axes, inner[0], codes)
    for i, c in enumerate(cs):
        coefficients, intercepts = solver.solve(c, tolerance=TOLERANCE)
        logits = outer[0][rows] @ coefficients.T + intercepts
        if len(known) == 2:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        losses[i] = -log_softmax(logits, axis=1)[np.arange(len(rows)), truth[rows]].sum()
        if losses[i] > RISEN * losses[:i].min(initial=np.inf):
            break
    return losses, len(rows)
