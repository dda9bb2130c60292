"""Predictions for files: read, measured and predicted one after the other, a bad file being a row with its error."""

from __future__ import annotations

import glob
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.inference.batches import Skip
from ecgkit.inference.predictor import EnsemblePredictor, Predictor, QuantityPredictor
from ecgkit.readers import open_ecg
from ecgkit.readers.opening import File
from ecgkit.signals.ecg import ECG
from ecgkit.signals.findings import check_quality, refuse
from ecgkit.signals.measurements import GLOBAL_MEASUREMENTS, measure_ecg

AT_ONCE = 64
"""Files that are read before the network sees them."""

SUFFIXES = frozenset(
    (
        ".hea",
        ".dcm",
        ".xml",
        ".scp",
        ".ecg",
        ".edf",
        ".bdf",
        ".csv",
        ".tsv",
        ".npy",
        ".npz",
        ".h5",
        ".hdf5",
        ".parquet",
        ".json",
        ".mwf",
        ".zip",
    )
)
"""The suffixes of the files that are taken from a folder; a file that is named is read whatever its suffix is."""


def find_ecg_files(names: Sequence[str | Path]) -> list[Path]:
    """List the ECG files that files, folders and patterns stand for.

    Parameters
    ----------
    names : sequence of str or Path
        Files; folders, in which files that are not hidden are looked for by their suffixes, at every depth; patterns
        such as ``*.xml``.

    Returns
    -------
    list of Path
        Each file once, in the order of the names, those of a folder sorted. A WFDB record is its header.

    Raises
    ------
    EcgkitError
        If a folder or a pattern has no such file.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if _is_ecg_file(file.relative_to(path)) and file.is_file())
            if not inside:
                raise EcgkitError(f"no ECG file in {path}: files need one of the suffixes {' '.join(sorted(SUFFIXES))}")
        elif glob.has_magic(str(name)) and not path.exists():
            anchor = Path(path.anchor)  # "." of a relative pattern
            inside = sorted(file for file in anchor.glob(str(path.relative_to(path.anchor))) if file.is_file())
            if not inside:
                raise EcgkitError(f"no file matches {name}: check the pattern")
        else:
            inside = [path]
        found |= dict.fromkeys(inside)
    return list(found)


def _is_ecg_file(path: Path) -> bool:
    """Return True for a suffix of an ECG file, but for copies in hidden folders, such as those of JupyterLab."""
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def predict_files(
    files: Sequence[tuple[str, File]],
    predictor: Predictor,
    *,
    hints: Mapping[str, Any] | None = None,
    age: float | None = None,
    sex: str | None = None,
    measurements: bool = True,
    anyway: bool = False,
    allow_missing_leads: bool = False,
    done: Collection[str] = (),
    executor: Executor | None = None,
) -> Iterator[dict[str, Any]]:
    """Predict files, a few at a time.

    Parameters
    ----------
    files : sequence of (name, file)
        The name of each row, and what `ecgkit.open_ecg` opens.
    predictor : Predictor
        As from `ecgkit.load_model`.
    hints : mapping, optional
        Keywords of `ecgkit.open_ecg`, for what the files do not say.
    age, sex : optional
        Of the patients whose file does not say it.
    measurements : bool, default True
        Measure each ECG, see `ecgkit.signals.measurements`.
    anyway : bool, default False
        Predict what the checks refuse.
    allow_missing_leads : bool, default False
        Predict ECGs that lack leads, which are zero then.
    done : collection of str, optional
        Names of files that are left out. The others are predicted together with the same files as without it, so that
        they get the same probabilities to the last bit.
    executor : Executor, optional
        Reads and measures the files; by default this process does.

    Yields
    ------
    dict
        ``record``; for each class ``probability_CLASS`` (calibrated) and ``decision_CLASS``, of an ensemble also
        ``lowest_CLASS`` and ``highest_CLASS`` among its members, of a model for a quantity only ``predicted_NAME``;
        ``findings`` of the reader and of `ecgkit.signals.findings.check_quality`, a list of texts; the measurements;
        and ``error``, empty or why there is no prediction. What is not known is None.
    """
    skip = Skip(anyway=anyway, allow_missing_leads=allow_missing_leads)
    read = partial(_read, hints=dict(hints or {}), age=age, sex=sex, measurements=measurements, anyway=anyway)
    for first in range(0, len(files), AT_ONCE):
        some = files[first : first + AT_ONCE]
        if all(name in done for name, _ in some):
            continue
        results = list((executor.map if executor else map)(read, [file for _, file in some]))
        answers = iter(_predict(predictor, [ecg for ecg, _, _, error in results if ecg and not error], skip))
        for (name, _), (_, findings, measured, refused) in zip(some, results, strict=True):
            columns, error = (_unknown(predictor), refused) if refused else next(answers)
            if name not in done:
                yield {"record": name, **columns, "findings": findings, **measured, "error": error}


def _read(
    file: File, *, hints: dict[str, Any], age: float | None, sex: str | None, measurements: bool, anyway: bool
) -> tuple[ECG | None, list[str], dict[str, float | None], str]:
    """Open, check and measure one file: the ECG, its findings, its measurements, and why it is not predicted."""
    unmeasured = dict.fromkeys(GLOBAL_MEASUREMENTS) if measurements else {}
    try:
        ecg = open_ecg(file, **hints)
        ecg = replace(ecg, age=age if ecg.age is None else ecg.age, sex=sex if ecg.sex is None else ecg.sex)
    except EcgkitError as error:
        return None, [], unmeasured, str(error)
    found = check_quality(ecg)
    findings = [*ecg.findings, *(finding.text for finding in found)]
    measured = measure_ecg(ecg) if measurements else {}
    known = {name: measured[name] if math.isfinite(measured[name]) else None for name in unmeasured}
    try:
        if not anyway:
            refuse(ecg, found)
    except EcgkitError as error:
        return ecg, findings, known, str(error)
    return ecg, findings, known, ""


def _predict(predictor: Predictor, ecgs: Sequence[ECG], skip: Skip) -> list[tuple[dict[str, Any], str]]:
    """Return the columns and the error of each ECG; if one of them is refused, each half is predicted by itself."""
    if not ecgs:
        return []
    try:
        return [(columns, "") for columns in _columns(predictor, ecgs, skip)]
    except EcgkitError as error:
        if len(ecgs) == 1:
            return [(_unknown(predictor), str(error))]
    middle = len(ecgs) // 2
    return [answer for half in (ecgs[:middle], ecgs[middle:]) for answer in _predict(predictor, half, skip)]


def _columns(predictor: Predictor, ecgs: Sequence[ECG], skip: Skip) -> list[dict[str, Any]]:
    """Return what the model says of each ECG, by the names of the columns."""
    if isinstance(predictor, QuantityPredictor):
        return [{f"predicted_{predictor.classes[0]}": value} for value in predictor.predict(ecgs, **skip).tolist()]
    if isinstance(predictor, EnsemblePredictor):
        probability, lowest, highest = predictor.predict_range(ecgs, **skip)
    else:
        probability = lowest = highest = predictor.predict_proba(ecgs, **skip)
    decided = probability >= predictor.thresholds
    kinds = _kinds(predictor)
    rows = zip(*(_plain(values) for values in (probability, decided, lowest, highest)), strict=True)
    return [
        {
            f"{kind}_{name}": value
            for name, *values in zip(predictor.classes, *row, strict=True)
            for kind, value in zip(kinds, values, strict=False)
        }
        for row in rows
    ]


def _plain(values: NDArray[Any]) -> list[list[Any]]:
    """Return rows of Python values; a float32 as the shortest number that it is the nearest to."""
    if values.dtype == bool:
        return values.tolist()
    return [[float(str(value)) for value in row] for row in values]


def _kinds(predictor: Predictor) -> tuple[str, ...]:
    """Return what there is for each class."""
    return ("probability", "decision", *(("lowest", "highest") if isinstance(predictor, EnsemblePredictor) else ()))


def _unknown(predictor: Predictor) -> dict[str, Any]:
    """Return the columns of a file that cannot be predicted."""
    if isinstance(predictor, QuantityPredictor):
        return {f"predicted_{predictor.classes[0]}": None}
    return {f"{kind}_{name}": None for name in predictor.classes for kind in _kinds(predictor)}
