"""Checking that the files of a dataset are those that were written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgkit.datasets.manifest import WAY_OUT, read_manifest
from ecgkit.errors import EcgkitError
from ecgkit.io import file_sha256, json_bytes, json_or_none, read_array, read_table, readable, write_atomically
from ecgkit.paths import VERIFY_VARIABLE
from ecgkit.signals.ecg import LEADS
from ecgkit.sources.base import POSSIBLE, impossible_values
from ecgkit.stats.folds import ALL_FOLDS, TRAIN_FOLDS

SIGNALS = "signals.npy"
STAMP = ".signals.json"
"""Size and time stamps of ``signals.npy`` when it was last compared with its checksum."""

VERIFIED: set[tuple[str, ...]] = set()
"""What was compared in this process, so that ``--verify`` reads ``signals.npy`` once."""


def check_contents(directory: Path | str, *, verify: bool = False) -> dict[str, Any]:
    """Compare the files of a dataset with the checksums in its manifest.

    The tables are always compared; ``signals.npy`` when its size or a time stamp differs from when it was last
    compared, or on request.

    Parameters
    ----------
    directory : Path or str
        The folder of the dataset.
    verify : bool
        Compare ``signals.npy`` in any case; so does the environment variable ``ECGKIT_VERIFY=1``.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    EcgkitError
        Naming the file that is missing or was changed.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    missing = [name for name in expected_files(manifest) if name not in manifest["files"]]
    missing += [name for name in manifest["files"] if not (directory / name).is_file()]
    if missing:
        raise EcgkitError(f"dataset {directory} lacks {', '.join(sorted(set(missing)))}: {WAY_OUT}")
    for name, sha256 in manifest["files"].items():
        if name != SIGNALS:
            _compare(directory / name, sha256)
    _check_signals(directory, manifest["files"][SIGNALS], verify=verify or os.environ.get(VERIFY_VARIABLE) == "1")
    return manifest


def expected_files(manifest: Mapping[str, Any]) -> list[str]:
    """List the files of a dataset, relative to its folder."""
    return [SIGNALS, "records.parquet", *(f"labels/{name}.parquet" for name in manifest["labels"])]


def write_stamp(directory: Path, sha256: str) -> None:
    """Record that ``signals.npy`` has this checksum now; a folder that cannot be written is compared each time."""
    with suppress(OSError):
        write_atomically(directory / STAMP, json_bytes(_stamp(directory, sha256)))


def _stamp(directory: Path, sha256: str) -> dict[str, Any]:
    """Return checksum, size and time stamps of ``signals.npy``; every change of its contents changes the last."""
    found = (directory / SIGNALS).stat()
    return {"sha256": sha256, "size": found.st_size, "modified": found.st_mtime_ns, "changed": found.st_ctime_ns}


def _check_signals(directory: Path, sha256: str, *, verify: bool) -> None:
    """Compare ``signals.npy`` with its checksum, if it is not known to be unchanged."""
    stamp = _stamp(directory, sha256)
    key = (str(directory.absolute()), *map(str, stamp.values()))
    if key in VERIFIED:
        return
    if not verify and json_or_none(directory / STAMP) == stamp:
        return
    _compare(directory / SIGNALS, sha256)
    VERIFIED.add(key)
    write_stamp(directory, sha256)


def _compare(path: Path, sha256: str) -> None:
    """Refuse a file with another checksum."""
    with readable(path, WAY_OUT):
        found = file_sha256(path)
    if found != sha256:
        raise EcgkitError(f"{path} was changed after it was written, its checksum differs: {WAY_OUT}")


def read_records(directory: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Read the table of records and check its values."""
    path = directory / "records.parquet"
    wanted = {"record_id": "text", "patient_id": "text", "fold": "integer", **dict.fromkeys(POSSIBLE, "number")}
    records = read_table(path, wanted, way_out=WAY_OUT)
    if len(records) != manifest["n_records"]:
        raise EcgkitError(f"{path} has {len(records):,} records, not {manifest['n_records']:,}: {WAY_OUT}")
    check_records(records, str(path), WAY_OUT)
    std = np.array(manifest["standardisation"]["std"] or [], float)
    if (constant := [lead for lead, value in zip(LEADS, std, strict=False) if value == 0]) and "flat_leads" in records:
        flat = records.loc[records["fold"].isin(TRAIN_FOLDS), "flat_leads"].fillna("").str.split(",")
        if not flat.map(set(constant).issubset).all():
            raise EcgkitError(f"{directory}: the standard deviation of {constant[0]} is 0: {WAY_OUT}")
    return records


def check_records(records: pd.DataFrame, where: str, way_out: str) -> None:
    """Check identifiers, folds and quantities of a table of records.

    Raises
    ------
    EcgkitError
        Naming the record and the value: an identifier that is missing or occurs twice, a fold outside 1 to 10, an age
        outside 0 to 130 years, a height or weight that is not above 0 or infinite.
    """
    problems: list[tuple[str, pd.Series, str]] = [
        ("record_id", records["record_id"].isna(), "missing"),
        ("record_id", records["record_id"].duplicated(), "there twice"),
        ("patient_id", records["patient_id"].isna(), "missing"),
        ("fold", ~records["fold"].isin(ALL_FOLDS), "not 1 to 10"),
        *((name, impossible_values(records, name), "impossible") for name in POSSIBLE),
    ]
    for column, wrong, what in problems:
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy(bool)))
            value, record_id = records[column].iloc[row], records["record_id"].iloc[row]
            raise EcgkitError(f"{where}: {column} {value} of record {record_id} (row {row + 1}) is {what}: {way_out}")


def read_labels(directory: Path, manifest: Mapping[str, Any], label_set: str) -> pd.DataFrame:
    """Read a label table, nullable booleans, and check that it belongs to the manifest."""
    path = directory / "labels" / f"{label_set}.parquet"
    classes = manifest["labels"][label_set]["classes"]
    labels = read_table(path, dict.fromkeys(classes, "bool"), way_out=WAY_OUT).astype("boolean")
    if list(labels.columns) != list(classes) or len(labels) != manifest["n_records"]:
        raise EcgkitError(f"{path} has other classes or records than the manifest: {WAY_OUT}")
    return labels


def as_plain(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels as ordinary booleans if all are known, and as they are otherwise."""
    return labels if labels.isna().to_numpy().any() else labels.astype(bool)


def map_signals(directory: Path, manifest: Mapping[str, Any]) -> np.memmap[Any, np.dtype[np.int16]]:
    """Open ``signals.npy`` as a memory map, and check its type and shape."""
    path, expected = directory / SIGNALS, (manifest["n_records"], len(LEADS), manifest["n_samples"])
    signals = read_array(path, way_out=WAY_OUT)
    if signals.shape != expected or signals.dtype != np.int16:
        raise EcgkitError(f"{path} holds {signals.dtype} {signals.shape}, not int16 {expected}: {WAY_OUT}")
    return signals
