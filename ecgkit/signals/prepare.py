"""The preparation of a signal: the same steps for a processed dataset and for every prediction.

A signal in mV is repaired, resampled, filtered and rounded to whole microvolts, which is what a processed dataset
stores; a network reads it without the offset of each lead, and standardised.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.ecg import ECG
from ecgkit.signals.filters import Filters, resample, standardize
from ecgkit.signals.quality import check_leads, check_levels

LARGEST = 32767
"""The largest absolute value in microvolts that is stored, or read by a network; larger ones are clipped."""

OFFSET_SECONDS = 10.0
"""The offset of a lead is its mean over the record, in a longer one over so many seconds around each sample."""


@dataclass(frozen=True, eq=False)
class Preparation:
    """The preparation of a signal for a network; part of every model.

    Attributes
    ----------
    sampling_rate : int
        The rate in Hz that the network reads.
    n_samples : int
        Samples per lead that the network reads at once.
    mean, std : ndarray of float32, shape (12,)
        Statistics of the training folds in mV.
    filters : Filters
        The filters of the training data.
    offset_seconds : float
        The offset of each lead is its mean over so many seconds around a sample; 0 if it was kept.
    """

    sampling_rate: int
    n_samples: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    filters: Filters = field(default_factory=Filters)
    offset_seconds: float = OFFSET_SECONDS

    @property
    def seconds(self) -> float:
        """Length in seconds that the network reads at once."""
        return self.n_samples / self.sampling_rate

    def __call__(
        self,
        ecg: ECG,
        *,
        anyway: bool = False,
        allow_missing_leads: bool = False,
        filtered: dict[Hashable, NDArray[np.floating]] | None = None,
    ) -> NDArray[np.float32]:
        """Prepare an ECG for the network.

        Parameters
        ----------
        ecg : ECG
            Of any sampling rate, at least as long as the network reads at once.
        anyway : bool, default False
            Prepare it even if its levels are not those of an ECG in mV.
        allow_missing_leads : bool, default False
            Prepare it even if it lacks leads; they are zero.
        filtered : dict, optional
            What other networks of the same rate, length and filters have filtered already, and this one adds to.

        Returns
        -------
        ndarray of float32, shape (12, samples)
            Standardised, at the sampling rate of the network; equal to the last bit to the same record of a processed
            dataset, unless values were clipped there.

        Raises
        ------
        EcgkitError
            If the ECG is too short, flat, lacks a lead, or its values cannot be mV.
        """
        size = {"sampling_rate": self.sampling_rate, "n_samples": self.n_samples}
        known, key = {} if filtered is None else filtered, (id(ecg), *size.values(), self.filters)
        if key not in known:
            microvolts = checked_microvolts(ecg, **size, anyway=anyway, allow_missing_leads=allow_missing_leads)
            known[key] = filter_microvolts(microvolts, self.filters, sampling_rate=self.sampling_rate)
        return self.network_input(known[key])

    def network_input(self, microvolts: NDArray[Any]) -> NDArray[np.float32]:
        """Remove the offset of each lead and standardise.

        Parameters
        ----------
        microvolts : ndarray of int16 or float64, shape (..., leads, samples)
            Whole microvolts at the sampling rate of the network, as a processed dataset stores them.

        Returns
        -------
        ndarray of float32, shape (..., leads, samples)
        """
        if self.offset_seconds:
            microvolts = remove_offset(microvolts, sampling_rate=self.sampling_rate, seconds=self.offset_seconds)
        clipped = np.clip(microvolts, -LARGEST, LARGEST).astype(np.float32)
        return standardize(clipped * np.float32(1e-3), self.mean, self.std)

    def to_dict(self) -> dict[str, Any]:
        """Return the preparation as JSON data."""
        return {
            "sampling_rate": self.sampling_rate,
            "n_samples": self.n_samples,
            "mean_mv": [float(value) for value in self.mean],
            "std_mv": [float(value) for value in self.std],
            "filters": self.filters.to_dict(),
            "offset_seconds": self.offset_seconds,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preparation:
        """Return the preparation that `to_dict` described."""
        return cls(
            sampling_rate=int(data["sampling_rate"]),
            n_samples=int(data["n_samples"]),
            mean=np.array(data["mean_mv"], np.float32),
            std=np.array(data["std_mv"], np.float32),
            filters=Filters.from_dict(data["filters"]),
            offset_seconds=float(data["offset_seconds"]),
        )


def checked_microvolts(
    ecg: ECG, *, sampling_rate: int, n_samples: int, anyway: bool = False, allow_missing_leads: bool = False
) -> NDArray[np.floating]:
    """Check an ECG and convert it to microvolts at the rate of a network, unfiltered, in float64.

    It is refused as `Preparation` says, whose attributes ``sampling_rate`` and ``n_samples`` are.
    """
    microvolts = to_microvolts(ecg.signal, sampling_rate=ecg.sampling_rate, target_rate=sampling_rate)
    if microvolts.shape[1] < n_samples:
        seconds = n_samples / sampling_rate
        raise EcgkitError(
            f"{ecg.name} is {ecg.duration:g} s long and the model reads {seconds:g} s at once: give a longer one"
        )
    if not allow_missing_leads:
        check_leads(ecg)
    if not anyway:
        check_levels(ecg)
    return microvolts


def repair(signal: NDArray[np.floating]) -> NDArray[np.floating]:
    """Replace NaN and infinity: linearly interpolated along time, held at the ends, 0 in a lead without values.

    Parameters
    ----------
    signal : ndarray, shape (..., leads, samples)
        Any unit. It is not changed.

    Returns
    -------
    ndarray, shape (..., leads, samples)
        Finite; the array itself if it was finite.
    """
    is_known = np.isfinite(signal)
    if is_known.all():
        return signal
    result, times = signal.copy(), np.arange(signal.shape[-1])
    for place in map(tuple, np.argwhere(~is_known.all(axis=-1)).tolist()):
        lead, missing = result[place], ~is_known[place]
        if missing.all():
            lead[:] = 0
        else:
            lead[missing] = np.interp(times[missing], times[~missing], lead[~missing])
    return result


def to_microvolts(signal: ArrayLike, *, sampling_rate: float, target_rate: float) -> NDArray[np.floating]:
    """Repair a signal, resample it, and convert it from mV to microvolts.

    Parameters
    ----------
    signal : array-like of float, shape (leads, samples)
        In mV.
    sampling_rate, target_rate : float
        The rate of ``signal`` and the rate of the result, in Hz.

    Returns
    -------
    ndarray of float64, shape (leads, samples)
    """
    return at_rate(np.asarray(signal, np.float64), sampling_rate=sampling_rate, target_rate=target_rate) * 1000.0


def at_rate(
    signal: NDArray[np.floating], *, sampling_rate: float, target_rate: float, keep_missing: bool = False
) -> NDArray[np.floating]:
    """Repair a signal and resample it.

    Parameters
    ----------
    signal : ndarray, shape (leads, samples)
        Any unit. It is not changed.
    sampling_rate, target_rate : float
        The rate of ``signal`` and the rate of the result, in Hz.
    keep_missing : bool, default False
        Mark the samples of the result that are nearest to a missing one as missing again.

    Returns
    -------
    ndarray, shape (leads, samples)
    """
    missing = ~np.isfinite(signal)
    result = repair(signal)
    if sampling_rate != target_rate:
        result = resample(result, sampling_rate=sampling_rate, target_rate=target_rate)
    if keep_missing and missing.any():
        nearest = np.rint(np.arange(result.shape[1]) * sampling_rate / target_rate).astype(int)
        result = np.where(missing[:, np.clip(nearest, 0, signal.shape[1] - 1)], np.nan, result)
    return result


def filter_microvolts(microvolts: ArrayLike, filters: Filters, *, sampling_rate: float) -> NDArray[np.floating]:
    """Filter signals and round them to whole microvolts.

    Parameters
    ----------
    microvolts : array-like of float64, shape (..., leads, samples)
        Finite.
    filters : Filters
        The filters.
    sampling_rate : float
        In Hz.

    Returns
    -------
    ndarray of float64, shape (..., leads, samples)
    """
    rounded: NDArray[np.floating] = np.rint(filters.apply(microvolts, sampling_rate=sampling_rate))
    return rounded


def clip_to_int16(microvolts: NDArray[np.floating]) -> NDArray[np.int16]:
    """Clip whole microvolts to what is stored, from -32767 to 32767."""
    return np.clip(microvolts, -LARGEST, LARGEST).astype(np.int16)


def remove_offset(
    microvolts: NDArray[Any], *, sampling_rate: float, seconds: float = OFFSET_SECONDS
) -> NDArray[np.floating]:
    """Subtract from each lead its mean over the record, in a longer one at each sample over the seconds around it.

    At the beginning and the end of a longer record the first and the last stretch of that length are taken. The mean is
    rounded to whole microvolts, so that a stored signal and one in higher precision give the same result.

    Parameters
    ----------
    microvolts : ndarray, shape (..., leads, samples)
        Finite.
    sampling_rate : float
        In Hz.
    seconds : float
        Length of a stretch.

    Returns
    -------
    ndarray of float32 (of int16) or float64, shape (..., leads, samples)
    """
    n_samples, length = microvolts.shape[-1], round(seconds * sampling_rate)
    result = microvolts.astype(np.result_type(microvolts, np.float32))
    if n_samples <= length:
        result -= np.rint(microvolts.mean(axis=-1, keepdims=True, dtype=np.float64))
        return result
    sums = np.cumsum(np.rint(microvolts), axis=-1, dtype=np.float64)  # exact: whole numbers
    sums = np.concatenate([np.zeros((*sums.shape[:-1], 1)), sums], axis=-1)
    first = np.clip(np.arange(n_samples) - length // 2, 0, n_samples - length)
    result -= np.rint((sums[..., first + length] - sums[..., first]) / length)
    return result
