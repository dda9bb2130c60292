"""The header of a WFDB record: https://physionet.org/physiotools/wag/header-5.htm."""

from __future__ import annotations

import math
import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from ecgkit.errors import UnreadableRecordError

MAX_HEADER_BYTES = 2**20
MAX_FRAME = 2**24
MAX_LINE = 2000
MAX_LINES = {"signals": 4096, "segments": 20_000}
NO_FILE = "~"
"""The file of a signal, or the name of a segment, that has no samples."""
NO_GAIN = "adu"
"""The unit of a signal whose header has no gain: steps of the converter."""
_CODE = re.compile(r"\S+[^#]*")
_CONFINED = re.compile(r"(?!/|[A-Za-z]:|.*(?:^|/)\.\.(?:/|$))[^\\\x00-\x1f\x7f]+")
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?", re.ASCII)
_GAIN = re.compile(r"([^(/]+)(?:\(([^)]+)\))?(?:/(\S+))?")


@dataclass(frozen=True)
class Storage:
    """How a header describes the samples of a signal.

    Attributes
    ----------
    format : str
        WFDB's number of the storage format; ``"16"`` is 16-bit little-endian.
    per_frame : int
        Samples per frame.
    skew : int
        Frames by which the signal comes later in its file.
    offset : int
        Bytes (of a FLAC file: samples) before the first sample.
    gain : float
        Steps of the converter per ``unit``; 1 where the header has none.
    baseline : float
        The step at 0.
    unit : str
        Physical unit, ``"mV"`` where a gain has none, and `NO_GAIN`.
    """

    format: str
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: float
    unit: str


class SignalLine(NamedTuple):
    """The line of a header on one signal; ``checksum`` (the sum of all samples modulo 65536) may be None."""

    file: str
    storage: Storage
    first: int
    checksum: int | None
    name: str


@dataclass(frozen=True)
class Header:
    """The header of a record.

    Attributes
    ----------
    frame_rate : float
        Frames per second.
    n_frames : int or None
        Frames; None where the header does not say.
    signals : tuple of SignalLine
        Empty for a multi-segment record.
    segments : tuple of (str, int)
        Names and frames of the segments of a multi-segment record.
    comments : tuple of str
        The lines after ``#``.
    """

    frame_rate: float
    n_frames: int | None
    signals: tuple[SignalLine, ...]
    segments: tuple[tuple[str, int], ...]
    comments: tuple[str, ...]


def file_size(path: str) -> int:
    """Return the size of a regular file; raise `UnreadableRecordError` if it is missing, a device or a FIFO."""
    try:
        state = os.stat(path)  # noqa: PTH116  # a Path for each of 43,598 files would take longer than this call
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnreadableRecordError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(state.st_mode):
        raise UnreadableRecordError(f"{path} is not a regular file")
    return state.st_size


def existing(path: str) -> str:
    """Return the path of a file, or of the one whose name differs in capitals only: disks of cameras write these."""
    if os.path.exists(path):  # noqa: PTH110  # as above
        return path
    folder, name = os.path.split(path)
    try:
        names = [other for other in os.listdir(folder or ".") if other.lower() == name.lower()]  # noqa: PTH208
    except (OSError, ValueError):
        return path
    return os.path.join(folder, names[0]) if len(names) == 1 else path  # noqa: PTH118


def read_header(record: str) -> Header:
    """Read the header of a record, whose path has no suffix.

    Raises
    ------
    UnreadableRecordError
        If there is no header, it does not follow WFDB's rules, or names a file outside the folder of the record.
    """
    path = existing(f"{record}.hea")
    if file_size(path) > MAX_HEADER_BYTES:
        raise UnreadableRecordError(f"{path} is not a WFDB header: it is larger than {MAX_HEADER_BYTES:,} bytes")
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # as above
            data = file.read()
    except OSError as error:
        raise UnreadableRecordError(f"{path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # as older headers write the unit µV
    try:
        return _parse(text)
    except (ValueError, OverflowError) as error:
        raise UnreadableRecordError(f"{path} is not a WFDB header: {error}") from error


def _parse(text: str) -> Header:
    """Parse the text of a header."""
    if "\0" in text:
        raise ValueError("it is a binary file")
    lines: list[str] = []
    comments: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if "#" in line:
            code = "" if line[0] == "#" else _CODE.match(line)[0]  # type: ignore[index]
            comments.append(line[len(code) :].lstrip("#").strip())
            line = code.rstrip()  # noqa: PLW2901
        if len(line) > MAX_LINE:
            raise ValueError(f"a line has more than {MAX_LINE:,} characters")
        if line:
            lines.append(line)
    fields = lines[0].split() if lines else []
    if len(fields) < 3:
        raise ValueError("its first line has no number of signals or no sampling rate" if fields else "it is empty")
    _, _, segments = fields[0].rpartition("/")
    is_multi = "/" in fields[0] and segments.isdecimal()
    rate = _number(fields[2].split("/")[0].split("(")[0], "sampling rate")
    if rate <= 0:
        raise ValueError(f"the sampling rate is {rate:g}")
    n_frames = _integer(fields[3], "number of samples") if len(fields) > 3 and fields[3].isdecimal() else 0
    count, what = (segments, "segments") if is_multi else (fields[1], "signals")
    n_lines = _integer(count, f"number of {what}")
    if n_lines > MAX_LINES[what]:
        raise ValueError(f"it announces {n_lines:,} {what}, more than {MAX_LINES[what]:,}")
    if not 0 < n_lines < len(lines):
        raise ValueError(f"it announces {n_lines} {what} and describes {len(lines) - 1}")
    lines = lines[1 : n_lines + 1]
    signals = () if is_multi else tuple(_parse_signal(i, line) for i, line in enumerate(lines, 1))
    return Header(
        frame_rate=rate,
        n_frames=n_frames or None,
        signals=_check_signals(signals),
        segments=tuple(_parse_segment(line) for line in lines) if is_multi else (),
        comments=tuple(comments),
    )


def _check_signals(signals: tuple[SignalLine, ...]) -> tuple[SignalLine, ...]:
    """Check that the signals of each file stand together; drop checksums where all are 0: they were not computed."""
    files = [file for file, _ in groupby(line.file for line in signals) if file != NO_FILE]
    if len(files) > len(set(files)):
        raise ValueError("it alternates between signal files: the signals of one file belong together")
    if sum(line.storage.per_frame for line in signals) > MAX_FRAME:
        raise ValueError(f"its frames have more than {MAX_FRAME:,} values")
    if any(line.checksum for line in signals):
        return signals
    return tuple(line._replace(checksum=None) for line in signals)


def _parse_segment(line: str) -> tuple[str, int]:
    """Parse the line of a header on one segment."""
    name, *fields = line.split()
    if not fields or not fields[0].isdecimal():
        raise ValueError(f"the segment {name!r} has no number of samples")
    return _check_confined(name), _integer(fields[0], "number of samples")


def _parse_signal(number: int, line: str) -> SignalLine:
    """Parse the line of a header on one signal."""
    file, *fields = line.split(maxsplit=8)
    if not fields:
        raise ValueError(f"signal {number} has no storage format")
    return SignalLine(
        file=_check_confined(file),
        storage=_parse_storage(fields[0], *fields[1:2], adc_zero=fields[3] if len(fields) > 3 else "0"),
        first=_integer(fields[4], "initial value") if len(fields) > 4 else 0,
        checksum=_integer(fields[5], "checksum") & 0xFFFF if len(fields) > 5 else None,
        name=fields[7].strip() if len(fields) > 7 else f"signal {number}",
    )


@lru_cache(maxsize=1024)
def _check_confined(name: str) -> str:
    """Return the name of a file that stays in the folder of the record; refuse any other."""
    if not _CONFINED.fullmatch(name):
        raise ValueError(f"it names {name!r}, which is not in its folder")
    return name


@lru_cache(maxsize=1024)
def _parse_storage(storage: str, gain: str = "0", *, adc_zero: str) -> Storage:
    """Parse format and gain, which are the same in nearly all lines of a data set."""
    match = _FORMAT.fullmatch(storage)
    if match is None:
        raise ValueError(f"{storage!r} is not a storage format")
    number, per_frame, skew, offset = match.groups()
    n_per_frame, frames_late, start = (
        _integer(text or default, "storage format") for text, default in ((per_frame, "1"), (skew, "0"), (offset, "0"))
    )
    if n_per_frame < 1:
        raise ValueError(f"{storage!r} has no samples per frame")
    match = _GAIN.fullmatch(gain)
    if match is None:
        raise ValueError(f"{gain!r} is not a gain")
    steps = _number(match[1], "gain")
    return Storage(
        format=number,
        per_frame=n_per_frame,
        skew=frames_late,
        offset=start,
        gain=steps or 1.0,
        baseline=_number(match[2] or adc_zero, "baseline") if steps else 0.0,
        unit=(match[3] or "mV") if steps else NO_GAIN,
    )


def _integer(text: str, name: str) -> int:
    """Return an integer of at most 53 bits, also where it is written as 7.0."""
    try:
        number = int(text)
    except ValueError:
        number = int(_number(text, name))
    if abs(number) >= 2**53:
        raise ValueError(f"{text!r} is not a valid {name}")
    return number


def _number(text: str, name: str) -> float:
    """Return a finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not (number == 0 or 1e-30 < abs(number) < 1e30):
        raise ValueError(f"{text!r} is not a valid {name}")
    return number
