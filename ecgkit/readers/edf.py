"""Read EDF, EDF+ and BDF."""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import EcgkitError, UnreadableRecordError, require
from ecgkit.readers.base import (
    Hints,
    Signals,
    Vector,
    check_size,
    known_age,
    known_sex,
    scaled,
    standard_name,
    years_between,
)

LARGEST = 128 * 2**20
_SAMPLE_BYTES = {True: 3, False: 2}


@dataclass(frozen=True)
class _Layout:
    """The positions of the data records in a file."""

    header: int  # bytes
    records: int
    is_announced: bool  # whether the header says how many records there are
    seconds: float  # of a record
    record: int  # bytes of a record


def read_edf(path: Path, hints: Hints) -> Signals:
    """Read an EDF, EDF+ or BDF file without interruptions; of a part that is asked for, only its data records.

    References
    ----------
    Kemp and Olivier, Clinical Neurophysiology 2003, https://www.edfplus.info/specs/edfplus.html.
    """
    edfio = require("edfio", "formats")
    with path.open("rb") as start:
        head = start.read(256)
    is_bdf, is_interrupted = head[:1] == b"\xff", head[192:197] in (b"EDF+D", b"BDF+D")
    layout = _check_length(path, _SAMPLE_BYTES[is_bdf])
    # Where there are gaps, times cannot be counted in records.
    wanted = range(layout.records) if is_interrupted else _wanted(layout, hints)
    check_size(len(wanted) * layout.record, LARGEST, path.name)
    source = path if len(wanted) == layout.records else io.BytesIO(_cut(path, layout, wanted))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = (edfio.read_bdf if is_bdf else edfio.read_edf)(source)
        if not file.signals:
            raise UnreadableRecordError("the file has annotations only, no signal")
        if is_interrupted and not file.is_continuous:
            raise UnreadableRecordError("the recording is interrupted (EDF+D): export it without gaps")
        signals = [_signal(item) for item in file.signals]
        patient = _patient(file)
    notes = {" ".join(str(item.message).split())[:120] for item in caught if "indicates -1" not in str(item.message)}
    unannounced = ["the number of data records was not stated and follows from the length of the file"]
    return Signals(
        signals=tuple(values for values, _ in signals),
        names=tuple(_name(item.label) for item in file.signals),
        units=tuple(unit for _, unit in signals),
        sampling_rates=tuple(float(item.sampling_frequency) for item in file.signals),
        age=patient[0],
        sex=patient[1],
        metadata={"format": "BDF" if is_bdf else "EDF"},
        findings=(*([] if layout.is_announced else unannounced), *sorted(notes)),
        start=wanted.start * layout.seconds,
    )


def _wanted(layout: _Layout, hints: Hints) -> range:
    """Return the data records of the part that is asked for; at least one."""
    if hints.start is None and hints.duration is None:
        return range(layout.records)
    start = hints.start or 0.0
    first = min(int(start / layout.seconds), layout.records - 1)
    end = math.inf if hints.duration is None else (start + hints.duration) / layout.seconds
    return range(first, layout.records if end >= layout.records else max(first + 1, math.ceil(end)))


def _cut(path: Path, layout: _Layout, wanted: range) -> bytes:
    """Return a file of some of the data records."""
    with path.open("rb") as file:
        head = file.read(layout.header)
        file.seek(layout.header + wanted.start * layout.record)
        return head[:236] + f"{len(wanted):<8}".encode() + head[244:] + file.read(len(wanted) * layout.record)


def _check_length(path: Path, sample_bytes: int) -> _Layout:
    """Check that a file has as many bytes as its header announces."""
    with path.open("rb") as file:
        head = file.read(256)
        try:
            header, records, duration = int(head[184:192]), int(head[236:244]), float(head[244:252])
            n_signals = int(head[252:256])
            if not (0 < n_signals <= 1024 and header == 256 * (n_signals + 1) and 0 <= duration < math.inf):
                raise ValueError("the header is inconsistent")
            rest = file.read(header - 256)
            counts = [int(rest[216 * n_signals + 8 * row : 216 * n_signals + 8 * row + 8]) for row in range(n_signals)]
        except (ValueError, OverflowError) as error:
            raise UnreadableRecordError(f"the header of the EDF file cannot be read: {str(error)[:100]}") from error
    if not duration:
        raise UnreadableRecordError("the data records of the EDF file last 0 s: it has annotations only, or no rate")
    if min(counts) <= 0:
        raise UnreadableRecordError("a signal of the EDF file has no samples")
    found, per_record, is_announced = path.stat().st_size - header, sample_bytes * sum(counts), records != -1
    if not is_announced:
        records = found // per_record
    if records <= 0 or found < records * per_record:
        raise UnreadableRecordError(
            f"the file is truncated: it has {found:,} of {records * per_record:,} bytes of samples"
        )
    return _Layout(header, records, is_announced, duration, per_record)


def _name(label: str) -> str:
    """Return the lead of a label such as ``"ECG II"`` or ``"II-Ref"``, else the label."""
    name = standard_name(label)
    return (
        name if name != label.strip() else standard_name(re.sub(r"[- ]?(?:ref|avg)$", "", label, flags=re.IGNORECASE))
    )


def _signal(item: Any) -> tuple[Vector, str]:
    """Return the values of a signal and their unit."""
    low, high = item.digital_range
    if low >= high or item.physical_min == item.physical_max:
        raise UnreadableRecordError(f"signal {item.label} has no range of values: its mV are unknown")
    # A byte that is not UTF-8 is the micro sign of a machine's own encoding.
    values, unit = scaled(item.data, item.physical_dimension.strip().replace("\ufffd", "\u00b5"))
    return values.astype(np.float32), unit


def _patient(file: Any) -> tuple[float | None, str | None]:
    """Return age and sex, each None if the header does not have it."""
    try:
        sex = known_sex(file.patient.sex)
    except (ValueError, IndexError, EcgkitError):
        sex = None
    try:
        born, recorded = file.patient.birthdate, file.startdate
        age = years_between(born, recorded) if isinstance(born, date) else None
    except (ValueError, IndexError):
        age = None
    return known_age(age), sex
