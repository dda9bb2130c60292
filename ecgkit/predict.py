"""From ECGs to probabilities, with a session's own filters, calibration and thresholds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ecgkit import metrics, paths, sessions
from ecgkit._chunks import repair
from ecgkit.ecg import ECG
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.calibration import apply_calibration
from ecgkit.evaluation.ensembles import apply_ensemble, is_ensemble
from ecgkit.filters import Filters, resample, standardize
from ecgkit.sessions import Session
from ecgkit.training.inference import TrainedSession, open_trained

BATCH = 256


class Predictor(ABC):
    """A finished session, ready for ECGs from anywhere.

    Attributes
    ----------
    session : Session
        The session.
    classes : tuple of str
        What it tells apart.
    """

    def __init__(self, session: Session, classes: Sequence[str]) -> None:
        self.session, self.classes = session, tuple(classes)
        self._thresholds = metrics.class_thresholds(session.read_json("thresholds.json"), self.classes)
        self._calibration = session.read_json("calibration.json")

    @abstractmethod
    def probabilities(self, ecgs: Sequence[ECG], records: pd.DataFrame | None = None) -> NDArray[np.float32]:
        """Give the probability of each class as the network gives it.

        Parameters
        ----------
        ecgs : sequence of ECG
            The ECGs, each as long as those that the model was trained on; another sampling rate is converted, gaps are
            filled as in a processed dataset.
        records : DataFrame, optional
            Columns ``age`` (years) and ``sex`` (words), one row an ECG, for a model that takes them.

        Returns
        -------
        ndarray of float32, shape (ecgs, classes)

        Raises
        ------
        EcgkitError
            If there is no ECG, one has another length, or the model needs age and sex and they are not given.
        """

    def __call__(self, ecgs: Sequence[ECG], records: pd.DataFrame | None = None) -> pd.DataFrame:
        """Predict ECGs; the arguments are those of `probabilities`.

        Returns
        -------
        DataFrame
            One row an ECG: ``record_id``, and for each class ``prob_CLASS`` as the network gives it,
            ``calibrated_CLASS``, and ``predicted_CLASS``, whether the probability reaches the threshold from fold 9.
        """
        prob = self.probabilities(ecgs, records)
        calibrated = apply_calibration(prob, self._calibration, self.classes)
        columns: dict[str, Any] = {"record_id": [ecg.record_id for ecg in ecgs]}
        for i, name in enumerate(self.classes):
            columns[f"prob_{name}"] = prob[:, i]
            columns[f"calibrated_{name}"] = calibrated[:, i]
            columns[f"predicted_{name}"] = prob[:, i].astype(np.float64) >= self._thresholds[i]
        return pd.DataFrame(columns)


class _Single(Predictor):
    """A session with a network of its own."""

    def __init__(self, opened: TrainedSession) -> None:
        super().__init__(opened.session, opened.trained.classes)
        self._trained = opened.trained
        self._filters = Filters.from_dict(opened.dataset.manifest["filters"])
        self._rate, self._length = opened.dataset.sampling_rate, opened.dataset.n_samples

    def probabilities(self, ecgs: Sequence[ECG], records: pd.DataFrame | None = None) -> NDArray[np.float32]:
        """Give the probability of each class; see `Predictor.probabilities`."""
        if not ecgs:
            raise EcgkitError("there is no ECG to predict: give at least one")
        metadata = self._metadata(ecgs, records)
        model = self._trained.model.eval()
        parts = []
        for first in range(0, len(ecgs), BATCH):
            signal = np.stack([self._prepare(ecg) for ecg in ecgs[first : first + BATCH]])
            batch = None if metadata is None else torch.from_numpy(metadata[first : first + BATCH])
            with torch.inference_mode():
                parts.append(model(torch.from_numpy(signal), batch).sigmoid().numpy())
        return np.concatenate(parts)

    def _metadata(self, ecgs: Sequence[ECG], records: pd.DataFrame | None) -> NDArray[np.float32] | None:
        if self._trained.scaler is None:
            return None
        if records is None or not {"age", "sex"} <= set(records) or len(records) != len(ecgs):
            raise EcgkitError(f"the model of {self.session.name} takes age and sex: give a row with both for each ECG")
        return self._trained.scaler(records)

    def _prepare(self, ecg: ECG) -> NDArray[np.float32]:
        """Make of an ECG what the model was trained on: rate, gaps, filters, standardisation."""
        signal = repair(ecg.signal)
        if ecg.sampling_rate != self._rate:
            signal = resample(signal, sampling_rate=ecg.sampling_rate, target_rate=self._rate)
        if signal.shape[1] != self._length:
            raise EcgkitError(
                f"ECG {ecg.record_id} is {ecg.duration:g} s long and the model of {self.session.name} takes "
                f"{self._length / self._rate:g} s: cut it or give another"
            )
        filtered = self._filters.apply(signal, sampling_rate=self._rate)
        # Rounded to microvolts, as a processed dataset holds them.
        millivolts = np.round(filtered * 1000).astype(np.float32) / np.float32(1000)
        return standardize(millivolts, self._trained.mean, self._trained.std)


class _Ensemble(Predictor):
    """A session that is put together from others."""

    def __init__(self, session: Session, members: Mapping[str, Predictor]) -> None:
        self._description = session.read_json("ensemble.json")
        super().__init__(session, self._description["classes"])
        self._members = members

    def probabilities(self, ecgs: Sequence[ECG], records: pd.DataFrame | None = None) -> NDArray[np.float32]:
        """Give the probability of each class; see `Predictor.probabilities`."""
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
        return _Single(open_trained(session, root))
    return _Ensemble(session, {member: open_predictor(member, root) for member in session.config["members"]})
