"""Read WFDB records: any signals in their own units, or a 12-lead ECG in millivolts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers.assembly import to_ecg
from ecgkit.readers.base import Hints, RecordFiles, Signals, known_age, known_sex, millivolts, standard_name
from ecgkit.readers.wfdb.header import NO_FILE, NO_GAIN, Header, SignalLine, read_header
from ecgkit.readers.wfdb.samples import Row, count_frames, missing_row, read_rows
from ecgkit.signals.ecg import ECG, LEADS

MAX_VALUES = 90_000_000
"""Values of all signals that are read at once: an hour of twelve leads at 2,000 Hz."""
MAX_PIECES = 100_000
"""Segments times signals of a record."""
_lead = lru_cache(maxsize=1024)(standard_name)
_ITEM = re.compile(  # at the beginning of a comment or after another item, such as "<age>: 63 <sex>: F"
    r"[\s,;|]*<?(?:(?:patient|subject)(?:'s)? )?(age|sex|gender)>?\s*:\s*"
    r"([^\s<,;|]+(?:\s+years?)?(?=\s+(?:age|sex|gender)\s*:)|[^<,;|]*)",
    re.IGNORECASE,
)
_YEARS = re.compile(r"(\d+(?:\.\d+)?)\s*(?:y|years?)?", re.IGNORECASE)


def read_wfdb_signals(path: Path | str, *, start: float = 0.0, duration: float | None = None) -> Signals:
    """Read all signals of a record.

    Parameters
    ----------
    path : Path or str
        The record: ``00001_lr``, with or without the suffix ``.hea``, ``.dat`` or ``.mat``.
    start : float, default 0
        Where to start, in seconds.
    duration : float, optional
        How much to read, in seconds; by default all.

    Returns
    -------
    Signals
        Each signal of float32 in its own unit and at its own rate, NaN where there is no value; the unit is ``"adu"``
        (steps of the converter) where the header has no gain. Age and sex are those of the header's comments.

    Raises
    ------
    UnreadableRecordError
        If a file is missing or truncated, a checksum does not match, the header breaks WFDB's rules or names a file
        outside its folder, or the record is too long to be read at once.

    References
    ----------
    WFDB header and signal files: https://physionet.org/physiotools/wag/header-5.htm
    """
    return _read_signals(record_path(path), start, duration, wanted=lambda _: True)


def read_wfdb(path: Path, hints: Hints) -> Signals:
    """Read a record by any of its files, in mV: its leads only if that is what is asked for, else all signals."""
    if path.suffix.lower() not in (".hea", ".dat", ".mat"):
        raise UnreadableRecordError(
            f"{path.name} is a WFDB header: name it {path.name}.hea next to its signals, or give all files "
            "of the record as {name: bytes} or in one zip"
        )
    only_leads = hints.only_leads and hints.unit is None and hints.leads is None
    wanted = _is_lead if only_leads else lambda _: True
    return _in_millivolts(_read_signals(record_path(path), hints.start or 0.0, hints.duration, wanted=wanted))


def read_record(path: Path | str) -> ECG:
    """Read one 12-lead record; the path is that of `read_wfdb_signals`.

    Returns
    -------
    ECG
        In mV, leads in the standard order, NaN where WFDB marks a sample as invalid or a segment as missing. Signals
        beyond the twelve leads are left out.

    Raises
    ------
    UnreadableRecordError
        For the reasons of `read_wfdb_signals`, or if there is none of the twelve leads, one occurs twice, or one of
        them has no gain, no unit of voltage, or another sampling rate than the others.
    """
    record = record_path(path)
    return _read_ecg(record, record.rpartition("/")[2])


class WfdbFiles(RecordFiles):
    """Records of a folder, each by its path without a suffix."""

    def read(self, record_id: str) -> ECG:
        """Read one record; see `read_record`."""
        return _read_ecg(f"{self.folder}/{self.files[record_id]}", record_id)


def record_path(path: Path | str) -> str:
    """Return the path of a record without the suffix of one of its files."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat") else path).as_posix()


def _read_ecg(record: str, record_id: str) -> ECG:
    """Read the twelve leads of a record in mV."""
    found = _in_millivolts(_read_signals(record, 0.0, None, wanted=_is_lead))
    try:
        return to_ecg(replace(found, record_id=record_id), Hints())
    except EcgkitError as error:
        raise UnreadableRecordError(f"{record}: {error}") from error


def _read_signals(record: str, start: float, duration: float | None, *, wanted: Callable[[str], bool]) -> Signals:
    """Read the wanted signals of a record in their own units."""
    header, rows = _read(record, start, duration, wanted=wanted)
    age, sex = read_patient(header.comments)
    return Signals(
        signals=tuple(row.values for row in rows),
        names=tuple(row.name for row in rows),
        units=tuple(row.unit for row in rows),
        sampling_rates=tuple(header.frame_rate * row.per_frame for row in rows),
        record_id=record.rpartition("/")[2],
        age=age,
        sex=sex,
        metadata={"comments": header.comments} if header.comments else {},
        start=start,
    )


def _in_millivolts(found: Signals) -> Signals:
    """Convert voltages to mV, and give leads their standard names; without a gain the unit is unknown."""
    units = tuple("" if unit == NO_GAIN else unit for unit in found.units)
    return replace(found, units=units, names=tuple(map(_lead, found.names))).in_millivolts()


def _is_lead(name: str) -> bool:
    """Return True for the name of one of the twelve leads."""
    return _lead(name) in LEADS


def read_patient(comments: Sequence[str]) -> tuple[float | None, str | None]:
    """Find age and sex in the comments of a header; None where they are absent, make no sense or contradict."""
    found: dict[str, set[Any]] = {"age": set(), "sex": set()}
    for comment in comments:
        item = _ITEM.match(comment)
        while item:
            kind, text = item[1].lower().replace("gender", "sex"), item[2].strip()
            years = _YEARS.fullmatch(text)
            found[kind].add(known_sex(text) if kind == "sex" else known_age(float(years[1])) if years else None)
            item = _ITEM.match(comment, item.end())
    age, sex = (values - {None} for values in found.values())
    return (age.pop() if len(age) == 1 else None), (sex.pop() if len(sex) == 1 else None)


def _read(
    record: str, start: float, duration: float | None, *, wanted: Callable[[str], bool]
) -> tuple[Header, list[Row]]:
    """Read the wanted signals of a record, of one segment or of several; at least one."""
    header = read_header(record)
    folder = record[: record.rfind("/") + 1]
    if header.segments:
        segments = _Segments(record, folder, header)
        n_frames, lines = segments.n_frames, segments.lines
    else:
        lines = _of_wanted_files(header.signals, wanted)
        n_frames = count_frames(folder, lines, header.n_frames) if lines else 0
    if not any(wanted(line.name) for line in lines):
        names = ", ".join(line.name for line in (lines or header.signals)[:30])
        raise UnreadableRecordError(f"{record}: none of the twelve leads {', '.join(LEADS)} is among {names}")
    frames = _select(record, header.frame_rate, n_frames, start, duration)
    if len(frames) * sum(line.storage.per_frame for line in lines) > MAX_VALUES:
        raise UnreadableRecordError(
            f"{record} has more than {MAX_VALUES:,} values: choose a part of it with start and duration"
        )
    if header.segments:
        return header, segments.read(frames, wanted)
    return header, read_rows(folder, lines, frames, n_frames=n_frames, wanted=wanted)


def _of_wanted_files(signals: Sequence[SignalLine], wanted: Callable[[str], bool]) -> tuple[SignalLine, ...]:
    """Return the signals of the files that hold a wanted one; the other files may be absent."""
    files = {line.file for line in signals if wanted(line.name)}
    return tuple(line for line in signals if line.file in files)


def _select(record: str, rate: float, n_frames: int, start: float, duration: float | None) -> range:
    """Return the frames from ``start`` on, for ``duration`` seconds."""
    if not (math.isfinite(start) and start >= 0 and (duration is None or 0 < duration < math.inf)):
        raise UnreadableRecordError(f"start is {start} and duration {duration}: give seconds, not below 0")
    first = round(min(start * rate, n_frames))
    last = n_frames if duration is None else min(n_frames, first + max(round(min(duration * rate, n_frames)), 1))
    if first >= n_frames:
        raise UnreadableRecordError(f"start is {start:g} s, and {record} has {n_frames / rate:g} s")
    return range(first, last)


class _Segments:
    """The segments of a record: their headers, and the signals that they have together."""

    def __init__(self, record: str, folder: str, header: Header) -> None:
        self._record, self._folder = record, folder
        self._lengths = header.segments
        self.n_frames = sum(length for _, length in header.segments)
        if self.n_frames != (header.n_frames or self.n_frames) or not self.n_frames:
            raise UnreadableRecordError(
                f"{record}: the segments have {self.n_frames} samples together, the header says {header.n_frames}"
            )
        self._headers: dict[str, Header] = {}
        for name in dict.fromkeys(name for name, _ in header.segments if name != NO_FILE):
            self._headers[name] = self._read_header(name, header.frame_rate)
        self._signals: dict[tuple[str, int], SignalLine] = {}
        for segment in self._headers.values():
            for key, line in zip(_keys(segment.signals), segment.signals, strict=True):
                if key not in self._signals or self._signals[key].file == NO_FILE:
                    self._signals[key] = line
        self.lines = tuple(self._signals.values())
        if not self.lines:
            raise UnreadableRecordError(f"{record} has no segment with signals")
        if len(header.segments) * len(self.lines) > MAX_PIECES:
            raise UnreadableRecordError(
                f"{record} has {len(header.segments):,} segments of {len(self.lines)} signals: read them one by one"
            )

    def _read_header(self, name: str, frame_rate: float) -> Header:
        """Read the header of a segment."""
        header = read_header(self._folder + name)
        if header.segments:
            raise UnreadableRecordError(f"{self._record}: the segment {name} consists of segments itself")
        if header.frame_rate != frame_rate:
            raise UnreadableRecordError(
                f"{self._record}: the segment {name} has {header.frame_rate:g} frames per second, not {frame_rate:g}"
            )
        return header

    def read(self, frames: range, wanted: Callable[[str], bool]) -> list[Row]:
        """Read some frames; NaN where no segment has a value."""
        signals = {key: line for key, line in self._signals.items() if wanted(line.name)}
        rows = {key: missing_row(line, len(frames)) for key, line in signals.items()}
        ends = accumulate((length for _, length in self._lengths), initial=0)
        for (name, length), (begin, end) in zip(self._lengths, pairwise(ends), strict=True):
            first, last = max(begin, frames.start), min(end, frames.stop)
            if name == NO_FILE or first >= last:
                continue
            lines = _of_wanted_files(self._headers[name].signals, wanted)
            if not lines:
                continue
            held = count_frames(self._folder, lines, self._headers[name].n_frames)
            if held < length:
                raise UnreadableRecordError(f"{self._record}: the segment {name} has {held} of {length} samples")
            part = range(first - begin, last - begin)
            found = read_rows(self._folder, lines, part, n_frames=held, wanted=wanted)
            for key, row in zip(_keys(found), found, strict=True):
                own, place = row.per_frame, slice(first - frames.start, last - frames.start)
                if own != rows[key].per_frame:
                    raise UnreadableRecordError(
                        f"{self._record}: {row.name} has {own} samples per frame in {name}, not {rows[key].per_frame}"
                    )
                values = row.values * self._conversion(name, row, rows[key].unit)
                rows[key].values[place.start * own : place.stop * own] = values
        return list(rows.values())

    def _conversion(self, segment: str, row: Row, unit: str) -> float:
        """Return the factor from a signal's unit in a segment to its unit in the record."""
        if row.unit == unit:
            return 1.0
        found, wanted = millivolts(row.unit), millivolts(unit)
        if found is None or wanted is None:
            raise UnreadableRecordError(
                f"{self._record}: {row.name} is in {row.unit!r} in {segment}, elsewhere in {unit!r}"
            )
        return found / wanted


def _keys(signals: Sequence[SignalLine] | Sequence[Row]) -> list[tuple[str, int]]:
    """Return for each signal what it is known by in all segments: its name and its number among those of this name."""
    seen: Counter[str] = Counter()
    keys = []
    for signal in signals:
        name = _lead(signal.name).upper()
        keys.append((name, seen[name]))
        seen[name] += 1
    return keys
