"""WFDB records as `Signals`."""

from __future__ import annotations

from pathlib import Path

from ecgkit.errors import UnreadableRecordError
from ecgkit.readers.base import Hints, Signals, scaled, standard_name
from ecgkit.readers.wfdb import read_record, read_wfdb_signals
from ecgkit.readers.wfdb.header import NO_GAIN
from ecgkit.readers.wfdb.record import read_patient
from ecgkit.signals.ecg import LEADS


def read_wfdb(path: Path, hints: Hints) -> Signals:
    """Read a WFDB record by any of its files: its leads only if that is what is asked for, else all signals."""
    if path.suffix.lower() not in (".hea", ".dat", ".mat"):
        raise UnreadableRecordError(
            f"{path.name} is a WFDB header: name it {path.name}.hea next to its signals, or give all files "
            "of the record as {name: bytes} or in one zip"
        )
    start = hints.start or 0.0
    if hints.only_leads and hints.unit is None and hints.leads is None:
        ecg = read_record(path, start=start, duration=hints.duration)
        rows = [row for row, name in enumerate(LEADS) if name not in ecg.missing_leads]
        signals, names = tuple(ecg.signal[row] for row in rows), tuple(LEADS[row] for row in rows)
        rates, units = (ecg.sampling_rate,) * len(rows), ("mV",) * len(rows)
        return Signals(signals, names, units, rates, path.stem, ecg.age, ecg.sex, ecg.metadata, start=start)
    found = read_wfdb_signals(path, start=start, duration=hints.duration)
    age, sex = read_patient(found.comments)
    pairs = [scaled(*pair) for pair in zip(found.signals, found.units, strict=True)]
    return Signals(
        signals=tuple(values for values, _ in pairs),
        names=tuple(map(standard_name, found.names)),
        units=tuple("" if unit == NO_GAIN else unit for _, unit in pairs),
        sampling_rates=found.sampling_rates,
        record_id=path.stem,
        age=age,
        sex=sex,
        metadata={"comments": found.comments} if found.comments else {},
        start=start,
    )
