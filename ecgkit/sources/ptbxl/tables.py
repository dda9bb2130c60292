"""The two tables of PTB-XL: the records with their metadata and folds, and the label sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ecgkit.errors import EcgkitError, fits
from ecgkit.io import parsed_json
from ecgkit.sources.base import Column, record_table
from ecgkit.sources.csv_table import CsvTable
from ecgkit.sources.ptbxl.folder import FILE_COLUMNS
from ecgkit.sources.scp import label_tables

LABEL_SETS = ("superclass", "subclass", "diagnostic", "form", "rhythm", "all")
OVER_89 = 300
SEXES = {0: "male", 1: "female"}
TEXT_COLUMNS = (
    "recording_date", "report", "heart_axis", "infarction_stadium1", "infarction_stadium2", "baseline_drift",
    "static_noise", "burst_noise", "electrodes_problems", "extra_beats", "pacemaker",
)  # fmt: skip
RECORD_COLUMNS = (
    *("ecg_id", "patient_id", "strat_fold", "age", "sex", "height", "weight", "device", "site", "scp_codes"),
    *("validated_by_human", *TEXT_COLUMNS, *FILE_COLUMNS.values()),
)
STATEMENT_COLUMNS = ("diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
COLUMNS = {
    "age_over_89": Column("bool"),
    "validated_by_human": Column("boolean"),
    **dict.fromkeys(TEXT_COLUMNS, Column("string")),
    "scp_codes": Column("string"),  # JSON: SCP code to likelihood
}
"""The columns of PTB-XL after the core ones."""


def make_records(table: CsvTable) -> pd.DataFrame:
    """Make the table of records from ``ptbxl_database.csv``.

    Raises
    ------
    EcgkitError
        Naming row and column, if an identifier, a fold, a sex or a number is invalid, or a record or file occurs twice.
    """
    ids = table.integers("ecg_id")
    table.refuse_duplicates("ecg_id", ids)
    for column in FILE_COLUMNS.values():
        table.refuse_duplicates(column)
    age, sex = table.numbers("age"), table.numbers("sex")
    table.refuse("sex", sex.notna() & ~sex.isin(SEXES), "neither 0 (male) nor 1 (female)")
    columns: dict[str, Any] = {
        "record_id": ids,
        "patient_id": table.integers("patient_id"),
        "fold": table.integers("strat_fold", low=1, high=10),
        "age": age.mask(age == OVER_89, 90.0),
        "age_over_89": age == OVER_89,
        "sex": sex.map(SEXES),
        "height": table.numbers("height"),
        "weight": table.numbers("weight"),
        "device": table.rows["device"].str.split().str.join(" "),
        "site": table.integers("site", missing=True).astype("string"),
        "validated_by_human": table.flags("validated_by_human"),
        "scp_codes": _as_json(table),
    }
    return record_table(columns | {name: table.texts(name) for name in TEXT_COLUMNS}, COLUMNS)


def _as_json(table: CsvTable) -> pd.Series[str]:
    """Return the SCP codes, which the table has in Python's notation, as JSON."""
    return table.rows["scp_codes"].fillna("{}").str.replace("'", '"', regex=False)


def parse_codes(table: CsvTable) -> list[dict[str, float]]:
    """Parse the SCP codes of each row, as one JSON text: fifty times as fast as each row by itself.

    Raises
    ------
    EcgkitError
        Naming the record, if its codes are not like ``{'NORM': 100.0}``.
    """
    texts = _as_json(table)
    try:
        codes: list[dict[str, float]] = json.loads(f"[{','.join(texts)}]")
    except (ValueError, RecursionError):
        codes = []
    if len(codes) == len(texts) and fits(codes, list[dict[str, float]]):
        return codes
    for row, text in enumerate(texts):
        where = f"{table.path}: scp_codes in row {row + 1}"
        parsed_json(text, where, dict[str, float], way_out="it should be like {'NORM': 100.0}")
    raise EcgkitError(f"{table.path}: scp_codes cannot be read: each should be like {{'NORM': 100.0}}")


def make_labels(codes: Sequence[dict[str, float]], statements: CsvTable) -> dict[str, pd.DataFrame]:
    """Make the label sets from ``scp_statements.csv``; see `ecgkit.sources.scp.label_tables`.

    Raises
    ------
    EcgkitError
        If a code of the table is blank or occurs twice, or a record has a code that is not in the table.
    """
    known = statements.texts(str(statements.rows.columns[0]))
    statements.refuse(str(known.name), known.isna(), "no SCP code")
    statements.refuse_duplicates(str(known.name), known)
    return label_tables(codes, {name: _map_codes(statements, known, name) for name in LABEL_SETS}, known)


def _map_codes(statements: CsvTable, codes: pd.Series[str], label_set: str) -> dict[str, str]:
    """Map each SCP code to its class in a label set; codes without a class are left out."""
    if label_set in ("superclass", "subclass"):
        classes = statements.texts(f"diagnostic_{'class' if label_set == 'superclass' else 'subclass'}")
        chosen = classes[statements.numbers("diagnostic") == 1].dropna()
        return dict(zip(codes[chosen.index], chosen, strict=True))
    chosen = codes if label_set == "all" else codes[statements.numbers(label_set) == 1]
    return dict(zip(chosen, chosen, strict=True))
