"""The quality of many ECGs: what each one is like and what the checks find, as a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.datasets.opening import open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.io import encodable
from ecgkit.progress import progress_bar
from ecgkit.readers import open_ecg
from ecgkit.readers.files import find_ecg_files
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.findings import check_quality, noise_levels
from ecgkit.signals.rhythm import heart_rate, r_peaks

AT_ONCE = 64
"""ECGs per task of a worker process."""

PER_LEAD = {
    "amplitude": "amplitude (mV)",
    "wander": "baseline wander (mV)",
    "muscle": "noise, 30 to 45 Hz (mV)",
    "hum": "mains hum (mV)",
}
"""What is measured in each lead, with the label of its axis; see `survey`."""

Read = Callable[[str], ECG]


def files_to_survey(folder: Path) -> tuple[list[str], Read]:
    """List the ECG files of a folder by their paths inside it, and return the function that reads one."""
    files = {encodable(path.relative_to(folder)): path for path in find_ecg_files([folder])}
    return list(files), partial(_read_file, files)


def dataset_to_survey(folder: Path) -> tuple[list[str], Read]:
    """List the records of a processed dataset, of all folds, and return the function that reads one."""
    records = open_dataset(folder, label_set=None).records["record_id"].tolist()
    return records, partial(_read_record, folder)


def survey(
    names: Sequence[str], read: Read, *, executor: Executor | None = None, progress: bool = True
) -> pd.DataFrame:
    """Measure and check ECGs.

    Parameters
    ----------
    names : sequence of str
        Their names.
    read : callable
        Returns the ECG of a name; can be pickled if there is an executor.
    executor : Executor, optional
        Reads and checks; by default this process does.
    progress : bool, default True
        Show a progress bar on standard error.

    Returns
    -------
    DataFrame
        One row per name: ``record``; ``error``, empty or why it cannot be read; ``seconds``, ``sampling_rate`` in Hz,
        ``heart_rate`` per minute; for each lead ``amplitude_LEAD`` (largest minus smallest value), ``wander_LEAD``,
        ``muscle_LEAD`` and ``hum_LEAD`` (see `ecgkit.signals.findings.noise_levels`) in mV, NaN where there is none;
        ``findings``, a tuple of `ecgkit.signals.findings.Finding`; and ``checksum`` of rate and signal in microvolts.
    """
    tasks = [names[first : first + AT_ONCE] for first in range(0, len(names), AT_ONCE)]
    run: Callable[..., Iterable[list[dict[str, Any]]]] = executor.map if executor else map
    rows: list[dict[str, Any]] = []
    with progress_bar(total=len(names), description="checking", unit="ECGs", shown=progress) as bar:
        for found in run(partial(_survey_some, read), tasks):
            rows += found
            bar.update(len(found))
    return pd.DataFrame(rows)


def lead_values(table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return what was measured in each lead, shape (ECGs, 12), by the label of its axis; without what nobody has."""
    values = {label: table[[f"{kind}_{lead}" for lead in LEADS]].to_numpy(float) for kind, label in PER_LEAD.items()}
    return {label: each for label, each in values.items() if np.isfinite(each).any()}


def duplicates(table: pd.DataFrame) -> list[list[str]]:
    """Return the names of the ECGs that have the same rate and the same signal, one list per signal."""
    readable = table[table["error"] == ""]
    groups = readable.groupby("checksum", sort=False)["record"].apply(list)
    return [names for names in groups if len(names) > 1]


def _survey_some(read: Read, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of some ECGs."""
    return [_survey_one(name, read) for name in names]


def _survey_one(name: str, read: Read) -> dict[str, Any]:
    """Return the row of one ECG."""
    try:
        ecg = read(name)
    except EcgkitError as error:
        return {"record": name, "error": str(error), "findings": (), "checksum": ""} | dict.fromkeys(_numbers(), np.nan)
    peaks = r_peaks(ecg.signal, sampling_rate=ecg.sampling_rate)
    microvolts = np.rint(np.nan_to_num(ecg.signal.astype(np.float64)) * 1000).clip(-(2**31), 2**31 - 1).astype("<i4")
    checksum = hashlib.sha256(f"{ecg.sampling_rate:g}".encode() + microvolts.tobytes()).hexdigest()
    is_known = np.isfinite(ecg.signal)
    highest = np.where(is_known, ecg.signal, -np.inf).max(axis=1)
    lowest = np.where(is_known, ecg.signal, np.inf).min(axis=1)
    per_lead = {"amplitude": np.where(is_known.any(axis=1), highest - lowest, np.nan)} | noise_levels(ecg)
    return {
        "record": name,
        "error": "",
        "seconds": ecg.duration,
        "sampling_rate": ecg.sampling_rate,
        "heart_rate": heart_rate(peaks, sampling_rate=ecg.sampling_rate),
        **{f"{kind}_{lead}": float(per_lead[kind][i]) for kind in PER_LEAD for i, lead in enumerate(LEADS)},
        "findings": check_quality(ecg, peaks),
        "checksum": checksum,
    }


def _numbers() -> Iterator[str]:
    """Yield the names of the columns of numbers."""
    yield from ("seconds", "sampling_rate", "heart_rate")
    yield from (f"{kind}_{lead}" for kind in PER_LEAD for lead in LEADS)


def _read_file(files: Mapping[str, Path], name: str) -> ECG:
    """Read the file of a name."""
    return open_ecg(files[name])


_opened: dict[Path, tuple[Any, dict[str, int]]] = {}  # the datasets of this process, and the positions of their records


def _read_record(folder: Path, name: str) -> ECG:
    """Read one record of a processed dataset, which is opened once in each process."""
    if folder not in _opened:
        dataset = open_dataset(folder, label_set=None)
        _opened[folder] = dataset, {record: i for i, record in enumerate(dataset.records["record_id"])}
    dataset, positions = _opened[folder]
    return ECG(dataset.signal(positions[name]), dataset.sampling_rate, name)
