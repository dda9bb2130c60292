"""What every reader returns, and what a caller may say that a file does not."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.signals.ecg import ECG, LEADS, check_age, check_rate

Vector = NDArray[Any]

_VOLTS = {"": 1e3, "M": 1.0, "MILLI": 1.0, "U": 1e-3, "MICRO": 1e-3, "N": 1e-6, "NANO": 1e-6}
TIME_UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0} | {
    "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9
}  # fmt: skip
"""Units of time in seconds."""

_UNIT = re.compile(r"([-+]?\d+(?:[.,]\d+)?(?:E[-+]?\d+)?)?\s*([A-Z]*?)V(?:OLTS?)?")
_CASES = {lead.upper(): lead for lead in LEADS}
_IN_LANGUAGES = "ABLEITUNG|D[EÉ]RIVATION|DERIVAZIONE|DERIVACI[OÓ]N|DERIVA[CÇ][AÃ]O"
_LEAD = re.compile(
    rf"(?:MDC_ECG_LEAD_|(?:ECG|EKG|LEAD|ECG LEAD|{_IN_LANGUAGES})[ _:.-]*|第)?"
    r"(?<![ _:.]-)(D?I{1,3}|AV[RLF]|V[1-6])(?:誘導|导联)?"
)


@dataclass(frozen=True, eq=False)
class Signals:
    """All signals of a file, whatever they are called.

    Attributes
    ----------
    signals : tuple of ndarray of float, each of shape (samples,)
        One per signal: in mV where the unit is one of voltage, otherwise in the unit of the file; NaN where there is no
        value.
    names : tuple of str
        The standard spelling for one of the twelve leads, otherwise as the file has it; ``""`` for a signal without.
    units : tuple of str
        ``"mV"``, another unit, or ``""`` where the file has none.
    sampling_rates : tuple of (float or None)
        In Hz; None where the file does not say it.
    record_id : str
        The name of the file without its suffix.
    age : float or None
        In years.
    sex : {"male", "female"} or None
        None if unknown.
    metadata : mapping
        The format, and what else is known of the recording.
    findings : tuple of str
        What the reader noticed.
    start : float
        Seconds of the file before the first sample: 0 unless a reader left them out as it was asked to.
    """

    signals: tuple[Vector, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    sampling_rates: tuple[float | None, ...]
    record_id: str = ""
    age: float | None = None
    sex: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    start: float = 0.0

    def select(self, rows: Sequence[int]) -> Signals:
        """Return some of the signals, in the order of ``rows``."""
        parts: dict[str, Any] = {
            name: tuple(getattr(self, name)[row] for row in rows)
            for name in ("signals", "names", "units", "sampling_rates")
        }
        return replace(self, **parts)

    def in_millivolts(self, unit: str = "") -> Signals:
        """Return voltages in mV, those of an unknown unit as being in ``unit``; other quantities stay as they are."""
        pairs = [scaled(values, own or unit) for values, own in zip(self.signals, self.units, strict=True)]
        return replace(self, signals=tuple(values for values, _ in pairs), units=tuple(name for _, name in pairs))


@dataclass(frozen=True)
class Hints:
    """What the caller says because the file may not; see `ecgkit.readers.open_ecg`."""

    sampling_rate: float | None = None
    unit: str | None = None
    leads: tuple[str, ...] | None = None
    record: str | int | None = None
    start: float | None = None
    duration: float | None = None
    only_leads: bool = False

    def __post_init__(self) -> None:
        if self.sampling_rate is not None:
            object.__setattr__(self, "sampling_rate", check_rate(self.sampling_rate))
        if self.unit is not None and (not isinstance(self.unit, str) or millivolts(self.unit) is None):
            raise EcgkitError(f"unit is {self.unit!r}: give mV, uV, V or a multiple such as 4.88uV or 1000uV")
        if self.leads is not None:
            names = self.leads.split(",") if isinstance(self.leads, str) else self.leads
            if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names) or not names:
                raise EcgkitError(f"leads is {self.leads!r}: give the names of the leads, such as I,II,V1")
            object.__setattr__(self, "leads", tuple(standard_name(name) for name in names))
        for name in ("start", "duration"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not (number and (value > 0 or (name == "start" and value == 0))):
                raise EcgkitError(f"{name} is {value!r}: give seconds")


@dataclass(frozen=True)
class RecordFiles(ABC):
    """Records of a folder by their identifiers: all that a worker process needs to read them.

    Attributes
    ----------
    folder : str
        The folder, absolute.
    files : mapping of str
        For each record its path in the folder, or what else is needed to read it.
    """

    folder: str
    files: Mapping[str, Any]

    @abstractmethod
    def read(self, record_id: str) -> ECG:
        """Read one record."""

    def subset(self, record_ids: Sequence[str]) -> Self:
        """Return the same reader for some of its records, so that little is sent to a worker."""
        return replace(self, files={name: self.files[name] for name in record_ids})


@lru_cache(maxsize=256)
def millivolts(unit: str) -> float | None:
    """Return how many mV a unit is.

    Parameters
    ----------
    unit : str
        Such as ``"mV"``, ``"µV"``, ``"microvolts"`` or ``"4.88uV"``.

    Returns
    -------
    float or None
        None for anything that is not a unit of voltage, and for a comma that may separate thousands (``"1,000uV"``).
    """
    match = _UNIT.fullmatch(re.sub("[\u03bc\u039c\u00b5]", "U", unit.strip().upper()))
    if match is None or match[2] not in _VOLTS:
        return None
    # "MV" in capitals is what devices without lower case print for mV; no ECG is in megavolts.
    if re.fullmatch(r"[-+]?[1-9]\d*,\d{3}", match[1] or ""):  # 1,000 can be 1 and a thousand
        return None
    factor = float((match[1] or "1").replace(",", "."))
    return factor * _VOLTS[match[2]] if factor > 0 and math.isfinite(factor) else None


def standard_name(name: str) -> str:
    """Return the standard spelling of one of the twelve leads (``"ecg lead avr"`` is aVR), or another name stripped."""
    name = name.strip()
    match = _LEAD.fullmatch(re.sub(r"\s+", " ", name.upper()))
    return _CASES.get(match[1].removeprefix("D"), name) if match else name


def split_name(name: str) -> tuple[str, str]:
    """Split ``"I (mV)"``, ``"I [uV]"`` or ``"V1_uV"`` into the name and the unit, which is empty if there is none."""
    name = name[:200]
    match = re.fullmatch(r"(.*?)\s*(?:[(\[{]\s*([^)\]}]*)\s*[)\]}]|(?: in |[_ /]) *([^\W\d_]{1,3}))\s*", name)
    if match is None:
        return name.strip(), ""
    unit = (match[2] or match[3] or "").strip()
    return (match[1].strip(), unit) if match[2] or unit in TIME_UNITS or millivolts(unit) else (name.strip(), "")


def scaled(values: Vector, unit: str) -> tuple[Vector, str]:
    """Return values of a voltage in mV with the unit ``"mV"``; others as they are."""
    factor = millivolts(unit)
    if factor is None:
        return values, unit
    return (values if factor == 1 else values * factor), "mV"


def known_age(age: float | None) -> float | None:
    """Return an age in years, or None for one that is unknown or that nobody has."""
    try:
        check_age(age)
    except EcgkitError:
        return None
    return None if age is None or not math.isfinite(age) else float(age)


def years_between(born: date, day: date) -> int:
    """Return the age in whole years on a day; it rises on the birthday."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def known_sex(text: object) -> str | None:
    """Return "male" or "female" for the spellings of files, None for all others."""
    return {"M": "male", "MALE": "male", "F": "female", "FEMALE": "female"}.get(str(text).strip().upper())


def check_scaled(signals: Iterable[Vector], gain: str) -> None:
    """Refuse whole numbers next to a gain, under the name of the gain: they are steps of a converter."""
    if all(np.array_equal(values, np.rint(values), equal_nan=True) for values in signals):
        raise EcgkitError(f"the file has {gain} next to whole numbers: store the samples in mV, without it")


def check_size(size: int, limit: int, what: str) -> None:
    """Raise an `UnreadableRecordError` if something is larger than what is read."""
    if size > limit:
        raise UnreadableRecordError(
            f"{what} has {size / 2**20:,.0f} MiB and at most {limit / 2**20:.0f} are read: take a part"
        )
