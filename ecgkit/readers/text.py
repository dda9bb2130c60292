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
from ecgkit.readers.tables import (
    INDEX_NAMES,
    TIME_NAMES,
    check_one_record,
    from_columns,
    one_rate,
    rate_of,
    seconds_per_step,
)
from ecgkit.readers.text_table import (
    CLOCK,
    DATE,
    MISSING,
    find_dialect,
    is_number,
    read_numbers,
    split_fields,
    to_numbers,
)
from ecgkit.signals.ecg import LEADS

LARGEST = 48 * 2**20
MOST_HEADER_LINES, MOST_FOOTER_LINES = 200, 50
_NO_VALUE = "|".join(map(re.escape, filter(None, MISSING)))
_NUMBER = re.compile(rf"[-+\u2212]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?|{_NO_VALUE}")
_KEY_VALUE = re.compile(r"""^[#%"'\s]*(.+?)\s*["']?\s*[,;:=\t]\s*["']?(.*?)["'\s,;]*$""")
_SPACED = re.compile(r"[#%\s]*([^,;:=\t]*[^\d,;:=\t])\s+(\d.*)")
_NUMERAL = r"\d+(?:[.,]\d+)?"
_HERTZ = re.compile(rf"({_NUMERAL})\s*(?:hz|hertz|ヘルツ|赫兹?|赫茲|герц|гц)", re.IGNORECASE)
_ANY_WORD = re.compile(rf"({_NUMERAL})\s*[^\W\d]+")
_SAMPLES = r"(?:sampl|abtast|[eé]?chantillon|muestr|campion|amostr|サンプ|采样|採樣|샘플|дискрет)[^\W\d_]*?"
_RATES = r"(?:rates?(?![^\W\d_])|fr[eé][qck]|ta(?:ux|sa|xa)|レート|周波数|頻|频|率|률|율|주파수|частот)"
_SECOND = r"s(?:ec(?:ond[eos]?)?s?|ek(?:unde)?|eg(?:undo)?)?(?![^\W_])"
_RATE_KEY = re.compile(
    rf"{_SAMPLES}[\W_]*{_RATES}|{_RATES}[^\W_]*[\W_]+(?:[^\W_]{{1,3}}[\W_]+){{0,2}}{_SAMPLES}"
    rf"|{_SAMPLES}[\W_]*(?:per|pro|par|por|al|/)[\W_]*{_SECOND}|(?<![^\W_])fs(?![^\W_])|sfreq|messrate",
    re.IGNORECASE,
)
_SAMPLE_KEY = re.compile(_SAMPLES, re.IGNORECASE)
_BARE_KEY = re.compile(r"[#\s]*(?:rate|fr[eé][qck][^\W_]*\.?|hz)[\W_]*(?:hz|hertz)?\W*", re.IGNORECASE)
_MAINS = (50.0, 60.0)
_UNIT_KEY = re.compile(r"\bunit|einheit|\bunid|単位|单位|單位|단위|единиц", re.IGNORECASE)
_LEAD_KEY = re.compile(
    r"[#\s]*(?:(?:ecg|ekg|signal|recorded|selected)[\W_]*)?"
    r"(?:lead|ableit|d[eé]riva|channel|kanal|canal|誘導|导联|導聯|유도|отвед)[^\W\d_]*[\W_]*(?:name|label|\d+)?",
    re.IGNORECASE,
)
_PAPER_GAINS = ("10", "20")  # mm per mV
_BITS = ("8", "12", "14", "16", "18", "24", "32")
_VOLT = r"(?:milli|micro|nano|[munµμ])?v(?:olts?)?(?![^\W\d_])"
_PER_STEP = re.compile(
    rf"{_VOLT}[ _]*(?:/|per|pro|por)[ _]*(?:lsb|bit|count|step|digit|unit|adu|stufe|schritt|point)"
    rf"|(?:count|unit|adu|step|lsb|bit|digit)s?[ _]*(?:/|per|pro|por)[ _]*{_VOLT}|(?<![mc]m)(?<![mc]m )/ ?{_VOLT}",
    re.IGNORECASE,
)
_GAIN_KEY = re.compile(r"gain(?![a-z])|verst.rkung|ganancia|guadagno|ganho|ゲイン|增益|усилен", re.IGNORECASE)
_STEP_KEY = re.compile(
    r"(?<![a-z])lsb|resol|résol|aufl.s|risol|least significant|quanti[sz]|step[ _]?size"
    r"|(?:^|adc|amplitude|voltage)\W*scal|(?:scale|scaling|conversion|calibration)[\W_]*factor|分解能|分辨率|разреш",
    re.IGNORECASE,
)
_OTHER_STEP_KEY = re.compile(r"time|tempor|zeit|fr[eé]q|screen|display|image|print|paper", re.IGNORECASE)
_OTHER_KEY = re.compile(
    r"filter|notch|pass|mains|heart|puls|version|device|model|software|ger.t|original|urspr.ng|before|recorder|native"
    r"|hardware|previous|initial|display|\b(?:raw|source|internal|old|max|min|from|vor|avant|antes|prima)\b"
    r"|resp|spo2|ppg|pleth|\bacc",
    re.IGNORECASE,
)
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
    if names and header:
        row_rate = _rate_of_row(header[-1], separator, decimal)
        facts["rate"] = one_rate(facts["rate"], row_rate, hints.sampling_rate)
    if names:
        columns, left_out = _without_facts([np.asarray(row) for row in found_columns], names, header, separator)
    else:
        found_columns = _without_blank_end(found_columns, header, separator)
        names, units = _header_names(header, separator, found_columns)
        columns, names, units, left_out = _without_texts(found_columns, names, units, decimal)
        columns, names, units = _tidy(columns, names, units)
    _check_gain(facts["gain"], columns, names)
    found = from_columns(columns, names, units=units, rate=facts["rate"], hints=hints)
    if len(found.signals) == 1 and standard_name(found.names[0]) not in LEADS and facts["lead"]:
        found = replace(found, names=(facts["lead"],))
    if facts["unit"] and not any(found.units):
        found = found.in_millivolts(facts["unit"])
    return replace(found, age=facts["age"], sex=facts["sex"], findings=(*left_out, *found.findings, *after))


_BLANKS = "\n \f\x1a"  # a tab at the end of the last line separates a blank value
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
            return [line for line in header if line.strip()], *_without_footer(text[place:].rstrip(_BLANKS))
        header.append(line)
        place = end + 1
    raise UnreadableRecordError("the text has no line of numbers: it is not a table of an ECG")


def _without_footer(body: str) -> tuple[str, list[str]]:
    """Leave out lines of comments, and what stands after the last line of numbers."""
    n_before = body.count("\n")
    if "\n#" in body or "\n%" in body:
        body = re.sub(r"(?m)^(?:#(?!N/A)|%).*\n?", "", body).rstrip(_BLANKS)
    for _ in range(MOST_FOOTER_LINES):
        start = body.rfind("\n") + 1
        numbers = [_NUMBER.fullmatch(token) and token for token in _tokens(body[start : start + 400])]
        if not start or all(numbers) or re.search(r"\d", " ".join(filter(None, numbers))):
            break
        body = body[: start - 1].rstrip(_BLANKS)
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


def _without_blank_end(
    columns: list[Vector | list[str]], header: list[str], separator: str
) -> list[Vector | list[str]]:
    """Leave out the columns that separators at the end of each line make, of which the header has none."""
    n_names = max((len(split_fields(line, separator)) for line in header[-2:]), default=len(columns))
    n_kept = len(columns)
    while n_kept > n_names and not isinstance(columns[n_kept - 1], list) and np.isnan(columns[n_kept - 1]).all():
        n_kept -= 1
    return columns[:n_kept]


def _header_names(header: list[str], separator: str, columns: list[Vector | list[str]]) -> tuple[list[str], list[str]]:
    """Return the names and units of the columns from the last lines of the header; empty where there are none."""
    n_columns = len(columns)
    names = units = [""] * n_columns
    has_index = not isinstance(columns[0], list) and np.median(np.diff(columns[0]) if len(columns[0]) > 1 else 0) > 0
    for line in reversed(header[-2:]):
        fields = split_fields(line, separator)
        if separator == " " and len(fields) > n_columns:  # names of several words
            fields = re.split(r"\s{2,}|\t", line.strip())
        fields = ["", *fields] if has_index and len(fields) == n_columns - 1 else fields
        fields = fields[:-1] if len(fields) == n_columns + 1 and not fields[-1] else fields
        if len(fields) != n_columns:
            break
        bare = [field.strip("()[]") for field in fields]
        if all(millivolts(field) or _is_unit_of_time(field) or not field for field in bare) and any(bare):
            units = bare
            continue
        has_unit = re.match(r"[^\W\d]", fields[-1]) and millivolts(split_name(fields[-1])[1])
        is_fact = n_columns <= 2 and _KEY_VALUE.match(line) and not _names_leads(fields) and not has_unit
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
    columns: list[Vector | list[str]], names: list[str], units: list[str], decimal: str
) -> tuple[list[Vector], list[str], list[str], list[str]]:
    """Leave out columns of text that are named and no lead, with a finding."""
    kept, left_out = [], []
    for row, column in enumerate(columns):
        if not isinstance(column, list):
            kept.append(row)
        elif not names[row] or _names_leads([names[row]]) or names[row].lower() in TIME_NAMES:
            where = f"column {names[row]}" if names[row] else f"column {row + 1}"
            text = next(text for text in column if not is_number(text, decimal))
            raise UnreadableRecordError(f"{where} of the table has {text[:40]!r}, which is not a number")
        else:
            check_one_record(names[row], np.array([text for text in column if text.strip() not in MISSING], object))
            left_out.append(f"the column {names[row]} of text left out")
    numbers = [column for column in columns if not isinstance(column, list)]
    return numbers, [names[row] for row in kept], [units[row] for row in kept], left_out


def _without_facts(
    rows: list[Vector], names: list[str], header: list[str], separator: str
) -> tuple[list[Vector], list[str]]:
    """Leave out of one line per lead what is no sample, such as an age: columns of which the names do not count up."""
    fields = split_fields(header[-1], separator) if header else [""]
    labels = fields[1 + bool(split_name(names[0])[1]) :][: len(rows[0])]
    are_samples = _count_up(labels)
    others = [column for column, is_sample in enumerate(are_samples) if not is_sample and labels[column]]
    if not any(are_samples) and _LEAD_KEY.fullmatch(fields[0]):
        others = others[:-1]  # the last name stands for all samples
    elif len(others) > 0.5 * len(labels):
        others = []
    if not others:
        return rows, []
    gains = [labels[column] for column in others if _is_gain(labels[column], f"{rows[0][column]:g}")]
    rows = [np.delete(row, others) for row in rows]
    if gains:
        check_scaled(rows, gains[0])
    return rows, [f"left out, no samples: {', '.join(labels[column] for column in others)[:200]}"]


def _count_up(labels: list[str]) -> list[bool]:
    """Return which names of columns end in a number not above the next or below the one before; the last may be cut."""
    found = [re.search(r"(?:(?<![^\W_])-)?\d+(?:[.,]\d+)?(?=\D*$)", label) for label in labels]
    numbers = np.array([np.nan, *(float(match[0].replace(",", ".")) if match else np.nan for match in found), np.nan])
    are_ordered = (numbers[:-2] <= numbers[1:-1]) | (numbers[1:-1] <= numbers[2:])
    return [*are_ordered[:-1].tolist(), *(match is not None for match in found[-1:])]


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
    is_watch = _WATCH.search("\n".join(header)) is not None
    units = {value for key, value in asked if (is_watch or _UNIT_KEY.search(key)) and millivolts(value)}
    if is_watch:
        leads = {match[1] for _, value in asked if len(value) < 24 and (match := _LEAD.search(value))}
    else:
        leads = {standard_name(value) for key, value in asked if _LEAD_KEY.fullmatch(key)}
    lead = leads.pop() if len(leads) == 1 else ("I" if is_watch else None)
    known = {key.lower().strip("# "): value for key, value in pairs}
    spaced = [(match[1], match[2]) for line in header if (match := _SPACED.match(line[:200]))]
    return {
        "rate": _rate_of_header(asked, is_watch=is_watch),
        "unit": units.pop() if len(units) == 1 else None,
        "lead": lead if lead in LEADS else None,
        "gain": next((key for key, value in [*pairs, *spaced] if _is_gain(key, value)), None),
        "age": known_age(float(known["age"])) if re.fullmatch(_NUMERAL, known.get("age", "")) else None,
        "sex": known_sex(known.get("sex", "")),
    }


def _rate_of_header(pairs: list[tuple[str, str]], *, is_watch: bool) -> float | None:
    """Return the sampling rate that the header names: rather in Hz, and a bare rate or frequency only in Hz."""
    form = _ANY_WORD if is_watch else re.compile(f"({_NUMERAL})")
    plain = [(key, match[1]) for key, value in pairs if (match := form.fullmatch(value)) and not millivolts(value)]
    hertz = [(key, match[1]) for key, value in pairs if (match := _HERTZ.fullmatch(value))]
    hertz += [pair for pair in plain if re.search(r"(?<![^\W_])(?:hz|hertz)(?![^\W_])", pair[0], re.IGNORECASE)]
    ranked = (
        [text for key, text in hertz if is_watch or _RATE_KEY.search(key) or _SAMPLE_KEY.search(key)],
        [text for key, text in plain if is_watch or _RATE_KEY.search(key)],
        [text for key, text in hertz if _BARE_KEY.fullmatch(key) and float(text.replace(",", ".")) not in _MAINS],
    )
    rates = {float(text.replace(",", ".")) for text in next(filter(None, ranked), [])}
    return rates.pop() if len(rates) == 1 else None


def _is_gain(key: str, value: str) -> bool:
    """Return True for the steps of a converter per mV or the size of a step, False for the scale of a print."""
    match = re.search(rf"(?<![A-Za-z\d.,])({_NUMERAL}|[.,]\d+)", value)
    if match is None or float(match[1].replace(",", ".")) == 1:
        return False
    unit = value[match.end() :].strip(" ;,:\t\"'") or split_name(key)[1]
    if _PER_STEP.search(key) or _PER_STEP.search(value):
        return True
    if _GAIN_KEY.search(key):
        return match[1] not in _PAPER_GAINS if not unit else not re.match(r"(?i)([mc]m|db|x)\b", unit)
    if not _STEP_KEY.search(key) or _OTHER_STEP_KEY.search(key):
        return False
    return re.search(rf"(?<![a-z/])(?<!per )(?<!/ ){_VOLT}", unit, re.IGNORECASE) is not None or (
        not unit and match[1] not in _BITS
    )


def _check_gain(gain: str | None, columns: list[Vector], names: list[str]) -> None:
    """Refuse whole numbers in all leads next to a gain in the header or in a column."""
    is_lead = [standard_name(split_name(name)[0]) in LEADS for name in names]
    of_column = (
        name for name, column, has_lead in zip(names, columns, is_lead, strict=True)
        if not has_lead and _is_gain(name, f"{column[0]:g}")
    )  # fmt: skip
    gain = gain or next(of_column, None)
    if gain:
        leads = [column for column, has_lead in zip(columns, is_lead, strict=True) if has_lead]
        check_scaled(leads or columns[1:] or columns, gain)  # the first may be the time
