"""Tables with one column per signal: which of them is the time, and what it says of the sampling rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecgkit.errors import UnreadableRecordError
from ecgkit.readers.base import TIME_UNITS, Signals, Vector, split_name, standard_name
from ecgkit.signals.ecg import HIGHEST_RATE, LEADS, LOWEST_RATE

TIME_NAMES = {
    "time", "t", "timestamp", "seconds", "second", "sec", "s", "ms", "zeit", "uhrzeit", "tiempo", "tempo", "temps",
    "date", "datum", "fecha",
}  # fmt: skip
INDEX_NAMES = {"index", "sample", "samples", "sample_number", "n", "nr", "no", "#", "idx", "frame", "row"}
"""The names of columns that hold the time or a count."""

RECORD_NAMES = {
    name + ending
    for name in (
        "id",
        "ecg",
        "exam",
        "file",
        "filename",
        "patient",
        "person",
        "record",
        "recording",
        "study",
        "subject",
    )
    for ending in ("", "_id", "id", "_name", "_nr")
}
"""The names of columns that say whose the samples are, or of which recording."""


def from_columns(
    columns: Sequence[Vector], names: Sequence[str], *, units: Sequence[str] | None = None, rate: float | None = None
) -> Signals:
    """Make signals of the columns of a table.

    Parameters
    ----------
    columns : sequence of ndarray, each of shape (samples,)
        The values; a column of times or of sample numbers is used for the rate and left out.
    names : sequence of str
        One per column, possibly with a unit (``"I (mV)"``); ``""`` for a column without.
    units : sequence of str, optional
        One per column, where they stand apart from the names.
    rate : float, optional
        In Hz, where the table says it.

    Raises
    ------
    UnreadableRecordError
        If the times do not rise evenly, or a column says that there are several recordings.
    """
    split = [split_name(name) if standard_name(name) not in LEADS else (name, "") for name in names]
    words = [name for name, _ in split]
    found = [unit or given for (_, unit), given in zip(split, units or [""] * len(split), strict=True)]
    for name, column in zip(words, columns, strict=True):
        check_one_record(name, column)
    clock = _time_column(columns, words, found)
    kept = [row for row in range(len(columns)) if row != clock]
    values = [columns[row] for row in kept]
    if clock is not None and words[clock].lower() not in INDEX_NAMES:
        seconds = seconds_per_step(words[clock], found[clock])
        measured, places = rate_of(columns[clock], seconds)
        rate = measured if rate is None else rate
        values = [_place(column, places) for column in values]
    names = tuple(standard_name(words[row]) for row in kept)
    return Signals(tuple(values), names, tuple(found[row] for row in kept), (rate,) * len(kept)).in_millivolts()


def check_one_record(name: str, column: Vector, *, is_text: bool = False) -> None:
    """Refuse a column such as ``patient_id`` whose value changes; one of numbers that all differ counts the rows."""
    if name.lower().replace(" ", "_") not in RECORD_NAMES:
        return
    changes = np.diff(column) != 0
    if changes.any() and (is_text or not changes.all()):
        raise UnreadableRecordError(f"the column {name} has several values: give a table of one recording")


def _time_column(columns: Sequence[Vector], words: Sequence[str], units: Sequence[str]) -> int | None:
    """Return the column of times or sample numbers: by its name or unit, or the first if it counts evenly upwards."""
    for row, (word, unit) in enumerate(zip(words, units, strict=True)):
        parts = set(word.lower().replace("-", "_").split("_")) | set(word.lower().split())
        is_time = word.lower() in TIME_NAMES or unit.lower() in TIME_UNITS
        if (is_time or parts & {"time", "timestamp", "datetime"}) and word.lower() not in INDEX_NAMES:
            return row
    for row, word in enumerate(words):
        if word.lower() in INDEX_NAMES:
            return row
    if len(columns) > 1 and not words[0] and len(columns[0]) > 2:
        steps = np.diff(columns[0])
        if steps.min() > 0 and steps.max() - steps.min() <= 0.5 * steps.min():
            return 0
    return None


def seconds_per_step(word: str, unit: str) -> float | None:
    """Return how many seconds one unit of a column of times is, None if it does not say."""
    return TIME_UNITS.get(unit.lower(), TIME_UNITS.get(word.lower() if word.lower() != "s" else "s"))


def rate_of(times: Vector, seconds: float | None) -> tuple[float | None, np.ndarray | None]:
    """Return the sampling rate of a column of times, and the place of each row where some rows are missing."""
    steps = np.diff(times)
    if not len(steps) or not np.isfinite(times).all() or steps.min() <= 0:
        raise UnreadableRecordError("the column of times does not rise from row to row")
    step = float(np.median(steps))
    places = np.rint((times - times[0]) / step)
    mean = float(times[-1] - times[0]) / (len(times) - 1)
    is_rounded = steps.max() < 1.9 * mean and np.ptp(steps) <= 2.01 * _grain(times)
    if steps.max() < 1.5 * step or is_rounded:  # no row is missing: the mean step is more exact than a rounded one
        step, places = mean, np.arange(len(times), dtype=float)
    if places[-1] > 4 * len(times) or (np.diff(places) < 1).any() or _uneven(times, places, step):
        raise UnreadableRecordError("the column of times has uneven steps: resample the signals first")
    missing = None if places[-1] == len(times) - 1 else places.astype(np.int64)
    candidates = [seconds] if seconds else [1.0, 1e-3, 1e-6, 1e-9]
    rates = [1 / (step * unit) for unit in candidates]
    fitting = [rate for rate in rates if LOWEST_RATE <= rate <= HIGHEST_RATE]
    if seconds is None and (len(fitting) != 1 or step == 1):  # steps of 1 can be counts as well as ms
        return None, missing
    rate = rates[0] if seconds else fitting[0]
    return (float(round(rate)) if abs(rate - round(rate)) < 2e-4 * rate else rate), missing


def _grain(times: Vector) -> float:
    """Return the power of ten to which times are rounded, 0 for times with more than six decimals."""
    scaled = (times * 10.0**digits for digits in range(7))
    return next((10.0**-k for k, values in enumerate(scaled) if np.abs(values - np.rint(values)).max() < 1e-3), 0.0)


def _uneven(times: Vector, places: np.ndarray, step: float) -> bool:
    """Return True if times stray from an even grid by more than their rounding to a step can explain."""
    return bool(np.abs(times - times[0] - places * step).max() > max(1.01 * step, 1e-6 * abs(float(times[-1]))))


def _place(column: Vector, places: np.ndarray | None) -> Vector:
    """Put the rows of a column where they belong; the places between them are NaN."""
    if places is None:
        return column
    result = np.full(int(places[-1]) + 1, np.nan)
    result[places] = column
    return result
