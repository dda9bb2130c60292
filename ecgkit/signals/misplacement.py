"""Electrodes in the wrong place, a wrong sign and a wrong sampling rate: logistic models of the mean beat.

Einthoven's law holds for all of these, and no limit on one number finds them: the P wave and the QRS complex of lead I,
the growth of R from V1 to V6 and the likeness of I and V6 vary between hearts. `features` describes all of them at
once; `misplacement.json` has one weight per feature and fault, fitted by ``benchmarks/quality.py`` on PTB-XL's folds
1-8, on records as they are and with the fault planted.
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgkit.signals.beats import RATE, beat_times
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.rhythm import aligned_mean_beat, beats, heart_rate

WEIGHTS = Path(__file__).with_name("misplacement.json")

EDGES = (-0.22, -0.16, -0.10, -0.04, -0.015, 0.015, 0.04, 0.07, 0.12, 0.20, 0.28, 0.36, 0.44)
"""In s after the R peak: the mean beat is averaged between each two of them."""

INDEPENDENT = tuple(LEADS.index(lead) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"))
"""The leads of which the others are sums."""

SHARES = (0.1, 0.2, 0.5)
"""Of the largest slope: how long the leads together are steeper than this is the width of the QRS complex."""

FEWEST_BEATS = 3


def misplacement_scores(
    signal: NDArray[np.float32], peaks: NDArray[np.int64], *, sampling_rate: float
) -> dict[str, float]:
    """Return for each fault how much more likely it is than at its limit.

    Parameters
    ----------
    signal : ndarray of float32, shape (12, samples)
        In mV.
    peaks : ndarray of int
        R peaks, as from `ecgkit.signals.rhythm.r_peaks`.
    sampling_rate : float
        In Hz.

    Returns
    -------
    dict of str to float
        Difference of log odds; a fault is suspected above zero. Empty if a lead is absent or flat, or there are fewer
        than three beats.
    """
    if len(peaks) < FEWEST_BEATS or not (np.ptp(signal, axis=1) > 0).all():
        return {}
    cut = beats(signal, peaks, sampling_rate=sampling_rate)
    if not len(cut):
        return {}
    beat = aligned_mean_beat(cut, sampling_rate=sampling_rate, rate=RATE)
    described = features(beat, heart_rate(peaks, sampling_rate=sampling_rate), sampling_rate=sampling_rate)
    return {fault: float(weights[:-1] @ described + weights[-1]) for fault, weights in _weights().items()}


def features(beat: NDArray[np.float32], rate: float, *, sampling_rate: float) -> NDArray[np.float64]:
    """Describe a mean beat.

    Parameters
    ----------
    beat : ndarray of float32, shape (12, samples)
        As from `ecgkit.signals.beats.record_beat`.
    rate : float
        Heart rate in beats per minute.
    sampling_rate : float
        Of the record, in Hz.

    Returns
    -------
    ndarray of float64, shape (features,)
        The course of the independent leads by `EDGES`, relative to their size; the correlation of each two of these,
        III, aVL and -aVR; their sizes; the heart rate; and the width of the QRS complex.
    """
    leads = beat[list(INDEPENDENT)].astype(np.float64)
    leads /= np.sqrt(np.mean(leads**2)) + 1e-6
    course = leads @ _means_between_edges(float(sampling_rate))
    one, two = leads[:2]
    several = np.vstack([leads, two - one, one - two / 2, (one + two) / 2])
    sizes = np.linalg.norm(several, axis=1)
    unit = several / (sizes[:, None] + 1e-6)
    likeness = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    speed = np.sqrt(np.sum(np.diff(leads, axis=1) ** 2, axis=0))
    widths = [np.mean(speed > share * speed.max()) for share in SHARES]
    return np.concatenate([course.T.ravel(), likeness, np.log(sizes + 1e-3), [np.log(rate)], np.log(widths)])


@lru_cache(maxsize=32)
def _means_between_edges(sampling_rate: float) -> NDArray[np.float64]:
    """Return the matrix that averages a mean beat between each two of `EDGES`."""
    times = beat_times(sampling_rate) / 1000
    inside = np.array([(times >= first) & (times < last) for first, last in pairwise(EDGES)])
    return (inside / inside.sum(axis=1, keepdims=True)).T


@lru_cache(maxsize=1)
def _weights() -> dict[str, NDArray[np.float64]]:
    """Return one weight per feature and a constant, per fault."""
    return {fault: np.asarray(weights) for fault, weights in json.loads(WEIGHTS.read_text("utf-8")).items()}
