"""Writing a processed dataset as one file for other programs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ecgkit.datasets.opening import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.io import disk_errors
from ecgkit.signals.ecg import LEADS

BLOCK = 256
"""Records that are converted at once."""


def export_npz(dataset: Dataset, path: Path | str, *, standardised: bool = False) -> Path:
    """Write a dataset as one ``.npz`` file without pickles.

    Its arrays are ``X`` (records, samples, 12) in mV, ``y`` (records, classes) of 0 and 1 (uint8; if a label is unknown
    float32, with NaN for it), ``classes``, ``leads``,
    ``sampling_rate`` in Hz, ``record_id``, ``patient_id``, ``fold``, ``age`` in years, ``sex`` ("male", "female" or
    ""), ``height`` in cm, ``weight`` in kg, ``device``, ``site``, ``mean`` and ``std`` (of each lead over folds 1-8, in
    mV), ``units`` and ``about``, a text that describes all this.

    Parameters
    ----------
    dataset : Dataset
        What to write; open it with the label set that is wanted.
    path : Path or str
        The file to make; ``.npz`` is added if it is not there. An existing file is replaced.
    standardised : bool
        Whether ``X`` is what a network reads: without the offset of each lead, standardised with ``mean`` and ``std``;
        ``X`` then has no unit.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EcgkitError
        If the disk is full, or the dataset has no training record to standardise with.
    """
    path = Path(path).absolute()
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    if standardised and not np.isfinite(dataset.mean).all():
        raise EcgkitError(f"dataset {dataset.name} has no record in folds 1-8: it cannot be standardised")
    draft = path.with_name(f".{path.name}.partial")
    try:
        with disk_errors(path.parent, "then run again"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for name, array in _arrays(dataset, standardised=standardised).items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, array, allow_pickle=False)
                with archive.open("X.npy", "w", force_zip64=True) as file:
                    _write_signals(dataset, file, standardised=standardised)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _arrays(dataset: Dataset, *, standardised: bool) -> dict[str, NDArray[Any]]:
    """Return all arrays but X."""
    records, units = dataset.records, "none (standardised)" if standardised else "mV"
    about = (
        f"{dataset.name}, ecgkit fingerprint {dataset.fingerprint}. X: (records, samples, leads), units {units}; "
        f"y: (records, classes), label set {dataset.label_set}; age in years (PTB-XL: 90 means over 89), height in cm, "
        "weight in kg, NaN where unknown; sex is male, female or empty; fold: 1-8 train, 9 validates, 10 tests; "
        "mean and std: mV, folds 1-8."
    )
    texts = ("record_id", "patient_id", "sex", "device", "site")
    return {
        **{name: records[name].to_numpy() for name in ("fold", "age", "height", "weight")},
        **{name: np.array(records[name].fillna("").tolist(), dtype=np.str_) for name in texts},
        "y": _labels(dataset),
        "classes": np.array(dataset.classes, dtype=np.str_),
        "leads": np.array(LEADS),
        "sampling_rate": np.array(dataset.sampling_rate),
        "mean": dataset.mean,
        "std": dataset.std,
        "units": np.array(units),
        "about": np.array(about),
    }


def _labels(dataset: Dataset) -> NDArray[Any]:
    """Return the labels as 0 and 1, with NaN where one is unknown."""
    labels = dataset.labels.to_numpy(np.float32, na_value=np.nan).reshape(len(dataset), len(dataset.classes))
    return labels if np.isnan(labels).any() else labels.astype(np.uint8)


def _write_signals(dataset: Dataset, file: IO[bytes], *, standardised: bool) -> None:
    """Write the array X into an open file, block by block."""
    shape = (len(dataset.rows), dataset.n_samples, len(LEADS))
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    preparation = dataset.preparation()
    for first in range(0, len(dataset.rows), BLOCK):
        stored = dataset.signals[dataset.rows[first : first + BLOCK]]
        values = preparation.network_input(stored) if standardised else stored / np.float32(1000)
        file.write(np.ascontiguousarray(values.transpose(0, 2, 1), "<f4").data.cast("B"))
