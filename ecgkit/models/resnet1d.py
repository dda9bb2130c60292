"""``resnet1d``: a one-dimensional residual CNN."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ecgkit.models.base import ECGModel, make_pooling

FRAME_RATE = 25
"""Frames a second behind the stem: enough to place a wave, few enough for a laptop."""


def stem_stride(sampling_rate: int) -> int:
    """Say by how many samples the stem steps to bring a sampling rate in Hz to `FRAME_RATE`."""
    return max(1, round(sampling_rate / FRAME_RATE))


class ResidualBlock(nn.Module):
    """Two convolutions with batch normalisation around a shortcut (He et al., 2016, doi:10.1109/CVPR.2016.90).

    Where the block halves the time axis, its shortcut averages neighbours before the 1x1 convolution, so that no sample
    is thrown away (He et al., 2019, doi:10.1109/CVPR.2019.00065, the "ResNet-D" tweak).

    Parameters
    ----------
    n_in, n_out : int
        Channels before and after.
    kernel_size : int
        Odd length of both kernels, in samples.
    stride : int, default 1
        Factor by which time is shortened.
    """

    def __init__(self, n_in: int, n_out: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.body = nn.Sequential(
            nn.Conv1d(n_in, n_out, kernel_size, stride, padding, bias=False),
            nn.BatchNorm1d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv1d(n_out, n_out, kernel_size, padding=padding, bias=False),
            nn.BatchNorm1d(n_out),
        )
        # A block starts as the identity, which lets a high learning rate begin gently (Goyal et al., 2017).
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]
        shortcut: list[nn.Module] = [nn.AvgPool1d(stride, stride, ceil_mode=True)] if stride > 1 else []
        if n_in != n_out:
            shortcut += [nn.Conv1d(n_in, n_out, 1, bias=False), nn.BatchNorm1d(n_out)]
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, n_in, time)`` to ``(records, n_out, ceil(time / stride))``."""
        return self.activation(self.body(features) + self.shortcut(features))


class ResidualTrunk(nn.Sequential):
    """A stem and stages of residual blocks, each stage at half the time resolution of the one before.

    Parameters
    ----------
    n_leads : int
        Channels of the input.
    sampling_rate : int
        In Hz; the stem brings every rate to `FRAME_RATE`.
    widths : sequence of int
        Channels of each stage; the first stage keeps the stem's resolution.
    blocks : int
        Residual blocks a stage.
    kernel_size : int
        Odd length of the blocks' kernels, in frames.
    """

    def __init__(
        self, *, n_leads: int, sampling_rate: int, widths: Sequence[int], blocks: int, kernel_size: int
    ) -> None:
        stride = stem_stride(sampling_rate)
        stem_kernel = 7 * stride // 2 * 2 + 1  # about 280 ms: a QRS complex with what goes before and after it
        layers: list[nn.Module] = [
            nn.Conv1d(n_leads, widths[0], stem_kernel, stride, stem_kernel // 2, bias=False),
            nn.BatchNorm1d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        n_in = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                step = 2 if stage > 0 and block == 0 else 1
                layers.append(ResidualBlock(n_in, width, kernel_size=kernel_size, stride=step))
                n_in = width
        super().__init__(*layers)


class ResNet1d(ECGModel):
    """A residual CNN over time that sees all leads as channels.

    Of the family of ``resnet1d_wang`` and ``xresnet1d`` in Strodthoff et al. (2021), doi:10.1109/JBHI.2020.3022989.

    Parameters
    ----------
    n_leads, n_classes, n_samples, sampling_rate, n_metadata : int
        As of `ECGModel`.
    widths : sequence of int
        Channels of each stage.
    blocks : int
        Residual blocks a stage.
    kernel_size : int
        Odd length of the blocks' kernels, in frames (of 40 ms at the first stage).
    pooling : str
        ``"mean_max"`` or ``"attention"``.
    dropout : float
        Before the head.
    """

    gradcam_layer = "trunk"

    def __init__(
        self,
        *,
        n_leads: int,
        n_classes: int,
        n_samples: int,
        sampling_rate: int,
        n_metadata: int = 0,
        widths: Sequence[int] = (64, 96, 128, 192),
        blocks: int = 2,
        kernel_size: int = 5,
        pooling: str = "mean_max",
        dropout: float = 0.3,
    ) -> None:
        super().__init__(
            n_leads=n_leads,
            n_classes=n_classes,
            n_samples=n_samples,
            sampling_rate=sampling_rate,
            n_metadata=n_metadata,
        )
        self.trunk = ResidualTrunk(
            n_leads=n_leads, sampling_rate=sampling_rate, widths=widths, blocks=blocks, kernel_size=kernel_size
        )
        self.pooling, n_features = make_pooling(pooling, widths[-1])
        self.build_head(n_features, dropout=dropout)

    def embed(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, features)``."""
        return self.pooling(self.trunk(signal))
