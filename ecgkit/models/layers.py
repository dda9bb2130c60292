"""Layers that several architectures share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ecgkit.errors import EcgkitError

Network = TypeVar("Network", bound=nn.Module)


def check_heads(width: int, n_heads: int) -> None:
    """Refuse a number of heads that does not divide the channels."""
    if n_heads < 1 or width % n_heads:
        raise EcgkitError(f"n_heads is {n_heads}: give a divisor of the width, {width}")


def samples_per_frame(sampling_rate: int, frame_rate: float) -> int:
    """Return the number of samples per frame, at least 1, that comes closest to a frame rate."""
    if not frame_rate > 0:
        raise EcgkitError(f"frame_rate is {frame_rate}: give a positive number of frames per second")
    return max(1, round(sampling_rate / frame_rate))


def first_convolution(sampling_rate: int, frame_rate: int) -> tuple[int, int]:
    """Return stride and odd kernel length (seven frames) of a first convolution that outputs a frame rate."""
    stride = samples_per_frame(sampling_rate, frame_rate)
    return stride, 7 * stride // 2 * 2 + 1


def to_frame_rate(sampling_rate: int, frame_rate: int) -> nn.Module:
    """Average neighbouring samples to about ``frame_rate`` frames per second.

    For architectures whose kernels have lengths in samples at 100 Hz: a kernel then covers the same milliseconds, and
    the weights have the same shapes, at every sampling rate.

    Parameters
    ----------
    sampling_rate : int
        In Hz.
    frame_rate : int
        Frames per second to come close to; a signal below it is not changed.

    Returns
    -------
    Module
        Maps ``(records, leads, samples)`` to ``(records, leads, frames)``.
    """
    step = samples_per_frame(sampling_rate, frame_rate)
    return average_pooling(step) if step > 1 else nn.Identity()


def average_pooling(step: int) -> nn.Module:
    """Create the mean of each ``step`` samples: ``(records, channels, time)`` to ``(..., ceil(time / step))``."""
    return MeanOfPairs() if step == 2 else nn.AvgPool1d(step, ceil_mode=True)


def convolution(
    n_in: int, n_out: int, kernel_size: int, *, stride: int = 1, groups: int = 1, pool: int = 1, dropout: float = 0.0
) -> list[nn.Module]:
    """Create a convolution over time with batch normalisation and ReLU, optional max-pooling and dropout.

    Parameters
    ----------
    n_in, n_out : int
        Channels before and after.
    kernel_size : int
        Odd length of the kernel, in frames.
    stride, groups : int, default 1
        As for `torch.nn.Conv1d`.
    pool : int, default 1
        Frames per max-pooling window; 1 for none.
    dropout : float, default 0.0
        Probability that an activation is set to zero in training.

    Returns
    -------
    list of Module
        In order; they map ``(records, n_in, frames)`` to ``(records, n_out, frames / (stride * pool))``.
    """
    layers: list[nn.Module] = [
        nn.Conv1d(n_in, n_out, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm1d(n_out),
        nn.ReLU(inplace=True),
    ]
    if pool > 1:
        layers.append(nn.MaxPool1d(pool, ceil_mode=True))
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return layers


def convolutions(
    n_in: int,
    widths: Sequence[int],
    kernel_sizes: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    pool: int = 1,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Create a stack of convolutions, each by `convolution`.

    Parameters
    ----------
    n_in : int
        Channels of the input.
    widths, kernel_sizes : sequence of int
        Filters of each convolution, and the odd length of its kernels in frames.
    strides : sequence of int, optional
        Stride of each convolution, in frames; by default 1.
    pool, dropout : int, float
        After every convolution.

    Returns
    -------
    Sequential
        Maps ``(records, n_in, time)`` to ``(records, widths[-1], fewer frames)``.

    Raises
    ------
    EcgkitError
        If the sequences differ in length.
    """
    steps = [1] * len(widths) if strides is None else strides
    if not len(widths) == len(kernel_sizes) == len(steps):
        raise EcgkitError(
            f"widths {list(widths)}, kernel_sizes {list(kernel_sizes)} and strides {list(steps)} differ in length: "
            "give one value of each per convolution"
        )
    layers: list[nn.Module] = []
    for n_out, kernel_size, stride in zip(widths, kernel_sizes, steps, strict=True):
        layers += convolution(n_in, n_out, kernel_size, stride=stride, pool=pool, dropout=dropout)
        n_in = n_out
    return nn.Sequential(*layers)


class BiLSTM(nn.Module):
    """A bidirectional long short-term memory.

    Hochreiter and Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735.

    Parameters
    ----------
    n_in : int
        Channels of the input.
    width : int
        Units per direction.
    n_layers : int, default 1
        Layers; each reads both directions of the layer below.
    dropout : float, default 0.0
        Between the layers.
    """

    def __init__(self, n_in: int, width: int, *, n_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        # Time first: 10 % faster on a CPU than `batch_first`, which copies.
        self.lstm = nn.LSTM(n_in, width, n_layers, bidirectional=True, dropout=dropout if n_layers > 1 else 0.0)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, n_in, time)`` to ``(records, 2 * width, time)``."""
        return run_lstm(self.lstm, features)


def run_lstm(lstm: nn.LSTM, features: Tensor) -> Tensor:
    """Run an LSTM whose input is time first: ``(records, n_in, time)`` to ``(records, directions * width, time)``."""
    steps = features.permute(2, 0, 1)
    state = steps.new_zeros((1 + lstm.bidirectional) * lstm.num_layers, steps.shape[1], lstm.hidden_size)
    # What `lstm(steps)` calls, but with the weights as arguments: export would make constants of them.
    output, _, _ = torch.lstm(
        steps,
        (state, state),
        tuple(lstm.parameters()),
        has_biases=True,
        num_layers=lstm.num_layers,
        dropout=lstm.dropout,
        train=lstm.training,
        bidirectional=lstm.bidirectional,
        batch_first=False,
    )
    return output.permute(1, 2, 0)


def dense(n_in: int, n_out: int, *, batch_norm: bool = False) -> list[nn.Module]:
    """Create a linear layer with ReLU and, optionally, batch normalisation after it."""
    layers: list[nn.Module] = [nn.Linear(n_in, n_out), nn.ReLU()]
    return [*layers, nn.BatchNorm1d(n_out)] if batch_norm else layers


class MeanMaxPooling(nn.Module):
    """Mean and maximum over time, concatenated: ``(records, channels, time)`` to ``(records, 2 * channels)``."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool over the last axis."""
        return torch.cat([features.mean(dim=-1), features.amax(dim=-1)], dim=1)


class AttentionPooling(nn.Module):
    """Weighted mean over time with one learned softmax weight per token and head (Bahdanau et al., 2015).

    Parameters
    ----------
    n_channels : int
        Channels of the input, ``(records, n_channels, time)``; the output is ``(records, n_channels)``.
    n_heads : int, default 4
        Groups of channels with separate weights.
    """

    def __init__(self, n_channels: int, n_heads: int = 4) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.score = nn.Sequential(
            nn.Conv1d(n_channels, n_channels // 2, 1), nn.Tanh(), nn.Conv1d(n_channels // 2, n_heads, 1)
        )

    def weights(self, features: Tensor) -> Tensor:
        """Return the weight of each token, ``(records, n_heads, time)``."""
        return self.score(features).softmax(dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Pool over the last axis."""
        weights = self.weights(features)
        grouped = features.unflatten(1, (self.n_heads, -1))
        return torch.einsum("bht,bhct->bhc", weights, grouped).flatten(1)


def make_pooling(name: str, n_channels: int) -> tuple[nn.Module, int]:
    """Create the pooling ``"mean_max"`` or ``"attention"``, and return it with its number of features."""
    if name == "mean_max":
        return MeanMaxPooling(), 2 * n_channels
    if name == "attention":
        return AttentionPooling(n_channels), n_channels
    raise EcgkitError(f"unknown pooling {name!r}: choose one of mean_max, attention")


class MeanOfPairs(nn.AvgPool1d):
    """The mean of each two samples, and of a last one by itself; by slices on a CPU, where the operator is slow."""

    def __init__(self) -> None:
        super().__init__(2, ceil_mode=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, channels, time)`` to ``(records, channels, ceil(time / 2))``, in the same memory format."""
        if torch.compiler.is_exporting() or features.device.type != "cpu":
            return super().forward(features)
        means = features[..., ::2].clone()
        means[..., : features.shape[-1] // 2].add_(features[..., 1::2]).mul_(0.5)
        return means


class ChannelsLastConv1d(nn.Module):
    """What an ``nn.Conv1d`` computes, with the channels of a sample next to each other in memory.

    The shapes are the same. The CPU's kernels read and write this memory format as it is, and convert any other.

    Parameters
    ----------
    layer : Conv1d
        With one group and zeros as padding.
    """

    def __init__(self, layer: nn.Conv1d) -> None:
        super().__init__()
        weight = layer.weight.detach()[:, :, None].contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias, self.stride, self.padding, self.dilation = layer.bias, layer.stride, layer.padding, layer.dilation

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, n_in, time)`` to ``(records, n_out, frames)``."""
        options = ((1, *self.stride), (0, *self.padding), (1, *self.dilation))
        return functional.conv2d(features[:, :, None], self.weight, self.bias, *options)[:, :, 0]


def made_faster(model: Network, *, channels_last: bool = True) -> Network:
    """Return a copy for evaluation that gives the same output but for rounding, in less time.

    In an `nn.Sequential`, convolutions do the work of the batch normalisation that follows them, and are computed by
    `ChannelsLastConv1d` if that is faster, as on a CPU.
    """
    faster = copy.deepcopy(model).eval()
    for stack in [module for module in faster.modules() if isinstance(module, nn.Sequential)]:
        for position, (first, second) in enumerate(pairwise([*stack, nn.Identity()])):
            layer = first
            if isinstance(layer, nn.Conv1d) and isinstance(second, nn.BatchNorm1d):
                layer, stack[position + 1] = fuse_conv_bn_eval(layer, second), nn.Identity()
            if channels_last and isinstance(layer, nn.Conv1d) and _is_plain(layer):
                layer = ChannelsLastConv1d(layer)
            if layer is not first:
                stack[position] = layer
    return faster


def _is_plain(layer: nn.Conv1d) -> bool:
    """Return True for one group, and a number of zeros as padding."""
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
