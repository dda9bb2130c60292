"""What is wrong with an ECG, with the numbers that show it: looked for before any probability is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, chain, islice
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft, rfftfreq

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.groups import equal_signals
from ecgkit.signals.misplacement import misplacement_scores
from ecgkit.signals.prepare import repair
from ecgkit.signals.quality import level_fault
from ecgkit.signals.rhythm import MIN_RATE, medians, r_peaks_of_many

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

EXTREME = 20.0
"""Largest plausible distance from the mean of a lead, in mV; the largest in PTB-XL's 21,799 records is 17.9 mV."""

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
        First, if the levels are not those of an ECG in mV (`ecgkit.signals.quality.check_levels`), that. Then its gaps.
        Of a recording of 15 s or more, which is checked for all else in windows of about 10 s, the findings of at least
        half of the windows, as the first of these shows them; refused if half of the windows are.
    """
    return check_many([ecg], None if peaks is None else [peaks])[0]


def check_many(ecgs: Sequence[ECG], peaks: Sequence[NDArray[np.int64]] | None = None) -> list[tuple[Finding, ...]]:
    """Check many ECGs, each as `check_quality` does; those of equal length and rate take less time together."""
    rates = [ecg.sampling_rate for ecg in ecgs]
    peaks = r_peaks_of_many([ecg.signal for ecg in ecgs], rates) if peaks is None else peaks
    parts = [_parts(ecg, some) for ecg, some in zip(ecgs, peaks, strict=True)]
    in_windows = iter(_check_parts([part for some in parts for part in some]))
    return [_summary(ecg, list(islice(in_windows, len(some)))) for ecg, some in zip(ecgs, parts, strict=True)]


class _Part(NamedTuple):
    """About ten seconds of an ECG, with the R peaks in samples after its beginning."""

    signal: NDArray[np.float32]
    rate: float
    peaks: NDArray[np.int64]


def _parts(ecg: ECG, peaks: NDArray[np.int64]) -> list[_Part]:
    """Cut an ECG into windows of about ten seconds."""
    windows = np.array_split(ecg.signal, max(1, round(ecg.duration / WINDOW)), axis=1)
    starts = accumulate((window.shape[1] for window in windows), initial=0)
    return [
        _Part(window, ecg.sampling_rate, peaks[(peaks >= first) & (peaks < first + window.shape[1])] - first)
        for window, first in zip(windows, starts, strict=False)
    ]


def _check_parts(parts: Sequence[_Part]) -> list[list[Finding]]:
    """Run all checks on each window."""
    found: list[list[Finding]] = [[] for _ in parts]
    for positions, signals, rate in equal_signals([part.signal for part in parts], [part.rate for part in parts]):
        windows = _windows(signals, rate, [parts[i].peaks for i in positions])
        for check in CHECKS if rate >= MIN_RATE else CHECKS_WITHOUT_BEATS:
            for place, finding in check(windows):
                found[positions[place]].append(finding)
    return found


def _summary(ecg: ECG, in_windows: Sequence[Sequence[Finding]]) -> tuple[Finding, ...]:
    """Return what is wrong with the levels of an ECG, its gaps, and what was found in at least half of its windows."""
    fault, n_windows = level_fault(ecg), len(in_windows)
    unit = (Finding("unit", "refused", f"the signal {fault}"),) if fault else ()
    whole = (*unit, *_gaps(ecg))
    if n_windows == 1:
        return (*whole, *in_windows[0])
    by_check: dict[str, list[Finding]] = {}
    for finding in chain.from_iterable(in_windows):
        by_check.setdefault(finding.name, []).append(finding)
    return (*whole, *chain.from_iterable(_often(findings, n_windows) for findings in by_check.values()))


def _often(findings: Sequence[Finding], n_windows: int) -> Iterator[Finding]:
    """Yield what half of the windows show of one check, as the first of these shows it: refused, or else a warning."""
    refused = [finding for finding in findings if finding.level == "refused"]
    is_refused = 2 * len(refused) >= n_windows
    shown = next((finding for finding in findings if (finding.level == "refused") == is_refused), None)
    n_found = len(refused) if is_refused else len(findings)
    if shown and 2 * n_found >= n_windows:
        yield replace(shown, text=f"{shown.text} (in {n_found} of {n_windows} windows of 10 s)")


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
    signal = ecg.signal[None, :, : round(WINDOW * ecg.sampling_rate)]
    windows = _windows(signal, ecg.sampling_rate, [])
    muscle = _muscle_sizes(windows) if ecg.sampling_rate >= 2 * MUSCLE_BAND[1] else np.full((1, len(LEADS)), np.nan)
    hum = np.fmax.reduce([np.full((1, len(LEADS)), np.nan), *(sizes for _, sizes in _hum_sizes(windows))])
    sizes = {"wander": _wander_sizes(windows), "muscle": muscle, "hum": hum}
    return {name: np.where(windows.alive, values, np.nan)[0] for name, values in sizes.items()}


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
class _Windows:
    """Pieces of recordings, of equal length and rate, prepared once for all checks; arrays ``(windows, 12, ...)``."""

    raw: NDArray[np.float32]
    rate: float
    values: NDArray[np.float32]  # without gaps and offset
    spectrum: NDArray[np.complex64]
    alive: NDArray[np.bool_]  # leads that are neither absent nor flat
    n_coarse: int
    peaks: Sequence[NDArray[np.int64]]  # R peaks of each, in samples of the coarse rate

    @property
    def seconds(self) -> float:
        return self.raw.shape[2] / self.rate

    @cached_property
    def frequencies(self) -> Floats:
        return rfftfreq(self.raw.shape[2], 1 / self.rate)

    @cached_property
    def coarse(self) -> NDArray[np.float32]:
        return self.values if self.n_coarse == self.raw.shape[2] else self.band(0.0, np.inf)

    @property
    def coarse_rate(self) -> float:
        return self.n_coarse / self.seconds

    def some(self, chosen: NDArray[np.bool_]) -> _Windows:
        """Return some of the windows."""
        arrays = {name: getattr(self, name)[chosen] for name in ("raw", "values", "spectrum", "alive")}
        peaks = [some for some, is_chosen in zip(self.peaks, chosen, strict=True) if is_chosen]
        return replace(self, **arrays, peaks=peaks)

    def band(self, low: float, high: float) -> NDArray[np.float32]:
        """Return the leads between two frequencies at the coarse rate."""
        few = self.n_coarse // 2 + 1
        inside = (self.frequencies[:few] >= low) & (self.frequencies[:few] <= high)
        scale = self.n_coarse / self.raw.shape[2]
        return np.asarray(irfft(self.spectrum[:, :, :few] * inside, self.n_coarse, axis=2) * scale, np.float32)

    def power(self, low: float, high: float) -> Floats:
        """Return the mean square of each lead between two frequencies above zero, by Parseval's theorem."""
        first, last = np.searchsorted(self.frequencies, (low, high))
        inside = self.spectrum[:, :, first : last + 1]
        return np.asarray(2 * np.sum(inside.real**2 + inside.imag**2, axis=2) / self.raw.shape[2] ** 2)

    def pieces(self, leads: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
        """Cut the coarse leads into pieces one after the other, shape (windows, 12, pieces, samples)."""
        length = min(round(seconds * self.coarse_rate), leads.shape[2])
        return leads[:, :, : leads.shape[2] // length * length].reshape(*leads.shape[:2], -1, length)

    def in_half_of_the_leads(self, sizes: Floats) -> Floats:
        """Return the size that half of the leads of each window reach; 0 without leads."""
        there = np.sort(np.where(self.alive, sizes, np.inf), axis=1)
        n_leads = self.alive.sum(axis=1)
        return np.where(n_leads > 0, there[np.arange(len(there)), n_leads // 2 % len(LEADS)], 0.0)


def _windows(signals: Floats, rate: float, peaks: Sequence[NDArray[np.int64]]) -> _Windows:
    """Prepare windows of about ten seconds, ``(windows, 12, samples)``, for the checks."""
    values, n_samples = repair(signals), signals.shape[2]
    values = values - values.mean(axis=2, keepdims=True)
    n_coarse = min(n_samples, max(2, round(n_samples * COARSE / rate)))
    coarse_peaks = [np.rint(some * n_coarse / n_samples).astype(np.int64) for some in peaks]
    alive = np.ptp(values, axis=2) > 0
    return _Windows(signals, rate, values, rfft(values, axis=2), alive, n_coarse, coarse_peaks)


Found = Iterator[tuple[int, Finding]]
"""Findings, each with the position of its window."""


def _gaps(ecg: ECG) -> Iterator[Finding]:
    """Yield what is missing in the leads that are there; of the whole recording, so that all of a gap counts."""
    missing = (~np.isfinite(ecg.signal)).mean(axis=1)
    missing[missing == 1] = 0  # absent leads are another matter
    seconds = float(missing.max() * ecg.duration)
    if seconds >= GAP:
        leads = _names(missing > 0)
        level: Level = "refused" if missing.max() > REFUSED_GAP else "warning"
        text = f"values are missing in {_listed(leads)}, up to {seconds:.1f} s"
        yield Finding("gap", level, text, leads, {"seconds": seconds})


def _flat(windows: _Windows) -> Found:
    raw = windows.raw
    at_one_value = (raw[:, :, 1:] == raw[:, :, :-1]) & np.isfinite(raw[:, :, 1:])
    lengths = _runs(at_one_value, FLAT * windows.rate - 1)
    seconds = np.zeros(raw.shape[:2])
    for place, some in lengths.items():
        seconds[place] = (some.max() + 1) / windows.rate
    for i in np.flatnonzero(seconds.max(axis=1) >= FLAT).tolist():
        leads, longest = _names(seconds[i] >= FLAT), float(seconds[i].max())
        level: Level = "refused" if len(leads) >= REFUSED_FLAT else "warning"
        yield i, Finding("flat", level, f"{_listed(leads)}: flat for {longest:.1f} s", leads, {"seconds": longest})


def _clipped(windows: _Windows) -> Found:
    values, at_least = windows.values, max(2, round(SHORTEST_CLIP * windows.rate))
    times = np.zeros(values.shape[:2], np.int64)
    for extreme in (values.max(axis=2, keepdims=True), values.min(axis=2, keepdims=True)):
        at_extreme = (values == extreme) & windows.alive[:, :, None]
        for place, lengths in _runs(at_extreme, CLIPPED * at_least).items():
            times[place] = max(times[place], int(np.sum(lengths >= at_least)))
    for i in np.flatnonzero(times.max(axis=1) >= CLIPPED).tolist():
        leads, most = _names(times[i] >= CLIPPED), int(times[i].max())
        text = f"{_listed(leads)}: clipped, up to {most} times at one highest or lowest value"
        yield i, Finding("clipped", "warning", text, leads, {"times": float(most)})


def _extreme(windows: _Windows) -> Found:
    largest = np.abs(windows.values).max(axis=2)
    for i in np.flatnonzero(largest.max(axis=1) > EXTREME).tolist():
        leads, most = _names(largest[i] > EXTREME), float(largest[i].max())
        text = f"{_listed(leads)}: values up to {most:,.0f} mV, which no heart has: marks of missing samples?"
        yield i, Finding("extreme", "warning", text, leads, {"mV": most})


def _duplicate(windows: _Windows) -> Found:
    products = (windows.values @ windows.values.swapaxes(1, 2)).astype(np.float64)
    powers = np.diagonal(products, axis1=1, axis2=2)
    # Of the difference of two leads.
    squares = np.maximum(powers[:, :, None] + powers[:, None, :] - 2 * products, 0)
    both = windows.alive[:, :, None] & windows.alive[:, None, :]
    larger = np.maximum(powers[:, :, None], powers[:, None, :])
    shares = np.sqrt(squares / np.where(both, larger, np.inf))
    equal: NDArray[np.bool_] = np.triu(both & (shares < DUPLICATE), 1)
    for i in np.flatnonzero(equal.any(axis=(1, 2))).tolist():
        leads = _names(np.atleast_1d((equal[i] | equal[i].T).any(axis=1)))
        evidence = {"difference": float(shares[i][equal[i]].min())}
        yield i, Finding("duplicate", "warning", f"{_listed(leads)} are the same signal", leads, evidence)


def _einthoven(windows: _Windows) -> Found:
    known: NDArray[np.bool_] = np.asarray(np.isfinite(windows.raw[:, :6]).any(axis=2))
    limbs = windows.values[:, :6]
    one, two, three, avr, avl, avf = np.moveaxis(limbs, 1, 0)
    rests = _mean_squares(np.stack([one + three - two, avr + avl + avf, avr + (one + two) / 2], axis=1))
    trios = [[0, 1, 2], [3, 4, 5], [0, 1, 3]]
    sizes = _mean_squares(limbs)[:, trios].mean(axis=2)
    usable = known[:, trios].all(axis=2) & (sizes > 0)
    largest = np.sqrt(np.where(usable, rests / np.where(usable, sizes, 1), 0).max(axis=1))
    for i in np.flatnonzero(largest > EINTHOVEN).tolist():
        share = float(largest[i])
        level: Level = "refused" if share > REFUSED_EINTHOVEN else "warning"
        text = f"the limb leads contradict each other by {share:.0%} (I + III = II, aVR + aVL + aVF = 0): "
        text += "check their order and their scale"
        yield i, Finding("einthoven", level, text, LEADS[:6], {"share": share})


def _detached(windows: _Windows) -> Found:
    band, reach = windows.band(*QRS_BAND), round(QRS_REACH * windows.coarse_rate)
    power = np.mean(band**2, axis=2)
    around = np.arange(-reach, reach + 1)
    for i, peaks in enumerate(windows.peaks):
        centres = peaks[(peaks >= reach) & (peaks < band.shape[2] - reach)]
        if len(centres) < FEWEST_BEATS:
            continue
        typical = medians(band[i][:, centres[:, None] + around], axis=1)
        shares = np.mean(typical**2, axis=1) / np.where(power[i] > 0, power[i], np.inf)
        low = windows.alive[i] & (shares < DETACHED)
        if low.any():
            leads = _names(low)
            text = f"{_listed(leads)}: hardly any heartbeat, the electrode may be detached"
            yield i, Finding("detached", "warning", text, leads, {"share": float(shares[low].min())})


def _wander_sizes(windows: _Windows) -> Floats:
    """Return the range of the medians of seconds of each lead, in mV."""
    return np.ptp(medians(windows.pieces(windows.coarse, 1.0)), axis=2)


def _muscle_sizes(windows: _Windows) -> Floats:
    """Return the noise between the beats of each lead from 30 to 45 Hz, in mV."""
    powers = np.mean(windows.pieces(windows.band(*MUSCLE_BAND), 0.2) ** 2, axis=3)
    return np.sqrt(medians(powers))


def _wander(windows: _Windows) -> Found:
    sizes = windows.in_half_of_the_leads(_wander_sizes(windows))
    for i in np.flatnonzero(sizes > WANDER).tolist():
        size = float(sizes[i])
        text = f"the baseline wanders by {size:.1f} mV in half of the leads"
        yield i, Finding("wander", "warning", text, evidence={"mV": size})


def _muscle(windows: _Windows) -> Found:
    if windows.rate < 2 * MUSCLE_BAND[1]:
        return
    # The median of the pieces is at most twice their mean.
    possible = windows.in_half_of_the_leads(windows.power(*MUSCLE_BAND)) >= MUSCLE**2 / 2
    if not possible.any():
        return
    some = windows.some(possible)
    sizes = some.in_half_of_the_leads(_muscle_sizes(some)).tolist()
    for i, size in zip(np.flatnonzero(possible).tolist(), sizes, strict=True):
        if size > MUSCLE:
            text = f"muscle noise: {1000 * size:.0f} microvolts from 30 to 45 Hz in half of the leads"
            yield i, Finding("muscle", "warning", text, evidence={"mV": size})


def _hum(windows: _Windows) -> Found:
    left = np.ones(len(windows.raw), bool)
    for frequency, of_leads in _hum_sizes(windows):
        sizes = windows.in_half_of_the_leads(of_leads)
        reached = left & (sizes > HUM)
        left &= ~reached
        for i in np.flatnonzero(reached).tolist():
            size = float(sizes[i])
            text = f"mains hum: {size:.2f} mV at {frequency:.0f} Hz in half of the leads"
            yield i, Finding("hum", "warning", text, evidence={"mV": size, "Hz": frequency})


def _hum_sizes(windows: _Windows) -> Iterator[tuple[float, Floats]]:
    """Return the amplitude in each lead at each frequency of mains that the sampling rate can hold."""
    for frequency in MAINS:
        inside = np.abs(windows.frequencies - frequency) <= 0.5
        if windows.rate / 2 > frequency + 1 and inside.any():
            power = np.sum(np.abs(windows.spectrum[:, :, inside]) ** 2, axis=2)
            yield frequency, 2 * np.sqrt(power) / windows.values.shape[2]


def _beats(windows: _Windows) -> Found:
    for i, peaks in enumerate(windows.peaks):
        if windows.seconds >= LONG_ENOUGH and len(peaks) < FEWEST_BEATS:
            text = f"{len(peaks)} heartbeats found in {windows.seconds:.0f} s"
            yield i, Finding("beats", "warning", text, evidence={"beats": float(len(peaks))})


def _misplaced(windows: _Windows) -> Found:
    for i, scores in enumerate(misplacement_scores(windows.coarse, windows.peaks, sampling_rate=windows.coarse_rate)):
        fault = max(scores, key=lambda name: scores[name], default="")
        if fault and scores[fault] > 0:
            yield i, Finding(fault, "warning", MISPLACED[fault], evidence={"log_odds_over_limit": scores[fault]})


Check = Callable[[_Windows], Found]

CHECKS_WITHOUT_BEATS: tuple[Check, ...] = (
    *(_flat, _clipped, _extreme),
    *(_duplicate, _einthoven, _wander, _muscle, _hum),
)
CHECKS: tuple[Check, ...] = (*CHECKS_WITHOUT_BEATS, _detached, _beats, _misplaced)


def _names(chosen: Iterable[np.bool_]) -> tuple[str, ...]:
    """Return the names of the leads that are marked."""
    return tuple(name for name, is_chosen in zip(LEADS, chosen, strict=True) if is_chosen)


def _listed(leads: Sequence[str]) -> str:
    """Return leads as text."""
    return "all leads" if len(leads) == len(LEADS) else ", ".join(leads)


def _mean_squares(values: Floats) -> NDArray[np.float64]:
    """Return the mean square along the last axis."""
    return np.mean(np.square(values, dtype=np.float64), axis=-1)


def _runs(marked: NDArray[np.bool_], at_least: float) -> dict[tuple[int, ...], NDArray[np.int64]]:
    """Return the lengths of the runs of marked samples of each lead that has so many of them, by its position."""
    enough = np.argwhere(np.count_nonzero(marked, axis=-1) >= max(1, at_least))
    runs = {}
    for place in map(tuple, enough.tolist()):
        edges = np.flatnonzero(np.diff(marked[place], prepend=False, append=False))
        runs[place] = edges[1::2] - edges[::2]
    return runs
