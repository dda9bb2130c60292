"""A model ready to predict ECGs from anywhere."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgkit.errors import EcgkitError
from ecgkit.inference.batches import BATCH, BATCH_ON_CPU, Skip, default_device, prepared_batches, run_batches
from ecgkit.inference.missing_leads import LeadLosses
from ecgkit.inference.model_folder import WAY_OUT, ModelFolder
from ecgkit.signals.ecg import ECG, LEADS, as_numbers
from ecgkit.stats.calibration import apply_calibration, uncalibrated_classes
from ecgkit.stats.ensembles import apply_ensemble
from ecgkit.stats.validation import class_thresholds

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Signals = ArrayLike | Sequence[ECG] | ECG
Rate = float | None
Age = ArrayLike | None
Sex = str | Sequence[str | None] | None
UNKNOWN = ("nan", "<NA>")
"""What tables have for a sex that is not known, as texts."""


class Outcome(NamedTuple):
    """What a model computes for records.

    Attributes
    ----------
    probabilities : ndarray of float32, shape (records, classes)
        Calibrated; of a model for a quantity its value, in one column.
    distance : ndarray of float64, shape (records,)
        From the training records, see `ecgkit.inference.reference`: above 1 for an ECG that is unlike them, NaN where
        the model has no reference for it. Of an ensemble, the mean of its members.
    lowest, highest : ndarray of float32, shape (records, classes), or None
        Of an ensemble, the extremes among its members, each calibrated by itself.
    """

    probabilities: NDArray[np.float32]
    distance: NDArray[np.float64]
    lowest: NDArray[np.float32] | None = None
    highest: NDArray[np.float32] | None = None


class Predictor(ABC):
    """A model ready to predict: one that ships, a model folder, a training session, or an ensemble of sessions.

    Every method takes a sequence of `ECG`, or an array with the sampling rate and, for a model that takes them, age
    and sex.

    Attributes
    ----------
    name : str
        Its name in messages.
    classes : tuple of str
        One per column of the probabilities.
    label_set : str
        The label set of the classes.
    thresholds : ndarray of float32, shape (classes,)
        A class is predicted where its calibrated probability is at least its threshold.
    unreliable : dict of str to str
        The classes whose threshold is not to be relied on, such as those with few positives in fold 9, and why.
    card : str
        The model card, in Markdown; empty without one.
    backend : {"torch", "onnx"}
        What computes the network.
    lead_losses : LeadLosses or None
        What it was measured to lose without some of the leads; see `ecgkit.inference.missing_leads`.
    """

    backend = "torch"
    lead_losses: LeadLosses | None = None

    def __init__(
        self, name: str, classes: Sequence[str], label_set: str, *, decisions: tuple[Mapping, Mapping], card: str = ""
    ) -> None:
        self.name, self.classes, self.label_set, self.card = name, tuple(classes), label_set, card
        thresholds, self._calibration = decisions
        self._has_warned = False
        try:
            self.thresholds: NDArray[np.float32] = class_thresholds(thresholds, self.classes).astype(np.float32)
            # What is missing is refused now, not after the first thousand records.
            self._calibrate(self._halves())
            self.unreliable = uncalibrated_classes(self._calibration)
        except (LookupError, TypeError, ValueError) as error:
            raise EcgkitError(f"thresholds or calibration of {name} are damaged ({error!r}): {WAY_OUT}") from error

    @property
    @abstractmethod
    def sampling_rate(self) -> int:
        """The sampling rate in Hz that the model reads; signals of another rate are resampled."""

    @property
    @abstractmethod
    def n_samples(self) -> int:
        """The samples per lead, at `sampling_rate`, that the model reads at once."""

    @property
    @abstractmethod
    def takes_metadata(self) -> bool:
        """Whether the model takes age and sex."""

    @abstractmethod
    def _computed(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the uncalibrated probabilities of ECGs that were checked, and their distances as in `Outcome`."""

    @abstractmethod
    def _embed(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> NDArray[np.float32]:
        """Return the features of ECGs that were checked."""

    def __repr__(self) -> str:
        shown = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        inputs = f"12 leads at {self.sampling_rate} Hz from {self.n_samples / self.sampling_rate:g} s on"
        metadata = ", age and sex" if self.takes_metadata else ""
        return f"<{type(self).__name__} {self.name}: {inputs}{metadata} -> {len(self.classes)} classes ({shown})>"

    def predict_proba(
        self, x: Signals, *, sampling_rate: Rate = None, age: Age = None, sex: Sex = None, **skip: Unpack[Skip]
    ) -> NDArray[np.float32]:
        """Return the calibrated probability of each class.

        Parameters
        ----------
        x : sequence of ECG, or array-like of float, shape (records, 12, samples)
            An array is in mV, leads in the order of `ecgkit.LEADS`, NaN where there is no value. Records have at least
            the length that the model reads at once; longer ones are read in windows that overlap by half.
        sampling_rate : float
            Of an array, in Hz. ECGs have their own.
        age : array-like of float, shape (records,), or float, optional
            In years, NaN where unknown; for an array and a model that takes age and sex.
        sex : sequence of str or None, or str, optional
            ``"male"``, ``"female"`` or, where unknown, None. As ``age``.
        **skip
            ``anyway=True`` also predicts records that are flat or whose levels are not those of an ECG in mV, and
            ``allow_missing_leads=True`` those that lack leads, which are zero then.

        Returns
        -------
        ndarray of float32, shape (records, classes)
            Columns in the order of ``classes``. A record may have several classes: rows do not sum to 1.

        Raises
        ------
        EcgkitError
            If ``x`` has another shape, is empty, too short, not in mV, or contains a record that is flat or lacks a
            lead; or age and sex are missing or do not fit.
        """
        return self._probabilities(self._ecgs(x, sampling_rate, age, sex), **skip)[1]

    def predict(
        self, x: Signals, *, sampling_rate: Rate = None, age: Age = None, sex: Sex = None, **skip: Unpack[Skip]
    ) -> NDArray[Any]:
        """Return the classes of each record; parameters and errors are those of `predict_proba`.

        Returns
        -------
        ndarray of bool, shape (records, classes)
            ``predict_proba(x) >= thresholds``.
        """
        return self._decide(self.predict_proba(x, sampling_rate=sampling_rate, age=age, sex=sex, **skip))

    def outcome(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> Outcome:
        """Return calibrated probabilities, and how unlike the training records each ECG is; see `predict_proba`."""
        prob, distance = self._computed(ecgs, **skip)
        return Outcome(self._calibrate(prob), distance)

    def embed(
        self, x: Signals, *, sampling_rate: Rate = None, age: Age = None, sex: Sex = None, **skip: Unpack[Skip]
    ) -> NDArray[np.float32]:
        """Return the features of the signal before the classifier; parameters and errors are those of `predict_proba`.

        Returns
        -------
        ndarray of float32, shape (records, features)
            Of the signal alone: age and sex are not part of it. An ensemble has none.
        """
        return self._embed(self._ecgs(x, sampling_rate, age, sex, needs_metadata=False), **skip)

    def __call__(
        self, x: Signals, *, sampling_rate: Rate = None, age: Age = None, sex: Sex = None, **skip: Unpack[Skip]
    ) -> pd.DataFrame:
        """Predict a table; parameters and errors are those of `predict_proba`.

        Returns
        -------
        DataFrame
            One row per record: ``record_id``, and for each class ``prob_CLASS`` (uncalibrated), ``calibrated_CLASS``
            and ``predicted_CLASS``.
        """
        import pandas as pd

        ecgs = self._ecgs(x, sampling_rate, age, sex)
        prob, calibrated = self._probabilities(ecgs, **skip)
        decided = self._decide(calibrated)
        columns: dict[str, Any] = {"record_id": [ecg.record_id for ecg in ecgs]}
        for i, name in enumerate(self.classes):
            columns[f"prob_{name}"] = prob[:, i]
            columns[f"calibrated_{name}"] = calibrated[:, i]
            columns[f"predicted_{name}"] = decided[:, i]
        return pd.DataFrame(columns)

    def _probabilities(
        self, ecgs: Sequence[ECG], **skip: Unpack[Skip]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the uncalibrated and the calibrated probabilities of ECGs that were checked."""
        prob, _ = self._computed(ecgs, **skip)
        return prob, self._calibrate(prob)

    def _halves(self) -> NDArray[np.float32]:
        return np.full((1, len(self.classes)), 0.5, np.float32)

    def _calibrate(self, prob: NDArray[np.float32]) -> NDArray[np.float32]:
        return apply_calibration(prob, self._calibration, self.classes)

    def _decide(self, calibrated: NDArray[np.float32]) -> NDArray[np.bool_]:
        return calibrated >= self.thresholds

    def _ecgs(self, x: Any, rate: Rate, age: Age, sex: Sex, *, needs_metadata: bool = True) -> Sequence[ECG]:
        """Check the input and return it as ECGs."""
        given = [name for name, value in (("age", age), ("sex", sex)) if value is not None]
        ecgs = [x] if isinstance(x, ECG) else x
        if isinstance(ecgs, Sequence) and any(isinstance(ecg, ECG) for ecg in ecgs):
            if not all(isinstance(ecg, ECG) for ecg in ecgs):
                raise EcgkitError("the records are ECGs and something else: give a sequence of ECG, or one array")
            if given or rate is not None:
                raise EcgkitError("sampling_rate, age and sex belong to an array: an ECG has its own")
            return ecgs
        if rate is None:
            raise EcgkitError("an array has no sampling rate: give sampling_rate in Hz, or a sequence of ECG")
        if given and not self.takes_metadata:
            self._warn_once(f"the model {self.name} takes no {' and '.join(given)}: they are not used")
        if len(given) < 2 and self.takes_metadata and needs_metadata:
            raise EcgkitError(
                f"the model {self.name} takes age and sex: give age=[...] in years (NaN where unknown) and "
                'sex=[...] of "male", "female" and None (where unknown)'
            )
        return as_ecgs(x, rate, age, sex)

    def _warn_once(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(message, UserWarning, stacklevel=4)


class NetworkPredictor(Predictor):
    """A network with its preparation, calibration and thresholds."""

    def __init__(self, folder: ModelFolder, *, precision: str = "float32") -> None:
        trained = folder.trained
        decisions = (folder.thresholds, folder.calibration)
        super().__init__(folder.path.name, trained.classes, trained.label_set, decisions=decisions, card=folder.card)
        self.trained, self.precision, self.reference = trained, precision, folder.reference
        from ecgkit.models.layers import made_faster

        # A user's architecture may do more with its layers than to call them one after the other.
        is_ours = not trained.sha256
        on_cpu = default_device() == "cpu"
        self.faster = replace(trained, model=made_faster(trained.model, channels_last=on_cpu)) if is_ours else trained

    @property
    def sampling_rate(self) -> int:
        """The sampling rate in Hz that the network reads."""
        return self.trained.sampling_rate

    @property
    def n_samples(self) -> int:
        """The samples per lead that the network reads at once."""
        return self.trained.n_samples

    @property
    def takes_metadata(self) -> bool:
        """Whether the network takes age and sex."""
        return self.trained.scaler is not None

    def _computed(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        metadata = None
        if self.trained.scaler is not None:
            ages = [math.nan if ecg.age is None else ecg.age for ecg in ecgs]
            metadata = self.trained.scaler(ages, [ecg.sex for ecg in ecgs])
        columns = self._run(ecgs, metadata, self.faster.predict_with_features, **skip)
        prob, features = np.split(columns, [len(self.classes)], axis=1)
        return prob, self.reference.distance(features) if self.reference else np.full(len(ecgs), np.nan)

    def _embed(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> NDArray[np.float32]:
        return self._run(ecgs, None, lambda signal, _: self.faster.model.embed(signal), **skip)

    def _run(
        self,
        ecgs: Sequence[ECG],
        metadata: NDArray[np.float32] | None,
        call: Callable[[Tensor, Tensor | None], Tensor],
        **skip: Unpack[Skip],
    ) -> NDArray[np.float32]:
        windows = BATCH if default_device() == "cuda" else BATCH_ON_CPU
        batches = prepared_batches(
            ecgs, self.trained.preparation, metadata, n_read=self.n_samples, windows=windows, **skip
        )
        return run_batches(self.faster.model, batches, call, n_records=len(ecgs), precision=self.precision)


class EnsemblePredictor(Predictor):
    """Several sessions whose probabilities are combined."""

    def __init__(
        self,
        name: str,
        description: Mapping[str, Any],
        members: Mapping[str, Predictor],
        *,
        decisions: tuple[Mapping, Mapping],
        card: str = "",
    ) -> None:
        label_set = next((member.label_set for member in members.values()), "")
        super().__init__(name, description["classes"], label_set, decisions=decisions, card=card)
        self.description, self.members = description, members
        try:
            apply_ensemble(description, dict.fromkeys(members, self._halves()))
        except (LookupError, TypeError, ValueError) as error:
            raise EcgkitError(f"the ensemble {name} is damaged ({error!r}): {WAY_OUT}") from error

    @property
    def sampling_rate(self) -> int:
        """The highest sampling rate in Hz that a member reads."""
        return max(member.sampling_rate for member in self.members.values())

    @property
    def n_samples(self) -> int:
        """The samples per lead that the member with the longest input reads at once."""
        return max(member.n_samples * self.sampling_rate // member.sampling_rate for member in self.members.values())

    @property
    def takes_metadata(self) -> bool:
        """Whether a member takes age and sex."""
        return any(member.takes_metadata for member in self.members.values())

    def _computed(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        return self._combined(self._each(ecgs, **skip))

    def _each(
        self, ecgs: Sequence[ECG], **skip: Unpack[Skip]
    ) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float64]]]:
        """Return what each member computes; of many ECGs, too much would be kept to prepare each only once."""
        if len(ecgs) <= BATCH:
            skip["filtered"] = {}
        return {name: member._computed(ecgs, **skip) for name, member in self.members.items()}

    def outcome(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> Outcome:
        """Return calibrated probabilities with the extremes among the members; see `predict_proba`."""
        each = self._each(ecgs, **skip)
        prob, distance = self._combined(each)
        members = np.stack([self.members[name]._calibrate(prob) for name, (prob, _) in each.items()])
        return Outcome(self._calibrate(prob), distance, members.min(axis=0), members.max(axis=0))

    def _combined(
        self, each: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float64]]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Combine what the members computed."""
        prob = apply_ensemble(self.description, {name: prob for name, (prob, _) in each.items()})
        return prob.astype(np.float32), np.mean([distance for _, distance in each.values()], axis=0)

    def _embed(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> NDArray[np.float32]:
        del ecgs, skip
        raise EcgkitError(f"{self.name} is an ensemble without an embedding: use a member ({', '.join(self.members)})")


class QuantityPredictor(NetworkPredictor):
    """A network that was trained for a quantity, such as age."""

    def __init__(self, folder: ModelFolder, *, precision: str = "float32") -> None:
        unused = dict.fromkeys(folder.trained.classes, 0.5)
        identity = {"classes": {name: {"method": "identity"} for name in folder.trained.classes}}
        super().__init__(replace(folder, thresholds={"thresholds": unused}, calibration=identity), precision=precision)

    def predict_proba(self, *_: object, **__: object) -> NDArray[np.float32]:
        """Refuse: a quantity has no probability."""
        raise EcgkitError(f"the model {self.name} predicts {self.classes[0]}, which has no probability: use predict")

    def outcome(self, ecgs: Sequence[ECG], **skip: Unpack[Skip]) -> Outcome:
        """Return the quantity in place of probabilities."""
        return Outcome(*self._computed(ecgs, **skip))

    def predict(
        self, x: Signals, *, sampling_rate: Rate = None, age: Age = None, sex: Sex = None, **skip: Unpack[Skip]
    ) -> NDArray[np.float32]:
        """Return the quantity in its unit, shape (records,); parameters and errors are those of `Predictor`."""
        return self._computed(self._ecgs(x, sampling_rate, age, sex), **skip)[0][:, 0]

    def __call__(
        self, x: Signals, *, sampling_rate: Rate = None, age: Age = None, sex: Sex = None, **skip: Unpack[Skip]
    ) -> pd.DataFrame:
        """Predict a table with ``record_id`` and ``predicted_NAME`` in its unit."""
        import pandas as pd

        ecgs = self._ecgs(x, sampling_rate, age, sex)
        ids = [ecg.record_id for ecg in ecgs]
        return pd.DataFrame({"record_id": ids, f"predicted_{self.classes[0]}": self.predict(ecgs, **skip)})


def as_ecgs(signals: ArrayLike, sampling_rate: float, age: Age, sex: Sex) -> list[ECG]:
    """Turn arrays into ECGs.

    Parameters
    ----------
    signals : array-like of float, shape (records, 12, samples)
        In mV.
    sampling_rate : float
        In Hz.
    age : array-like of float, optional
        One per record, NaN where unknown, or one number for all.
    sex : str or sequence of str or None, optional
        One per record, None where unknown, or one word for all.

    Returns
    -------
    list of ECG
        With their positions as ``record_id``.

    Raises
    ------
    EcgkitError
        If a shape, a type or a value does not fit.
    """
    values = check_signals(signals)
    n_records = len(values)
    try:
        ages = np.broadcast_to(np.asarray(np.nan if age is None else age, np.float64), (n_records,)).tolist()
    except (TypeError, ValueError) as error:
        raise EcgkitError(f"age is {age!r} for {n_records} records: give one number of years for each") from error
    sexes = [sex] * n_records if sex is None or isinstance(sex, str) else list(sex)
    if len(sexes) != n_records:
        raise EcgkitError(f"sex has {len(sexes)} values for {n_records} records: give one for each")
    return [
        ECG(
            signal,
            sampling_rate,
            str(i),
            age=None if math.isnan(ages[i]) else ages[i],
            sex=None if str(sexes[i]) in UNKNOWN else sexes[i],
        )
        for i, signal in enumerate(values)
    ]


def check_signals(signals: ArrayLike) -> NDArray[np.floating]:
    """Check that an array can be signals, and return it; units are checked for each record by `signals.quality`.

    Raises
    ------
    EcgkitError
        If the shape is not ``(records, 12, samples)``, there is no record, or the values are not floats.
    """
    values = as_numbers(signals)
    if (values.ndim == 3 and not values.size) or values.shape == (0,):
        raise EcgkitError(f"signals have the shape {values.shape}: give at least one record with samples")
    if values.ndim != 3 or values.shape[1] != len(LEADS):
        way_out = "give one record as signal[None]" if values.ndim == 2 else "reorder the axes"
        raise EcgkitError(f"signals have the shape {values.shape}, not (records, 12, samples): {way_out}")
    if values.dtype.kind != "f":
        raise EcgkitError(f"signals are of type {values.dtype}: give floating-point numbers in mV")
    return values
