"""Mean beats and measurements of a dataset's records, computed by several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import joblib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ecgkit.datasets import Dataset, n_cores
from ecgkit.errors import EcgkitError
from ecgkit.io import locked, read_table
from ecgkit.progress import say
from ecgkit.sessions import Session
from ecgkit.signals.beats import beat_times, record_beat
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.measurements import NAMES, measure_ecg

Result = TypeVar("Result")

TABLE, MANIFEST = "measurements.parquet", "measurements.json"
CACHED = "delete the folder cache, which is computed again"


def record_beats(dataset: Dataset, positions: ArrayLike | None = None, *, jobs: int = 1) -> NDArray[np.float32]:
    """Compute the mean beat of each record.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset.
    positions : array_like of int, optional
        Rows of ``dataset.records``; all by default.
    jobs : int, default 1
        Number of processes.

    Returns
    -------
    ndarray of float32, shape (records, 12, samples)
        As `ecgkit.signals.beats.record_beat`: in mV at `ecgkit.signals.beats.beat_times`, NaN for a record without a
        beat and in a flat lead. About 140 MB for 21,000 records.

    Raises
    ------
    EcgkitError
        If ``jobs`` is not positive.
    """
    return np.concatenate(_in_blocks(_beats_of, dataset, positions, jobs))


def measure_records(dataset: Dataset, positions: ArrayLike | None = None, *, jobs: int = 1) -> pd.DataFrame:
    """Take the ECG measurements of each record.

    Parameters
    ----------
    dataset : Dataset
        An opened dataset.
    positions : array_like of int, optional
        Rows of ``dataset.records``; all by default.
    jobs : int, default 1
        Number of processes.

    Returns
    -------
    DataFrame of float
        One row per record, with the index of ``dataset.records``; columns and units as of
        `ecgkit.signals.measurements.measurement_columns`. NaN where a quantity cannot be measured.

    Raises
    ------
    EcgkitError
        If ``jobs`` is not positive.
    """
    rows = [row for block in _in_blocks(_measurements_of, dataset, positions, jobs) for row in block]
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(NAMES))
    index = dataset.records.index[_chosen(dataset, positions)]
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
    facts = {"version": 3, "dataset_fingerprint": dataset.fingerprint}
    ids = dataset.records["record_id"]
    with locked(cache.path / ".lock", f"waiting for another process that measures {dataset.name}", wait=say):
        stored = pd.DataFrame()
        if all((cache.path / name).is_file() for name in (TABLE, MANIFEST)) and cache.read_json(MANIFEST) == facts:
            stored = read_table(cache.path / TABLE, {"record_id": "text"}, way_out=CACHED).set_index("record_id")
        # A dataset opened with one label set lacks records that another one has; their measurements stay.
        missing = np.flatnonzero(~ids.isin(stored.index).to_numpy())
        if len(missing):
            found = measure_records(dataset, missing, jobs=n_cores())
            stored = pd.concat([stored, found.set_index(ids.iloc[missing])])
            (cache.path / MANIFEST).unlink(missing_ok=True)
            cache.write_table(TABLE, stored.rename_axis("record_id").reset_index())
            cache.write_json(MANIFEST, facts)
    return stored.loc[ids].reset_index(drop=True)


def _chosen(dataset: Dataset, positions: ArrayLike | None) -> NDArray[np.int64]:
    """Return the requested rows; all by default."""
    return np.arange(len(dataset)) if positions is None else np.asarray(positions, dtype=np.int64)


def _beats_of(dataset: Dataset, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Compute the mean beats of one block of records."""
    rate = float(dataset.sampling_rate)
    result = np.empty((len(positions), len(LEADS), len(beat_times(rate))), np.float32)
    for row, position in zip(result, positions.tolist(), strict=True):
        row[:] = record_beat(dataset.signal(position), sampling_rate=rate)
    return result


def _measurements_of(dataset: Dataset, positions: NDArray[np.int64]) -> list[list[float]]:
    """Measure one block of records, columns in the order of ``NAMES``."""
    found = [measure_ecg(ECG(dataset.signal(i), dataset.sampling_rate)) for i in positions.tolist()]
    return [[row[name] for name in NAMES] for row in found]


def _in_blocks(
    function: Callable[[Dataset, NDArray[np.int64]], Result], dataset: Dataset, positions: ArrayLike | None, jobs: int
) -> list[Result]:
    """Call a function of (dataset, rows) on one block of rows per process."""
    if jobs < 1:
        raise EcgkitError(f"jobs is {jobs}: give the number of processes, 1 or more")
    rows = _chosen(dataset, positions)
    if jobs == 1:
        return [function(dataset, rows)]
    return joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(function)(dataset, block) for block in np.array_split(rows, jobs)
    )
