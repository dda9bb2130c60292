"""What filters do to a beat, above all to its ST segment, which is slow and small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import spectrogram as scipy_spectrogram

from ecgkit.signals.beats import beat_times, record_beat
from ecgkit.signals.ecg import ECG
from ecgkit.signals.filters import Filters
from ecgkit.signals.measurements import wave_bounds
from ecgkit.signals.prepare import repair
from ecgkit.signals.rhythm import r_peaks

ST_AFTER = 60.0
"""ms after the end of QRS (the J point) at which the ST segment is measured, as in `ecgkit.signals.measurements`."""


@dataclass(frozen=True, eq=False)
class FilteredBeats:
    """The mean beat of a record through several filters.

    Attributes
    ----------
    times : ndarray, shape (samples,)
        In ms after the R peak.
    beats : dict of str to ndarray, shape (12, samples)
        By the name of the filter, in mV above the level at the onset of QRS.
    st_time : float
        Where ``st`` is read, in ms after the R peak: 60 ms after the end of QRS in the unfiltered beat.
    st : dict of str to ndarray, shape (12,)
        By the name of the filter, the level of the ST segment in mV.
    """

    times: NDArray[np.float64]
    beats: dict[str, NDArray[np.float32]]
    st_time: float
    st: dict[str, NDArray[np.float32]]


def filtered_beats(ecg: ECG, filters: Mapping[str, Filters]) -> FilteredBeats:
    """Filter a record in several ways, and average its beats at the same R peaks.

    Parameters
    ----------
    ecg : ECG
        About ten seconds.
    filters : mapping of str to Filters
        By the names for a figure; ``Filters()`` leaves the record as it is.

    Returns
    -------
    FilteredBeats
        NaN throughout if the record has no measurable QRS complex.

    Raises
    ------
    EcgkitError
        If a filter does not fit the rate of the record.
    """
    peaks = r_peaks(ecg.signal, sampling_rate=ecg.sampling_rate)
    bounds, times = wave_bounds(ecg, peaks), beat_times(ecg.sampling_rate)
    onset, st_time = 1000 * bounds["qrs_onset"], 1000 * bounds["qrs_end"] + ST_AFTER
    at_onset, at_st = (int(np.argmin(np.abs(times - time))) for time in (onset, st_time))
    unknown = np.float32(np.nan if np.isnan(onset + st_time) else 0)
    beats = {}
    for name, one in filters.items():
        signal = one.apply(repair(ecg.signal), sampling_rate=ecg.sampling_rate)
        beat = record_beat(np.asarray(signal, np.float32), peaks, sampling_rate=ecg.sampling_rate)
        beats[name] = beat - beat[:, at_onset : at_onset + 1] + unknown
    return FilteredBeats(times, beats, st_time, {name: beat[:, at_st] for name, beat in beats.items()})


def spectrogram(
    values: NDArray[np.floating], *, sampling_rate: float, seconds: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compute the power of one lead by frequency and time: the short-time Fourier transform with a Hann window.

    Parameters
    ----------
    values : ndarray, shape (samples,)
        In mV.
    sampling_rate : float
        In Hz.
    seconds : float, default 1.0
        Length of the window: frequencies ``1 / seconds`` apart are told from each other. Windows overlap by 7/8.

    Returns
    -------
    frequencies, times : ndarray
        In Hz, and in s at the centres of the windows.
    density : ndarray, shape (frequencies, times)
        In mV²/Hz, without the mean of each window.
    """
    length = min(len(values), round(seconds * sampling_rate))
    found = scipy_spectrogram(
        np.asarray(values, np.float64), sampling_rate, window="hann", nperseg=length, noverlap=length * 7 // 8
    )
    frequencies, times, density = found
    return frequencies, times, density
