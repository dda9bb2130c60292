"""Your own data: a folder of ECG files of any readable format, and a table ``labels.csv`` with a row per record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from ecgkit.errors import EcgkitError, printable
from ecgkit.io import file_name
from ecgkit.readers.base import Hints, RecordFiles, known_sex
from ecgkit.readers.files import find_ecg_files
from ecgkit.readers.opening import open_with_defaults
from ecgkit.signals.ecg import ECG, check_rate
from ecgkit.sources.base import CORE_COLUMNS, Column, listed, record_table
from ecgkit.sources.csv_table import CsvTable
from ecgkit.sources.fitted import FittedSource, states_sha256
from ecgkit.stats.folds import ALL_FOLDS, assign_folds, patients_in_two_parts
from ecgkit.stats.labels import MEANS

TABLE = "labels.csv"
LABEL_SET = "labels"
REQUIRED = ("record_id", "patient_id")
TALLEST_IN_METRES = 3.0
"""A height below this is in metres, not cm."""
ALMOST_ALL = 0.95
"""A column of which this share is true or false is a class with a mistake, and refused."""
NAME_CLASSES = "preprocess it with --labels A,B, which names the classes"
OWN_NAMES = (*MEANS, "flat_leads", "nan_samples")
"""Names of columns and of means over the classes that a dataset and its metrics have anyway."""


class Folder(FittedSource):
    """A folder of ECG files with a table ``labels.csv``.

    The table has the columns ``record_id`` and ``patient_id``, and where they are known ``age`` (years), ``sex`` (male
    or female), ``height`` (cm), ``weight`` (kg), ``device``, ``site`` and ``fold`` (1 to 10: 1-8 train, 9 validates, 10
    tests). A column that holds only 0, 1, true, false or blank (unknown) is a class; further columns are kept.

    A ``record_id`` is the path of a file within the folder or its name, with or without the suffix.

    Parameters
    ----------
    folder : Path or str
        The folder; files are looked for at every depth.
    sampling_rate : int, default 100
        In Hz; every record is resampled to it.
    labels : sequence of str or str, optional
        The columns that are classes, as a list or separated by commas; by default those that hold only true and false.
    seconds : float, default 10.0
        Length of each record: longer ones are cut, and what shorter ones lack is missing.
    seed : int, default 0
        Of the folds, if the table has none: patients are divided so that the classes are spread evenly.
    file_rate, unit, leads : float, str, sequence of str or str, optional
        Sampling rate in Hz, unit and names of the leads of the files that do not say them; what a file says itself
        comes first.

    Attributes
    ----------
    surplus : list of str
        The ECG files that no row of the table names; they are left out.

    Raises
    ------
    EcgkitError
        If the folder has no table, the table or an option has a wrong value, a record occurs twice, or a record has no
        file or several. All records of the last three kinds are counted in one message.
    """

    name = "folder"
    all_false = MappingProxyType({LABEL_SET: "negative"})
    licence = "that of the owner of the files"
    citation = "the owner of the files"

    def __init__(
        self,
        folder: Path | str,
        *,
        sampling_rate: int = 100,
        labels: Sequence[str] | str | None = None,
        seconds: float = 10.0,
        seed: int = 0,
        file_rate: float | None = None,
        unit: str | None = None,
        leads: Sequence[str] | str | None = None,
    ) -> None:
        rate = None if file_rate is None else check_rate(file_rate, "file_rate")
        said: dict[str, Any] = {"sampling_rate": rate, "unit": unit, "leads": leads}
        Hints(**said)  # a wrong value is refused before any file is read
        hints = {name: value for name, value in said.items() if value is not None}
        self.folder = Path(folder).absolute()
        if not self.folder.is_dir():
            kind = "is a file" if self.folder.is_file() else "does not exist"
            raise EcgkitError(f"{self.folder} {kind}: give the folder of the ECG files and their table {TABLE}")
        if not (self.folder / TABLE).is_file():
            raise EcgkitError(f"{self.folder} has no {TABLE}: write a table with record_id, patient_id and the classes")
        self.name = file_name(self.folder.name)
        table = CsvTable(self.folder / TABLE, REQUIRED)
        table.refuse_blanks(*REQUIRED)
        ids = table.texts("record_id")
        files, self.surplus = _match(self.folder, ids.tolist())
        _check_names(table)
        classes = _label_columns(table, labels)
        self.labels = {LABEL_SET: pd.DataFrame({name: table.flags(name) for name in classes})}
        self.columns, further = _further_columns(table, classes)
        self.records = record_table(_core_columns(table, self.labels[LABEL_SET], seed) | further, self.columns)
        self.version = hashlib.sha256((self.folder / TABLE).read_bytes()).hexdigest()[:12]
        paths = dict(zip(self.records["record_id"], files, strict=True))
        self._files = EcgFiles(str(self.folder), paths, hints)
        self._fit(self._files, sampling_rate=sampling_rate, seconds=seconds, strict=False)

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return True if a folder has the table."""
        return (folder / TABLE).is_file()

    def identity(self) -> dict[str, object]:
        """Return what determines the contents of the records: table, options, and size and time of change of files."""
        return super().identity() | {
            "hints": {"sampling_rate": None, "unit": None} | dict(self._files.hints),
            "files_sha256": states_sha256(self.folder, self._files.files.values()),
        }

    def describe(self) -> str:
        """Return one line; see `Source.describe`."""
        classes, further = ", ".join(map(str, self.labels[LABEL_SET])), ", ".join(self.columns) or "none"
        left_out = f"; left out, without a row in {TABLE}: {listed(self.surplus)}" if self.surplus else ""
        said = "".join(f"; {name} of files that do not say it: {value}" for name, value in self._files.hints.items())
        return super().describe() + printable(f"; classes: {classes}; further columns: {further}{left_out}{said}")


@dataclass(frozen=True)
class EcgFiles(RecordFiles):
    """Files of any readable format; ``hints`` are keywords of `open_ecg` that a file gets if it lacks the fact."""

    hints: Mapping[str, Any]

    def read(self, record_id: str) -> ECG:
        """Read one record; the files of a folder may differ, so that a hint is for those that lack what it says."""
        path = Path(self.folder) / self.files[record_id]
        try:
            return open_with_defaults(path, self.hints)
        except EcgkitError as error:
            raise type(error)(str(error).replace("sampling_rate=", "file_rate=")) from error


def _match(folder: Path, ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the file of each record and the files without a record; all records with a fault are in one error."""
    names = [path.relative_to(folder).as_posix() for path in find_ecg_files([folder]) if path != folder / TABLE]
    by_key: dict[str, set[str]] = {}
    for name in names:
        path = Path(name)
        for key in {name, path.name, path.stem, path.with_suffix("").as_posix()}:
            by_key.setdefault(key, set()).add(name)
    # An exact path names one file, whatever other files are called; a path may be written as Windows writes it.
    keys = [name if name in by_key else name.replace("\\", "/").removeprefix("./") for name in ids]
    found = [{key} if key in by_key.get(key, ()) else by_key.get(key, set()) for key in keys]
    counts = pd.Series(ids).value_counts()
    faults = {
        "without a file": [name for name, files in zip(ids, found, strict=True) if not files],
        "with several files": [name for name, files in zip(ids, found, strict=True) if len(files) > 1],
        "in several rows": counts.index[counts > 1].tolist(),
    }
    matched = [next(iter(files)) for files in found if len(files) == 1]
    shared = pd.Series(matched, dtype=object).value_counts()
    faults["for the same file"] = [name for name in shared.index[shared > 1] if not faults["in several rows"]]
    surplus = sorted(set(names) - set(matched))
    if any(faults.values()):
        texts = [f"records {kind}: {listed(records)}" for kind, records in faults.items() if records]
        texts += [f"files without a record: {listed(surplus)}"] if surplus else []
        raise EcgkitError(printable(f"{folder / TABLE}: {'; '.join(texts)}: correct the table or add the files"))
    return matched, surplus


def _label_columns(table: CsvTable, asked: Sequence[str] | str | None) -> list[str]:
    """Return the columns that are classes, in the order of the table or of the request."""
    names = [str(name) for name in table.rows if name not in CORE_COLUMNS]
    if asked:
        texts = [asked] if isinstance(asked, str) else asked
        wanted = [name.strip() for text in texts for name in ([text] if text in names else text.split(","))]
        for name in wanted:
            if name not in names:
                raise EcgkitError(f"{table.path} has no column {name!r} for a class: choose from {', '.join(names)}")
        return list(dict.fromkeys(wanted))
    found = []
    for name in filter(_has_name, names):
        known = table.known(name)
        is_flag = known.str.lower().isin(("0", "1", "true", "false", "0.0", "1.0"))
        if ALMOST_ALL <= is_flag[known.notna()].mean() < 1:
            why = f"and almost all others are 0 or 1 (if it is no class, {NAME_CLASSES})"
            table.refuse(name, known.notna() & ~is_flag, why)
        if is_flag.any() and is_flag[known.notna()].all():
            found.append(name)
    if not found:
        raise EcgkitError(f"{table.path} has no column of only 0, 1, true, false or blank: {NAME_CLASSES}")
    return found


def _check_names(table: CsvTable) -> None:
    """Refuse a column whose name is almost that of a core column, which would be unknown, or one of ecgkit's own."""
    for name in map(str, table.rows):
        meant = name.lower().replace(" ", "_").replace("-", "_")
        if meant in CORE_COLUMNS and name != meant:
            raise EcgkitError(f"{table.path} has a column {name!r}: write {meant}")
        if name in OWN_NAMES:
            raise EcgkitError(f"{table.path} has a column {name!r}, a name that ecgkit gives itself: rename it")


def _has_name(column: str) -> bool:
    """Return True if a column has a name in the first row, which the index that pandas writes has not."""
    return bool(column) and not column.startswith("Unnamed: ")


def _core_columns(table: CsvTable, labels: pd.DataFrame, seed: int) -> dict[str, pd.Series[Any]]:
    """Return the core columns that the table has, and folds."""
    found: dict[str, pd.Series[Any]] = {}
    found |= {name: table.texts(name) for name in ("record_id", "patient_id", "device", "site") if name in table.rows}
    found |= {name: table.numbers(name) for name in ("age", "height", "weight") if name in table.rows}
    if "height" in found:
        in_metres = found["height"].between(0, TALLEST_IN_METRES, inclusive="neither")
        table.refuse("height", in_metres, "in metres as it seems, and heights are in cm")
    if "sex" in table.rows:
        texts = table.known("sex")
        sexes = texts.map(known_sex, na_action="ignore")
        table.refuse("sex", texts.notna() & sexes.isna(), "neither male nor female")
        found["sex"] = sexes
    if "fold" in table.rows:
        found["fold"] = table.integers("fold", low=ALL_FOLDS[0], high=ALL_FOLDS[-1])
        several = patients_in_two_parts(pd.DataFrame(found))
        table.refuse("patient_id", found["patient_id"].isin(several), "in two of the splits folds 1-8, 9 and 10")
    else:
        found["fold"] = pd.Series(assign_folds(found["patient_id"], labels, seed=seed))
    return found


def _further_columns(table: CsvTable, classes: Sequence[str]) -> tuple[dict[str, Column], dict[str, pd.Series[Any]]]:
    """Return the declarations and the values of all other columns: numbers where all are numbers, otherwise texts."""
    columns: dict[str, Column] = {}
    values: dict[str, pd.Series[Any]] = {}
    for name in map(str, table.rows):
        if name in CORE_COLUMNS or name in classes:
            continue
        texts, known = table.texts(name), table.known(name).notna()
        if not (_has_name(name) or known.any()):
            continue  # what a spreadsheet writes after the last column
        numbers = table.possible_numbers(name)
        is_number = bool(known.any() and numbers[known].notna().all())
        columns[name] = Column("float64" if is_number else "string")
        values[name] = numbers if is_number else texts
    return columns, values
