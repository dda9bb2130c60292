"""``resnet1d``: a one-dimensional residual CNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import make_pooling
from ecgkit.models.trunk import ResidualTrunk


class ResNet1d(ECGModel):
    """A residual CNN over time, with the leads as input channels.

    Related to ``resnet1d_wang`` and ``xresnet1d`` of Strodthoff et al. (2021), doi:10.1109/JBHI.2020.3022989.

    Parameters
    ----------
    widths : sequence of int
        Channels of each stage.
    blocks : int
        Residual blocks per stage.
    kernel_size : int
        Odd length of the blocks' kernels, in frames.
    frame_rate : int
        Frames per second after the stem.
    squeeze_excitation, anti_aliased : bool
        As for `ResidualBlock`.
    stochastic_depth : float
        As for `ResidualTrunk`.
    pooling : str
        ``"mean_max"`` or ``"attention"``.
    dropout : float
        Before the head.
    **shared
        Keywords of `ECGModel`.
    """

    gradcam_layer = "trunk"

    def __init__(
        self,
        *,
        widths: Sequence[int] = (32, 64, 128, 256),
        blocks: int = 1,
        kernel_size: int = 5,
        frame_rate: int = 100,
        squeeze_excitation: bool = True,
        anti_aliased: bool = False,
        stochastic_depth: float = 0.0,
        pooling: str = "mean_max",
        dropout: float = 0.3,
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
        self.pooling, n_features = make_pooling(pooling, widths[-1])
        self.build_head(n_features, dropout=dropout)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, features)``."""
        return self.pooling(self.trunk(signal))
