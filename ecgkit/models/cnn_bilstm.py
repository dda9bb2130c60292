"""``cnn_bilstm``: two convolutions, then a bidirectional LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import BiLSTM, convolutions, dense, to_frame_rate


class CNNBiLSTM(ECGModel):
    """Two convolutions with pooling, a bidirectional LSTM, the mean over time, one dense layer.

    Parameters
    ----------
    widths, kernel_sizes : sequence of int
        Filters and odd kernel lengths, in frames, of the convolutions; one of each per convolution.
    pool : int
        Frames per window of the max-pooling after each convolution.
    lstm_width : int
        Units per direction.
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
        widths: Sequence[int] = (64, 128),
        kernel_sizes: Sequence[int] = (7, 5),
        pool: int = 2,
        lstm_width: int = 128,
        n_dense: int = 128,
        frame_rate: int = 100,
        dropout: float = 0.3,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        self.frames = to_frame_rate(self.sampling_rate, frame_rate)
        self.trunk = convolutions(self.n_leads, widths, kernel_sizes, pool=pool)
        self.sequence = BiLSTM(widths[-1], lstm_width)
        self.dense = nn.Sequential(*dense(2 * lstm_width, n_dense))
        self.build_head(n_dense, dropout=dropout)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, n_dense)``."""
        return self.dense(self.sequence(self.trunk(self.frames(signal))).mean(dim=-1))
