"""The database of Shandong Provincial Hospital: 25,770 ECGs with statements of AHA, ACCF and HRS, in HDF5."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pandas as pd

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers import open_ecg
from ecgkit.readers.base import RecordFiles, known_sex
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.sources.base import Column, record_table
from ecgkit.sources.codes import CODES, SUPERCLASS, code_labels
from ecgkit.sources.csv_table import CsvTable
from ecgkit.sources.fitted import FittedSource, states_sha256
from ecgkit.stats.folds import assign_folds

TABLE, FILES = "metadata.csv", "records"
REQUIRED = ("ECG_ID", "AHA_Code", "Patient_ID", "Age", "Sex", "N")
RATE = 500


class Sph(FittedSource):
    """SPH as figshare publishes it: ``metadata.csv`` and one HDF5 file per record in ``records``.

    A statement such as ``60+310`` is the primary code 60 with a modifier; modifiers are left out of the labels, and a
    code that a record has twice counts once. Parameters as for `FittedSource`; the records have 500 Hz and 10 to 60 s.

    Raises
    ------
    EcgkitError
        If the table is not that of SPH.

    References
    ----------
    Liu, H. et al. (2022). A large-scale multi-label 12-lead electrocardiogram database with standardized diagnostic
    statements. Scientific Data 9, 272.
    """

    name = "sph"
    version = "1"
    columns = MappingProxyType(
        {"aha": Column("string"), "date": Column("string"), "file_seconds": Column("float64", "s")}
    )
    all_false = MappingProxyType({SUPERCLASS: "unlabelled", CODES: "unlabelled"})
    licence = "CC BY 4.0"
    citation = "Liu et al. (2022), figshare, https://doi.org/10.6084/m9.figshare.c.5779802.v1"

    def _open(self, seed: int) -> SphFiles:
        """Read the tables, and return what reads the records."""
        table = CsvTable(self.folder / TABLE, REQUIRED)
        table.refuse_blanks("ECG_ID", "Patient_ID")
        table.refuse_duplicates("ECG_ID")
        if not (self.folder / FILES).is_dir():
            raise EcgkitError(f"{self.folder} has no folder {FILES}: unpack records.tar.gz there")
        texts = table.texts("AHA_Code").fillna("")
        self.labels, self.unmapped = code_labels([primary_codes(text) for text in texts], "aha")
        lengths = table.integers("N", low=1)
        found: dict[str, pd.Series] = {
            "record_id": table.texts("ECG_ID"),
            "patient_id": table.texts("Patient_ID"),
            "age": table.numbers("Age"),
            "sex": table.texts("Sex").map(known_sex, na_action="ignore").astype("string"),
            "aha": texts.mask(texts == ""),
            "file_seconds": lengths / RATE,
        }
        if "Date" in table.rows:
            found["date"] = table.texts("Date")
        folds = assign_folds(found["patient_id"], self.labels[SUPERCLASS], seed=seed)
        self.records = record_table(found | {"fold": pd.Series(folds)}, self.columns)
        self._files_sha256 = states_sha256(self.folder / FILES, [f"{name}.h5" for name in self.records["record_id"]])
        return SphFiles(str(self.folder / FILES), dict(zip(self.records["record_id"], lengths.tolist(), strict=True)))

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return True if a folder holds the table and the folder of SPH."""
        return (folder / TABLE).is_file() and (folder / FILES).is_dir()


def primary_codes(text: str) -> list[str]:
    """Return the primary codes of statements such as ``"60+310;147"``, each once."""
    codes = (statement.split("+")[0].strip() for statement in text.split(";"))
    return list(dict.fromkeys(code for code in codes if code))


class SphFiles(RecordFiles):
    """Records in files of their names, each with the samples per lead that the table says it has."""

    def read(self, record_id: str) -> ECG:
        """Read one record, at 500 Hz in mV."""
        ecg = open_ecg(Path(self.folder) / f"{record_id}.h5", sampling_rate=RATE, unit="mV", leads=LEADS)
        if ecg.n_samples != self.files[record_id]:
            raise UnreadableRecordError(f"{record_id} has {ecg.n_samples:,} samples, not {self.files[record_id]:,}")
        return ecg
