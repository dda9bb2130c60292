"""Evaluating a table of predictions of any origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgkit.errors import EcgkitError
from ecgkit.evaluation.comparison import Comparison, align, compare_aligned
from ecgkit.evaluation.report import evaluate
from ecgkit.stats.calibration import add_calibration
from ecgkit.stats.calibration_fit import fit_calibration
from ecgkit.stats.folds import TEST_FOLD, VALIDATION_FOLD, patients_in_two_parts
from ecgkit.stats.identifiers import as_identifiers
from ecgkit.stats.resampling import RESAMPLES
from ecgkit.stats.thresholds import fit_thresholds

IDENTIFIERS = ("record_id", "patient_id")
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": pd.read_parquet,
    ".csv": lambda path: pd.read_csv(path, dtype=dict.fromkeys(IDENTIFIERS, str)),
}


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
    """

    table: pd.DataFrame
    classes: list[str]
    thresholds: dict[str, Any] | None
    notes: list[str]

    def metrics(self, *, resamples: int = RESAMPLES) -> dict[str, Any]:
        """Compute the contents of ``metrics.json``, for the folds of the file."""
        return evaluate(self.table, self.classes, self.thresholds, resamples=resamples)


def read_predictions(path: Path | str) -> ExternalPredictions:
    """Read a table of predictions, from this project or another.

    Parameters
    ----------
    path : Path or str
        A ``.parquet`` or ``.csv`` file with, for each class, ``true_CLASS`` (0 or 1) and ``prob_CLASS`` (0 to 1).
        Optional: ``fold``, ``patient_id``, ``record_id``, ``calibrated_CLASS``.

    Returns
    -------
    ExternalPredictions

    Raises
    ------
    EcgkitError
        If the file cannot be read, lacks a column of a class, has an invalid outcome or probability, or has a patient
        in both folds.
    """
    path = Path(path).expanduser()
    table = _read(path)
    classes = _classes(path, table)
    notes: list[str] = []
    table = _as_numbers(path, table, classes)
    table = table.assign(**{name: as_identifiers(table[name]) for name in IDENTIFIERS if name in table})
    if "fold" not in table:
        table["fold"] = TEST_FOLD
        notes.append(f"no column fold: all {len(table):,} records are taken as fold {TEST_FOLD}")
    if TEST_FOLD not in set(table["fold"]):
        raise EcgkitError(
            f"{path} has no record of fold {TEST_FOLD}: predict fold {TEST_FOLD}, or leave out the column fold"
        )
    if "record_id" not in table:
        table["record_id"] = as_identifiers(range(len(table)))
        notes.append("no column record_id: records are numbered by row, and cannot be compared with another file")
    table["patient_id"] = _patients(table, notes)
    if VALIDATION_FOLD in set(table["fold"]):
        shared = patients_in_two_parts(table)
        if len(shared):
            raise EcgkitError(
                f"{path} has {len(shared):,} patients in two parts, the first is patient {shared[0]}: "
                "pass predictions of folds that were assigned by patient"
            )
    else:
        notes.append(
            f"no fold {VALIDATION_FOLD}: no thresholds are tuned, and metrics at tuned thresholds are left out"
        )
    table, calibration = _calibrated(table, classes, notes)
    thresholds = fit_thresholds(table, classes, calibration) if VALIDATION_FOLD in set(table["fold"]) else None
    return ExternalPredictions(table, classes, thresholds, notes)


def _read(path: Path) -> pd.DataFrame:
    """Read a table of predictions."""
    if path.suffix not in READERS:
        raise EcgkitError(f"{path} is no table of predictions: pass a .parquet or .csv file")
    try:
        return READERS[path.suffix](path)
    except FileNotFoundError as error:
        raise EcgkitError(f"no file {path}: pass a .parquet or .csv file of predictions") from error
    except (OSError, ValueError) as error:
        raise EcgkitError(f"{path} cannot be read as a table: {' '.join(str(error).split())}") from error


def _as_numbers(path: Path, table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Convert the columns of numbers to float."""
    names = [
        *(["fold"] if "fold" in table else []),
        *(f"{kind}_{name}" for name in classes for kind in ("true", "prob")),
        *(own for name in classes if (own := f"calibrated_{name}") in table),
    ]
    numbers = {}
    for name in names:
        # Other programs write outcomes as text in a CSV file.
        column = table[name].replace({"True": 1, "False": 0, "true": 1, "false": 0})
        numbers[name] = pd.to_numeric(column, errors="coerce").astype("float64")
        wrong = numbers[name].isna()
        if wrong.any() and not name.startswith("prob_"):
            row = int(wrong.to_numpy().argmax())
            raise EcgkitError(f"{path} has {table[name].iloc[row]!r} in column {name}, row {row + 1}: pass a number")
    return table.assign(**numbers)


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


def compare_predictions(
    pair: Mapping[str, ExternalPredictions], *, fold: int = TEST_FOLD, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two tables of predictions for the same records; see `ecgkit.evaluation.compare`.

    Parameters
    ----------
    pair : mapping of str to ExternalPredictions
        The name of each, and its predictions. F1 is compared if both have thresholds from fold 9.
    fold : int, default 10
        The fold to compare.
    resamples : int, default 1000
        Bootstrap resamples of patients.
    seed : int, default 0
        Of the random numbers.

    Returns
    -------
    Comparison

    Raises
    ------
    EcgkitError
        If they do not hold the same records with the same true labels.
    """
    of_first, of_second = (one.thresholds for one in pair.values())
    return compare_aligned(
        align({name: one.table[one.table["fold"] == fold] for name, one in pair.items()}),
        fold=fold,
        thresholds=None if of_first is None or of_second is None else (of_first, of_second),
        resamples=resamples,
        seed=seed,
    )
