"""The beats around R peaks: cut out, compared with each other, aligned and averaged; pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import check_rate
from ecgkit.signals.rhythm import as_leads, medians

BEFORE, AFTER = 0.25, 0.45
"""Default extent of a beat before and after its R peak, in seconds."""

MIN_CORRELATION = 0.9
"""A beat that resembles the median beat less than this is left out of the mean beat."""

_STEP, _MOST_STEPS = 0.002, 3  # s: largest shift of a beat to match the others, in steps
_OVERLAY = 0.12  # s around the R peak that are compared

Floats = NDArray[np.floating]


def beats(
    signal: ArrayLike, peaks: ArrayLike, *, sampling_rate: float, before: float = BEFORE, after: float = AFTER
) -> NDArray[np.float32]:
    """Cut out the beats around R peaks, each lead measured from its level in the PR segment.

    The PR segment is where the leads of the median beat move least within 30 ms, between 140 and 40 ms before the R
    peak. Above about 130 beats/min the next beat reaches into the default window.

    Parameters
    ----------
    signal : array_like, shape (leads, samples)
        Millivolts. NaN stays NaN.
    peaks : array_like of int, shape (beats,)
        Samples, as from `ecgkit.signals.rhythm.r_peaks`. A beat whose window is not wholly inside the recording is
        left out.
    sampling_rate : float
        In Hz.
    before, after : float, default 0.25 and 0.45
        Seconds before and after the R peak. ``before`` reaches at least to the PR segment, 0.15 s.

    Returns
    -------
    ndarray of float32, shape (beats, leads, samples)
        In mV; the R peak is at sample ``round(before * sampling_rate)``.

    Raises
    ------
    EcgkitError
        If the signal has another shape, or the window or the sampling rate is out of range.
    """
    values = as_leads(signal).astype(np.float32, copy=False)
    return beats_of_many(values[None], [peaks], sampling_rate=sampling_rate, before=before, after=after)[0]


def beats_of_many(
    signals: Floats, peaks: Sequence[ArrayLike], *, sampling_rate: float, before: float = BEFORE, after: float = AFTER
) -> tuple[NDArray[np.float32], list[int]]:
    """Return the beats of recordings of equal length one after the other, and how many each has; see `beats`."""
    check_rate(sampling_rate)
    if before < 0.15 or after <= 0:
        raise EcgkitError(f"a beat from {before} s before to {after} s after the R peak: give at least 0.15 and over 0")
    n_before, n_after = round(before * sampling_rate), round(after * sampling_rate)
    n_records, n_leads, n_samples = signals.shape
    centres = [np.asarray(some, dtype=np.int64) for some in peaks]
    centres = [some[(some >= n_before) & (some + n_after <= n_samples)] for some in centres]
    numbers = [len(some) for some in centres]
    if not sum(numbers):
        return np.zeros((0, n_leads, n_before + n_after), np.float32), numbers
    windows = sliding_window_view(signals, n_before + n_after, axis=2).swapaxes(1, 2)
    cut = windows[np.repeat(np.arange(n_records), numbers), np.concatenate(centres) - n_before]
    for rows in _rows(numbers):
        segment = _pr_segment(cut[rows], n_before, sampling_rate)
        cut[rows] -= cut[rows, :, segment].mean(axis=2, keepdims=True)
    return cut, numbers


def _rows(numbers: Sequence[int]) -> list[slice]:
    """Return where the beats of each recording that has some are."""
    ends = accumulate(numbers)
    return [slice(end - number, end) for end, number in zip(ends, numbers, strict=True) if number]


def usual_beats(cut: Floats) -> NDArray[np.bool_]:
    """Mark the beats that look like most: extrasystoles and beats under artefacts do not.

    Their correlation with the median beat, over all leads and samples at once, is at least `MIN_CORRELATION`. In a
    noisy recording, where fewer than half of the beats reach it, the better half is taken.

    Parameters
    ----------
    cut : ndarray, shape (beats, leads, samples)
        As from `beats`.

    Returns
    -------
    ndarray of bool, shape (beats,)
    """
    return _usual(cut, [len(cut)])


def _usual(cut: Floats, numbers: Sequence[int]) -> NDArray[np.bool_]:
    """Mark the usual ones among the beats of each recording, see `usual_beats`."""
    usual = np.ones(len(cut), dtype=bool)
    flat = _finite(cut).reshape(len(cut), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    for rows in _rows(numbers):
        if rows.stop - rows.start < 3:
            continue
        middle = medians(centred[rows], axis=0)
        norm = norms[rows] * np.linalg.norm(middle)
        correlation = centred[rows] @ middle / np.where(norm > 0, norm, 1.0)
        usual[rows] = correlation >= min(MIN_CORRELATION, float(medians(correlation)))
    return usual


def aligned_mean_beat(
    cut: Floats, *, sampling_rate: float, before: float = BEFORE, rate: float = 500.0
) -> NDArray[np.float32]:
    """Average the usual beats on a finer grid, each shifted by up to 6 ms to match the others.

    Samples 10 ms apart mark R peaks up to 5 ms early or late, and the plain mean of such beats is too low and too wide.

    Parameters
    ----------
    cut : ndarray, shape (beats, leads, samples)
        As from `beats`, in mV.
    sampling_rate : float
        Of the beats, in Hz.
    before : float, default 0.25
        Seconds before the R peak, as they were cut.
    rate : float, default 500
        Samples per second of the result, in Hz.

    Returns
    -------
    ndarray of float32, shape (leads, samples)
        In mV, from ``-before`` on in steps of ``1 / rate`` to the last sample of the beats; NaN throughout without a
        beat. The R peak is at sample ``round(before * rate)``.

    Raises
    ------
    EcgkitError
        If a rate is not one of an ECG, see `ecgkit.signals.ecg.check_rate`.
    """
    return aligned_mean_beats(cut, [len(cut)], sampling_rate=sampling_rate, before=before, rate=rate)[0]


def aligned_mean_beats(
    cut: Floats, numbers: Sequence[int], *, sampling_rate: float, before: float = BEFORE, rate: float = 500.0
) -> NDArray[np.float32]:
    """Average the beats of each recording, as from `beats_of_many`; see `aligned_mean_beat`."""
    check_rate(sampling_rate)
    check_rate(rate, "rate")
    matrices = [
        _interpolation(cut.shape[2], float(before), float(sampling_rate), float(rate), shift)
        for shift in range(-_MOST_STEPS, _MOST_STEPS + 1)
    ]
    mean = np.full((len(numbers), cut.shape[1], matrices[0].shape[1]), np.nan, np.float32)
    if not len(cut):
        return mean
    usual, record = _usual(cut, numbers), np.repeat(np.arange(len(numbers)), numbers)
    known, of_known = _finite(cut[usual]), record[usual]
    steps = _steps_apart(known, of_known, round(before * sampling_rate), sampling_rate)
    # The beats of a recording that are moved equally far are added up first.
    order = np.lexsort((steps, of_known))
    keys = np.stack([of_known, steps], axis=1)[order]
    first = np.flatnonzero(np.diff(keys, axis=0, prepend=-9).any(axis=1))
    sums, keys = np.add.reduceat(known[order], first, axis=0), keys[first]
    mean[record] = 0
    for step in np.unique(steps).tolist():
        same = keys[:, 1] == step
        mean[keys[same, 0]] += sums[same] @ matrices[step + _MOST_STEPS]
    mean /= np.maximum(1, np.bincount(of_known, minlength=len(numbers)))[:, None, None].astype(np.float32)
    missing = np.argwhere(np.isnan(cut).any(axis=2))
    mean[record[missing[:, 0]], missing[:, 1]] = np.nan
    return mean


def _steps_apart(cut: Floats, record: NDArray[np.int64], n_before: int, sampling_rate: float) -> NDArray[np.int64]:
    """Return by how many steps of 2 ms each QRS complex is later than the mean of its recording; these are sorted."""
    reach = round(_OVERLAY * sampling_rate)
    part = cut[:, :, n_before - reach : n_before + reach + 1]
    margin = round(0.02 / _STEP)  # at each end: more than a beat is moved
    matrix = _interpolation(part.shape[2], _OVERLAY, float(sampling_rate), 1 / _STEP, 0)
    fine = (part.reshape(-1, part.shape[2]) @ matrix).reshape(*part.shape[:2], -1)
    windows = sliding_window_view(fine, fine.shape[2] - 2 * margin, axis=2).swapaxes(1, 2)
    _, first, group, numbers = np.unique(record, return_index=True, return_inverse=True, return_counts=True)
    steps = np.zeros(len(cut), np.int64)
    for _ in range(2):
        moved = windows[np.arange(len(cut)), margin + steps]
        mean = np.add.reduceat(moved, first, axis=0) / numbers[:, None, None].astype(np.float32)
        # The shift of least squares, from the first term of a Taylor series: what comes later is lower on a rise.
        slope = np.gradient(mean, axis=2)
        size = np.maximum(np.sum(slope**2, axis=(1, 2)), 1e-12)
        late = -np.einsum("bls,bls->b", moved - mean[group], slope[group]) / size[group]
        steps = (steps + np.rint(late).astype(np.int64)).clip(-_MOST_STEPS, _MOST_STEPS)
    return steps


@lru_cache(maxsize=64)
def _interpolation(n_samples: int, before: float, sampling_rate: float, rate: float, steps: int) -> NDArray[np.float32]:
    """Return the matrix that resamples beats with a cubic spline to ``rate``, some steps of 2 ms later."""
    from scipy.interpolate import CubicSpline

    n_before = round(before * sampling_rate)
    times = np.arange(-n_before, n_samples - n_before) / sampling_rate
    first = -round(before * rate)
    grid = np.arange(first, int(np.floor(times[-1] * rate + 1e-6)) + 1) / rate
    read = np.clip(grid + steps * _STEP, times[0], times[-1])
    return np.ascontiguousarray(CubicSpline(times, np.eye(n_samples))(read).T, dtype=np.float32)


def _finite(values: Floats) -> Floats:
    """Return finite values as they are, others as from `np.nan_to_num`, which copies in any case."""
    return values if np.isfinite(values).all() else np.nan_to_num(values)


def _pr_segment(cut: NDArray[np.float32], n_before: int, sampling_rate: float) -> slice:
    """Find the 30 ms before the QRS complex in which the leads of the median beat move least."""
    first, last = n_before - round(0.14 * sampling_rate), n_before - round(0.04 * sampling_rate)
    length = max(2, round(0.03 * sampling_rate))
    typical = np.nan_to_num(medians(cut[:, :, first:last], axis=0))
    windows = sliding_window_view(typical, length, axis=1)
    start = first + int(np.argmin(windows.var(axis=2).sum(axis=0)))
    return slice(start, start + length)
