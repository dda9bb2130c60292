"""``recurrence_cnn``: recurrence plots of the leads, read by a two-dimensional residual CNN."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Unpack

import torch
from torch import Tensor, nn

from ecgkit.errors import EcgkitError
from ecgkit.models.base import ECGModel, SharedKeywords, cut_windows
from ecgkit.models.layers import MeanMaxPooling, dense, samples_per_frame, to_frame_rate


def recurrence_plot(signal: Tensor, *, dimension: int, delay: int, signed: bool = False) -> Tensor:
    """Compute the recurrence plot of each lead, without a threshold.

    A moment is a vector of ``dimension`` frames that are ``delay`` frames apart (Takens' embedding); the plot holds the
    Euclidean distances of all pairs of moments, divided by the root of ``dimension``.

    A distance is the same for an upright and an inverted wave. With ``signed`` it has the sign of the difference of
    the two moments' means and is 0 where they are equal, so that the plot is antisymmetric (Zhang et al., 2020).

    Parameters
    ----------
    signal : Tensor, shape (records, leads, frames)
        In any unit; the distances have the same unit.
    dimension : int
        Frames per moment.
    delay : int
        Frames from one of them to the next.
    signed : bool, default False
        Whether distances carry a sign.

    Returns
    -------
    Tensor, shape (records, leads, moments, moments)
        ``moments`` is ``frames - (dimension - 1) * delay``.

    Raises
    ------
    EcgkitError
        If the signal is too short for two moments.

    References
    ----------
    Eckmann, Kamphorst and Ruelle (1987), "Recurrence plots of dynamical systems", doi:10.1209/0295-5075/4/9/004.
    Takens (1981), "Detecting strange attractors in turbulence", doi:10.1007/BFb0091924.
    Zhang et al. (2020), "Encoding time series as multi-scale signed recurrence plots", doi:10.3390/s20143818.
    """
    moments = signal.shape[-1] - (dimension - 1) * delay
    if moments < 2:
        raise EcgkitError(
            f"{signal.shape[-1]} frames hold no two moments of dimension {dimension} at a delay of {delay} frames: "
            "give a longer signal, or lower dimension or delay"
        )
    shifted = [signal[..., start : start + moments] for start in range(0, dimension * delay, delay)]
    vectors = torch.stack(shifted, dim=-1) / dimension**0.5
    distance = torch.cdist(vectors, vectors)
    # Channels last in memory: a CPU convolves such images a third faster.
    if not signed:
        return distance.contiguous(memory_format=torch.channels_last)
    mean = vectors.mean(dim=-1).transpose(1, 2).contiguous()
    sign = (mean[:, :, None] - mean[:, None]).sign_().permute(0, 3, 1, 2)
    return sign * distance  # in the memory layout of the first factor


class ImageBlock(nn.Module):
    """A residual block that halves both axes of an image (He et al., 2016, doi:10.1109/CVPR.2016.90).

    Its shortcut averages before the 1x1 convolution (He et al., 2019, doi:10.1109/CVPR.2019.00065).

    Parameters
    ----------
    n_in, n_out : int
        Channels before and after.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, 2, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(images, n_in, height, width)`` to half the height and width, rounded up."""
        return self.activation(self.body(images) + self.shortcut(images))


class RowMeans(nn.Module):
    """Average each row of a plot and concatenate the windows of a record: a map over time.

    Row i of a recurrence plot relates moment i to all moments of its window.
    """

    def forward(self, images: Tensor, n_windows: int) -> Tensor:
        """Map ``(records * n_windows, channels, rows, columns)`` to ``(records, channels, n_windows * rows)``."""
        rows = images.mean(dim=-1).unflatten(0, (-1, n_windows))
        return rows.transpose(1, 2).flatten(2)


class RecurrenceCNN(ECGModel):
    """A residual CNN on recurrence plots, with one channel per lead.

    The signal is averaged to 50 Hz, so that a pixel is 20 ms and a QRS complex spans four or more. Its inverse
    hyperbolic sine makes P and T waves visible next to the R peak and keeps the voltage, which a plot scaled to its own
    range would lose. A plot grows with the square of its length: the signal is cut into windows of 2.5 s, whose
    features are pooled together.

    Parameters
    ----------
    dimension : int
        Frames per moment of the delay embedding.
    delay : int
        Frames from one to the next.
    signed : bool
        Whether distances have a sign, see `recurrence_plot`.
    window_seconds : float
        Length of a plot, in seconds.
    widths : sequence of int
        Channels of the stem and of the residual blocks after it; each halves the plot.
    n_dense : int
        Units of the dense layer, which is the embedding.
    frame_rate : int
        Frames per second to which the signal is averaged first.
    dropout : float
        Before the head.
    **shared
        Keywords of `ECGModel`.

    References
    ----------
    Eckmann, Kamphorst and Ruelle (1987), "Recurrence plots of dynamical systems", doi:10.1209/0295-5075/4/9/004.
    """

    gradcam_layer = "rows"

    def __init__(
        self,
        *,
        dimension: int = 3,
        delay: int = 2,
        signed: bool = True,
        window_seconds: float = 2.5,
        widths: Sequence[int] = (32, 48, 64, 96),
        n_dense: int = 128,
        frame_rate: int = 50,
        dropout: float = 0.3,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        self.frames = to_frame_rate(self.sampling_rate, frame_rate)
        self.window = round(window_seconds * self.sampling_rate / samples_per_frame(self.sampling_rate, frame_rate))
        self.dimension, self.delay, self.signed = dimension, delay, signed
        layers: list[nn.Module] = [
            nn.Conv2d(self.n_leads, widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        layers += [ImageBlock(n_in, n_out) for n_in, n_out in pairwise(widths)]
        self.trunk = nn.Sequential(*layers)
        self.rows = RowMeans()
        self.pooling = MeanMaxPooling()
        self.dense = nn.Sequential(*dense(2 * widths[-1], n_dense))
        self.build_head(n_dense, dropout=dropout)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, n_dense)``."""
        frames = self.frames(signal).asinh()
        windows = cut_windows(frames, self.window, overlap=0.0)
        plots = recurrence_plot(windows.flatten(0, 1), dimension=self.dimension, delay=self.delay, signed=self.signed)
        return self.dense(self.pooling(self.rows(self.trunk(plots), windows.shape[1])))
