"""``cross_lead_cnn``: separate filters for each lead, then convolutions across the leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import convolution, convolutions, dense, to_frame_rate


class CrossLeadCNN(ECGModel):
    """A grouped convolution for each lead, four convolutions across the leads, the mean over time, one dense layer.

    Parameters
    ----------
    filters_per_lead : int
        Filters of the grouped convolution for each lead.
    lead_kernel_size : int
        Odd length of its kernels, in frames.
    widths, kernel_sizes, strides : sequence of int
        Filters, odd kernel lengths in frames and steps of the convolutions across leads; one of each per convolution.
    n_dense : int
        Units of the dense layer, which is the embedding.
    frame_rate : int
        Frames per second to which the signal is averaged first.
    dropout : float
        After each convolution and before the head.
    **shared
        Keywords of `ECGModel`.
    """

    gradcam_layer = "trunk"

    def __init__(
        self,
        *,
        filters_per_lead: int = 3,
        lead_kernel_size: int = 15,
        widths: Sequence[int] = (64, 128, 128, 256),
        kernel_sizes: Sequence[int] = (7, 7, 5, 5),
        strides: Sequence[int] = (2, 1, 2, 1),
        n_dense: int = 128,
        frame_rate: int = 100,
        dropout: float = 0.2,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        self.frames = to_frame_rate(self.sampling_rate, frame_rate)
        n_filters = filters_per_lead * self.n_leads
        self.leads = nn.Sequential(
            *convolution(self.n_leads, n_filters, lead_kernel_size, groups=self.n_leads, dropout=dropout)
        )
        self.trunk = convolutions(n_filters, widths, kernel_sizes, strides=strides, dropout=dropout)
        self.dense = nn.Sequential(*dense(widths[-1], n_dense))
        self.build_head(n_dense, dropout=dropout)

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, n_dense)``."""
        return self.dense(self.trunk(self.leads(self.frames(signal))).mean(dim=-1))
