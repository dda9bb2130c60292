"""WFDB records, PhysioNet's headers (.hea) with their signal files (.dat, .mat)."""

from __future__ import annotations

from ecgkit.readers.wfdb.header import existing
from ecgkit.readers.wfdb.record import WfdbFiles, read_record, read_wfdb, read_wfdb_signals

__all__ = ["WfdbFiles", "existing", "read_record", "read_wfdb", "read_wfdb_signals"]
