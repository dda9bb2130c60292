"""Read tables of text: CSV and TSV of all kinds, and the ECGs of Apple's watch."""

from __future__ import annotations

import codecs
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
    check_scaled,
    check_size,
    known_age,
    known_sex,
    millivolts,
    split_name,
    standard_name,
)
from ecgkit.readers.tables import INDEX_NAMES, TIME_NAMES, check_one_record, from_columns, rate_of, seconds_per_step
from ecgkit.readers.text_table import CLOCK, DATE, MISSING, find_dialect, read_numbers, split_fields, to_numbers
from ecgkit.signals.ecg import LEADS

LARGEST = 48 * 2**20
MOST_HEADER_LINES, MOST_FOOTER_LINES = 200, 50
_NO_VALUE = "|".join(map(re.escape, filter(None, MISSING)))
_NUMBER = re.compile(rf"[-+\u2212]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?|{_NO_VALUE}")
_KEY_VALUE = re.compile(r"""^[#%"'\s]*(.+?)\s*["']?\s*[,;:=\t]\s*["']?(.*?)["'\s,;]*$""")
_HERTZ = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:hz|hertz|ヘルツ|赫兹?|赫茲|герц)", re.IGNORECASE)
_ANY_WORD = re.compile(r"(\d+(?:[.,]\d+)?)\s*[^\W\d]+")
_RATE_KEY = re.compile(
    r"sampl\w*[\W_]*(?:rate|freq|per\b)|^[#\s]*(?:sampling|rate|freq(?:uency|\.)?|sfreq|hz)\W*(?:hz\W*)?$|\bfs\b|abtast"
    r"|messrate|chantillon|muestreo|campion|amostr|サンプ|采样|采樣|샘플|дискрет",
    re.IGNORECASE,
)
_UNIT_KEY = re.compile(r"\bunit|einheit|\bunid|単位|单位|單位|단위|единиц", re.IGNORECASE)
_LEAD_KEY = re.compile(r"lead|ableit|d[eé]riva|channel|kanal|canal|誘導|导联|導聯|유도|отвед", re.IGNORECASE)
_PAPER_GAINS = ("10", "20")  # mm per mV
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
    header, body, after = _split(text)
    facts = _facts(header)
    n_leads = len(hints.leads or ()) or (1 if facts["lead"] and facts["rate"] else 0)
    sample = [line[:2000] for line in body[: 2**20].split("\n")[:50] if line.strip()]
    separator, decimal = find_dialect(sample, header, n_leads)
    names, found_columns = read_numbers(body, separator, decimal)
    units = [""] * len(found_columns)
    are_rows = bool(names)
    if are_rows and header and facts["rate"] is None:
        facts["rate"] = _rate_of_row(header[-1], separator, decimal)
    if not are_rows:
        names, units = _header_names(header, separator, len(found_columns))
    columns, names, units, left_out = _without_texts(found_columns, names, units)
    if not are_rows:
        columns, names, units = _tidy(columns, names, units)
    if facts["gain"]:
        check_scaled(columns[1:] or columns, facts["gain"])  # the first may be the time
    found = from_columns(columns, names, units=units, rate=facts["rate"])
    if len(found.signals) == 1 and standard_name(found.names[0]) not in LEADS and facts["lead"]:
        found = replace(found, names=(facts["lead"],))
    if facts["unit"] and not any(found.units):
        found = found.in_millivolts(facts["unit"])
    return replace(found, age=facts["age"], sex=facts["sex"], findings=(*left_out, *after))


_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1a"))


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
    return bool(head.strip()) and len(head.translate(None, _CONTROL)) == len(head)


def _tokens(line: str) -> list[str]:
    """Split a line at whatever separates numbers."""
    return [token.strip("\"'") for token in re.split(r"[\t;,|\s]+", line.strip().rstrip(",;|")) if token.strip("\"'")]


def _split(text: str) -> tuple[list[str], str, list[str]]:
    """Split a text into the lines of its header and, in one piece, those of numbers; with findings on the rest."""
    text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    header: list[str] = []
    place = 0
    while place < len(text) and len(header) < MOST_HEADER_LINES:
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        line = text[place : min(end, place + 4000)]
        if _is_data(line) or _is_row_with_text(line, header[-2:]):
            return [line for line in header if line.strip()], *_without_footer(text[place:].rstrip())
        header.append(line)
        place = end + 1
    raise UnreadableRecordError("the text has no line of numbers: it is not a table of an ECG")


def _without_footer(body: str) -> tuple[str, list[str]]:
    """Leave out lines of comments, and what stands after the last line of numbers."""
    n_before = body.count("\n")
    if "\n#" in body or "\n%" in body:
        body = re.sub(r"(?m)^(?:#(?!N/A)|%).*\n?", "", body).rstrip()
    for _ in range(MOST_FOOTER_LINES):
        start = body.rfind("\n") + 1
        numbers = [_NUMBER.fullmatch(token) and token for token in _tokens(body[start : start + 400])]
        if not start or all(numbers) or re.search(r"\d", " ".join(filter(None, numbers))):
            break
        body = body[: start - 1].rstrip()
    n_less = n_before - body.count("\n")
    return body, [f"{n_less} lines without numbers left out"] if n_less else []


def _is_row_with_text(line: str, header: list[str]) -> bool:
    """Return True for mostly numbers below the names of several leads: a column may hold text."""
    if not any(sum(standard_name(split_name(token)[0]) in LEADS for token in _tokens(text)) > 1 for text in header):
        return False
    numbers = [_NUMBER.fullmatch(token) is not None for token in _tokens(line)]
    return sum(numbers) > max(1, len(numbers) // 2)


def _is_data(line: str) -> bool:
    """Return True for a line of nothing but numbers; before them a time, or a lead and its unit, may stand."""
    # A line of a thousand numbers is known by its first ones.
    tokens = _tokens(line[:400])[:20] if len(line) > 400 else _tokens(line)
    rest = tokens[1:] if tokens and standard_name(tokens[0]) in LEADS and len(tokens) > 8 else tokens
    if len(rest) < len(tokens) and millivolts(rest[0]):
        rest = rest[1:]
    while rest and (CLOCK.fullmatch(rest[0]) or re.fullmatch(rf"\[?(?:{DATE})", rest[0])):
        rest = rest[1:]
    return all(_NUMBER.fullmatch(token) for token in rest) and re.search(r"\d", " ".join(rest)) is not None


def _header_names(header: list[str], separator: str, n_columns: int) -> tuple[list[str], list[str]]:
    """Return the names and units of the columns from the last lines of the header; empty where there are none."""
    names = units = [""] * n_columns
    for line in reversed(header[-2:]):
        fields = split_fields(line, separator)
        if separator == " " and len(fields) > n_columns:  # names of several words
            fields = re.split(r"\s{2,}|\t", line.strip())
        fields = [""] * (n_columns - len(fields)) + fields if len(fields) == n_columns - 1 else fields
        fields = fields[:-1] if len(fields) == n_columns + 1 and not fields[-1] else fields
        if len(fields) != n_columns:
            break
        bare = [field.strip("()[]") for field in fields]
        if all(millivolts(field) or _is_unit_of_time(field) or not field for field in bare) and any(bare):
            units = bare
            continue
        is_fact = n_columns <= 2 and _KEY_VALUE.match(line) and not _names_leads(fields)
        return (names if is_fact else fields), units
    return names, units


def _rate_of_row(line: str, separator: str, decimal: str) -> float | None:
    """Return the sampling rate of a line of times above one line per lead, None for another line."""
    name, *times = split_fields(line, separator)[:1000]
    word, unit = split_name(name)
    if times and (not times[0] or times[0].lower() in TIME_UNITS):  # a column of units
        unit = times.pop(0) or unit
    if word.lower() not in TIME_NAMES or len(times) < 4:
        return None
    return rate_of(to_numbers(times[:-1], decimal, name), seconds_per_step(word, unit))[0]  # the last may be cut


def _is_unit_of_time(field: str) -> bool:
    """Return True for a unit such as ``s``, the form of a time such as ``hh:mm:ss.mmm``, or a count."""
    return field.lower() in {*TIME_UNITS, *INDEX_NAMES} or re.fullmatch(r"h+:m+:s+\.?m*", field) is not None


def _names_leads(fields: list[str]) -> bool:
    """Return True if a field is the name of a lead, perhaps with its unit."""
    return any(
        standard_name(re.split(r"[(\[_ ]", field)[0]) in LEADS or standard_name(field) in LEADS for field in fields
    )


def _without_texts(
    columns: list[Vector | list[str]], names: list[str], units: list[str]
) -> tuple[list[Vector], list[str], list[str], list[str]]:
    """Leave out columns of text that are named and no lead, with a finding."""
    kept, left_out = [], []
    for row, column in enumerate(columns):
        if not isinstance(column, list):
            kept.append(row)
        elif not names[row] or _names_leads([names[row]]) or names[row].lower() in TIME_NAMES:
            where = f"column {names[row]}" if names[row] else f"column {row + 1}"
            raise UnreadableRecordError(f"{where} of the table has {column[0][:40]!r}, which is not a number")
        else:
            check_one_record(names[row], np.arange(len(column)), is_text=True)
            left_out.append(f"the column {names[row]} of text left out")
    numbers = [column for column in columns if not isinstance(column, list)]
    return numbers, [names[row] for row in kept], [units[row] for row in kept], left_out


def _tidy(columns: list[Vector], names: list[str], units: list[str]) -> tuple[list[Vector], list[str], list[str]]:
    """Leave out a row that numbers the columns, and columns without name or value."""
    if not any(names) and len(columns) > 1 and [column[0] for column in columns] == list(range(len(columns))):
        columns = [column[1:] for column in columns]
    kept = [row for row, column in enumerate(columns) if names[row] or np.isfinite(column).any()]
    if not kept:
        raise UnreadableRecordError("the table has no numbers")
    return [columns[row] for row in kept], [names[row] for row in kept], [units[row] for row in kept]


def _facts(header: list[str]) -> dict[str, Any]:
    """Return what the lines before the numbers say: rate in Hz, unit, lead, age and sex; None where they do not.

    The export of a watch has few lines, in any language, so that the forms of the values tell which is which; of other
    files only lines with the words for rate, unit and lead count.
    """
    pairs = [(match[1], match[2].strip()) for line in header if (match := _KEY_VALUE.match(line[:200])) and match[2]]
    asked = [(key, value) for key, value in pairs if not _OTHER_KEY.search(key)]
    number = r"\d+(?:[.,]\d+)?"
    is_watch = _WATCH.search("\n".join(header)) is not None
    of_rate, of_unit, of_lead = (
        [value for key, value in asked if is_watch or words.search(key)] for words in (_RATE_KEY, _UNIT_KEY, _LEAD_KEY)
    )
    by_hertz = [match[1] for value in of_rate if (match := _HERTZ.fullmatch(value))]
    form = _ANY_WORD if is_watch else re.compile(f"({number})")
    other = [match[1] for value in of_rate if (match := form.fullmatch(value)) and not millivolts(value)]
    rates = {float(text.replace(",", ".")) for text in by_hertz or other}
    units = {value for value in of_unit if millivolts(value)}
    leads = {match[1] for value in of_lead if len(value) < 24 and (match := _LEAD.search(value))}
    known = {key.lower().strip("# "): value for key, value in pairs}
    lead = leads.pop() if len(leads) == 1 else ("I" if is_watch else None)
    gains = [key for key, value in pairs if _is_gain(key, value)]
    return {
        "rate": rates.pop() if len(rates) == 1 else None,
        "unit": units.pop() if len(units) == 1 else None,
        "lead": lead,
        "gain": gains[0] if gains else None,
        "age": known_age(float(known["age"])) if re.fullmatch(number, known.get("age", "")) else None,
        "sex": known_sex(known.get("sex", "")),
    }


def _is_gain(key: str, value: str) -> bool:
    """Return True for the steps of a converter per mV or the size of a step, False for the scale of a print."""
    match = re.match(r"(\d+(?:[.,]\d+)?)\s*(.*)", value)
    if match is None or float(match[1].replace(",", ".")) == 1:
        return False
    if re.search(r"\bgain\b", key, re.IGNORECASE):
        return match[1] not in _PAPER_GAINS if not match[2] else not re.match(r"(?i)([mc]m|db|x)\b", match[2])
    is_step = re.search(r"\blsb\b|resolution", key, re.IGNORECASE) is not None
    return is_step and millivolts(re.split(r"[/ ]", match[2])[0]) is not None
