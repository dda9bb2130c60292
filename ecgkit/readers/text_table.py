"""The numbers of a table of text: which signs separate them, and their conversion."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from ecgkit.errors import UnreadableRecordError
from ecgkit.readers.base import Vector, check_size, millivolts, standard_name
from ecgkit.signals.ecg import LEADS

LARGEST_ROWS = 8 * 2**20
MOST_ROWS, MOST_COLUMNS, MOST_CLOCKS, MOST_BLANKS = 64, 1024, 10**6, 10
MISSING = ("", "nan", "NaN", "NAN", "na", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "None", "-", "--")
DATE = r"\d{4}-\d{2}-\d{2}|\d{4}/\d{1,2}/\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{4}"
CLOCK = re.compile(
    rf"\[?(?:(?:{DATE})[T ]?)?(?:\d{{1,2}}:)?\d{{1,2}}:\d{{2}}(?:[.,]\d+)?(?: ?(?:Z|[-+]\d{{2}}:?\d{{2}}))?\]?"
)


def read_numbers(body: str, separator: str, decimal: str) -> tuple[list[str], list[Vector | list[str]]]:
    """Read the lines of numbers.

    Parameters
    ----------
    body : str
        The lines; each is a sample of all signals or, in a table of few lines, a signal, possibly with its name and its
        unit.
    separator : str
        ``""`` for one column, ``" "`` for any white space.
    decimal : str
        The decimal sign.

    Returns
    -------
    tuple of list of str and list of ndarray or list of str
        The names if the lines have them, else nothing, and the signals; a column with text as its texts.
    """
    lines = body.count("\n") + 1
    first = body.partition("\n")[0]
    is_named = standard_name(split_fields(first[:2000], separator)[0]) in LEADS
    width = first.count(separator) + 1 if separator.strip() else len(first.split())
    if is_named or (lines <= 16 and width > max(4 * lines, 64)):
        if lines > MOST_ROWS:
            raise UnreadableRecordError(f"the table has a name in each of its {lines} lines: give one line per lead")
        check_size(len(body), LARGEST_ROWS, "a table with one line per lead")
        return _rows([line for line in body.split("\n") if line.strip()], separator, decimal, is_named=is_named)
    if width > MOST_COLUMNS:
        raise UnreadableRecordError(f"the table has {width} columns and {lines} lines: give one column per lead")
    if 0 < body.count("\n\n") < MOST_BLANKS:
        raise UnreadableRecordError("there are blank lines within the table: give a table of one recording")
    _check_thousands(body, decimal)
    return [], _columns(body, separator, decimal)


def find_dialect(lines: list[str], header: list[str], n_leads: int) -> tuple[str, str]:
    """Return the separator ("" for one column, " " for white space) and the decimal sign of some lines."""
    joined = re.sub(DATE, "", "\n".join(lines))
    for separator in "\t;|":
        if separator in lines[0].strip().rstrip(separator):
            return separator, "," if re.search(r"\d,\d|[ -]?,\d", joined) and "." not in joined else "."
    if re.search(r"\d,\d+[ \t]+[-+]?\d*,\d", joined) or (re.search(r"\S\s+\S", lines[0]) and "," not in joined):
        return " ", "," if "," in joined else "."
    if "," not in joined:
        return "", "."
    commas = {line.count(",") for line in lines}
    one_name = bool(header) and len(split_fields(header[-1], ",")) == 1 and ";" not in header[-1]
    if commas <= {0, 1} and "." not in joined and (n_leads == 1 or one_name):
        return "", ","
    fields, n_names = split_fields(lines[-1], ","), len(split_fields(header[-1], ",")) if header else 0
    are_split = n_names > 1 and "." not in joined and len(fields) in (2 * n_names - 1, 2 * n_names)
    if are_split or any("," in field for field in fields):  # the second in quotes
        raise UnreadableRecordError(
            "commas separate the columns and are the decimal signs as well: write decimal points, or separate the "
            "columns by semicolons"
        )
    return ",", "."


def _check_thousands(body: str, decimal: str) -> None:
    """Refuse whole numbers of which the large ones have a sign after the thousands, such as 950 and 1.050."""
    sign = re.escape(decimal)
    if decimal not in body or re.search(rf"(?<!\d)0{sign}|(?<!\d){sign}|{sign}\d{{0,2}}(?!\d)|\d{{4}}|\de", body):
        return
    large, is_small = re.search(rf"\d+{sign}\d+", body), re.search(rf"(?<![\d{decimal}])\d+(?![\d{decimal}])", body)
    if large and is_small:
        raise UnreadableRecordError(f"{large[0]} may be a number of thousands: write it without a sign after thousands")


def split_fields(line: str, separator: str) -> list[str]:
    """Split a line of the header, or the beginning of one of the data."""
    if separator in ("", " "):
        return [line.strip().strip("\"'")] if not separator else line.split()
    return [field.strip().strip("\"'").lstrip("#").strip() for field in next(csv.reader([line], delimiter=separator))]


def _rows(
    lines: list[str], separator: str, decimal: str, *, is_named: bool
) -> tuple[list[str], list[Vector | list[str]]]:
    """Read one lead per line."""
    names: list[str] = []
    rows: list[Vector | list[str]] = []
    for line in lines:
        values = line.rstrip().rstrip(separator or None).split(separator if separator.strip() else None)
        if is_named:
            names.append(values.pop(0).strip().strip("\"'"))
            if values and millivolts(values[0].strip().strip("\"'")):
                names[-1] = f"{names[-1]} ({values.pop(0).strip()})"
        rows.append(to_numbers(values, decimal, names[-1] if names else "a line"))
    if len({len(row) for row in rows}) > 1:
        raise UnreadableRecordError("the lines of the leads have different lengths")
    return names, rows


def to_numbers(values: list[str], decimal: str, where: str) -> Vector:
    """Convert texts to numbers, blanks to NaN."""
    texts = [value.strip().strip("\"'").replace(decimal, ".").replace("\u2212", "-") for value in values]
    try:
        return np.array(["nan" if text in MISSING else text for text in texts], dtype=np.float64)
    except ValueError as error:
        raise UnreadableRecordError(f"{where} has something that is not a number: {str(error)[:100]}") from error


def _columns(body: str, separator: str, decimal: str) -> list[Vector | list[str]]:
    """Read one lead per column. Date and time of day become seconds."""
    if separator == " ":
        body, separator = re.sub(r"(?m)^[ \t]+|[ \t]+$", "", body), "\t"
        body = re.sub(r"[ \t]+", "\t", body)
    fields = split_fields(body[:200].partition("\n")[0], separator)[:2] if separator else [""]
    has_date = len(fields) > 1 and re.fullmatch(DATE, fields[0]) is not None
    n_clocks = has_date + 1 if CLOCK.fullmatch(fields[has_date]) else 0
    table = _parse(body.replace("\u2212", "-"), separator or "\x1f", decimal, n_texts=n_clocks)
    columns = [_numbers(column, decimal) for column in table.columns[n_clocks:]]
    if not n_clocks:
        return columns
    clocks = (table.column(row).to_pylist() for row in range(n_clocks))
    texts = [" ".join(filter(None, parts)) for parts in zip(*clocks, strict=True)]
    return [*[_clock_seconds(texts)] * n_clocks, *columns]


def _numbers(column: Any, decimal: str) -> Vector | list[str]:
    """Return a column as numbers, or as its texts if one of them is no number."""
    if column.type != "string":
        return np.asarray(column.to_numpy(), np.float64)
    texts = column.to_pylist()
    try:
        return to_numbers(texts, decimal, "a column")
    except UnreadableRecordError:
        return texts


def is_number(text: str, decimal: str) -> bool:
    """Return True for a text that is a number or blank."""
    try:
        return bool(len(to_numbers([text], decimal, "")))
    except UnreadableRecordError:
        return False


def _parse(text: str, separator: str, decimal: str, *, n_texts: int) -> Any:
    """Parse columns of numbers with Arrow, which is fast; the first ones, or if need be all, are texts."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    n_columns = text.partition("\n")[0].count(separator) + 1
    names = [f"f{number}" for number in range(n_columns)]
    types = {name: pa.float64() if number >= n_texts else pa.string() for number, name in enumerate(names)}
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
        if "conversion error" in str(error) and n_texts < n_columns and n_columns > 1:
            return _parse(text, separator, decimal, n_texts=n_columns)
        reason = " ".join(str(error).split())[:150]
        raise UnreadableRecordError(f"the table is not a table of numbers: {reason}") from error


def _clock_seconds(texts: list[str]) -> Vector:
    """Convert times of day or dates to seconds since the first."""
    if len(texts) > MOST_CLOCKS:
        raise UnreadableRecordError(f"the table has {len(texts):,} times of day: write the time in seconds")
    cleaned = [re.sub(r" ?[-+]\d{2}:?\d{2}$", "", str(text).strip("[]Z'\" ")).replace(",", ".") for text in texts]
    try:
        if "-" in cleaned[0]:
            stamps = np.array(cleaned, dtype="datetime64[us]")
            return (stamps - stamps[0]).astype(np.float64) / 1e6
        seconds = np.fromiter((_seconds(text.rpartition(" ")[2]) for text in cleaned), np.float64, len(cleaned))
        return np.unwrap(seconds, period=86400.0)  # at midnight
    except ValueError as error:
        raise UnreadableRecordError(f"the column of times cannot be read: {str(error)[:100]}") from error


def _seconds(text: str) -> float:
    """Convert a time such as 1:02:03.5 to seconds."""
    parts: Iterable[str] = reversed(text.split(":"))
    return sum(float(part) * 60**power for power, part in enumerate(parts))
