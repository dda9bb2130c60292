"""CODE-15%: 345,779 ECGs of primary care in Minas Gerais, in parts of HDF5."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from ecgkit.errors import EcgkitError
from ecgkit.readers import open_ecg
from ecgkit.readers.base import RecordFiles
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Column, record_table
from ecgkit.sources.codes import SUPERCLASS
from ecgkit.sources.csv_table import CsvTable
from ecgkit.sources.fitted import FittedSource, states_sha256
from ecgkit.stats.folds import assign_folds

TABLE = "exams.csv"
FINDINGS = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")
CONDUCTION = ("1dAVb", "RBBB", "LBBB")


class Code15(FittedSource):
    """CODE-15% as Zenodo publishes it: ``exams.csv`` and the parts ``exams_part*.hdf5``, all or some of them.

    Records whose part is not in the folder are left out. The padding with zeros is removed before a record is cut or
    filled to its length. The label set ``findings`` has the six classes of the data set. In ``superclass``, NORM is a
    record that the report calls a normal ECG, and every other one is known to lack it; CD is one with a block, and is
    known to be absent from a normal ECG only, since the six classes name few disturbances.

    Parameters
    ----------
    folder : Path or str
        The folder.
    sampling_rate : int, default 100
        In Hz; every record is resampled to it, from 400.
    seconds : float, default 10.0
        Length of each record.
    seed : int, default 0
        Of the folds.
    scale : float, default 1.0
        The mV that a stored 1 stands for. Its authors say mV; users who compared the amplitudes with those of other
        data sets found 0.5 [1]_.

    Attributes
    ----------
    n_absent : int
        Records whose part is not in the folder.

    Raises
    ------
    EcgkitError
        If the table is not that of CODE-15%, or no part is there.

    References
    ----------
    Ribeiro, A. H. et al. (2020). Automatic diagnosis of the 12-lead ECG using a deep neural network. Nature
    Communications 11, 1760.

    .. [1] https://github.com/antonior92/ecg-age-prediction/issues/5
    """

    name = "code15"
    version = "1.0.0"
    columns = MappingProxyType(
        {
            "normal_ecg": Column("boolean"),
            "death": Column("boolean"),
            "follow_up": Column("float64", "years"),
            "trace_file": Column("string"),
        }
    )
    all_false = MappingProxyType({"findings": "negative", SUPERCLASS: "negative"})
    licence = "CC BY 4.0"
    citation = "Ribeiro et al. (2021), CODE-15%, Zenodo, https://doi.org/10.5281/zenodo.4916206"

    def __init__(
        self,
        folder: Path | str,
        *,
        sampling_rate: int = 100,
        seconds: float = 10.0,
        seed: int = 0,
        scale: float = 1.0,
    ) -> None:
        if not 0 < scale < np.inf:
            raise EcgkitError(f"scale is {scale:g}: give the mV that a stored 1 stands for, such as 0.5")
        self.scale = scale
        super().__init__(folder, sampling_rate=sampling_rate, seconds=seconds, seed=seed)

    def _open(self, seed: int) -> Code15Files:
        """Read the tables, and return what reads the records."""
        table = CsvTable(
            self.folder / TABLE, ("exam_id", "age", "is_male", "patient_id", "normal_ecg", "trace_file", *FINDINGS)
        )
        table.refuse_blanks("exam_id", "patient_id")
        table.refuse_duplicates("exam_id")
        parts = sorted({name for name in table.texts("trace_file").dropna() if (self.folder / name).is_file()})
        if not parts:
            raise EcgkitError(f"no part exams_part*.hdf5 of {TABLE} is in {self.folder}: unpack one of them there")
        chosen = table.texts("trace_file").isin(parts)
        self.n_absent = int((~chosen).sum())
        columns, findings, normal = self._columns(table), self._findings(table), table.flags("normal_ecg")
        labels = {"findings": findings, SUPERCLASS: _superclass(findings, normal)}
        self.labels = {name: one[chosen].reset_index(drop=True) for name, one in labels.items()}
        some = {name: values[chosen].reset_index(drop=True) for name, values in columns.items()}
        folds = assign_folds(some["patient_id"], self.labels["findings"], seed=seed)
        self.records = record_table(some | {"fold": folds}, self.columns)
        self._files_sha256 = states_sha256(self.folder, parts)
        parts_of = dict(zip(self.records["record_id"], self.records["trace_file"], strict=True))
        return Code15Files(str(self.folder), parts_of, self.scale)

    @staticmethod
    def _columns(table: CsvTable) -> dict[str, pd.Series]:
        """Return the columns of the table of records but folds."""
        sexes = table.flags("is_male").map({True: "male", False: "female"})
        found: dict[str, pd.Series] = {
            "record_id": table.texts("exam_id"),
            "patient_id": table.texts("patient_id"),
            "age": table.numbers("age"),
            "sex": sexes.astype("string"),
            "normal_ecg": table.flags("normal_ecg"),
            "trace_file": table.texts("trace_file"),
        }
        if {"death", "timey"} <= set(table.rows):
            found |= {"death": table.flags("death"), "follow_up": table.numbers("timey")}
        return found

    @staticmethod
    def _findings(table: CsvTable) -> pd.DataFrame:
        """Return the six classes of the data set."""
        return pd.DataFrame({name: table.flags(name) for name in FINDINGS})

    def identity(self) -> dict[str, object]:
        """Return what determines the contents of the records; see `FittedSource.identity`."""
        return super().identity() | {"scale": self.scale}

    def describe(self) -> str:
        """Return one line; see `Source.describe`."""
        absent = f"; left out, in parts that are not there: {self.n_absent:,}" if self.n_absent else ""
        return super().describe() + absent

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return True if a folder holds the table of CODE-15%."""
        return (folder / TABLE).is_file()


def _superclass(findings: pd.DataFrame, normal: pd.Series) -> pd.DataFrame:
    """Return NORM, and CD, which is known where there is a block or the ECG is normal."""
    block = findings[list(CONDUCTION)].fillna(value=False).any(axis=1)
    conduction = block.astype("boolean").mask(~block & ~normal.fillna(value=False))
    return pd.DataFrame({"NORM": normal.astype("boolean"), "CD": conduction})


@dataclass(frozen=True)
class Code15Files(RecordFiles):
    """Records by their ``exam_id``, each with the part that it is in; ``scale`` is the mV of a stored 1."""

    scale: float

    def read(self, record_id: str) -> ECG:
        """Read one record without its padding, at 400 Hz in mV."""
        ecg = open_ecg(Path(self.folder) / self.files[record_id], record=record_id, unit="mV")
        return replace(ecg, signal=np.float32(self.scale) * ecg.signal)
