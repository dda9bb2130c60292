"""``xlstm``: a convolutional patch embedding and bidirectional xLSTM blocks."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn

from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import first_convolution, make_pooling
from ecgkit.models.xlstm_blocks import BidirectionalXLSTM


class PatchEmbedding(nn.Sequential):
    """Four convolutions that turn 80 ms of all leads into one token: 125 tokens for 10 s.

    Overlapping convolutions detect a QRS complex at any position, which separate patches do not (Xiao et al., 2021,
    arXiv:2106.14881). The first convolution outputs 100 frames per second, which keeps the slopes of the QRS complex.

    Parameters
    ----------
    n_leads : int
        Channels of the input.
    sampling_rate : int
        In Hz.
    width : int
        Channels per token.
    """

    def __init__(self, *, n_leads: int, sampling_rate: int, width: int) -> None:
        step, reach = first_convolution(sampling_rate, 100)
        channels = (n_leads, width // 4, width // 2, width, width)
        strides, kernels = (step, 2, 2, 2), (reach, 5, 5, 5)
        layers: list[nn.Module] = []
        for n_in, n_out, stride, kernel in zip(channels[:-1], channels[1:], strides, kernels, strict=True):
            layers += [
                nn.Conv1d(n_in, n_out, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm1d(n_out),
                nn.GELU(),
            ]
        super().__init__(*layers)


class XLSTM(ECGModel):
    """Patch embedding, bidirectional mLSTM and sLSTM blocks, pooling over time.

    Parameters
    ----------
    width : int
        Channels per token.
    layout : str
        One letter per block: ``"m"`` for mLSTM, ``"s"`` for sLSTM.
    n_heads : int
        Heads of each block.
    pooling : str
        ``"mean_max"`` or ``"attention"``.
    dropout : float
        Inside the blocks and before the head.
    **shared
        Keywords of `ECGModel`.

    References
    ----------
    Beck et al. (2024), "xLSTM: Extended Long Short-Term Memory", arXiv:2405.04517.
    """

    gradcam_layer = "patches"

    def __init__(
        self,
        *,
        width: int = 128,
        layout: str = "ms",
        n_heads: int = 4,
        pooling: str = "mean_max",
        dropout: float = 0.2,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        self.patches = PatchEmbedding(n_leads=self.n_leads, sampling_rate=self.sampling_rate, width=width)
        self.sequence = BidirectionalXLSTM(width=width, layout=layout, n_heads=n_heads, dropout=dropout)
        self.pooling, n_features = make_pooling(pooling, width)
        self.build_head(n_features, dropout=dropout)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, features)``."""
        return self.pooling(self.sequence(self.patches(signal)))
