"""Mean beats: one aligned mean beat per record, then the mean over the patients of a group of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError, check_choice
from ecgkit.signals.mean_beat import AFTER, BEFORE, aligned_mean_beat, beats
from ecgkit.signals.rhythm import r_peaks
from ecgkit.stats.resampling import PERCENTILES, patient_weights

RATE = 200.0
"""Samples per second of all mean beats, whatever the sampling rate of the records."""

SPREAD = (10.0, 90.0)
"""Percentiles of the records that limit the band of a group."""

RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class MeanBeats:
    """The mean beat of each of some groups of records.

    Attributes
    ----------
    times : ndarray, shape (samples,)
        Milliseconds after the R peak.
    groups : tuple of str
        The names of the groups.
    mean : ndarray of float32, shape (groups, 12, samples)
        Mean over the patients of a group of their records' mean beats, in mV.
    low, high : ndarray of float32, shape (groups, 12, samples)
        10th and 90th percentile of the records, in mV.
    n_records, n_patients : tuple of int
        Records and patients with a beat in each group.
    reference : str or None
        The group with which the others are compared.
    difference : ndarray of float32, shape (groups, 12, samples), or None
        Mean of the group minus that of the reference, in mV; None without a reference.
    difference_low, difference_high : ndarray of float32, shape (groups, 12, samples), or None
        Its 95 % interval at each sample, from a bootstrap of the patients.
    left_out : tuple of str
        Groups without a single record with a beat.
    """

    times: NDArray[np.float64]
    groups: tuple[str, ...]
    mean: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    n_records: tuple[int, ...]
    n_patients: tuple[int, ...]
    reference: str | None = None
    difference: NDArray[np.float32] | None = None
    difference_low: NDArray[np.float32] | None = None
    difference_high: NDArray[np.float32] | None = None
    left_out: tuple[str, ...] = ()


def beat_times(sampling_rate: float) -> NDArray[np.float64]:
    """Return the times of the samples of `record_beat`.

    Parameters
    ----------
    sampling_rate : float
        Of the record, in Hz.

    Returns
    -------
    ndarray of float64, shape (samples,)
        In ms after the R peak.
    """
    last = (round(AFTER * sampling_rate) - 1) / sampling_rate
    samples = np.arange(-round(BEFORE * RATE), int(np.floor(last * RATE + 1e-6)) + 1, dtype=np.float64)
    return samples * np.float64(1000 / RATE)


def record_beat(
    signal: NDArray[np.float32], peaks: NDArray[np.int64] | None = None, *, sampling_rate: float
) -> NDArray[np.float32]:
    """Average the typical beats of one record, aligned to each other.

    Parameters
    ----------
    signal : ndarray of float32, shape (12, samples)
        In mV.
    peaks : ndarray of int64, optional
        Its R peaks in samples; found here if they are not given.
    sampling_rate : float
        In Hz.

    Returns
    -------
    ndarray of float32, shape (12, beat samples)
        In mV, at `beat_times`; NaN if the record has no beat, and in a flat lead.
    """
    peaks = r_peaks(signal, sampling_rate=sampling_rate) if peaks is None else peaks
    cut = beats(signal, peaks, sampling_rate=sampling_rate)
    mean = aligned_mean_beat(cut, sampling_rate=sampling_rate, before=BEFORE, rate=RATE).astype(np.float32)
    mean[np.ptp(signal, axis=1) == 0] = np.nan
    return mean


def group_beats(
    of_records: NDArray[np.float32],
    groups: Mapping[str, ArrayLike],
    patients: ArrayLike,
    *,
    times: NDArray[np.float64],
    reference: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MeanBeats:
    """Average the mean beats of groups of records, such as classes, clusters or steps along a direction.

    Each patient of a group counts once, however many records he or she has in it.

    Parameters
    ----------
    of_records : ndarray of float32, shape (records, 12, samples)
        The mean beat of each record, as from `record_beat`.
    groups : mapping of str to array_like of int
        Rows of ``of_records`` by group; groups may overlap.
    patients : array_like, shape (records,)
        The patient of each record.
    times : ndarray, shape (samples,)
        As from `beat_times`.
    reference : str, optional
        The group with which the others are compared.
    resamples : int, default 200
        Bootstrap resamples of the patients of all groups together, for the intervals of the differences.
    seed : int, default 0
        Seed of the resamples.

    Returns
    -------
    MeanBeats
        A group without a record with a beat is named in ``left_out``; if it is the reference, nothing is compared.

    Raises
    ------
    EcgkitError
        If there is no group or none with a beat, or the reference is not one of the groups.
    """
    if reference is not None:
        check_choice("reference", reference, groups)
    has_beat: NDArray[np.bool_] = np.asarray(~np.isnan(of_records[:, :, 0]).all(axis=1))
    chosen = {name: np.asarray(rows, dtype=np.int64) for name, rows in groups.items()}
    found = {name: rows[has_beat[rows]] for name, rows in chosen.items()}
    members = {name: rows for name, rows in found.items() if len(rows)}
    if not members:
        raise EcgkitError(f"no record with a beat in the groups {', '.join(groups) or '(none)'}: pass other records")
    used = np.unique(np.concatenate(list(chosen.values())))
    of_used, ids = of_records[used], np.asarray(patients)[used]
    rows_of = {name: np.searchsorted(used, rows) for name, rows in members.items()}
    shares = {name: _patient_shares(ids[rows]) for name, rows in rows_of.items()}
    spread = np.stack([_spread(of_used[rows]) for rows in rows_of.values()])
    result = MeanBeats(
        times=times,
        groups=tuple(members),
        mean=np.concatenate([_means(of_used[rows], shares[name][None]) for name, rows in rows_of.items()]),
        low=spread[:, 0],
        high=spread[:, 1],
        n_records=tuple(len(rows) for rows in members.values()),
        n_patients=tuple(len(np.unique(ids[rows])) for rows in rows_of.values()),
        left_out=tuple(name for name in groups if name not in members),
    )
    if reference is None or reference not in members:
        return result
    # The same patients are drawn for all groups: a patient in two groups is drawn for both or for neither.
    drawn = patient_weights(ids, resamples=resamples, seed=seed).astype(np.float32)

    def means_of_draws(name: str) -> NDArray[np.float32]:
        rows = rows_of[name]
        return _means(of_used[rows], drawn[:, rows] * shares[name])

    return _with_difference(result, reference, means_of_draws)


def _with_difference(
    result: MeanBeats, reference: str, means_of_draws: Callable[[str], NDArray[np.float32]]
) -> MeanBeats:
    """Add the differences from the reference, with their intervals."""
    baseline = means_of_draws(reference)
    intervals = np.stack([_interval(means_of_draws(name) - baseline) for name in result.groups])
    return replace(
        result,
        reference=reference,
        difference=result.mean - result.mean[result.groups.index(reference)],
        difference_low=intervals[:, 0],
        difference_high=intervals[:, 1],
    )


def _interval(drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the ends of the 95 % interval over the resamples that have a value, along the first axis."""
    percentile = np.nanpercentile if np.isnan(drawn).any() else np.percentile  # the first is far slower
    return np.asarray(percentile(drawn, PERCENTILES, axis=0), dtype=np.float32)


def _patient_shares(patients: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the weight of each record with which its patient counts once."""
    _, of_record, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return (1 / counts[of_record]).astype(np.float32)


def _means(of_records: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weighted means, one per row of the weights; a lead that a record lacks does not count."""
    known = ~np.isnan(of_records[:, :, 0])
    total = weights @ np.nan_to_num(of_records).reshape(len(of_records), -1)
    weight = weights @ known.astype(np.float32)
    # A resample may draw no patient of a small group.
    weight = np.where(weight > 0, weight, np.nan)
    means: NDArray[np.float32] = total.reshape(len(weights), *of_records.shape[1:]) / weight[:, :, None]
    return means


def _spread(of_records: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return two percentiles of the records in each lead, shape (2, 12, samples)."""
    result = np.full((2, *of_records.shape[1:]), np.nan, np.float32)
    for lead in range(of_records.shape[1]):
        known = of_records[~np.isnan(of_records[:, lead, 0]), lead]
        if len(known):
            result[:, lead] = np.percentile(known, SPREAD, axis=0)
    return result
