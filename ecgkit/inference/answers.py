"""One ECG in, one answer out: what the checks found, the measurements, and what the model says."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.inference import DEFAULT_MODEL
from ecgkit.inference.batches import Skip
from ecgkit.inference.loading import load_model
from ecgkit.inference.missing_leads import missing_leads_finding
from ecgkit.inference.predictor import EnsemblePredictor, Outcome, Predictor, QuantityPredictor
from ecgkit.io import csv_cell, encodable
from ecgkit.readers import open_ecg
from ecgkit.readers.opening import File
from ecgkit.signals.ecg import ECG
from ecgkit.signals.findings import Finding, check_many, refuse
from ecgkit.signals.measurements import GLOBAL_MEASUREMENTS, measure_ecg
from ecgkit.signals.rhythm import r_peaks_of_many

AT_ONCE = 64
"""Files that are read before the network sees them."""

TOGETHER = 16
"""Files of these that are read and checked together."""

WINDOW = 10.0
"""Seconds of the windows whose probabilities show the course of a recording of at least two of them."""

HINTS = ("sampling_rate", "unit", "leads", "record", "start", "duration")


class Options(TypedDict, total=False):
    """What may be said of ECGs and of their answers; all of it may be left out.

    Attributes
    ----------
    sampling_rate, unit, leads, record, start, duration
        What a file does not say, and the part that is read; see `ecgkit.open_ecg`.
    age : float or None
        In years, of a patient whose file does not say it.
    sex : {"male", "female"} or None
        As ``age``.
    anyway : bool
        Predict what the checks refuse. By default it is refused.
    allow_missing_leads : bool
        Predict an ECG that lacks leads, which are zero then. By default it is refused.
    measurements : bool
        Measure the ECG; True by default.
    windows : bool
        Predict each 10 s of a recording of 20 s or more, too; True by default.
    """

    sampling_rate: float | None
    unit: str | None
    leads: Sequence[str] | str | None
    record: str | int | None
    start: float | None
    duration: float | None
    age: float | None
    sex: str | None
    anyway: bool
    allow_missing_leads: bool
    measurements: bool
    windows: bool


@dataclass(frozen=True, eq=False)
class Windows:
    """The course of a long recording.

    Attributes
    ----------
    starts : tuple of float
        Seconds after the start of the recording. A window in which a lead has no value is left out.
    probabilities : ndarray of float32, shape (windows, classes)
        Calibrated.
    """

    starts: tuple[float, ...]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about one ECG.

    Attributes
    ----------
    probabilities : ndarray of float32, shape (classes,)
        Calibrated.
    decisions : ndarray of bool, shape (classes,)
        Whether a probability reaches the threshold of its class.
    lowest, highest : ndarray of float32, shape (classes,), or None
        Of an ensemble, the extremes among its members.
    windows : Windows or None
        Of a recording of 20 s or more.
    quantity : float or None
        Of a model for a quantity, such as age, its value, and nothing else: the arrays are empty.
    """

    probabilities: NDArray[np.float32]
    decisions: NDArray[np.bool_]
    lowest: NDArray[np.float32] | None = None
    highest: NDArray[np.float32] | None = None
    windows: Windows | None = None
    quantity: float | None = None


class Examined(NamedTuple):
    """What is known of an ECG before a model sees it."""

    ecg: ECG | None
    peaks: NDArray[np.int64]
    findings: tuple[Finding, ...]
    measurements: Mapping[str, float]
    refusal: str | None


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to one ECG.

    Attributes
    ----------
    record : str
        Its name.
    predictor : Predictor
        The model, with ``name``, ``backend``, ``classes`` and ``thresholds``.
    ecg : ECG or None
        The recording; None if it cannot be opened.
    peaks : ndarray of int64
        Its R peaks in samples.
    findings : tuple of Finding
        Notes of the reader, then what the checks found, then what the model has to say about its input.
    measurements : mapping of str to float
        As from `ecgkit.signals.measurements.measure_ecg`; NaN where it cannot be measured. Empty if they were not
        asked for.
    refusal : str or None
        Why there is no prediction.
    prediction : Prediction or None
        None if the ECG is refused.
    """

    record: str
    predictor: Predictor
    ecg: ECG | None
    peaks: NDArray[np.int64]
    findings: tuple[Finding, ...]
    measurements: Mapping[str, float]
    refusal: str | None
    prediction: Prediction | None

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each class."""
        return dict(zip(self.predictor.classes, _plain(self.predictor.thresholds), strict=True))

    @property
    def probabilities(self) -> dict[str, float]:
        """The calibrated probability of each class; empty if the ECG is refused."""
        if self.prediction is None or self.quantity_name:
            return {}
        return dict(zip(self.predictor.classes, _plain(self.prediction.probabilities), strict=True))

    @property
    def quantity_name(self) -> str:
        """Of a model for a quantity its name, such as ``"age"``; otherwise empty."""
        return self.predictor.classes[0] if isinstance(self.predictor, QuantityPredictor) else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON data, the form of ``ecgkit predict --format json`` and of the service.

        Returns
        -------
        dict
            ``model``, ``backend``, ``record``; ``sampling_rate`` in Hz, ``seconds``, ``age``, ``sex`` and
            ``missing_leads`` of the ECG; ``classes``, a list of ``name``, ``probability``, ``threshold``, ``decision``
            and, of an ensemble, ``lowest`` and ``highest``; ``windows``, None or ``starts`` and ``probabilities``, one
            row per window; ``findings``, a list of ``name``, ``level``, ``text``, ``leads`` and ``evidence``;
            ``measurements`` in the units of `ecgkit.signals.measurements.measurement_columns`; and ``error``, empty or
            why there is no prediction. A model for a quantity has ``quantity`` with ``name`` and ``value`` in place of
            classes and windows. What is not known is None.
        """
        ecg, windows = self.ecg, self.prediction.windows if self.prediction else None
        course = windows and {"starts": list(windows.starts), "probabilities": _plain(windows.probabilities)}
        value = self.prediction.quantity if self.prediction else None
        said = {"classes": self._classes(), "windows": course}
        return {
            "model": self.predictor.name,
            "backend": self.predictor.backend,
            "record": self.record,
            "sampling_rate": ecg.sampling_rate if ecg else None,
            "seconds": ecg.duration if ecg else None,
            "age": ecg.age if ecg else None,
            "sex": ecg.sex if ecg else None,
            "missing_leads": list(ecg.missing_leads) if ecg else [],
            **({"quantity": {"name": self.quantity_name, "value": value}} if self.quantity_name else said),
            "findings": [_finding_data(finding) for finding in self.findings],
            "measurements": self._measured(),
            "error": self.refusal or "",
        }

    def to_row(self) -> dict[str, Any]:
        """Return the answer as a row of a table.

        Returns
        -------
        dict
            ``model``, ``backend``, ``record``; for each class ``probability_CLASS`` (calibrated) and
            ``decision_CLASS``, of an ensemble also ``lowest_CLASS`` and ``highest_CLASS`` among its members, of a model
            for a quantity only ``predicted_NAME``; ``findings``, a list of texts; the measurements; and ``error``,
            empty or why there is no prediction. What is not known is None.
        """
        if self.quantity_name:
            said = {f"predicted_{self.quantity_name}": self.prediction.quantity if self.prediction else None}
        else:
            said = {
                f"{kind}_{entry['name']}": value
                for entry in self._classes()
                for kind, value in entry.items()
                if kind not in ("name", "threshold")
            }
        return {
            "model": self.predictor.name,
            "backend": self.predictor.backend,
            "record": self.record,
            **said,
            "findings": [finding.text for finding in self.findings],
            **self._measured(),
            "error": self.refusal or "",
        }

    def _classes(self) -> list[dict[str, Any]]:
        """Return what there is for each class."""
        nothing = [None] * len(self.predictor.classes)
        known = self.prediction
        columns = {
            "name": self.predictor.classes,
            "probability": _plain(known.probabilities) if known else nothing,
            "threshold": _plain(self.predictor.thresholds),
            "decision": known.decisions.tolist() if known else nothing,
        }
        if isinstance(self.predictor, EnsemblePredictor):
            for kind in ("lowest", "highest"):
                columns[kind] = _plain(getattr(known, kind)) if known else nothing
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _measured(self) -> dict[str, float | None]:
        """Return the measurements of the whole ECG, None where one cannot be made."""
        names = GLOBAL_MEASUREMENTS if self.measurements else ()
        return {name: _known(self.measurements[name]) for name in names}


def answer_ecg(
    source: File | ECG, model: str | int | Path | Predictor = DEFAULT_MODEL, **options: Unpack[Options]
) -> Answer:
    """Open, check, measure and predict one ECG.

    Parameters
    ----------
    source : Path, str, bytes, mapping of str to bytes, or ECG
        A file or its content, as for `ecgkit.open_ecg`, or an ECG.
    model : str, int, Path or Predictor, default "resnet1d"
        What `ecgkit.load_model` takes or returns.
    **options
        See `Options`.

    Returns
    -------
    Answer
        An ECG that is refused has its findings and measurements, and a refusal in place of a prediction.

    Raises
    ------
    EcgkitError
        If the file cannot be opened or there is no such model.

    Examples
    --------
    >>> answer = answer_ecg("ecg.xml", "ensemble", age=61)  # doctest: +SKIP
    >>> answer.refusal or answer.probabilities  # doctest: +SKIP
    """
    predictor = model if isinstance(model, Predictor) else load_model(model)
    ecg = _open(source, options)
    name = str(source) if isinstance(source, (str, Path)) else ecg.record_id
    left = {key: value for key, value in options.items() if key not in HINTS}
    return next(answer_ecgs([(name, ecg)], predictor, **left))  # type: ignore[arg-type]


def answer_ecgs(
    sources: Iterable[tuple[str, File | ECG]],
    model: str | int | Path | Predictor = DEFAULT_MODEL,
    *,
    done: Collection[str] = (),
    executor: Executor | None = None,
    **options: Unpack[Options],
) -> Iterator[Answer]:
    """Answer many ECGs, a few at a time.

    Parameters
    ----------
    sources : iterable of (name, source)
        The name of each answer, and what `answer_ecg` takes.
    model : str, int, Path or Predictor, default "resnet1d"
        What `ecgkit.load_model` takes or returns.
    done : collection of str, optional
        Names that are left out. The others are predicted together with the same ECGs as without it, so that they get
        the same probabilities to the last bit.
    executor : Executor, optional
        Reads, checks and measures; by default this process does.
    **options
        See `Options`.

    Yields
    ------
    Answer
        In the order of the sources. One that cannot be opened is an answer with its refusal and without an ECG.
    """
    predictor = model if isinstance(model, Predictor) else load_model(model)
    # Levels are checked with everything else before the network sees an ECG.
    skip = Skip(anyway=True, allow_missing_leads=options.get("allow_missing_leads", False))
    look = partial(_examine, options=options)
    for some, results in _examined_ahead(sources, look, done, executor):
        examined = list(results)
        predicted = iter(_predict(predictor, [item.ecg for item in examined if item.ecg and not item.refusal], skip))
        for (name, _), item in zip(some, examined, strict=True):
            prediction, refusal, added = (None, item.refusal, ()) if item.refusal else next(predicted)
            if name in done:
                continue
            if prediction and item.ecg and prediction.quantity is None and options.get("windows", True):
                prediction = replace(prediction, windows=_over_time(predictor, item.ecg))
            whole = item._replace(refusal=refusal, findings=item.findings + added)
            yield Answer(encodable(name), predictor, *whole, prediction=prediction)


def _examined_ahead(
    sources: Iterable[tuple[str, File | ECG]],
    look: Callable[[Sequence[File | ECG]], list[Examined]],
    done: Collection[str],
    executor: Executor | None,
) -> Iterator[tuple[list[tuple[str, File | ECG]], Iterable[Examined]]]:
    """Yield a few sources and what is known of them, while a thread or the executor examines those that follow."""
    left = iter(sources)
    some = list(islice(left, AT_ONCE))
    with ExitStack() as stack:
        if executor is None and len(some) == AT_ONCE:
            executor = stack.enter_context(ThreadPoolExecutor(1))
        run: Callable[..., Iterable[list[Examined]]] = executor.map if executor else map
        before = None
        while some:
            if not all(name in done for name, _ in some):
                groups = [[source for _, source in some[i : i + TOGETHER]] for i in range(0, len(some), TOGETHER)]
                current = some, chain.from_iterable(run(look, groups))
                if before:
                    yield before
                before = current
            some = list(islice(left, AT_ONCE))
        if before:
            yield before


def _open(source: File | ECG, options: Options) -> ECG:
    """Return the ECG, with age and sex where it has none."""
    hints = {name: options[name] for name in HINTS if options.get(name) is not None}  # type: ignore[literal-required]
    if isinstance(source, ECG) and hints:
        raise EcgkitError(f"{', '.join(hints)} belong to a file: an ECG has its own")
    ecg = source if isinstance(source, ECG) else open_ecg(source, **hints)
    missing = {name: options.get(name) for name in ("age", "sex") if getattr(ecg, name) is None}
    return replace(ecg, **missing)  # type: ignore[arg-type]


def _examine(sources: Sequence[File | ECG], *, options: Options) -> list[Examined]:
    """Open, check and measure a few ECGs."""
    opened = [_opened(source, options) for source in sources]
    ecgs = [item for item in opened if isinstance(item, ECG)]
    peaks = r_peaks_of_many([ecg.signal for ecg in ecgs], [ecg.sampling_rate for ecg in ecgs])
    checked = (_examined(*one, options=options) for one in zip(ecgs, peaks, check_many(ecgs, peaks), strict=True))
    unknown = dict.fromkeys(GLOBAL_MEASUREMENTS, math.nan) if options.get("measurements", True) else {}
    return [
        next(checked) if isinstance(item, ECG) else Examined(None, np.zeros(0, np.int64), (), unknown, str(item))
        for item in opened
    ]


def _opened(source: File | ECG, options: Options) -> ECG | EcgkitError:
    """Return the ECG, or why it cannot be opened."""
    try:
        return _open(source, options)
    except EcgkitError as error:
        return error


def _examined(ecg: ECG, peaks: NDArray[np.int64], found: tuple[Finding, ...], *, options: Options) -> Examined:
    """Measure an ECG whose R peaks and findings are known, and find out whether it is refused."""
    notes = tuple(Finding("reader", "note", text) for text in ecg.findings)
    refusal = None
    try:
        if not options.get("anyway"):
            refuse(ecg, found)
    except EcgkitError as error:
        refusal = str(error)
    measurements = measure_ecg(ecg, peaks) if options.get("measurements", True) else {}
    return Examined(ecg, peaks, notes + found, measurements, refusal)


def _predict(
    predictor: Predictor, ecgs: Sequence[ECG], skip: Skip
) -> list[tuple[Prediction | None, str | None, tuple[Finding, ...]]]:
    """Return prediction or refusal, and findings, of each ECG; if one is refused, each half is predicted by itself."""
    if not ecgs:
        return []
    try:
        outcome = predictor.outcome(ecgs, **skip)
        found = [_input_findings(predictor, *one) for one in zip(ecgs, outcome.distance.tolist(), strict=True)]
        return [(one, None, some) for one, some in zip(_predictions(predictor, outcome), found, strict=True)]
    except EcgkitError as error:
        if len(ecgs) == 1:
            return [(None, str(error), ())]
    middle = len(ecgs) // 2
    return [answer for half in (ecgs[:middle], ecgs[middle:]) for answer in _predict(predictor, half, skip)]


def _predictions(predictor: Predictor, outcome: Outcome) -> list[Prediction]:
    """Return what the model says of each ECG."""
    probability = outcome.probabilities
    if isinstance(predictor, QuantityPredictor):
        nothing = np.zeros(0, np.float32), np.zeros(0, bool)
        return [Prediction(*nothing, quantity=value) for value in probability[:, 0].tolist()]
    extremes = [values for values in (outcome.lowest, outcome.highest) if values is not None]
    return [Prediction(*row) for row in zip(probability, probability >= predictor.thresholds, *extremes, strict=True)]


def _input_findings(predictor: Predictor, ecg: ECG, distance: float) -> tuple[Finding, ...]:
    """Return what the model has to say about its input."""
    lost = predictor.lead_losses, predictor.name
    missing = [missing_leads_finding(ecg.missing_leads, *lost)] if ecg.missing_leads else []
    unknown = [name for name in ("age", "sex") if getattr(ecg, name) is None] if predictor.takes_metadata else []
    if unknown:
        text = f"{' and '.join(unknown)} unknown, which {predictor.name} reads: it took an average, and is better with"
        missing.append(Finding("missing_metadata", "warning", f"{text} {'them' if unknown[1:] else 'it'}"))
    return (*missing, *_familiarity(predictor, distance))


def _familiarity(predictor: Predictor, distance: float) -> list[Finding]:
    """Return a finding for an ECG that is unlike those of the training, or of which that is not known."""
    if math.isnan(distance):
        text = f"not checked whether the ECG is like those that {predictor.name} was trained on: the model cannot tell"
        return [Finding("unchecked", "note", text)]
    if distance <= 1:
        return []
    text = f"unlike the ECGs that {predictor.name} was trained on ({distance:.1f} times the limit of the distance)"
    return [Finding("unlike_training", "warning", text, evidence={"distance": distance, "limit": 1.0})]


def _over_time(predictor: Predictor, ecg: ECG) -> Windows | None:
    """Predict the windows of a long recording, one after the other; a remainder is left out.

    So is a window in which a lead has no value that has some elsewhere.
    """
    length, is_alive = round(WINDOW * ecg.sampling_rate), np.isfinite(ecg.signal).any(axis=1)
    if ecg.n_samples < 2 * length or predictor.n_samples > WINDOW * predictor.sampling_rate:
        return None
    parts = {first: ecg.signal[:, first : first + length] for first in range(0, ecg.n_samples - length + 1, length)}
    kept = [first for first, part in parts.items() if np.array_equal(np.isfinite(part).any(axis=1), is_alive)]
    if not kept:
        return None
    windows = [replace(ecg, signal=parts[first]) for first in kept]
    starts = tuple(first / ecg.sampling_rate for first in kept)
    return Windows(starts, predictor.predict_proba(windows, anyway=True, allow_missing_leads=True))


def _finding_data(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON data."""
    evidence = {name: _known(float(value)) for name, value in finding.evidence.items()}
    return vars(finding) | {"leads": list(finding.leads), "evidence": evidence}


def _known(value: float) -> float | None:
    """Return a number, None for NaN."""
    return value if math.isfinite(value) else None


def _plain(values: NDArray[np.float32]) -> list[Any]:
    """Return Python numbers, each the shortest that its float32 is the nearest to."""
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [float(str(value)) for value in values]


def csv_row(row: Mapping[str, Any]) -> dict[str, object]:
    """Return a row of `Answer.to_row` for a CSV file: its findings are one text, and no text in it is a formula."""
    written = {name: csv_cell(value) for name, value in row.items()}
    return written | {"findings": csv_cell("; ".join(row["findings"]))}
