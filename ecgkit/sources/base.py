"""The contract of a source of ECGs: a table of records, tables of labels, and ``read(record_id)``."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import pandas as pd

from ecgkit.errors import EcgkitError, UnreadableRecordError, printable
from ecgkit.signals.ecg import ECG, OLDEST
from ecgkit.signals.prepare import repair
from ecgkit.stats.folds import split_patients
from ecgkit.stats.identifiers import alike_patients, as_identifiers

LISTED = 10
"""The number of files, records or patients that a message names of each kind."""

AllFalse = Literal["unlabelled", "negative"]


@dataclass(frozen=True)
class Column:
    """The type and unit of a column of a table of records.

    Attributes
    ----------
    dtype : str
        The pandas type: ``"string"``, ``"float64"``, ``"int64"``, ``"bool"`` or ``"boolean"`` (which can be missing).
    unit : str
        Of a quantity, such as ``"years"``; empty for text.
    """

    dtype: str
    unit: str = ""


CORE_COLUMNS = {
    "record_id": Column("string"),
    "patient_id": Column("string"),
    "fold": Column("int64"),
    "age": Column("float64", "years"),
    "sex": Column("string"),
    "height": Column("float64", "cm"),
    "weight": Column("float64", "kg"),
    "device": Column("string"),
    "site": Column("string"),
}
"""The columns that every source has. All but the first three may be missing; sex is "male", "female" or missing."""


POSSIBLE = {"age": (0, OLDEST), "height": (np.nextafter(0, 1), 300), "weight": (np.nextafter(0, 1), 700)}
"""The values of the core quantities that a person can have; others are unknown."""
IMPOSSIBLE = "impossible"
HASHED_ROWS = 2**14


class RecordReader(Protocol):
    """Reads records in a worker process: a source, or a smaller object that the source returns."""

    def read(self, record_id: str) -> ECG:
        """Read one record."""


class Source(ABC):
    """A set of 12-lead ECGs with metadata, folds and labels; picklable, so that worker processes can read from it.

    A subclass sets the class attributes, and in its constructor the attributes ``records``, ``labels``,
    ``sampling_rate`` and ``n_samples``. Its constructor takes the folder of the raw data (unless ``has_folder`` is
    False), and as keywords ``sampling_rate`` and the options of the source, with their defaults.

    Attributes
    ----------
    name : str
        The name of the source on the command line and in folder names.
    version : str
        The version of the data.
    sampling_rates : tuple of int
        The rates in Hz that the source has, the default first.
    any_rate : bool
        Whether the source resamples to any rate that is asked for.
    columns : mapping of str to Column
        The further columns of ``records``, after `CORE_COLUMNS`.
    all_false : mapping of str to {"unlabelled", "negative"}
        By label set, what a record is to which no class applies; ``"negative"`` for a set that is left out.
    licence, citation : str
        Of the data.
    has_folder : bool
        Whether there is a folder of raw data.
    folder : Path or None
        The folder of the raw data, absolute.
    sampling_rate : int
        In Hz, the same for every record.
    n_samples : int
        Samples per lead, the same for every record.
    split : tuple of float
        The shares of training, validation and test of `divide`; empty while the folds are those of the source.
    unmapped : mapping of str to int
        Diagnostic codes that are left out of the labels since no table has them, and the number of records of each.
    records : DataFrame
        One row per record, index ``0..n-1``, made by `record_table`.
    labels : dict of str to DataFrame
        By label set, the default one first: one boolean column per class, the rows as in ``records``; missing values
        are unknown.
    """

    name: str
    version: str = "unknown"
    sampling_rates: ClassVar[tuple[int, ...]]
    any_rate: ClassVar[bool] = False
    columns: Mapping[str, Column] = MappingProxyType({})
    all_false: ClassVar[Mapping[str, AllFalse]] = {}
    licence: ClassVar[str] = "unknown"
    citation: ClassVar[str] = "unknown"
    has_folder: ClassVar[bool] = True
    folder: Path | None = None

    sampling_rate: int
    n_samples: int
    split: tuple[float, ...] = ()
    unmapped: Mapping[str, int] = MappingProxyType({})
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
            In mV; NaN where the source has no value.

        Raises
        ------
        UnreadableRecordError
            If the record is truncated, fails its checksum, or has none of the twelve leads.
        """

    def example(self, record_ids: Iterable[str] | None = None) -> ECG:
        """Read the first record that can be read.

        Parameters
        ----------
        record_ids : iterable of str, optional
            In which order they are tried; by default that of ``records``.

        Returns
        -------
        ECG
            Without missing samples: gaps are filled as in a dataset.

        Raises
        ------
        UnreadableRecordError
            If none can be read.
        """
        reason = "the source has no records"
        for record_id in self.records["record_id"] if record_ids is None else record_ids:
            try:
                ecg = self.read(record_id)
            except (EcgkitError, OSError) as error:  # whatever quarantines a record
                reason = str(error)
                continue
            return replace(ecg, signal=repair(ecg.signal))
        raise UnreadableRecordError(f"no record of {self.name} can be read: {reason}")

    def reader(self, record_ids: Sequence[str]) -> RecordReader:
        """Return what a worker process needs to read these records; override it in a source with large tables."""
        del record_ids
        return self

    def identity(self) -> dict[str, object]:
        """Return what determines the contents of the records, as JSON data: by default the tables, not the signals."""
        return {
            "source": self.name,
            "version": self.version,
            "sampling_rate": self.sampling_rate,
            "n_records": len(self.records),
            "tables_sha256": tables_sha256([self.records, *self.labels.values()]),
        }

    def divide(self, parts: Sequence[float]) -> None:
        """Divide the patients anew, stratified by the classes of the first label set.

        Parameters
        ----------
        parts : sequence of float
            The shares of training, validation and test, such as ``(0.70, 0.15, 0.15)``; written as folds 1-8, 9 and 10.

        Raises
        ------
        EcgkitError
            If these are not three positive shares that sum to 1, or there are fewer than ten patients.
        """
        classes = next(iter(self.labels.values()), pd.DataFrame(index=self.records.index))
        folds = split_patients(self.records["patient_id"], classes, parts)
        self.records, self.split = self.records.assign(fold=folds), tuple(parts)

    def describe(self) -> str:
        """Return one line: name, version, records, patients and which look alike, impossible values, unmapped codes."""
        n_patients = self.records["patient_id"].nunique()
        counts = [f"{count} of {name}" for name, count in self.records.attrs.get(IMPOSSIBLE, {}).items()]
        left_out = [f"{code} ({count:,})" for code, count in self.unmapped.items()]
        alike = [" and ".join(names) for names in alike_patients(self.records["patient_id"])]
        return printable(
            f"{self.name} {self.version}: {len(self.records):,} records of {n_patients:,} patients at "
            f"{self.sampling_rate} Hz"
            + (f"; patient_ids that splits take for one patient: {listed(alike)}" if alike else "")
            + (f"; impossible values, now unknown: {', '.join(counts)}" if counts else "")
            + (f"; codes in no table (records): {', '.join(left_out)}" if left_out else "")
        )

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return True if a folder holds the raw data of this source."""
        return folder.is_dir()

    @classmethod
    def download(cls, folder: Path, **options: Any) -> str:  # noqa: ARG003 - one that downloads takes them
        """Download the raw data into a folder, or resume a download.

        Parameters
        ----------
        folder : Path
            Where the data go.
        **options
            ``rates``, the sampling rates in Hz; ``limit``, how many records of the table, from the first on;
            ``mirror``, another address; ``zip_file``, a file with the data instead of an address. The last three may
            be None.

        Returns
        -------
        str
            One line about what was downloaded.

        Raises
        ------
        EcgkitError
            If the source cannot be downloaded, or the download fails.
        """
        if not cls.has_folder:
            raise EcgkitError(f"{cls.name} needs no download: run `ecgkit preprocess {cls.name}`")
        raise EcgkitError(f"{cls.name} cannot be downloaded: put its files into {folder}")


def listed(names: Sequence[str]) -> str:
    """Return the number of names and the first of them, for a message."""
    more = ", ..." if len(names) > LISTED else ""
    return f"{len(names):,} ({', '.join(names[:LISTED])}{more})"


def record_table(
    columns: Mapping[str, Any] | pd.DataFrame, further: Mapping[str, Column] | None = None
) -> pd.DataFrame:
    """Make a table of records with the columns, order and types that a source declares.

    Parameters
    ----------
    columns : mapping of str to sequence, or DataFrame
        The values by column; columns that are absent are missing in every row, or False if they are of type ``bool``.
    further : mapping of str to Column, optional
        The columns after `CORE_COLUMNS`.

    Returns
    -------
    DataFrame
        One row per record, index ``0..n-1``. An age outside 0 to 130 years, or a height or weight that is not above 0,
        is missing; ``attrs["impossible"]`` has the number of these values by column, if there are any.
    """
    table = pd.DataFrame(columns).reset_index(drop=True)
    types = {name: column.dtype for name, column in (CORE_COLUMNS | dict(further or {})).items()}
    defaults = {"bool": False, "float64": np.nan}
    for name, dtype in types.items():
        if name not in table:
            table[name] = defaults.get(dtype, pd.NA)
    for name in ("record_id", "patient_id"):
        table[name] = as_identifiers(table[name])
    table = table[list(types)].astype(types)
    for name in POSSIBLE:
        impossible = impossible_values(table, name)
        if impossible.any():
            table.attrs[IMPOSSIBLE] = table.attrs.get(IMPOSSIBLE, {}) | {name: int(impossible.sum())}
            table[name] = table[name].mask(impossible)
    return table


def impossible_values(table: pd.DataFrame, name: str) -> pd.Series:
    """Return which values of a quantity are outside its range in `POSSIBLE`; missing ones are not."""
    return table[name].notna() & ~table[name].between(*POSSIBLE[name])


def tables_sha256(tables: Iterable[pd.DataFrame]) -> str:
    """Return the SHA-256 of the columns and values of tables; texts are hashed as objects, so some rows at a time."""
    digest = hashlib.sha256()
    for table in tables:
        digest.update(",".join(table.columns).encode())
        for first in range(0, len(table), HASHED_ROWS):
            rows = table.iloc[first : first + HASHED_ROWS]
            digest.update(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    return digest.hexdigest()
