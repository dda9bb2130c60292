"""Paired tests of two models on the same records: DeLong's test, and differences in the same bootstrap resamples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from ecgkit.stats.resampling import interval
from ecgkit.stats.validation import Floats, known_scores

DIFFERENCE = ("difference", "difference_low", "difference_high", "p", "resamples")
"""The keys of a paired difference."""

ROUNDING = 1e-12
"""A standard error below this is zero up to rounding."""


@dataclass(frozen=True)
class DeLong:
    """The result of DeLong's test of two AUCs on the same records.

    Attributes
    ----------
    first, second : float
        The AUCs.
    difference : float
        First minus second.
    standard_error : float
        Of the difference; NaN with fewer than two positives or negatives.
    p : float
        Two-sided p value; NaN where the standard error is unknown, or is 0 although the AUCs differ.
    """

    first: float
    second: float
    difference: float
    standard_error: float
    p: float


def paired_difference(
    first: ArrayLike, second: ArrayLike, drawn_first: Floats, drawn_second: Floats
) -> dict[str, float | int]:
    """Compare two values by their paired bootstrap draws.

    Parameters
    ----------
    first, second : float
        The values.
    drawn_first, drawn_second : ndarray of float, shape (resamples,)
        Their values in the same resamples.

    Returns
    -------
    dict
        With the keys `DIFFERENCE`: ``difference`` (first minus second) with its 95 % interval ``difference_low`` and
        ``difference_high``, its ``p`` value (see `bootstrap_p`), and the number of ``resamples`` in which both are
        defined. Without an interval (see `ecgkit.stats.resampling.interval`) there is no p value.
    """
    draws = drawn_first - drawn_second
    low, high = interval(draws)
    p = float("nan") if np.isnan(low) else bootstrap_p(draws)
    numbers = (float(np.asarray(first) - np.asarray(second)), low, high, p, int((~np.isnan(draws)).sum()))
    return dict(zip(DIFFERENCE, numbers, strict=True))


def bootstrap_p(draws: ArrayLike) -> float:
    """Compute the two-sided p value of a zero difference that corresponds to the percentile interval.

    Of B resampled differences d* it is ``min(1, 2 * min(1 + #(d* <= 0), 1 + #(d* >= 0)) / (B + 1))``, so that it falls
    below 0.05 about where the 95 % interval excludes zero. It cannot fall below 2 / (B + 1): with 1000 resamples a Holm
    correction over more than 25 comparisons cannot find a difference, whatever the data.

    Parameters
    ----------
    draws : array-like of float, shape (resamples,)
        Differences; NaN is left out.

    Returns
    -------
    float
        NaN if the difference is defined in no resample.

    References
    ----------
    Davison and Hinkley, "Bootstrap methods and their application" (1997), sections 4.2 and 5.5.
    """
    known = np.asarray(draws, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        return float("nan")
    fewest = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    return min(1.0, 2 * (1 + fewest) / (known.size + 1))


def delong(y_true: ArrayLike, first: ArrayLike, second: ArrayLike) -> DeLong:
    """Test whether two AUCs of one class on the same records differ.

    The test assumes independent records. Where patients have several records it is anti-conservative; the bootstrap of
    patients is not.

    Parameters
    ----------
    y_true : array-like of bool, shape (records,)
        Outcomes; those that are unknown (NaN) are left out.
    first, second : array-like of float, shape (records,)
        Scores; ties count half.

    Returns
    -------
    DeLong
        All NaN without both outcomes.

    Raises
    ------
    EcgkitError
        If the shapes differ, or a score is NaN.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), doi:10.2307/2531595; computed in O(n log n) from mid-ranks
    as Sun and Xu, "Fast implementation of DeLong's algorithm", IEEE Signal Process. Lett. 21 (2014),
    doi:10.1109/LSP.2014.2337313, equations 9 to 12.
    """
    truth, scores_first = known_scores(y_true, first)
    scores_second = known_scores(y_true, second)[1]
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    if not (n_positive and n_negative):
        return DeLong(*[float("nan")] * 5)
    # The share of negatives below each positive, and of positives above each negative.
    below_first, above_first = _placements(truth, scores_first)
    below_second, above_second = _placements(truth, scores_second)
    auc_first, auc_second = float(below_first.mean()), float(below_second.mean())
    if min(n_positive, n_negative) < 2:
        return DeLong(auc_first, auc_second, auc_first - auc_second, float("nan"), float("nan"))
    variance = np.var(below_first - below_second, ddof=1) / n_positive
    variance += np.var(above_first - above_second, ddof=1) / n_negative
    difference, error = auc_first - auc_second, float(np.sqrt(variance))
    if error < ROUNDING:
        return DeLong(auc_first, auc_second, difference, 0.0, 1.0 if abs(difference) < ROUNDING else float("nan"))
    return DeLong(auc_first, auc_second, difference, error, 2 * float(norm.sf(abs(difference) / error)))


def _placements(truth: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Compute the structural components of an AUC: V10 of each positive, V01 of each negative."""
    rank = rankdata(scores)
    n_positive, n_negative = truth.sum(), (~truth).sum()
    below = (rank[truth] - rankdata(scores[truth])) / n_negative
    above = 1 - (rank[~truth] - rankdata(scores[~truth])) / n_positive
    return below, above
