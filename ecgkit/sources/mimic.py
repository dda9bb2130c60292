"""MIMIC-IV-ECG: 800,035 ECGs of a hospital in Boston, as WFDB records, with reports and measurements of the carts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pandas as pd

from ecgkit.errors import EcgkitError
from ecgkit.readers.wfdb import WfdbFiles
from ecgkit.sources.base import Column, record_table
from ecgkit.sources.csv_table import CsvTable
from ecgkit.sources.fitted import FittedSource
from ecgkit.stats.folds import assign_folds

TABLE, MEASUREMENTS = "record_list.csv", "machine_measurements.csv"
LINES = 18
"""The columns of lines of the report, ``report_0`` to ``report_17``."""
QUANTITIES = {
    "rr_interval": "ms",
    **dict.fromkeys(("p_onset", "p_end", "qrs_onset", "qrs_end", "t_end"), "ms"),
    **dict.fromkeys(("p_axis", "qrs_axis", "t_axis"), "degrees"),
}
NOT_MEASURED = (29999, 32767, 65535, -32767, -32768)
"""The numbers that stand for "not measurable"."""
STATEMENTS = {
    "sinus_rhythm": r"\bsinus (?:rhythm|bradycardia|tachycardia|arrhythmia)\b",
    "atrial_fibrillation": r"\batrial fibrillation\b",
    "atrial_flutter": r"\batrial flutter\b",
    "pacing": r"\bpac(?:ed|ing|emaker)\b",
    "normal_ecg": r"^(?:otherwise )?normal ecg\b",
    "abnormal_ecg": r"^abnormal ecg\b",
}
"""Statements of the carts' reports, as regular expressions for one of their lines, in any case."""
LABEL_SET = "machine_report"


class Mimic(FittedSource):
    """MIMIC-IV-ECG 1.0 as PhysioNet publishes it, or its demo: ``record_list.csv`` and the folder ``files``.

    It has no diagnoses. With ``machine_measurements.csv``, the report of the cart is the column ``report`` (its lines,
    separated by ``" | "``), its measurements are columns, and the label set ``machine_report`` says which of a few
    statements occur in the report: what a program wrote, which no one has confirmed. Age and sex are in MIMIC-IV.
    Whether one of the 800,000 files was replaced is not noticed: preprocess them again with ``overwrite``.

    Parameters as for `FittedSource`; the records have 500 Hz and 10 s.

    Raises
    ------
    EcgkitError
        If the tables are not those of MIMIC-IV-ECG.

    References
    ----------
    Gow, B. et al. (2023). MIMIC-IV-ECG: diagnostic electrocardiogram matched subset. PhysioNet.
    """

    name = "mimic"
    version = "1.0"
    columns = MappingProxyType(
        {"time": Column("string"), "report": Column("string")}
        | {name: Column("float64", unit) for name, unit in QUANTITIES.items()}
    )
    all_false = MappingProxyType({LABEL_SET: "negative"})
    licence: ClassVar[str] = "ODbL 1.0"
    citation: ClassVar[str] = "Gow et al. (2023), MIMIC-IV-ECG, PhysioNet, https://doi.org/10.13026/4nqg-sb35"

    def _open(self, seed: int) -> WfdbFiles:
        """Read the tables, and return what reads the records."""
        table = CsvTable(self.folder / TABLE, ("subject_id", "study_id", "ecg_time", "path"))
        table.refuse_blanks("study_id", "subject_id")
        table.refuse_duplicates("study_id")
        ids, paths = table.texts("study_id"), table.texts("path")
        wrong = paths.isna() | paths.str.startswith("/") | paths.str.contains(r"(?:^|/)\.\.(?:/|$)", na=True)
        table.refuse("path", wrong, "not a path within the folder")
        further = self._measurements(ids)
        reports = further.get("report", pd.Series(pd.NA, index=ids.index, dtype="string"))
        self.labels = {LABEL_SET: machine_labels(reports)}
        patients = table.texts("subject_id")
        found = {"record_id": ids, "patient_id": patients, "time": table.texts("ecg_time"), **further}
        found["fold"] = pd.Series(assign_folds(patients, pd.DataFrame(index=range(len(ids))), seed=seed))
        self.records = record_table(found, self.columns)
        return WfdbFiles(str(self.folder), dict(zip(self.records["record_id"], paths, strict=True)))

    def _measurements(self, ids: pd.Series) -> dict[str, pd.Series]:
        """Return report and measurements in the order of the records; nothing without the table."""
        path = self.folder / MEASUREMENTS
        if not path.is_file():
            return {}
        table = CsvTable(path, ("study_id", *QUANTITIES))
        table.refuse_duplicates("study_id")
        lines = [f"report_{number}" for number in range(LINES) if f"report_{number}" in table.rows]
        if not lines:
            raise EcgkitError(f"{path} has no column report_0: use the table that was published")
        found = {"report": join_lines([table.texts(name) for name in lines])}
        for name in QUANTITIES:
            numbers = table.numbers(name)
            found[name] = numbers.mask(numbers.isin(NOT_MEASURED))
        order = pd.Index(table.texts("study_id")).get_indexer(pd.Index(ids))
        return {
            name: values.iloc[order].reset_index(drop=True).mask(pd.Series(order < 0)) for name, values in found.items()
        }

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return True if a folder holds the list of records."""
        return (folder / TABLE).is_file()


def join_lines(lines: Sequence[pd.Series]) -> pd.Series:
    """Join the lines of each report that are not blank; missing where there are none."""
    joined = lines[0].fillna("")
    for line in lines[1:]:
        text = line.fillna("")
        both = (joined != "") & (text != "")
        joined = joined + pd.Series(" | ", index=text.index).where(both, "") + text
    return joined.mask(joined == "").astype("string")


def machine_labels(reports: pd.Series) -> pd.DataFrame:
    """Return which statements occur in a report; unknown where there is no report."""
    texts = "\n" + reports.str.replace(" | ", "\n", regex=False)
    values = {}
    for name, pattern in STATEMENTS.items():
        line = pattern.replace("^", r"\n\W*")
        values[name] = texts.str.contains(line, case=False, regex=True).astype("boolean")
    return pd.DataFrame(values)
