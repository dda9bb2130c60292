"""Checks of the units and levels of a signal; they are nowhere else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG, LEADS

SMALLEST, LARGEST = 0.05, 5.0
"""The amplitudes in mV (peak to peak, median over the leads that are not flat) between which an ECG is. Of PTB-XL, all
21,799 records at 100 Hz have 0.38 to 4.8 mV, but for two with large artefacts."""

UNITS = (
    ("volts", 1000.0),
    ("units of 0.1 mV", 0.1),
    ("units of 0.01 mV", 0.01),
    ("microvolts", 0.001),
    ("nanovolts", 1e-6),
)
"""What a signal may be in, and by how much it is multiplied to be in mV."""

UNEQUAL, FEWEST_SMALL = 50.0, 3
"""A lead that is more than this many times larger than the median of the leads is in another unit, and so are at least
this many leads that are as many times smaller: fewer may be almost flat. In PTB-XL the ratio is 0.08 to 10.3."""

TYPICAL = 1.5
"""The median amplitude of PTB-XL in mV."""


def check_leads(ecg: ECG) -> None:
    """Raise an `EcgkitError` if a lead of an ECG has no value."""
    if ecg.missing_leads:
        raise EcgkitError(
            f"{ecg.name} lacks {', '.join(ecg.missing_leads)} and the model reads twelve leads: give all of them "
            "(allow_missing_leads=True reads a missing one as zero)"
        )


def check_levels(ecg: ECG, *, allow_flat: bool = False) -> None:
    """Check that the values of an ECG can be those of a heart in mV.

    Parameters
    ----------
    ecg : ECG
        The record.
    allow_flat : bool, default False
        Accept a record in which every lead is constant.

    Raises
    ------
    EcgkitError
        If every lead is constant, or the amplitude or the standardised form shows another unit, which is named, also of
        some leads.
    """
    fault = level_fault(ecg, allow_flat=allow_flat)
    if fault:
        raise EcgkitError(f"{ecg.name} {fault} (anyway=True skips this check)")


def level_fault(ecg: ECG, *, allow_flat: bool = False) -> str:
    """Return why the values of an ECG cannot be those of a heart in mV, see `check_levels`; empty if they can."""
    values = ecg.signal
    if np.isfinite(values).all():
        spans = np.ptp(values, axis=1)
    else:
        values = np.where(np.isfinite(values), values, np.nan)
        spans = np.fmax.reduce(values, axis=1) - np.fmin.reduce(values, axis=1)
    names = [name for name, span in zip(LEADS, spans, strict=True) if span > 0]
    values, spans = values[spans > 0], spans[spans > 0]
    if not len(spans):
        return "" if allow_flat else "is flat, every lead is constant: give a recording of a heart"
    amplitude = float(np.median(spans))
    if is_standardised(values):
        return "has the mean 0 and the standard deviation 1 in each lead: give mV, before standardisation"
    if amplitude < SMALLEST or (amplitude > LARGEST and not _has_artefacts(values, ecg.sampling_rate)):
        return _describe_unit(amplitude)
    if spans.max() > UNEQUAL * spans.min():
        return _describe_unequal(names, _sizes(values, ecg.sampling_rate))
    return ""


def is_standardised(values: NDArray[np.floating]) -> bool:
    """Return True if each lead has the mean 0 and the standard deviation 1, within 1 %."""
    mean = np.nanmean if np.isnan(values).any() else np.mean  # the first takes several times as long
    means = mean(values, axis=1, dtype=np.float64)
    if not (np.abs(means) < 0.01).all():
        return False
    return all(abs(np.nanstd(lead, dtype=np.float64) - 1) < 0.01 for lead in values)


def _has_artefacts(values: NDArray[np.floating], sampling_rate: float) -> bool:
    """Return True if a large amplitude comes from artefacts or a drift: a second of most leads spans less than half."""
    return bool(np.median(_sizes(values, sampling_rate)) < LARGEST / 2)


def _sizes(values: NDArray[np.floating], sampling_rate: float) -> NDArray[np.floating]:
    """Return the amplitude of each lead in the median second."""
    length = max(1, min(round(sampling_rate), values.shape[1]))
    seconds = values[:, : values.shape[1] // length * length].reshape(len(values), -1, length)
    spans = np.fmax.reduce(seconds, axis=2) - np.fmin.reduce(seconds, axis=2)
    return np.asarray(np.nanmedian(spans, axis=1))


def _describe_unequal(names: list[str], sizes: NDArray[np.floating]) -> str:
    """Describe leads that are in another unit than the others; empty if there are none."""
    typical = float(np.median(sizes))
    for found, relation, fewest in (
        (sizes > UNEQUAL * typical, "larger", 1),
        ((sizes > 0) & (UNEQUAL * sizes < typical), "smaller", FEWEST_SMALL),
    ):
        if found.sum() >= fewest:
            ratios = sizes[found] / typical
            ratio = max(float(np.median(ratios)), 1 / float(np.median(ratios)))
            leads = ", ".join(name for name, is_found in zip(names, found, strict=True) if is_found)
            return f"is {ratio:,.0f} times {relation} in {leads} than in the other leads: look at their unit"
    return ""


def _describe_unit(amplitude: float) -> str:
    """Describe an amplitude that is not an ECG's in mV, and name the unit that it would fit best."""
    unit, factor = min(UNITS, key=lambda unit: abs(np.log(amplitude * unit[1] / TYPICAL)))
    likely = f"it looks like {unit}, " + (f"multiply by {factor:g}" if factor > 1 else f"divide by {1 / factor:,.0f}")
    if not SMALLEST <= amplitude * factor <= LARGEST:
        likely = "no unit fits, look at the gain of the recording"
    return f"spans {amplitude:,.4g} from peak to peak and an ECG in mV {SMALLEST:g} to {LARGEST:g}: {likely}"
