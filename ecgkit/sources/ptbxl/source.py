"""PTB-XL, 21,799 clinical 12-lead ECGs of 10 s from PhysioNet, or a part of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.readers.wfdb import WfdbFiles
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Source, record_table

DURATION = 10
FILE_COLUMNS = {100: "filename_lr", 500: "filename_hr"}
LABEL_SETS = ("superclass", "subclass", "diagnostic", "form", "rhythm", "all")
SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
PUBLISHED_ROWS = {21837: "1.0.1", 21801: "1.0.2", 21799: "1.0.3"}
TABLES = ("ptbxl_database.csv", "scp_statements.csv")
MANIFEST = "ecgkit_manifest.json"
DOWNLOAD = "`ecgkit download ptbxl`"
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
    """PTB-XL 1.0.1 to 1.0.3, read from a folder laid out as PhysioNet publishes it.

    A folder may hold a part of PTB-XL if it says so, in one of three ways. Its ``ptbxl_database.csv`` names only the
    records that are there. Or a file ``ecgkit_manifest.json`` lies beside the whole table. The one that
    `ecgkit.sources.ptbxl.download` writes has a key ``first``, such as ``{"100": 21799, "500": 500}``: so many records
    of the table, from its first on, are there at each rate, and no others are read. One written by hand,
    ``{"part": true}``, with ``reason`` and ``version`` (of PTB-XL) if you like, leaves out the records whose files
    are not there.

    Attributes
    ----------
    folder : Path
        The folder, absolute.
    part : dict or None
        ``{"part": True, "reason": ...}``, or what a manifest written by hand says; None for a whole PTB-XL.

    Raises
    ------
    EcgkitError
        If the folder is missing, is no PTB-XL, lacks records without saying that it is a part, or has tables that
        cannot be understood.

    References
    ----------
    Wagner, P. et al. (2020). PTB-XL, a large publicly available electrocardiography dataset. Scientific Data 7, 154.
    """

    name = "ptbxl"

    def __init__(self, folder: Path | str, *, sampling_rate: int = 100) -> None:
        if sampling_rate not in FILE_COLUMNS:
            raise EcgkitError(f"PTB-XL has no sampling rate of {sampling_rate} Hz: choose 100 or 500")
        self.folder = Path(folder).absolute()
        self.sampling_rate = sampling_rate
        self.n_samples = DURATION * sampling_rate
        _check_folder(Path(folder))
        table = _read_table(self.folder / "ptbxl_database.csv")
        statements = _read_table(self.folder / "scp_statements.csv")
        manifest = read_manifest(self.folder) or {}
        self.version = _version(self.folder, len(table), manifest)
        files_there = _record_files(self.folder, sampling_rate)
        self.part = _part(manifest, len(table), sampling_rate)
        table = self._present(table, files_there, manifest)
        table["scp_codes"] = table["scp_codes"].fillna("{}").str.replace("'", '"', regex=False)
        codes = _parse_codes(table)
        self.records = _records(table)
        self.labels = _labels(codes, statements)
        files = dict(zip(self.records["record_id"].tolist(), table[FILE_COLUMNS[sampling_rate]], strict=True))
        self._files = WfdbFiles(str(self.folder), files, sampling_rate, self.n_samples)
        states = "\n".join(f"{file} {files_there[file]}" for file in files.values())
        self._files_sha256 = hashlib.sha256(states.encode()).hexdigest()

    def read(self, record_id: str) -> ECG:
        """Read one record; see `Source.read`."""
        return self._files.read(self._known(record_id))

    def read_microvolts(self, record_id: str) -> NDArray[np.int16] | None:
        """Read one record as the integers of microvolts that PTB-XL stores; see `Source.read_microvolts`."""
        return self._files.read_microvolts(self._known(record_id))

    def reader(self, record_ids: Sequence[str]) -> WfdbFiles:
        """Give what a worker process needs to read these records, without the tables."""
        return self._files.subset(record_ids)

    def identity(self) -> dict[str, object]:
        """Everything that decides what the records contain; see `Source.identity`."""
        digest = hashlib.sha256()
        for name in ("ptbxl_database.csv", "scp_statements.csv"):
            digest.update((self.folder / name).read_bytes())
        digest.update("\n".join(self.records["record_id"]).encode())
        return {
            "source": self.name,
            "version": self.version,
            "part": self.part,
            "sampling_rate": self.sampling_rate,
            "n_records": len(self.records),
            "tables_sha256": digest.hexdigest(),
            "files_sha256": self._files_sha256,
        }

    def describe(self) -> str:
        """Say what this is in one line; see `Source.describe`."""
        return super().describe() + (
            f"; a part: {self.part.get('reason', 'as its manifest says')}" if self.part else ""
        )

    def _known(self, record_id: str) -> str:
        if record_id not in self._files.files:
            raise EcgkitError(f"no record {record_id} in {self.folder}: it has {len(self._files.files)} records")
        return record_id

    def _present(self, table: pd.DataFrame, files: Mapping[str, str], manifest: Mapping[str, Any]) -> pd.DataFrame:
        """Keep the rows whose files are there; refuse if others are missing and nothing says that this is meant."""
        rate = self.sampling_rate
        table = table.head(_n_first(manifest, len(table), rate))
        there = table[FILE_COLUMNS[rate]].isin(files.keys())
        missing = int((~there).sum())
        if (missing and not manifest.get("part")) or missing == len(table):
            first = f", the first is {table.loc[~there, FILE_COLUMNS[rate]].iloc[0]}" if missing else ""
            raise EcgkitError(
                f"{missing:,} of {len(table):,} records of {self.folder} have no files at {rate} Hz{first}: "
                f"complete the folder, by {DOWNLOAD} or by hand, choose another rate, or, if it is meant to be a part, "
                f'write {{"part": true}} to {MANIFEST} in it'
            )
        return table[there].reset_index(drop=True)


def _check_folder(folder: Path) -> None:
    missing = [name for name in TABLES if not (folder / name).is_file()]
    if not missing:
        return
    inner = sorted(folder.glob(f"*/{TABLES[0]}")) if folder.is_dir() else []
    if inner:
        raise EcgkitError(f"no PTB-XL in {folder}, but in {inner[0].parent}: pass --raw {inner[0].parent}")
    what = f" ({missing[0]} is missing)" if folder.is_dir() else ""
    raise EcgkitError(
        f"no PTB-XL in {folder}{what}: run {DOWNLOAD}, pass its folder with --raw DIR, or pass --dataset demo"
    )


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table as text, blanks as missing; only a blank is missing, since texts such as "NA" may be meant."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8")
    except (ValueError, OSError) as error:
        raise EcgkitError(f"{path} is no table: {' '.join(str(error).split())}") from error


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read what a folder says about itself.

    Parameters
    ----------
    folder : Path
        Of PTB-XL or a part of it.

    Returns
    -------
    dict or None
        What ``ecgkit_manifest.json`` says; None where there is none.

    Raises
    ------
    EcgkitError
        If it cannot be understood.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EcgkitError(f"{path} is no JSON: {error}") from error
    if isinstance(manifest, dict):
        first = manifest.get("first")
        if isinstance(first, dict) and all(isinstance(count, int) for count in first.values()):
            return manifest
        if first is None and isinstance(manifest.get("part"), bool):
            return manifest
    raise EcgkitError(f'{path} does not say whether this is a part: write {{"part": true}} to it, or run {DOWNLOAD}')


def _n_first(manifest: Mapping[str, Any], n_rows: int, rate: int) -> int:
    """Give how many rows of the table count, from the first on."""
    if "first" not in manifest:
        return n_rows
    count = int(manifest["first"].get(str(rate), 0))
    if count < 1:
        raise EcgkitError(
            f"no download of PTB-XL at {rate} Hz is complete: "
            f"run `ecgkit download ptbxl --rate {rate}`, which goes on where it stopped"
        )
    return min(count, n_rows)


def _part(manifest: Mapping[str, Any], n_rows: int, rate: int) -> dict[str, Any] | None:
    """Say what part of PTB-XL this is; None for a whole one."""
    if manifest.get("part"):
        return dict(manifest)
    count = _n_first(manifest, n_rows, rate)
    if count < n_rows:
        return {"part": True, "reason": f"the first {count:,} of {n_rows:,} records"}
    return None if n_rows in PUBLISHED_ROWS else {"part": True, "reason": f"the table names {n_rows:,} records"}


def _version(folder: Path, n_rows: int, manifest: Mapping[str, Any]) -> str:
    """Find the version: by the number of rows, which no two share, or what the manifest or a text beside it says."""
    if n_rows in PUBLISHED_ROWS:
        return PUBLISHED_ROWS[n_rows]
    if isinstance(manifest.get("version"), str):
        return str(manifest["version"])
    for name in ("LICENSE.txt", "README.md", "README.txt"):
        path = folder / name
        text = path.read_bytes()[:10_000].decode("utf-8", "replace") if path.is_file() else ""
        if found := re.search(r"version (1\.0\.\d)\b", text):
            return found[1]
    return "unknown"


def _record_files(folder: Path, rate: int) -> dict[str, str]:
    """Give for each record that has both its files its path without suffix and their sizes and times of change."""
    found: dict[str, str] = {}
    top = f"records{rate}"
    for directory, _, names in os.walk(folder / top):
        inside = Path(directory).relative_to(folder).as_posix()
        headers = {name[:-4] for name in names if name.endswith(".hea")}
        stems = [name[:-4] for name in names if name.endswith(".dat") and name[:-4] in headers]
        for stem in stems:
            # A Path for each of 43,598 files would take longer than all else here.
            states = [os.stat(f"{directory}/{stem}{suffix}") for suffix in (".hea", ".dat")]  # noqa: PTH116
            found[f"{inside}/{stem}"] = " ".join(f"{state.st_size} {state.st_mtime_ns}" for state in states)
    return found


def _parse_codes(table: pd.DataFrame) -> list[dict[str, float]]:
    """Parse the column as one JSON text, in a fiftieth of the time that `ast.literal_eval` takes for each row."""
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


def _records(table: pd.DataFrame) -> pd.DataFrame:
    try:
        age = pd.to_numeric(table["age"])
        columns: dict[str, Sequence[object] | pd.Series] = {
            "record_id": pd.to_numeric(table["ecg_id"]).astype("int64"),
            "patient_id": pd.to_numeric(table["patient_id"]).astype("int64"),
            "fold": pd.to_numeric(table["strat_fold"]).astype("int64"),
            "age": age.mask(age == OVER_89, 90.0),
            "age_over_89": age == OVER_89,
            "sex": _sexes(table["sex"]),
            "height": pd.to_numeric(table["height"]),
            "weight": pd.to_numeric(table["weight"]),
            "device": table["device"].str.split().str.join(" "),
            "site": pd.to_numeric(table["site"]).astype("Int64").astype("string"),
            "validated_by_human": _booleans(table["validated_by_human"]),
            "scp_codes": table["scp_codes"],
        }
        columns |= {name: _text(table[name]) for name in TEXT_COLUMNS}
    except KeyError as error:
        raise EcgkitError(
            f"ptbxl_database.csv has no column {error}: use the table that PhysioNet publishes"
        ) from error
    except (ValueError, TypeError) as error:
        raise EcgkitError(f"ptbxl_database.csv cannot be read: {error}") from error
    records = record_table(pd.DataFrame(columns))
    if records["record_id"].duplicated().any():
        twice = records.loc[records["record_id"].duplicated(), "record_id"].iloc[0]
        raise EcgkitError(f"ptbxl_database.csv has record {twice} twice")
    if not records["fold"].between(1, 10).all():
        raise EcgkitError("ptbxl_database.csv has a strat_fold that is not between 1 and 10")
    return records


def _sexes(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column)
    unknown = numbers.notna() & ~numbers.isin(SEXES)
    if unknown.any():
        raise ValueError(f"sex is {numbers[unknown].iloc[0]:g}, neither 0 (male) nor 1 (female)")
    return numbers.map(SEXES)


def _booleans(column: pd.Series) -> pd.Series:
    return column.str.lower().map({"true": True, "false": False}).astype("boolean")


def _text(column: pd.Series) -> pd.Series:
    stripped = column.str.strip()
    return stripped.mask(stripped == "")


def _labels(codes: list[dict[str, float]], statements: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Make the six label sets; a record carries every class that one of its codes maps to, whatever the likelihood."""
    statements = statements.rename(columns={statements.columns[0]: "code"}).set_index("code")
    try:
        sets = {name: _code_classes(statements, name) for name in LABEL_SETS}
    except KeyError as error:
        raise EcgkitError(f"scp_statements.csv has no column {error}: use the one that PhysioNet publishes") from error
    known = {code: row for row, code in enumerate(statements.index)}
    has_code = np.zeros((len(codes), len(known)), bool)
    for row, record_codes in enumerate(codes):
        for code in record_codes:
            if code not in known:
                raise EcgkitError(f"SCP code {code!r} is not in scp_statements.csv: take both tables from one PTB-XL")
            has_code[row, known[code]] = True
    labels = {}
    for name, code_classes in sets.items():
        classes = _classes(name, code_classes)
        values = {
            label: has_code[:, [known[code] for code, its in code_classes.items() if its == label]].any(axis=1)
            for label in classes
        }
        labels[name] = pd.DataFrame(values, index=range(len(codes)), dtype=bool)
    return labels


def _code_classes(statements: pd.DataFrame, label_set: str) -> dict[str, str]:
    """Map each SCP code to its class in a label set; codes without a class are left out."""
    if label_set in ("superclass", "subclass"):
        column = statements[f"diagnostic_{'class' if label_set == 'superclass' else 'subclass'}"]
        chosen = column[_is_one(statements["diagnostic"])].dropna()
        return dict(zip(chosen.index.tolist(), chosen.tolist(), strict=True))
    if label_set == "all":
        return {code: code for code in statements.index}
    return {code: code for code in statements.index[_is_one(statements[label_set])]}


def _is_one(column: pd.Series) -> NDArray[np.bool_]:
    return (pd.to_numeric(column) == 1).to_numpy()


def _classes(label_set: str, code_classes: Mapping[str, str]) -> list[str]:
    found = list(dict.fromkeys(code_classes.values()))
    if label_set != "superclass":
        return found
    return [label for label in SUPERCLASSES if label in found] + [label for label in found if label not in SUPERCLASSES]
