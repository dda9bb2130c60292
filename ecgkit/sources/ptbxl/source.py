"""PTB-XL, 21,799 clinical 12-lead ECGs of 10 s from PhysioNet, or a part of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, printable
from ecgkit.readers.wfdb import WfdbFiles
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Source
from ecgkit.sources.csv_table import CsvTable
from ecgkit.sources.ptbxl import folder as layout
from ecgkit.sources.ptbxl import tables

DURATION = 10


class PtbXl(Source):
    """PTB-XL 1.0.1 to 1.0.3, read from a folder with PhysioNet's layout.

    A folder may hold a part of PTB-XL in one of three ways. Its ``ptbxl_database.csv`` lists only the records that are
    there. Or a file ``ecgkit_manifest.json`` is next to the whole table: the one that `ecgkit.sources.ptbxl.download`
    writes has a key ``first``, such as ``{"100": 21799, "500": 500}``, the number of records from the first on that
    are there at each rate; one written by hand, ``{"part": true}``, with ``reason`` and ``version`` (of PTB-XL) as
    options, leaves out the records whose files are not there.

    Parameters
    ----------
    folder : Path or str
        The folder.
    sampling_rate : int, default 100
        100 or 500 Hz.

    Attributes
    ----------
    folder : Path
        The folder, absolute.
    part : dict or None
        ``{"part": True, "reason": ...}``, or a manifest written by hand; None for a whole PTB-XL.

    Raises
    ------
    EcgkitError
        If the folder is missing, is not PTB-XL, lacks records without being marked as a part, or has tables that cannot
        be understood.

    References
    ----------
    Wagner, P. et al. (2020). PTB-XL, a large publicly available electrocardiography dataset. Scientific Data 7, 154.
    """

    name = "ptbxl"
    folder: Path
    sampling_rates = tuple(layout.FILE_COLUMNS)
    columns = tables.COLUMNS
    all_false = dict.fromkeys(tables.LABEL_SETS, "unlabelled")
    licence = "CC BY 4.0"
    citation = "Wagner et al. (2022), PTB-XL, PhysioNet, https://doi.org/10.13026/kfzx-aw45"

    def __init__(self, folder: Path | str, *, sampling_rate: int = 100) -> None:
        if sampling_rate not in layout.FILE_COLUMNS:
            raise EcgkitError(f"PTB-XL has no sampling rate of {sampling_rate} Hz: choose 100 or 500")
        self.folder = Path(folder).absolute()
        self.sampling_rate = sampling_rate
        self.n_samples = DURATION * sampling_rate
        layout.check_folder(Path(folder))
        table = CsvTable(self.folder / layout.TABLES[0], tables.RECORD_COLUMNS)
        statements = CsvTable(self.folder / layout.TABLES[1], tables.STATEMENT_COLUMNS)
        records, labels = tables.make_records(table), tables.make_labels(tables.parse_codes(table), statements)
        files = table.rows[layout.FILE_COLUMNS[sampling_rate]].fillna("")
        manifest = layout.read_manifest(self.folder) or {}
        self.version = layout.find_version(self.folder, len(records), manifest)
        self.part = layout.describe_part(manifest, len(records), sampling_rate)
        states = layout.find_record_files(self.folder, sampling_rate)
        chosen = self._select_present(files, states, manifest)
        self.records = records[chosen].reset_index(drop=True)
        self.labels = {name: classes[chosen].reset_index(drop=True) for name, classes in labels.items()}
        paths = files[chosen].tolist()
        self._files = WfdbFiles(str(self.folder), dict(zip(self.records["record_id"], paths, strict=True)))
        self._files_sha256 = _sha256("\n".join(f"{file} {states.get(file)}" for file in paths).encode())

    def read(self, record_id: str) -> ECG:
        """Read one record; see `Source.read`."""
        if record_id not in self._files.files:
            raise EcgkitError(f"no record {record_id!r} in {self.folder}: it has {len(self._files.files):,} records")
        return self._files.read(record_id)

    def reader(self, record_ids: Sequence[str]) -> WfdbFiles:
        """Return what a worker process needs to read these records, without the tables."""
        return self._files.subset(record_ids)

    def identity(self) -> dict[str, object]:
        """Return what determines the contents of the records: tables, and size and time of change of every file."""
        texts = [(self.folder / name).read_bytes() for name in layout.TABLES]
        return {
            "source": self.name,
            "version": self.version,
            "part": self.part,
            "sampling_rate": self.sampling_rate,
            "n_records": len(self.records),
            "tables_sha256": _sha256(b"".join([*texts, "\n".join(self.records["record_id"]).encode()])),
            "files_sha256": self._files_sha256,
        }

    def describe(self) -> str:
        """Return one line; see `Source.describe`."""
        part = f"; a part: {self.part.get('reason', layout.MANIFEST)}" if self.part else ""
        return printable(super().describe() + part)

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return True if a folder holds the table of PTB-XL."""
        return (folder / layout.TABLES[0]).is_file()

    @classmethod
    def download(cls, folder: Path, **options: Any) -> str:
        """Download PTB-XL; see `ecgkit.sources.ptbxl.download.download`."""
        from ecgkit.sources.ptbxl.download import download

        return str(download(folder, **options))

    def _select_present(
        self, files: pd.Series[str], states: Mapping[str, str], manifest: Mapping[str, Any]
    ) -> NDArray[np.bool_]:
        """Return which rows have files; refuse if others are missing from a folder that is not marked a part."""
        rate = self.sampling_rate
        asked = np.arange(len(files)) < layout.n_complete(manifest, len(files), rate)
        # A name that no file can have is the fault of one record, which is quarantined.
        present = (files.isin(states.keys()) | files.str.contains("\0", regex=False)).to_numpy(dtype=bool)
        missing = asked & ~present
        if (missing.any() and not manifest.get("part")) or not (asked & present).any():
            first = f", the first is {files[missing].iloc[0]!r}" if missing.any() else ""
            raise EcgkitError(
                f"{missing.sum():,} of {asked.sum():,} records of {self.folder} have no files at {rate} Hz{first}: "
                f"complete the folder, by {layout.DOWNLOAD} or by hand, choose another rate, or, if it is meant to be "
                f'a part, write {{"part": true}} to {layout.MANIFEST} in it'
            )
        return np.asarray(asked & present)


def _sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()
