"""From ECGs to probabilities, with a model's own filters, calibration and thresholds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from ecgkit import paths, sessions, stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.config import is_ensemble
from ecgkit.inference import shipped as pretrained
from ecgkit.inference.folder import ModelFolder, read_model
from ecgkit.sessions import Session
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.filters import Filters, resample, standardize
from ecgkit.signals.prepare import LARGEST, repair
from ecgkit.stats.calibration import apply_calibration
from ecgkit.stats.ensembles import apply_ensemble
from ecgkit.training.data import BATCH, records_at_once
from ecgkit.training.inference import TrainedSession, check_match, open_trained
from ecgkit.training.weights import TrainedModel, check_made_for

LARGEST_RANGE = 20.0
"""No ECG in mV spans so much from its 1st to its 99th percentile, in the median over leads and records: in PTB-XL it is
0.3 to 4 mV for single records. In microvolts every ECG spans more."""

CHECKED = 100
"""Records of a call whose unit is looked at."""

OLDEST = 130
SEXES = ("male", "female")


@dataclass(frozen=True)
class Decisions:
    """What was chosen on fold 9.

    Attributes
    ----------
    thresholds, calibration : dict
        What ``thresholds.json`` and ``calibration.json`` hold.
    """

    thresholds: dict[str, Any]
    calibration: dict[str, Any]

    @classmethod
    def of(cls, session: Session) -> Decisions:
        """Read those of a session."""
        return cls(session.read_json("thresholds.json"), session.read_json("calibration.json"))


class Predictor(ABC):
    """A model ready for ECGs from anywhere: one that ships, an exported one, a session, or an ensemble of sessions.

    Attributes
    ----------
    name : str
        What messages call it.
    session : Session or None
        The session, if it is one.
    classes : tuple of str
        What it tells apart, in the order of the columns of its probabilities.
    label_set : str
        The label set that they are of.
    thresholds : dict of str to float
        From which probability on a class is predicted, chosen on fold 9. They are compared with the probability as the
        network gives it, before calibration.
    card : str
        The model card, in Markdown; empty for a session, which has its report.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        decisions: Decisions,
        *,
        label_set: str,
        session: Session | None = None,
        card: str = "",
    ) -> None:
        self.name, self.session, self.classes = name, session, tuple(classes)
        self.label_set, self.card = label_set, card
        self._limits = stats.class_thresholds(decisions.thresholds, self.classes)
        self._calibration = decisions.calibration
        self.thresholds: dict[str, float] = dict(zip(self.classes, self._limits.tolist(), strict=True))
        # A class without calibration is to be refused now, not after the first thousand records.
        self._calibrate(np.full((1, len(self.classes)), 0.5, np.float32))

    @property
    @abstractmethod
    def sampling_rate(self) -> int:
        """The sampling rate that the model reads, in Hz; signals of another one are resampled to it."""

    @property
    @abstractmethod
    def n_samples(self) -> int:
        """The fewest samples a lead, at `sampling_rate`, that the model reads."""

    @property
    @abstractmethod
    def takes_metadata(self) -> bool:
        """Whether the model takes age and sex."""

    @abstractmethod
    def _network(self, ecgs: Sequence[ECG], records: pd.DataFrame | None) -> NDArray[np.float32]:
        """Give the probability of each class as the network gives it; what is given has been checked."""

    def probabilities(self, ecgs: Sequence[ECG], records: pd.DataFrame | None = None) -> NDArray[np.float32]:
        """Give the probability of each class as the network gives it.

        Parameters
        ----------
        ecgs : sequence of ECG
            The ECGs, each at least as long as the model reads at once; a longer one is read in windows. Another
            sampling rate is converted, gaps are filled as in a processed dataset.
        records : DataFrame, optional
            Columns ``age`` (years) and ``sex`` (words), one row an ECG, for a model that takes them; one that takes
            none does not look at it.

        Returns
        -------
        ndarray of float32, shape (ecgs, classes)

        Raises
        ------
        EcgkitError
            If there is no ECG, one is too short or holds no number, or the model needs age and sex and they are not
            given.
        """
        if not len(ecgs):
            raise EcgkitError("there is no ECG to predict: give at least one")
        if not self.takes_metadata:
            return self._network(ecgs, None)
        if records is None or not {"age", "sex"} <= set(records) or len(records) != len(ecgs):
            raise EcgkitError(f"the model of {self.name} takes age and sex: give a row with both for each ECG")
        return self._network(ecgs, records)

    def predict_proba(
        self,
        signals: ArrayLike,
        *,
        sampling_rate: float,
        age: ArrayLike | None = None,
        sex: str | Sequence[str | None] | None = None,
    ) -> NDArray[np.float32]:
        """Give the calibrated probability of each class.

        Parameters
        ----------
        signals : array-like of float, shape (records, 12, samples)
            In mV, leads in the order of `ecgkit.LEADS`; NaN where there is no value. At least as long as the model
            reads at once; longer ones are read in windows that overlap by half.
        sampling_rate : float
            Of ``signals``, in Hz.
        age : array-like of float, shape (records,), or float, optional
            In years, NaN where unknown. Needed by a model that takes age and sex, and by no other.
        sex : sequence of str or None, or str, optional
            ``"male"``, ``"female"`` or, where unknown, None. As ``age``.

        Returns
        -------
        ndarray of float32, shape (records, classes)
            Columns in the order of ``classes``. A record may carry several classes: rows do not add up to 1.

        Raises
        ------
        EcgkitError
            If ``signals`` has another shape, is empty, too short, not in mV, or holds a record without any number; if
            age and sex are missing, are given to a model that takes none, or are not what they should be.
        """
        return self._calibrate(self._of_arrays(signals, sampling_rate, age, sex))

    def predict(
        self,
        signals: ArrayLike,
        *,
        sampling_rate: float,
        age: ArrayLike | None = None,
        sex: str | Sequence[str | None] | None = None,
    ) -> NDArray[np.bool_]:
        """Decide for each class; the arguments and the errors are those of `predict_proba`.

        Returns
        -------
        ndarray of bool, shape (records, classes)
            Whether the probability, as the network gives it, reaches the threshold from fold 9.
        """
        return self._decide(self._of_arrays(signals, sampling_rate, age, sex))

    def __call__(self, ecgs: Sequence[ECG], records: pd.DataFrame | None = None) -> pd.DataFrame:
        """Predict ECGs; the arguments are those of `probabilities`.

        Returns
        -------
        DataFrame
            One row an ECG: ``record_id``, and for each class ``prob_CLASS`` as the network gives it,
            ``calibrated_CLASS``, and ``predicted_CLASS``, whether the probability reaches the threshold from fold 9.
        """
        prob = self.probabilities(ecgs, records)
        calibrated, decided = self._calibrate(prob), self._decide(prob)
        columns: dict[str, Any] = {"record_id": [ecg.record_id for ecg in ecgs]}
        for i, name in enumerate(self.classes):
            columns[f"prob_{name}"] = prob[:, i]
            columns[f"calibrated_{name}"] = calibrated[:, i]
            columns[f"predicted_{name}"] = decided[:, i]
        return pd.DataFrame(columns)

    def _calibrate(self, prob: NDArray[np.float32]) -> NDArray[np.float32]:
        return apply_calibration(prob, self._calibration, self.classes)

    def _decide(self, prob: NDArray[np.float32]) -> NDArray[np.bool_]:
        decided: NDArray[np.bool_] = prob.astype(np.float64) >= self._limits
        return decided

    def _of_arrays(
        self, signals: ArrayLike, sampling_rate: float, age: ArrayLike | None, sex: str | Sequence[str | None] | None
    ) -> NDArray[np.float32]:
        """Give the probabilities of an array of signals as the network gives them."""
        values = check_signals(signals)
        given = [name for name, value in (("age", age), ("sex", sex)) if value is not None]
        if given and not self.takes_metadata:
            raise EcgkitError(f"the model of {self.name} takes the signal alone: leave {' and '.join(given)} out")
        if len(given) < 2 and self.takes_metadata:
            raise EcgkitError(
                f"the model of {self.name} takes age and sex: give age=[...] in years (NaN where unknown) and "
                'sex=[...] of "male", "female" and None (where unknown)'
            )
        records = make_records(len(values), age, sex) if given else None
        ecgs = [ECG(np.asarray(signal, np.float32), sampling_rate, str(i)) for i, signal in enumerate(values)]
        return self.probabilities(ecgs, records)


class _Single(Predictor):
    """A network with what belongs to it."""

    def __init__(
        self,
        name: str,
        trained: TrainedModel,
        decisions: Decisions,
        *,
        filters: Mapping[str, object],
        label_set: str,
        session: Session | None = None,
        card: str = "",
    ) -> None:
        super().__init__(name, trained.classes, decisions, label_set=label_set, session=session, card=card)
        self._trained, self._filters = trained, Filters.from_dict(filters)

    @classmethod
    def of_session(cls, opened: TrainedSession) -> _Single:
        """Take a session's best checkpoint, with the filters of its dataset."""
        check_match(opened.trained, opened.dataset)
        return cls(
            opened.session.name,
            opened.trained,
            Decisions.of(opened.session),
            filters=opened.dataset.manifest["filters"],
            label_set=opened.config.label_set,
            session=opened.session,
        )

    @classmethod
    def of_folder(cls, model: ModelFolder) -> _Single:
        """Take a model that stands alone."""
        return cls(
            model.path.name,
            model.trained,
            Decisions(model.thresholds, model.calibration),
            filters=model.description["filters"],
            label_set=model.description["label_set"],
            card=model.card,
        )

    @property
    def sampling_rate(self) -> int:
        """The sampling rate that the model reads; see `Predictor`."""
        return self._trained.sampling_rate

    @property
    def n_samples(self) -> int:
        """The fewest samples that the model reads; see `Predictor`."""
        return int(self._trained.keywords["n_samples"])

    @property
    def takes_metadata(self) -> bool:
        """Whether the model takes age and sex; see `Predictor`."""
        return self._trained.scaler is not None

    def _network(self, ecgs: Sequence[ECG], records: pd.DataFrame | None) -> NDArray[np.float32]:
        scaler, model = self._trained.scaler, self._trained.model.eval()
        metadata = None if scaler is None or records is None else torch.from_numpy(scaler(records))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model.to(device)
        result = np.empty((len(ecgs), len(self.classes)), np.float32)
        with torch.inference_mode():
            for rows, signal in self._batches(ecgs):
                some = None if metadata is None else metadata[rows].to(device)
                result[rows] = model(torch.from_numpy(signal).to(device), some).sigmoid().cpu().numpy()
        return result

    def _batches(self, ecgs: Sequence[ECG]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Give batches of neighbours of one length; of long ones fewer, since each is read in many windows."""
        for first in range(0, len(ecgs), BATCH):
            prepared = [self._prepare(ecg) for ecg in ecgs[first : first + BATCH]]
            for length, group in groupby(range(len(prepared)), key=lambda i: prepared[i].shape[1]):
                rows, size = list(group), records_at_once(self.n_samples, length)
                for start in range(0, len(rows), size):
                    some = rows[start : start + size]
                    yield slice(first + some[0], first + some[-1] + 1), np.stack([prepared[i] for i in some])

    def _prepare(self, ecg: ECG) -> NDArray[np.float32]:
        """Make of an ECG what the model was trained on: rate, gaps, filters, standardisation."""
        if not np.isfinite(ecg.signal).any():
            raise EcgkitError(f"ECG {ecg.record_id} holds no number, NaN throughout: leave it out")
        signal = repair(ecg.signal.astype(np.float64))
        if ecg.sampling_rate != self.sampling_rate:
            signal = resample(signal, sampling_rate=ecg.sampling_rate, target_rate=self.sampling_rate)
        if signal.shape[1] < self.n_samples:
            raise EcgkitError(
                f"ECG {ecg.record_id} is {ecg.duration:g} s long and the model of {self.name} reads "
                f"{self.n_samples / self.sampling_rate:g} s at once: give a longer one"
            )
        filtered = self._filters.apply(signal * 1000, sampling_rate=self.sampling_rate)
        # Whole microvolts, and scaled as a batch of a processed dataset is: the same numbers to the last bit.
        microvolts = np.rint(filtered).clip(-LARGEST, LARGEST).astype(np.float32)
        return standardize(microvolts * np.float32(1e-3), self._trained.mean, self._trained.std)


class _Ensemble(Predictor):
    """A session that is put together from others."""

    def __init__(self, session: Session, members: Mapping[str, Predictor]) -> None:
        self._description = session.read_json("ensemble.json")
        self._members = members
        label_set = next(iter(members.values())).label_set
        super().__init__(
            session.name, self._description["classes"], Decisions.of(session), label_set=label_set, session=session
        )

    @property
    def sampling_rate(self) -> int:
        """The highest sampling rate that a member reads; see `Predictor`."""
        return max(member.sampling_rate for member in self._members.values())

    @property
    def n_samples(self) -> int:
        """What the member that reads most at once needs; see `Predictor`."""
        return max(member.n_samples * self.sampling_rate // member.sampling_rate for member in self._members.values())

    @property
    def takes_metadata(self) -> bool:
        """Whether a member takes age and sex; see `Predictor`."""
        return any(member.takes_metadata for member in self._members.values())

    def _network(self, ecgs: Sequence[ECG], records: pd.DataFrame | None) -> NDArray[np.float32]:
        each = {name: member.probabilities(ecgs, records) for name, member in self._members.items()}
        return apply_ensemble(self._description, each).astype(np.float32)


def open_predictor(name: str | Session, root: Path) -> Predictor:
    """Open a finished session for prediction, an ensemble with all of its members.

    Parameters
    ----------
    name : str or Session
        ``session_3``, ``3``, or the session.
    root : Path
        The folder that holds data sets and sessions.

    Returns
    -------
    Predictor

    Raises
    ------
    EcgkitError
        If the session or a member of it is missing or not finished, or its dataset has changed.
    """
    session = sessions.open_finished(name.path if isinstance(name, Session) else name, paths.TRAINING, root)
    if not is_ensemble(session):
        return _Single.of_session(open_trained(session, root))
    return _Ensemble(session, {member: open_predictor(member, root) for member in session.config["members"]})


def load_model(
    name: str | Path, *, classes: Sequence[str] | None = None, sampling_rate: float | None = None
) -> Predictor:
    """Load a trained model, ready to predict.

    Parameters
    ----------
    name : str or Path
        A model that ships with ecgkit, such as ``"xlstm"``; the folder of a model that ``ecgkit export-model`` wrote;
        or the folder of a finished training session, whose dataset must still be there.
    classes : sequence of str, optional
        The classes that the model must have, in this order.
    sampling_rate : float, optional
        The sampling rate, in Hz, that the model must have been made for. Signals of any rate are resampled to the
        model's own; give this where that is not wanted.

    Returns
    -------
    Predictor
        With ``classes`` and ``predict_proba``, among others.

    Raises
    ------
    EcgkitError
        If there is no such model, a file of it is missing, damaged or of another version, a tensor is missing or
        surplus, or classes or sampling rate are others. The message says which.
    """
    predictor = _open(name)
    check_made_for(f"the model {predictor.name}", predictor, classes=classes, sampling_rate=sampling_rate)
    return predictor


def _open(name: str | Path) -> Predictor:
    if name in pretrained.shipped():
        return _Single.of_folder(read_model(pretrained.FOLDER / name))
    path = Path(name).expanduser().absolute()  # a link keeps its name, which says what it is
    if (path / pretrained.DESCRIPTION).is_file():
        return _Single.of_folder(read_model(path))
    if path.parent.name == paths.TRAINING and sessions.session_number(path.name) and path.is_dir():
        return open_predictor(Session(path), path.parents[1])
    ship = ", ".join(pretrained.shipped()) or "none"
    what = f"the folder {path} holds no {pretrained.DESCRIPTION}" if path.is_dir() else f"no model {str(name)!r}"
    raise EcgkitError(
        f"{what}: give one that ships ({ship}), or the folder of an exported model or of a training session"
    )


def check_signals(signals: ArrayLike) -> NDArray[np.floating]:
    """Check that an array can be signals in mV.

    Parameters
    ----------
    signals : array-like of float
        Should be ``(records, 12, samples)``.

    Returns
    -------
    ndarray of float, shape (records, 12, samples)

    Raises
    ------
    EcgkitError
        If the shape is another one, there is no record, or the values are no numbers or too large for mV.
    """
    try:
        values = np.asarray(signals)
    except ValueError as error:
        raise EcgkitError(
            "signals are of different lengths: give those of one length, (records, 12, samples)"
        ) from error
    if values.ndim != 3 or values.shape[1] != len(LEADS):
        way_out = "give one record as signal[None]" if values.ndim == 2 else "bring the axes into this order"
        raise EcgkitError(f"signals have the shape {values.shape}, not (records, 12, samples): {way_out}")
    if not values.size:
        raise EcgkitError(f"signals have the shape {values.shape}: give at least one record with samples")
    if not np.issubdtype(values.dtype, np.floating):
        raise EcgkitError(f"signals are of type {values.dtype}: give floating-point numbers in mV")
    some = values[np.linspace(0, len(values) - 1, min(len(values), CHECKED)).astype(int)]
    finite = np.where(np.isfinite(some), some, 0.0)
    low, high = np.percentile(finite, [1, 99], axis=2)
    spans = float(np.median(high - low))
    if spans > LARGEST_RANGE:
        raise EcgkitError(
            f"signals span {spans:,.0f} and an ECG in mV less than {LARGEST_RANGE:g}: signals look like microvolts, "
            "divide by 1000"
        )
    return values


def make_records(n_records: int, age: ArrayLike | None, sex: str | Sequence[str | None] | None) -> pd.DataFrame:
    """Make the table of records that a model with age and sex reads.

    Parameters
    ----------
    n_records : int
        Number of records.
    age : array-like of float
        In years, NaN where unknown; one number stands for all records.
    sex : str or sequence of str or None
        ``"male"``, ``"female"``, or None where unknown; one word stands for all records.

    Returns
    -------
    DataFrame
        Columns ``age`` and ``sex``, one row a record.

    Raises
    ------
    EcgkitError
        If there is not one of each for every record, an age is below 0 or above 130, or a sex is another word.
    """
    try:
        ages = np.asarray(age, np.float64)
    except (TypeError, ValueError) as error:
        raise EcgkitError(f"age is {age!r}: give numbers of years, NaN where unknown") from error
    words = np.array([sex] if isinstance(sex, str) else list(() if sex is None else sex), dtype=object)
    words[pd.isna(words)] = None
    ages = np.repeat(ages, n_records) if ages.ndim == 0 else ages
    words = np.repeat(words, n_records) if isinstance(sex, str) else words
    for name, values in (("age", ages), ("sex", words)):
        if values.shape != (n_records,):
            raise EcgkitError(f"{name} has the shape {values.shape} for {n_records} records: give one for each")
    wrong = ages[(ages < 0) | (ages > OLDEST)]
    if wrong.size:
        raise EcgkitError(f"age is {wrong[0]:g}: give years up to {OLDEST} (PTB-XL's 300 means over 89: give 90)")
    for word in words:
        if word is not None and word not in SEXES:
            raise EcgkitError(f'sex is {word!r}: give "male", "female", or None where unknown')
    return pd.DataFrame({"age": ages, "sex": words})
