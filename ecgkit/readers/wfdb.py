"""Read WFDB records, PhysioNet's pairs of a header (.hea) and a signal file (.dat)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.signals.ecg import ECG, sort_leads

MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6}
INVALID = -32768
"""The value that marks a missing sample in WFDB's 16-bit formats."""
BYTE_ORDERS = {"16": "<i2", "61": ">i2"}
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")
_GAIN = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)(?:\(([-+]?\d+)\))?(?:/(\S+))?")


@dataclass(frozen=True)
class Storage:
    """How a header describes the samples of a signal.

    Attributes
    ----------
    format : str
        WFDB's number of the storage format; ``"16"`` is 16-bit little-endian.
    is_plain : bool
        One sample per frame and no skew.
    offset : int
        Bytes before the first sample.
    gain : float
        Steps of the converter per ``unit``; 0 where the header has none.
    baseline : int
        The step at 0 mV.
    unit : str
        Physical unit, ``"mV"`` where the header has none.
    """

    format: str
    is_plain: bool
    offset: int
    gain: float
    baseline: int
    unit: str


@dataclass(frozen=True)
class SignalLine:
    """The line of a header on one signal.

    Attributes
    ----------
    file : str
        Name of the signal file, in the folder of the header.
    storage : Storage
        How its samples are stored.
    checksum : int or None
        The sum of all samples modulo 65536; None where the header has none.
    name : str
        The lead.
    """

    file: str
    storage: Storage
    checksum: int | None
    name: str


@dataclass(frozen=True)
class Header:
    """The header of a record.

    Attributes
    ----------
    n_segments : int or None
        Number of segments of a multi-segment record; None for an ordinary one.
    sampling_rate : float
        In Hz.
    n_samples : int or None
        Samples per signal; None where the header has none.
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
        If a file is missing or truncated, a checksum does not match, or leads, gain or unit are missing or unknown.

    References
    ----------
    WFDB header files: https://physionet.org/physiotools/wag/header-5.htm
    """
    path = Path(path)
    if path.suffix in (".hea", ".dat"):
        path = path.with_suffix("")
    header = read_header(path)
    if _is_one_16_bit_file(header):
        names, rate = [line.name for line in header.signals], header.sampling_rate
        signal = _to_millivolts(_read_16_bit(path, header), header.signals)
    else:
        signal, names, rate = _read_with_wfdb(path, header)
    try:
        ordered = sort_leads(signal, names)
    except EcgkitError as error:
        raise UnreadableRecordError(f"{path}: {error}") from error
    return ECG(np.ascontiguousarray(ordered, np.float32), rate, path.name)


def read_header(path: Path | str) -> Header:
    """Read the header of a record, whose path has no suffix.

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


@dataclass(frozen=True)
class WfdbFiles:
    """Records in a folder, by their identifiers: all that a worker process needs to read them.

    Attributes
    ----------
    folder : str
        The folder, absolute.
    files : mapping of str to str
        For each record its path in the folder, without a suffix.
    """

    folder: str
    files: Mapping[str, str]

    def read(self, record_id: str) -> ECG:
        """Read one record; see `read_record`."""
        return replace(read_record(f"{self.folder}/{self.files[record_id]}"), record_id=record_id)

    def subset(self, record_ids: Sequence[str]) -> WfdbFiles:
        """Return the same reader for some of its records, so that little is sent to a worker."""
        return WfdbFiles(self.folder, {record_id: self.files[record_id] for record_id in record_ids})


def _parse_header(lines: list[str]) -> Header:
    """Parse the lines of a header without its comments."""
    if not lines:
        raise ValueError("it is empty")
    fields = lines[0].split()
    if len(fields) < 3:
        raise ValueError("its first line has no number of signals or no sampling rate")
    _, _, segments = fields[0].partition("/")
    rate = float(fields[2].split("/")[0].split("(")[0])
    if rate <= 0:
        raise ValueError(f"the sampling rate is {rate:g}")
    n_samples = int(fields[3]) if len(fields) > 3 and int(fields[3]) > 0 else None
    if segments:
        return Header(int(segments), rate, n_samples, ())
    n_signals = int(fields[1])
    if len(lines) - 1 < n_signals:
        raise ValueError(f"it announces {n_signals} signals and describes {len(lines) - 1}")
    return Header(None, rate, n_samples, tuple(_parse_signal(line) for line in lines[1 : n_signals + 1]))


def _parse_signal(line: str) -> SignalLine:
    """Parse the line of a header on one signal."""
    fields = line.split(maxsplit=8)
    return SignalLine(
        file=fields[0],
        storage=_parse_storage(fields[1], *fields[2:3], adc_zero=int(fields[4]) if len(fields) > 4 else 0),
        checksum=int(fields[6]) & 0xFFFF if len(fields) > 6 else None,
        name=fields[8].strip() if len(fields) > 8 else "",
    )


@lru_cache(maxsize=1024)
def _parse_storage(storage: str, gain: str = "0", *, adc_zero: int) -> Storage:
    """Parse format and gain, which are the same in nearly all lines of a data set."""
    match = _FORMAT.fullmatch(storage)
    if match is None:
        raise ValueError(f"{storage!r} is no storage format")
    number, per_frame, skew, offset = match.groups()
    match = _GAIN.fullmatch(gain)
    if match is None:
        raise ValueError(f"{gain!r} is no gain")
    return Storage(
        format=number,
        is_plain=int(per_frame or 1) == 1 and int(skew or 0) == 0,
        offset=int(offset or 0),
        gain=float(match[1]),
        baseline=adc_zero if match[2] is None else int(match[2]),
        unit=match[3] or "mV",
    )


def _is_one_16_bit_file(header: Header) -> bool:
    """Return True if all signals are in one file of 16-bit samples, which NumPy reads without the wfdb package."""
    signals = header.signals
    if header.n_segments is not None or not signals:
        return False
    places = {(line.file, line.storage.format, line.storage.offset) for line in signals}
    return (
        len(places) == 1 and signals[0].storage.format in BYTE_ORDERS and all(line.storage.is_plain for line in signals)
    )


def _read_16_bit(path: Path, header: Header) -> NDArray[np.int16]:
    """Read the samples of a 16-bit signal file, shape (signals, samples), and check length and checksums."""
    storage, n_signals = header.signals[0].storage, len(header.signals)
    file = path.parent / header.signals[0].file
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UnreadableRecordError(f"{file}: {error.strerror}") from error
    n_samples = header.n_samples or (len(data) - storage.offset) // (2 * n_signals)
    needed = storage.offset + 2 * n_signals * n_samples
    if len(data) < needed or n_samples <= 0:
        raise UnreadableRecordError(f"{file} is truncated: it has {len(data)} of {needed} bytes")
    samples = np.frombuffer(data, BYTE_ORDERS[storage.format], n_samples * n_signals, storage.offset)
    signal = np.ascontiguousarray(samples.reshape(n_samples, n_signals).T, np.int16)
    _check_sums(file, signal, [line.checksum for line in header.signals])
    return signal


def _check_sums(path: Path, signal: NDArray[np.int16], checksums: Sequence[int | None]) -> None:
    """Compare the sum of each signal modulo 65536, which uint16 gives by itself, with its header."""
    found = np.add.reduce(signal.view(np.uint16), axis=1, dtype=np.uint16).tolist()
    for row, (actual, expected) in enumerate(zip(found, checksums, strict=True)):
        if expected not in (actual, None):
            raise UnreadableRecordError(
                f"{path}: the checksum of signal {row + 1} is {actual}, its header has {expected}"
            )


def _to_millivolts(steps: NDArray[np.int16], lines: Sequence[SignalLine]) -> NDArray[np.float64]:
    """Convert steps of the converter to mV, invalid samples to NaN."""
    scale = _scales([line.storage.unit for line in lines], [line.name for line in lines])
    gain = np.array([line.storage.gain for line in lines])
    if not gain.all():
        name = lines[int(np.argmin(np.abs(gain)))].name
        raise UnreadableRecordError(f"the header has no gain for lead {name}: its mV are unknown")
    baseline = np.array([line.storage.baseline for line in lines])
    signal = (steps - baseline[:, None]) / gain[:, None]
    if steps.min() == INVALID:
        signal[steps == INVALID] = np.nan
    return signal if (scale == 1).all() else signal * scale[:, None]


def _scales(units: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    """Return how many mV each unit is."""
    for unit, name in zip(units, names, strict=True):
        if unit.lower() not in MILLIVOLTS:
            raise UnreadableRecordError(f"lead {name} has the unit {unit!r}, which is no unit of voltage")
    return np.array([MILLIVOLTS[unit.lower()] for unit in units])


def _read_with_wfdb(path: Path, header: Header) -> tuple[NDArray[np.float64], list[str], float]:
    """Read any other record with the wfdb package: the signal in mV, shape (signals, samples), leads and rate."""
    if any(line.storage.gain == 0 for line in header.signals):
        raise UnreadableRecordError(f"{path}: the header has no gain: mV are unknown")
    one_segment = header.n_segments is None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wfdb 4.3 does what pandas 3.1 has deprecated
            import wfdb

            record = wfdb.rdrecord(str(path), physical=not one_segment)
            physical = record.dac() if one_segment else record.p_signal
    except Exception as error:  # wfdb raises what it happens to meet, down to IndexError
        raise UnreadableRecordError(f"{path}: {' '.join(str(error).split())[:200]}") from error
    if one_segment and all(line.storage.is_plain for line in header.signals):
        _check_sums(path, _low_bits(record.d_signal), [line.checksum for line in header.signals])
    names = list(record.sig_name)
    scale = _scales(record.units, names)
    return np.asarray(physical, np.float64).T * scale[:, None], names, float(record.fs)


def _low_bits(steps: NDArray[np.integer]) -> NDArray[np.int16]:
    """Return the lower 16 bits of each sample, shape (signals, samples): WFDB's checksums are sums of these."""
    return np.ascontiguousarray(steps.T & 0xFFFF).astype(np.uint16).view(np.int16)
