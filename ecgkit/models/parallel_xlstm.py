"""``parallel_xlstm``: an sLSTM and an mLSTM branch side by side on every sample."""

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
    """A linear map of one or more frames of all leads to a token, with layer norm and ReLU.

    Parameters
    ----------
    n_leads : int
        Channels of the input.
    width : int
        Channels of a token.
    frames_per_token : int
        Frames that one token reads; a last token that is not full is filled with zeros.
    """

    def __init__(self, n_leads: int, width: int, frames_per_token: int) -> None:
        super().__init__()
        self.frames_per_token = frames_per_token
        # A convolution that steps by its own length is the linear map of each piece.
        self.linear = nn.Conv1d(n_leads, width, frames_per_token, frames_per_token)
        self.norm = nn.LayerNorm(width)

    def forward(self, signal: Tensor) -> Tensor:
        """Map ``(records, n_leads, frames)`` to ``(records, tokens, width)``."""
        missing = -signal.shape[-1] % self.frames_per_token
        tokens = self.linear(nn.functional.pad(signal, (0, missing)))
        return self.norm(tokens.transpose(1, 2)).relu()


class TwoBranchXLSTM(ECGModel):
    """What `ParallelXLSTM` and `HierarchicalXLSTM` share: all but where the two branches meet.

    The blocks are causal, as in Beck et al. (2024), arXiv:2405.04517: a token sees what came before it, and pooling
    sees all tokens. They run in float32 also under autocast: the exponential gates lose what bfloat16 cannot hold.

    Parameters
    ----------
    width : int
        Channels of a token.
    n_blocks : int
        Blocks of each branch.
    n_heads : int
        Heads of each block; they divide ``width``.
    frames_per_token : int
        Frames that one token reads. 1 is the authors' way; 4 makes training several times faster.
    hidden : sequence of int
        Widths of the dense layers that read the features together with age and sex.
    branch : int
        Features that age and sex become before they join.
    frame_rate : int
        Frames a second to which the signal is averaged first.
    dropout : float
        On what the branches give, before each dense layer and before the head.
    **shared
        Those of `ECGModel`.
    """

    gradcam_layer = "fused"

    n_norms: int
    """Layer norms that `fuse` uses behind its blocks."""

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
                f"frames_per_token is {frames_per_token} and n_blocks is {n_blocks}: give numbers of 1 or more"
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
    """Swaps time and channels; a module of its own so that Grad-CAM finds the map there."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(records, time, channels)`` to ``(records, channels, time)``."""
        return tokens.transpose(1, 2)


class ParallelXLSTM(TwoBranchXLSTM):
    """sLSTM blocks beside mLSTM blocks; the two branches meet at their ends, where they are averaged.

    The keywords are those of `TwoBranchXLSTM`.
    """

    n_norms = 2

    def fuse(self, tokens: Tensor) -> Tensor:
        """Run each branch to its end and average the two: ``(records, tokens, width)`` to the same shape."""
        by_slstm, by_mlstm = tokens, tokens
        for slstm, mlstm in zip(self.slstm, self.mlstm, strict=True):
            by_slstm, by_mlstm = slstm(by_slstm), mlstm(by_mlstm)
        return (self.branch_dropout(self.norms[0](by_slstm)) + self.branch_dropout(self.norms[1](by_mlstm))) / 2
