"""The methods of attribution, over captum where it has them: a prepared signal in, the relevance of each sample out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError
from ecgkit.signals.segments import SEGMENTS, wave_segments

if TYPE_CHECKING:
    from torch import Tensor

    from ecgkit.models.base import ECGModel

Floats = NDArray[np.float32]

STEPS, SHAP_STEPS = 64, 8
"""Steps of Integrated Gradients from the flat line, and from each ECG of the background set."""

AT_ONCE = 64
"""Windows that the network reads at once, so that memory does not grow with the number of ECGs or steps."""

WINDOW, STRIDE = 0.2, 0.1
"""Seconds of the windows that ``"occlusion_time"`` replaces, and from one to the next."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is explained.

    Attributes
    ----------
    model : ECGModel
        The network.
    signals : ndarray of float32, shape (ecgs, 12, samples)
        Standardised.
    metadata : ndarray of float32, shape (ecgs, columns), or None
        Of a model that takes age and sex.
    targets : ndarray of int, shape (ecgs, targets)
        The outputs to explain.
    flat : ndarray of float32, shape (12,)
        A flat line at 0 mV, standardised.
    std : ndarray of float32, shape (12,)
        Standard deviation of each lead in mV.
    sampling_rate : int
        In Hz.
    background : ndarray of float32, shape (ecgs of the background, 12, samples), or None
        Standardised.
    """

    model: ECGModel
    signals: Floats
    metadata: Floats | None
    targets: NDArray[np.intp]
    flat: Floats
    std: Floats
    sampling_rate: int
    background: Floats | None = None

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> Inputs:
        """Return some of the ECGs."""
        metadata = None if self.metadata is None else self.metadata[rows]
        return replace(self, signals=self.signals[rows], metadata=metadata, targets=self.targets[rows])

    @property
    def millivolts(self) -> Floats:
        """The signals in mV, shape (ecgs, 12, samples)."""
        return (self.signals - self.flat[:, None]) * self.std[:, None]

    @property
    def at_once(self) -> int:
        """Signals that the network reads at once."""
        from ecgkit.models.base import window_starts

        n_samples = self.signals.shape[2]
        return max(1, AT_ONCE // len(window_starts(n_samples, min(n_samples, self.model.n_samples))))

    def tensor(self, values: NDArray[Any]) -> Tensor:
        """Return an array on the network's device."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(values)).to(next(self.model.parameters()).device)

    def columns(self) -> Tensor | None:
        """Return the metadata on the network's device, as captum passes it on."""
        return None if self.metadata is None else self.tensor(self.metadata)

    def logits(self, signals: NDArray[np.floating], owners: NDArray[np.intp] | None = None) -> Floats:
        """Return the logits to explain, (signals, targets), of signals that belong to ECGs, by default in turn."""
        import torch

        rows = np.arange(len(signals)) if owners is None else owners
        found = np.empty((len(signals), self.targets.shape[1]), np.float32)
        for some in (slice(first, first + self.at_once) for first in range(0, len(signals), self.at_once)):
            metadata = None if self.metadata is None else self.tensor(self.metadata[rows[some]])
            with torch.no_grad():
                output = self.model(self.tensor(signals[some].astype(np.float32)), metadata).float().cpu().numpy()
            found[some] = np.take_along_axis(output, self.targets[rows[some]], axis=1)
        return found


Result = tuple[Floats, Floats]
"""Relevance ``(ecgs, targets, 12, samples)``, and the change of each logit from the reference or NaN."""


@dataclass(frozen=True)
class Method:
    """A method of attribution.

    Attributes
    ----------
    unit : str
        Of the relevance; ``{}`` stands for logits, or for the unit of a quantity.
    run : callable
        The computation.
    """

    unit: str
    run: Callable[[Inputs], Result]


def relevance_of(method: str, inputs: Inputs) -> Result:
    """Compute the relevance of ECGs by a method of `METHODS`, some of them at once."""
    import torch

    inputs.model.eval()
    # cuDNN has no backward pass of recurrent layers outside of training.
    with torch.backends.cudnn.flags(enabled=False), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # captum tells that it sets gradients and hooks
        step = inputs.at_once
        parts = [METHODS[method].run(inputs[first : first + step]) for first in range(0, len(inputs), step)]
    relevance, change = (np.concatenate(part).astype(np.float32) for part in zip(*parts, strict=True))
    return relevance, change


def _by_target(inputs: Inputs, attribute: Callable[..., Tensor]) -> Floats:
    """Stack what captum returns for each target, shape (ecgs, targets, ...)."""
    columns = inputs.columns()
    found = [
        attribute(target=inputs.tensor(target), additional_forward_args=columns).detach().float().cpu().numpy()
        for target in inputs.targets.T
    ]
    return np.stack(found, axis=1)


def _no_reference(inputs: Inputs) -> Floats:
    return np.full(inputs.targets.shape, np.nan, np.float32)


def _gradient(inputs: Inputs) -> Floats:
    """Return the gradient of each logit."""
    from captum.attr import Saliency

    signals = inputs.tensor(inputs.signals).requires_grad_()
    return _by_target(inputs, partial(Saliency(inputs.model).attribute, signals, abs=False))


def _saliency(inputs: Inputs) -> Result:
    """Gradient of the logit; Simonyan et al., 2014, arXiv:1312.6034."""
    return _gradient(inputs) / inputs.std[:, None], _no_reference(inputs)


def _input_x_gradient(inputs: Inputs) -> Result:
    """Signal times gradient, measured from the flat line; Shrikumar et al., 2017, arXiv:1605.01713."""
    return _gradient(inputs) * (inputs.signals - inputs.flat[:, None])[:, None], _no_reference(inputs)


def _integrated(inputs: Inputs, baselines: Floats, steps: int) -> Floats:
    """Integrate the gradients from one baseline per ECG to its signal."""
    from captum.attr import IntegratedGradients

    start = inputs.tensor(baselines.astype(np.float32))
    options: dict[str, Any] = {"baselines": start, "n_steps": steps, "internal_batch_size": inputs.at_once}
    attribute = IntegratedGradients(inputs.model).attribute
    return _by_target(inputs, partial(attribute, inputs.tensor(inputs.signals), **options))


def _integrated_gradients(inputs: Inputs) -> Result:
    """Gradients along the line from a flat line; Sundararajan et al., 2017, arXiv:1703.01365."""
    flat = np.broadcast_to(inputs.flat[:, None], inputs.signals.shape)
    return _integrated(inputs, flat, STEPS), inputs.logits(inputs.signals) - inputs.logits(flat)


def _gradient_shap(inputs: Inputs) -> Result:
    """Mean of Integrated Gradients from each ECG of the background; Erion et al., 2021, arXiv:1906.10670.

    The expectation is computed by quadrature, so that equal inputs give equal results.
    """
    if inputs.background is None or not len(inputs.background):
        raise EcgkitError("gradient_shap needs a background of at least one ECG")
    total, change = [], []
    for row in range(len(inputs)):
        copies = inputs[np.repeat(row, len(inputs.background))]
        total.append(_integrated(copies, inputs.background, SHAP_STEPS).mean(axis=0))
        change.append((copies.logits(copies.signals[:1]) - copies.logits(inputs.background)).mean(axis=0))
    return np.stack(total), np.stack(change)


def _over_time(inputs: Inputs, maps: Floats) -> Floats:
    """Spread maps of a layer, (ecgs, targets, windows, frames), over samples and leads so that their sums remain."""
    import torch

    from ecgkit.models.base import window_starts

    n_leads, n_samples = inputs.signals.shape[1:]
    length = min(n_samples, inputs.model.n_samples)
    starts = window_starts(n_samples, length) if maps.shape[2] > 1 else [0]
    flat = torch.from_numpy(maps.reshape(-1, *maps.shape[2:]))
    fine = torch.nn.functional.interpolate(flat, size=length, mode="linear").numpy()
    fine = fine.reshape(*maps.shape[:3], length) * (maps.shape[3] / length)
    result = np.zeros((*maps.shape[:2], n_samples), np.float32)
    for window, start in enumerate(starts):
        result[..., start : start + length] += fine[:, :, window]
    return np.repeat(result[:, :, None] / n_leads, n_leads, axis=2)


def _grad_cam(inputs: Inputs) -> Result:
    """Feature map times mean gradient, signed, of the layer the model names; Selvaraju et al., arXiv:1610.02391."""
    from captum.attr import LayerGradCam

    method = LayerGradCam(inputs.model, inputs.model.get_submodule(inputs.model.gradcam_layer))
    maps = _by_target(inputs, partial(method.attribute, inputs.tensor(inputs.signals).requires_grad_()))
    windows = maps.reshape(len(inputs), -1, *maps.shape[1:2], maps.shape[-1])
    return _over_time(inputs, np.swapaxes(windows, 1, 2)), _no_reference(inputs)


def _guided_grad_cam(inputs: Inputs) -> Result:
    """Grad-CAM, as a share of its largest value, times the guided gradient; Springenberg et al., arXiv:1412.6806."""
    from captum.attr import GuidedBackprop

    cam, nothing = _grad_cam(inputs)
    with _without_inplace(inputs.model):
        attribute = GuidedBackprop(inputs.model).attribute
        guided = _by_target(inputs, partial(attribute, inputs.tensor(inputs.signals).requires_grad_()))
    largest = np.abs(cam).max(axis=(2, 3), keepdims=True)
    return guided / inputs.std[:, None] * cam.clip(0) / np.where(largest > 0, largest, 1), nothing


@contextmanager
def _without_inplace(model: ECGModel) -> Iterator[None]:
    """Let activations return new tensors, which hooks on the backward pass need."""
    changed = [module for module in model.modules() if getattr(module, "inplace", False)]
    try:
        for module in changed:
            module.inplace = False  # type: ignore[assignment]
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]


def attention_of(model: ECGModel) -> Any:
    """Return the pooling with attention weights of a model, or raise an error if it has none."""
    pooling: Any = getattr(model, "pooling", None)
    if not hasattr(pooling, "weights"):
        raise EcgkitError(f"{type(model).__name__} has no attention weights: choose another method")
    return pooling


def _attention(inputs: Inputs) -> Result:
    """Read the weights with which the model pools over time, the same for all classes; their sum is 1."""
    pooling = attention_of(inputs.model)
    seen: list[Any] = []
    handle = pooling.register_forward_hook(lambda module, arguments, _: seen.append(module.weights(*arguments)))
    try:
        inputs.logits(inputs.signals)
    finally:
        handle.remove()
    weights = seen[0].mean(dim=1).detach().cpu().numpy()
    windows = weights.reshape(len(inputs), 1, -1, weights.shape[-1])
    found = _over_time(inputs, windows / windows.shape[2])
    return np.repeat(found, inputs.targets.shape[1], axis=1), _no_reference(inputs)


Piece = tuple[NDArray[np.intp], NDArray[np.bool_]]
"""Some leads, and a mask of samples."""


def _occluded(inputs: Inputs, pieces_of: Callable[[Floats], list[Piece]]) -> Result:
    """Return the mean relevance of each sample over the pieces of its ECG that it is part of.

    The relevance of a piece is the logit that is lost when a straight line replaces each stretch of it, spread over
    its samples. ``pieces_of`` cuts a signal in mV into pieces.
    """
    shape = inputs.signals.shape[1:]
    total = np.zeros((*inputs.targets.shape, *shape), np.float32)
    for row, (of_ecg, signal, millivolts) in enumerate(zip(total, inputs.signals, inputs.millivolts, strict=True)):
        count, pieces = np.zeros(shape, np.float32), pieces_of(millivolts)
        signals = np.array([signal, *(_bridge(inputs, signal, *piece) for piece in pieces)])
        before, *after = inputs.logits(signals, np.full(len(signals), row))
        for (leads, mask), logits in zip(pieces, after, strict=True):
            place = leads[:, None], np.flatnonzero(mask)
            of_ecg[(slice(None), *place)] += ((before - logits) / (len(leads) * mask.sum()))[:, None, None]
            count[place] += 1
        total[row] /= np.maximum(count, 1)
    return total, _no_reference(inputs)


def _bridge(inputs: Inputs, signal: Floats, leads: NDArray[np.intp], mask: NDArray[np.bool_]) -> Floats:
    """Replace the masked samples of some leads by straight lines; a lead that is masked throughout becomes flat."""
    result = signal.copy()
    if mask.all():
        result[leads] = inputs.flat[leads, None]
        return result
    there, kept = np.flatnonzero(mask), np.flatnonzero(~mask)
    for lead in leads.tolist():
        result[lead, there] = np.interp(there, kept, result[lead, kept])
    return result


def _occlusion_time(inputs: Inputs) -> Result:
    """Replace 200 ms of all leads, every 100 ms."""
    n_leads, n_samples = inputs.signals.shape[1:]
    length, stride = (max(1, round(seconds * inputs.sampling_rate)) for seconds in (WINDOW, STRIDE))
    places, leads = np.arange(n_samples), np.arange(n_leads)
    pieces = [(leads, (places >= start) & (places < start + length)) for start in range(0, n_samples, stride)]
    return _occluded(inputs, lambda _: pieces)


def _occlusion_leads(inputs: Inputs) -> Result:
    """Replace one lead by a flat line."""
    n_leads, n_samples = inputs.signals.shape[1:]
    everything = np.ones(n_samples, bool)
    return _occluded(inputs, lambda _: [(np.array([lead]), everything) for lead in range(n_leads)])


def _occlusion_segments(inputs: Inputs) -> Result:
    """Replace P, QRS, ST or T of one lead, in all beats."""

    def pieces_of(millivolts: Floats) -> list[Piece]:
        segments = wave_segments(millivolts, sampling_rate=inputs.sampling_rate)
        masks = [segments == number for number in range(len(SEGMENTS))]
        return [(np.array([lead]), mask) for lead in range(len(millivolts)) for mask in masks if mask.any()]

    return _occluded(inputs, pieces_of)


METHODS: dict[str, Method] = {
    "saliency": Method("{} per mV", _saliency),
    "input_x_gradient": Method("{}", _input_x_gradient),
    "integrated_gradients": Method("{}", _integrated_gradients),
    "gradient_shap": Method("{}", _gradient_shap),
    "grad_cam": Method("{}", _grad_cam),
    "guided_grad_cam": Method("{} per mV", _guided_grad_cam),
    "attention": Method("share of the attention", _attention),
    "occlusion_time": Method("{}", _occlusion_time),
    "occlusion_leads": Method("{}", _occlusion_leads),
    "occlusion_segments": Method("{}", _occlusion_segments),
}
"""The methods by name."""
