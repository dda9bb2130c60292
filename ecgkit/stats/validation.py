"""The table of predictions as arrays, and checks of outcomes, scores and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError

if TYPE_CHECKING:
    import pandas as pd

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FoldScores:
    """The predictions for one fold, as arrays.

    Attributes
    ----------
    fold : int
        The fold.
    classes : tuple of str
        The names of the columns.
    y_true : ndarray of bool, shape (records, classes)
        Outcomes; float64 with NaN where a label is unknown, if one is.
    prob : ndarray of float64, shape (records, classes)
        Uncalibrated probabilities.
    calibrated : ndarray of float64, shape (records, classes), or None
        Calibrated probabilities; None if the table has none.
    """

    fold: int
    classes: tuple[str, ...]
    y_true: Bools | Floats
    prob: Floats
    calibrated: Floats | None = None

    @property
    def known(self) -> Bools:
        """Which labels are known, shape (records, classes)."""
        return ~np.isnan(self.y_true) if self.y_true.dtype != bool else np.ones(self.y_true.shape, bool)

    @property
    def positive(self) -> Bools:
        """Which labels are known to be true, shape (records, classes)."""
        return self.y_true > 0

    def require_calibrated(self) -> Floats:
        """Return the calibrated probabilities.

        Raises
        ------
        EcgkitError
            If there are none.
        """
        if self.calibrated is None:
            raise EcgkitError('the predictions have no columns "calibrated_CLASS": add them with add_calibration')
        return self.calibrated

    def take(self, rows: NDArray[Any]) -> FoldScores:
        """Return the scores of some of the records, chosen by positions (possibly repeated) or by a mask."""
        calibrated = None if self.calibrated is None else self.calibrated[rows]
        return replace(self, y_true=self.y_true[rows], prob=self.prob[rows], calibrated=calibrated)


def fold_scores(predictions: pd.DataFrame, classes: Sequence[str], fold: int) -> FoldScores:
    """Read one fold of a table of predictions.

    Parameters
    ----------
    predictions : DataFrame
        Columns ``fold``, and for each class ``true_CLASS`` (missing where unknown), ``prob_CLASS`` and, optionally,
        ``calibrated_CLASS``.
    classes : sequence of str
        The classes to read.
    fold : int
        The fold to read.

    Returns
    -------
    FoldScores

    Raises
    ------
    EcgkitError
        If a column or the fold is missing, or a score is NaN or outside 0 to 1.
    """
    kinds = ["true", "prob"]
    if f"calibrated_{classes[0]}" in predictions:
        kinds.append("calibrated")
    wanted = ["fold", *(f"{kind}_{name}" for kind in kinds for name in classes)]
    missing = [column for column in wanted if column not in predictions]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise EcgkitError(f"the predictions have no column {missing[0]!r}{more}: pass a table with every class in it")
    rows = predictions[predictions["fold"] == fold]
    if rows.empty:
        there = ", ".join(str(one) for one in sorted(predictions["fold"].unique())) or "none"
        raise EcgkitError(f"the predictions have no record of fold {fold} (there: {there}): predict folds 9 and 10")
    # One memory layout: sums in another order would differ in the last digit.
    arrays = {kind: np.ascontiguousarray(rows[[f"{kind}_{name}" for name in classes]].to_numpy()) for kind in kinds}
    truth, prob, known = check_scores(arrays["true"], arrays["prob"])
    check_probabilities(prob, "prob")
    calibrated = None
    if "calibrated" in arrays:
        calibrated = check_scores(truth, arrays["calibrated"])[1]
        check_probabilities(calibrated, "calibrated")
    return FoldScores(fold, tuple(classes), truth if known.all() else np.where(known, truth, np.nan), prob, calibrated)


def as_outcomes(column: pd.Series) -> pd.Series:
    """Convert a column of outcomes to bool, or to nullable booleans if one is unknown."""
    return column.astype("boolean" if column.isna().any() else bool)


def known_true(labels: pd.DataFrame) -> Bools:
    """Return which labels are known to be true, shape (records, classes); missing ones are unknown."""
    return labels.eq(other=True).fillna(value=False).to_numpy(dtype=bool)


def is_quantity(predictions: pd.DataFrame, classes: Sequence[str]) -> bool:
    """Return True if a table of predictions is of a quantity, with ``predicted_NAME`` instead of ``prob_NAME``."""
    # A table of probabilities may have decisions under that name, as the one that a predictor makes.
    return f"predicted_{classes[0]}" in predictions and f"prob_{classes[0]}" not in predictions


def check_scores(y_true: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats, Bools]:
    """Check that outcomes and scores can be compared.

    Parameters
    ----------
    y_true : array-like of bool or of 0 and 1, shape (records,) or (records, classes)
        Outcomes; NaN, None, `pandas.NA` and what is masked are unknown.
    scores : array-like of float, of the same shape
        Scores; float64 comes back, so that no comparison depends on the precision they were stored in.

    Returns
    -------
    truth : ndarray of bool
        Outcomes, false where they are unknown.
    values : ndarray of float64
        Scores.
    known : ndarray of bool
        Which outcomes are known.

    Raises
    ------
    EcgkitError
        If the shapes differ or are others, there is no record, an outcome is neither 0 nor 1, or a score is NaN or no
        number.
    """
    truth, known = _outcomes(y_true)
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EcgkitError(f"the scores are not numbers ({error}): pass one number per outcome") from error
    if truth.ndim not in (1, 2):
        raise EcgkitError(f"outcomes have the shape {truth.shape}: pass (records,) or (records, classes)")
    if truth.shape != values.shape:
        raise EcgkitError(
            f"outcomes have the shape {truth.shape} and scores {values.shape}: pass one score per outcome"
        )
    if len(truth) == 0:
        raise EcgkitError("there is no record to evaluate: pass at least one")
    if n_nan := int(np.isnan(values).sum()):
        raise EcgkitError(f"{n_nan} of {values.size} scores are NaN: the model has diverged; train it again")
    return truth, values, known


def known_scores(y_true: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats]:
    """Check the outcomes and scores of one class as `check_scores` does, and leave out the unknown outcomes."""
    truth, values, known = check_scores(y_true, scores)
    return truth[known], values[known]


def _outcomes(y_true: ArrayLike) -> tuple[Bools, Bools]:
    """Return outcomes, false where they are unknown, and which of them are known."""
    masked = np.ma.getmaskarray(y_true) if isinstance(y_true, np.ma.MaskedArray) else None
    values = np.asarray(y_true) if masked is None else np.where(masked, np.nan, np.asarray(y_true))
    if values.dtype == bool:
        return values, np.ones(values.shape, bool)
    if values.dtype == object:
        import pandas as pd

        values = np.where(pd.isna(values), np.nan, values)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        numbers = np.full(values.shape, -1.0)
    truth, known = numbers == 1, ~np.isnan(numbers)
    if not (truth | (numbers == 0) | ~known).all():
        raise EcgkitError("an outcome is neither 0 nor 1: pass booleans, and NaN where an outcome is unknown")
    return truth, known


def check_probabilities(prob: Floats, name: str = "probability") -> None:
    """Check that all values are between 0 and 1.

    Raises
    ------
    EcgkitError
        If one does not, or is NaN.
    """
    if not ((prob >= 0) & (prob <= 1)).all():
        span = f"{prob.min():g} to {prob.max():g}"
        raise EcgkitError(f"a {name} is outside 0 to 1 ({span}): pass probabilities, not logits")


def class_thresholds(thresholds: Mapping[str, Any], classes: Sequence[str]) -> Floats:
    """Return thresholds in the order of the classes.

    Parameters
    ----------
    thresholds : mapping
        Class to threshold, or the contents of ``thresholds.json``, with that mapping under ``"thresholds"``.
    classes : sequence of str
        The classes.

    Returns
    -------
    ndarray of float64, shape (classes,)

    Raises
    ------
    EcgkitError
        If a class has no threshold.
    """
    values = thresholds.get("thresholds", thresholds)
    missing = [name for name in classes if name not in values]
    if missing:
        raise EcgkitError(f"no threshold for {', '.join(missing)}: fit the thresholds with these classes")
    return np.array([values[name] for name in classes], dtype=np.float64)


def decide(scores: FoldScores, thresholds: Mapping[str, Any]) -> Bools:
    """Decide which classes are predicted: those whose calibrated probability is at least their threshold.

    Parameters
    ----------
    scores : FoldScores
        Probabilities of a fold, including the calibrated ones.
    thresholds : mapping
        As for `class_thresholds`.

    Returns
    -------
    ndarray of bool, shape (records, classes)
    """
    return scores.require_calibrated() >= class_thresholds(thresholds, scores.classes)


def divide(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Divide; NaN where the denominator is zero."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    out = np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan)
    return np.divide(top, bottom, out=out, where=bottom != 0)[()]


@dataclass(frozen=True)
class Columns:
    """Outcomes and scores as columns, and weights as rows.

    Attributes
    ----------
    truth : ndarray of bool, shape (records, classes)
        Outcomes, false where they are unknown.
    scores : ndarray of float64, shape (records, classes)
        Scores.
    known : ndarray of bool, shape (records, classes)
        Which outcomes are known.
    weights : ndarray of float64, shape (resamples, records)
        How often each record counts; a single row of ones by default.
    """

    truth: Bools
    scores: Floats
    known: Bools
    weights: Floats
    is_one_class: bool
    is_weighted: bool

    def shaped(self, result: Floats) -> Floats:
        """Reshape a result of shape (resamples, classes) to match the input."""
        return self.of_records(result[..., 0] if self.is_one_class else result)

    def of_records(self, result: Floats) -> Floats:
        """Reshape a result of all classes together, shape (resamples,), to match the input."""
        return (result if self.is_weighted else result[0])[()]

    @property
    def decided(self) -> Bools:
        """The scores as decisions, false where the outcome is unknown."""
        return self.scores.astype(bool) & self.known

    def each(self, function: Callable[[Bools, Floats, Floats], Floats]) -> Floats:
        """Call a function of outcomes, scores and weights on the known records of each class; NaN without any."""
        results = []
        for truth, scores, known in zip(self.truth.T, self.scores.T, self.known.T, strict=True):
            if known.all():
                results.append(function(truth, scores, self.weights))
            elif known.any():
                results.append(function(truth[known], scores[known], self.weights[:, known]))
            else:
                results.append(np.full(len(self.weights), np.nan))
        return self.shaped(np.stack(results, axis=-1))


def columns(y_true: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> Columns:
    """Check outcomes, scores and weights, and arrange them.

    Raises
    ------
    EcgkitError
        As `check_scores`; or if a weight is negative or NaN, or there is not one for each record.
    """
    truth, values, known = check_scores(y_true, scores)
    counts = np.ones((1, len(truth))) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[1] != len(truth):
        raise EcgkitError(f"weights have the shape {counts.shape}: pass one row per resample, of {len(truth)} records")
    if not (counts >= 0).all():
        raise EcgkitError("a weight is negative or NaN: give how often each record counts")
    is_one = truth.ndim == 1
    if is_one:
        truth, values, known = truth[:, None], values[:, None], known[:, None]
    return Columns(truth, values, known, counts, is_one, weights is not None)
