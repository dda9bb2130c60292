"""The samples in the signal files of a WFDB record: https://physionet.org/physiotools/wag/signal-5.htm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import UnreadableRecordError
from ecgkit.readers.wfdb.header import NO_FILE, SignalLine, existing, file_size

Integers = NDArray[np.signedinteger]
BLOCK_VALUES = 2**20
"""Values that are decoded together, so that a long record takes little memory beyond its signals."""
ALIGNMENT = 6
"""Frames at which formats that pack two or three values into bytes start a new group, for any number of signals."""
BITS = {"8": 8, "16": 16, "24": 24, "32": 32, "61": 16, "80": 8, "160": 16, "212": 12, "310": 32 / 3, "311": 32 / 3}
"""Bits per value of each storage format but FLAC's."""
FLAC_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
FLAC_FORMATS = {"508": 8, "516": 16, "524": 24}
INVALID = {"80": -128, "508": -128, "212": -2048, "310": -512, "311": -512, "24": -(2**23), "524": -(2**23)} | {
    "32": -(2**31), "8": None
}  # fmt: skip
"""The value that marks a missing sample; -32768 in the formats that are not listed."""


class Row(NamedTuple):
    """One signal in its own unit: float32, NaN where a sample is invalid; ``per_frame`` samples in each frame."""

    name: str
    unit: str
    per_frame: int
    values: NDArray[np.float32]


def count_frames(folder: str, lines: Sequence[SignalLine], announced: int | None) -> int:
    """Return the frames of a record, and check that its files hold them.

    Raises
    ------
    UnreadableRecordError
        If a file is missing, truncated or not regular.
    """
    groups = [list(group) for file, group in groupby(lines, lambda line: line.file) if file != NO_FILE]
    held = [_frames_in_file(existing(f"{folder}{group[0].file}"), group, announced) for group in groups]
    frames = announced or min(held, default=0)
    if not frames:
        raise UnreadableRecordError(f"a header in {folder} names no file with samples: choose another record")
    return frames


def read_rows(
    folder: str, lines: Sequence[SignalLine], frames: range, *, n_frames: int, wanted: Callable[[str], bool]
) -> list[Row]:
    """Read some frames of the wanted signals of one record.

    Parameters
    ----------
    folder : str
        The folder of the header, with a slash at its end.
    lines : sequence of SignalLine
        The signals.
    frames : range
        The frames to read; `count_frames` has checked that they are there.
    n_frames : int
        Frames of the record; the checksums are checked where all are read.
    wanted : callable
        Whether a signal is wanted, by its name.

    Raises
    ------
    UnreadableRecordError
        If a file cannot be read, or a checksum does not match.
    """
    rows: list[Row] = []
    for file, lines_of_file in groupby(lines, lambda line: line.file):
        group = list(lines_of_file)
        if file == NO_FILE:
            rows += [missing_row(line, len(frames)) for line in group if wanted(line.name)]
        else:
            rows += _read_group(existing(f"{folder}{file}"), group, frames, n_frames=n_frames, wanted=wanted)
    return rows


def missing_row(line: SignalLine, n_frames: int) -> Row:
    """Return a signal without a value."""
    storage = line.storage
    values = np.full(n_frames * storage.per_frame, np.nan, np.float32)
    return Row(line.name, storage.unit, storage.per_frame, values)


def _frames_in_file(path: str, group: Sequence[SignalLine], announced: int | None) -> int:
    """Return how many frames a signal file holds; refuse one that holds fewer than the header announces."""
    storage, n_bytes = group[0].storage, file_size(path)
    if any((line.storage.format, line.storage.offset) != (storage.format, storage.offset) for line in group):
        raise UnreadableRecordError(f"{path} has signals of several formats or offsets: the header is wrong")
    if storage.format in FLAC_FORMATS:
        with _open_flac(path, group) as flac:
            held, needed = max(flac.frames - storage.offset, 0) // storage.per_frame, announced or 1
        if held < needed:
            raise UnreadableRecordError(f"{path} is truncated: it has {held} of {needed} frames")
        return held
    if storage.format not in BITS:
        raise UnreadableRecordError(f"{path} has the storage format {storage.format}, which WFDB does not define")
    width = sum(map(_per_frame, group))
    needed = storage.offset + _n_bytes(storage.format, (announced or 1) * width)
    if n_bytes < needed and not announced:
        raise UnreadableRecordError(f"{path} has no samples")
    if n_bytes < needed:
        raise UnreadableRecordError(f"{path} is truncated: it has {n_bytes} of {needed} bytes")
    return int((n_bytes - storage.offset) * 8 / BITS[storage.format] + 1e-6) // width


def _read_group(
    path: str, group: Sequence[SignalLine], frames: range, *, n_frames: int, wanted: Callable[[str], bool]
) -> list[Row]:
    """Read the signals of one file."""
    latest = max(line.storage.skew for line in group)
    last = min(frames.stop + latest, n_frames)
    runs = [_Run(list(lines), last - frames.start, wanted) for _, lines in groupby(group, _per_frame)]
    for first, block in _blocks(path, group, range(frames.start, last)):
        column = 0
        for run in runs:
            width = len(run.lines) * run.per_frame
            run.add(first - frames.start, block[:, column : column + width])
            column += width
    if len(frames) == n_frames and not latest:
        for run in runs:
            run.check_sums(path)
    return [row for run in runs for row in run.rows(len(frames))]


def _per_frame(line: SignalLine) -> int:
    """Return the samples per frame of a signal."""
    return line.storage.per_frame


class _Run:
    """Neighbouring signals of a file with equal samples per frame, which are converted together."""

    def __init__(self, lines: list[SignalLine], n_frames: int, wanted: Callable[[str], bool]) -> None:
        self.lines, self.per_frame = lines, lines[0].storage.per_frame
        kept = [i for i, line in enumerate(lines) if wanted(line.name)]
        self._kept = kept if len(kept) < len(lines) else None
        self._kept_lines = [lines[i] for i in kept]
        self._gain, self._baseline = (
            np.array([[getattr(line.storage, name)] for line in self._kept_lines]).reshape(-1, 1)
            for name in ("gain", "baseline")
        )
        self._is_shifted = bool(self._baseline.any())
        self._invalid = INVALID.get(lines[0].storage.format, -32768)
        self._sums = np.zeros(len(lines), np.uint16)
        self._signals = np.empty((len(kept), n_frames * self.per_frame), np.float32)

    def add(self, first: int, block: Integers) -> None:
        """Add some frames, shape (frames, values per frame)."""
        n = len(block)
        steps = block.reshape(n, len(self.lines), self.per_frame).transpose(1, 0, 2).reshape(len(self.lines), -1)
        steps = np.ascontiguousarray(steps)
        # WFDB's checksum is the sum of the lower 16 bits, which uint16 gives by itself.
        self._sums += np.add.reduce(steps.astype(np.uint16, copy=False), axis=1, dtype=np.uint16)
        if self._kept is not None:
            steps = steps[self._kept]
        out = self._signals[:, first * self.per_frame : (first + n) * self.per_frame]
        np.divide(steps - self._baseline if self._is_shifted else steps, self._gain, out=out, casting="same_kind")
        if self._invalid is not None and steps.size and steps.min() == self._invalid:
            out[steps == self._invalid] = np.nan

    def check_sums(self, path: str) -> None:
        """Compare the checksums with the header."""
        for line, found in zip(self.lines, self._sums.tolist(), strict=True):
            if line.checksum not in (found, None):
                raise UnreadableRecordError(
                    f"{path}: the checksum of signal {line.name} is {found}, its header has {line.checksum}"
                )

    def rows(self, n_frames: int) -> Iterator[Row]:
        """Yield the wanted signals, each shifted by its skew."""
        n = n_frames * self.per_frame
        for line, values in zip(self._kept_lines, self._signals, strict=True):
            if skew := line.storage.skew:
                values = values[skew * self.per_frame :][:n]  # noqa: PLW2901
                values = np.pad(values, (0, n - len(values)), constant_values=np.nan)  # noqa: PLW2901
            yield Row(line.name, line.storage.unit, self.per_frame, values[:n])


def _blocks(path: str, group: Sequence[SignalLine], frames: range) -> Iterator[tuple[int, Integers]]:
    """Yield the first frame and the values, shape (frames, values per frame), of each block of a file."""
    storage, width = group[0].storage, sum(map(_per_frame, group))
    if storage.format in FLAC_FORMATS:
        yield from _flac_blocks(path, group, frames)
        return
    # The differences of format 8 add up from the first frame on.
    start = 0 if storage.format == "8" else frames.start - frames.start % ALIGNMENT
    step = max(BLOCK_VALUES // width // ALIGNMENT, 1) * ALIGNMENT
    reached = np.array([line.first for line in group], np.int64)
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # a Path is slower
            file.seek(storage.offset + _n_bytes(storage.format, start * width))
            for first in range(start, frames.stop, step):
                n = min(step, frames.stop - first)
                data = file.read(_n_bytes(storage.format, n * width))
                values = DECODERS[storage.format](data)[: n * width].reshape(n, width)
                if storage.format == "8":
                    values, reached = _add_up(values, group, reached)
                skipped = max(frames.start - first, 0)
                if skipped < n:
                    yield first + skipped, values[skipped:]
    except (OSError, ValueError) as error:  # ValueError: fewer values than the size of the file promised
        raise UnreadableRecordError(f"{path} cannot be read: {error}") from error


def _add_up(
    differences: Integers, group: Sequence[SignalLine], reached: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add up the differences of format 8 for each signal; return the values, and the last one of each signal."""
    values, ends = np.empty(differences.shape, np.int64), np.cumsum([_per_frame(line) for line in group])
    for i, end in enumerate(ends):
        own = slice(end - _per_frame(group[i]), end)
        values[:, own] = (reached[i] + differences[:, own].cumsum(dtype=np.int64)).reshape(len(values), -1)
    return values, values[-1, ends - 1]


def _flac_blocks(path: str, group: Sequence[SignalLine], frames: range) -> Iterator[tuple[int, Integers]]:
    """Yield the blocks of a FLAC file, whose channels are the signals; see `_blocks`."""
    per_frame = group[0].storage.per_frame
    step = max(BLOCK_VALUES // (len(group) * per_frame), 1)
    with _open_flac(path, group) as flac:
        flac.seek(group[0].storage.offset + frames.start * per_frame)
        for first in range(frames.start, frames.stop, step):
            n = min(step, frames.stop - first)
            samples = flac.read(n * per_frame, dtype="int32", always_2d=True) >> (32 - FLAC_BITS[flac.subtype])
            if len(samples) < n * per_frame:
                raise UnreadableRecordError(f"{path} is truncated")
            yield first, samples.reshape(n, per_frame, -1).transpose(0, 2, 1).reshape(n, -1)


@contextmanager
def _open_flac(path: str, group: Sequence[SignalLine]) -> Iterator[Any]:
    """Open a FLAC file; refuse one that does not fit the header."""
    import soundfile

    try:
        with Path(path).open("rb") as file:
            if file.read(4) != b"fLaC":
                raise UnreadableRecordError(f"{path} is not a FLAC file")
            file.seek(0)
            with soundfile.SoundFile(file) as flac:
                bits = FLAC_BITS.get(flac.subtype, math.inf)
                if flac.channels != len(group) or bits > FLAC_FORMATS[group[0].storage.format]:
                    raise UnreadableRecordError(
                        f"{path} has {flac.channels} channels of {flac.subtype}, which is not what its header says"
                    )
                if len(set(map(_per_frame, group))) > 1:
                    raise UnreadableRecordError(f"{path} has signals of several sampling rates: FLAC files have one")
                yield flac
    except (OSError, RuntimeError) as error:  # RuntimeError: of libsndfile
        raise UnreadableRecordError(f"{path} is not a readable FLAC file: {error}") from error


def _n_bytes(storage_format: str, n_values: int) -> int:
    """Return the bytes that values take."""
    if storage_format in ("310", "311"):
        whole, rest = divmod(n_values, 3)
        return 4 * whole + (0, 2, 4 if storage_format == "310" else 3)[rest]
    return (n_values * int(BITS[storage_format]) + 7) // 8


def _bytes_in_columns(data: bytes, width: int) -> NDArray[np.int32]:
    """Return the bytes as the columns of a table, filled up with zeros."""
    return np.frombuffer(data + bytes(-len(data) % width), np.uint8).reshape(-1, width).T.astype(np.int32)


def _decode_24(data: bytes) -> Integers:
    low, middle, high = _bytes_in_columns(data, 3)
    return _signed(low | middle << 8 | high << 16, 24)


def _decode_212(data: bytes) -> Integers:
    first, middle, second = _bytes_in_columns(data, 3)
    return _signed(np.stack([first | (middle & 15) << 8, second | (middle >> 4) << 8], axis=1), 12)


def _decode_310(data: bytes) -> Integers:
    a, b, c, d = _bytes_in_columns(data, 4)
    third = b >> 3 | (d >> 3) << 5
    return _signed(np.stack([a >> 1 | (b & 7) << 7, c >> 1 | (d & 7) << 7, third], axis=1), 10)


def _decode_311(data: bytes) -> Integers:
    a, b, c, d = _bytes_in_columns(data, 4)
    return _signed(np.stack([a | (b & 3) << 8, b >> 2 | (c & 15) << 6, c >> 4 | (d & 63) << 4], axis=1), 10)


def _signed(values: NDArray[np.int32], bits: int) -> NDArray[np.int32]:
    """Read unsigned values as two's complement."""
    half = 1 << (bits - 1)
    return ((values.ravel() ^ half) - half).astype(np.int32, copy=False)


DECODERS: dict[str, Callable[[bytes], Integers]] = {
    "8": lambda data: np.frombuffer(data, np.int8).astype(np.int16),
    "16": lambda data: np.frombuffer(data, "<i2"),
    "24": _decode_24,
    "32": lambda data: np.frombuffer(data, "<i4"),
    "61": lambda data: np.frombuffer(data, ">i2").astype(np.int16),
    "80": lambda data: np.frombuffer(data, np.uint8).astype(np.int16) - np.int16(128),
    "160": lambda data: (np.frombuffer(data, "<u2") ^ np.uint16(0x8000)).view(np.int16),
    "212": _decode_212,
    "310": _decode_310,
    "311": _decode_311,
}
"""For each storage format but FLAC's, how bytes become values."""
