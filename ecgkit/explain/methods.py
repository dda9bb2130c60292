"""The methods of attribution, over captum where it has them: a prepared signal in, the relevance of each sample out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, require
from ecgkit.signals.segments import SEGMENTS, wave_segments

if TYPE_CHECKING:
    from torch import Tensor

    from ecgkit.models.base import ECGModel

Floats = NDArray[np.float32]

STEPS, SHAP_STEPS = 64, 16
"""Steps of Integrated Gradients from the flat line, and from each ECG of the background set."""

AT_ONCE = 32
"""Signals that the network reads at once."""

WINDOW, STRIDE = 0.2, 0.1
"""Seconds of the windows that ``"occlusion_time"`` replaces, and from one to the next."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is explained.

    Attributes
    ----------
    model : ECGModel
        The network.
    signal : ndarray of float32, shape (12, samples)
        Standardised.
    metadata : ndarray of float32, shape (1, columns), or None
        Of a model that takes age and sex.
    targets : list of int
        The outputs to explain.
    flat : ndarray of float32, shape (12,)
        A flat line at 0 mV, standardised.
    std : ndarray of float32, shape (12,)
        Standard deviation of each lead in mV.
    sampling_rate : int
        In Hz.
    background : ndarray of float32, shape (ecgs, 12, samples), or None
        Standardised.
    """

    model: ECGModel
    signal: Floats
    metadata: Floats | None
    targets: list[int]
    flat: Floats
    std: Floats
    sampling_rate: int
    background: Floats | None = None

    @property
    def device(self) -> Any:
        """The device of the network."""
        return next(self.model.parameters()).device

    def tensor(self, values: NDArray[np.floating] | None = None) -> Tensor:
        """Return signals, by default the one to explain, as a batch on the network's device."""
        import torch

        chosen = self.signal[None] if values is None else values
        return torch.from_numpy(np.ascontiguousarray(chosen, np.float32)).to(self.device)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the logits of a batch of signals with the metadata of the one ECG."""
        import torch

        if self.metadata is None:
            return self.model(signal)
        columns = torch.from_numpy(self.metadata).to(self.device)
        return self.model(signal, columns.expand(len(signal), -1))

    def logits(self, signals: NDArray[np.floating]) -> Floats:
        """Return the logits to explain of signals, shape (signals, targets), a batch at a time."""
        import torch

        with torch.no_grad():
            batches = [self.forward(self.tensor(signals[i : i + AT_ONCE])) for i in range(0, len(signals), AT_ONCE)]
            return torch.cat(batches)[:, self.targets].float().cpu().numpy()


Result = tuple[Floats, Floats]
"""Relevance ``(classes, 12, samples)``, and the change of each logit from the reference or NaN."""


@dataclass(frozen=True)
class Method:
    """A method of attribution.

    Attributes
    ----------
    text : str
        What it does, in one line.
    unit : str
        Of the relevance; ``{}`` stands for logits, or for the unit of a quantity.
    run : callable
        The computation.
    is_per_lead : bool
        Whether leads differ; otherwise the relevance of a moment is spread over all leads.
    """

    text: str
    unit: str
    run: Callable[[Inputs], Result]
    is_per_lead: bool = True

    def unit_of(self, output: str) -> str:
        """Return the unit for an output."""
        return self.unit.format(output)


def relevance_of(method: str, inputs: Inputs) -> Result:
    """Compute the relevance by a method of `METHODS`."""
    import torch

    require("captum", "explain")
    inputs.model.eval()
    # cuDNN has no backward pass of recurrent layers outside of training.
    with torch.backends.cudnn.flags(enabled=False), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # captum tells that it sets gradients and hooks
        relevance, change = METHODS[method].run(inputs)
    return relevance.astype(np.float32), change.astype(np.float32)


def _by_target(inputs: Inputs, attribute: Callable[[int], Tensor]) -> Floats:
    """Stack what captum returns for each target, without the axis of the batch."""
    return np.stack([attribute(target).detach().float().cpu().numpy()[0] for target in inputs.targets])


def _no_reference(inputs: Inputs) -> Floats:
    return np.full(len(inputs.targets), np.nan, np.float32)


def _saliency(inputs: Inputs) -> Result:
    """Gradient of the logit; Simonyan et al., 2014, arXiv:1312.6034."""
    from captum.attr import Saliency

    method, signal = Saliency(inputs.forward), inputs.tensor().requires_grad_()
    gradient = _by_target(inputs, lambda target: method.attribute(signal, target=target, abs=False))
    return gradient / inputs.std[:, None], _no_reference(inputs)


def _input_x_gradient(inputs: Inputs) -> Result:
    """Signal times gradient, measured from the flat line; Shrikumar et al., 2017, arXiv:1605.01713."""
    from captum.attr import Saliency

    method, signal = Saliency(inputs.forward), inputs.tensor().requires_grad_()
    gradient = _by_target(inputs, lambda target: method.attribute(signal, target=target, abs=False))
    return gradient * (inputs.signal - inputs.flat[:, None]), _no_reference(inputs)


def _integrated(inputs: Inputs, baseline: Floats, steps: int) -> Floats:
    """Integrate the gradients from a baseline to the signal."""
    from captum.attr import IntegratedGradients

    method, signal, start = IntegratedGradients(inputs.forward), inputs.tensor(), inputs.tensor(baseline[None])
    keywords: dict[str, Any] = {"baselines": start, "n_steps": steps, "internal_batch_size": AT_ONCE}
    return _by_target(inputs, lambda target: method.attribute(signal, target=target, **keywords))


def _integrated_gradients(inputs: Inputs) -> Result:
    """Gradients along the line from a flat line; Sundararajan et al., 2017, arXiv:1703.01365."""
    flat = np.repeat(inputs.flat[:, None], inputs.signal.shape[1], axis=1)
    here, there = inputs.logits(np.stack([inputs.signal, flat]))
    return _integrated(inputs, flat, STEPS), here - there


def _gradient_shap(inputs: Inputs) -> Result:
    """Mean of Integrated Gradients from each ECG of the background; Erion et al., 2021, arXiv:1906.10670.

    The expectation is computed by quadrature, so that equal inputs give equal results.
    """
    if inputs.background is None or not len(inputs.background):
        raise EcgkitError("gradient_shap needs a background of at least one ECG")
    total = np.mean([_integrated(inputs, start, SHAP_STEPS) for start in inputs.background], axis=0)
    change = inputs.logits(inputs.signal[None])[0] - inputs.logits(inputs.background).mean(axis=0)
    return total, change


def _over_time(inputs: Inputs, maps: Floats) -> Floats:
    """Spread maps of a layer, (targets, windows, frames), over the samples and leads so that their sums remain."""
    import torch

    from ecgkit.models.base import window_starts

    n_samples = inputs.signal.shape[1]
    length = min(n_samples, inputs.model.n_samples)
    starts = window_starts(n_samples, length) if maps.shape[1] > 1 else [0]
    fine = torch.nn.functional.interpolate(torch.from_numpy(maps), size=length, mode="linear").numpy()
    fine *= maps.shape[2] / length
    result = np.zeros((len(maps), n_samples), np.float32)
    for window, start in enumerate(starts):
        result[:, start : start + length] += fine[:, window]
    n_leads = inputs.signal.shape[0]
    return np.repeat(result[:, None] / n_leads, n_leads, axis=1)


def _grad_cam(inputs: Inputs) -> Result:
    """Feature map times mean gradient, signed, of the layer the model names; Selvaraju et al., arXiv:1610.02391."""
    from captum.attr import LayerGradCam

    layer = inputs.model.get_submodule(inputs.model.gradcam_layer)
    method, signal = LayerGradCam(inputs.forward, layer), inputs.tensor().requires_grad_()
    maps = [method.attribute(signal, target=target).detach().float().cpu().numpy()[:, 0] for target in inputs.targets]
    return _over_time(inputs, np.stack(maps)), _no_reference(inputs)


def _guided_grad_cam(inputs: Inputs) -> Result:
    """Grad-CAM, as a share of its largest value, times the guided gradient; Springenberg et al., arXiv:1412.6806."""
    from captum.attr import GuidedBackprop

    cam, nothing = _grad_cam(inputs)
    with _without_inplace(inputs.model):
        method, signal = GuidedBackprop(inputs.model), inputs.tensor().requires_grad_()
        extra = () if inputs.metadata is None else (inputs.tensor(inputs.metadata),)
        guided = _by_target(
            inputs, lambda target: method.attribute(signal, target=target, additional_forward_args=extra or None)
        )
    largest = np.abs(cam).max(axis=(1, 2), keepdims=True)
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


def _attention(inputs: Inputs) -> Result:
    """Read the weights with which the model pools over time, the same for all classes; their sum is 1."""
    import torch

    pooling: Any = getattr(inputs.model, "pooling", None)
    if not hasattr(pooling, "weights"):
        raise EcgkitError(f"{type(inputs.model).__name__} has no attention weights: choose another method")
    seen: list[Any] = []
    handle = pooling.register_forward_hook(lambda module, arguments, _: seen.append(module.weights(*arguments)))
    try:
        with torch.no_grad():
            inputs.forward(inputs.tensor())
    finally:
        handle.remove()
    weights = seen[0].mean(dim=1).cpu().numpy() / len(seen[0])
    return np.repeat(_over_time(inputs, weights[None]), len(inputs.targets), axis=0), _no_reference(inputs)


def _occluded(inputs: Inputs, pieces: list[tuple[NDArray[np.intp], NDArray[np.bool_]]]) -> Floats:
    """Return the mean relevance of each sample over the pieces that it is part of.

    A piece is some leads and a mask of samples. Its relevance is the logit that is lost when a straight line replaces
    each stretch of it, spread over its samples.
    """
    total = np.zeros((len(inputs.targets), *inputs.signal.shape), np.float32)
    count = np.zeros(inputs.signal.shape, np.float32)
    before = inputs.logits(inputs.signal[None])[0]
    for first in range(0, len(pieces), AT_ONCE):
        some = pieces[first : first + AT_ONCE]
        after = inputs.logits(np.stack([_bridge(inputs, *piece) for piece in some]))
        for (leads, mask), logits in zip(some, after, strict=True):
            place = leads[:, None], np.flatnonzero(mask)
            total[(slice(None), *place)] += ((before - logits) / (len(leads) * mask.sum()))[:, None, None]
            count[place] += 1
    relevance: Floats = (total / np.maximum(count, 1)).astype(np.float32)
    return relevance


def _bridge(inputs: Inputs, leads: NDArray[np.intp], mask: NDArray[np.bool_]) -> Floats:
    """Replace the masked samples of some leads by straight lines; a lead that is masked throughout becomes flat."""
    result = inputs.signal.copy()
    if mask.all():
        result[leads] = inputs.flat[leads, None]
        return result
    there, kept = np.flatnonzero(mask), np.flatnonzero(~mask)
    for lead in leads.tolist():
        result[lead, there] = np.interp(there, kept, result[lead, kept])
    return result


def _occlusion_time(inputs: Inputs) -> Result:
    """Replace 200 ms of all leads, every 100 ms."""
    n_leads, n_samples = inputs.signal.shape
    length, stride = (max(1, round(seconds * inputs.sampling_rate)) for seconds in (WINDOW, STRIDE))
    places, leads = np.arange(n_samples), np.arange(n_leads)
    starts = range(0, n_samples, stride)
    pieces = [(leads, (places >= start) & (places < start + length)) for start in starts]
    return _occluded(inputs, pieces), _no_reference(inputs)


def _occlusion_leads(inputs: Inputs) -> Result:
    """Replace one lead by a flat line."""
    n_leads, n_samples = inputs.signal.shape
    everything = np.ones(n_samples, bool)
    return _occluded(inputs, [(np.array([lead]), everything) for lead in range(n_leads)]), _no_reference(inputs)


def _occlusion_segments(inputs: Inputs) -> Result:
    """Replace P, QRS, ST or T of one lead, in all beats."""
    millivolts = (inputs.signal - inputs.flat[:, None]) * inputs.std[:, None]
    segments = wave_segments(millivolts, sampling_rate=inputs.sampling_rate)
    masks = [segments == number for number in range(len(SEGMENTS))]
    leads = range(inputs.signal.shape[0])
    pieces = [(np.array([lead]), mask) for lead in leads for mask in masks if mask.any()]
    return _occluded(inputs, pieces), _no_reference(inputs)


METHODS: dict[str, Method] = {
    "saliency": Method("gradient of the logit", "{} per mV", _saliency),
    "input_x_gradient": Method("signal times gradient", "{}", _input_x_gradient),
    "integrated_gradients": Method("gradients from a flat line to the ECG", "{}", _integrated_gradients),
    "gradient_shap": Method("gradients from the ECGs of a background set", "{}", _gradient_shap),
    "grad_cam": Method("feature map times its mean gradient", "{}", _grad_cam, is_per_lead=False),
    "guided_grad_cam": Method("Grad-CAM times the guided gradient", "{} per mV", _guided_grad_cam),
    "attention": Method("weights of the attention over time", "share of the attention", _attention, is_per_lead=False),
    "occlusion_time": Method("200 ms of all leads replaced by a line", "{}", _occlusion_time, is_per_lead=False),
    "occlusion_leads": Method("one lead replaced by a flat line", "{}", _occlusion_leads),
    "occlusion_segments": Method("P, QRS, ST or T of a lead replaced by a line", "{}", _occlusion_segments),
}
"""The methods by name."""
