"""``bilstm``: two bidirectional LSTM layers on the samples."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn

from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import BiLSTM, dense, to_frame_rate


class BiLSTMModel(ECGModel):
    """Two bidirectional LSTM layers over all samples, and the mean of their outputs over time.

    The mean and not the last output, which after 1,000 steps depends little on the first beats.

    Parameters
    ----------
    lstm_width : int
        Units per direction.
    n_layers : int
        LSTM layers.
    n_dense : int
        Units of the dense layer, which is the embedding.
    frame_rate : int
        Frames per second to which the signal is averaged first.
    dropout : float
        Between the LSTM layers and before the head.
    **shared
        Keywords of `ECGModel`.
    """

    gradcam_layer = "sequence"

    def __init__(
        self,
        *,
        lstm_width: int = 128,
        n_layers: int = 2,
        n_dense: int = 128,
        frame_rate: int = 100,
        dropout: float = 0.2,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        self.frames = to_frame_rate(self.sampling_rate, frame_rate)
        self.sequence = BiLSTM(self.n_leads, lstm_width, n_layers=n_layers, dropout=dropout)
        self.dense = nn.Sequential(*dense(2 * lstm_width, n_dense))
        self.build_head(n_dense, dropout=dropout)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, n_dense)``."""
        return self.dense(self.sequence(self.frames(signal)).mean(dim=-1))
