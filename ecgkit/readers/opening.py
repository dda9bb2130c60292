"""Open one ECG of any format."""

from __future__ import annotations

import re
import stat
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.io import encodable
from ecgkit.readers.archives import unpack_bytes, unpack_zip
from ecgkit.readers.arrays import from_array
from ecgkit.readers.assembly import apply_hints, to_ecg
from ecgkit.readers.base import Hints, Signals
from ecgkit.readers.formats import HEAD, find_format
from ecgkit.readers.wfdb import existing
from ecgkit.signals.ecg import ECG, LEADS, as_numbers

File = str | Path | bytes | Mapping[str, bytes]


def open_ecg(
    file: File,
    *,
    sampling_rate: float | None = None,
    unit: str | None = None,
    leads: Sequence[str] | str | None = None,
    record: str | int | None = None,
    start: float | None = None,
    duration: float | None = None,
) -> ECG:
    """Open one ECG; its format is found by its content.

    Parameters
    ----------
    file : Path, str, bytes or mapping of str to bytes
        A file, its content, or the contents of several files by their names (a WFDB header and its signals). For WFDB
        any file of the record or its name without a suffix. A zip that holds one ECG is unpacked.
    sampling_rate : float, optional
        In Hz, if the file does not say it.
    unit : str, optional
        ``"mV"``, ``"uV"`` or a multiple such as ``"4.88uV"``, if the file does not say it.
    leads : sequence of str, optional
        One name per signal, if the file does not name them; a text with commas serves too.
    record : int or str, optional
        The position from 0, or the identifier, in a file of many records; a text is an identifier where the file has
        identifiers. A number that is the position of one record and the identifier of another is refused.
    start : float, optional
        Seconds from the beginning of the file; 0 by default.
    duration : float, optional
        Seconds that are read; a file of more than an hour needs it.

    Returns
    -------
    ECG
        In mV, 1 s to 1 h long. A lead that the file lacks is NaN, except that III, aVR, aVL and aVF are derived from I
        and II; ``findings`` name these, gaps, and what a reader left out.

    Raises
    ------
    EcgkitError
        If something is missing that the file does not say (the message names the argument), an argument contradicts the
        file, or the file cannot be read, in which case the error is an `UnreadableRecordError`.

    Examples
    --------
    >>> ecg = open_ecg("ecg.csv", sampling_rate=500, unit="mV")  # doctest: +SKIP
    """
    hints = Hints(sampling_rate, unit, leads, record, start, duration, only_leads=True)  # type: ignore[arg-type]
    return _finish(*_read(file, hints), hints)


def open_with_defaults(file: File, said: Mapping[str, Any]) -> ECG:
    """Open one ECG; what is said in keywords of `open_ecg` counts only where the file lacks the fact."""
    try:
        found, label = _read(file, Hints(only_leads=True))
    except EcgkitError:  # an array may need the names of its leads to be read at all
        return open_ecg(file, **said)
    left = {name: said[name] for name in _lacking(found) if name in said}
    return open_ecg(file, **left) if "leads" in left else _finish(found, label, Hints(**left))


def _finish(found: Signals, label: str, hints: Hints) -> ECG:
    """Put the twelve leads of a file together."""
    try:
        return to_ecg(apply_hints(found, hints), hints)
    except EcgkitError as error:
        raise type(error)(f"{label}: {error}") from error


def ecg_from_signal(signal: ArrayLike, *, sampling_rate: float, unit: str = "mV", leads: Sequence[str] = LEADS) -> ECG:
    """Make an ECG of an array, in the way in which files are opened.

    Parameters
    ----------
    signal : array-like of float, shape (leads, samples)
        NaN where there is no value.
    sampling_rate : float
        In Hz.
    unit : str, default "mV"
        ``"mV"``, ``"uV"`` or a multiple such as ``"4.88uV"``.
    leads : sequence of str, default `ecgkit.LEADS`
        One name per row.

    Returns
    -------
    ECG
        See `open_ecg`.

    Raises
    ------
    EcgkitError
        If the array does not fit the names, or is not an ECG for `open_ecg`.
    """
    hints = Hints(sampling_rate, unit, tuple(leads))
    return to_ecg(apply_hints(from_array(as_numbers(signal), hints), hints), hints)


def read_signals(
    file: File,
    *,
    sampling_rate: float | None = None,
    unit: str | None = None,
    leads: Sequence[str] | str | None = None,
    record: str | int | None = None,
) -> Signals:
    """Read all signals of a file, whatever they are called and however long they are.

    Parameters
    ----------
    file, sampling_rate, unit, leads, record
        See `open_ecg`.

    Returns
    -------
    Signals
        Voltages in mV; nothing is derived and nothing asked for: what is unknown is None or empty.

    Raises
    ------
    EcgkitError
        See `open_ecg`.
    """
    hints = Hints(sampling_rate, unit, leads, record)  # type: ignore[arg-type]
    found, label = _read(file, hints)
    try:
        return apply_hints(found, hints)
    except EcgkitError as error:
        raise EcgkitError(f"{label}: {error}") from error


def missing_arguments(file: File, *, record: str | int | None = None) -> tuple[str, ...]:
    """Return the arguments that `open_ecg` needs because the file does not say them.

    Parameters
    ----------
    file, record
        See `open_ecg`.

    Returns
    -------
    tuple of str
        Of ``"leads"``, ``"unit"`` and ``"sampling_rate"``; empty for a file that cannot be read.
    """
    try:
        return _lacking(read_signals(file, record=record))
    except EcgkitError:
        return ()


def _lacking(found: Signals) -> tuple[str, ...]:
    """Return the arguments for what signals do not say."""
    rows = [row for row, name in enumerate(found.names) if name in LEADS]
    chosen = found.select(rows or range(len(found.signals)))
    missing = {
        "leads": not rows and not any(found.names),
        "unit": "" in chosen.units,
        "sampling_rate": None in chosen.sampling_rates,
    }
    return tuple(name for name, is_missing in missing.items() if is_missing)


def _read(file: File, hints: Hints) -> tuple[Signals, str]:
    """Return the signals of a file, and its name for messages."""
    if isinstance(file, (str, Path)):
        path = _regular_file(Path(file))
        return _read_path(path, hints), path.name
    if not isinstance(file, (bytes, Mapping)):
        raise EcgkitError(f"the file is a {type(file).__name__}: give a path, bytes, or {{name: bytes}}")
    with tempfile.TemporaryDirectory(prefix="ecgkit-") as folder:
        path = unpack_bytes({"ecg": file} if isinstance(file, bytes) else file, Path(folder))
        found = _read_path(path, hints)
    is_named = not isinstance(file, bytes)
    return replace(found, record_id=found.record_id if is_named else ""), path.name if is_named else "the ECG"


def _read_path(path: Path, hints: Hints) -> Signals:
    """Read one file; a zip is unpacked into a folder that is removed afterwards."""
    label = path.name
    try:
        # Libraries warn of what they leave out; what matters is in the findings.
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore")
            if _is_plain_zip(path):
                path = unpack_zip(path, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ecgkit-"))))
            found = find_format(path)
            if hints.record is not None and not found.has_records:
                raise EcgkitError(f"record is {hints.record!r} and a file of {found.name} has one: leave it out")
            signals = found.read(path, hints)
    except EcgkitError as error:
        raise type(error)(_prefixed(label, error)) from error
    except MemoryError as error:
        raise UnreadableRecordError(f"{label} needs more memory than there is") from error
    except Exception as error:  # a library raises what it happens to meet in a damaged file
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise UnreadableRecordError(f"{label} is damaged: {reason}") from error
    metadata = {"format": found.name} | dict(signals.metadata)
    return replace(signals, record_id=encodable(signals.record_id or path.stem), metadata=metadata)


def _prefixed(label: str, error: Exception) -> str:
    """Put the name of the file before a message that does not name it, and take temporary folders out."""
    message = re.sub(r"\S*/ecgkit-[^/\s]+/", "", str(error))
    return message if label in message else f"{label}: {message}"


def _regular_file(path: Path) -> Path:
    """Return a path to a file; ``NAME`` stands for ``NAME.hea`` if there is no file of that name."""
    try:
        if not path.exists():
            header = Path(existing(str(path.with_name(f"{path.name}.hea"))))
            path = header if header.is_file() else path
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableRecordError(f"{path}: {reason}; check the path") from error
    if stat.S_ISDIR(mode):
        raise UnreadableRecordError(f"{path} is a folder: give the files in it")
    if not stat.S_ISREG(mode):
        raise UnreadableRecordError(f"{path} is not a regular file")
    return path


def _is_plain_zip(path: Path) -> bool:
    """Return True for a zip that is not NumPy's."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return head.startswith((b"PK\3\4", b"PK\5\6")) and b".npy" not in head[:200]
