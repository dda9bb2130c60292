"""Bidirectional xLSTM blocks, composed of blocks of the ``xlstm`` package."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xlstm
from torch import Tensor, nn

from ecgkit.errors import EcgkitError
from ecgkit.models.kernels import accelerate
from ecgkit.models.layers import check_heads


def make_block(kind: str, *, width: int, n_heads: int, index: int, n_blocks: int) -> nn.Module:
    """Create one upstream block, which maps ``(records, tokens, width)`` to the same shape, its shortcut included.

    Parameters
    ----------
    kind : str
        ``"m"`` for mLSTM (matrix memory), ``"s"`` for sLSTM (scalar memory) with its gated feed-forward layer.
    width : int
        Channels per token.
    n_heads : int
        Heads; a divisor of ``width``.
    index, n_blocks : int
        Position of the block in its stack, which sets the initial forget gates.

    Returns
    -------
    Module

    Raises
    ------
    EcgkitError
        If the kind is neither ``"m"`` nor ``"s"``, or the heads do not divide the width.
    """
    check_heads(width, n_heads)
    if kind == "m":
        # The length only sizes a causal mask, which our cell does not need.
        mlstm = xlstm.mLSTMLayerConfig(embedding_dim=width, num_heads=n_heads, context_length=1)
        return accelerate(xlstm.mLSTMBlock(xlstm.mLSTMBlockConfig(mlstm=mlstm, _num_blocks=n_blocks, _block_idx=index)))
    if kind == "s":
        # "vanilla" is plain PyTorch; upstream's default compiles CUDA code with nvcc on first use. Upstream keeps the
        # recurrent weights in bfloat16 by default, which only its CUDA kernels need.
        slstm = xlstm.sLSTMLayerConfig(embedding_dim=width, num_heads=n_heads, backend="vanilla", dtype="float32")
        feedforward = xlstm.FeedForwardConfig(proj_factor=1.3, act_fn="gelu")
        config = xlstm.sLSTMBlockConfig(slstm=slstm, feedforward=feedforward, _num_blocks=n_blocks, _block_idx=index)
        return accelerate(xlstm.sLSTMBlock(config))
    raise EcgkitError(f"unknown xLSTM block {kind!r}: write a layout of m and s, such as 'msm'")


class BidirectionalBlock(nn.Module):
    """The mean of two blocks of one kind, one of which reads the sequence backwards.

    An xLSTM block is causal, but an ECG is recorded as a whole: each token may depend on both directions.

    Parameters
    ----------
    forward_block, backward_block : Module
        Blocks that map ``(records, tokens, width)`` to the same shape.
    dropout : float
        Applied to what the pair adds to its input.
    """

    def __init__(self, forward_block: nn.Module, backward_block: nn.Module, *, dropout: float) -> None:
        super().__init__()
        self.forward_block, self.backward_block = forward_block, backward_block
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(records, tokens, width)`` to the same shape."""
        backward = self.backward_block(tokens.flip(1)).flip(1)
        mean = (self.forward_block(tokens) + backward) / 2
        return tokens + self.dropout(mean - tokens)


class BidirectionalXLSTM(nn.Module):
    """A stack of bidirectional xLSTM blocks with a final layer norm (Beck et al., 2024, arXiv:2405.04517).

    The stack runs in float32 also under autocast, since bfloat16 is too coarse for the exponential gates.

    Parameters
    ----------
    width : int
        Channels per token.
    layout : str
        One letter per block: ``"m"`` for mLSTM, ``"s"`` for sLSTM.
    n_heads : int
        Heads per block.
    dropout : float
        Applied to what each block adds.
    """

    def __init__(self, *, width: int, layout: Sequence[str], n_heads: int, dropout: float) -> None:
        super().__init__()
        blocks = []
        for index, kind in enumerate(layout):
            pair = [make_block(kind, width=width, n_heads=n_heads, index=index, n_blocks=len(layout)) for _ in range(2)]
            blocks.append(BidirectionalBlock(*pair, dropout=dropout))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(records, width, tokens)`` to the same shape."""
        with torch.autocast(features.device.type, enabled=False):
            tokens = features.float().transpose(1, 2)
            return self.norm(self.blocks(tokens)).transpose(1, 2)
