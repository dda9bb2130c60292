"""Tables with one column per signal: which of them is the time, and what it says of the sampling rate."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.readers.base import TIME_UNITS, Hints, Signals, Vector, split_name, standard_name
from ecgkit.signals.ecg import HIGHEST_RATE, LEADS, LOWEST_RATE

TIME_NAMES = {
    "time", "t", "timestamp", "seconds", "second", "sec", "s", "ms", "zeit", "uhrzeit", "tiempo", "tempo", "temps",
    "date", "datum", "fecha",
}  # fmt: skip
INDEX_NAMES = {
    "index", "sample", "samples", "sample_number", "n", "nr", "no", "#", "idx", "frame", "row", "unnamed: 0"
}  # fmt: skip
"""The names of columns that hold the time or a count."""

_WHOSE = (
    "id|pid|mrn|uid|patient|person|subject|participant|record(?:ing)?|study|exam|case|file|filename|encounter|hadm|stay"
)
_RECORD_NAME = re.compile(rf"(?:ecg|{_WHOSE})(?:[\W_]*(?:{_WHOSE}|name|no|nr|num|number))+|{_WHOSE}", re.IGNORECASE)
_EVENT_NAME = re.compile(
    r"beat|peak|mark|event|flag|off(?![a-z])|qualit|sqi|trig|pac(?:e|ing)|annot|note|comment|art[ei]fact|nois|status|stim"
    r"|button|valid|qrs|heart|puls|bpm|resp|spo2|temp|batt|press|imped|^(?:hr|bp|rr)(?![a-z])",
    re.IGNORECASE,
)
FEWEST_ROWS = int(LOWEST_RATE)
"""The samples of the shortest recording: one second at the lowest rate."""


def from_columns(
    columns: Sequence[Vector],
    names: Sequence[str],
    *,
    units: Sequence[str] | None = None,
    rate: float | None = None,
    hints: Hints | None = None,
) -> Signals:
    """Make signals of the columns of a table.

    Parameters
    ----------
    columns : sequence of ndarray, each of shape (samples,)
        The values; a column of times or of sample numbers is used for the rate and the missing rows, and left out.
    names : sequence of str
        One per column, possibly with a unit (``"I (mV)"``); ``""`` for a column without.
    units : sequence of str, optional
        One per column, where they stand apart from the names.
    rate : float, optional
        In Hz, where the table says it.
    hints : Hints, optional
        What the caller says; see `one_rate`.

    Raises
    ------
    UnreadableRecordError
        If the times do not rise evenly, or a column says that there are several recordings.
    """
    hints = hints or Hints()
    split = [split_name(name) if standard_name(name) not in LEADS else (name, "") for name in names]
    words = [name for name, _ in split]
    found = [unit or given for (_, unit), given in zip(split, units or [""] * len(split), strict=True)]
    times = [row for row, (word, unit) in enumerate(zip(words, found, strict=True)) if _is_time(word, unit)]
    counts = [row for row in range(len(columns)) if row not in times and _counts_rows(row, words, columns)]
    columns = [_unwrapped(column) if row in counts else column for row, column in enumerate(columns)]
    labels = [word or str(row + 1) for row, word in enumerate(words)]
    for row in counts:
        _rising_steps(columns[row], labels[row])
    clocks = [*times, *counts]
    others = [row for row, word in enumerate(words) if row not in clocks and standard_name(word) not in LEADS]
    others = others if any(words) else []
    for row in others:
        check_one_record(labels[row], columns[row], unit=found[row])
    kept, values = list(range(len(columns))), list(columns)
    if clocks:
        clock = clocks[0]
        kept.remove(clock)
        measured, places = _rate_and_places(columns[clock], words[clock], found[clock], rate, is_count=clock in counts)
        rate = one_rate(rate, measured, hints.sampling_rate)
        values = [_place(column, places) for column in columns]
    return Signals(
        tuple(values[row] for row in kept),
        tuple(standard_name(words[row]) for row in kept),
        tuple(found[row] for row in kept),
        (rate,) * len(kept),
        findings=_left_out([labels[row] for row in others], words, hints),
    ).in_millivolts()


def _left_out(others: Sequence[str], words: Sequence[str], hints: Hints) -> tuple[str, ...]:
    """Return the finding on columns that are no leads, where the caller wants these and does not choose them."""
    has_leads = any(standard_name(word) in LEADS for word in words)
    if not others or not has_leads or not hints.only_leads or hints.leads is not None:
        return ()
    return (f"left out, none of the twelve leads: {', '.join(others)[:200]}",)


def check_one_record(name: str, column: Vector, *, unit: str = "") -> None:
    """Refuse a column of numbers, or of texts as objects, that tells several recordings apart.

    A column such as ``patient_id`` may not change, unless its numbers count the rows. Of other columns those do whose
    whole numbers or texts stay the same for a second or longer and do not return, as those of events and flags do.
    """
    values = column if column.dtype == object else column[np.isfinite(column)]
    starts = np.flatnonzero(values[1:] != values[:-1]) + 1
    if not len(starts):
        return
    if _RECORD_NAME.fullmatch(name[:80]):
        if values.dtype == object or len(starts) < len(values) - 1:
            raise UnreadableRecordError(f"the column {name} has several values: give a table of one recording")
        return
    runs = values[np.r_[0, starts]]
    are_long = np.diff(np.r_[0, starts, len(values)]).min() >= FEWEST_ROWS
    if unit or _EVENT_NAME.search(name) or not are_long or len(set(runs.tolist())) < len(runs):
        return
    if runs.dtype == object or (runs == np.rint(runs)).all():
        raise UnreadableRecordError(
            f"the column {name} has several values, as that of several recordings: give a table of one recording, or "
            "leave the column out"
        )


def one_rate(said: float | None, measured: float | None, hint: float | None) -> float | None:
    """Return the sampling rate of a table that says it, or of its times; where they differ, that of the caller's hint.

    Raises
    ------
    EcgkitError
        If they differ by more than 1 % and there is no hint.
    """
    if said is None or measured is None:
        return measured if said is None else said
    if abs(said - measured) <= 0.01 * said:
        return said
    if hint is None:
        raise EcgkitError(
            f"the header says {said:g} Hz and the times or sample numbers {measured:g} Hz: give sampling_rate=, in Hz"
        )
    return min(said, measured, key=lambda rate: abs(rate - hint))


def _is_time(word: str, unit: str) -> bool:
    """Return True for the name or the unit of a column of times."""
    parts = set(word.lower().replace("-", "_").split("_")) | set(word.lower().split())
    is_time = word.lower() in TIME_NAMES or unit.lower() in TIME_UNITS or parts & {"time", "timestamp", "datetime"}
    return bool(is_time) and word.lower() not in INDEX_NAMES


def _counts_rows(row: int, words: Sequence[str], columns: Sequence[Vector]) -> bool:
    """Return True for a column of sample numbers by its name, or if most of its steps are one, also after a restart."""
    column, word = columns[row], words[row]
    if len(column) < 3 or standard_name(word) in LEADS or not np.isfinite(column).any():
        return False
    if word.lower() in INDEX_NAMES:
        return bool(np.nanmin(column) < np.nanmax(column))
    steps = np.diff(column)
    step = np.median(steps)
    if not step > 0 or (not any(words) and (row or len(columns) == 1)):
        return False
    if not word:  # the index of a program: numbers or times
        return bool(np.mean(np.abs(steps - step) <= 0.5 * step) > 0.5)
    has_few_restarts = FEWEST_ROWS * np.sum(steps < 0) <= len(column)
    return bool(has_few_restarts and np.mean(steps == step) > 0.5 and (column == np.rint(column)).all())


def _unwrapped(counts: Vector) -> Vector:
    """Return sample numbers, of which those of one byte start again after 255, without the restarts."""
    return np.unwrap(counts, period=256) if counts.min() == 0 and counts.max() == 255 else counts


def _rate_and_places(
    column: Vector, word: str, unit: str, rate: float | None, *, is_count: bool
) -> tuple[float | None, np.ndarray | None]:
    """Return what a column of times or sample numbers says of the rate, and the place of each row, as `rate_of`."""
    if not is_count or not word:
        return rate_of(column, seconds_per_step(word, unit), is_count=is_count)
    step, places = _grid(column, is_count=True)
    # Numbers that rise by 5 may be those of a signal of which only each fifth sample is there.
    return rate / step if rate and word.lower() in INDEX_NAMES else None, places


def seconds_per_step(word: str, unit: str) -> float | None:
    """Return how many seconds one unit of a column of times is, None if it does not say."""
    return TIME_UNITS.get(unit.lower(), TIME_UNITS.get(word.lower() if word.lower() != "s" else "s"))


def rate_of(times: Vector, seconds: float | None, *, is_count: bool = False) -> tuple[float | None, np.ndarray | None]:
    """Return the sampling rate of a column of times, and the place of each row where some rows are missing."""
    step, missing = _grid(times, is_count=is_count)
    candidates = [seconds] if seconds else [1.0, 1e-3, 1e-6, 1e-9]
    rates = [1 / (step * unit) for unit in candidates]
    fitting = [rate for rate in rates if LOWEST_RATE <= rate <= HIGHEST_RATE]
    if seconds is None and (len(fitting) != 1 or step == 1):  # steps of 1 can be counts as well as ms
        return None, missing
    rate = rates[0] if seconds else fitting[0]
    return (float(round(rate)) if abs(rate - round(rate)) < 2e-4 * rate else rate), missing


def _rising_steps(column: Vector, name: str) -> Vector:
    """Return the differences of a column that has to rise from row to row."""
    steps = np.diff(column)
    if not len(steps) or not np.isfinite(column).all() or steps.min() <= 0:
        raise UnreadableRecordError(f"the column {name} does not rise from row to row: give a table of one recording")
    return steps


def _grid(times: Vector, *, is_count: bool) -> tuple[float, np.ndarray | None]:
    """Return the step of times or sample numbers, and the place of each row where some rows are missing."""
    steps = _rising_steps(times, "of times")
    step = float(np.median(steps))
    places = np.rint((times - times[0]) / step)
    mean = float(times[-1] - times[0]) / (len(times) - 1)
    is_exact = is_count and step == round(step)
    is_rounded = not is_exact and steps.max() < 1.9 * mean and np.ptp(steps) <= 2.01 * _grain(times)
    if steps.max() < 1.5 * step or is_rounded:  # no row is missing: the mean step is more exact than a rounded one
        step, places = mean, np.arange(len(times), dtype=float)
    if places[-1] > 4 * len(times) or (np.diff(places) < 1).any() or _uneven(times, places, step):
        raise UnreadableRecordError("the times or sample numbers have uneven steps: resample the signals first")
    return step, None if places[-1] == len(times) - 1 else places.astype(np.int64)


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
