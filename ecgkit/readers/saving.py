"""Write an ECG as a file that other programs read."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ecgkit.errors import EcgkitError, require
from ecgkit.io import disk_errors, write_atomically
from ecgkit.signals.ecg import ECG, LEADS

STEPS_PER_MILLIVOLT = 1000
"""WFDB and EDF store 16-bit steps: of 1 uV here, as PTB-XL has them."""


def save_ecg(ecg: ECG, path: Path | str) -> Path:
    """Write an ECG; the suffix of the path says the format.

    Parameters
    ----------
    ecg : ECG
        What to write. Leads without a value are left out of WFDB, CSV and EDF.
    path : Path or str
        ``.hea`` for WFDB (its signals come next to it as ``.dat``), ``.csv``, ``.npz`` or ``.edf``. An existing file is
        replaced.

    Returns
    -------
    Path
        The file. `open_ecg` reads the same ECG from it, with age and sex (EDF: sex only): in float32 from NPZ and CSV,
        rounded to whole uV from WFDB and EDF.

    Raises
    ------
    EcgkitError
        If the suffix is another, the file cannot be written, or the format cannot hold the values: EDF has no mark
        for gaps, and its data records hold a whole number of samples; 16-bit steps of 1 uV end at 32.767 mV.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise EcgkitError(f"{path.name} has the suffix {path.suffix!r}: choose one of {', '.join(WRITERS)}")
    with disk_errors(path.parent, "choose another folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return WRITERS[path.suffix](ecg, path)


def _present(ecg: ECG) -> list[int]:
    """Return the rows of the leads that have values."""
    return [row for row, name in enumerate(LEADS) if name not in ecg.missing_leads]


def _check_range(ecg: ECG, path: Path) -> None:
    """Check that whole uV fit into 16 bits."""
    largest = float(np.nanmax(np.abs(ecg.signal)))
    if largest * STEPS_PER_MILLIVOLT > np.iinfo(np.int16).max:
        raise EcgkitError(f"{path.name}: {largest:.4g} mV is more than 16 bits of 1 uV hold: write .csv or .npz")


def _save_wfdb(ecg: ECG, path: Path) -> Path:
    """Write a header and signals of format 16, in which -32768 marks a sample without a value."""
    name = path.stem
    if not name.replace("_", "").replace("-", "").isascii() or not name.replace("_", "").replace("-", "").isalnum():
        raise EcgkitError(f"{name!r} is not a name of a WFDB record: use letters, digits, - and _")
    _check_range(ecg, path)
    comments = [f"Age: {ecg.age:g}"] if ecg.age is not None else []
    comments += [f"Sex: {ecg.sex.capitalize()}"] if ecg.sex else []
    rows = _present(ecg)
    steps = np.rint(ecg.signal[rows].astype(np.float64) * STEPS_PER_MILLIVOLT)
    stored = np.where(np.isnan(steps), -32768, steps).astype("<i2")
    lines = [f"{name} {len(rows)} {ecg.sampling_rate:.10g} {ecg.n_samples}"]
    for row, values in zip(rows, stored, strict=True):
        total = int(values.astype(np.int64).sum()) % 65536
        gain = f"{STEPS_PER_MILLIVOLT}.0(0)/mV"
        lines.append(f"{name}.dat 16 {gain} 16 0 {values[0]} {total} 0 {LEADS[row]}")
    write_atomically(path.with_suffix(".dat"), stored.T.tobytes())
    return write_atomically(path, ("\n".join([*lines, *(f"#{line}" for line in comments)]) + "\n").encode())


def _save_csv(ecg: ECG, path: Path) -> Path:
    """Write a column of times in s and one per lead in mV; what is known of the patient stands in lines with #."""
    rows = _present(ecg)
    facts = {"sampling_rate": f"{ecg.sampling_rate:.10g} Hz", "age": ecg.age, "sex": ecg.sex}
    text = io.StringIO()
    text.writelines(f"# {key}: {value}\n" for key, value in facts.items() if value is not None)
    text.write(",".join(["time (s)", *(f"{LEADS[row]} (mV)" for row in rows)]) + "\n")
    times = np.arange(ecg.n_samples) / ecg.sampling_rate
    for time, values in zip(times.tolist(), ecg.signal[rows].T, strict=True):
        numbers = ("" if np.isnan(value) else np.format_float_positional(value, unique=True) for value in values)
        text.write(f"{time:.6f},{','.join(numbers)}\n")
    return write_atomically(path, text.getvalue().encode())


def _save_npz(ecg: ECG, path: Path) -> Path:
    """Write ``signal`` (12, samples), ``sampling_rate``, ``leads``, ``unit``, ``age`` and ``sex``, without pickles."""
    data = io.BytesIO()
    arrays: dict[str, Any] = {"signal": ecg.signal, "sampling_rate": ecg.sampling_rate, "leads": LEADS, "unit": "mV"}
    arrays |= {name: value for name, value in (("age", ecg.age), ("sex", ecg.sex)) if value is not None}
    np.savez_compressed(data, **arrays)
    return write_atomically(path, data.getvalue())


def _save_edf(ecg: ECG, path: Path) -> Path:
    """Write signals of 16 bits with edfio."""
    edfio = require("edfio", "formats")
    _check_range(ecg, path)
    rows = _present(ecg)
    if np.isnan(ecg.signal[rows]).any():
        raise EcgkitError(f"{path.name}: the ECG has gaps, which EDF cannot hold: write .hea, .csv or .npz")
    span = (-32768 / STEPS_PER_MILLIVOLT, 32767 / STEPS_PER_MILLIVOLT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signals = [
                edfio.EdfSignal(
                    np.rint(ecg.signal[row].astype(np.float64) * STEPS_PER_MILLIVOLT) / STEPS_PER_MILLIVOLT,
                    ecg.sampling_rate,
                    label=f"ECG {LEADS[row]}",
                    physical_dimension="mV",
                    physical_range=span,
                    digital_range=(-32768, 32767),
                )
                for row in rows
            ]
            patient = edfio.Patient(sex={"male": "M", "female": "F"}.get(ecg.sex or "", "X"))
            length = None if ecg.duration == int(ecg.duration) else ecg.duration
            data = edfio.Edf(signals, patient=patient, data_record_duration=length).to_bytes()
    except ValueError as error:
        raise EcgkitError(f"{path.name}: EDF cannot hold this ECG ({' '.join(str(error).split())[:120]})") from error
    return write_atomically(path, data)


WRITERS: dict[str, Callable[[ECG, Path], Path]] = {
    ".hea": _save_wfdb,
    ".csv": _save_csv,
    ".npz": _save_npz,
    ".edf": _save_edf,
}
"""The writer of each suffix."""
