"""Evaluating a table of predictions of any origin."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgkit.errors import EcgkitError, printable
from ecgkit.evaluation.comparison import Comparison, compare
from ecgkit.evaluation.files import SUFFIXES, UNLABELLED, is_table, stored_predictions
from ecgkit.evaluation.report import evaluate
from ecgkit.io import read_table, readable
from ecgkit.sessions import Session
from ecgkit.stats.calibration import add_calibration
from ecgkit.stats.calibration_fit import fit_calibration
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD, patients_in_two_parts
from ecgkit.stats.identifiers import as_identifiers
from ecgkit.stats.labels import MEANS
from ecgkit.stats.resampling import RESAMPLES
from ecgkit.stats.thresholds import fit_thresholds

IDENTIFIERS = ("record_id", "patient_id")
FOLDS = (VALIDATION_FOLD, TEST_FOLD)
OPENERS: dict[str, Any] = {".csv": open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SEPARATORS = (",", ";", "\t")
LARGEST = 2 * 2**30
"""Bytes of text that are read: ten times the predictions of PTB-XL for all 71 classes."""
ROUNDING = 1e-6
"""By so much a probability may be outside 0 to 1; float32 and six digits round to within it."""
WAY_OUT = "pass a table of predictions"


@dataclass(frozen=True)
class ExternalPredictions:
    """Predictions read from a file.

    Attributes
    ----------
    table : DataFrame
        The input of `ecgkit.evaluation.evaluate`: with ``record_id``, ``patient_id`` and ``fold``, and calibrated.
    classes : list of str
        The classes, in the order of the file.
    thresholds : dict or None
        Chosen on fold 9; None without it.
    notes : list of str
        Missing parts of the file and how they were handled, one sentence each.
    lacks : tuple of str
        Which of ``record_id`` and ``patient_id`` the file lacks.
    """

    table: pd.DataFrame
    classes: list[str]
    thresholds: dict[str, Any] | None
    notes: list[str]
    lacks: tuple[str, ...] = ()

    def metrics(self, *, resamples: int = RESAMPLES) -> dict[str, Any]:
        """Compute the contents of ``metrics.json``, for the folds of the file."""
        return evaluate(self.table, self.classes, self.thresholds, resamples=resamples)


def read_predictions(path: Path | str) -> ExternalPredictions:
    """Read a table of predictions, from this project or another.

    Parameters
    ----------
    path : Path or str
        A Parquet or CSV file with, for each class, ``true_CLASS`` (0, 1, or empty where it is unknown) and
        ``prob_CLASS`` (0 to 1). Optional: ``fold``, ``patient_id``, ``record_id``, ``calibrated_CLASS``. CSV may be
        compressed (``.csv.gz``), in UTF-8 or UTF-16, with commas, semicolons or tabs between the values, decimal commas
        and percent signs.

    Returns
    -------
    ExternalPredictions

    Raises
    ------
    EcgkitError
        If the file cannot be read, a class has only one of its two columns, an outcome or a probability is not valid, a
        record occurs twice, or a patient is in both folds.
    """
    path = Path(path).expanduser()
    table = _read(path)
    classes = _classes(path, table)
    notes: list[str] = []
    lacks = tuple(name for name in IDENTIFIERS if name not in table)
    table = _with_folds(path, _as_numbers(path, table, classes, notes), notes)
    table = table.assign(**{name: as_identifiers(table[name]) for name in IDENTIFIERS if name in table})
    table = table.assign(record_id=_records(path, table, notes))
    table = table.assign(patient_id=_patients(table, notes))
    if VALIDATION_FOLD not in set(table["fold"]):
        notes.append(
            f"no fold {VALIDATION_FOLD}: no thresholds are tuned, and metrics at tuned thresholds are left out"
        )
    elif len(shared := patients_in_two_parts(table)):
        raise EcgkitError(
            f"{path} has {len(shared):,} patients in two parts, the first is patient {shared[0]}: "
            "pass predictions of folds that were assigned by patient"
        )
    table, calibration = _calibrated(table, classes, notes)
    thresholds = fit_thresholds(table, classes, calibration) if VALIDATION_FOLD in set(table["fold"]) else None
    return ExternalPredictions(table, classes, thresholds, notes, lacks)


def read_session(session: Session, *, like: Collection[str] = ()) -> ExternalPredictions:
    """Read the predictions of a finished training.

    Parameters
    ----------
    session : Session
        The training session.
    like : collection of str
        Records of the predictions that it is compared with: if some of them have no label in the session, the session's
        predictions of all of its unlabelled records are included, as negative for each class.

    Returns
    -------
    ExternalPredictions

    Raises
    ------
    EcgkitError
        As `read_predictions`.
    """
    found = read_predictions(session.path / "predictions.parquet")
    if not (session.path / UNLABELLED).is_file():
        return found
    further = stored_predictions(session, UNLABELLED).astype(found.table.dtypes)[list(found.table)]
    if further["record_id"].isin(like).any():
        return replace(found, table=pd.concat([found.table, further], ignore_index=True))
    return found


def _read(path: Path) -> pd.DataFrame:
    """Read a table; the values of a CSV file stay text."""
    if not is_table(path.name):
        raise EcgkitError(f"{path} is not a table of predictions: pass a file that ends in {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".parquet":
        return read_table(path, way_out=WAY_OUT)
    with readable(path, WAY_OUT):
        with OPENERS[path.suffix.lower()](path, "rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"it holds more than {LARGEST / 2**30:.0f} GiB of text")
        is_utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return _parse_csv(path, data.decode("utf-16" if is_utf_16 else "utf-8-sig"))


def _parse_csv(path: Path, text: str) -> pd.DataFrame:
    """Parse CSV with the separator of its first line."""
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EcgkitError(f"{path} has the column {printable(twice[0])!r} twice: leave one of them out")
    table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, skipinitialspace=True)
    if not isinstance(table.index, pd.RangeIndex):
        raise EcgkitError(f"{path} has more values in its rows than names in its first line: name each column")
    return table.rename(columns=str.strip)


def _as_numbers(path: Path, table: pd.DataFrame, classes: list[str], notes: list[str]) -> pd.DataFrame:
    """Convert the columns of numbers to float, and check them."""
    numbers = {}
    for name in [
        *(["fold"] if "fold" in table else []),
        *(f"{kind}_{name}" for name in classes for kind in ("true", "prob")),
        *(own for name in classes if (own := f"calibrated_{name}") in table),
    ]:
        numbers[name] = _numbers(table[name])
        if name.startswith("true_"):
            is_unknown = table[name].isna()
            _refuse(path, table[name], ~(numbers[name].isin((0, 1)) | is_unknown), "an outcome is 0 or 1, or is empty")
        elif name == "fold":
            _refuse(path, table[name], ~(numbers[name] % 1 == 0), "pass whole numbers")
        else:
            numbers[name] = _probabilities(path, table[name], numbers[name], notes)
    return table.assign(**numbers)


def _numbers(column: pd.Series) -> pd.Series:
    """Convert one column; NaN where that is not possible."""
    if pd.api.types.is_numeric_dtype(column):  # booleans among them
        return column.astype("Float64").astype("float64")
    # Other programs write outcomes as words, and numbers with a decimal comma or a percent sign, as spreadsheets do.
    text = column.astype("string").str.strip()
    plain = text.str.removesuffix("%").str.strip().str.lower().replace({"true": "1", "false": "0"})
    plain = plain.where(plain.str.contains(".", regex=False, na=False), plain.str.replace(",", ".", regex=False))
    number = pd.to_numeric(plain, errors="coerce").astype("Float64").astype("float64")
    return number.where(~text.str.endswith("%").fillna(value=False).astype(bool), number / 100)


def _probabilities(path: Path, column: pd.Series, numbers: pd.Series, notes: list[str]) -> pd.Series:
    """Check the probabilities of one column, and round those to 0 or 1 that are outside by rounding."""
    _refuse(path, column, numbers.isna(), "pass a number")
    low, high = float(numbers.min()), float(numbers.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        is_percent = low >= 0 and high <= 100
        way_out = "divide percentages by 100" if is_percent else "apply the sigmoid if these are logits"
        _refuse(path, column, (numbers < -ROUNDING) | (numbers > 1 + ROUNDING), f"it is outside 0 to 1; {way_out}")
    if low < 0 or high > 1:
        notes.append(f"{column.name} is outside 0 to 1 by rounding ({low:.9g} to {high:.9g}): it is clipped")
    return numbers.clip(0, 1)


def _refuse(path: Path, column: pd.Series, wrong: pd.Series, reason: str) -> None:
    """Refuse a column with a wrong value, by the first one."""
    if not wrong.any():
        return
    row = int(wrong.to_numpy().argmax())
    value = column.iloc[row]
    shown = "nothing" if pd.isna(value) else printable(repr(value) if isinstance(value, str) else str(value))
    raise EcgkitError(f"{path} has {shown} in column {column.name}, row {row + 1}: {reason}")


def _with_folds(path: Path, table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Keep folds 9 and 10, and take all records as fold 10 if there are no folds."""
    if "fold" not in table:
        notes.append(f"no column fold: all {len(table):,} records are taken as fold {TEST_FOLD}")
        return table.assign(fold=TEST_FOLD)
    kept = table[table["fold"].isin(FOLDS)].reset_index(drop=True)
    if TEST_FOLD not in set(kept["fold"]):
        raise EcgkitError(
            f"{path} has no record of fold {TEST_FOLD}: predict fold {TEST_FOLD}, or leave out the column fold"
        )
    if len(kept) < len(table):
        notes.append(f"{len(table) - len(kept):,} records of other folds than 9 and 10 are left out")
    return kept.astype({"fold": int})


def _records(path: Path, table: pd.DataFrame, notes: list[str]) -> pd.Series:
    """Return the identifier of each record; refuse a record that is there twice."""
    if "record_id" not in table:
        notes.append("no column record_id: records are numbered by row, and cannot be compared with another file")
        if twice := int(table.duplicated().sum()):
            notes.append(f"{twice:,} rows occur twice; without record_id they count as different records")
        return as_identifiers(range(len(table)))
    ids = table["record_id"]
    if ids.isna().any():
        raise EcgkitError(f"{path} has no record_id in row {int(ids.isna().to_numpy().argmax()) + 1}: name each record")
    if (again := ids.duplicated()).any():
        name = printable(str(ids[again].iloc[0]))
        count = f"{int(again.sum()):,} repeated rows in all"
        raise EcgkitError(f"{path} has record {name} twice ({count}): pass one row per record")
    return ids


def _patients(table: pd.DataFrame, notes: list[str]) -> pd.Series:
    """Return the patient of each record; a record without one counts as a patient."""
    if "patient_id" not in table:
        notes.append(
            "no column patient_id: each record counts as a patient; "
            "the intervals are too narrow if patients have several records"
        )
        return table["record_id"]
    unknown = table["patient_id"].isna()
    if not unknown.any():
        return table["patient_id"]
    notes.append(f"{int(unknown.sum()):,} records have no patient_id: each of them counts as a patient")
    return table["patient_id"].mask(unknown, "record " + table["record_id"])


def _classes(path: Path, table: pd.DataFrame) -> list[str]:
    """Return the classes of a table, each of which has an outcome and a probability."""
    columns = [str(column) for column in table.columns]
    names = {
        kind: [column.removeprefix(f"{kind}_") for column in columns if column.startswith(f"{kind}_")]
        for kind in ("true", "prob")
    }
    if not names["true"]:
        raise EcgkitError(f"{path} has no columns true_CLASS and prob_CLASS: name outcomes and probabilities like that")
    alone = sorted(set(names["true"]) ^ set(names["prob"]))
    if alone:
        raise EcgkitError(f"{path} has only one of true_{alone[0]} and prob_{alone[0]}: give both for each class")
    if taken := sorted(set(names["true"]) & {*MEANS, ""}):
        raise EcgkitError(f"{path} has a class {taken[0]!r}, which names a mean over classes: give it another name")
    calibrated = [f"calibrated_{name}" for name in names["true"]]
    lacking = [column for column in calibrated if column not in columns]
    if lacking and (given := [column for column in calibrated if column in columns]):
        raise EcgkitError(f"{path} has {given[0]} but no {lacking[0]}: give them for each class, or for none")
    return names["true"]


def _calibrated(
    table: pd.DataFrame, classes: list[str], notes: list[str]
) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """Return the table with calibrated probabilities, and the calibration if they are by one fitted on fold 9."""
    own = [f"calibrated_{name}" for name in classes]
    if VALIDATION_FOLD in set(table["fold"]):
        calibration = fit_calibration(table, classes)
        calibrated = add_calibration(table, calibration, classes)
        if not set(own) <= set(table) or np.allclose(calibrated[own], table[own], atol=1e-6):
            return calibrated, calibration
    if set(own) <= set(table):
        return table, None
    notes.append("no calibrated probabilities and no fold 9 to fit them on: brier and ece use prob_CLASS")
    return table.assign(**{f"calibrated_{name}": table[f"prob_{name}"] for name in classes}), None


def compare_predictions(pair: Mapping[str, ExternalPredictions], *, resamples: int = RESAMPLES) -> Comparison:
    """Compare two tables of predictions for the same records of fold 10; see `ecgkit.evaluation.compare`.

    Parameters
    ----------
    pair : mapping of str to ExternalPredictions
        The name of each, and its predictions. F1 is compared if both have thresholds from fold 9.
    resamples : int, default 1000
        Bootstrap resamples of patients.

    Returns
    -------
    Comparison

    Raises
    ------
    EcgkitError
        If they do not hold the same records with the same true labels, or a file has no ``record_id``.
    """
    if unnamed := [name for name, one in pair.items() if "record_id" in one.lacks]:
        raise EcgkitError(f"{unnamed[0]} has no column record_id: add it, so that records can be matched")
    tables = {name: one.table[one.table["fold"] == TEST_FOLD] for name, one in pair.items()}
    named = [tables[name].set_index("record_id")["patient_id"] for name in pair if "patient_id" not in pair[name].lacks]
    for name, one in pair.items():
        if named and "patient_id" in one.lacks:  # the patients are those of the other file
            tables[name] = tables[name].assign(patient_id=tables[name]["record_id"].map(named[0]))
    of_first, of_second = (one.thresholds for one in pair.values())
    return compare(
        tables,
        thresholds=None if of_first is None or of_second is None else (of_first, of_second),
        resamples=resamples,
    )
