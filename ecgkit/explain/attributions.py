"""Which samples of an ECG speak for a class: one call for all methods, one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, check_choice, require
from ecgkit.explain.methods import METHODS, Inputs, attention_of, relevance_of
from ecgkit.inference.batches import Skip
from ecgkit.inference.loading import load_model
from ecgkit.inference.predictor import EnsemblePredictor, NetworkPredictor, Predictor, QuantityPredictor
from ecgkit.signals.ecg import ECG
from ecgkit.signals.segments import SEGMENTS, wave_segments

if TYPE_CHECKING:
    from ecgkit.inference.weights import TrainedModel

N_BACKGROUND = 16

MOST_SECONDS = 120
"""The longest ECG that is explained: the network keeps what it computes in all windows of one."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """The relevance of each sample of one ECG for some classes.

    Attributes
    ----------
    record_id, model, method : str
        What was explained, and by which of `METHODS`.
    unit : str
        Of the relevance, see `METHODS`. In ``"logits"`` the sum over any region is what the region contributes.
    classes : tuple of str
        The classes that are explained.
    relevance : ndarray of float32, shape (classes, 12, samples)
        Positive where a sample speaks for the class, negative where it speaks against it.
    signal : ndarray of float32, shape (12, samples)
        What the network read, before standardisation: resampled, filtered, without offset; in mV.
    sampling_rate : float
        Of both, in Hz.
    values : ndarray of float32, shape (classes,)
        Calibrated probabilities; of a model for a quantity, its value.
    change : ndarray of float32, shape (classes,)
        Logit of the ECG minus the logit of what it is compared with (flat line, background set); NaN for methods
        without such a reference.
    """

    record_id: str
    model: str
    method: str
    unit: str
    classes: tuple[str, ...]
    relevance: NDArray[np.float32]
    signal: NDArray[np.float32]
    sampling_rate: float
    values: NDArray[np.float32]
    change: NDArray[np.float32]

    def by_segment(self) -> NDArray[np.float32]:
        """Return the sums over P, QRS, ST, T and all else, shape (classes, 12, 5)."""
        segments = wave_segments(self.signal, sampling_rate=self.sampling_rate)
        members = [segments == number for number in (*range(len(SEGMENTS)), -1)]
        return np.stack([self.relevance[:, :, member].sum(axis=2) for member in members], axis=2)

    def of(self, name: str) -> NDArray[np.float32]:
        """Return the relevance for one class, shape (12, samples)."""
        return self.relevance[self.classes.index(check_choice("class", name, self.classes))]


def explain_ecg(
    model: str | int | Path | Predictor,
    ecg: ECG,
    *,
    method: str = "integrated_gradients",
    classes: Sequence[str] | None = None,
    background: Sequence[ECG] | None = None,
    **skip: Unpack[Skip],
) -> Explanation:
    """Explain what a model says about one ECG.

    Parameters
    ----------
    model : str, int, Path or Predictor
        What `ecgkit.load_model` takes or returns. Of an ensemble the members' relevances are added up with the weights
        of the ensemble.
    ecg : ECG
        As for a prediction; a longer one is read in windows, whose relevances are added up.
    method : str, default "integrated_gradients"
        One of `METHODS`.
    classes : sequence of str, optional
        The classes to explain; all by default.
    background : sequence of ECG, optional
        For ``"gradient_shap"``; `background_set` by default.
    **skip
        ``anyway`` and ``allow_missing_leads``, as for a prediction.

    Returns
    -------
    Explanation

    Raises
    ------
    EcgkitError
        If the model cannot be explained so, see `check_explainable`, the ECG is refused, or it has more than 120 s.
    """
    predictor = model if isinstance(model, Predictor) else load_model(model)
    check_explainable(predictor, method=method, classes=classes or ())
    if ecg.duration > MOST_SECONDS:
        raise EcgkitError(
            f"the ECG has {ecg.duration:g} s and at most {MOST_SECONDS} are explained at once: "
            "choose a part with start= and duration="
        )
    asked = _Asked(method, tuple(predictor.classes if classes is None else classes), background, skip)
    if isinstance(predictor, EnsemblePredictor):
        return _explain_ensemble(predictor, ecg, asked)
    assert isinstance(predictor, NetworkPredictor)  # noqa: S101 - it was checked
    return _explain_network(predictor, ecg, asked)


def check_explainable(predictor: Predictor, *, method: str, classes: Sequence[str] = ()) -> None:
    """Raise an error if a model cannot be explained by a method, or lacks a class, before any ECG is read.

    Raises
    ------
    EcgkitError
        If there is no such method or class, captum is not installed, the model, or a member of an ensemble, is an ONNX
        graph, or it has no attention weights where they are asked for.
    """
    check_choice("method", method, METHODS)
    for name in classes:
        check_choice("class", name, predictor.classes)
    members = predictor.members.values() if isinstance(predictor, EnsemblePredictor) else [predictor]
    for member in members:
        if not isinstance(member, NetworkPredictor):
            raise EcgkitError(
                f"{member.name} is an ONNX graph, which has no gradients and no layers to read: "
                "explain the model that was exported"
            )
        if method == "attention":
            attention_of(member.trained.model)
    require("captum", "explain")


def predicted_classes(predictor: Predictor, ecg: ECG, **skip: Unpack[Skip]) -> tuple[str, ...]:
    """Return the classes that a model predicts for an ECG; without one, the class nearest to its threshold."""
    if isinstance(predictor, QuantityPredictor):
        return predictor.classes
    probabilities = predictor.predict_proba([ecg], **skip)[0]
    decided = probabilities >= predictor.thresholds
    if not decided.any():
        decided[np.argmax(probabilities - predictor.thresholds)] = True
    return tuple(name for name, yes in zip(predictor.classes, decided, strict=True) if yes)


def background_set(sampling_rate: int) -> list[ECG]:
    """Return the default background of ``"gradient_shap"``: sixteen synthetic normal ECGs of 10 s, seeds 0 to 15."""
    from ecgkit.sources.demo.source import make_ecg

    generated = 500 if sampling_rate > 100 else 100
    return [make_ecg(["NORM"], sampling_rate=generated, seed=seed) for seed in range(N_BACKGROUND)]


class _Asked(NamedTuple):
    """What was asked for, checked."""

    method: str
    classes: tuple[str, ...]
    background: Sequence[ECG] | None
    skip: Skip


def network_inputs(
    trained: TrainedModel,
    ecgs: Sequence[ECG],
    classes: Sequence[Sequence[str]],
    *,
    background: Sequence[ECG] | None = None,
    **skip: Unpack[Skip],
) -> Inputs:
    """Prepare ECGs of one length for `relevance_of`.

    Parameters
    ----------
    trained : TrainedModel
        The network.
    ecgs : sequence of ECG
        As for a prediction.
    classes : sequence of sequence of str
        The classes to explain of each ECG, equally many.
    background : sequence of ECG, optional
        For ``"gradient_shap"``; repeated or cut to the length of the ECGs.
    **skip
        ``anyway`` and ``allow_missing_leads``, as for a prediction.

    Returns
    -------
    Inputs
    """
    signals = np.stack([trained.preparation(ecg, **skip) for ecg in ecgs])
    ages = [np.nan if ecg.age is None else ecg.age for ecg in ecgs]
    fitted = [_fit_length(trained.preparation(other), signals.shape[2]) for other in background or ()]
    return Inputs(
        model=trained.model,
        signals=signals,
        metadata=trained.scaler(ages, [ecg.sex for ecg in ecgs]) if trained.scaler else None,
        targets=np.array([[trained.classes.index(name) for name in names] for names in classes]),
        flat=-trained.mean / trained.std,
        std=trained.std,
        sampling_rate=trained.sampling_rate,
        background=np.stack(fitted) if fitted else None,
    )


def _explain_network(predictor: NetworkPredictor, ecg: ECG, asked: _Asked) -> Explanation:
    """Explain one network."""
    trained = predictor.trained
    method, classes, background, skip = asked
    if method == "gradient_shap" and background is None:
        background = background_set(trained.sampling_rate)
    inputs = network_inputs(trained, [ecg], [classes], background=background, **skip)
    (relevance,), (change,) = relevance_of(method, inputs)
    scale, output = (trained.target.std, trained.target.unit) if trained.target else (1.0, "logits")
    return Explanation(
        record_id=ecg.record_id,
        model=predictor.name,
        method=method,
        unit=METHODS[method].unit.format(output),
        classes=classes,
        relevance=(relevance * scale).astype(np.float32),
        signal=inputs.millivolts[0],
        sampling_rate=trained.sampling_rate,
        values=_values(predictor, ecg, classes, skip),
        change=(change * scale).astype(np.float32),
    )


def _explain_ensemble(predictor: EnsemblePredictor, ecg: ECG, asked: _Asked) -> Explanation:
    """Add up the explanations of the members with the weights of the ensemble."""
    method, classes, background, skip = asked
    each = {
        name: explain_ecg(member, ecg, method=method, classes=classes, background=background, **skip)
        for name, member in predictor.members.items()
    }
    shapes = {(found.sampling_rate, found.signal.shape[1]) for found in each.values()}
    if len(shapes) > 1:
        rates = ", ".join(f"{name} {found.sampling_rate:g} Hz" for name, found in each.items())
        raise EcgkitError(f"the members of {predictor.name} read different signals ({rates}): explain one of them")
    weights = {name: _weights(predictor.description, name, classes) for name in each}
    first = next(iter(each.values()))
    return replace(
        first,
        model=predictor.name,
        relevance=np.sum([weights[name][:, None, None] * found.relevance for name, found in each.items()], axis=0),
        change=np.sum([weights[name] * found.change for name, found in each.items()], axis=0),
        values=_values(predictor, ecg, classes, skip),
    )


def _weights(description: Any, member: str, classes: Sequence[str]) -> NDArray[np.float32]:
    """Return the weight of a member of an ensemble for each class."""
    if description["method"] == "stacking":
        weights = [description["coefficients"][name]["weights"][member] for name in classes]
    else:
        weights = [description["weights"][member]] * len(classes)
    return np.array(weights, np.float32)


def _values(predictor: Predictor, ecg: ECG, classes: Sequence[str], skip: Skip) -> NDArray[np.float32]:
    """Return the calibrated probability of each class, or the quantity."""
    if isinstance(predictor, QuantityPredictor):
        return predictor.predict([ecg], **skip)
    probabilities = predictor.predict_proba([ecg], **skip)[0]
    return probabilities[[predictor.classes.index(name) for name in classes]]


def _fit_length(signal: NDArray[np.float32], n_samples: int) -> NDArray[np.float32]:
    """Repeat or cut a signal to a length."""
    return np.resize(signal.T, (n_samples, signal.shape[0])).T
