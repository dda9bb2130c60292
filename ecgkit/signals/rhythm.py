"""R peaks of all leads together, and the heart rate: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import median

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import check_rate
from ecgkit.signals.groups import equal_signals
from ecgkit.signals.prepare import repair

MIN_RATE = 60.0
"""Lowest sampling rate at which the QRS complex is still seen, in Hz; below it no beat is found."""

_QRS_FREQUENCY = 12.0  # Hz, the middle of the band: above T waves, below most muscle noise
_SMOOTHING = 0.02  # s, standard deviation
_REFRACTORY = 0.18  # s within which no second QRS complex follows; RR intervals last 0.2 s at 300 beats/min
_T_WAVE = 0.36  # s after a QRS complex within which a much weaker peak is its T wave
_T_SHARE = 0.6
_SHARE, _SHARE_BACK = 0.4, 0.25  # of the usual height of a QRS complex: at first sight, and where one seems missing
_GAP = 1.66  # median RR intervals after which a beat seems missing
_SILENT = 0.01  # mV: a lead that stays below in the band of the QRS complex shows no ventricles
_FAST, _FAST_PROMINENCE, _REGULAR = 180.0, 1.3, 0.08  # beats/min, ratio, and spread of the RR intervals over their mean
_MAINS = (50.0, 60.0)  # Hz
_EDGE = 0.5  # s by which the ends are continued, longer than the impulse response
_SECTION = 2.0  # s that hold a beat, as a rule
_REACH = 0.07  # s from the middle of a QRS complex to its R peak at most

Floats = NDArray[np.floating]


def r_peaks(signal: ArrayLike, *, sampling_rate: float) -> NDArray[np.int64]:
    """Find the R peaks of a recording, in all of its leads together.

    Each lead is filtered to the band of the QRS complex, and the envelope of its analytic signal is measured against
    the lead's own noise, so that a loose electrode has little weight. It is cut above what is usual in the lead, so
    that an artefact stays small, and the leads are added up. Peaks of the sum that reach 40 % of the usual height are
    QRS complexes; a weak one soon after a strong one is a T wave, and where a beat seems to be missing, 25 % will do.
    Each is moved to where the leads together are farthest from zero in the band. The sign of a lead does not matter.

    Parameters
    ----------
    signal : array_like, shape (leads, samples)
        Millivolts. A lead that is flat or NaN is left out; a stretch of NaN is bridged by a line.
    sampling_rate : float
        In Hz.

    Returns
    -------
    ndarray of int64, shape (beats,)
        Samples, ascending; empty where no beat is found, as below 60 Hz, where the QRS complex is not seen.

    Raises
    ------
    EcgkitError
        If the signal has another shape, or the sampling rate is not one of an ECG.

    References
    ----------
    Pan, J., Tompkins, W. J. (1985). A real-time QRS detection algorithm. IEEE Trans. Biomed. Eng. 32: adaptive
    threshold, T waves and search back. Benitez, D. et al. (2001). The use of the Hilbert transform in ECG signal
    analysis. Comput. Biol. Med. 31: the envelope.
    """
    return r_peaks_of_many([as_leads(signal)], [sampling_rate])[0]


def r_peaks_of_many(signals: Sequence[Floats], sampling_rates: Sequence[float]) -> list[NDArray[np.int64]]:
    """Find the R peaks of many recordings, each as `r_peaks` does; those of equal length take less time together."""
    found = [np.zeros(0, np.int64)] * len(signals)
    for positions, group, rate in equal_signals(signals, [check_rate(rate) for rate in sampling_rates]):
        for position, peaks in zip(positions, _r_peaks(group, rate), strict=True):
            found[position] = peaks
    return found


def _r_peaks(signals: Floats, sampling_rate: float) -> list[NDArray[np.int64]]:
    """Find the R peaks of recordings of equal length and rate, ``(records, leads, samples)``."""
    n_samples = signals.shape[2]
    is_long = n_samples >= round(2 * _REFRACTORY * sampling_rate)
    found = [np.zeros(0, np.int64) for _ in signals]
    if not signals.size or not is_long or sampling_rate < MIN_RATE:
        return found
    leads = repair(signals.astype(np.float32, copy=False))
    usable = np.ptp(leads, axis=2) > 0
    if not usable.all():
        leads = np.where(usable[:, :, None], leads, np.float32(0))
    analytic = _qrs_band(leads, sampling_rate)
    margin = (analytic.shape[2] - n_samples) // 2
    inside = slice(margin, margin + n_samples)
    envelope = np.abs(analytic)
    sections = _sections(n_samples, sampling_rate)[:-1]
    usual = medians(np.maximum.reduceat(envelope[:, :, inside], sections, axis=2))
    seen = usable & (usual > _SILENT)
    n_seen = np.maximum(1, seen.sum(axis=1)).astype(np.float32)
    # A lead without any noise must not drown the others: 5 % of its QRS complexes counts as noise in any case.
    noise = medians(envelope[:, :, inside]) + 0.05 * usual
    weight = 1 / np.where(seen, noise, np.float32(1))[:, :, None]
    if not seen.all():
        envelope[~seen] = analytic[~seen] = 0
    limited = np.minimum(envelope, 1.5 * usual[:, :, None], out=envelope)
    limited *= weight
    strength = _smooth(np.sqrt(np.sum(limited**2, axis=1) / n_seen[:, None]), sampling_rate)[:, inside]
    size = np.sum((analytic.real[:, :, inside] * weight) ** 2, axis=1)
    highest = np.maximum.reduceat(strength, sections, axis=1)
    prominence = medians(highest) / np.maximum(medians(strength), 1e-9)
    for i in np.flatnonzero(seen.any(axis=1)).tolist():
        places = _complexes(strength[i], highest[i], sampling_rate)
        # The envelope of noise alone is the steadier, the more leads are averaged. That of a fast rhythm has no pauses
        # and is hardly less steady, but it is regular, which noise is not.
        if prominence[i] >= 1.5 + 1.5 / np.sqrt(float(n_seen[i])) or (
            prominence[i] > _FAST_PROMINENCE and _is_fast_and_regular(places / sampling_rate)
        ):
            found[i] = _snap(places, size[i], round(_REACH * sampling_rate))
    return found


def medians(values: Floats, axis: int = -1) -> Floats:
    """Return what `np.median` does along an axis; for an even number of values that takes eight times as long."""
    ordered = np.moveaxis(np.sort(values, axis=axis), axis, -1)
    n_values = ordered.shape[-1]
    middle = (ordered[..., (n_values - 1) // 2] + ordered[..., n_values // 2]) / 2
    return np.where(np.isnan(ordered[..., -1]), ordered[..., -1], middle)


def rr_intervals(peaks: ArrayLike, *, sampling_rate: float) -> NDArray[np.float64]:
    """Return the times between R peaks.

    Parameters
    ----------
    peaks : array_like of int, shape (beats,)
        Samples, ascending, as from `r_peaks`.
    sampling_rate : float
        In Hz.

    Returns
    -------
    ndarray of float64, shape (beats - 1,)
        In seconds; empty with fewer than two beats.

    Raises
    ------
    EcgkitError
        If the sampling rate is not one of an ECG, see `ecgkit.signals.ecg.check_rate`.
    """
    check_rate(sampling_rate)
    return np.diff(np.asarray(peaks, dtype=np.float64)) / sampling_rate


def heart_rate(peaks: ArrayLike, *, sampling_rate: float) -> float:
    """Return the mean ventricular rate: 60 times the number of RR intervals, divided by their sum in seconds.

    Parameters
    ----------
    peaks : array_like of int, shape (beats,)
        Samples, ascending, as from `r_peaks`.
    sampling_rate : float
        In Hz.

    Returns
    -------
    float
        Beats/min; NaN with fewer than two RR intervals: a single one may be that of an extrasystole.

    Raises
    ------
    EcgkitError
        If the sampling rate is not one of an ECG, see `ecgkit.signals.ecg.check_rate`.
    """
    intervals = rr_intervals(peaks, sampling_rate=sampling_rate)
    return 60.0 / float(intervals.mean()) if len(intervals) > 1 else float("nan")


def as_leads(signal: ArrayLike) -> Floats:
    """Return a signal as an array of shape ``(leads, samples)``; refuse another shape."""
    values = np.asarray(signal)
    if values.ndim != 2:
        raise EcgkitError(f"a signal of shape {values.shape}: give (leads, samples)")
    return values


@lru_cache(maxsize=32)
def _responses(n_samples: int, sampling_rate: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the responses of the band-pass and the smoothing; in Hz, so that they are the same at any rate."""
    frequency = np.fft.rfftfreq(n_samples, 1 / sampling_rate)
    octave = (frequency / _QRS_FREQUENCY) ** 2
    # The fourth derivative of a Gaussian: a band without corners, whose impulse response does not ring.
    band = 2 * octave**2 * np.exp(2 * (1 - octave))
    smoothing = np.exp(-0.5 * (2 * np.pi * frequency * _SMOOTHING) ** 2)
    return band.astype(np.float32), smoothing.astype(np.float32)


def _qrs_band(leads: NDArray[np.float32], sampling_rate: float) -> NDArray[np.complex64]:
    """Return the analytic signal in the band of the QRS complex, with equal margins before and after the recording."""
    from scipy.fft import ifft, next_fast_len, rfft

    n_samples = leads.shape[2]
    margin = min(round(_EDGE * sampling_rate), n_samples - 1)
    # Reflected about a point on a wave of mains hum, a lead would have a step at its end, which looks like a beat.
    calm = _without_hum(leads, sampling_rate)
    cut = (n_samples - calm.shape[2]) // 2
    reach = min(margin + cut, calm.shape[2] - 1)
    before = 2 * calm[:, :, :1] - calm[:, :, reach:0:-1]
    after = 2 * calm[:, :, -1:] - calm[:, :, -2 : -reach - 2 : -1]
    extended = np.concatenate((before, leads[:, :, cut : n_samples - cut], after), axis=2)
    length = extended.shape[2]
    n_fast = next_fast_len(length)
    spectrum = np.zeros((*leads.shape[:2], n_fast), np.complex64)
    # The upper half stays zero: without negative frequencies the inverse is the analytic signal.
    positive = rfft(extended, n_fast, axis=2)
    np.multiply(positive, _responses(n_fast, sampling_rate)[0], out=spectrum[:, :, : n_fast // 2 + 1])
    return np.asarray(ifft(spectrum, axis=2, overwrite_x=True)[:, :, :length])


def _without_hum(leads: NDArray[np.float32], sampling_rate: float) -> NDArray[np.float32]:
    """Average over one period of 50 Hz and one of 60 Hz, which removes both; the ends, without a whole period, too."""
    for frequency in _MAINS:
        length = round(sampling_rate / frequency)
        if 3 <= length < leads.shape[2] // 2:  # below three samples per period nothing is averaged away
            sums = np.cumsum(leads, axis=2, dtype=np.float64)
            leads = ((sums[:, :, length:] - sums[:, :, :-length]) / length).astype(np.float32)
    return leads


def _smooth(strength: NDArray[np.float32], sampling_rate: float) -> NDArray[np.float64]:
    from scipy.fft import irfft, next_fast_len, rfft

    n_fast = next_fast_len(strength.shape[1], real=True)
    smooth = irfft(rfft(strength, n_fast) * _responses(n_fast, sampling_rate)[1], n_fast)
    return np.asarray(smooth[:, : strength.shape[1]], dtype=np.float64)


def _sections(n_samples: int, sampling_rate: float) -> NDArray[np.int64]:
    """Return the edges of sections of about two seconds."""
    number = max(1, int(n_samples / (_SECTION * sampling_rate)))
    return np.linspace(0, n_samples, number + 1).astype(np.int64)


def _is_fast_and_regular(times: Floats) -> bool:
    """Return True for the times (in s) of at least eight beats of a fast rhythm with equal RR intervals."""
    intervals = np.diff(times)
    if len(intervals) < 7:
        return False
    return bool(intervals.mean() < 60 / _FAST and intervals.std() < _REGULAR * intervals.mean())


def _complexes(strength: NDArray[np.float64], highest: NDArray[np.float64], sampling_rate: float) -> NDArray[np.int64]:
    """Choose the peaks of the strength that are QRS complexes; ``highest`` is the largest strength of each section."""
    inner = (strength[1:-1] >= strength[:-2]) & (strength[1:-1] > strength[2:])
    places = np.flatnonzero(np.r_[strength[0] > strength[1], inner, strength[-1] > strength[-2]])
    edges = _sections(len(strength), sampling_rate)
    # About ten seconds on each side: the heart's voltage changes with breath and posture, and over hours.
    of_sections = highest.tolist()  # for so few numbers NumPy is slower
    usual = np.array([median(of_sections[max(0, i - 5) : i + 6]) for i in range(len(of_sections))])
    height = strength[places] / usual[np.searchsorted(edges, places, side="right").clip(1, len(usual)) - 1]
    chosen = _strongest(places, height, _SHARE, np.zeros(len(places), dtype=bool), sampling_rate)
    times = places[chosen]
    if len(times) < 3:
        return times
    gaps = np.diff(times)
    in_long_gap = np.concatenate(([0], gaps, [0]))[np.searchsorted(times, places)] > _GAP * medians(gaps)
    if not in_long_gap.any():
        return times
    return places[_strongest(places, np.where(in_long_gap, height, 0.0), _SHARE_BACK, chosen, sampling_rate)]


def _strongest(
    places: NDArray[np.int64],
    height: NDArray[np.float64],
    share: float,
    chosen: NDArray[np.bool_],
    sampling_rate: float,
) -> NDArray[np.bool_]:
    """Take the peaks from the highest down to a share, but none next to a higher one and no T wave after one."""
    refractory, t_wave = _REFRACTORY * sampling_rate, _T_WAVE * sampling_rate
    first = np.searchsorted(places, places - t_wave).tolist()
    last = np.searchsorted(places, places + refractory).tolist()
    order = np.argsort(-height, kind="stable")
    taken, at, size = chosen.tolist(), places.tolist(), height.tolist()  # for so few numbers NumPy is slower
    for i in order[height[order] >= share].tolist():
        near = [k for k in range(first[i], last[i]) if taken[k]]
        is_next = any(abs(at[k] - at[i]) < refractory for k in near)
        is_t_wave = any(at[k] < at[i] and size[i] < _T_SHARE * size[k] for k in near)
        taken[i] = taken[i] or not (is_next or is_t_wave)
    return np.array(taken, dtype=bool)


def _snap(places: NDArray[np.int64], size: NDArray[np.floating], reach: int) -> NDArray[np.int64]:
    """Move each place to the largest size within reach; at an end of the recording its peak may be outside."""
    moved = [max(0, p - reach) + int(np.argmax(size[max(0, p - reach) : p + reach + 1])) for p in places.tolist()]
    return np.array([p for p in moved if 0 < p < len(size) - 1], dtype=np.int64)
