"""Mean beats and measurements of a dataset's records, computed by several processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ecgkit.datasets import Dataset
from ecgkit.feature_space.cache import CACHED, read_manifest, write_files
from ecgkit.io import locked, read_table
from ecgkit.processes import n_cores, started_workers
from ecgkit.progress import say
from ecgkit.sessions import Session
from ecgkit.signals.beats import beat_times, record_beat
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.measurements import NAMES, measure_ecg

NAME = "measurements"
BLOCK = 250
"""Records per task of a process; fewer are measured before a process has started."""


def record_beats(dataset: Dataset, positions: ArrayLike, *, jobs: int = 1) -> NDArray[np.float32]:
    """Compute the mean beat of each record.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset.
    positions : array_like of int
        Rows of ``dataset.records``.
    jobs : int, default 1
        Number of processes.

    Returns
    -------
    ndarray of float32, shape (records, 12, samples)
        As `ecgkit.signals.beats.record_beat`: in mV at `ecgkit.signals.beats.beat_times`, NaN for a record without a
        beat and in a flat lead. About 140 MB for 21,000 records.
    """
    n_samples = len(beat_times(float(dataset.sampling_rate)))
    return _of_each(_beat, dataset, positions, jobs).reshape(-1, len(LEADS), n_samples).astype(np.float32)


def measure_records(dataset: Dataset, positions: ArrayLike, *, jobs: int = 1) -> pd.DataFrame:
    """Take the ECG measurements of each record.

    Parameters
    ----------
    dataset, positions, jobs
        As of `record_beats`.

    Returns
    -------
    DataFrame of float
        One row per record, with the index of ``dataset.records``; columns and units as of
        `ecgkit.signals.measurements.measurement_columns`. NaN where a quantity cannot be measured.
    """
    values = _of_each(_measurements, dataset, positions, jobs).reshape(-1, len(NAMES)).astype(np.float64)
    index = dataset.records.index[np.asarray(positions, dtype=np.int64)]
    return pd.DataFrame(values, index=index, columns=list(NAMES))


def dataset_measurements(dataset: Dataset) -> pd.DataFrame:
    """Return the ECG measurements of all records of a dataset, from its cache if they are there.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset; the table is kept as ``measurements.parquet`` in its folder ``cache``.

    Returns
    -------
    DataFrame of float
        As `measure_records`, one row per record of ``dataset.records``, index 0 to n - 1.
    """
    cache = Session(dataset.path).folder("cache")
    facts = {"version": 4, "dataset_fingerprint": dataset.fingerprint}
    file = f"{NAME}.parquet"
    ids = dataset.records["record_id"]
    with locked(cache.path / ".lock", f"waiting for another process that measures {dataset.name}", wait=say):
        stored = pd.DataFrame()
        if read_manifest(cache, NAME, facts):
            stored = read_table(cache.path / file, {"record_id": "text"}, way_out=CACHED).set_index("record_id")
        # A dataset opened with one label set lacks records that another one has; their measurements stay.
        missing = np.flatnonzero(~ids.isin(stored.index).to_numpy())
        if len(missing):
            found = measure_records(dataset, missing, jobs=n_cores())
            stored = pd.concat([stored, found.set_index(ids.iloc[missing])])
            write_files(cache, NAME, {file: stored.rename_axis("record_id").reset_index()}, facts)
    return stored.loc[ids].reset_index(drop=True)


def _beat(dataset: Dataset, position: int) -> NDArray[np.float32]:
    """Compute the mean beat of one record."""
    return record_beat(dataset.signal(position), sampling_rate=float(dataset.sampling_rate)).astype(np.float32)


def _measurements(dataset: Dataset, position: int) -> NDArray[np.float64]:
    """Measure one record, columns in the order of ``NAMES``."""
    found = measure_ecg(ECG(dataset.signal(position), dataset.sampling_rate))
    return np.array([found[name] for name in NAMES])


def _of_each(
    function: Callable[[Dataset, int], NDArray[Any]], dataset: Dataset, positions: ArrayLike, jobs: int
) -> NDArray[Any]:
    """Call a function of (dataset, row) for each row, in blocks; few of them are called in this process."""
    rows = np.asarray(positions, dtype=np.int64)
    # What a process is sent is small: signals stay a memory map, and the other records here.
    blocks = [replace(dataset.subset(rows[i : i + BLOCK]), unlabelled=None) for i in range(0, len(rows), BLOCK)]
    with started_workers(min(jobs, len(blocks))) as pool:
        found = (pool.map if pool else map)(partial(_of_block, function), blocks)
        return np.array([row for block in found for row in block])


def _of_block(function: Callable[[Dataset, int], NDArray[Any]], dataset: Dataset) -> list[NDArray[Any]]:
    """Call the function for each record of a dataset."""
    return [function(dataset, row) for row in range(len(dataset))]
