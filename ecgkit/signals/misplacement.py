"""Electrodes in the wrong place, a wrong sign and a wrong sampling rate: logistic models of the mean beat.

Einthoven's law holds for all of these, and no limit on one number finds them: the P wave and the QRS complex of lead I,
the growth of R from V1 to V6 and the likeness of I and V6 vary between hearts. `features` describes all of them at
once; `misplacement.json` has one weight per feature and fault, fitted by ``benchmarks/quality.py`` on PTB-XL's folds
1-8, on records as they are and with the fault planted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgkit.signals.beats import RATE, beat_times
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.mean_beat import aligned_mean_beats, beats_of_many
from ecgkit.signals.rhythm import heart_rate

WEIGHTS = Path(__file__).with_name("misplacement.json")

EDGES = (-0.22, -0.16, -0.10, -0.04, -0.015, 0.015, 0.04, 0.07, 0.12, 0.20, 0.28, 0.36, 0.44)
"""In s after the R peak: the mean beat is averaged between each two of them."""

INDEPENDENT = [LEADS.index(lead) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
"""The leads of which the others are sums."""

SHARES = (0.1, 0.2, 0.5)
"""Of the largest slope: how long the leads together are steeper than this is the width of the QRS complex."""

FEWEST_BEATS = 3


def misplacement_scores(
    signals: NDArray[np.float32], peaks: Sequence[NDArray[np.int64]], *, sampling_rate: float
) -> list[dict[str, float]]:
    """Return for each record and fault how much more likely it is than at its limit.

    Parameters
    ----------
    signals : ndarray of float32, shape (records, 12, samples)
        In mV.
    peaks : sequence of ndarray of int
        R peaks of each, as from `ecgkit.signals.rhythm.r_peaks`.
    sampling_rate : float
        In Hz.

    Returns
    -------
    list of dict of str to float
        Difference of log odds; a fault is suspected above zero. Empty if a lead is absent or flat, or there are fewer
        than three beats.
    """
    complete = (np.ptp(signals, axis=2) > 0).all(axis=1).tolist()
    usable = [some if is_complete else some[:0] for some, is_complete in zip(peaks, complete, strict=True)]
    usable = [some if len(some) >= FEWEST_BEATS else some[:0] for some in usable]
    cut, numbers = beats_of_many(signals, usable, sampling_rate=sampling_rate)
    scores: list[dict[str, float]] = [{} for _ in numbers]
    if not len(cut):
        return scores
    mean = aligned_mean_beats(cut, numbers, sampling_rate=sampling_rate, rate=RATE)
    known = [i for i, number in enumerate(numbers) if number]
    rates = [heart_rate(usable[i], sampling_rate=sampling_rate) for i in known]
    for i, described in zip(known, features(mean[known], rates, sampling_rate=sampling_rate), strict=True):
        scores[i] = {fault: float(weights[:-1] @ described + weights[-1]) for fault, weights in _weights().items()}
    return scores


def features(beats: NDArray[np.float32], rates: Sequence[float], *, sampling_rate: float) -> NDArray[np.float64]:
    """Describe mean beats.

    Parameters
    ----------
    beats : ndarray of float32, shape (records, 12, samples)
        As from `ecgkit.signals.beats.record_beat`.
    rates : sequence of float
        Heart rates in beats per minute.
    sampling_rate : float
        Of the records, in Hz.

    Returns
    -------
    ndarray of float64, shape (records, features)
        The course of the independent leads by `EDGES`, relative to their size; the correlation of each two of these,
        III, aVL and -aVR; their sizes; the heart rate; and the width of the QRS complex.
    """
    leads = beats[:, INDEPENDENT].astype(np.float64)
    leads /= np.sqrt(np.mean(leads**2, axis=(1, 2), keepdims=True)) + 1e-6
    course = leads @ _means_between_edges(float(sampling_rate))
    one, two = leads[:, :1], leads[:, 1:2]
    several = np.concatenate([leads, two - one, one - two / 2, (one + two) / 2], axis=1)
    sizes = np.linalg.norm(several, axis=2)
    unit = several / (sizes[:, :, None] + 1e-6)
    first, second = np.triu_indices(several.shape[1], 1)
    likeness = (unit @ unit.swapaxes(1, 2))[:, first, second]
    speed = np.sqrt(np.sum(np.diff(leads, axis=2) ** 2, axis=1))
    highest = speed.max(axis=1, initial=0, keepdims=True)
    widths = np.stack([np.mean(speed > share * highest, axis=1) for share in SHARES], axis=1)
    columns = [course.swapaxes(1, 2).reshape(len(beats), -1), likeness, np.log(sizes + 1e-3)]
    return np.concatenate([*columns, np.log(rates)[:, None], np.log(widths)], axis=1)


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
