"""Read tables of text: CSV and TSV of all kinds, and the ECGs of Apple's watch."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import UnreadableRecordError
from ecgkit.readers.base import (
    TIME_UNITS,
    Hints,
    Signals,
    Vector,
    check_size,
    known_age,
    known_sex,
    millivolts,
    scaled,
    standard_name,
)
from ecgkit.readers.tables import from_columns
from ecgkit.signals.ecg import LEADS

LARGEST = 64 * 2**20
MOST_HEADER_LINES = 200
MISSING = ("", "nan", "NaN", "NAN", "na", "NA", "null", "NULL", "None", "-")
_NUMBER = re.compile(r"[-+\u2212]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?|" + "|".join(filter(None, MISSING)))
_CLOCK = re.compile(r"\[?(?:\d{4}-\d{2}-\d{2}[T ]?)?(?:\d{1,2}:)?\d{1,2}:\d{2}(?:[.,]\d+)?Z?\]?")
_KEY_VALUE = re.compile(r"""^[#%"'\s]*(.+?)\s*["']?\s*[,;:=\t]\s*["']?(.*?)["'\s,;]*$""")
_HERTZ = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:hz|hertz|ヘルツ|赫兹?|赫茲|герц)", re.IGNORECASE)
_ANY_WORD = re.compile(r"(\d+(?:[.,]\d+)?)\s*[^\W\d]+")
_RATE_KEY = re.compile(r"sampl|\bfs\b|rate|freq|abtast|messrate", re.IGNORECASE)
_OTHER_KEY = re.compile(r"filter|notch|pass|mains|heart|puls|version|device|model|software|ger.t", re.IGNORECASE)
_LEAD = re.compile(r"(?<![A-Za-z0-9])(I{1,3}|aV[RLF]|V[1-6])(?![A-Za-z0-9])")
_WATCH = re.compile(r"\bWatch\d+,\d+")


def read_text(path: Path, hints: Hints) -> Signals:
    """Read a table of numbers: one column per lead, or one row; see the page on formats for the variants."""
    check_size(path.stat().st_size, LARGEST, f"{path.name}, a table of text,")
    text = decode(path.read_bytes())
    if "com.samsung." in text[:4096]:
        raise UnreadableRecordError(
            "a table of Samsung Health has no samples: the trace of an ECG is in the files of the same export that lie "
            "under jsons/com.samsung.health.ecg, or in the PDF report of Samsung Health Monitor"
        )
    lines = text.splitlines()
    first = _first_data_line(lines)
    header = [line for line in lines[:first] if line.strip()]
    body = [line for line in lines[first:] if line.strip()]
    facts = _facts(header)
    n_leads = len(hints.leads or ()) or (1 if facts["lead"] and facts["rate"] else 0)
    separator, decimal = _dialect(body, header, n_leads)
    if standard_name(_fields(body[0], separator)[0]) in LEADS:
        names, columns = _rows(body, separator, decimal)
        units = [""] * len(names)
    else:
        columns = _columns(body, separator, decimal)
        names, units = _header_names(header, separator, len(columns))
        columns, names, units = _tidy(columns, names, units)
    found = from_columns(columns, names, units=units, rate=facts["rate"])
    if len(found.signals) == 1 and standard_name(found.names[0]) not in LEADS and facts["lead"]:
        found = replace(found, names=(facts["lead"],))
    if facts["unit"] and not any(found.units):
        pairs = [scaled(values, facts["unit"]) for values in found.signals]
        found = replace(found, signals=tuple(pair[0] for pair in pairs), units=tuple(pair[1] for pair in pairs))
    return replace(found, age=facts["age"], sex=facts["sex"])


def decode(data: bytes) -> str:
    """Return the text of a file in UTF-8, UTF-16 with its mark, or Latin-1."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def is_text(head: bytes) -> bool:
    """Return True if the beginning of a file can be text."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1a" for byte in head)
    return bool(head.strip()) and control == 0


def _tokens(line: str) -> list[str]:
    """Split a line at whatever separates numbers."""
    return [token.strip("\"'") for token in re.split(r"[\t;,|\s]+", line.strip().rstrip(",;|")) if token.strip("\"'")]


def _first_data_line(lines: list[str]) -> int:
    """Return the first line of nothing but numbers; before them a time or the name of a lead may stand."""
    for position, line in enumerate(lines[:MOST_HEADER_LINES]):
        # A row of a thousand numbers is known by its first ones.
        tokens = _tokens(line[:400] if len(line) > 400 else line)[: 20 if len(line) > 400 else None]
        if not tokens:
            continue
        rest = tokens[1:] if standard_name(tokens[0]) in LEADS and len(tokens) > 8 else tokens
        while (rest and _CLOCK.fullmatch(rest[0])) or (rest and re.fullmatch(r"\[?\d{4}-\d{2}-\d{2}", rest[0])):
            rest = rest[1:]
        if rest and all(_NUMBER.fullmatch(token) for token in rest) and re.search(r"\d", " ".join(rest)):
            return position
    raise UnreadableRecordError("the text has no line of numbers: it is no table of an ECG")


def _dialect(body: list[str], header: list[str], n_leads: int) -> tuple[str, str]:
    """Return the separator ("" for one column, " " for white space) and the decimal sign."""
    sample = body[:50]
    joined = "\n".join(sample)
    for separator in "\t;|":
        if separator in sample[0].strip().rstrip(separator):
            return separator, "," if re.search(r"\d,\d|[ -]?,\d", joined) and "." not in joined else "."
    if re.search(r"\d,\d+[ \t]+[-+]?\d*,\d", joined) or (re.search(r"\S\s+\S", sample[0]) and "," not in joined):
        return " ", "," if "," in joined else "."
    if "," not in joined:
        return "", "."
    commas = {line.count(",") for line in sample}
    one_name = bool(header) and len(_fields(header[-1], ",")) == 1 and ";" not in header[-1]
    if commas <= {0, 1} and "." not in joined and (n_leads == 1 or one_name):
        return "", ","
    return ",", "."


def _fields(line: str, separator: str) -> list[str]:
    """Split a line of the header, or the beginning of one of the data."""
    if separator in ("", " "):
        return [line.strip().strip("\"'")] if not separator else line.split()
    return [field.strip().strip("\"'").lstrip("#").strip() for field in next(csv.reader([line], delimiter=separator))]


def _rows(body: list[str], separator: str, decimal: str) -> tuple[list[str], list[Vector]]:
    """Read one lead per line, each with its name in front."""
    names, columns = [], []
    for line in body:
        name, *values = line.split(separator) if separator.strip() else line.split()
        names.append(name.strip().strip("\"'"))
        columns.append(_to_numbers(values, decimal, names[-1]))
    if len({len(column) for column in columns}) > 1:
        raise UnreadableRecordError("the rows of the leads have different lengths")
    return names, columns


def _to_numbers(values: list[str], decimal: str, where: str) -> Vector:
    """Convert texts to numbers, blanks to NaN."""
    texts = [value.strip().strip("\"'").replace(decimal, ".").replace("\u2212", "-") for value in values]
    try:
        return np.array(["nan" if text in MISSING else text for text in texts], dtype=np.float64)
    except ValueError as error:
        raise UnreadableRecordError(f"{where} has something that is no number: {str(error)[:100]}") from error


def _columns(body: list[str], separator: str, decimal: str) -> list[Vector]:
    """Read the columns of the data."""
    if separator == " ":
        body, separator = ["\t".join(line.split()) for line in body], "\t"
    body = [line.rstrip() if separator != "\t" else line.strip(" \r\n") for line in body]
    clock = _CLOCK.fullmatch(_fields(body[0], separator)[0]) if separator else None
    table = _parse("\n".join(body).replace("\u2212", "-"), separator or "\x1f", decimal, has_clock=clock is not None)
    columns = [np.asarray(column.to_numpy(), np.float64) for column in table.columns[1 if clock else 0 :]]
    if clock:
        columns.insert(0, _clock_seconds(table.column(0).to_pylist()))
    if len(body) <= 16 and len(columns) > max(4 * len(body), 64):  # one row per lead, without names
        columns = list(np.array(columns).T)
    return columns


def _parse(text: str, separator: str, decimal: str, *, has_clock: bool) -> Any:
    """Parse columns of numbers with Arrow, which is fast."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    n_columns = len(next(csv.reader([text.partition("\n")[0]], delimiter=separator)))
    names = [f"f{number}" for number in range(n_columns)]
    types = {name: pa.float64() for name in names} | ({"f0": pa.string()} if has_clock else {})
    try:
        return arrow_csv.read_csv(
            io.BytesIO(text.encode()),
            arrow_csv.ReadOptions(column_names=names, block_size=max(2**20, 2 * len(text.partition("\n")[0]))),
            arrow_csv.ParseOptions(delimiter=separator),
            arrow_csv.ConvertOptions(
                column_types=types, null_values=list(MISSING), quoted_strings_can_be_null=True, decimal_point=decimal
            ),
        )
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:150]
        raise UnreadableRecordError(f"the table is no table of numbers: {reason}") from error


def _clock_seconds(texts: list[str]) -> Vector:
    """Convert times of day or dates to seconds since the first."""
    cleaned = [str(text).strip("[]Z'\" ").replace(",", ".") for text in texts]
    try:
        if "-" in cleaned[0]:
            stamps = np.array(cleaned, dtype="datetime64[us]")
            return (stamps - stamps[0]).astype(np.float64) / 1e6
        parts = [[float(part) for part in text.split(":")] for text in cleaned]
        return np.array([sum(part * 60**power for power, part in enumerate(reversed(row))) for row in parts])
    except ValueError as error:
        raise UnreadableRecordError(f"the column of times cannot be read: {str(error)[:100]}") from error


def _header_names(header: list[str], separator: str, n_columns: int) -> tuple[list[str], list[str]]:
    """Return the names and units of the columns from the last lines of the header; empty where there are none."""
    names = units = [""] * n_columns
    for line in reversed(header[-2:]):
        fields = _fields(line, separator)
        fields = [""] * (n_columns - len(fields)) + fields if len(fields) == n_columns - 1 else fields
        fields = fields[:-1] if len(fields) == n_columns + 1 and not fields[-1] else fields
        if len(fields) != n_columns:
            break
        if all(millivolts(field) or _is_unit_of_time(field) or not field for field in fields) and any(fields):
            units = fields
            continue
        is_fact = n_columns <= 2 and _KEY_VALUE.match(line) and not _names_leads(fields)
        return (names if is_fact else fields), units
    return names, units


def _is_unit_of_time(field: str) -> bool:
    """Return True for a unit such as ``s``, or the form of a time such as ``hh:mm:ss.mmm``."""
    return field.lower() in TIME_UNITS or re.fullmatch(r"h+:m+:s+\.?m*", field) is not None


def _names_leads(fields: list[str]) -> bool:
    """Return True if a field is the name of a lead, perhaps with its unit."""
    return any(
        standard_name(re.split(r"[(\[_ ]", field)[0]) in LEADS or standard_name(field) in LEADS for field in fields
    )


def _tidy(columns: list[Vector], names: list[str], units: list[str]) -> tuple[list[Vector], list[str], list[str]]:
    """Leave out a row that numbers the columns, and columns without name or value."""
    if not any(names) and len(columns) > 1 and [column[0] for column in columns] == list(range(len(columns))):
        columns = [column[1:] for column in columns]
    kept = [row for row, column in enumerate(columns) if names[row] or np.isfinite(column).any()]
    if not kept:
        raise UnreadableRecordError("the table has no numbers")
    return [columns[row] for row in kept], [names[row] for row in kept], [units[row] for row in kept]


def _facts(header: list[str]) -> dict[str, Any]:
    """Return what the lines before the numbers say: rate in Hz, unit, lead, age and sex; None where they do not."""
    pairs = [(match[1], match[2].strip()) for line in header if (match := _KEY_VALUE.match(line)) and match[2]]
    asked = [(key, value) for key, value in pairs if not _OTHER_KEY.search(key)]
    number = r"\d+(?:[.,]\d+)?"
    by_key = [value for key, value in asked if _RATE_KEY.search(key) and re.fullmatch(number, value)]
    by_hertz = [match[1] for _, value in asked if (match := _HERTZ.fullmatch(value))]
    by_word = [match[1] for _, value in asked if (match := _ANY_WORD.fullmatch(value)) and not millivolts(value)]
    rates = {float(text.replace(",", ".")) for text in by_hertz or by_key or by_word}
    units = {value for _, value in asked if millivolts(value)}
    leads = {match[1] for _, value in asked if len(value) < 24 and (match := _LEAD.search(value))}
    known = {key.lower().strip("# "): value for key, value in pairs}
    lead = leads.pop() if len(leads) == 1 else ("I" if _WATCH.search("\n".join(header)) else None)
    return {
        "rate": rates.pop() if len(rates) == 1 else None,
        "unit": units.pop() if len(units) == 1 else None,
        "lead": lead,
        "age": known_age(float(known["age"])) if re.fullmatch(number, known.get("age", "")) else None,
        "sex": known_sex(known.get("sex", "")),
    }
