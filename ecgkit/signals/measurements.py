"""ECG measurements: heart rate, intervals, electrical axis and amplitudes of the waves, taken on the mean beat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import binary_closing, gaussian_filter1d
from scipy.signal import find_peaks

from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.mean_beat import aligned_mean_beat, beats, usual_beats
from ecgkit.signals.rhythm import heart_rate, r_peaks, rr_intervals

if TYPE_CHECKING:
    import pandas as pd

GLOBAL_MEASUREMENTS = {
    "heart_rate": ("beats/min", "mean ventricular rate: 60 divided by the mean RR interval"),
    "rr_std": ("s", "standard deviation of the RR intervals"),
    "n_beats": ("beats", "R peaks in the record"),
    "qrs_duration": ("ms", "from the first to the last fast change in any lead around the R peak"),
    "qrs_axis": ("degrees", "frontal direction of QRS, from its net height in I and aVF; 0 is left, 90 is down"),
    "qt": ("ms", "onset of QRS to the end of T, where the tangent to its steepest fall meets the baseline"),
    "qtc": ("ms", "QT divided by the square root of the RR interval in seconds (Bazett)"),
    "sokolow_lyon": ("mV", "S in V1 plus the larger R of V5 and V6"),
    "p_II": ("mV", "highest or lowest point of the P wave in II"),
    "p_duration": ("ms", "onset to end of the P wave in all leads together"),
    "pr": ("ms", "onset of P to onset of QRS"),
    "qtc_fridericia": ("ms", "QT divided by the cube root of the RR interval in seconds (Fridericia)"),
    "cornell": ("mV", "R in aVL plus S in V3"),
}
PRINTED = {
    "heart_rate": ("heart rate", "/min", 0),
    "rr_std": ("RR standard deviation", "s", 2),
    "p_duration": ("P", "ms", 0),
    "pr": ("PR", "ms", 0),
    "qrs_duration": ("QRS", "ms", 0),
    "qt": ("QT", "ms", 0),
    "qtc": ("QTc (Bazett)", "ms", 0),
    "qtc_fridericia": ("QTc (Fridericia)", "ms", 0),
    "qrs_axis": ("QRS axis", "°", 0),
    "sokolow_lyon": ("Sokolow-Lyon", "mV", 1),
    "cornell": ("Cornell", "mV", 1),
}
"""What a reader is shown of `GLOBAL_MEASUREMENTS`: name, unit and decimals."""

LEAD_MEASUREMENTS = {
    "q": ("mV", "depth below the baseline before the first R wave in {}; 0 without a Q wave"),
    "r": ("mV", "height of the highest R wave above the baseline in {}; 0 without an R wave"),
    "s": ("mV", "depth below the baseline after the first R wave in {}, or of the whole complex without an R wave"),
    "st": ("mV", "level 60 ms after the J point in {}"),
    "t": ("mV", "highest or lowest point of the T wave in {}, whichever is farther from the baseline"),
}

BEFORE, AFTER = 0.30, 0.60  # s around the R peak in which waves are looked for
P_BEFORE, P_AFTER = 0.48, 0.05  # s around the R peak in which the P wave is looked for
LONGEST_PR = 0.4  # s
P_SMOOTHING = 0.012  # s, standard deviation, of the slope of P waves
P_NOISE = 2.0  # times the speed of the quiet part of the window: what is slower may be noise
LONGEST_P = 0.2  # s
P_PAUSE = 20  # steps without a change that are still inside a P wave
P_SHARE = 0.25  # of the largest slope of the P wave: a slower signal is outside it
MIN_P = 0.02  # mV, root mean square over the leads: a lower P wave has no measurable ends
P_AGREEMENT = 0.85  # correlation of the P waves of even and odd beats, below which there is no P wave
STEP = 0.002  # s: grid on which beats are compared and measured, whatever the sampling rate
SMOOTHING = 0.005  # s, standard deviation, of the slope
ONSET_SHARE, OFFSET_SHARE = 0.03, 0.05  # of the largest slope: a slower signal is outside the QRS complex
FAST_SHARE = 0.2  # of the largest slope: what is faster belongs to the QRS complex, not to the ST segment
WIDENING = 2  # steps by which the smoothing widens the QRS complex at each end
NO_R = 0.03  # mV: a lower peak is not an R wave
LATEST_T = 0.5  # s after the R peak, at an RR interval of 1 s; at others by its square root: a later peak is not T
LAST_T = 0.25  # of the largest wave after QRS: a lower one is not T
MIN_T = 0.04  # mV, root mean square over the leads: a lower T wave has no measurable end

GRID = np.arange(-round(BEFORE / STEP), round((AFTER - 0.02) / STEP)) * STEP
"""Times of the grid in s after the R peak; it ends before the last sample at 100 Hz."""

BOUNDS = ("p_onset", "p_end", "qrs_onset", "qrs_end", "t_end")
"""What `wave_bounds` returns."""

NAMES = (*GLOBAL_MEASUREMENTS, *(f"{name}_{lead}" for name in LEAD_MEASUREMENTS for lead in LEADS))

Floats = NDArray[np.floating]


def measurement_columns() -> pd.DataFrame:
    """Return the measurements of `measure_ecg` with their units and definitions.

    Returns
    -------
    DataFrame
        Index ``measurement``; columns ``unit`` and ``meaning``.
    """
    import pandas as pd

    rows = dict(GLOBAL_MEASUREMENTS)
    for name, (unit, meaning) in LEAD_MEASUREMENTS.items():
        rows |= {f"{name}_{lead}": (unit, meaning.format(lead)) for lead in LEADS}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["unit", "meaning"]).rename_axis("measurement")


def measure_ecg(ecg: ECG, peaks: NDArray[np.int64] | None = None) -> dict[str, float]:
    """Measure one ECG on the mean of its typical beats.

    Parameters
    ----------
    ecg : ECG
        About ten seconds.
    peaks : ndarray of int64, optional
        Its R peaks, as from `ecgkit.signals.rhythm.r_peaks`; found here if they are not given.

    Returns
    -------
    dict of str to float
        By the names of `measurement_columns`. NaN where it cannot be measured: without a beat, in a lead that is flat
        or NaN, and for T and QT if the next beat comes too soon.

    References
    ----------
    Lepeschkin, E., Surawicz, B. (1952). The measurement of the Q-T interval of the electrocardiogram. Circulation 6:
    the tangent. Bazett, H. C. (1920). An analysis of the time-relations of electrocardiograms. Heart 7. Sokolow, M.,
    Lyon, T. P. (1949). The ventricular complex in left ventricular hypertrophy. Am. Heart J. 37. Novosel, D. et al.
    (1999). Corrected formula for the calculation of the electrical heart axis. Croat. Med. J. 40: aVF is smaller
    than a bipolar lead would be, by a factor of half the square root of 3.
    """
    peaks = r_peaks(ecg.signal, sampling_rate=ecg.sampling_rate) if peaks is None else peaks
    intervals = rr_intervals(peaks, sampling_rate=ecg.sampling_rate)
    result = dict.fromkeys(NAMES, float("nan"))
    result["n_beats"] = float(len(peaks))
    result["heart_rate"] = heart_rate(peaks, sampling_rate=ecg.sampling_rate)
    if len(intervals) >= 2:
        result["rr_std"] = float(np.std(intervals))
    found = _find_waves(ecg, peaks)
    if found is None:
        return result
    beat, waves, bounds, rr = found
    of_lead = _lead_measurements(beat, waves)
    result["p_duration"] = 1000 * (bounds["p_end"] - bounds["p_onset"])
    result["pr"] = 1000 * (bounds["qrs_onset"] - bounds["p_onset"])
    return result | of_lead | _record_measurements(beat, waves, rr, of_lead)


def wave_bounds(ecg: ECG, peaks: NDArray[np.int64] | None = None) -> dict[str, float]:
    """Return where the waves of the mean beat begin and end.

    Parameters
    ----------
    ecg : ECG
        About ten seconds.
    peaks : ndarray of int64, optional
        Its R peaks; found here if they are not given.

    Returns
    -------
    dict of str to float
        ``p_onset``, ``p_end``, ``qrs_onset``, ``qrs_end`` and ``t_end`` in s after the R peak; NaN where it cannot be
        measured.
    """
    found = _find_waves(ecg, r_peaks(ecg.signal, sampling_rate=ecg.sampling_rate) if peaks is None else peaks)
    return found[2] if found else dict.fromkeys(BOUNDS, float("nan"))


@dataclass(frozen=True)
class _Waves:
    """Positions of the waves of a beat on the grid."""

    onset: int  # of the QRS complex
    offset: int  # its end, the J point
    p: slice  # where the P wave is searched; empty if there is no room for it
    t: slice  # the same for the T wave
    t_end: float  # s after the R peak; NaN if it cannot be measured


def _find_waves(
    ecg: ECG, peaks: NDArray[np.int64]
) -> tuple[NDArray[np.float32], _Waves, dict[str, float], float] | None:
    """Return the mean beat, its waves, their ends in s after the R peak and the RR interval; None without a beat."""
    intervals = rr_intervals(peaks, sampling_rate=ecg.sampling_rate)
    # With no interval to go by, the next beat is beyond the window.
    rr = float(np.median(intervals)) if len(intervals) else float("nan")
    beat = _mean_beat(ecg, peaks)
    waves = _delineate(beat, rr) if beat is not None else None
    if beat is None or waves is None:
        return None
    qrs_onset, qrs_end = float(GRID[waves.onset]), float(GRID[0] + STEP * waves.offset)
    p_onset, p_end = _p_bounds(ecg, peaks, qrs_onset, waves.t_end - rr)
    bounds = dict(zip(BOUNDS, (p_onset, p_end, qrs_onset, qrs_end, waves.t_end), strict=True))
    return beat, waves, bounds, rr


@lru_cache(maxsize=1)
def _to_slope() -> NDArray[np.float32]:
    """Return the matrix that turns a beat on the grid into its slope in mV/s, smoothed by a Gaussian."""
    kernel = np.exp(-0.5 * ((GRID[None, :] - GRID[:, None]) / SMOOTHING) ** 2)
    slope: NDArray[np.float32] = np.gradient(kernel / kernel.sum(axis=0), STEP, axis=1).astype(np.float32)
    return slope


def _mean_beat(ecg: ECG, peaks: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return the mean beat on the grid, a flat lead as NaN; None without a beat."""
    cut = beats(ecg.signal, peaks, sampling_rate=ecg.sampling_rate, before=BEFORE, after=AFTER)
    if not len(cut):
        return None
    fine = aligned_mean_beat(cut, sampling_rate=ecg.sampling_rate, before=BEFORE, rate=1 / STEP)[:, : len(GRID)]
    fine[~(np.ptp(ecg.signal, axis=1) > 0)] = np.nan
    return fine


def _delineate(beat: NDArray[np.float32], rr: float) -> _Waves | None:
    """Find the waves in all leads together; None if the QRS complex has no onset or no end."""
    shown = np.nan_to_num(beat)
    speed = np.sqrt(np.sum((shown @ _to_slope()) ** 2, axis=0))
    bounds = _qrs_bounds(speed)
    if bounds is None:
        return None
    onset, offset = bounds
    # The next beat's P wave, or its QRS complex, must not be taken for the end of this T wave.
    end = np.nanmin([GRID[-1], rr - 0.2, LATEST_T * np.sqrt(rr)])
    t = _window(GRID[offset] + 0.06, end)
    t_end = _end_of_t(shown, t, _window(GRID[offset] + 0.06, np.nanmin([GRID[-1], rr - 0.1])))
    last_t = (t_end if np.isfinite(t_end) else 0.4 * np.sqrt(rr)) - rr
    p = _window(np.nanmax([GRID[onset] - 0.22, last_t, GRID[0]]), GRID[onset] - 0.02)
    return _Waves(onset, offset, p, t, t_end)


def _window(first: float, last: float) -> slice:
    """Return the grid between two times; empty if they are less than 80 ms apart, too short for a wave."""
    if not last - first >= 0.08:
        return slice(0, 0)
    return slice(int(np.searchsorted(GRID, first)), int(np.searchsorted(GRID, last)))


def _qrs_bounds(speed: Floats) -> tuple[int, int] | None:
    """Search from the R peak to both sides until all leads are slow for 16 ms."""
    highest = float(speed[np.abs(GRID) < 0.08].max())
    quiet = 2 * float(np.sort(speed[(GRID > -0.15) & (GRID < -0.04)])[:15].mean())
    st_segment = float(np.median(speed[(GRID > 0.08) & (GRID < 0.2)]))
    centre, hold = int(np.searchsorted(GRID, 0.0)), 8
    before = _runs(speed < max(ONSET_SHARE * highest, quiet), hold)
    # After the complex the ST segment may rise or fall, but not as fast as the complex itself.
    after = _runs(speed < max(OFFSET_SHARE * highest, quiet, 1.2 * min(st_segment, 0.15 * highest)), hold)
    onsets, offsets = before[before + hold <= centre - 5] + hold, after[after >= centre + 5]
    if not len(onsets) or not len(offsets):
        return None
    return int(onsets[-1]) + WIDENING, min(int(offsets[0]) - WIDENING, _extrapolated_end(speed, centre, highest))


def _extrapolated_end(speed: Floats, centre: int, highest: float) -> int:
    """Extend the last steep fall of the speed to zero: where ST rises from the J point on, it never gets slow."""
    fast = np.flatnonzero(speed[centre : centre + round(0.2 / STEP)] >= FAST_SHARE * highest)
    if not len(fast):  # all of the complex is before the R peak
        return len(speed)
    last = centre + int(fast[-1])
    fall = -np.gradient(speed)[max(centre, last - 5) : last + 6]
    steepest = float(fall.max())
    return last + WIDENING + round(float(speed[last]) / steepest) if steepest > 0 else len(speed)


def _runs(low: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Return the first positions of all runs of ``length`` that are low throughout."""
    total = np.concatenate(([0], np.cumsum(low)))
    return np.flatnonzero(total[length:] - total[:-length] == length)


def _end_of_t(shown: Floats, t: slice, until: slice) -> float:
    """Intersect the tangent to the steepest fall of T with the level after it.

    The leads are added up with the weights of the first principal component of the T window, which loses less in noise
    than their root mean square. Of several waves the last one counts that is not much lower than the largest.
    """
    if t.start == t.stop:
        return float("nan")
    weights = np.linalg.svd(shown[:, t], full_matrices=False)[0][:, 0]
    course = weights @ shown
    size = np.abs(course)
    peak = int(np.argmax(size[t])) + t.start
    if size[peak] < MIN_T * np.sqrt(len(shown)):
        return float("nan")
    lower = find_peaks(size[t], height=LAST_T * size[peak], prominence=LAST_T * size[peak])[0] + t.start
    peak = int(max(lower, default=peak))
    if not t.start < peak < t.stop - 1:
        return float("nan")
    fall = np.gradient(np.sign(course[peak]) * course[peak : min(until.stop, peak + round(0.2 / STEP))])
    if len(fall) < round(0.04 / STEP):
        return float("nan")
    fall = np.convolve(fall, np.ones(7) / 7, mode="same")
    steepest = int(np.argmin(fall))
    after = np.sign(course[peak]) * course[peak + steepest : until.stop]
    level = float(np.sort(after)[: max(1, len(after) // 4)].mean())
    if fall[steepest] >= 0:
        return float("nan")
    end = peak + steepest + (after[0] - level) / -fall[steepest]
    return float(GRID[0] + end * STEP) if end <= until.stop else float("nan")


def _p_bounds(ecg: ECG, peaks: NDArray[np.int64], qrs_onset: float, last_t: float) -> tuple[float, float]:
    """Return onset and end of the P wave in s after the R peak; NaN without a P wave that the beats agree on."""
    missing = float("nan"), float("nan")
    cut = beats(ecg.signal, peaks, sampling_rate=ecg.sampling_rate, before=P_BEFORE, after=P_AFTER)
    cut = np.nan_to_num(cut[usual_beats(cut)]) if len(cut) else cut
    if len(cut) < 2:
        return missing
    times = (np.arange(cut.shape[2]) - round(P_BEFORE * ecg.sampling_rate)) / ecg.sampling_rate
    first = np.nanmax([-P_BEFORE, qrs_onset - LONGEST_PR, last_t + 0.02])
    inside = (times >= first) & (times <= qrs_onset)
    if inside.sum() < 0.08 * ecg.sampling_rate:
        return missing
    smooth = gaussian_filter1d(cut, P_SMOOTHING * ecg.sampling_rate, axis=2)
    halves = [_level(half.mean(axis=0)[:, inside]) for half in (smooth[::2], smooth[1::2])]
    with np.errstate(invalid="ignore"):  # of constant waves, which agree in nothing
        agreement = np.corrcoef(halves[0].ravel(), halves[1].ravel())[0, 1]
    if not agreement >= P_AGREEMENT:
        return missing
    wave = cut.mean(axis=0)
    grid = np.arange(np.ceil(first / STEP), np.floor(qrs_onset / STEP)) * STEP
    fine = CubicSpline(times, wave, axis=1)(grid)
    speed = np.sqrt(np.sum(gaussian_filter1d(fine, P_SMOOTHING / STEP, order=1, axis=1) ** 2, axis=0))
    size = np.sqrt(np.mean(_level(fine) ** 2, axis=0))
    return _p_ends(speed, size, grid)


def _level(waves: Floats) -> Floats:
    """Subtract in each lead the line through the ends of the window."""
    n = max(1, waves.shape[1] // 10)
    ends = waves[:, :n].mean(axis=1, keepdims=True), waves[:, -n:].mean(axis=1, keepdims=True)
    return waves - ends[0] - (ends[1] - ends[0]) * np.linspace(0, 1, waves.shape[1])


def _p_ends(speed: Floats, size: Floats, grid: Floats) -> tuple[float, float]:
    """Return the ends of the strongest stretch in which the leads change fast; NaN if the wave in it is too low."""
    fast = speed >= max(P_SHARE * float(speed.max()), P_NOISE * float(np.percentile(speed, 20)))
    # Between its two halves the P wave stands still for a moment.
    edges = np.flatnonzero(np.diff(np.concatenate(([0], binary_closing(fast, np.ones(P_PAUSE)), [0]))))
    stretches = list(zip(edges[::2], edges[1::2], strict=True))
    if not stretches:  # all of the window is about as fast: nothing in it is a wave
        return float("nan"), float("nan")
    first, last = max(stretches, key=lambda ends: float(np.sum(speed[slice(*ends)] ** 2)))
    # A wave that is cut off by the window is not the P wave but what comes before it.
    if first == 0 or size[first:last].max() < MIN_P or (last - first) * STEP > LONGEST_P:
        return float("nan"), float("nan")
    return float(grid[first]), float(grid[last - 1])


def _lead_measurements(beat: NDArray[np.float32], waves: _Waves) -> dict[str, float]:
    """Return Q, R, S, ST and T of each lead in mV."""
    j_point_60 = waves.offset + round(0.06 / STEP)
    result: dict[str, float] = {}
    for lead, course in zip(LEADS, beat, strict=True):
        values = (
            *_q_r_s(course[waves.onset : waves.offset]),
            float(course[j_point_60 - 2 : j_point_60 + 3].mean()),
            _farthest(course[waves.t]),
        )
        result |= {f"{name}_{lead}": value for name, value in zip(LEAD_MEASUREMENTS, values, strict=True)}
    return result


def _record_measurements(
    beat: NDArray[np.float32], waves: _Waves, rr: float, of_lead: dict[str, float]
) -> dict[str, float]:
    """Return intervals in ms, axis in degrees and voltages in mV of the record."""
    net_i, net_avf = (of_lead[f"r_{lead}"] - max(of_lead[f"q_{lead}"], of_lead[f"s_{lead}"]) for lead in ("I", "aVF"))
    qt = 1000 * (waves.t_end - float(GRID[waves.onset]))
    return {
        "qrs_duration": 1000 * STEP * (waves.offset - waves.onset),
        "qrs_axis": float(np.rad2deg(np.arctan2(2 * net_avf, np.sqrt(3) * net_i))),
        "qt": qt,
        "qtc": qt / np.sqrt(rr),
        "qtc_fridericia": qt / np.cbrt(rr),
        "cornell": of_lead["r_aVL"] + of_lead["s_V3"],
        "sokolow_lyon": of_lead["s_V1"] + float(np.maximum(of_lead["r_V5"], of_lead["r_V6"])),
        "p_II": _farthest(beat[LEADS.index("II"), waves.p]),
    }


def _q_r_s(qrs: Floats) -> tuple[float, float, float]:
    """Return depth of Q, height of R and depth of S in mV; a complex without an R wave is S alone."""
    if not np.isfinite(qrs).all():
        return float("nan"), float("nan"), float("nan")
    # Only turns count: where ST is lifted or depressed, the complex ends above or below the baseline without a wave.
    steps = np.diff(qrs)
    tops = np.flatnonzero((steps[:-1] > 0) & (steps[1:] <= 0)) + 1
    nadirs = np.flatnonzero((steps[:-1] < 0) & (steps[1:] >= 0)) + 1
    tops = tops[qrs[tops] >= NO_R]
    first = int(tops[0]) if len(tops) else 0
    q, s = -qrs[nadirs[nadirs < first]], -qrs[nadirs[nadirs > first]]
    return float(q.max(initial=0.0)), float(qrs[tops].max(initial=0.0)), float(s.max(initial=0.0))


def _farthest(course: Floats) -> float:
    """Return the value farthest from zero; NaN where there is no room for the wave."""
    if not len(course) or not np.isfinite(course).all():
        return float("nan")
    return float(course[np.argmax(np.abs(course))])
