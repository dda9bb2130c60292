"""``dataset.json``, the manifest of a processed dataset."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.datasets.chunks import ChunkReport
from ecgkit.errors import EcgkitError
from ecgkit.io import read_json
from ecgkit.signals.ecg import HIGHEST_RATE, LEADS, LOWEST_RATE
from ecgkit.signals.filters import Filters
from ecgkit.signals.prepare import LARGEST, OFFSET_SECONDS
from ecgkit.sources.base import CORE_COLUMNS, AllFalse, Source, tables_sha256
from ecgkit.stats.folds import TRAIN_FOLDS

FORMAT_VERSION = 5
MANIFEST = "dataset.json"
NO_FILTERS = Filters()
UNITS = "microvolts, int16, (records, leads, samples)"
ALL_FALSE = get_args(AllFalse)
WAY_OUT = "run its preprocessing again with --overwrite"
MAX_MILLIVOLTS = (LARGEST + 1) / 1000
"""The largest amplitude that int16 holds."""

REPAIR = (
    "a stretch of NaN is interpolated linearly along its lead and held at the ends; a lead that is NaN throughout is 0 "
    "and counts as flat; a record that is NaN throughout is quarantined; values beyond int16 are clipped"
)


def dataset_name(source: Source, filters: Filters = NO_FILTERS) -> str:
    """Name a dataset after its source, with rate, filters and split that are not the default (``ptbxl_500hz``)."""
    rate = "" if source.sampling_rate == source.sampling_rates[0] else f"{source.sampling_rate}hz"
    split = "split_" + "_".join(f"{100 * share:g}" for share in source.split) if source.split else ""
    return "_".join(part for part in (source.name, rate, filters.name_suffix(), split) if part)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read ``dataset.json`` without opening the dataset.

    Raises
    ------
    EcgkitError
        If there is no dataset, or its manifest is of another version, damaged, or was changed after it was written.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise EcgkitError(_no_dataset(directory))
    version = read_json(path, _Version, way_out=WAY_OUT)["version"]
    if version != FORMAT_VERSION:
        raise EcgkitError(f"dataset {directory} has format version {version}, not {FORMAT_VERSION}: {WAY_OUT}")
    manifest: dict[str, Any] = read_json(path, _Manifest, way_out=WAY_OUT)
    for key, value, is_valid in _ranges(manifest):
        if not is_valid:
            raise EcgkitError(f"{path}: {key} is {reprlib.repr(value)}, which no dataset has: {WAY_OUT}")
    if manifest["sha256"] != manifest_sha256(manifest):
        raise EcgkitError(f"{path} was changed after it was written, its checksum differs: {WAY_OUT}")
    return manifest


class _Version(TypedDict):
    version: int


class _Named(TypedDict):
    name: str


class _LabelSet(TypedDict):
    classes: dict[str, int]
    all_false: str
    n_unlabelled: int


class _Standardisation(TypedDict):
    mean: list[float] | None
    std: list[float] | None


class _Quarantined(TypedDict):
    count: int
    records: list[dict[str, str]]


class _Manifest(TypedDict):
    name: str
    source: _Named
    n_records: int
    sampling_rate: int
    n_samples: int
    leads: list[str]
    units: str
    filters: dict[str, Any]
    standardisation: _Standardisation
    quarantined: _Quarantined
    labels: dict[str, _LabelSet]
    files: dict[str, str]
    fingerprint: str
    request: dict[str, Any]
    sha256: str


def _ranges(manifest: Mapping[str, Any]) -> Iterator[tuple[str, object, bool]]:
    """Yield what has a limited range: its key, its value, and whether that is within the range."""
    rate, mean, std = (manifest["sampling_rate"], *(manifest["standardisation"][key] for key in ("mean", "std")))
    yield "sampling_rate", rate, LOWEST_RATE <= rate <= HIGHEST_RATE
    yield "leads", manifest["leads"], manifest["leads"] == list(LEADS)
    yield "units", manifest["units"], manifest["units"] == UNITS
    for key in ("n_records", "n_samples"):
        yield key, manifest[key], manifest[key] > 0
    for key, values, least in (("mean", mean, -MAX_MILLIVOLTS), ("std", std, 0.0)):
        is_complete = values is None or len(values) == len(LEADS)
        is_valid = is_complete and all(least <= value <= MAX_MILLIVOLTS for value in values or ())
        yield f"standardisation.{key}", values, is_valid and (values is None) == (mean is None)
    for name, label_set in manifest["labels"].items():
        yield f"labels.{name}.all_false", label_set["all_false"], label_set["all_false"] in ALL_FALSE


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all keys but ``sha256``."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def default_label_set(manifest: Mapping[str, Any]) -> str:
    """Return the first label set of a dataset.

    Raises
    ------
    EcgkitError
        If it has none.
    """
    if not manifest["labels"]:
        raise EcgkitError(f"dataset {manifest['name']} has no label set: build one from a source with labels")
    return next(iter(manifest["labels"]))


def labelled_rows(labels: pd.DataFrame, all_false: str) -> NDArray[np.bool_]:
    """Return which records have labels: one that is known, and one that is true unless all-false means negative."""
    found = labels.notna() if all_false == "negative" else labels.fillna(value=False)
    return found.any(axis=1).to_numpy(bool)


def make_manifest(
    source: Source,
    request: Mapping[str, Any],
    reports: Sequence[ChunkReport],
    records: pd.DataFrame,
    labels: Mapping[str, pd.DataFrame],
) -> dict[str, Any]:
    """Describe a dataset; ``records`` and ``labels`` are what is stored, ``request`` what it was built from."""
    columns = CORE_COLUMNS | dict(source.columns)
    manifest = {
        "version": FORMAT_VERSION,
        "source": {
            "name": source.name,
            "version": source.version,
            "licence": source.licence,
            "citation": source.citation,
            "identity": request["source"],
        },
        "n_records": len(records),
        "sampling_rate": source.sampling_rate,
        "n_samples": source.n_samples,
        "leads": list(LEADS),
        "units": UNITS,
        "filters": request["filters"],
        "standardisation": _standardisation(reports),
        "quarantined": _quarantined(source, reports),
        "repaired": _repaired(records, reports),
        "folds": {str(fold): int(count) for fold, count in records["fold"].value_counts().sort_index().items()},
        "unmapped_codes": dict(source.unmapped),
        "columns": {column: asdict(columns[column]) for column in columns},
        "labels": {label_set: _label_set(table, source, label_set) for label_set, table in labels.items()},
    }
    return manifest | {"fingerprint": _fingerprint(manifest, reports, records, labels), "request": request}


def merge_reports(reports: Sequence[ChunkReport], name: str) -> dict[str, Any]:
    """Merge a mapping of all chunks: row of ``signals.npy`` to value."""
    return {row: value for report in reports for row, value in getattr(report, name).items()}


def _quarantined(source: Source, reports: Sequence[ChunkReport]) -> dict[str, Any]:
    """List the records that could not be read, with the reasons."""
    reasons, ids = merge_reports(reports, "quarantined"), source.records["record_id"]
    listed = [{"record_id": ids.iloc[int(row)], "reason": reason} for row, reason in reasons.items()]
    return {"count": len(listed), "records": listed}


def _repaired(records: pd.DataFrame, reports: Sequence[ChunkReport]) -> dict[str, Any]:
    """Count what was repaired, flat or clipped."""
    clipped = merge_reports(reports, "clipped_samples")
    return {
        "how": REPAIR,
        "records_with_nan": int((records["nan_samples"] > 0).sum()),
        "nan_samples": int(records["nan_samples"].sum()),
        "records_with_flat_leads": int(records["flat_leads"].notna().sum()),
        "records_clipped": len(clipped),
        "clipped_samples": sum(clipped.values()),
    }


def _label_set(table: pd.DataFrame, source: Source, label_set: str) -> dict[str, Any]:
    """Describe a label set: records per class, the meaning of all-false, unknown labels, records without labels."""
    all_false = source.all_false.get(label_set, "negative")
    return {
        "classes": {label: int(count) for label, count in table.sum().items()},
        "unknown": {label: int(count) for label, count in table.isna().sum().items() if count},
        "all_false": all_false,
        "n_unlabelled": int((~labelled_rows(table, all_false)).sum()),
    }


def _standardisation(reports: Sequence[ChunkReport]) -> dict[str, Any]:
    """Return mean and standard deviation of each lead, its offset removed, over the training folds; sums are exact."""
    result: dict[str, Any] = {
        "folds": list(TRAIN_FOLDS),
        "n_records": sum(report.n_training for report in reports),
        "units": "mV",
        "offset_seconds": OFFSET_SECONDS,
        "mean": None,
        "std": None,
    }
    if not result["n_records"]:
        return result
    n = sum(report.n_samples for report in reports)
    sums = [sum(values) for values in zip(*(report.sums for report in reports), strict=True)]
    squares = [sum(values) for values in zip(*(report.squares for report in reports), strict=True)]
    variances = [(n * square - total**2) / n**2 for total, square in zip(sums, squares, strict=True)]
    return result | {
        "mean": [total / n / 1000 for total in sums],
        "std": [float(np.sqrt(variance)) / 1000 for variance in variances],
    }


def _fingerprint(
    manifest: Mapping[str, Any],
    reports: Sequence[ChunkReport],
    records: pd.DataFrame,
    labels: Mapping[str, pd.DataFrame],
) -> str:
    """Hash the contents of a dataset; where its source was, and when it was written, do not matter."""
    facts = {key: manifest[key] for key in ("version", "sampling_rate", "leads", "units", "filters", "standardisation")}
    facts["source"] = [manifest["source"]["name"], manifest["source"]["version"]]
    facts["quarantined"] = [entry["record_id"] for entry in manifest["quarantined"]["records"]]
    facts["all_false"] = {name: label_set["all_false"] for name, label_set in manifest["labels"].items()}
    facts["signals"] = [report.sha256 for report in reports]
    facts["tables"] = tables_sha256([records, *labels.values()])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _no_dataset(directory: Path) -> str:
    """Return the message for a dataset that is not there."""
    if directory.with_name(f".{directory.name}.partial").is_dir():
        return f"dataset {directory.name} in {directory.parent} is not finished: run its preprocessing again to resume"
    present: list[str] = []
    with suppress(OSError):
        present = sorted(path.parent.name for path in directory.parent.glob(f"[!.]*/{MANIFEST}"))
    others = f"; there are {', '.join(present)}" if present else ""
    return f"no dataset {directory.name} in {directory.parent}{others}: make it with `ecgkit preprocess`"
