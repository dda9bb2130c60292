"""WFDB records as `Signals`."""

from __future__ import annotations

from pathlib import Path

from ecgkit.readers.base import Hints, Signals
from ecgkit.readers.wfdb import read_record
from ecgkit.signals.ecg import LEADS


def read_wfdb(path: Path, _hints: Hints) -> Signals:
    """Read a WFDB record by any of its files."""
    ecg = read_record(path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat") else path)
    rows = [row for row, name in enumerate(LEADS) if name not in ecg.missing_leads]
    return Signals(
        tuple(ecg.signal[row] for row in rows), tuple(LEADS[row] for row in rows), ("mV",) * len(rows),
        (ecg.sampling_rate,) * len(rows), path.stem, ecg.age, ecg.sex, ecg.metadata, tuple(ecg.findings),
    )  # fmt: skip
