"""The cells of the ``xlstm`` package with our kernels: same parameters, same names, same results.

Each class replaces its parent as the class of an existing object, so that it adds no parameter and no buffer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, layer_norm
from xlstm.blocks.mlstm.cell import mLSTMCell
from xlstm.blocks.slstm.cell import sLSTMCell_cuda, sLSTMCell_vanilla
from xlstm.components.conv import CausalConv1d
from xlstm.components.linear_headwise import LinearHeadwiseExpand
from xlstm.components.ln import MultiHeadLayerNorm

from ecgkit.models.kernels.mlstm import mlstm
from ecgkit.models.kernels.slstm import slstm

BLOCK_WIDTH = 32
"""Features up to which `MergedLinear` merges narrow heads, so that vector instructions are used."""


class SLSTMCell(sLSTMCell_vanilla):
    """Upstream's sLSTM cell in plain PyTorch, computed by `slstm`."""

    kernel = "auto"

    def forward(self, input: Tensor, state: Tensor | None = None, lengths: Any = None) -> tuple[Tensor, Tensor]:  # noqa: A002
        """Run over a sequence; same arguments and results as upstream."""
        del lengths
        return run_slstm(self, input, state)


class PortableSLSTMCell(sLSTMCell_cuda):
    """Upstream's sLSTM cell in CUDA, unchanged on a GPU and computed by `slstm` on a CPU."""

    kernel = "auto"

    def forward(self, input: Tensor, state: Tensor | None = None, lengths: Any = None) -> tuple[Tensor, Tensor]:  # noqa: A002
        """Run over a sequence; same arguments and results as upstream."""
        return super().forward(input, state, lengths) if input.is_cuda else run_slstm(self, input, state)


def run_slstm(cell: Any, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute a cell's recurrence by `slstm`, with upstream's layouts."""
    cell._check_input(inputs)
    config = cell.config
    by_record = inputs if config.input_shape == "BSGNH" else inputs.transpose(0, 1)
    states = cell._get_state(by_record.transpose(0, 1), state)
    gates = by_record.unflatten(-1, (4, config.num_heads, config.head_dim)).transpose(2, 3)
    recurrent = cell._recurrent_kernel_int2ext(cell._recurrent_kernel)
    outputs, last = slstm(gates, states, recurrent, cell._bias_int2ext(cell._bias), backend=cell.kernel)
    return cell._permute_output(outputs.transpose(0, 1).to(inputs.dtype)), last.to(inputs.dtype)


class MLSTMCell(mLSTMCell):
    """Upstream's mLSTM cell, computed by `mlstm`; for any length, since it needs no causal mask."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
        """Run over a sequence; same arguments and result as upstream."""
        del kwargs
        n_heads, width = self.config.num_heads, q.shape[-1]
        weight = torch.cat((self.igate.weight, self.fgate.weight))
        bias = torch.cat((self.igate.bias, self.fgate.bias))
        # Three products of a few rows each: joining the three inputs would copy them, and columns are slower.
        parts = zip(weight.split(width, 1), (q, k, v), strict=True)
        gates = sum(part @ features.flatten(0, 1).t() for part, features in parts) + bias[:, None]
        gate_in, gate_forget = gates.unflatten(1, q.shape[:2]).transpose(0, 1).split(n_heads, dim=1)
        q, k, v = (x.unflatten(-1, (n_heads, -1)).transpose(1, 2) for x in (q, k, v))
        normed = self.outnorm(mlstm(q, k, v, gate_in, gate_forget))
        return normed.transpose(1, 2).flatten(2)


class HeadNorm(MultiHeadLayerNorm):
    """Upstream's norm of each head, computed as a layer norm."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - upstream's name
        """Map ``(records, heads, steps, head_width)`` to the same shape."""
        heads = input.transpose(1, 2)
        normed = layer_norm(heads, heads.shape[-1:], eps=self.eps)
        for parameter, apply in ((self.weight_proxy, torch.mul), (self.bias, torch.add)):
            if parameter is not None:
                normed = apply(normed, parameter.view(heads.shape[-2:]).to(normed.dtype))
        return normed.transpose(1, 2)


class ChannelsLastConv(CausalConv1d):
    """Upstream's causal convolution without its transposition: the channels stay on the last axis."""

    def forward(self, x: Tensor, conv_state: Tensor | None = None, return_last_state: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Map ``(records, steps, channels)`` to the same shape; same arguments and results as upstream."""
        steps = x.shape[1]
        if conv_state is not None:
            x = torch.cat([conv_state, x], dim=1)
        # As an image of height one, the tokens already have PyTorch's channels-last layout.
        weight, groups = self.conv.weight.unsqueeze(2), self.groups
        image = conv2d(x.transpose(1, 2).unsqueeze(2), weight, self.conv.bias, padding=(0, self.pad), groups=groups)
        outputs = image[:, :, 0, x.shape[1] - steps : x.shape[1]].transpose(1, 2)
        return (outputs, x[:, -self.pad :]) if return_last_state else outputs


class MergedLinear(LinearHeadwiseExpand):
    """Upstream's projection of each head, with narrow heads merged into block-diagonal matrices."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        n_heads, n_out, n_in = self.weight.shape
        merged = max(n for n in range(1, n_heads + 1) if n_heads % n == 0 and n * n_in <= max(n_in, BLOCK_WIDTH))
        # (blocks, in, out, heads, heads), nonzero only on the diagonal of the last two.
        spread = self.weight.unflatten(0, (-1, merged)).permute(0, 3, 2, 1).diag_embed()
        blocks = spread.permute(0, 3, 1, 4, 2).reshape(-1, merged * n_in, merged * n_out)
        features = x.reshape(-1, len(blocks), merged * n_in).transpose(0, 1)
        projected = torch.bmm(features, blocks).transpose(0, 1).reshape(*x.shape[:-1], -1)
        return projected if self.bias is None else projected + self.bias


def swap(module: Any, backend: str) -> None:
    """Replace the class of one module, if it is a part of upstream that we support."""
    kind = type(module)
    if kind in (sLSTMCell_vanilla, SLSTMCell) and module.config.function == "slstm":
        module.__class__, module.kernel = SLSTMCell, backend
    elif kind in (sLSTMCell_cuda, PortableSLSTMCell) and is_plain(module.config):
        module.__class__, module.kernel = PortableSLSTMCell, backend
    elif kind is mLSTMCell:
        module.__class__, module.causal_mask = MLSTMCell, None
    elif kind is CausalConv1d and module.config.kernel_size > 1 and not module.config.conv1d_kwargs:
        module.__class__ = ChannelsLastConv
    elif kind is MultiHeadLayerNorm:
        module.__class__ = HeadNorm
    elif kind is LinearHeadwiseExpand and 2 * module.weight.shape[-1] <= BLOCK_WIDTH:
        module.__class__ = MergedLinear


def is_plain(config: Any) -> bool:
    """Return True if a cell uses no option that only upstream's CUDA kernels support."""
    clipped = config.gradient_recurrent_clipval is not None or config.forward_clipval is not None
    return config.function == "slstm" and not config.gradient_recurrent_cut and not clipped
