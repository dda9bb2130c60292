"""The record: what every reader returns and everything else takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ecgkit.errors import EcgkitError, check_choice

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The twelve standard leads in the order that every signal of the package has."""

SEXES = ("male", "female")
LOWEST_RATE, HIGHEST_RATE = 50, 2000
"""The sampling rates in Hz between which an ECG can be read."""
OLDEST = 130
"""The largest age in years that is accepted; PTB-XL's 300, which means "over 89", is 90 here."""


@dataclass(frozen=True, eq=False)
class ECG:
    """One 12-lead electrocardiogram.

    Attributes
    ----------
    signal : ndarray of float32, shape (12, samples)
        Millivolts, leads in the order of `LEADS`; NaN where there is no value, and in all samples of an absent lead.
        Numbers of another type are converted, and what a masked array masks becomes NaN.
    sampling_rate : float
        In Hz.
    record_id : str
        The name of the record in its source; empty if it has none.
    age : float or None
        In years; None if unknown.
    sex : {"male", "female"} or None
        None if unknown.
    metadata : mapping
        Whatever else the file contains.
    findings : sequence of str
        Findings of a reader or a check, such as derived leads or filled gaps.

    Raises
    ------
    EcgkitError
        If the signal is not an array of numbers ``(12, samples)`` or has no value in any lead, the sampling rate is not
        from 50 to 2,000 Hz, the age is not between 0 and 130, or the sex is another text.
    """

    signal: NDArray[np.float32]
    sampling_rate: float
    record_id: str = ""
    age: float | None = None
    sex: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "signal", as_numbers(self.signal, np.float32))
        if self.signal.ndim != 2 or self.signal.shape[0] != len(LEADS):
            raise EcgkitError(f"a signal has the shape {self.signal.shape}, not (12, samples): put the leads first")
        object.__setattr__(self, "sampling_rate", check_rate(self.sampling_rate))
        if not np.isfinite(self.signal).any():
            raise EcgkitError(f"{self.name} has no value in any of the twelve leads: leave it out")
        check_age(self.age)
        if self.sex is not None:
            check_choice("sex", self.sex, SEXES)

    @property
    def name(self) -> str:
        """Its name in a message, such as ``"ECG 17"``."""
        return f"ECG {self.record_id}" if self.record_id else "the ECG"

    @property
    def n_samples(self) -> int:
        """Number of samples per lead."""
        return int(self.signal.shape[1])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sampling_rate

    @property
    def missing_leads(self) -> tuple[str, ...]:
        """The leads without a single value."""
        has_values = np.isfinite(self.signal).any(axis=1)
        return () if has_values.all() else tuple(np.array(LEADS)[~has_values].tolist())


def check_rate(rate: object, name: str = "sampling_rate") -> float:
    """Return a sampling rate in Hz as a float.

    Parameters
    ----------
    rate : object
        A number, a NumPy scalar, an array without axes or a tensor of one number.
    name : str
        Its name in the message.

    Raises
    ------
    EcgkitError
        If it is anything else, or not between 50 and 2,000 Hz.
    """
    number = None
    if not isinstance(rate, (str, bytes, bool, np.bool_)) and np.ndim(rate) == 0:  # type: ignore[arg-type]
        try:
            number = float(rate)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = None
    if number is None or not LOWEST_RATE <= number <= HIGHEST_RATE:
        raise EcgkitError(f"{name} is {rate!r}: give a number of Hz from {LOWEST_RATE} to {HIGHEST_RATE}")
    return number


def as_numbers(values: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return an array of real numbers; what a masked array, or one of a list of them, masks becomes NaN.

    Parameters
    ----------
    values : array-like
        Such as an array, a masked array, a list or a tensor.
    dtype : dtype, optional
        The floating-point type of the result; by default that of ``values``.

    Raises
    ------
    EcgkitError
        If it is not an array of real numbers, such as rows of different lengths.
    """
    try:
        if isinstance(values, Sequence) and any(isinstance(row, np.ma.MaskedArray) for row in values):
            values = np.ma.stack(values)
        if isinstance(values, np.ma.MaskedArray):
            values = np.ma.filled(values.astype(np.result_type(values.dtype, np.float32)), np.nan)
        result = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EcgkitError(
            f"signals have different lengths, or are not numbers ({error}): give one length, or a sequence of ECG"
        ) from error
    if result.dtype.kind not in "fiu":
        raise EcgkitError(f"signals are of type {result.dtype}: give floating-point numbers in mV")
    return result if dtype is None else result.astype(dtype, copy=False)


def check_age(age: float | None) -> None:
    """Raise an `EcgkitError` unless an age is None, or between 0 and 130 years."""
    if age is not None and not 0 <= age <= OLDEST:
        raise EcgkitError(
            f'age is {age:g}: give years up to {OLDEST}, or None (PTB-XL\'s 300 means "over 89": give 90)'
        )
