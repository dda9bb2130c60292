"""``cnn``: three convolutions over time, the plain baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import convolutions, dense, to_frame_rate


class CNN(ECGModel):
    """Three convolutions with batch normalisation and max-pooling, the mean over time, one dense layer.

    Parameters
    ----------
    widths : sequence of int
        Filters of each convolution.
    kernel_sizes : sequence of int
        Odd length of each convolution's kernels, in frames; one per width.
    pool : int
        Frames per window of the max-pooling after each convolution.
    n_dense : int
        Units of the dense layer, which is the embedding.
    frame_rate : int
        Frames per second to which the signal is averaged first.
    dropout : float
        Before the head.
    **shared
        Keywords of `ECGModel`.
    """

    gradcam_layer = "trunk"

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 256),
        kernel_sizes: Sequence[int] = (7, 5, 3),
        pool: int = 2,
        n_dense: int = 128,
        frame_rate: int = 100,
        dropout: float = 0.3,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        self.frames = to_frame_rate(self.sampling_rate, frame_rate)
        self.trunk = convolutions(self.n_leads, widths, kernel_sizes, pool=pool)
        self.dense = nn.Sequential(*dense(widths[-1], n_dense))
        self.build_head(n_dense, dropout=dropout)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, n_dense)``."""
        return self.dense(self.trunk(self.frames(signal)).mean(dim=-1))
