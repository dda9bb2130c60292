"""Folders of the PhysioNet/CinC Challenges 2020 and 2021: WFDB records with SNOMED CT codes in their headers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers.base import known_sex
from ecgkit.readers.wfdb import WfdbFiles
from ecgkit.readers.wfdb.header import read_header
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Column, record_table
from ecgkit.sources.codes import CODES, SUPERCLASS, code_labels
from ecgkit.sources.fitted import FittedSource, states_sha256
from ecgkit.stats.folds import assign_folds

OVER_89 = 300
SUBSETS = {
    "A": "CPSC",
    "Q": "CPSC-Extra",
    "E": "Georgia",
    "JS": "Ningbo",
    "HR": "PTB-XL",
    "S": "PTB",
    "I": "St Petersburg",
}
"""The data sets by the letters with which the names of their records begin."""
LAST_OF_CHAPMAN = 10_646
"""Records JS up to this number are those of Chapman-Shaoxing."""
SEVERAL_RECORDS = ("PTB", "St Petersburg")
WRONG_GAIN, WRONG_SPAN = 200.0, 4.0
"""A gain of 200 steps per mV is wrong if the median lead spans more mV than this: the steps are microvolts."""
TRIED = 21
"""Records of each data set with this gain that are read first; if it is wrong in most of them, it is in all."""
STEPS = "its steps look like microvolts, correct the gain to 1000/mV"
MAX_HEADER = 2**16
NO_CODES = "has no line Dx: in its header"
_NAME = re.compile(r"([A-Z]+)(\d+)")
_LINE = re.compile(r"^[\s#]*(age|sex|gender|dx)\s*:[ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_CODE = re.compile(r"\d{5,18}")
_GAIN = re.compile(r"^[^#\s]\S*[ \t]+\S+[ \t]+([\d.]+)(?:\([-\d]+\))?/mV\b", re.MULTILINE)
_YEARS = re.compile(r"-?\d+(?:\.\d+)?")


class HeaderFields(NamedTuple):
    """What a header says: ``defect`` is why its record cannot be used, empty if it can."""

    age: float
    sex: str | None
    codes: tuple[str, ...]
    defect: str
    sampling_rate: float
    seconds: float
    gains: frozenset[float]


class Cinc(FittedSource):
    """A folder with records of PhysioNet/CinC 2020 or 2021, at any depth, of one of their data sets or of several.

    Which data set a record is from follows from its name: see `SUBSETS`. Patients are known nowhere in these folders.
    In PTB and St Petersburg, which have several records of many patients, records with consecutive numbers and the
    same age and sex count as one patient; elsewhere each record does. Copies of a record, with the same name in two
    folders, are of one patient. In PTB-XL (``HR``) that is wrong for 1 of 8 records: read it with the source ``ptbxl``.

    Parameters
    ----------
    folder : Path or str
        The folder.
    sampling_rate : int, default 100
        In Hz; every record is resampled to it.
    seconds : float, default 10.0
        Length of each record: the start of longer ones is kept, shorter ones end in the mean of each lead, and those of
        less than half the length are refused.
    seed : int, default 0
        Of the folds: patients are divided so that the superclasses are spread evenly.

    Attributes
    ----------
    unmapped : dict of str to int
        Codes without an entry in ``codes.csv``, and the number of records of each.

    Raises
    ------
    EcgkitError
        If the folder holds no header with a line ``Dx:``.

    References
    ----------
    Reyna, M. A. et al. (2021). Will two do? Varying dimensions in electrocardiography: the PhysioNet/Computing in
    Cardiology Challenge 2021. Computing in Cardiology 48.
    """

    name = "cinc"
    columns = MappingProxyType(
        {
            "age_over_89": Column("bool"),
            "subset": Column("string"),
            "dx": Column("string"),
            "file_rate": Column("float64", "Hz"),
            "file_seconds": Column("float64", "s"),
        }
    )
    all_false = MappingProxyType({SUPERCLASS: "unlabelled", CODES: "unlabelled"})
    licence = "CC BY 4.0"
    citation = "Reyna et al. (2022), PhysioNet/CinC Challenge 2021, https://doi.org/10.13026/34va-7q14"

    def _open(self, seed: int) -> CincFiles:
        """Read the tables, and return what reads the records."""
        headers = find_headers(self.folder)
        suffixes = (".hea", ".mat", ".dat")
        self._files_sha256 = states_sha256(self.folder, [name + suffix for name in headers for suffix in suffixes])
        fields = _read_headers(self.folder, tuple(headers), self._files_sha256)
        ids = _identifiers(headers)
        self.labels, self.unmapped = code_labels([one.codes for one in fields], "snomed")
        names = [header.rpartition("/")[2] for header in headers]
        found = _columns(ids, names, fields)
        patients = pd.Series(_patients(found, names))
        folds = assign_folds(patients, self.labels[SUPERCLASS], seed=seed)
        self.records = record_table(found | {"patient_id": patients, "fold": folds}, self.columns)
        self.refused = {name: one.defect for name, one in zip(ids, fields, strict=True) if one.defect}
        return CincFiles(str(self.folder), dict(zip(ids, headers, strict=True)))

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return True if the first header in a folder has a line ``Dx:``."""
        first = next(_walk(folder), None)
        return first is not None and _read_fields(folder / f"{first}.hea").defect != NO_CODES


class CincFiles(WfdbFiles):
    """Reads the records, and refuses those that hold microvolts although their header has another gain."""

    def read(self, record_id: str) -> ECG:
        """Read one record; see `ecgkit.readers.wfdb.read_record`."""
        ecg = super().read(record_id)
        span = _median_span(ecg)
        if span > WRONG_SPAN:
            header = read_header(f"{self.folder}/{self.files[record_id]}")
            if all(line.storage.gain == WRONG_GAIN for line in header.signals):
                raise UnreadableRecordError(
                    f"{record_id} spans {span:.3g} mV from peak to peak with its gain of {WRONG_GAIN:g}/mV: {STEPS}"
                )
        return ecg


def find_headers(folder: Path) -> list[str]:
    """Return the paths of all headers in a folder, without their suffix, sorted.

    Raises
    ------
    EcgkitError
        If there are none.
    """
    if not folder.is_dir():
        raise EcgkitError(f"no folder {folder}: give the folder with the records of PhysioNet/CinC")
    found = sorted(_walk(folder))
    if not found:
        raise EcgkitError(f"no header (.hea) in {folder}: give the folder with the records of PhysioNet/CinC")
    return found


def _walk(folder: Path) -> Iterator[str]:
    """Yield the paths of the headers in a folder, without their suffix."""
    for path, folders, names in os.walk(folder):
        folders.sort()
        inner = os.path.relpath(path, folder).replace(os.sep, "/")
        for name in sorted(names):
            if name.endswith(".hea") and not name.startswith("."):
                yield name[:-4] if inner == "." else f"{inner}/{name[:-4]}"


@lru_cache(maxsize=2)
def _read_headers(folder: Path, headers: tuple[str, ...], _: str) -> list[HeaderFields]:
    """Read all headers; the last argument changes when a file does."""
    fields = [_read_fields(folder / f"{name}.hea") for name in headers]
    if all(one.defect == NO_CODES for one in fields):
        raise EcgkitError(f"no header in {folder} has a line Dx: with codes: give a folder of PhysioNet/CinC")
    for rows in _wrong_gains(folder, headers, fields):
        for row in rows:
            why = f"has a gain of {WRONG_GAIN:g}/mV, with which most records of its data set are too large: {STEPS}"
            fields[row] = fields[row]._replace(defect=fields[row].defect or why)
    return fields


def _wrong_gains(folder: Path, headers: Sequence[str], fields: Sequence[HeaderFields]) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each data set of which the gain of 200/mV is wrong in most of the records that are tried."""
    rows = np.array([row for row, one in enumerate(fields) if one.gains == {WRONG_GAIN}], np.int64)
    subsets = np.array([subset_of(headers[row].rpartition("/")[2]) or "" for row in rows])
    files = WfdbFiles(str(folder), {name: name for name in headers})
    for subset in np.unique(subsets):
        own = rows[subsets == subset]
        spans = []
        for row in own[:: -(-len(own) // TRIED)]:
            with suppress(EcgkitError, OSError):
                spans.append(_median_span(files.read(headers[row])))
        if spans and np.median(spans) > WRONG_SPAN:
            yield own


def _median_span(ecg: ECG) -> float:
    """Return the median over the leads of the range of values in the first 10 s, in mV; -inf where all are NaN."""
    signal = ecg.signal[:, : round(10 * ecg.sampling_rate)]
    spans = np.nanmax(signal, axis=1, initial=-np.inf) - np.nanmin(signal, axis=1, initial=np.inf)
    return float(np.median(spans))


def _read_fields(path: Path) -> HeaderFields:
    """Read what a header says about the patient and the diagnosis."""
    with open(path, "rb") as file:  # noqa: PTH123
        text = file.read(MAX_HEADER).decode("latin-1")
    first = text.split("\n", 1)[0].split()
    rate, n_samples = (_number(first[i]) if len(first) > i else np.nan for i in (2, 3))
    lines = [(name.lower(), value) for name, value in _LINE.findall(text)]
    of = dict(lines)
    diagnoses = [value for name, value in lines if name == "dx"]
    codes = [code.strip() for code in diagnoses[0].split(",")] if diagnoses else []
    defect = _defect(diagnoses, codes)
    return HeaderFields(
        age=_number(of.get("age", "")),
        sex=known_sex(of.get("sex", of.get("gender", ""))),
        codes=() if defect else tuple(codes),
        defect=defect,
        sampling_rate=rate,
        seconds=n_samples / rate if rate else np.nan,
        gains=frozenset(map(_number, _GAIN.findall(text))),
    )


def _defect(diagnoses: Sequence[str], codes: Sequence[str]) -> str:
    """Return why the codes of a header cannot be used; empty if they can."""
    if not diagnoses:
        return NO_CODES
    if len(diagnoses) > 1:
        return f"has {len(diagnoses)} lines Dx: in its header"
    if wrong := [code for code in codes if not _CODE.fullmatch(code)]:
        return f"has {wrong[0][:40]!r} among its codes (Dx: {diagnoses[0][:80]}), which is not a SNOMED CT code"
    if twice := [code for code in codes if codes.count(code) > 1]:
        return f"has the code {twice[0]} twice (Dx: {diagnoses[0][:80]})"
    return ""


def _number(text: str) -> float:
    """Return the number with which a text begins; NaN if there is none."""
    found = _YEARS.match(text.strip())
    return float(found[0]) if found else np.nan


def _identifiers(headers: Sequence[str]) -> list[str]:
    """Return the name of each record; its path if the name occurs twice."""
    names = pd.Series([header.rpartition("/")[2] for header in headers])
    return names.mask(names.duplicated(keep=False), pd.Series(headers)).tolist()


def _columns(ids: Sequence[str], names: Sequence[str], fields: Sequence[HeaderFields]) -> dict[str, pd.Series]:
    """Return the columns of the table of records but patients and folds."""
    table = pd.DataFrame(fields, columns=HeaderFields._fields)
    subsets = [subset_of(name) for name in names]
    return {
        "record_id": pd.Series(ids),
        "age": table["age"].mask(table["age"] == OVER_89, 90.0),
        "age_over_89": table["age"] == OVER_89,
        "sex": table["sex"].astype("string"),
        "subset": pd.Series(subsets, dtype="string"),
        "dx": table["codes"].map(",".join).astype("string").mask(table["codes"].map(len) == 0),
        "file_rate": table["sampling_rate"].astype(float),
        "file_seconds": table["seconds"].astype(float),
    }


def subset_of(name: str) -> str | None:
    """Return the data set of a record by its name; None if no data set has such names."""
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in SUBSETS:
        return None
    return "Chapman-Shaoxing" if found[1] == "JS" and int(found[2]) <= LAST_OF_CHAPMAN else SUBSETS[found[1]]


def _patients(found: Mapping[str, pd.Series], names: Sequence[str]) -> list[str]:
    """Return the patient of each record: its name, or the one before if that seems to be of the same person."""
    patients: list[str] = []
    before: tuple[object, ...] | None = None
    for name, subset, age, sex in zip(names, found["subset"], found["age"], found["sex"], strict=True):
        person = None
        if not pd.isna(subset) and subset in SEVERAL_RECORDS and not (pd.isna(age) or pd.isna(sex)):
            person = (subset, age, sex)
        patients.append(patients[-1] if person is not None and person == before else name)
        before = person
    return patients
