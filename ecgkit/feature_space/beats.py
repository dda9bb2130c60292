"""Mean beats of groups of records: one mean beat a record, computed once, then the mean over a group's patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ecgkit.datasets.store import Dataset
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.feature_space.blocks import chosen_positions, in_blocks
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.rhythm import AFTER, BEFORE, aligned_mean_beat, beats, r_peaks
from ecgkit.stats.resampling import PERCENTILES, patient_weights

RATE = 200.0
"""Samples per second of all mean beats, in Hz, whatever the sampling rate of the records."""

SPREAD = (10.0, 90.0)
"""Percentiles of the records between which the band of a group lies."""

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
        10 and 90 % of the records, in mV.
    n_records, n_patients : tuple of int
        How many of each group have a beat.
    reference : str or None
        The group that the others are compared with.
    difference : ndarray of float32, shape (groups, 12, samples), or None
        Mean of the group minus that of the reference, in mV; None without a reference.
    difference_low, difference_high : ndarray of float32, shape (groups, 12, samples), or None
        Its 95 % interval at each sample, from a bootstrap of the patients.
    left_out : tuple of str
        The groups that were asked for and have no record with a beat.
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
    """Give the times of the samples of `record_beats`.

    Parameters
    ----------
    sampling_rate : float
        Of the records, in Hz.

    Returns
    -------
    ndarray of float64, shape (samples,)
        In ms after the R peak.
    """
    last = (round(AFTER * sampling_rate) - 1) / sampling_rate
    first = -round(round(BEFORE * sampling_rate) / sampling_rate * RATE)
    samples = np.arange(first, int(np.floor(last * RATE + 1e-6)) + 1, dtype=np.float64)
    return samples * np.float64(1000 / RATE)


def record_beats(dataset: Dataset, positions: ArrayLike | None = None, *, jobs: int = 1) -> NDArray[np.float32]:
    """Average the usual beats of each record, aligned to each other.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset.
    positions : array_like of int, optional
        Which of ``dataset.records``; all of them unless told otherwise.
    jobs : int, default 1
        Processes that share the work.

    Returns
    -------
    ndarray of float32, shape (records, 12, samples)
        In mV, at `beat_times`; NaN where a record has no beat, and in a lead that is flat. About 140 MB for 21,000
        records.

    Raises
    ------
    EcgkitError
        If ``jobs`` is not positive.
    """
    return np.concatenate(in_blocks(_block, dataset, chosen_positions(dataset, positions), jobs))


def _block(dataset: Dataset, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    rate = float(dataset.sampling_rate)
    result = np.full((len(positions), len(LEADS), len(beat_times(rate))), np.nan, np.float32)
    for row, position in zip(result, positions.tolist(), strict=True):
        signal = dataset.signal(position)
        cut = beats(signal, r_peaks(signal, sampling_rate=rate), sampling_rate=rate, before=BEFORE, after=AFTER)
        row[:] = aligned_mean_beat(cut, sampling_rate=rate, before=BEFORE, rate=RATE)
        row[np.ptp(signal, axis=1) == 0] = np.nan
    return result


def class_beats(
    dataset: Dataset,
    labels: pd.DataFrame | None = None,
    positions: ArrayLike | None = None,
    *,
    reference: str | None = "NORM",
    of_records: NDArray[np.float32] | None = None,
    max_records: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    jobs: int = 1,
) -> MeanBeats:
    """Average the beats of each class; a record with several classes is in each of them.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset.
    labels : DataFrame of bool, optional
        One column a class, one row for each of ``dataset.records``; ``dataset.labels`` unless told otherwise.
    positions : array_like of int, optional
        Which of ``dataset.records``, such as ``dataset.folds(10)``; all of them unless told otherwise.
    reference : str or None, default "NORM"
        The class that the others are compared with; without a class NORM the default is None.
    of_records, max_records, resamples, seed, jobs
        As for `group_beats`.

    Returns
    -------
    MeanBeats
        A class without a record with a beat is left out, as by `group_beats`.

    Raises
    ------
    EcgkitError
        If the labels are not those of the dataset's records, the reference is none of the classes, or as for
        `group_beats`.
    """
    table = dataset.labels if labels is None else labels
    if len(table) != len(dataset):
        raise EcgkitError(f"labels of {len(table)} records for a dataset of {len(dataset)}: give one row a record")
    chosen = np.arange(len(dataset)) if positions is None else np.asarray(positions, dtype=np.int64)
    members = {str(name): chosen[table[name].to_numpy(dtype=bool)[chosen]] for name in table.columns}
    return group_beats(
        dataset,
        members,
        reference=None if reference == "NORM" and "NORM" not in members else reference,
        of_records=of_records,
        max_records=max_records,
        resamples=resamples,
        seed=seed,
        jobs=jobs,
    )


def group_beats(
    dataset: Dataset,
    groups: Mapping[str, ArrayLike],
    *,
    reference: str | None = None,
    of_records: NDArray[np.float32] | None = None,
    max_records: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    jobs: int = 1,
) -> MeanBeats:
    """Average the beats of any groups of records: clusters, or parts of the way along a direction.

    Each patient of a group counts once, however many records he or she has in it.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset.
    groups : mapping of str to array_like of int
        Positions in ``dataset.records`` by group; groups may overlap.
    reference : str, optional
        The group that the others are compared with.
    of_records : ndarray, shape (dataset records, 12, samples), optional
        What ``record_beats(dataset)`` gave, so that it need not be computed again.
    max_records : int, optional
        Of each group at most so many records, drawn at random.
    resamples : int, default 200
        Bootstrap resamples of the patients of all groups together, for the intervals of the differences.
    seed : int, default 0
        Of the random numbers.
    jobs : int, default 1
        Processes that compute the beats of the records.

    Returns
    -------
    MeanBeats
        A group without a record with a beat is named in ``left_out``; without the reference, nothing is compared.

    Raises
    ------
    EcgkitError
        If there is no group, or none with a beat, the reference is none of the groups, or ``of_records`` does not fit
        the dataset.
    """
    if not groups:
        raise EcgkitError("there is no group of records to average: give at least one")
    if reference is not None:
        check_choice("reference", reference, groups)
    rng = np.random.default_rng(seed)
    chosen = {name: _draw(rows, max_records, rng) for name, rows in groups.items()}
    used = np.unique(np.concatenate(list(chosen.values())))
    of_used = record_beats(dataset, used, jobs=jobs) if of_records is None else _of_dataset(of_records, dataset)[used]
    found = {name: _with_beat(np.searchsorted(used, positions), of_used) for name, positions in chosen.items()}
    members = {name: rows for name, rows in found.items() if len(rows)}
    if not members:
        raise EcgkitError(f"no record with a beat in {', '.join(groups)}: give groups of other records")
    patients = dataset.records["patient_id"].to_numpy()[used]
    shares = {name: _patient_shares(patients[rows]) for name, rows in members.items()}
    spread = np.stack([_spread(of_used[rows]) for rows in members.values()])
    result = MeanBeats(
        times=beat_times(dataset.sampling_rate),
        groups=tuple(members),
        mean=np.concatenate([_means(of_used[rows], shares[name][None]) for name, rows in members.items()]),
        low=spread[:, 0],
        high=spread[:, 1],
        n_records=tuple(len(rows) for rows in members.values()),
        n_patients=tuple(len(np.unique(patients[rows])) for rows in members.values()),
        left_out=tuple(name for name in groups if name not in members),
    )
    if reference is None or reference not in members:
        return result
    # The same patients are drawn for all groups: who is in two of them is there in both or in none.
    drawn = patient_weights(patients, resamples=resamples, seed=seed).astype(np.float32)

    def means_of_draws(name: str) -> NDArray[np.float32]:
        rows = members[name]
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
    """Give the ends of the 95 % interval over the resamples that have a value, along the first axis."""
    percentile = np.nanpercentile if np.isnan(drawn).any() else np.percentile  # the first is far slower
    return np.asarray(percentile(drawn, PERCENTILES, axis=0), dtype=np.float32)


def _draw(positions: ArrayLike, max_records: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    rows = np.asarray(positions, dtype=np.int64)
    if max_records is None or len(rows) <= max_records:
        return rows
    return np.sort(rng.choice(rows, max_records, replace=False))


def _of_dataset(of_records: NDArray[np.float32], dataset: Dataset) -> NDArray[np.float32]:
    wanted = (len(dataset), len(LEADS), len(beat_times(dataset.sampling_rate)))
    if of_records.shape != wanted:
        raise EcgkitError(f"beats of shape {of_records.shape}, not {wanted}: give what record_beats(dataset) gave")
    return of_records


def _with_beat(rows: NDArray[np.int64], of_records: NDArray[np.float32]) -> NDArray[np.int64]:
    return rows[~np.isnan(of_records[rows, :, 0]).all(axis=1)]


def _patient_shares(patients: NDArray[np.generic]) -> NDArray[np.float32]:
    """Give each record the weight at which its patient counts once."""
    _, of_record, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return (1 / counts[of_record]).astype(np.float32)


def _means(of_records: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give weighted means, one for each row of the weights; a lead that a record does not have does not count."""
    known = ~np.isnan(of_records[:, :, 0])
    total = weights @ np.nan_to_num(of_records).reshape(len(of_records), -1)
    weight = weights @ known.astype(np.float32)
    # A resample may draw no patient of a small group.
    weight = np.where(weight > 0, weight, np.nan)
    means: NDArray[np.float32] = total.reshape(len(weights), *of_records.shape[1:]) / weight[:, :, None]
    return means


def _spread(of_records: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give two percentiles of the records in each lead, shape (2, 12, samples)."""
    result = np.full((2, *of_records.shape[1:]), np.nan, np.float32)
    for lead in range(of_records.shape[1]):
        known = of_records[~np.isnan(of_records[:, lead, 0]), lead]
        if len(known):
            result[:, lead] = np.percentile(known, SPREAD, axis=0)
    return result
