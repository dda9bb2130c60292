"""Read HDF5: the layout of the CODE data sets, and arrays by their names."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import UnreadableRecordError, require
from ecgkit.readers.arrays import choose_record, from_array, from_named_arrays
from ecgkit.readers.base import Hints, Signals, check_size
from ecgkit.signals.ecg import LEADS

LARGEST = 256 * 2**20
MOST_NAMES, DEEPEST = 64, 4
CODE_RATE, CODE_SAMPLES = 400.0, 4096


def read_hdf5(path: Path, hints: Hints) -> Signals:
    """Read one record of ``tracings``, of shape (records, samples, 12), with the twelve leads in order.

    Records of 4,096 samples are those of CODE, at 400 Hz. The file does not say its unit. A record is padded with zeros
    on both sides; they are left out. In a file of other names, the datasets and attributes, of the only group in a file
    without datasets, are taken as the arrays of an ``.npz``.

    References
    ----------
    Ribeiro et al., Nature Communications 2020, https://doi.org/10.1038/s41467-020-15432-4.
    """
    h5py = require("h5py", "formats")
    with h5py.File(path, "r") as file:
        tracings = _dataset(h5py, file, "tracings")
        if tracings is None:
            return from_named_arrays(_arrays(h5py, file), hints)
        if tracings.ndim != 3 or tracings.shape[2] != len(LEADS):
            raise UnreadableRecordError(
                f"the HDF5 file has no dataset tracings of the shape (records, samples, 12), but {tracings.shape}"
            )
        _check_record(tracings)
        ids = _dataset(h5py, file, "exam_id")
        known = None
        if ids is not None and ids.shape == tracings.shape[:1]:
            check_size(ids.size * ids.dtype.itemsize, LARGEST, "exam_id")
            known = ids[:]
        signal = choose_record(tracings, hints.record, known)
    used = np.flatnonzero((signal != 0).any(axis=1))
    if not len(used):
        raise UnreadableRecordError("the record has nothing but zeros")
    kept = signal[used[0] : used[-1] + 1]
    found = from_array(kept, replace(hints, leads=LEADS, record=None))
    left_out = len(signal) - len(kept)
    findings = (f"{left_out:,} samples of padding left out",) if left_out else ()
    rate = CODE_RATE if len(signal) == CODE_SAMPLES else None
    return replace(found, names=LEADS, sampling_rates=(rate,) * len(LEADS), findings=findings)


def _check_record(dataset: Any) -> None:
    """Check the size of what is read for one record, and of the pieces in which it is stored."""
    of_record = dataset.shape[dataset.ndim > 2 :]
    size = math.prod(dataset.chunks or of_record) * dataset.dtype.itemsize
    check_size(max(size, 8 * math.prod(of_record)), LARGEST, "a record of the HDF5 file")


def _arrays(h5py: Any, file: Any, depth: int = 0) -> dict[str, Any]:
    """Return the datasets of a file or of its only group, its attributes and those of the datasets, by their names."""
    found: dict[str, Any] = {}
    groups = []
    for name in list(file)[:MOST_NAMES]:
        dataset = _dataset(h5py, file, name)
        if dataset is None:
            groups.append(name)
        if dataset is None or dataset.shape is None:
            continue
        _check_record(dataset)
        found |= {key: np.asarray(value) for key, value in list(dataset.attrs.items())[:MOST_NAMES]}
        # What has records is read in part, later.
        found[name] = dataset if dataset.ndim > 1 else np.asarray(dataset[()])
    if not found and len(groups) == 1 and depth < DEEPEST:
        found = _arrays(h5py, file[groups[0]], depth + 1)
    elif not found and groups:
        names = ", ".join(groups)
        raise UnreadableRecordError(f"the HDF5 file has several groups ({names}): copy that of the ECG into a new file")
    return found | {key: np.asarray(value) for key, value in list(file.attrs.items())[:MOST_NAMES]}


def _dataset(h5py: Any, file: Any, name: str) -> Any:
    """Return a dataset that is in the file itself: no link and no storage leads to another file."""
    if name not in file:
        return None
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise UnreadableRecordError(f"{name} of the HDF5 file is a link: copy it into the file")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        return None
    if dataset.external or dataset.is_virtual:
        raise UnreadableRecordError(f"{name} of the HDF5 file is stored in another file: copy it into the file")
    return dataset
