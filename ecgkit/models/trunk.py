"""The residual trunk of `ResNet1d` and `Hybrid`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgkit.models.layers import average_pooling, convolution, first_convolution


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate on all channels' means over time (Hu et al., 2018, doi:10.1109/CVPR.2018.00745).

    Parameters
    ----------
    n_channels : int
        Channels of the input, ``(records, n_channels, time)``.
    reduction : int, default 8
        Factor by which the hidden layer is narrower.
    """

    def __init__(self, n_channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = n_channels // reduction
        self.gate = nn.Sequential(nn.Linear(n_channels, hidden), nn.ReLU(), nn.Linear(hidden, n_channels), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Scale the channels."""
        return features * self.gate(features.mean(dim=-1))[..., None]


class BlurDownsampling(nn.Module):
    """Halve the time axis after a binomial low-pass filter against aliasing (Zhang, 2019, arXiv:1904.11486)."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.kernel: Tensor
        self.register_buffer("kernel", kernel.expand(n_channels, 1, 5).clone(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, n_channels, time)`` to ``(records, n_channels, ceil(time / 2))``."""
        return functional.conv1d(
            functional.pad(features, (2, 2), mode="replicate"), self.kernel, stride=2, groups=self.n_channels
        )


class StochasticDepth(nn.Module):
    """Skip the branch of a block for random records in training (Huang et al., 2016, arXiv:1603.09382).

    Parameters
    ----------
    probability : float
        Probability that the branch of a record is skipped; the others are scaled up to compensate.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Drop or scale the branch of each record."""
        if not self.training or self.probability == 0:
            return branch
        kept = 1 - self.probability
        mask = torch.rand(len(branch), *[1] * (branch.ndim - 1), device=branch.device) < kept
        return branch * mask / kept


class ResidualBlock(nn.Module):
    """Two convolutions with batch normalisation around a shortcut (He et al., 2016, doi:10.1109/CVPR.2016.90).

    Where the block halves the time axis, its shortcut averages neighbours before the 1x1 convolution, so that no sample
    is discarded (He et al., 2019, doi:10.1109/CVPR.2019.00065, the "ResNet-D" tweak).

    Parameters
    ----------
    n_in, n_out : int
        Channels before and after.
    kernel_size : int
        Odd length of both kernels, in samples.
    stride : int, default 1
        Factor by which the time axis is shortened, 1 or 2.
    squeeze_excitation : bool, default False
        Whether the branch ends with `SqueezeExcitation`.
    anti_aliased : bool, default False
        Whether `BlurDownsampling` shortens the branch instead of a strided convolution.
    drop : float, default 0.0
        Probability of `StochasticDepth`.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        kernel_size: int,
        stride: int = 1,
        squeeze_excitation: bool = False,
        anti_aliased: bool = False,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        blur = anti_aliased and stride > 1
        norm = nn.BatchNorm1d(n_out)
        # A block starts as the identity, which allows high learning rates from the start (Goyal et al., 2017).
        nn.init.zeros_(norm.weight)
        body: list[nn.Module] = [
            *convolution(n_in, n_out, kernel_size, stride=1 if blur else stride),
            *([BlurDownsampling(n_out)] if blur else []),
            nn.Conv1d(n_out, n_out, kernel_size, padding=kernel_size // 2, bias=False),
            norm,
            *([SqueezeExcitation(n_out)] if squeeze_excitation else []),
            *([StochasticDepth(drop)] if drop else []),
        ]
        self.body = nn.Sequential(*body)
        shortcut: list[nn.Module] = [average_pooling(stride)] if stride > 1 else []
        if n_in != n_out:
            shortcut += [nn.Conv1d(n_in, n_out, 1, bias=False), nn.BatchNorm1d(n_out)]
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, n_in, time)`` to ``(records, n_out, ceil(time / stride))``."""
        return self.activation(self.body(features) + self.shortcut(features))


class ResidualTrunk(nn.Sequential):
    """A stem and stages of residual blocks, each stage at half the time resolution of the previous one.

    Parameters
    ----------
    n_leads : int
        Channels of the input.
    sampling_rate : int
        In Hz; the stem converts every rate to the frame rate.
    widths : sequence of int
        Channels of each stage; the first stage keeps the stem's resolution.
    blocks : int
        Residual blocks per stage.
    kernel_size : int
        Odd length of the blocks' kernels, in frames.
    frame_rate : int
        Frames per second after the stem. 25 are too few to resolve the slopes of the QRS complex, 100 are enough.
    stochastic_depth : float, default 0.0
        Probability that the branch of the last block is skipped in training; it rises from 0 over the blocks.
    **options
        ``squeeze_excitation`` and ``anti_aliased`` of each `ResidualBlock`.
    """

    def __init__(
        self,
        *,
        n_leads: int,
        sampling_rate: int,
        widths: Sequence[int],
        blocks: int,
        kernel_size: int,
        frame_rate: int,
        stochastic_depth: float = 0.0,
        **options: Any,
    ) -> None:
        stride, stem_kernel = first_convolution(sampling_rate, frame_rate)
        layers = convolution(n_leads, widths[0], stem_kernel, stride=stride)
        n_in = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                step = 2 if stage > 0 and block == 0 else 1
                drop = stochastic_depth * (stage * blocks + block) / max(1, len(widths) * blocks - 1)
                layers.append(ResidualBlock(n_in, width, kernel_size=kernel_size, stride=step, drop=drop, **options))
                n_in = width
        super().__init__(*layers)
