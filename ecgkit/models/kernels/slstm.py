"""sLSTM as a scan in plain PyTorch whose backward is linear in the length.

The vanilla cell of the ``xlstm`` package writes every step into one tensor in place; its backward then copies that
whole tensor once a step. Here the steps are kept in a list and stacked once. The recurrence is the package's own: the
stabilised sLSTM of Beck et al. (2024), arXiv:2405.04517.
"""

from __future__ import annotations

from types import MethodType
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


def slstm_scan(inputs: Tensor, states: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
    """Run the sLSTM recurrence over a sequence.

    Parameters
    ----------
    inputs : Tensor, shape (steps, records, 4 * width)
        What the input adds to the gates: input, forget, cell and output gate side by side.
    states : Tensor, shape (4, records, width)
        Output, cell, normaliser and stabiliser before the first step.
    recurrent : Tensor, shape (heads, 4 * head_width, head_width)
        Recurrent weights, one block a head.
    bias : Tensor, shape (4 * width,)
        Of the gates.

    Returns
    -------
    Tensor, shape (4, steps + 1, records, width)
        All states, the first ones included.
    """
    _, records, width = states.shape
    heads, _, head_width = recurrent.shape
    weights = recurrent.transpose(1, 2)
    inputs = inputs + bias
    output, cell, normaliser, stabiliser = states.unbind()
    # As upstream: before anything was read, the stabiliser does not count. A tensor, so that export can trace it.
    fresh = (normaliser == 0).all()
    steps = [states]
    for index, step in enumerate(inputs.unbind()):
        by_head = torch.bmm(output.reshape(records, heads, head_width).transpose(0, 1), weights)
        mixed = by_head.reshape(heads, records, 4, head_width).permute(1, 2, 0, 3).reshape(records, 4 * width)
        gate_in, gate_forget, cell_in, gate_out = (step + mixed).chunk(4, dim=1)
        log_forget = stabiliser + logsigmoid(gate_forget)
        stabiliser = torch.maximum(gate_in, log_forget)
        if index == 0:
            stabiliser = torch.where(fresh, gate_in, stabiliser)
        # Upstream bounds both gates by one; after the very first step only the forget gate can exceed it.
        gate_in = torch.exp(gate_in - stabiliser)
        forget = torch.exp(log_forget - stabiliser).clamp(max=1.0)
        cell = forget * cell + gate_in * torch.tanh(cell_in)
        normaliser = forget * normaliser + gate_in
        output = torch.sigmoid(gate_out) * cell / normaliser
        steps.append(torch.stack((output, cell, normaliser, stabiliser)))
    return torch.stack(steps, dim=1)


def scan_of_cell(cell: nn.Module, training: bool, inputs: Tensor, states: Tensor) -> Tensor:  # noqa: FBT001 - upstream's
    """Stand in for the cell's own ``_impl``, with the same arguments and result."""
    del training
    return slstm_scan(inputs, states, cast("Tensor", cell._recurrent_kernel), cast("Tensor", cell._bias))


def use_linear_scan(model: nn.Module) -> nn.Module:
    """Let every vanilla sLSTM cell inside a model use the scan; parameters and their names stay as they are.

    Parameters
    ----------
    model : Module
        Any model with blocks of the ``xlstm`` package in it; changed in place.

    Returns
    -------
    Module
        The model itself.
    """
    for module in model.modules():
        if type(module).__name__ == "sLSTMCell_vanilla":
            setattr(module, "_impl", MethodType(scan_of_cell, module))  # noqa: B010 - no parameter of a Module
    return model
