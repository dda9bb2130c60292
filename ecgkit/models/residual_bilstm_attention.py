"""``residual_bilstm_attention``: residual convolutions, a bidirectional LSTM, attention over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from ecgkit.errors import EcgkitError
from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import BiLSTM, convolution, dense, to_frame_rate


class PooledResidualBlock(nn.Module):
    """Two convolutions with batch normalisation around a projected shortcut, then max-pooling and spatial dropout.

    He et al. (2016), doi:10.1109/CVPR.2016.90; spatial dropout sets whole channels to zero, since neighbouring
    frames are correlated (Tompson et al., 2015, doi:10.1109/CVPR.2015.7298664).

    Parameters
    ----------
    n_in, n_out : int
        Channels before and after.
    kernel_size : int
        Odd length of both kernels, in frames.
    dropout : float
        Probability that a channel is set to zero in training.
    """

    def __init__(self, n_in: int, n_out: int, *, kernel_size: int, dropout: float) -> None:
        super().__init__()
        # Without the last activation, which comes after the shortcut.
        self.body = nn.Sequential(*convolution(n_in, n_out, kernel_size), *convolution(n_out, n_out, kernel_size)[:-1])
        self.shortcut = nn.Sequential(nn.Conv1d(n_in, n_out, 1, bias=False), nn.BatchNorm1d(n_out))
        self.after = nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool1d(2, ceil_mode=True), nn.Dropout1d(dropout))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, n_in, time)`` to ``(records, n_out, ceil(time / 2))``."""
        return self.after(self.body(features) + self.shortcut(features))


class TanhAttentionPooling(nn.Module):
    """Weighted mean over time, the weights a softmax of tanh(xW) with one column W (Bahdanau et al., 2015).

    Parameters
    ----------
    n_channels : int
        Channels of the input.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.score = nn.Linear(n_channels, 1, bias=False)

    def weights(self, features: Tensor) -> Tensor:
        """Return the weight of each token, ``(records, 1, time)``."""
        return self.score(features.transpose(1, 2)).tanh().softmax(dim=1).transpose(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, n_channels, time)`` to ``(records, n_channels)``."""
        return (features @ self.weights(features).transpose(1, 2)).squeeze(2)


class ResidualBiLSTMAttention(ECGModel):
    """Residual blocks, a bidirectional LSTM, attention pooling over time, dense layers.

    Age and sex pass through a separate layer and are joined with the embedding before a dense layer.

    Parameters
    ----------
    widths, kernel_sizes : sequence of int
        Channels of each residual block, and the odd length of its kernels in frames; one of each per block.
    lstm_width : int
        Units per direction.
    n_dense : int
        Units of the dense layer after the attention, which is the embedding.
    hidden : sequence of int
        Widths of the dense layers after the embedding is joined with age and sex.
    branch : int
        Width of the layer that reads age and sex before they are joined.
    spatial_dropout : float
        Probability that a channel is set to zero in training, after each residual block.
    frame_rate : int
        Frames per second to which the signal is averaged first.
    dropout : float
        Before each dense layer and before the head.
    **shared
        Keywords of `ECGModel`.
    """

    gradcam_layer = "trunk"

    def __init__(
        self,
        *,
        widths: Sequence[int] = (256, 128),
        kernel_sizes: Sequence[int] = (3, 7),
        lstm_width: int = 128,
        n_dense: int = 256,
        hidden: Sequence[int] = (128,),
        branch: int = 16,
        spatial_dropout: float = 0.25,
        frame_rate: int = 100,
        dropout: float = 0.2,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        if len(widths) != len(kernel_sizes):
            raise EcgkitError(
                f"widths {list(widths)} and kernel_sizes {list(kernel_sizes)} differ in length: "
                "give one value of each per residual block"
            )
        self.frames = to_frame_rate(self.sampling_rate, frame_rate)
        channels = [self.n_leads, *widths]
        self.trunk = nn.Sequential(
            *(
                PooledResidualBlock(n_in, n_out, kernel_size=kernel_size, dropout=spatial_dropout)
                for n_in, n_out, kernel_size in zip(channels[:-1], channels[1:], kernel_sizes, strict=True)
            )
        )
        self.sequence = BiLSTM(widths[-1], lstm_width)
        self.pooling = TanhAttentionPooling(2 * lstm_width)
        self.dense = nn.Sequential(nn.Dropout(dropout), *dense(2 * lstm_width, n_dense, batch_norm=True))
        self.build_head(n_dense, dropout=dropout, branch=branch, hidden=hidden, batch_norm=True)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, n_dense)``."""
        return self.dense(self.pooling(self.sequence(self.trunk(self.frames(signal)))))
