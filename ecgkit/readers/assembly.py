"""From the signals of a file to the twelve leads of an ECG."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers.base import Hints, Signals, millivolts
from ecgkit.signals.ecg import ECG, LEADS, check_rate

SHORTEST, LONGEST = 1.0, 3600.0
"""The lengths in seconds between which an ECG is opened at once."""


def apply_hints(found: Signals, hints: Hints) -> Signals:
    """Fill in what a file does not say with what the caller says.

    Raises
    ------
    EcgkitError
        If a file says otherwise.
    """
    if hints.leads is not None:
        found = _name_leads(found, hints.leads)
    if hints.unit is not None:
        found = _set_units(found, hints.unit)
    if hints.sampling_rate is not None:
        for rate in found.sampling_rates:
            if rate is not None and abs(rate - hints.sampling_rate) > 1e-3 * rate and "mV" in found.units:
                raise EcgkitError(
                    f"sampling_rate is {hints.sampling_rate:g} Hz and the file has {rate:g} Hz: leave the argument out"
                )
        rates = tuple(hints.sampling_rate if rate is None else rate for rate in found.sampling_rates)
        found = replace(found, sampling_rates=rates)
    return found


def to_ecg(found: Signals, hints: Hints) -> ECG:
    """Put the twelve leads of a file together, and derive those of the limbs that it leaves out.

    Raises
    ------
    EcgkitError
        If something is missing that the file does not say, or if none of the twelve leads is there.
    """
    rows = [row for row, name in enumerate(found.names) if name in LEADS]
    if not rows:
        if found.signals and not any(found.names):
            raise EcgkitError(
                f"the file does not name its {len(found.signals)} signals: give leads=, one name for each"
            )
        raise UnreadableRecordError(
            f"none of the twelve leads is in the file, which has {', '.join(found.names)[:200] or 'no signals'}: "
            "if these are leads, give leads=, one name for each"
        )
    leads = found.select(rows)
    for name in leads.names:
        if leads.names.count(name) > 1:
            raise UnreadableRecordError(f"lead {name} occurs twice in the file: use read_signals and choose one")
    _check_units(leads)
    rate = _one_rate(leads)
    lengths = {len(values) for values in leads.signals}
    if len(lengths) > 1:
        raise UnreadableRecordError(f"the leads have different lengths, {min(lengths)} to {max(lengths)} samples")
    cut = _window(lengths.pop(), rate, hints, before=found.start)
    signal = np.full((len(LEADS), cut.stop - cut.start), np.nan, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for name, values in zip(leads.names, leads.signals, strict=True):
            signal[LEADS.index(name)] = values[cut]
    signal[~np.isfinite(signal)] = np.nan  # infinity is not a voltage
    findings = [*found.findings, *_gaps(signal), *derive_limb_leads(signal)]
    return ECG(signal, rate, found.record_id, found.age, found.sex, found.metadata, tuple(findings))


def derive_limb_leads(signal: NDArray[np.float32]) -> list[str]:
    """Fill the absent ones of III, aVR, aVL and aVF from I and II, in place, and return the finding.

    References
    ----------
    Einthoven's law, III = II - I, and Goldberger's leads: aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2.
    """
    one, two = signal[0], signal[1]
    if not (np.isfinite(one).any() and np.isfinite(two).any()):
        return []
    laws = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}
    derived = [name for name in laws if not np.isfinite(signal[LEADS.index(name)]).any()]
    for name in derived:
        signal[LEADS.index(name)] = laws[name][0] * one + laws[name][1] * two
    return [f"{', '.join(derived)} derived from I and II"] if derived else []


def _name_leads(found: Signals, leads: tuple[str, ...]) -> Signals:
    """Name the signals of a file that does not name them, or choose some of one that does."""
    if any(name in LEADS for name in found.names):
        named = [name for name in found.names if name]
        if set(leads) <= set(named):
            return found.select([found.names.index(name) for name in leads])
        if len(leads) == len(found.names) and all(
            own == name or own not in LEADS for own, name in zip(found.names, leads, strict=True)
        ):
            return replace(found, names=leads)  # of which the file names some otherwise, such as C1 for V1
        raise EcgkitError(
            f"leads is {','.join(leads)} and the file has {','.join(named)[:200]}: leave the argument out"
        )
    if len(leads) != len(found.signals):
        raise EcgkitError(
            f"leads has {len(leads)} names and the file has {len(found.signals)} signals"
            f"{' (' + ','.join(found.names)[:200] + ')' if any(found.names) else ''}: name each of them"
        )
    return replace(found, names=leads)


def _set_units(found: Signals, unit: str) -> Signals:
    """Convert the signals without a unit to mV."""
    factor = millivolts(unit)
    if "" not in found.units and "mV" in found.units and factor != 1:
        raise EcgkitError(f"unit is {unit} and the file has its own units: leave the argument out")
    return found.in_millivolts(unit)


def _check_units(leads: Signals) -> None:
    """Check that every lead is in mV."""
    for name, unit in zip(leads.names, leads.units, strict=True):
        if not unit:
            raise EcgkitError(f"the file does not say the unit of lead {name}: give unit=, such as mV or uV")
        if unit != "mV":
            raise UnreadableRecordError(f"lead {name} has the unit {unit!r}, which is not a unit of voltage")


def _one_rate(leads: Signals) -> float:
    """Return the sampling rate of all leads."""
    rates = set(leads.sampling_rates)
    if None in rates:
        raise EcgkitError("the file does not say its sampling rate: give sampling_rate=, in Hz")
    if len(rates) > 1:
        found = ", ".join(f"{name} {rate:g} Hz" for name, rate in zip(leads.names, leads.sampling_rates, strict=True))
        raise UnreadableRecordError(f"the leads have different sampling rates: {found}; read_signals gives them")
    return check_rate(rates.pop())


def _window(n_samples: int, rate: float, hints: Hints, *, before: float) -> slice:
    """Return the part of the samples that is wanted; a reader left out the seconds before them."""
    start, wanted, length = hints.start or 0.0, hints.duration, before + n_samples / rate
    if wanted is None and length - start > LONGEST:
        raise EcgkitError(f"the file has {length:,.0f} s and at most {LONGEST:.0f} are read: give start= and duration=")
    duration = length - start if wanted is None else wanted
    if duration > LONGEST:
        raise EcgkitError(f"duration is {duration:g} s: give at most {LONGEST:.0f}")
    first = round((start - before) * rate)
    last = min(n_samples, first + round(duration * rate))
    if wanted is not None and first + round(duration * rate) > n_samples:
        raise EcgkitError(f"start {start:g} s and duration {duration:g} s pass the end of the file, {length:g} s")
    if (last - first) / rate < SHORTEST:
        asked = f" from {start:g} s" if start else ""
        raise EcgkitError(f"there are {max(0, last - first) / rate:.3g} s{asked}: an ECG needs at least {SHORTEST:g} s")
    return slice(first, last)


def _gaps(signal: NDArray[np.float32]) -> list[str]:
    """Return the finding on leads that have no value at some samples."""
    missing = np.isnan(signal)
    counts = missing.sum(axis=1)
    gaps = [f"{name} {count:,}" for name, count in zip(LEADS, counts, strict=True) if 0 < count < signal.shape[1]]
    return [f"gaps (samples without a value): {', '.join(gaps)}"] if gaps else []
