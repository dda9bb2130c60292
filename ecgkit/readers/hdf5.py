"""Read HDF5: the layout of the CODE data sets, and arrays by their names."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import UnreadableRecordError, require
from ecgkit.readers.arrays import FACTS, from_named_arrays
from ecgkit.readers.base import Hints, Signals, check_size
from ecgkit.signals.ecg import LEADS

LARGEST = 256 * 2**20
MOST_NAMES, MOST_OBJECTS, DEEPEST = 64, 1000, 4
CODE_RATE, CODE_SAMPLES = 400.0, 4096

_OF_RATES = re.compile(r"freq|hz|sampling|sample.?rate|(?<![a-z])(?:rate|fs|sr|sps)(?![a-z])", re.IGNORECASE)
_OF_LEADS = re.compile(r"lead|channel|sig.?name", re.IGNORECASE)


def read_hdf5(path: Path, hints: Hints) -> Signals:
    """Read arrays by their names, as those of an ``.npz``: datasets, their attributes and those of the file.

    In a file without datasets they are those of its only group. ``tracings``, of shape (records, samples, 12), is the
    layout of CODE.

    References
    ----------
    Ribeiro et al., Nature Communications 2020, https://doi.org/10.1038/s41467-020-15432-4.
    """
    h5py = require("h5py", "formats")
    with h5py.File(path, "r") as file:
        tracings = _dataset(h5py, file, "tracings")
        if tracings is None:
            arrays, attributes = _arrays(h5py, file, list(file)[:MOST_NAMES])
            return from_named_arrays(arrays, hints, attributes)
        if tracings.ndim != 3 or tracings.shape[2] != len(LEADS):
            raise UnreadableRecordError(
                f"the HDF5 file has no dataset tracings of the shape (records, samples, 12), but {tracings.shape}"
            )
        arrays, attributes = _arrays(h5py, file, ["tracings", *sorted(FACTS & set(file))])
        found = from_named_arrays(arrays, replace(hints, leads=LEADS), attributes)
        return _as_code(found, hints, _names(file))


def _as_code(found: Signals, hints: Hints, names: set[str]) -> Signals:
    """Leave out the zeros on both sides, and fill in what the caller does not say and no name in the file could."""
    signal = np.array(found.signals)
    used = np.flatnonzero((signal != 0).any(axis=0))
    if not len(used):
        raise UnreadableRecordError("the record has nothing but zeros")
    kept = signal[:, used[0] : used[-1] + 1]
    is_as_long = signal.shape[1] == CODE_SAMPLES
    if is_as_long and hints.sampling_rate is None and not any(map(_OF_RATES.search, names)):
        found = replace(found, sampling_rates=(CODE_RATE,) * len(LEADS))
    are_named = any(found.names) or len(hints.leads or ()) == len(LEADS)
    if not are_named and not any(map(_OF_LEADS.search, names)):
        found = replace(found, names=LEADS)
    left_out = signal.shape[1] - kept.shape[1]
    findings = (f"{left_out:,} samples of padding left out",) if left_out else ()
    return replace(found, signals=tuple(kept), findings=findings)


def _names(file: Any) -> set[str]:
    """Return the names of attributes, datasets and groups, also of those in groups."""
    found, paths = set(file.attrs), set[str]()

    def add(path: str, item: Any) -> None:
        paths.add(path)
        found.update((path.rpartition("/")[2], *item.attrs))
        if len(paths) > MOST_OBJECTS:
            raise UnreadableRecordError(f"the HDF5 file has more than {MOST_OBJECTS:,} datasets: copy tracings")

    file.visititems(add)
    return found


def _check_record(dataset: Any) -> None:
    """Check the size of what is read for one record, and of the pieces in which it is stored."""
    of_record = dataset.shape[dataset.ndim > 2 :]
    size = math.prod(dataset.chunks or of_record) * dataset.dtype.itemsize
    check_size(max(size, 8 * math.prod(of_record)), LARGEST, "a record of the HDF5 file")


def _arrays(
    h5py: Any, file: Any, names: Sequence[str], depth: int = 0
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Return the datasets of a file or of its only group, and the attributes of each, of the group and of the file."""
    found: dict[str, Any] = {}
    attributes: dict[str, list[dict[str, Any]]] = {}
    groups = []
    for name in names:
        dataset = _dataset(h5py, file, name)
        if dataset is None:
            groups.append(name)
        if dataset is None or dataset.shape is None:
            continue
        _check_record(dataset)
        attributes[name] = [_attributes(h5py, dataset)]
        # What has records is read in part, later.
        found[name] = dataset if dataset.ndim > 1 else np.asarray(dataset[()])
    if not found and len(groups) == 1 and depth < DEEPEST:
        group = file[groups[0]]
        found, attributes = _arrays(h5py, group, list(group)[:MOST_NAMES], depth + 1)
    elif not found and groups:
        listed = ", ".join(groups)
        raise UnreadableRecordError(
            f"the HDF5 file has several groups ({listed}): copy that of the ECG into a new file"
        )
    of_all = _attributes(h5py, file)
    return found, {name: [*said, of_all] for name, said in attributes.items()}


def _attributes(h5py: Any, item: Any) -> dict[str, Any]:
    """Return the attributes of a file, a group or a dataset that have a value."""
    found = {name: value for name, value in list(item.attrs.items())[:MOST_NAMES] if not isinstance(value, h5py.Empty)}
    return {name: np.asarray(value) for name, value in found.items()}


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
