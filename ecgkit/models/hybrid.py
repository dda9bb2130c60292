"""``hybrid``: a residual CNN trunk with bidirectional xLSTM blocks on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import make_pooling
from ecgkit.models.trunk import ResidualTrunk
from ecgkit.models.xlstm_blocks import BidirectionalXLSTM


class Hybrid(ECGModel):
    """A residual CNN, bidirectional xLSTM blocks over its feature map, and attention pooling over time.

    Parameters
    ----------
    widths : sequence of int
        Channels of the trunk's stages; the last is the width of the xLSTM blocks.
    blocks : int
        Residual blocks per stage.
    kernel_size : int
        Odd length of the trunk's kernels, in frames.
    frame_rate : int
        Frames per second after the trunk's stem; each further stage halves it.
    squeeze_excitation, anti_aliased : bool
        As for `ResidualBlock`.
    stochastic_depth : float
        As for `ResidualTrunk`.
    layout : str
        One letter per xLSTM block: ``"m"`` for mLSTM, ``"s"`` for sLSTM.
    n_heads : int
        Heads of each xLSTM block.
    pooling : str
        ``"mean_max"`` or ``"attention"``.
    dropout : float
        Inside the xLSTM blocks and before the head.
    **shared
        Keywords of `ECGModel`.
    """

    gradcam_layer = "trunk"

    def __init__(
        self,
        *,
        widths: Sequence[int] = (32, 64, 96, 128, 128),
        blocks: int = 1,
        kernel_size: int = 5,
        frame_rate: int = 100,
        squeeze_excitation: bool = True,
        anti_aliased: bool = False,
        stochastic_depth: float = 0.0,
        layout: str = "ms",
        n_heads: int = 4,
        pooling: str = "attention",
        dropout: float = 0.2,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        self.trunk = ResidualTrunk(
            n_leads=self.n_leads,
            sampling_rate=self.sampling_rate,
            widths=widths,
            blocks=blocks,
            kernel_size=kernel_size,
            frame_rate=frame_rate,
            stochastic_depth=stochastic_depth,
            squeeze_excitation=squeeze_excitation,
            anti_aliased=anti_aliased,
        )
        self.sequence = BidirectionalXLSTM(width=widths[-1], layout=layout, n_heads=n_heads, dropout=dropout)
        self.pooling, n_features = make_pooling(pooling, widths[-1])
        self.build_head(n_features, dropout=dropout)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, features)``."""
        return self.pooling(self.sequence(self.trunk(signal)))
