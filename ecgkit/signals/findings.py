"""What is wrong with an ECG, with the numbers that show it: looked for before any probability is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft, rfftfreq

from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.misplacement import misplacement_scores
from ecgkit.signals.prepare import repair
from ecgkit.signals.rhythm import MIN_RATE, r_peaks

WINDOW = 10.0
"""Seconds that are checked at once; a longer recording is checked in windows of about this length."""

GAP, REFUSED_GAP = 0.1, 0.5
"""The shortest gap in s that is reported, and the share of the recording that may be missing."""

FLAT, REFUSED_FLAT = 1.0, 3
"""How long in s a lead may stay at one value, and the number of leads that may not do so."""

CLIPPED, SHORTEST_CLIP = 4, 0.02
"""How often a lead may stay at its highest or lowest value for so many seconds."""

DUPLICATE = 0.005
"""The difference of two leads as a share of the larger one; in PTB-XL's folds 1-8 it is 0.01 or more."""

EINTHOVEN, REFUSED_EINTHOVEN = 0.05, 0.3
"""The rest of I + III - II, aVR + aVL + aVF or aVR + (I + II) / 2 as a share of the size of these leads."""

DETACHED, QRS_BAND, QRS_REACH = 0.2, (4.0, 30.0), 0.08
"""The power of the median QRS complex as a multiple of the power of the lead in a band in Hz; s around the R peak."""

WANDER = 0.7
"""mV between the highest and the lowest median of a second, in half of the leads."""

MUSCLE, MUSCLE_BAND = 0.035, (30.0, 45.0)
"""Noise between the beats in mV, root mean square in a band in Hz, in half of the leads."""

MAINS, HUM = (50.0, 60.0), 0.05
"""Frequencies in Hz, and the amplitude in mV, in half of the leads."""

FEWEST_BEATS, LONG_ENOUGH = 3, 5.0
"""In so many seconds."""

MISPLACED = {
    "arms": "the arm leads look swapped (I inverted, II and III exchanged): compare the P wave in I and aVR",
    "chest": "V1 to V6 look out of order: compare the growth of the R wave from V1 to V6",
    "polarity": "all leads look inverted: compare the P wave in II and aVR",
    "rate_too_high": "heart rate and QRS width fit half of the sampling rate better: check it",
    "rate_too_low": "heart rate and QRS width fit twice the sampling rate better: check it",
}
"""The text of each fault of `misplacement_scores`."""

Floats = NDArray[np.floating]
Level = Literal["warning", "refused"]


@dataclass(frozen=True)
class Finding:
    """One fault of an ECG.

    Attributes
    ----------
    name : str
        The check, such as ``"einthoven"``.
    level : {"warning", "refused"}
        A refused ECG is predicted only if that is asked for.
    text : str
        In plain words.
    leads : tuple of str
        The leads that show it; empty if it is about the recording.
    evidence : mapping of str to float
        The numbers behind it.
    """

    name: str
    level: Level
    text: str
    leads: tuple[str, ...] = ()
    evidence: Mapping[str, float] = field(default_factory=dict)


def check_quality(ecg: ECG) -> tuple[Finding, ...]:
    """Look for what is wrong with an ECG: gaps, flat, clipped, detached, duplicate or misplaced leads, and noise.

    Units and levels are judged by `ecgkit.signals.quality.check_levels`. What each check finds, and how often it finds
    something in records without a fault, is in the documentation.

    Parameters
    ----------
    ecg : ECG
        The record.

    Returns
    -------
    tuple of Finding
        Of a recording of 15 s or more, which is checked in windows of about 10 s, the findings of at least half of
        the windows, as the first of these shows them.
    """
    n_windows = max(1, round(ecg.duration / WINDOW))
    found: dict[str, list[Finding]] = {}
    for part in np.array_split(ecg.signal, n_windows, axis=1):
        for finding in _check_window(part, ecg.sampling_rate):
            found.setdefault(finding.name, []).append(finding)
    often = [findings for findings in found.values() if 2 * len(findings) >= n_windows]
    if n_windows == 1:
        return tuple(findings[0] for findings in often)
    note = "{} (in {} of {} windows of 10 s)"
    return tuple(replace(some[0], text=note.format(some[0].text, len(some), n_windows)) for some in often)


@dataclass(frozen=True, eq=False)
class _Window:
    """A piece of a recording, prepared once for all checks."""

    raw: NDArray[np.float32]
    values: NDArray[np.float32]  # without gaps and offset
    spectrum: NDArray[np.complex64]
    frequencies: Floats
    alive: NDArray[np.bool_]  # leads that are neither absent nor flat
    peaks: NDArray[np.int64]
    rate: float

    def band(self, low: float, high: float) -> Floats:
        """Return the leads between two frequencies."""
        inside = (self.frequencies >= low) & (self.frequencies <= high)
        return np.asarray(irfft(self.spectrum * inside, self.values.shape[1], axis=1))

    def in_half_of_the_leads(self, sizes: Floats) -> float:
        """Return the size that half of the leads reach."""
        there = np.sort(sizes[self.alive])
        return float(there[len(there) // 2]) if len(there) else 0.0


def _check_window(signal: NDArray[np.float32], rate: float) -> list[Finding]:
    """Run all checks on about ten seconds."""
    values = repair(signal)
    values = values - values.mean(axis=1, keepdims=True)
    window = _Window(
        raw=signal,
        values=values,
        spectrum=rfft(values, axis=1),
        frequencies=rfftfreq(values.shape[1], 1 / rate),
        alive=np.ptp(values, axis=1) > 0,
        peaks=r_peaks(values, sampling_rate=rate) if rate >= MIN_RATE else np.zeros(0, np.int64),
        rate=rate,
    )
    return [finding for check in CHECKS for finding in check(window)]


def _gaps(window: _Window) -> Iterator[Finding]:
    missing = (~np.isfinite(window.raw)).mean(axis=1)
    missing[missing == 1] = 0  # absent leads are another matter
    longest = float(missing.max()) * window.raw.shape[1] / window.rate
    if longest >= GAP:
        leads = _names(missing > 0)
        level: Level = "refused" if missing.max() > REFUSED_GAP else "warning"
        text = f"values are missing in {_listed(leads)}, up to {longest:.1f} s"
        yield Finding("gap", level, text, leads, {"seconds": longest})


def _flat(window: _Window) -> Iterator[Finding]:
    seconds = np.array([_longest_run(lead) for lead in window.raw]) / window.rate
    if seconds.max() >= min(FLAT, window.raw.shape[1] / window.rate):
        leads = _names(seconds >= FLAT)
        level: Level = "refused" if len(leads) >= REFUSED_FLAT else "warning"
        text = f"{_listed(leads)}: flat for {seconds.max():.1f} s"
        yield Finding("flat", level, text, leads, {"seconds": float(seconds.max())})


def _clipped(window: _Window) -> Iterator[Finding]:
    at_least = max(2, round(SHORTEST_CLIP * window.rate))
    times = np.array(
        [
            max(_count_runs(lead == lead.max(), at_least), _count_runs(lead == lead.min(), at_least))
            for lead in window.values
        ]
    )
    times[~window.alive] = 0
    if times.max() >= CLIPPED:
        leads = _names(times >= CLIPPED)
        text = f"{_listed(leads)}: clipped, up to {times.max()} times at one highest or lowest value"
        yield Finding("clipped", "warning", text, leads, {"times": float(times.max())})


def _duplicate(window: _Window) -> Iterator[Finding]:
    products = (window.values @ window.values.T).astype(np.float64)
    powers = np.diag(products)
    squares = np.maximum(powers[:, None] + powers[None, :] - 2 * products, 0)  # of the difference of two leads
    both = window.alive[:, None] & window.alive[None, :]
    shares = np.sqrt(squares / np.where(both, np.maximum(powers[:, None], powers[None, :]), np.inf))
    equal = np.triu(both & (shares < DUPLICATE), 1)
    if equal.any():
        leads = _names(equal.any(axis=0) | equal.any(axis=1))
        text = f"{_listed(leads)} are the same signal"
        yield Finding("duplicate", "warning", text, leads, {"difference": float(shares[equal].min())})


def _einthoven(window: _Window) -> Iterator[Finding]:
    known = np.isfinite(window.raw[:6]).any(axis=1)
    one, two, three, avr, avl, avf = window.values[:6]
    rests = (
        (one + three - two, [0, 1, 2]),
        (avr + avl + avf, [3, 4, 5]),
        (avr + (one + two) / 2, [0, 1, 3]),
    )
    shares = [_size(rest) / size for rest, rows in rests if known[rows].all() and (size := _size(window.values[rows]))]
    largest = max(shares, default=0.0)
    if largest > EINTHOVEN:
        level: Level = "refused" if largest > REFUSED_EINTHOVEN else "warning"
        text = f"the limb leads contradict each other by {largest:.0%} (I + III = II, aVR + aVL + aVF = 0): "
        text += "check their order and their scale"
        yield Finding("einthoven", level, text, LEADS[:6], {"share": largest})


def _detached(window: _Window) -> Iterator[Finding]:
    band, reach = window.band(*QRS_BAND), round(QRS_REACH * window.rate)
    centres = window.peaks[(window.peaks >= reach) & (window.peaks < band.shape[1] - reach)]
    if len(centres) < FEWEST_BEATS or MIN_RATE > window.rate:
        return
    complexes = band[:, centres[:, None] + np.arange(-reach, reach + 1)]
    power = np.mean(band**2, axis=1)
    shares = np.mean(np.median(complexes, axis=1) ** 2, axis=1) / np.where(power > 0, power, np.inf)
    low = window.alive & (shares < DETACHED)
    if low.any():
        leads = _names(low)
        text = f"{_listed(leads)}: hardly any heartbeat, the electrode may be detached"
        yield Finding("detached", "warning", text, leads, {"share": float(shares[low].min())})


def _wander(window: _Window) -> Iterator[Finding]:
    length = min(round(window.rate), window.values.shape[1])
    seconds = window.values[:, : window.values.shape[1] // length * length].reshape(len(LEADS), -1, length)
    size = window.in_half_of_the_leads(np.ptp(np.median(seconds, axis=2), axis=1))
    if size > WANDER:
        text = f"the baseline wanders by {size:.1f} mV in half of the leads"
        yield Finding("wander", "warning", text, evidence={"mV": size})


def _muscle(window: _Window) -> Iterator[Finding]:
    if window.rate < 2 * MUSCLE_BAND[1]:
        return
    noise, length = window.band(*MUSCLE_BAND), round(0.2 * window.rate)
    pieces = noise[:, : noise.shape[1] // length * length].reshape(len(LEADS), -1, length)
    size = window.in_half_of_the_leads(np.sqrt(np.median(np.mean(pieces**2, axis=2), axis=1)))
    if size > MUSCLE:
        text = f"muscle noise: {1000 * size:.0f} microvolts from 30 to 45 Hz in half of the leads"
        yield Finding("muscle", "warning", text, evidence={"mV": size})


def _hum(window: _Window) -> Iterator[Finding]:
    for frequency in MAINS:
        inside = np.abs(window.frequencies - frequency) <= 0.5
        if window.rate / 2 <= frequency + 1 or not inside.any():
            continue
        power = np.sum(np.abs(window.spectrum[:, inside]) ** 2, axis=1)
        size = window.in_half_of_the_leads(2 * np.sqrt(power) / window.values.shape[1])
        if size > HUM:
            text = f"mains hum: {size:.2f} mV at {frequency:.0f} Hz in half of the leads"
            yield Finding("hum", "warning", text, evidence={"mV": size, "Hz": frequency})


def _beats(window: _Window) -> Iterator[Finding]:
    seconds = window.values.shape[1] / window.rate
    if seconds >= LONG_ENOUGH and len(window.peaks) < FEWEST_BEATS and MIN_RATE <= window.rate:
        text = f"{len(window.peaks)} heartbeats found in {seconds:.0f} s"
        yield Finding("beats", "warning", text, evidence={"beats": float(len(window.peaks))})


def _misplaced(window: _Window) -> Iterator[Finding]:
    scores = misplacement_scores(window.values, window.peaks, sampling_rate=window.rate)
    fault = max(scores, key=lambda name: scores[name], default="")
    if fault and scores[fault] > 0:
        yield Finding(fault, "warning", MISPLACED[fault], evidence={"log_odds_over_limit": scores[fault]})


CHECKS: tuple[Callable[[_Window], Iterator[Finding]], ...] = (
    _gaps,
    _flat,
    _clipped,
    _duplicate,
    _einthoven,
    _detached,
    _wander,
    _muscle,
    _hum,
    _beats,
    _misplaced,
)


def _names(chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    """Return the names of the leads that are marked."""
    return tuple(name for name, is_chosen in zip(LEADS, chosen, strict=True) if is_chosen)


def _listed(leads: Sequence[str]) -> str:
    """Return leads as text."""
    return "all leads" if len(leads) == len(LEADS) else ", ".join(leads)


def _size(values: Floats) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _longest_run(lead: Floats) -> int:
    """Return how many samples a lead stays at one value at most; what is missing is no value."""
    if not np.isfinite(lead).any():
        return 0
    return int(_runs(lead[1:] == lead[:-1]).max(initial=0)) + 1


def _count_runs(marked: NDArray[np.bool_], at_least: int) -> int:
    """Count the runs of marked samples of a length."""
    return int(np.sum(_runs(marked) >= at_least))


def _runs(marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of the runs of marked samples."""
    edges = np.flatnonzero(np.diff(marked, prepend=False, append=False))
    return edges[1::2] - edges[::2]
