"""``cnn_bilstm``: two convolutions, then a bidirectional LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import BiLSTM, convolutions, dense, to_frame_rate


class CNNBiLSTM(ECGModel):
    """Convolutions shorten and describe the signal, an LSTM reads it both ways, its mean over time goes on.

    Parameters
    ----------
    widths, kernel_sizes : sequence of int
        Filters and odd kernel lengths, in frames, of the convolutions; equally many of both.
    pool : int
        Frames that the max-pooling after each convolution joins.
    lstm_width : int
        Units of each direction.
    n_dense : int
        Units of the dense layer, which is the embedding.
    frame_rate : int
        Frames a second to which the signal is averaged first.
    dropout : float
        Before the head.
    **shared
        Those of `ECGModel`.
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
