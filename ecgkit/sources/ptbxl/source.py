"""PTB-XL, 21,799 clinical 12-lead ECGs of 10 s from PhysioNet, or a part of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.readers.wfdb import WfdbFiles
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Column, Source, record_table
from ecgkit.sources.ptbxl.folder import (
    DOWNLOAD,
    FILE_COLUMNS,
    MANIFEST,
    TABLES,
    check_folder,
    describe_part,
    find_record_files,
    find_version,
    n_complete,
    read_manifest,
)

DURATION = 10
LABEL_SETS = ("superclass", "subclass", "diagnostic", "form", "rhythm", "all")
SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
OVER_89 = 300
SEXES = {0: "male", 1: "female"}
TEXT_COLUMNS = (
    "recording_date",
    "report",
    "heart_axis",
    "infarction_stadium1",
    "infarction_stadium2",
    "baseline_drift",
    "static_noise",
    "burst_noise",
    "electrodes_problems",
    "extra_beats",
    "pacemaker",
)


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
        If the folder is missing, is no PTB-XL, lacks records without being marked as a part, or has tables that cannot
        be understood.

    References
    ----------
    Wagner, P. et al. (2020). PTB-XL, a large publicly available electrocardiography dataset. Scientific Data 7, 154.
    """

    name = "ptbxl"
    sampling_rates = tuple(FILE_COLUMNS)
    columns = {  # noqa: RUF012  # typed as a mapping in the base class
        "age_over_89": Column("bool"),
        "validated_by_human": Column("boolean"),
        **dict.fromkeys(TEXT_COLUMNS, Column("string")),
        "scp_codes": Column("string"),  # JSON: SCP code to likelihood
    }
    all_false = dict.fromkeys(LABEL_SETS, "unlabelled")
    licence = "CC BY 4.0"
    citation = "Wagner et al. (2022), PTB-XL, PhysioNet, https://doi.org/10.13026/kfzx-aw45"
    download_size = "550 MB at 100 Hz"

    def __init__(self, folder: Path | str, *, sampling_rate: int = 100) -> None:
        if sampling_rate not in FILE_COLUMNS:
            raise EcgkitError(f"PTB-XL has no sampling rate of {sampling_rate} Hz: choose 100 or 500")
        self.folder = Path(folder).absolute()
        self.sampling_rate = sampling_rate
        self.n_samples = DURATION * sampling_rate
        check_folder(Path(folder))
        table, statements = (_read_table(self.folder / name) for name in TABLES)
        manifest = read_manifest(self.folder) or {}
        self.version = find_version(self.folder, len(table), manifest)
        self.part = describe_part(manifest, len(table), sampling_rate)
        states = find_record_files(self.folder, sampling_rate)
        table = self._select_present(table, states, manifest)
        table["scp_codes"] = table["scp_codes"].fillna("{}").str.replace("'", '"', regex=False)
        codes = _parse_codes(table)
        self.records = _make_records(table)
        self.labels = _make_labels(codes, statements)
        files = dict(zip(self.records["record_id"], table[FILE_COLUMNS[sampling_rate]], strict=True))
        self._files = WfdbFiles(str(self.folder), files)
        self._files_sha256 = _sha256("\n".join(f"{file} {states[file]}" for file in files.values()).encode())

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
        tables = [(self.folder / name).read_bytes() for name in TABLES]
        return {
            "source": self.name,
            "version": self.version,
            "part": self.part,
            "sampling_rate": self.sampling_rate,
            "n_records": len(self.records),
            "tables_sha256": _sha256(*tables, "\n".join(self.records["record_id"]).encode()),
            "files_sha256": self._files_sha256,
        }

    def describe(self) -> str:
        """Return one line; see `Source.describe`."""
        part = f"; a part: {self.part.get('reason', MANIFEST)}" if self.part else ""
        return super().describe() + part

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return True if a folder holds the table of PTB-XL."""
        return (folder / TABLES[0]).is_file()

    @classmethod
    def download(
        cls,
        folder: Path,
        *,
        rates: Sequence[int],
        limit: int | None = None,
        mirror: str | None = None,
        zip_file: str | None = None,
    ) -> str:
        """Download PTB-XL; see `ecgkit.sources.ptbxl.download.download`."""
        from ecgkit.sources.ptbxl.download import download

        return str(download(folder, rates=rates, limit=limit, mirror=mirror, zip_file=zip_file))

    def _select_present(
        self, table: pd.DataFrame, files: Mapping[str, str], manifest: Mapping[str, Any]
    ) -> pd.DataFrame:
        """Keep the rows whose files are there; refuse if others are missing from a folder that is not marked a part."""
        rate = self.sampling_rate
        table = table.head(n_complete(manifest, len(table), rate))
        present = table[FILE_COLUMNS[rate]].isin(files.keys())
        missing = int((~present).sum())
        if (missing and not manifest.get("part")) or missing == len(table):
            first = f", the first is {table.loc[~present, FILE_COLUMNS[rate]].iloc[0]}" if missing else ""
            raise EcgkitError(
                f"{missing:,} of {len(table):,} records of {self.folder} have no files at {rate} Hz{first}: "
                f"complete the folder, by {DOWNLOAD} or by hand, choose another rate, or, if it is meant to be a part, "
                f'write {{"part": true}} to {MANIFEST} in it'
            )
        return table[present].reset_index(drop=True)


def _sha256(*parts: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table as text, only blanks as missing, since texts such as "NA" may be meant."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8")
    except (ValueError, OSError) as error:
        raise EcgkitError(f"{path} is no table: {' '.join(str(error).split())}") from error


def _parse_codes(table: pd.DataFrame) -> list[dict[str, float]]:
    """Parse the SCP codes as one JSON text, fifty times as fast as `ast.literal_eval` for each row."""
    texts = table["scp_codes"]
    try:
        codes: list[dict[str, float]] = json.loads(f"[{','.join(texts)}]")
    except ValueError:
        codes = []
    if len(codes) == len(table) and all(isinstance(code, dict) for code in codes):
        return codes
    for ecg_id, text in zip(table["ecg_id"], texts, strict=True):
        try:
            json.loads(text)
        except ValueError as error:
            raise EcgkitError(f"the SCP codes of record {ecg_id} cannot be read ({error}): {text!r}") from error
    raise EcgkitError("the SCP codes of the table cannot be read: each is like \"{'NORM': 100.0}\"")


def _make_records(table: pd.DataFrame) -> pd.DataFrame:
    """Make the table of records from ``ptbxl_database.csv``."""
    try:
        age = pd.to_numeric(table["age"])
        columns: dict[str, Any] = {
            "record_id": pd.to_numeric(table["ecg_id"]).astype("int64"),
            "patient_id": pd.to_numeric(table["patient_id"]).astype("int64"),
            "fold": pd.to_numeric(table["strat_fold"]).astype("int64"),
            "age": age.mask(age == OVER_89, 90.0),
            "age_over_89": age == OVER_89,
            "sex": _parse_sexes(table["sex"]),
            "height": pd.to_numeric(table["height"]),
            "weight": pd.to_numeric(table["weight"]),
            "device": table["device"].str.split().str.join(" "),
            "site": pd.to_numeric(table["site"]).astype("Int64").astype("string"),
            "validated_by_human": table["validated_by_human"].str.lower().map({"true": True, "false": False}),
            "scp_codes": table["scp_codes"],
        }
        for name in TEXT_COLUMNS:
            stripped = table[name].str.strip()
            columns[name] = stripped.mask(stripped == "")
    except KeyError as error:
        raise EcgkitError(
            f"ptbxl_database.csv has no column {error}: use the table that PhysioNet publishes"
        ) from error
    except (ValueError, TypeError) as error:
        raise EcgkitError(f"ptbxl_database.csv cannot be read: {error}") from error
    records = record_table(columns, PtbXl.columns)
    if records["record_id"].duplicated().any():
        duplicate = records.loc[records["record_id"].duplicated(), "record_id"].iloc[0]
        raise EcgkitError(f"ptbxl_database.csv has record {duplicate} twice")
    if not records["fold"].between(1, 10).all():
        raise EcgkitError("ptbxl_database.csv has a strat_fold that is not between 1 and 10")
    return records


def _parse_sexes(column: pd.Series) -> pd.Series:
    """Convert PTB-XL's 0 and 1 to "male" and "female"; other numbers are refused, blanks are unknown."""
    numbers = pd.to_numeric(column)
    unknown = numbers.notna() & ~numbers.isin(SEXES)
    if unknown.any():
        raise ValueError(f"sex is {numbers[unknown].iloc[0]:g}, neither 0 (male) nor 1 (female)")
    return numbers.map(SEXES)


def _make_labels(codes: list[dict[str, float]], statements: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Make the label sets: a record has every class to which one of its codes maps, whatever the likelihood."""
    statements = statements.rename(columns={statements.columns[0]: "code"}).set_index("code")
    try:
        sets = {name: _map_codes(statements, name) for name in LABEL_SETS}
    except KeyError as error:
        raise EcgkitError(f"scp_statements.csv has no column {error}: use the one that PhysioNet publishes") from error
    column_of = {code: column for column, code in enumerate(statements.index)}
    has_code = np.zeros((len(codes), len(column_of)), bool)
    for row, record_codes in enumerate(codes):
        for code in record_codes:
            if code not in column_of:
                raise EcgkitError(f"SCP code {code!r} is not in scp_statements.csv: take both tables from one PTB-XL")
            has_code[row, column_of[code]] = True
    labels = {}
    for name, class_of in sets.items():
        usual = SUPERCLASSES if name == "superclass" else ()
        found = dict.fromkeys(class_of.values())
        classes = [label for label in usual if label in found] + [label for label in found if label not in usual]
        columns = {label: [column_of[code] for code in class_of if class_of[code] == label] for label in classes}
        values = {label: has_code[:, positions].any(axis=1) for label, positions in columns.items()}
        labels[name] = pd.DataFrame(values, index=range(len(codes)), dtype=bool)
    return labels


def _map_codes(statements: pd.DataFrame, label_set: str) -> dict[str, str]:
    """Map each SCP code to its class in a label set; codes without a class are left out."""
    if label_set in ("superclass", "subclass"):
        column = statements[f"diagnostic_{'class' if label_set == 'superclass' else 'subclass'}"]
        chosen = column[_is_one(statements["diagnostic"])].dropna()
        return dict(zip(chosen.index.tolist(), chosen.tolist(), strict=True))
    if label_set == "all":
        return {code: code for code in statements.index}
    return {code: code for code in statements.index[_is_one(statements[label_set])]}


def _is_one(column: pd.Series) -> NDArray[np.bool_]:
    """Return where a column of text is 1."""
    return (pd.to_numeric(column) == 1).to_numpy()
