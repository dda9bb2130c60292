"""Filters for ECG signals: pure functions on arrays whose last axis is time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import check_rate

DEFAULT_BAND = (0.5, 40.0)
DEFAULT_ORDER = 3
DEFAULT_NOTCH_Q = 30.0
_REACH = 10  # samples of the lower rate that the resampling filter reads to either side
_BLOCK = 10_000  # samples that are resampled at once, so that the memory for coefficients is bounded
LARGEST_FACTOR = 10
"""Largest numerator or denominator of a ratio of sampling rates for which a table of coefficients is made."""


def bandpass(
    signal: ArrayLike, *, sampling_rate: float, low: float = 0.5, high: float = 40.0, order: int = DEFAULT_ORDER
) -> NDArray[np.floating]:
    """Butterworth band-pass without phase shift.

    The filter runs forwards and backwards in second-order sections, so its gain is the square of the designed
    Butterworth's (-6 dB at both edges). The ends are continued by odd reflection over one period of ``low``, which
    keeps the baseline at the ends from ringing.

    Parameters
    ----------
    signal : array_like, shape (..., samples)
        Any unit.
    sampling_rate : float
        In Hz.
    low, high : float
        Edges of the band in Hz.
    order : int
        Order of the Butterworth prototype.

    Returns
    -------
    ndarray, shape (..., samples)
        In the unit of ``signal``; float32 if ``signal`` is, otherwise float64.

    Raises
    ------
    EcgkitError
        If an edge is not between 0 and half the sampling rate, ``low`` is not below ``high``, or a sample is not
        finite.

    References
    ----------
    Gustafsson, F. (1996). Determining the initial states in forward-backward filtering. IEEE Trans. Signal Process.
    """
    _check_band(low, high, order, sampling_rate)
    sections = _butterworth(low, high, order, sampling_rate)
    return _zero_phase(signal, sections, pad=round(sampling_rate / low))


def notch(
    signal: ArrayLike, *, sampling_rate: float, frequency: float, q: float = DEFAULT_NOTCH_Q
) -> NDArray[np.floating]:
    """Remove one frequency, such as the mains at 50 or 60 Hz, without phase shift.

    Parameters
    ----------
    signal : array_like, shape (..., samples)
        Any unit.
    sampling_rate : float
        In Hz.
    frequency : float
        The frequency to remove, in Hz.
    q : float
        Quality: ``frequency`` divided by the width of the notch at -3 dB of one pass.

    Returns
    -------
    ndarray, shape (..., samples)
        In the unit of ``signal``; float32 if ``signal`` is, otherwise float64.

    Raises
    ------
    EcgkitError
        If the frequency is not between 0 and half the sampling rate, ``q`` is not positive, or a sample is not finite.
    """
    _check_notch(frequency, q, sampling_rate)
    return _zero_phase(signal, _notch(frequency, q, sampling_rate), pad=round(sampling_rate * q / frequency))


def resample(signal: ArrayLike, *, sampling_rate: float, target_rate: float) -> NDArray[np.floating]:
    """Change the sampling rate with a polyphase anti-aliasing filter.

    The filter is that of `scipy.signal.resample_poly`: a sinc with its cut-off at the lower of the two Nyquist
    frequencies, under a Kaiser window (beta 5) that reaches ten samples of the lower rate to either side. Where the
    ratio of the rates has no small numerator and denominator, such as 511.899 Hz to 100 Hz, the same filter is
    evaluated at the times that are needed, instead of in a table of millions of coefficients.

    Parameters
    ----------
    signal : array_like, shape (..., samples)
        Any unit.
    sampling_rate, target_rate : float
        The rate of ``signal`` and the rate to give, in Hz.

    Returns
    -------
    ndarray, shape (..., ceil(samples * target_rate / sampling_rate))
        In the unit of ``signal``; float32 if ``signal`` is, otherwise float64.

    Raises
    ------
    EcgkitError
        If a rate is not one that an ECG can have (`ecgkit.signals.ecg.check_rate`), or a sample is not finite.
    """
    from scipy.signal import resample_poly

    source = check_rate(sampling_rate)
    target = check_rate(target_rate, "target_rate")
    values = _finite(signal)
    ratio = Fraction(target).limit_denominator(10**6) / Fraction(source).limit_denominator(10**6)
    if ratio == 1 or not values.size:
        return _as_given(values, signal)
    n_samples = values.shape[-1]
    # An ECG seldom ends where it began: zeros beyond the ends would ring at both. So a line is taken off.
    if n_samples == 1:
        return _as_given(np.repeat(values, ceil(float(ratio)), axis=-1), signal)
    if max(ratio.numerator, ratio.denominator) <= LARGEST_FACTOR:
        result = resample_poly(values, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
    else:
        first, slope = values[..., :1], (values[..., -1:] - values[..., :1]) / (n_samples - 1)
        flat = (values - first - slope * np.arange(n_samples)).reshape(-1, n_samples)
        filtered = _read_between(flat, source, target).reshape(*values.shape[:-1], -1)
        result = filtered + first + slope * (np.arange(filtered.shape[-1]) * source / target)
    return _as_given(result, signal)


def resampling_kernels(sampling_rate: int, target_rate: int) -> tuple[int, NDArray[np.float64]]:
    """Return the filter of `resample` for two fixed rates as one kernel per phase of the target samples.

    Parameters
    ----------
    sampling_rate, target_rate : int
        In Hz. Their ratio in lowest terms is ``down / up``.

    Returns
    -------
    first : int
        The position of the first tap relative to sample ``m * down`` of the source.
    kernels : ndarray, shape (up, taps)
        The weights for target sample ``m * up + phase``.
    """
    from scipy.signal import firwin

    ratio = Fraction(target_rate, sampling_rate)
    up, down = ratio.numerator, ratio.denominator
    half = _REACH * max(up, down)
    table = firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0)) * up
    first, last = -(half // up), ((up - 1) * down + half) // up
    positions = np.arange(up)[:, None] * down - np.arange(first, last + 1) * up + half
    is_inside = (positions >= 0) & (positions < len(table))
    return first, np.where(is_inside, table[positions.clip(0, len(table) - 1)], 0.0)


def standardize(signal: ArrayLike, mean: ArrayLike, std: ArrayLike) -> NDArray[np.float32]:
    """Standardise each lead with a mean and a standard deviation that were fitted before.

    Parameters
    ----------
    signal : array_like, shape (..., leads, samples)
        In the unit of the statistics.
    mean, std : array_like, shape (leads,)
        Of the training folds. A lead whose deviation is 0 is only centred.

    Returns
    -------
    ndarray of float32, shape (..., leads, samples)
        Without unit.

    Raises
    ------
    EcgkitError
        If the statistics do not have one value per lead or are not finite.
    """
    values = np.asarray(signal, np.float32)
    centre, scale = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    leads = values.shape[-2] if values.ndim > 1 else 0
    if centre.shape != (leads,) or scale.shape != (leads,):
        raise EcgkitError(
            f"a signal of shape {values.shape} and statistics of shape {centre.shape} and {scale.shape}: "
            "give the signal as (..., leads, samples) and one mean and deviation a lead"
        )
    if not (np.isfinite(centre).all() and np.isfinite(scale).all()):
        raise EcgkitError("the statistics for standardisation are not finite: fit them on folds 1-8 that hold records")
    scale = np.where(scale > 0, scale, np.float32(1))
    result: NDArray[np.float32] = (values - centre[:, None]) / scale[:, None]
    return result


@dataclass(frozen=True)
class Filters:
    """Which filters a processed dataset has been through; by default none.

    Attributes
    ----------
    bandpass : tuple of two floats, or None
        Lower and upper edge in Hz, such as ``(0.5, 40.0)``; None for no band-pass.
    order : int
        Order of the Butterworth band-pass.
    notch : float or None
        Frequency of the mains in Hz, 50 or 60; None for no notch.
    notch_q : float
        Quality of the notch.
    """

    bandpass: tuple[float, float] | None = None
    order: int = DEFAULT_ORDER
    notch: float | None = None
    notch_q: float = DEFAULT_NOTCH_Q

    def __post_init__(self) -> None:
        if self.bandpass is not None:
            if len(self.bandpass) != 2:
                raise EcgkitError(f"bandpass is {self.bandpass}: give two edges in Hz, such as (0.5, 40.0)")
            object.__setattr__(self, "bandpass", (float(self.bandpass[0]), float(self.bandpass[1])))
        if self.notch is not None:
            object.__setattr__(self, "notch", float(self.notch))

    def __bool__(self) -> bool:
        """Whether anything is filtered at all."""
        return self.bandpass is not None or self.notch is not None

    def check(self, sampling_rate: float) -> None:
        """Raise the error that `apply` would raise at this sampling rate (in Hz), before any signal is read.

        Raises
        ------
        EcgkitError
            If an edge or the notch is not below half of the sampling rate.
        """
        if self.bandpass is not None:
            _check_band(*self.bandpass, self.order, sampling_rate)
        if self.notch is not None:
            _check_notch(self.notch, self.notch_q, sampling_rate)

    def apply(self, signal: ArrayLike, *, sampling_rate: float) -> NDArray[np.floating]:
        """Filter a signal, first band-pass, then notch.

        Parameters
        ----------
        signal : array_like, shape (..., samples)
            Any unit.
        sampling_rate : float
            In Hz.

        Returns
        -------
        ndarray, shape (..., samples)
            In the unit of ``signal``; float32 if ``signal`` is, otherwise float64.

        Raises
        ------
        EcgkitError
            If an edge or the notch is not below half of the sampling rate, or a sample is not finite.
        """
        result = _as_given(np.asarray(signal), signal)
        if self.bandpass is not None:
            low, high = self.bandpass
            result = bandpass(result, sampling_rate=sampling_rate, low=low, high=high, order=self.order)
        if self.notch is not None:
            result = notch(result, sampling_rate=sampling_rate, frequency=self.notch, q=self.notch_q)
        return result

    def name_suffix(self) -> str:
        """Name the filters as a dataset's name does, such as ``""``, ``"bandpass1-30"`` and ``"bandpass_notch50"``."""
        parts = []
        if self.bandpass is not None:
            edges = "" if self.bandpass == DEFAULT_BAND else f"{self.bandpass[0]:g}-{self.bandpass[1]:g}"
            parts.append(f"bandpass{edges}" + ("" if self.order == DEFAULT_ORDER else f"order{self.order}"))
        if self.notch is not None:
            parts.append(f"notch{self.notch:g}" + ("" if self.notch_q == DEFAULT_NOTCH_Q else f"q{self.notch_q:g}"))
        return "_".join(parts)

    def to_dict(self) -> dict[str, object]:
        """Return the parameters as JSON data."""
        result = asdict(self)
        return result | {"bandpass": None if self.bandpass is None else list(self.bandpass)}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Filters:
        """Make the filters that `to_dict` described.

        Raises
        ------
        EcgkitError
            If there is a parameter that filters do not have.
        """
        known = tuple(cls.__dataclass_fields__)
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise EcgkitError(f"unknown filter parameter {unknown[0]!r}: choose from {', '.join(known)}")
        return cls(**data)  # type: ignore[arg-type]


def _check_frequency(name: str, frequency: float, sampling_rate: float) -> None:
    check_rate(sampling_rate)
    if not frequency > 0:
        raise EcgkitError(f"{name} is {frequency}: give a positive number")
    if frequency >= sampling_rate / 2:
        raise EcgkitError(
            f"{name} is {frequency:g} Hz, at or above the Nyquist frequency of {sampling_rate / 2:g} Hz: "
            f"a signal sampled at {sampling_rate:g} Hz holds nothing there, choose a lower frequency or a higher rate"
        )


def _check_band(low: float, high: float, order: int, sampling_rate: float) -> None:
    _check_frequency("the lower edge of the band-pass", low, sampling_rate)
    _check_frequency("the upper edge of the band-pass", high, sampling_rate)
    if low >= high:
        raise EcgkitError(f"the band-pass goes from {low:g} to {high:g} Hz: give the lower edge first")
    if order < 1:
        raise EcgkitError(f"the order of the band-pass is {order}: give 1 or more")


def _check_notch(frequency: float, q: float, sampling_rate: float) -> None:
    _check_frequency("the notch", frequency, sampling_rate)
    if not 0 < q < np.inf:
        raise EcgkitError(f"the quality of the notch is {q}: give a positive number")


def _read_between(signals: NDArray[np.float64], source: float, target: float) -> NDArray[np.float64]:
    """Evaluate the filter of `resample` at the samples of the target rate, in blocks, for signals (leads, samples)."""
    n_samples = signals.shape[1]
    n_target = ceil(n_samples * target / source)
    result = np.empty((len(signals), n_target))
    for start in range(0, n_target, _BLOCK):
        stop = min(start + _BLOCK, n_target)
        first, matrix = _coefficients(start, stop, n_samples, source, target)
        result[:, start:stop] = (matrix @ signals[:, first : first + matrix.shape[1]].T).T
    return result


@lru_cache(maxsize=8)
def _coefficients(start: int, stop: int, n_samples: int, source: float, target: float) -> tuple[int, Any]:
    """Return the first sample that is read, and the sparse matrix (samples from start to stop, samples read)."""
    from scipy.sparse import csr_array

    lowest = min(source, target)
    reach = _REACH / lowest  # s
    times = np.arange(start, stop) / target
    n_taps = int(2 * reach * source) + 2
    columns = np.floor((times - reach) * source).astype(np.int64)[:, None] + np.arange(n_taps)
    first, last = max(0, int(columns[0, 0])), min(n_samples, int(columns[-1, -1]) + 1)
    distance = times[:, None] - columns / source
    inside = (np.abs(distance) <= reach) & (columns >= first) & (columns < last)
    weights = _kernel(distance * lowest) * (lowest / source / _kernel_area())
    rows = np.broadcast_to(np.arange(len(times))[:, None], columns.shape)
    shape = (len(times), last - first)
    return first, csr_array((weights[inside], (rows[inside], columns[inside] - first)), shape=shape)


def _kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a sinc under a Kaiser window, at distances in samples of the lower rate."""
    window = np.i0(5.0 * np.sqrt(np.clip(1 - (x / _REACH) ** 2, 0, None))) / np.i0(5.0)
    return np.asarray(np.sinc(x) * window)


@lru_cache(maxsize=1)
def _kernel_area() -> float:
    """Return the integral of the kernel, by which `scipy.signal.firwin` divides it."""
    x = np.linspace(-_REACH, _REACH, 200_001)
    return float(np.trapezoid(_kernel(x), x))


@lru_cache(maxsize=32)
def _butterworth(low: float, high: float, order: int, sampling_rate: float) -> tuple[NDArray[np.float64], ...]:
    from scipy.signal import butter, sosfilt_zi

    sections = butter(order, (low, high), btype="bandpass", fs=sampling_rate, output="sos")
    return sections, sosfilt_zi(sections)


@lru_cache(maxsize=32)
def _notch(frequency: float, q: float, sampling_rate: float) -> tuple[NDArray[np.float64], ...]:
    from scipy.signal import iirnotch, sosfilt_zi, tf2sos

    sections = tf2sos(*iirnotch(frequency, q, fs=sampling_rate))
    return sections, sosfilt_zi(sections)


def _zero_phase(signal: ArrayLike, sections: tuple[NDArray[np.float64], ...], *, pad: int) -> NDArray[np.floating]:
    """Filter as `scipy.signal.sosfiltfilt` does with odd padding, but without solving for ``zi`` in every call."""
    from scipy.signal import sosfilt

    coefficients, steady = sections
    values = _finite(signal)
    samples = values.shape[-1]
    if samples < 2:
        raise EcgkitError(f"a signal of {samples} samples cannot be filtered: give at least 2")
    pad = min(pad, samples - 1)
    before = 2 * values[..., :1] - values[..., pad:0:-1]
    after = 2 * values[..., -1:] - values[..., -2 : -pad - 2 : -1]
    extended = np.concatenate((before, values, after), axis=-1)
    for _ in ("forwards", "backwards"):
        start = steady[(slice(None), *[None] * (values.ndim - 1))] * extended[..., 0][..., None]
        extended = sosfilt(coefficients, extended, axis=-1, zi=start)[0][..., ::-1]
    return _as_given(np.ascontiguousarray(extended[..., pad : pad + samples]), signal)


def _finite(signal: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(signal, np.float64)
    if values.ndim == 0:
        raise EcgkitError("a signal has a time axis: give an array of shape (..., samples)")
    if not np.isfinite(values).all():
        count = int(values.size - np.isfinite(values).sum())
        raise EcgkitError(f"{count} of {values.size} samples are NaN or infinite: repair them before filtering")
    return values


def _as_given(values: NDArray[np.floating], signal: ArrayLike) -> NDArray[np.floating]:
    return values.astype(np.float32 if getattr(signal, "dtype", None) == np.float32 else np.float64, copy=False)
