"""Read arrays: NumPy's .npy and .npz, and Parquet."""

from __future__ import annotations

import operator
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers.base import (
    Hints,
    Signals,
    Vector,
    check_scaled,
    check_size,
    known_age,
    known_sex,
    millivolts,
    standard_name,
)
from ecgkit.readers.tables import check_one_record, from_columns
from ecgkit.signals.ecg import LEADS, check_rate

LARGEST = 256 * 2**20
KEYS = {
    "signal": ("signal", "signals", "ecg", "ECG", "data", "x", "X", "p_signal", "val", "arr_0", "tracings"),
    "rate": ("sampling_rate", "fs", "sampling_frequency", "frequency", "sample_rate", "sfreq", "Fs", "sr"),
    "leads": ("leads", "lead_names", "sig_name", "channels", "names"),
    "unit": ("unit", "units"),
    "gain": ("gain", "adc_gain", "gains", "scale", "scale_factor", "resolution", "lsb"),
    "ids": ("exam_id", "record_id", "ecg_id", "ids", "id"),
    "age": ("age",),
    "sex": ("sex",),
}
"""The names under which archives hold a signal and what belongs to it."""
FACTS = frozenset(name for kind, names in KEYS.items() if kind != "signal" for name in names)


def read_npy(path: Path, hints: Hints) -> Signals:
    """Read one array: ``(leads, samples)``, ``(samples, leads)`` or ``(samples,)``, or one with a name per column."""
    check_size(path.stat().st_size, LARGEST, path.name)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.names:
        columns = [_numbers(array[name]).ravel() for name in array.dtype.names]
        return from_columns(columns, array.dtype.names, hints=hints)
    return from_array(array, hints)


def read_npz(path: Path, hints: Hints) -> Signals:
    """Read an archive of arrays."""
    return from_named_arrays(_unpack(path), hints)


def from_named_arrays(
    arrays: Mapping[str, Any], hints: Hints, attributes: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> Signals:
    """Make signals of arrays by their names: a signal with its rate, leads and unit, or one array per lead.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The signal has one of the usual names, or is the only array of two or three axes. It may be a dataset of HDF5.
    hints : Hints
        See `from_array`.
    attributes : mapping of str to sequence of mapping, optional
        What else is said of an array: what it says itself, and what its group and its file say.

    Raises
    ------
    EcgkitError
        If there is no signal, or more than one, or if what is said of it is contradictory.
    """
    attributes = attributes or {}
    key = _signal_name(arrays)
    if key is None:
        return _from_leads(arrays, hints, attributes)
    array, sources = arrays[key], [*attributes.get(key, ()), arrays]
    if array.ndim == 3:
        position = find_record(array.shape[0], hints.record, _identifiers(arrays, array.shape[0]))
        sources = [_of_record(source, position, array.shape) for source in sources]
        array, hints = np.asarray(array[position]), replace(hints, record=None)
    given = _lead_names(sources)
    found = from_array(array, replace(hints, leads=given or hints.leads))
    _check_gain(found.signals, sources)
    n = len(found.signals)
    found = replace(
        found,
        names=given or found.names,
        sampling_rates=tuple(_said("rate", sources, n)),
        units=tuple(unit or "" for unit in _said("unit", sources, n)),
    )
    return _with_patient(found.in_millivolts(), sources)


def _signal_name(arrays: Mapping[str, Any]) -> str | None:
    """Return the name of the signal, None if there is none."""
    tables = [key for key, array in arrays.items() if array.ndim in (2, 3) and array.dtype.kind in "iuf"]
    usual = [key for key in KEYS["signal"] if key in arrays and arrays[key].ndim in (1, 2, 3)]
    usual = [key for key in usual if key in tables] or usual
    if len(usual) > 1:
        raise EcgkitError(f"the file has several signals, {', '.join(usual)}: copy one of them into a new file")
    return next(iter(usual or tables[: len(tables) == 1]), None)


def _from_leads(
    arrays: Mapping[str, Any], hints: Hints, attributes: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Signals:
    """Make signals of one array per lead, each with a unit and a rate of its own or those of the file."""
    leads = [name for name, array in arrays.items() if standard_name(name) in LEADS and array.ndim == 1]
    if not leads:
        raise UnreadableRecordError(f"the file has no array of a signal: it has {', '.join(arrays)[:200] or 'none'}")
    _refuse_record(hints)
    sources = [[*attributes.get(name, ()), arrays] for name in leads]
    columns = [_numbers(arrays[name]) for name in leads]
    for column, said in zip(columns, sources, strict=True):
        _check_gain([column], said)
    found = from_columns(columns, leads, units=[_said("unit", said, 1)[0] or "" for said in sources])
    rates = tuple(_said("rate", said, 1)[0] for said in sources)
    return _with_patient(replace(found, sampling_rates=rates), sources[0])


def read_parquet(path: Path, hints: Hints) -> Signals:
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
        label = "" if name.startswith("__index_level") else str(name)
        if pa.types.is_nested(column.type):
            raise UnreadableRecordError(f"the column {label} holds lists: write one row per sample")
        if any(is_one(column.type) for is_one in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)):
            names.append(label or "index")
            columns.append(np.asarray(column.to_numpy(), np.float64))
        elif pa.types.is_temporal(column.type) and not column.null_count and len(column.unique()) > 1:
            names.append(f"{label or 'time'} (s)")
            columns.append(_seconds(column))
        else:
            texts.append(label)
            check_one_record(label, column.to_pandas().dropna().to_numpy(object))
    if not columns:
        raise UnreadableRecordError("the Parquet file has no column of numbers")
    left_out = tuple(f"the column {name} of text left out" for name in texts if name)
    found = from_columns(columns, names, hints=hints)
    return replace(found, findings=(*left_out, *found.findings))


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
        array = np.asarray(array[find_record(array.shape[0], hints.record)])
    else:
        _refuse_record(hints)
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


def find_record(n_records: int, record: str | int | None, ids: Sequence[str] | None = None) -> int:
    """Return the position of one of many records.

    Parameters
    ----------
    n_records : int
        How many there are; the only one need not be chosen.
    record : str, int or None
        A text is an identifier, where there are any. A number is an identifier or a position from 0.
    ids : sequence of str, optional
        The identifiers of all records.

    Raises
    ------
    EcgkitError
        If there is no such record, or if a number is the identifier of one record and the position of another.
    """
    if record is None:
        if n_records != 1:
            raise EcgkitError(
                f"the file has {n_records:,} records: give record=, the position from 0 or the identifier"
            )
        return 0
    named = [] if ids is None else np.flatnonzero(np.asarray(ids) == str(record)).tolist()
    if len(named) > 1:
        raise EcgkitError(f"record is {record!r}, the identifier of {len(named)} records: give a position from 0")
    try:
        position = int(record) if isinstance(record, str) and ids is None else operator.index(record)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a text that is an identifier, or nothing of the kind
        position = -1
    if ids is not None and named and 0 <= position < n_records and named != [position]:
        raise EcgkitError(
            f"record {record} is the identifier of position {named[0]}, and position {position} has the identifier "
            f'{ids[position]}: give the identifier as a text, record="{record}" or record="{ids[position]}" '
            f"(at the command line --record '\"{record}\"')"
        )
    position = named[0] if named else position
    if not 0 <= position < n_records:
        raise EcgkitError(f"record is {record!r} and the file has {n_records:,} records: give a position from 0")
    return position


def _refuse_record(hints: Hints) -> None:
    """Refuse a choice where there is only one record."""
    if hints.record is not None:
        raise EcgkitError(f"record is {hints.record!r} and the file has one record: leave the argument out")


def _identifiers(arrays: Mapping[str, Any], n_records: int) -> list[str] | None:
    """Return the identifiers of all records as texts, None in a file without."""
    for name in KEYS["ids"]:
        if name in arrays and arrays[name].shape == (n_records,):
            values = np.asarray(arrays[name]).tolist()
            return [str(int(x)) if isinstance(x, float) and x.is_integer() else _text(x) for x in values]
    return None


def _of_record(source: Mapping[str, Any], position: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the facts of a file of many records for one of them; a list of one text per lead serves all."""
    found, per_lead = {}, (*KEYS["leads"], *KEYS["unit"])
    for name in FACTS & set(source):
        value = source[name]
        is_per_record = 1 < shape[0] == next(iter(np.shape(value)), 0)
        is_per_lead = name in per_lead and np.ndim(value) == 1 and shape[0] in shape[1:]
        found[name] = value[position] if is_per_record and not is_per_lead else value
    return found


def _numbers(array: np.ndarray) -> np.ndarray:
    """Return an array of numbers as float64."""
    if array.dtype.kind not in "iuf":
        raise UnreadableRecordError(f"an array of type {array.dtype} has no samples")
    return np.asarray(array, np.float64)


def _said(kind: str, sources: Sequence[Mapping[str, Any]], n: int) -> list[Any]:
    """Return the rate or unit of each of n signals as a file says it, None where it does not."""
    found: list[tuple[str, list[Any]]] = []
    for name, value in ((name, source[name]) for source in sources for name in KEYS[kind] if name in source):
        items = np.asarray(value).ravel().tolist()
        items = items[:1] * n if len(set(items)) == 1 else items
        values = [_rate(item) if kind == "rate" else _text(item).strip() for item in items if len(items) == n]
        if any(values):
            found.append((name, values))
    for (name, values), (other, others) in pairwise(found):
        if any(a != b and (millivolts(str(a)) or a) != millivolts(str(b)) for a, b in zip(values, others, strict=True)):
            raise EcgkitError(f"the file has {name} {_listed(values)} and {other} {_listed(others)}: keep one of them")
    return found[0][1] if found else [None] * n


def _listed(values: Sequence[Any]) -> str:
    """Return the different values for a message."""
    return ", ".join(dict.fromkeys(map(str, values)))[:100]


def _rate(value: Any) -> float:
    """Return a sampling rate in Hz, also of a text such as ``"500 Hz"``."""
    number = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(?:Hz)?", _text(value).strip(), re.IGNORECASE)
    return check_rate(float(number[1]) if number else value)


def _lead_names(sources: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of the leads as a file says them; texts of no lead count only where there are no others."""
    found = [
        tuple(map(standard_name, _texts(source[key]))) for source in sources for key in KEYS["leads"] if key in source
    ]
    found = [names for names in found if set(names) & set(LEADS)] or list(filter(None, found[:1]))
    if len(set(found)) > 1:
        raise EcgkitError("the file has the names of its leads twice, and they differ: keep those that are right")
    return found[0] if found else ()


def _check_gain(signals: Sequence[Vector], sources: Sequence[Mapping[str, Any]]) -> None:
    """Refuse whole numbers next to a gain."""
    gain = next((name for source in sources for name in KEYS["gain"] if name in source), None)
    if gain:
        check_scaled(signals, gain)


def _with_patient(found: Signals, sources: Sequence[Mapping[str, Any]]) -> Signals:
    """Add age and sex, if a file has one of each."""
    facts = {}
    for kind in ("age", "sex"):
        values = [np.asarray(source[name]) for source in sources for name in KEYS[kind] if name in source]
        said = {value.item() for value in values if value.size == 1}
        facts[kind] = said.pop() if len(said) == 1 else None
    age = facts["age"]
    return replace(
        found, age=known_age(age) if isinstance(age, (int, float)) else None, sex=known_sex(_text(facts["sex"]))
    )


def _texts(value: Any) -> list[str]:
    """Return the texts of an array, also of one with commas; nothing for numbers."""
    array = np.asarray(value)
    texts = [] if array.dtype.kind in "iufb" else [_text(item) for item in array.ravel()]
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
