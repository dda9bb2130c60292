"""The waves of an ECG sample by sample: which samples belong to P, QRS, ST and T."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ecgkit.signals.ecg import ECG
from ecgkit.signals.measurements import wave_bounds
from ecgkit.signals.rhythm import r_peaks

SEGMENTS = ("P", "QRS", "ST", "T")
OTHER = "other"

ST_SECONDS = 0.08
"""The ST segment is what follows the J point for so long; T is from there to its end."""


def wave_segments(signal: NDArray[np.floating], *, sampling_rate: float) -> NDArray[np.int8]:
    """Assign each sample to a wave, with the boundaries of the mean beat around every R peak.

    Parameters
    ----------
    signal : ndarray, shape (12, samples)
        In mV.
    sampling_rate : float
        In Hz.

    Returns
    -------
    ndarray of int8, shape (samples,)
        The position in `SEGMENTS`, -1 elsewhere. A wave whose ends cannot be measured is not assigned; where two beats
        overlap, QRS comes first, then ST, T and P.
    """
    ecg = ECG(np.asarray(signal, np.float32), sampling_rate)
    peaks = r_peaks(ecg.signal, sampling_rate=sampling_rate)
    result = np.full(ecg.n_samples, -1, np.int8)
    if not len(peaks):
        return result
    found = wave_bounds(ecg, peaks)
    j_point = found["qrs_end"]
    bounds = {
        "P": (found["p_onset"], found["p_end"]),
        "T": (j_point + ST_SECONDS, found["t_end"]),
        "ST": (j_point, j_point + ST_SECONDS),
        "QRS": (found["qrs_onset"], j_point),
    }
    for name, (first, last) in bounds.items():
        if math.isnan(first) or math.isnan(last):
            continue
        for peak in peaks.tolist():
            start, stop = (max(0, peak + round(edge * sampling_rate)) for edge in (first, last))
            result[start:stop] = SEGMENTS.index(name)
    return result
