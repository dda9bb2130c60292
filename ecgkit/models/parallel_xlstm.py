"""``parallel_xlstm``: an sLSTM and an mLSTM branch in parallel on every sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from ecgkit.errors import EcgkitError
from ecgkit.models.base import ECGModel, SharedKeywords
from ecgkit.models.layers import MeanMaxPooling, to_frame_rate
from ecgkit.models.xlstm_blocks import make_block


class TokenEmbedding(nn.Module):
    """A linear map from one or more frames of all leads to a token, with layer norm and ReLU.

    Parameters
    ----------
    n_leads : int
        Channels of the input.
    width : int
        Channels per token.
    frames_per_token : int
        Frames per token; the last token is padded with zeros.
    """

    def __init__(self, n_leads: int, width: int, frames_per_token: int) -> None:
        super().__init__()
        self.frames_per_token = frames_per_token
        # A convolution whose stride is its kernel length is a linear map of each piece.
        self.linear = nn.Conv1d(n_leads, width, frames_per_token, frames_per_token)
        self.norm = nn.LayerNorm(width)

    def forward(self, signal: Tensor) -> Tensor:
        """Map ``(records, n_leads, frames)`` to ``(records, tokens, width)``."""
        missing = -signal.shape[-1] % self.frames_per_token
        tokens = self.linear(nn.functional.pad(signal, (0, missing)))
        return self.norm(tokens.transpose(1, 2)).relu()


class TwoBranchXLSTM(ECGModel):
    """The base class of `ParallelXLSTM` and `HierarchicalXLSTM`, which differ in where the two branches are averaged.

    The blocks are causal (Beck et al., 2024, arXiv:2405.04517): a token depends on the tokens before it. They run in
    float32 also under autocast, since bfloat16 is too coarse for the exponential gates.

    Parameters
    ----------
    width : int
        Channels per token.
    n_blocks : int
        Blocks per branch.
    n_heads : int
        Heads per block; a divisor of ``width``.
    frames_per_token : int
        Frames per token; 1 as published, 4 makes training several times faster.
    hidden : sequence of int
        Widths of the dense layers after the features are joined with age and sex.
    branch : int
        Width of the layer that reads age and sex before they are joined.
    frame_rate : int
        Frames per second to which the signal is averaged first.
    dropout : float
        After each branch, before each dense layer and before the head.
    **shared
        Keywords of `ECGModel`.
    """

    gradcam_layer = "fused"

    n_norms: int
    """Layer norms that `fuse` applies after its blocks."""

    def __init__(
        self,
        *,
        width: int = 128,
        n_blocks: int = 2,
        n_heads: int = 4,
        frames_per_token: int = 1,
        hidden: Sequence[int] = (256, 128),
        branch: int = 32,
        frame_rate: int = 100,
        dropout: float = 0.2,
        **shared: Unpack[SharedKeywords],
    ) -> None:
        super().__init__(**shared)
        if frames_per_token < 1 or n_blocks < 1:
            raise EcgkitError(
                f"frames_per_token is {frames_per_token} and n_blocks is {n_blocks}: give 1 or more of each"
            )
        self.frames = to_frame_rate(self.sampling_rate, frame_rate)
        self.tokens = TokenEmbedding(self.n_leads, width, frames_per_token)
        self.slstm, self.mlstm = (
            nn.ModuleList(
                make_block(kind, width=width, n_heads=n_heads, index=index, n_blocks=n_blocks)
                for index in range(n_blocks)
            )
            for kind in "sm"
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(self.n_norms))
        self.branch_dropout = nn.Dropout(dropout)
        self.fused = ChannelsFirst()
        self.pooling = MeanMaxPooling()
        self.build_head(2 * width, dropout=dropout, branch=branch, hidden=hidden)

    @abstractmethod
    def fuse(self, tokens: Tensor) -> Tensor:
        """Run the two branches: ``(records, tokens, width)`` to the same shape."""

    def encode(self, signal: Tensor) -> Tensor:
        """Encode ``(records, n_leads, n_samples)`` to ``(records, 2 * width)``."""
        tokens = self.tokens(self.frames(signal))
        with torch.autocast(signal.device.type, enabled=False):
            fused = self.fuse(tokens.float())
        return self.pooling(self.fused(fused))


class ChannelsFirst(nn.Module):
    """Swap time and channels, as a module that Grad-CAM can read."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(records, time, channels)`` to ``(records, channels, time)``."""
        return tokens.transpose(1, 2)


class ParallelXLSTM(TwoBranchXLSTM):
    """A branch of sLSTM blocks and a branch of mLSTM blocks, averaged at their ends.

    The keywords are those of `TwoBranchXLSTM`.
    """

    n_norms = 2

    def fuse(self, tokens: Tensor) -> Tensor:
        """Run each branch to its end and average the two: ``(records, tokens, width)`` to the same shape."""
        by_slstm, by_mlstm = tokens, tokens
        for slstm, mlstm in zip(self.slstm, self.mlstm, strict=True):
            by_slstm, by_mlstm = slstm(by_slstm), mlstm(by_mlstm)
        return (self.branch_dropout(self.norms[0](by_slstm)) + self.branch_dropout(self.norms[1](by_mlstm))) / 2
