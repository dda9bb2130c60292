"""Read EDF, EDF+ and BDF."""

from __future__ import annotations

import re
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import EcgkitError, UnreadableRecordError, require
from ecgkit.readers.base import Hints, Signals, Vector, check_size, known_age, known_sex, scaled, standard_name

LARGEST = 128 * 2**20
_SAMPLE_BYTES = {True: 3, False: 2}


def read_edf(path: Path, _hints: Hints) -> Signals:
    """Read an EDF, EDF+ or BDF file without interruptions.

    References
    ----------
    Kemp and Olivier, Clinical Neurophysiology 2003, https://www.edfplus.info/specs/edfplus.html.
    """
    edfio = require("edfio", "formats")
    check_size(path.stat().st_size, LARGEST, path.name)
    with path.open("rb") as start:
        is_bdf = start.read(1) == b"\xff"
    is_complete = _check_length(path, _SAMPLE_BYTES[is_bdf])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = (edfio.read_bdf if is_bdf else edfio.read_edf)(path)
        if not file.signals:
            raise UnreadableRecordError("the file has annotations only, no signal")
        if file.reserved.startswith(("EDF+D", "BDF+D")) and not file.is_continuous:
            raise UnreadableRecordError("the recording is interrupted (EDF+D): export it without gaps")
        signals = [_signal(item) for item in file.signals]
        patient = _patient(file)
    notes = {" ".join(str(item.message).split())[:120] for item in caught}
    findings = (
        [] if is_complete else ["the number of data records was not stated and follows from the length of the file"]
    )
    return Signals(
        signals=tuple(values for values, _ in signals),
        names=tuple(_name(item.label) for item in file.signals),
        units=tuple(unit for _, unit in signals),
        sampling_rates=tuple(float(item.sampling_frequency) for item in file.signals),
        age=patient[0],
        sex=patient[1],
        metadata={"format": "BDF" if is_bdf else "EDF"},
        findings=tuple(findings + sorted(notes)),
    )


def _check_length(path: Path, sample_bytes: int) -> bool:
    """Check that a file has as many bytes as its header announces; return False if it announces none."""
    with path.open("rb") as file:
        head = file.read(256)
        try:
            header, records, duration = int(head[184:192]), int(head[236:244]), float(head[244:252])
            n_signals = int(head[252:256])
            if not (0 < n_signals <= 1024 and header == 256 * (n_signals + 1) and duration >= 0):
                raise ValueError("the header is inconsistent")
            rest = file.read(header - 256)
            counts = [int(rest[216 * n_signals + 8 * row : 216 * n_signals + 8 * row + 8]) for row in range(n_signals)]
        except (ValueError, OverflowError) as error:
            raise UnreadableRecordError(f"the header of the EDF file cannot be read: {str(error)[:100]}") from error
    if min(counts) <= 0:
        raise UnreadableRecordError("a signal of the EDF file has no samples")
    found = path.stat().st_size - header
    per_record = sample_bytes * sum(counts)
    if records == -1:
        records = found // per_record
    if records <= 0 or found < records * per_record:
        raise UnreadableRecordError(
            f"the file is truncated: it has {found:,} of {records * per_record:,} bytes of samples"
        )
    return int(head[236:244]) != -1


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
    values, unit = scaled(item.data, item.physical_dimension.strip())
    return values.astype(np.float32), unit


def _patient(file: Any) -> tuple[float | None, str | None]:
    """Return age and sex, each None if the header does not have it."""
    try:
        sex = known_sex(file.patient.sex)
    except (ValueError, IndexError, EcgkitError):
        sex = None
    try:
        born, recorded = file.patient.birthdate, file.startdate
        age = (recorded - born).days // 365.2425 if isinstance(born, date) else None
    except (ValueError, IndexError):
        age = None
    return known_age(age), sex
