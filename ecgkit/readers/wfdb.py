"""Read WFDB records, PhysioNet's pairs of a header (.hea) and a signal file (.dat)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.signals.ecg import ECG, LEADS, sort_leads

MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6}
INVALID = -32768
"""The value by which WFDB's 16-bit formats say that there is no sample."""
BYTE_ORDERS = {"16": "<i2", "61": ">i2"}
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")
_GAIN = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)(?:\(([-+]?\d+)\))?(?:/(\S+))?")


@dataclass(frozen=True)
class SignalLine:
    """What a header says of one signal.

    Attributes
    ----------
    file : str
        Name of the signal file, in the folder of the header.
    storage : str
        WFDB's number of the storage format; ``"16"`` is 16-bit little-endian.
    is_plain : bool
        One sample a frame and no skew.
    offset : int
        Bytes before the first sample.
    gain : float
        Steps of the converter a ``unit``; 0 where the header does not say.
    baseline : int
        The step at 0 mV.
    unit : str
        Physical unit, ``"mV"`` where the header does not say.
    checksum : int or None
        The sum of all samples modulo 65536; None where the header does not say.
    name : str
        The lead.
    """

    file: str
    storage: str
    is_plain: bool
    offset: int
    gain: float
    baseline: int
    unit: str
    checksum: int | None
    name: str


@dataclass(frozen=True)
class Header:
    """What a header says of its record.

    Attributes
    ----------
    n_segments : int or None
        Number of segments of a multi-segment record; None for an ordinary one.
    sampling_rate : float
        In Hz.
    n_samples : int or None
        Samples a signal; None where the header does not say.
    signals : tuple of SignalLine
        Empty for a multi-segment record.
    """

    n_segments: int | None
    sampling_rate: float
    n_samples: int | None
    signals: tuple[SignalLine, ...]


def read_record(path: Path | str) -> ECG:
    """Read one 12-lead record.

    Parameters
    ----------
    path : Path or str
        The record without a suffix: ``00001_lr`` for ``00001_lr.hea`` and ``00001_lr.dat``.

    Returns
    -------
    ECG
        In mV, leads in the standard order, NaN where WFDB marks a sample as invalid. Leads beyond the twelve are left
        out.

    Raises
    ------
    UnreadableRecordError
        If a file is missing or truncated, a checksum does not fit, or leads, gain or unit are missing or unknown.

    References
    ----------
    WFDB header files: https://physionet.org/physiotools/wag/header-5.htm
    """
    path = Path(path)
    if path.suffix in (".hea", ".dat"):
        path = path.with_suffix("")
    header = read_header(path)
    if _is_direct(header):
        names = [line.name for line in header.signals]
        signal = _to_millivolts(_read_direct(path, header), header.signals)
        rate = header.sampling_rate
    else:
        signal, names, rate = _read_with_wfdb(path, header)
    return ECG(_twelve_leads(path, signal, names), rate, path.name)


def read_header(path: Path | str) -> Header:
    """Read the header of a record, given without its suffix.

    Raises
    ------
    UnreadableRecordError
        If there is no header or it does not follow WFDB's rules.
    """
    file = Path(f"{path}.hea")
    try:
        text = file.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise UnreadableRecordError(f"{file}: {error.strerror}") from error
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    try:
        return _parse_header(lines)
    except (ValueError, IndexError) as error:
        raise UnreadableRecordError(f"{file} is no WFDB header: {error}") from error


def read_microvolts(path: str, *, sampling_rate: int, n_samples: int) -> NDArray[np.int16] | None:
    """Read a record whose file holds microvolts already, without a detour over floats.

    Format, gain, unit, leads, length and checksums are checked as `read_record` checks them, only faster.

    Parameters
    ----------
    path : str
        The record without a suffix.
    sampling_rate : int
        In Hz.
    n_samples : int
        Samples a lead.

    Returns
    -------
    ndarray of int16, shape (12, n_samples), or None
        Microvolts. None if the record is of another kind or has invalid samples: `read_record` then serves.

    Raises
    ------
    UnreadableRecordError
        If the signal file is missing or truncated, or a checksum does not fit.
    """
    try:
        with open(f"{path}.hea", "rb", buffering=0) as file:  # noqa: PTH123  # a Path costs as much as the read
            first, _, rest = file.read().partition(b"\n")
    except OSError as error:
        raise UnreadableRecordError(f"{path}.hea: {error.strerror}") from error
    words, fields = first.split(), rest.split()
    if words[1:] != [b"12", b"%d" % sampling_rate, b"%d" % n_samples] or len(fields) != 9 * len(LEADS):
        return None
    lines = rest.rstrip().count(b"\n") + 1
    shape = (fields[0::9], fields[1::9], fields[2::9], fields[4::9], fields[8::9])
    if lines != len(LEADS) or not _holds_microvolts(
        b"\n".join(b" ".join(line) for line in zip(*shape[1:], strict=True))
    ):
        return None
    if shape[0].count(shape[0][0]) != len(LEADS):
        return None
    data_path = f"{path[: path.rfind('/') + 1]}{shape[0][0].decode()}"
    signal = _samples(data_path, len(LEADS), n_samples).T.copy()
    try:
        checksums = [int(value) & 0xFFFF for value in fields[6::9]]
    except ValueError:
        return None
    _check_sums(data_path, signal, checksums)
    return None if int(signal.min()) == INVALID else signal


@dataclass(frozen=True)
class WfdbFiles:
    """Records of one length and rate in a folder: all that a worker process needs to read them.

    Attributes
    ----------
    folder : str
        The folder, absolute.
    files : mapping of str to str
        For each record its path in the folder, without a suffix.
    sampling_rate : int
        In Hz.
    n_samples : int
        Samples a lead.
    """

    folder: str
    files: Mapping[str, str]
    sampling_rate: int
    n_samples: int

    def read(self, record_id: str) -> ECG:
        """Read one record; see `read_record`."""
        ecg = read_record(f"{self.folder}/{self.files[record_id]}")
        return ECG(ecg.signal, ecg.sampling_rate, record_id)

    def read_microvolts(self, record_id: str) -> NDArray[np.int16] | None:
        """Read one record as integers if its file holds microvolts; see `read_microvolts`."""
        path = f"{self.folder}/{self.files[record_id]}"
        return read_microvolts(path, sampling_rate=self.sampling_rate, n_samples=self.n_samples)

    def subset(self, record_ids: Sequence[str]) -> WfdbFiles:
        """Give the same reader with some of its records only, so that little travels to a worker."""
        files = {record_id: self.files[record_id] for record_id in record_ids}
        return WfdbFiles(self.folder, files, self.sampling_rate, self.n_samples)


def _parse_header(lines: list[str]) -> Header:
    if not lines:
        raise ValueError("it is empty")
    words = lines[0].split()
    if len(words) < 3:
        raise ValueError("its first line does not give the number of signals and the sampling rate")
    _, _, segments = words[0].partition("/")
    rate = float(words[2].split("/")[0].split("(")[0])
    if rate <= 0:
        raise ValueError(f"the sampling rate is {rate:g}")
    n_samples = int(words[3]) if len(words) > 3 and int(words[3]) > 0 else None
    if segments:
        return Header(int(segments), rate, n_samples, ())
    n_signals = int(words[1])
    if len(lines) - 1 < n_signals:
        raise ValueError(f"it promises {n_signals} signals and describes {len(lines) - 1}")
    return Header(None, rate, n_samples, tuple(_parse_signal(line) for line in lines[1 : n_signals + 1]))


def _parse_signal(line: str) -> SignalLine:
    words = line.split(maxsplit=8)
    storage = _FORMAT.fullmatch(words[1])
    if storage is None:
        raise ValueError(f"{words[1]!r} is no storage format")
    number, per_frame, skew, offset = storage.groups()
    gain, baseline, unit = 0.0, None, "mV"
    if len(words) > 2:
        match = _GAIN.fullmatch(words[2])
        if match is None:
            raise ValueError(f"{words[2]!r} is no gain")
        gain, baseline, unit = float(match[1]), match[2], match[3] or "mV"
    adc_zero = int(words[4]) if len(words) > 4 else 0
    return SignalLine(
        file=words[0],
        storage=number,
        is_plain=int(per_frame or 1) == 1 and int(skew or 0) == 0,
        offset=int(offset or 0),
        gain=gain,
        baseline=adc_zero if baseline is None else int(baseline),
        unit=unit,
        checksum=int(words[6]) & 0xFFFF if len(words) > 6 else None,
        name=words[8].strip() if len(words) > 8 else "",
    )


@lru_cache(maxsize=64)
def _holds_microvolts(lines: bytes) -> bool:
    """Whether signals of these formats, gains, zero levels and leads are 12 standard leads of int16 in microvolts."""
    try:
        signals = [
            _parse_signal(f"file {storage} {gain} 16 {zero} 0 0 0 {name}")
            for storage, gain, zero, name in (line.decode().split() for line in lines.split(b"\n"))
        ]
    except ValueError:
        return False
    right_leads = [line.name.upper() for line in signals] == [name.upper() for name in LEADS]
    return right_leads and all(_is_microvolts(line) for line in signals)


def _is_microvolts(line: SignalLine) -> bool:
    scale = MILLIVOLTS.get(line.unit.lower())
    plain = line.storage == "16" and line.is_plain and line.offset == 0 and line.baseline == 0
    return plain and scale is not None and line.gain == 1000 * scale


def _is_direct(header: Header) -> bool:
    signals = header.signals
    if header.n_segments is not None or not signals:
        return False
    where = {(line.file, line.storage, line.offset) for line in signals}
    return len(where) == 1 and signals[0].storage in BYTE_ORDERS and all(line.is_plain for line in signals)


def _samples(
    path: str, n_signals: int, n_samples: int | None, *, kind: str = "<i2", offset: int = 0
) -> NDArray[np.int16]:
    """Read the samples of a signal file, shape (samples, signals), and check that all are there."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # a Path costs as much as the read
            data = file.read()
    except OSError as error:
        raise UnreadableRecordError(f"{path}: {error.strerror}") from error
    if n_samples is None:
        n_samples = (len(data) - offset) // (2 * n_signals)
    needed = offset + 2 * n_signals * n_samples
    if len(data) < needed or n_samples == 0:
        raise UnreadableRecordError(f"{path} is truncated: it has {len(data)} bytes of {needed}")
    return np.frombuffer(data, kind, n_samples * n_signals, offset).reshape(n_samples, n_signals)


def _check_sums(path: Path | str, signal: NDArray[np.int16], checksums: Sequence[int | None]) -> None:
    # Sums of uint16 wrap at 65536, as WFDB's checksums do.
    found = np.add.reduce(signal.view(np.uint16), axis=1, dtype=np.uint16).tolist()
    wrong = [row for row, (sum_, wanted) in enumerate(zip(found, checksums, strict=True)) if wanted not in (sum_, None)]
    if wrong:
        row = wrong[0]
        raise UnreadableRecordError(
            f"{path}: the checksum of signal {row + 1} is {found[row]}, its header says {checksums[row]}"
        )


def _read_direct(path: Path, header: Header) -> NDArray[np.int16]:
    line, n_signals = header.signals[0], len(header.signals)
    file = path.parent / line.file
    samples = _samples(str(file), n_signals, header.n_samples, kind=BYTE_ORDERS[line.storage], offset=line.offset)
    signal = np.ascontiguousarray(samples.T, np.int16)
    _check_sums(file, signal, [line.checksum for line in header.signals])
    return signal


def _to_millivolts(steps: NDArray[np.int16], lines: Sequence[SignalLine]) -> NDArray[np.float64]:
    signal = steps.astype(np.float64)
    signal[steps == INVALID] = np.nan
    for row, line in enumerate(lines):
        if line.gain == 0:
            raise UnreadableRecordError(f"the header gives no gain for lead {line.name}: it cannot be known in mV")
        signal[row] = (signal[row] - line.baseline) / line.gain * _millivolts(line.unit, line.name)
    return signal


def _millivolts(unit: str, name: str) -> float:
    if unit.lower() not in MILLIVOLTS:
        raise UnreadableRecordError(f"lead {name} is given in {unit!r}, which is no unit of voltage")
    return MILLIVOLTS[unit.lower()]


def _twelve_leads(path: Path, signal: NDArray[np.float64], names: list[str]) -> NDArray[np.float32]:
    standard = {name.upper() for name in LEADS}
    rows = [row for row, name in enumerate(names) if name.strip().upper() in standard]
    try:
        ordered = sort_leads(signal[rows], [names[row] for row in rows])
    except UnreadableRecordError:
        raise
    except EcgkitError as error:
        raise UnreadableRecordError(f"{path}: {error}") from error
    return np.ascontiguousarray(ordered, np.float32)


def _read_with_wfdb(path: Path, header: Header) -> tuple[NDArray[np.float64], list[str], float]:
    """Read what the direct way does not cover, with the wfdb package; gives mV, one row a signal."""
    if any(line.gain == 0 for line in header.signals):
        raise UnreadableRecordError(f"{path}: the header gives no gain: the signal cannot be known in mV")
    one_segment = header.n_segments is None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wfdb 4.3 does what pandas 3.1 has deprecated
            import wfdb

            record = wfdb.rdrecord(str(path), physical=not one_segment)
            physical = record.dac() if one_segment else record.p_signal
    except Exception as error:  # wfdb raises what it happens to meet, down to IndexError
        raise UnreadableRecordError(f"{path}: {' '.join(str(error).split())[:200]}") from error
    if one_segment and all(line.is_plain for line in header.signals):
        _check_sums(path, _low_bits(record.d_signal), [line.checksum for line in header.signals])
    names = list(record.sig_name)
    scale = np.array([_millivolts(unit, name) for unit, name in zip(record.units, names, strict=True)])
    return np.asarray(physical, np.float64).T * scale[:, None], names, float(record.fs)


def _low_bits(steps: NDArray[np.integer]) -> NDArray[np.int16]:
    return np.ascontiguousarray(steps.T & 0xFFFF).astype(np.uint16).view(np.int16)
