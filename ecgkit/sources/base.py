"""What a source of ECGs is: a table of records, a table of labels for each label set, and ``read(record_id)``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.signals.ecg import ECG
from ecgkit.stats.identifiers import as_identifiers

RECORD_COLUMNS = {
    "record_id": "string",
    "patient_id": "string",
    "fold": "int64",
    "age": "float64",  # years, NaN where unknown; "over 89" is 90 with age_over_89 true
    "age_over_89": "bool",
    "sex": "string",  # "male", "female" or missing
    "height": "float64",  # cm
    "weight": "float64",  # kg
    "device": "string",
    "site": "string",
    "recording_date": "string",
    "heart_axis": "string",
    "infarction_stadium1": "string",
    "infarction_stadium2": "string",
    "validated_by_human": "boolean",
    "baseline_drift": "string",
    "static_noise": "string",
    "burst_noise": "string",
    "electrodes_problems": "string",
    "extra_beats": "string",
    "pacemaker": "string",
    "report": "string",
    "scp_codes": "string",  # JSON: SCP code -> likelihood
}
"""Columns and types of ``Source.records``, the same for every source; text that is blank is missing (`pandas.NA`)."""


class RecordReader(Protocol):
    """What a chunk reads from: a source, or the light stand-in that the source gives."""

    def read(self, record_id: str) -> ECG:
        """Read one record in mV."""

    def read_microvolts(self, record_id: str) -> NDArray[np.int16] | None:
        """Read one record as integers, or give None."""


class Source(ABC):
    """A set of 12-lead ECGs with metadata, folds and labels; picklable, so that worker processes can read from it.

    Attributes
    ----------
    name : str
        The word that names the source on the command line and in folder names.
    version : str
        The version of the data.
    sampling_rate : int
        Samples per second of every record, in Hz.
    n_samples : int
        Samples a lead of every record.
    records : DataFrame
        One row a record, a fresh index ``0..n-1``, the columns of `RECORD_COLUMNS`.
    labels : dict of str to DataFrame
        For each label set one boolean column a class, the rows as in ``records``.
    """

    name: str
    version: str
    sampling_rate: int
    n_samples: int
    records: pd.DataFrame
    labels: dict[str, pd.DataFrame]

    @abstractmethod
    def read(self, record_id: str) -> ECG:
        """Read one record.

        Parameters
        ----------
        record_id : str
            A value of ``records["record_id"]``.

        Returns
        -------
        ECG
            Twelve leads in mV; NaN where the source has no value.

        Raises
        ------
        UnreadableRecordError
            If the record is truncated, fails its checksum, or lacks leads.
        """

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """Everything that decides what the records contain, as JSON data: equal identities give equal data sets."""

    def describe(self) -> str:
        """Say what this is in one line: name, version, records, patients, sampling rate, and what part of the whole.

        Returns
        -------
        str
        """
        n_records, n_patients = len(self.records), self.records["patient_id"].nunique()
        return (
            f"{self.name} {self.version}: {n_records:,} records of {n_patients:,} patients at {self.sampling_rate} Hz"
        )

    def reader(self, record_ids: Sequence[str]) -> RecordReader:
        """Give what a worker process needs to read these records; a source with large tables gives less than itself.

        Parameters
        ----------
        record_ids : sequence of str
            The records that the worker will read.

        Returns
        -------
        RecordReader
        """
        del record_ids
        return self

    def read_microvolts(self, record_id: str) -> NDArray[np.int16] | None:
        """Read one record as integers of microvolts if the source stores exactly these, without a detour over floats.

        Parameters
        ----------
        record_id : str
            A value of ``records["record_id"]``.

        Returns
        -------
        ndarray of int16, shape (12, samples), or None
            None where the source has no such short cut: `read` then serves.
        """
        del record_id
        return None


def record_table(columns: dict[str, Sequence[object]] | pd.DataFrame) -> pd.DataFrame:
    """Make a table with the columns, order and types of `RECORD_COLUMNS`; columns that are not given are missing."""
    table = pd.DataFrame(columns).reset_index(drop=True)
    defaults = {"age_over_89": False}
    for name, kind in RECORD_COLUMNS.items():
        if name not in table:
            table[name] = defaults.get(name, pd.NA if kind in ("string", "boolean") else np.nan)
    for name in ("record_id", "patient_id"):
        table[name] = as_identifiers(table[name])
    return table[list(RECORD_COLUMNS)].astype(RECORD_COLUMNS)
