"""What is wrong with an ECG, with the numbers that show it: looked for before any probability is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft, rfftfreq

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.misplacement import misplacement_scores
from ecgkit.signals.prepare import repair
from ecgkit.signals.quality import level_fault
from ecgkit.signals.rhythm import MIN_RATE, r_peaks

WINDOW = 10.0
"""Seconds that are checked at once; a longer recording is checked in windows of about this length."""

COARSE = 100.0
"""The rate in Hz to which a faster recording is reduced for what needs no more, so that it is judged as PTB-XL is."""

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

DETACHED, QRS_BAND, QRS_REACH = 0.18, (4.0, 30.0), 0.08
"""The power of the median QRS complex as a multiple of the power of the lead in a band in Hz; s around the R peak."""

WANDER = 0.8
"""mV between the highest and the lowest median of a second, in half of the leads."""

MUSCLE, MUSCLE_BAND = 0.04, (30.0, 45.0)
"""Noise between the beats in mV, root mean square in a band in Hz, in half of the leads."""

MAINS, HUM = (50.0, 60.0), 0.03
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
Level = Literal["note", "warning", "refused"]


@dataclass(frozen=True)
class Finding:
    """One fault of an ECG.

    Attributes
    ----------
    name : str
        The check, such as ``"einthoven"``.
    level : {"note", "warning", "refused"}
        A note is what a reader did, such as deriving leads. A refused ECG is predicted only if that is asked for.
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


def check_quality(ecg: ECG, peaks: NDArray[np.int64] | None = None) -> tuple[Finding, ...]:
    """Look for what is wrong with an ECG: its unit, gaps, flat, clipped, detached or misplaced leads, and noise.

    What each check finds, and how often it finds something in records without a fault, is in the documentation.

    Parameters
    ----------
    ecg : ECG
        The record.
    peaks : ndarray of int64, optional
        Its R peaks, as from `ecgkit.signals.rhythm.r_peaks`; found here if they are not given.

    Returns
    -------
    tuple of Finding
        First, if the levels are not those of an ECG in mV (`ecgkit.signals.quality.check_levels`), that. Of a recording
        of 15 s or more, which is checked in windows of about 10 s, the findings of at least half of the windows, as the
        first of these shows them.
    """
    fault = level_fault(ecg)
    unit = (Finding("unit", "refused", f"the signal {fault}"),) if fault else ()
    peaks = r_peaks(ecg.signal, sampling_rate=ecg.sampling_rate) if peaks is None else peaks
    n_windows = max(1, round(ecg.duration / WINDOW))
    found: dict[str, list[Finding]] = {}
    first = 0
    for part in np.array_split(ecg.signal, n_windows, axis=1):
        inside = peaks[(peaks >= first) & (peaks < first + part.shape[1])] - first
        first += part.shape[1]
        for finding in _check_window(part, ecg.sampling_rate, inside):
            found.setdefault(finding.name, []).append(finding)
    often = [findings for findings in found.values() if 2 * len(findings) >= n_windows]
    if n_windows == 1:
        return (*unit, *(findings[0] for findings in often))
    note = "{} (in {} of {} windows of 10 s)"
    return unit + tuple(replace(some[0], text=note.format(some[0].text, len(some), n_windows)) for some in often)


def noise_levels(ecg: ECG) -> dict[str, Floats]:
    """Measure the noise of each lead over the first 10 s.

    Parameters
    ----------
    ecg : ECG
        The record.

    Returns
    -------
    dict of str to ndarray, shape (12,)
        ``wander``, the range of the medians of seconds; ``muscle``, the noise between the beats from 30 to 45 Hz (of
        recordings at 90 Hz or more); ``hum``, the amplitude at 50 or 60 Hz, whichever is larger (above 102 Hz); all in
        mV. NaN for a lead that is absent or flat, and where the sampling rate is too low.
    """
    signal = ecg.signal[:, : round(WINDOW * ecg.sampling_rate)]
    window = _window(signal, ecg.sampling_rate, np.zeros(0, np.int64))
    muscle = _muscle_sizes(window) if ecg.sampling_rate >= 2 * MUSCLE_BAND[1] else np.full(len(LEADS), np.nan)
    hum = np.fmax.reduce([np.full(len(LEADS), np.nan), *(sizes for _, sizes in _hum_sizes(window))])
    sizes = {"wander": _wander_sizes(window), "muscle": muscle, "hum": hum}
    return {name: np.where(window.alive, values, np.nan) for name, values in sizes.items()}


def refuse(ecg: ECG, findings: Sequence[Finding]) -> None:
    """Raise an error for an ECG with a refused finding.

    Parameters
    ----------
    ecg : ECG
        The record.
    findings : sequence of Finding
        As from `check_quality`.

    Raises
    ------
    EcgkitError
        Naming what is wrong.
    """
    refused = [finding.text for finding in findings if finding.level == "refused"]
    if refused:
        raise EcgkitError(f"{ecg.name}: {'; '.join(refused)} (anyway=True skips this check)")


@dataclass(frozen=True, eq=False)
class _Window:
    """A piece of a recording, prepared once for all checks."""

    raw: NDArray[np.float32]
    rate: float
    values: NDArray[np.float32]  # without gaps and offset
    spectrum: NDArray[np.complex64]
    alive: NDArray[np.bool_]  # leads that are neither absent nor flat
    n_coarse: int
    peaks: NDArray[np.int64]  # R peaks, in samples of the coarse rate

    @property
    def seconds(self) -> float:
        return self.raw.shape[1] / self.rate

    @cached_property
    def frequencies(self) -> Floats:
        return rfftfreq(self.raw.shape[1], 1 / self.rate)

    @cached_property
    def coarse(self) -> NDArray[np.float32]:
        return self.values if self.n_coarse == self.raw.shape[1] else self.band(0.0, np.inf)

    @property
    def coarse_rate(self) -> float:
        return self.n_coarse / self.seconds

    def band(self, low: float, high: float) -> NDArray[np.float32]:
        """Return the leads between two frequencies at the coarse rate."""
        few = self.n_coarse // 2 + 1
        inside = (self.frequencies[:few] >= low) & (self.frequencies[:few] <= high)
        scale = self.n_coarse / self.raw.shape[1]
        return np.asarray(irfft(self.spectrum[:, :few] * inside, self.n_coarse, axis=1) * scale, np.float32)

    def power(self, low: float, high: float) -> Floats:
        """Return the mean square of each lead between two frequencies above zero, by Parseval's theorem."""
        first, last = np.searchsorted(self.frequencies, (low, high))
        inside = self.spectrum[:, first : last + 1]
        return np.asarray(2 * np.sum(inside.real**2 + inside.imag**2, axis=1) / self.raw.shape[1] ** 2)

    def pieces(self, leads: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
        """Cut the coarse leads into pieces one after the other, shape (12, pieces, samples)."""
        length = min(round(seconds * self.coarse_rate), leads.shape[1])
        return leads[:, : leads.shape[1] // length * length].reshape(len(LEADS), -1, length)

    def in_half_of_the_leads(self, sizes: Floats) -> float:
        """Return the size that half of the leads reach."""
        there = np.sort(sizes[self.alive])
        return float(there[len(there) // 2]) if len(there) else 0.0


def _check_window(signal: NDArray[np.float32], rate: float, peaks: NDArray[np.int64]) -> list[Finding]:
    """Run all checks on about ten seconds."""
    checks = CHECKS if rate >= MIN_RATE else CHECKS_WITHOUT_BEATS
    window = _window(signal, rate, peaks)
    return [finding for check in checks for finding in check(window)]


def _window(signal: NDArray[np.float32], rate: float, peaks: NDArray[np.int64]) -> _Window:
    """Prepare about ten seconds for the checks."""
    values = repair(signal)
    values = values - values.mean(axis=1, keepdims=True)
    n_coarse = min(signal.shape[1], max(2, round(signal.shape[1] * COARSE / rate)))
    alive, coarse_peaks = np.ptp(values, axis=1) > 0, np.rint(peaks * n_coarse / signal.shape[1]).astype(np.int64)
    return _Window(signal, rate, values, rfft(values, axis=1), alive, n_coarse, coarse_peaks)


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
    raw = window.raw
    rows, lengths = _runs((raw[:, 1:] == raw[:, :-1]) & np.isfinite(raw[:, 1:]))
    seconds = np.zeros(len(LEADS))
    np.maximum.at(seconds, rows, (lengths + 1) / window.rate)
    if seconds.max() >= FLAT:
        leads = _names(seconds >= FLAT)
        level: Level = "refused" if len(leads) >= REFUSED_FLAT else "warning"
        text = f"{_listed(leads)}: flat for {seconds.max():.1f} s"
        yield Finding("flat", level, text, leads, {"seconds": float(seconds.max())})


def _clipped(window: _Window) -> Iterator[Finding]:
    values, at_least = window.values, max(2, round(SHORTEST_CLIP * window.rate))
    times = np.zeros(len(LEADS), np.int64)
    for extreme in (values.max(axis=1, keepdims=True), values.min(axis=1, keepdims=True)):
        rows, lengths = _runs((values == extreme) & window.alive[:, None])
        times = np.maximum(times, np.bincount(rows[lengths >= at_least], minlength=len(LEADS)))
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
    equal: NDArray[np.bool_] = np.triu(both & (shares < DUPLICATE), 1)
    if equal.any():
        leads = _names(np.atleast_1d((equal | equal.T).any(axis=1)))
        text = f"{_listed(leads)} are the same signal"
        yield Finding("duplicate", "warning", text, leads, {"difference": float(shares[equal].min())})


def _einthoven(window: _Window) -> Iterator[Finding]:
    known: NDArray[np.bool_] = np.asarray(np.isfinite(window.raw[:6]).any(axis=1))
    one, two, three, avr, avl, avf = window.values[:6]
    rests = ((one + three - two, [0, 1, 2]), (avr + avl + avf, [3, 4, 5]), (avr + (one + two) / 2, [0, 1, 3]))
    shares = [_size(rest) / size for rest, rows in rests if known[rows].all() and (size := _size(window.values[rows]))]
    largest = max(shares, default=0.0)
    if largest > EINTHOVEN:
        level: Level = "refused" if largest > REFUSED_EINTHOVEN else "warning"
        text = f"the limb leads contradict each other by {largest:.0%} (I + III = II, aVR + aVL + aVF = 0): "
        text += "check their order and their scale"
        yield Finding("einthoven", level, text, LEADS[:6], {"share": largest})


def _detached(window: _Window) -> Iterator[Finding]:
    band, reach = window.band(*QRS_BAND), round(QRS_REACH * window.coarse_rate)
    centres = window.peaks[(window.peaks >= reach) & (window.peaks < band.shape[1] - reach)]
    if len(centres) < FEWEST_BEATS:
        return
    complexes = band[:, centres[:, None] + np.arange(-reach, reach + 1)]
    power = np.mean(band**2, axis=1)
    shares = np.mean(np.median(complexes, axis=1) ** 2, axis=1) / np.where(power > 0, power, np.inf)
    low = window.alive & (shares < DETACHED)
    if low.any():
        leads = _names(low)
        text = f"{_listed(leads)}: hardly any heartbeat, the electrode may be detached"
        yield Finding("detached", "warning", text, leads, {"share": float(shares[low].min())})


def _wander_sizes(window: _Window) -> Floats:
    """Return the range of the medians of seconds of each lead, in mV."""
    return np.ptp(np.median(window.pieces(window.coarse, 1.0), axis=2), axis=1)


def _muscle_sizes(window: _Window) -> Floats:
    """Return the noise between the beats of each lead from 30 to 45 Hz, in mV."""
    powers = np.mean(window.pieces(window.band(*MUSCLE_BAND), 0.2) ** 2, axis=2)
    return np.sqrt(np.median(powers, axis=1))


def _wander_bounds(window: _Window) -> Floats:
    """Return what `_wander_sizes` does not exceed: a median is at most one deviation away from the mean."""
    seconds = window.pieces(window.coarse, 1.0)
    means = seconds.mean(axis=2)
    deviations = np.sqrt(np.maximum(np.mean(seconds**2, axis=2) - means**2, 0))
    return (means + deviations).max(axis=1) - (means - deviations).min(axis=1)


def _wander(window: _Window) -> Iterator[Finding]:
    if window.in_half_of_the_leads(_wander_bounds(window)) < 0.99 * WANDER:
        return  # the medians take longer
    size = window.in_half_of_the_leads(_wander_sizes(window))
    if size > WANDER:
        text = f"the baseline wanders by {size:.1f} mV in half of the leads"
        yield Finding("wander", "warning", text, evidence={"mV": size})


def _muscle(window: _Window) -> Iterator[Finding]:
    if window.rate < 2 * MUSCLE_BAND[1]:
        return
    if window.in_half_of_the_leads(window.power(*MUSCLE_BAND)) < MUSCLE**2 / 2:
        return  # the median of the pieces is at most twice their mean
    size = window.in_half_of_the_leads(_muscle_sizes(window))
    if size > MUSCLE:
        text = f"muscle noise: {1000 * size:.0f} microvolts from 30 to 45 Hz in half of the leads"
        yield Finding("muscle", "warning", text, evidence={"mV": size})


def _hum(window: _Window) -> Iterator[Finding]:
    for frequency, sizes in _hum_sizes(window):
        size = window.in_half_of_the_leads(sizes)
        if size > HUM:
            text = f"mains hum: {size:.2f} mV at {frequency:.0f} Hz in half of the leads"
            yield Finding("hum", "warning", text, evidence={"mV": size, "Hz": frequency})


def _hum_sizes(window: _Window) -> Iterator[tuple[float, Floats]]:
    """Return the amplitude in each lead at each frequency of mains that the sampling rate can hold."""
    for frequency in MAINS:
        inside = np.abs(window.frequencies - frequency) <= 0.5
        if window.rate / 2 > frequency + 1 and inside.any():
            power = np.sum(np.abs(window.spectrum[:, inside]) ** 2, axis=1)
            yield frequency, 2 * np.sqrt(power) / window.values.shape[1]


def _beats(window: _Window) -> Iterator[Finding]:
    if window.seconds >= LONG_ENOUGH and len(window.peaks) < FEWEST_BEATS:
        text = f"{len(window.peaks)} heartbeats found in {window.seconds:.0f} s"
        yield Finding("beats", "warning", text, evidence={"beats": float(len(window.peaks))})


def _misplaced(window: _Window) -> Iterator[Finding]:
    scores = misplacement_scores(window.coarse, window.peaks, sampling_rate=window.coarse_rate)
    fault = max(scores, key=lambda name: scores[name], default="")
    if fault and scores[fault] > 0:
        yield Finding(fault, "warning", MISPLACED[fault], evidence={"log_odds_over_limit": scores[fault]})


Check = Callable[[_Window], Iterator[Finding]]

CHECKS_WITHOUT_BEATS: tuple[Check, ...] = (_gaps, _flat, _clipped, _duplicate, _einthoven, _wander, _muscle, _hum)
CHECKS: tuple[Check, ...] = (*CHECKS_WITHOUT_BEATS, _detached, _beats, _misplaced)


def _names(chosen: Iterable[np.bool_]) -> tuple[str, ...]:
    """Return the names of the leads that are marked."""
    return tuple(name for name, is_chosen in zip(LEADS, chosen, strict=True) if is_chosen)


def _listed(leads: Sequence[str]) -> str:
    """Return leads as text."""
    return "all leads" if len(leads) == len(LEADS) else ", ".join(leads)


def _size(values: Floats) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _runs(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row and the length of each run of marked samples."""
    width = marked.shape[1] + 1
    padded = np.zeros((len(marked), width), bool)
    padded[:, :-1] = marked
    edges = np.flatnonzero(np.diff(padded.ravel(), prepend=False))
    return edges[::2] // width, edges[1::2] - edges[::2]
