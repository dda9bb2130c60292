"""Read HDF5 in the layout of the CODE data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import UnreadableRecordError, require
from ecgkit.readers.arrays import choose_record, from_array
from ecgkit.readers.base import Hints, Signals, check_size
from ecgkit.signals.ecg import LEADS

LARGEST = 256 * 2**20
CODE_RATE = 400.0


def read_hdf5(path: Path, hints: Hints) -> Signals:
    """Read one record of ``tracings``, of shape (records, samples, 12), at 400 Hz and with the twelve leads in order.

    The file does not say its unit. A record is padded with zeros on both sides; they are left out.

    References
    ----------
    Ribeiro et al., Nature Communications 2020, https://doi.org/10.1038/s41467-020-15432-4.
    """
    h5py = require("h5py", "formats")
    with h5py.File(path, "r") as file:
        tracings = _dataset(h5py, file, "tracings")
        if tracings is None or tracings.ndim != 3 or tracings.shape[2] != len(LEADS):
            raise UnreadableRecordError(
                f"the HDF5 file has no dataset tracings of the shape (records, samples, 12): it has {_names(file)}"
            )
        size = int(np.prod(tracings.chunks or tracings.shape[1:])) * tracings.dtype.itemsize
        check_size(max(size, 8 * int(np.prod(tracings.shape[1:]))), LARGEST, "a record of the HDF5 file")
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
    return replace(found, names=LEADS, sampling_rates=(CODE_RATE,) * len(LEADS), findings=findings)


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


def _names(file: Any) -> str:
    """List the first names of a file."""
    return ", ".join(map(str, list(file)[:8])) or "nothing"
