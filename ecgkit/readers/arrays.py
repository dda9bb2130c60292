"""Read arrays: NumPy's .npy and .npz, and Parquet."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers.base import Hints, Signals, check_scaled, check_size, known_age, known_sex, standard_name
from ecgkit.readers.tables import check_one_record, from_columns
from ecgkit.signals.ecg import LEADS, check_rate

LARGEST = 256 * 2**20
KEYS = {
    "signal": ("signal", "signals", "ecg", "ECG", "data", "x", "X", "p_signal", "val", "arr_0"),
    "rate": ("sampling_rate", "fs", "sampling_frequency", "frequency", "sample_rate", "sfreq", "Fs", "sr"),
    "leads": ("leads", "lead_names", "sig_name", "channels", "names"),
    "unit": ("unit", "units"),
    "gain": ("gain", "adc_gain", "gains", "scale", "scale_factor", "resolution", "lsb"),
}
"""The names under which archives hold a signal and what belongs to it."""


def read_npy(path: Path, hints: Hints) -> Signals:
    """Read one array: ``(leads, samples)``, ``(samples, leads)`` or ``(samples,)``, or one with a name per column."""
    check_size(path.stat().st_size, LARGEST, path.name)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.names:
        return from_columns([_numbers(array[name]).ravel() for name in array.dtype.names], array.dtype.names)
    return from_array(array, hints)


def read_npz(path: Path, hints: Hints) -> Signals:
    """Read an archive of arrays."""
    return from_named_arrays(_unpack(path), hints)


def from_named_arrays(arrays: Mapping[str, Any], hints: Hints) -> Signals:
    """Make signals of arrays by their names: a signal with its rate, leads and unit, or one array per lead.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The signal has one of the usual names, or is the only array of two or three axes. It may be a dataset of HDF5.
    hints : Hints
        See `from_array`.

    Raises
    ------
    EcgkitError
        If there is no signal, or more than one.
    """
    tables = [key for key, array in arrays.items() if array.ndim in (2, 3) and array.dtype.kind in "iuf"]
    usual = [key for key in KEYS["signal"] if key in arrays and arrays[key].ndim in (1, 2, 3)]
    usual = [key for key in usual if key in tables] or usual
    if len(usual) > 1:
        raise EcgkitError(f"the file has several signals, {', '.join(usual)}: copy one of them into a new file")
    key = next(iter(usual or tables[: len(tables) == 1]), None)
    gain = next((name for name in KEYS["gain"] if name in arrays), None)
    rate, unit = (_scalar(arrays, name) for name in ("rate", "unit"))
    is_text = isinstance(rate, str) and re.fullmatch(r"\d+(\.\d*)?", rate)
    rate = None if rate is None else check_rate(float(rate) if is_text else rate)
    if key is None:
        leads = [name for name, array in arrays.items() if standard_name(name) in LEADS and array.ndim == 1]
        if not leads:
            raise UnreadableRecordError(
                f"the file has no array of a signal: it has {', '.join(arrays)[:200] or 'none'}"
            )
        columns = [_numbers(arrays[name]) for name in leads]
        if gain:
            check_scaled(columns, gain)
        found = from_columns(columns, leads, units=[unit or ""] * len(leads), rate=rate)
    else:
        given = tuple(map(standard_name, _texts(arrays, "leads")))
        found = from_array(arrays[key], replace(hints, leads=given or hints.leads))
        if gain:
            check_scaled(found.signals, gain)
        units, n = _texts(arrays, "unit"), len(found.signals)
        found = replace(found, names=given or found.names, sampling_rates=(rate,) * n)
        found = replace(found, units=tuple(units) if len(units) == n else found.units).in_millivolts(unit or "")
    facts = {
        name: np.asarray(arrays[name]).item() for name in ("age", "sex") if name in arrays and arrays[name].size == 1
    }
    age = facts.get("age")
    return replace(
        found, age=known_age(age) if isinstance(age, (int, float)) else None, sex=known_sex(_text(facts.get("sex", "")))
    )


def read_parquet(path: Path, _hints: Hints) -> Signals:
    """Read a table with one column per lead."""
    import pyarrow as pa
    from pyarrow import parquet

    check_size(path.stat().st_size, LARGEST, path.name)
    try:
        # Checked before anything is unpacked: a small file can announce a table of any size.
        facts = parquet.read_metadata(path)
        groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
        check_size(max(sum(group.total_byte_size for group in groups), 8 * facts.num_rows), LARGEST, path.name)
        check_size(8 * facts.num_rows * facts.num_columns, LARGEST, path.name)
        table = parquet.read_table(path, memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableRecordError(f"the Parquet file cannot be read: {' '.join(str(error).split())[:150]}") from error
    names, columns, texts = [], [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        label = "" if name.startswith("__index") else str(name)
        if pa.types.is_nested(column.type):
            raise UnreadableRecordError(f"the column {label} holds lists: write one row per sample")
        if any(is_one(column.type) for is_one in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)):
            names.append(label)
            columns.append(np.asarray(column.to_numpy(), np.float64))
        elif pa.types.is_temporal(column.type) and not column.null_count:
            seconds = _seconds(column)
            if len(seconds) > 1 and np.diff(seconds).min() > 0:
                names.append(f"{label or 'time'} (s)")
                columns.append(seconds)
        else:
            texts.append(label)
            check_one_record(label, np.arange(len(column.unique())), is_text=True)
    if not columns:
        raise UnreadableRecordError("the Parquet file has no column of numbers")
    left_out = tuple(f"the column {name} of text left out" for name in texts if name)
    return replace(from_columns(columns, names), findings=left_out)


def _seconds(column: Any) -> np.ndarray:
    """Return dates, times of day or durations as seconds since the first."""
    values = np.asarray(column.to_pandas())
    if values.dtype == object:  # times of day, dates
        values = np.array([np.datetime64(f"1970-01-01T{item}" if hasattr(item, "hour") else item) for item in values])
    return (values - values[0]) / np.timedelta64(1, "s")


def from_array(array: np.ndarray, hints: Hints) -> Signals:
    """Take an array apart into its signals.

    Parameters
    ----------
    array : ndarray
        One or two axes; with three, the first is that of records and ``hints.record`` chooses.
    hints : Hints
        The number of names in ``leads`` says which axis is that of leads; without, it is the shorter one.

    Raises
    ------
    EcgkitError
        If the shape does not fit.
    """
    if array.ndim == 3:
        array = choose_record(array, hints.record)
    elif hints.record is not None:
        raise EcgkitError(f"record is {hints.record!r} and the file has one record: leave the argument out")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise UnreadableRecordError(f"an array of shape {array.shape} is not an ECG: give the axes (leads, samples)")
    check_size(8 * array.size, LARGEST, "the array")
    values = _numbers(array)
    values = values[None] if values.ndim == 1 else values
    n_leads = len(hints.leads) if hints.leads else min(values.shape)
    if len(values) != n_leads:
        values = values.T
    if len(values) != n_leads or len(values) > 64:
        raise EcgkitError(
            f"an array of shape {array.shape} does not have {n_leads} leads: give leads=, one name for each"
        )
    return Signals(tuple(values), ("",) * len(values), ("",) * len(values), (None,) * len(values))


def choose_record(array: Any, record: str | int | None, ids: np.ndarray | None = None) -> np.ndarray:
    """Return one of many records: the only one, that of an identifier, or else that of a position from 0."""
    n_records = array.shape[0]
    if record is None:
        if n_records != 1:
            raise EcgkitError(
                f"the file has {n_records:,} records: give record=, the position from 0 or the identifier"
            )
        return np.asarray(array[0])
    found: Any = [] if ids is None else np.flatnonzero(ids.astype(str) == str(record))
    try:
        position = int(found[0]) if len(found) else int(record)
    except ValueError:
        position = -1
    if not 0 <= position < n_records or (ids is not None and not len(found) and isinstance(record, str)):
        raise EcgkitError(f"record is {record!r} and the file has {n_records:,} records: give a position from 0")
    return np.asarray(array[position])


def _numbers(array: np.ndarray) -> np.ndarray:
    """Return an array of numbers as float64."""
    if array.dtype.kind not in "iuf":
        raise UnreadableRecordError(f"an array of type {array.dtype} has no samples")
    return np.asarray(array, np.float64)


def _scalar(arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """Return the value under one of the known names of an archive, if all of its elements are the same."""
    found = next((arrays[key] for key in KEYS[name] if key in arrays), None)
    values = [] if found is None else np.unique(found).tolist()
    return (_text(values[0]) if isinstance(values[0], bytes) else values[0]) if len(values) == 1 else None


def _texts(arrays: Mapping[str, Any], name: str) -> list[str]:
    """Return the texts under one of the known names of an archive, also of one with commas."""
    key = next((key for key in KEYS[name] if key in arrays), None)
    texts = [] if key is None else [_text(value) for value in np.asarray(arrays[key]).ravel()]
    return texts[0].split(",") if len(texts) == 1 else texts


def _text(value: Any) -> str:
    """Return a text that may be stored as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _unpack(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an archive, of which none may have objects."""
    with zipfile.ZipFile(path) as archive:
        check_size(sum(item.file_size for item in archive.infolist()), LARGEST, path.name)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files[:256]}
