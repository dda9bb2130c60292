"""Outputs of the layers of a network for records, summarised over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.weights import TrainedModel
from ecgkit.models import ECGModel
from ecgkit.models.xlstm_blocks import BidirectionalXLSTM
from ecgkit.training.inference import check_match, run_over_dataset

EMBEDDING = "embedding"
"""The name of what `ECGModel.embed` gives, the features that the head reads."""

STATISTICS = ("mean", "standard deviation", "maximum")
"""Statistics of each channel of a layer over time."""

WINDOWS = 32
"""Windows per batch: so few that a layer's output fits into the processor's cache."""

HEAD = ("metadata_branch", "hidden", "dropout", "head")
CONTAINERS = (nn.Sequential, nn.ModuleList, BidirectionalXLSTM)
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Linear)


def layer_names(model: ECGModel) -> tuple[str, ...]:
    """Name the layers of an encoder in their order, the embedding last.

    A convolution or a linear map is one layer with what normalises, activates and pools it: it is read behind all of
    these. A residual block, an LSTM and an xLSTM block are one layer each.

    Parameters
    ----------
    model : ECGModel
        The network.

    Returns
    -------
    tuple of str
        Names of submodules, as ``model.named_modules()`` has them, then ``"embedding"``.
    """
    encoder = [(name, child) for name, child in model.named_children() if name not in HEAD]
    # The last part of every encoder, its pooling or its dense layer, computes the embedding itself.
    names = [layer for name, child in encoder[:-1] for layer in _layers_of(name, child)]
    return (*names, EMBEDDING)


def _layers_of(name: str, module: nn.Module) -> list[str]:
    """Name the layers inside one child of the encoder."""
    if not isinstance(module, CONTAINERS):
        # A module without weights (averaging, swapping axes, pooling) adds nothing to its input.
        return [name] if any(True for _ in module.parameters()) else []
    names: list[str] = []
    open_layer = False
    for key, child in module.named_children():
        path = f"{name}.{key}"
        if isinstance(child, CONTAINERS):
            names += _layers_of(path, child)
            open_layer = False
        elif isinstance(child, WEIGHTED) or not _is_elementary(child):
            names.append(path)
            open_layer = isinstance(child, WEIGHTED)
        elif open_layer:
            names[-1] = path
    return names


def _is_elementary(module: nn.Module) -> bool:
    """Return whether a module is a normalisation, activation, dropout or pooling, not a block of several layers."""
    return not any(True for _ in module.children()) and not isinstance(module, nn.RNNBase)


def check_layers(model: ECGModel, layers: Sequence[str]) -> None:
    """Check that a network has these layers.

    Parameters
    ----------
    model : ECGModel
        The network.
    layers : sequence of str
        Names of submodules, or ``"embedding"``.

    Raises
    ------
    EcgkitError
        If there is no submodule of this name.
    """
    modules = dict(model.named_modules())
    for layer in layers:
        if layer != EMBEDDING and (layer == "" or layer not in modules):
            known = ", ".join(layer_names(model))
            raise EcgkitError(f"the network has no layer {layer!r}: choose from {known}, or any other submodule's name")


def embed_layers(
    trained: TrainedModel,
    dataset: Dataset,
    positions: NDArray[np.int64],
    layers: Sequence[str] = (EMBEDDING,),
    *,
    progress: bool = False,
) -> dict[str, NDArray[np.float32]]:
    """Run records through the network once and summarise the outputs of several layers over time.

    Of each channel of a layer the mean, the standard deviation and the maximum over time are kept; a model that reads
    a record in windows takes the mean of each over the windows. After an image-like layer (height, width)
    they are taken over both axes. A layer without a time axis is kept as it is, and so is the embedding.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    dataset : Dataset
        Of the model's sampling rate and statistics.
    positions : ndarray of int64
        Which records.
    layers : sequence of str, default the embedding alone
        As of `layer_names`, or any other submodule's name.
    progress : bool, default False
        Whether to show progress on standard error.

    Returns
    -------
    dict of str to ndarray of float32, shape (records, features)
        By the name of the layer, in the order of ``layers``.

    Raises
    ------
    EcgkitError
        If model and dataset do not match, there is no layer of a name, or a layer's output is not a tensor that
        follows the records.
    """
    check_match(trained, dataset)
    check_layers(trained.model, layers)
    axes = _time_axes(trained.model, layers)
    widths: dict[str, int] = {}

    def call(signal: Tensor, _: Tensor | None) -> Tensor:
        with _outputs(trained.model, layers, axes) as outputs:
            outputs[EMBEDDING] = trained.model.embed(signal)
        parts = [outputs[layer].unflatten(0, (len(signal), -1)).mean(dim=1) for layer in layers]
        widths.update({layer: part.shape[1] for layer, part in zip(layers, parts, strict=True)})
        return torch.cat(parts, dim=1)

    together = run_over_dataset(trained, dataset, positions, call, windows=WINDOWS, progress=progress)
    ends = np.cumsum([widths[layer] for layer in layers])
    return dict(zip(layers, np.split(together, ends[:-1], axis=1), strict=True))


@contextmanager
def _outputs(
    model: ECGModel, layers: Sequence[str], axes: Mapping[str, int] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Collect what the layers give in the calls of the model within; with their time axes, summarised over time."""
    modules, outputs = dict(model.named_modules()), dict[str, Tensor]()

    def keep(layer: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            del module, inputs
            first = output[0] if isinstance(output, tuple) else output
            if not isinstance(first, Tensor):
                raise EcgkitError(f"the layer {layer!r} returns no tensor: choose another layer")
            # At once, since later layers may write into it in place.
            outputs[layer] = first.detach() if axes is None else _summarise(first.detach(), axes.get(layer))

        return modules[layer].register_forward_hook(hook)

    handles = [keep(layer) for layer in layers if layer != EMBEDDING]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _time_axes(model: ECGModel, layers: Sequence[str]) -> dict[str, int]:
    """Find the time axis of each three-dimensional output: the one that is shorter for half as long a signal."""
    device = next(model.parameters()).device
    shapes = []
    for n_samples in (model.n_samples, model.n_samples // 2):
        with torch.inference_mode(), _outputs(model.eval(), layers) as outputs:
            model.embed(torch.zeros(1, model.n_leads, n_samples, device=device))
        shapes.append({layer: output.shape for layer, output in outputs.items()})
    axes = {}
    for layer in layers:
        if layer == EMBEDDING:
            continue
        if layer not in shapes[0]:
            raise EcgkitError(f"the layer {layer!r} takes no part in the embedding: choose another layer")
        if len(shapes[0][layer]) == 3:
            changed = [i for i in (1, 2) if shapes[0][layer][i] != shapes[1][layer][i]]
            if len(changed) == 1:
                axes[layer] = changed[0]
    return axes


def _summarise(output: Tensor, time_axis: int | None) -> Tensor:
    """Return ``(windows, features)`` of a layer's output for some windows."""
    if output.ndim == 4:
        return _over_time(output.flatten(2))
    if time_axis is None:
        return output.flatten(1)
    return _over_time(output if time_axis == 2 else output.transpose(1, 2))


def _over_time(channels: Tensor) -> Tensor:
    """Return mean, standard deviation and maximum of each channel: ``(n, channels, time)`` to ``(n, 3 * channels)``."""
    mean = channels.mean(dim=-1)
    # Several times as fast on a CPU as torch.var_mean, and as exact: the mean is taken off first.
    deviation = torch.linalg.vector_norm(channels - mean[..., None], dim=-1) / channels.shape[-1] ** 0.5
    return torch.cat([mean, deviation, channels.amax(dim=-1)], dim=1)
