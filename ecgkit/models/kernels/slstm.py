"""sLSTM over a sequence: the stabilised recurrence of Beck et al. (2024), arXiv:2405.04517, equations 8 to 17.

On the CPU it runs fused over time (`ecgkit.models.kernels.slstm_numba`), as an operator of PyTorch, so that
``torch.compile`` and ``torch.export`` take it as one node. Elsewhere, a GPU included, and where numba is missing, it is
a scan in plain PyTorch whose backward is linear in the length. (The vanilla cell of the ``xlstm`` package writes every
step into one tensor in place; its backward then copies that whole tensor once a step.)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ecgkit.models.kernels.layout import SAVED


def slstm(
    inputs: Tensor, states: Tensor, recurrent: Tensor, bias: Tensor, *, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Run the sLSTM recurrence over a sequence, in float32 or, if anything comes in float64, in float64.

    The result does not depend on the stabiliser but where a first step finds a normaliser of zero; the derivative is
    that of the function, also where input and forget gate tie and upstream's autograd counts the tie twice.

    Parameters
    ----------
    inputs : Tensor, shape (records, steps, heads, 4, head_width)
        What the input adds to the gates: input, forget, cell and output gate.
    states : Tensor, shape (4, records, heads * head_width)
        Output, cell, normaliser and stabiliser before the first step; zeros begin afresh.
    recurrent : Tensor, shape (heads, head_width, 4, head_width)
        Weights from each unit's output to the gates of its head.
    bias : Tensor, shape (heads, 4, head_width)
        Of the gates.
    backend : str, default "auto"
        ``"numba"``, ``"torch"``, or ``"auto"``: numba where it can serve. Only ``"torch"`` can be differentiated twice.

    Returns
    -------
    outputs : Tensor, shape (records, steps, heads * head_width)
    last : Tensor, shape (4, records, heads * head_width)
        States after the last step.
    """
    given = (inputs, states, recurrent, bias)
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in given) else torch.float32
    tensors = [tensor.to(dtype) for tensor in given]
    if backend == "torch" or inputs.device.type != "cpu" or numba_problem():
        with torch.autocast(inputs.device.type, enabled=False):
            return slstm_scan(*tensors)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    outputs, last, _ = slstm_fused(*tensors, keep)
    return outputs, last


def slstm_scan(inputs: Tensor, states: Tensor, recurrent: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recurrence step by step in plain PyTorch; as `slstm`."""
    heads, head_width = recurrent.shape[:2]
    weights = recurrent.flatten(2)
    output, cell, normaliser, stabiliser = states.unflatten(-1, (heads, head_width)).unbind()
    # As upstream: before anything was read, the stabiliser does not count. A tensor, so that export can trace it.
    fresh = (normaliser == 0).all()
    outputs = []
    for index, step in enumerate((inputs + bias).unbind(1)):
        mixed = torch.bmm(output.transpose(0, 1), weights).transpose(0, 1).unflatten(-1, (4, head_width))
        gate_in, gate_forget, cell_in, gate_out = (step + mixed).unbind(2)
        log_forget = stabiliser + logsigmoid(gate_forget)
        stabiliser = torch.maximum(gate_in, log_forget)
        if index == 0:
            stabiliser = torch.where(fresh, gate_in, stabiliser)
        # Upstream bounds both gates by one, which only a fresh first step can exceed. Bounded before the exponential,
        # for the gradient of an infinity that is cut off is NaN.
        gate_in = torch.exp(gate_in - stabiliser)
        forget = torch.exp((log_forget - stabiliser).clamp(max=0.0))
        cell = forget * cell + gate_in * torch.tanh(cell_in)
        normaliser = forget * normaliser + gate_in
        output = torch.sigmoid(gate_out) * cell / normaliser
        outputs.append(output)
    last = torch.stack((output, cell, normaliser, stabiliser))
    return torch.stack(outputs, dim=1).flatten(2), last.flatten(2)


@torch.library.custom_op("ecgkit::slstm", mutates_args=(), device_types="cpu")
def slstm_fused(
    inputs: Tensor,
    states: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    keep: bool,  # noqa: FBT001 - the arguments of an operator
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the recurrence fused over time; as `ecgkit.models.kernels.slstm_numba.forward`."""
    from ecgkit.models.kernels import slstm_numba

    return slstm_numba.forward(inputs, states, recurrent, bias, keep=keep)


@slstm_fused.register_fake
def fake_slstm(
    inputs: Tensor,
    states: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    keep: bool,  # noqa: FBT001
) -> tuple[Tensor, Tensor, Tensor]:
    """Describe the operator's results without computing them."""
    del recurrent, bias
    records, steps, heads, _, head_width = inputs.shape
    outputs = inputs.new_empty(records, steps, heads * head_width)
    saved = inputs.new_empty((records, heads, steps, SAVED, head_width) if keep else (0,))
    return outputs, inputs.new_empty(states.shape), saved


@torch.library.custom_op("ecgkit::slstm_backward", mutates_args=(), device_types="cpu")
def slstm_fused_backward(  # noqa: PLR0917 - the arguments of an operator
    doutputs: Tensor, dlast: Tensor, outputs: Tensor, saved: Tensor, states: Tensor, recurrent: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of `slstm_fused`'s inputs, states and recurrent weights."""
    from ecgkit.models.kernels import slstm_numba

    heads, head_width = recurrent.shape[:2]
    dinputs, dstates = slstm_numba.backward(doutputs, dlast, saved, states, recurrent)
    gates = dinputs.flatten(3)
    before, first = outputs.unflatten(-1, (heads, head_width)), states[0].unflatten(-1, (heads, head_width))
    with torch.autocast("cpu", enabled=False):
        drecurrent = torch.bmm(first.permute(1, 2, 0), gates[:, 0].transpose(0, 1))
        for head in range(heads):
            products = torch.bmm(before[:, :-1, head].transpose(1, 2), gates[:, 1:, head])
            drecurrent[head] += products.sum(0)
    return dinputs, dstates, drecurrent.unflatten(-1, (4, head_width))


@slstm_fused_backward.register_fake
def fake_slstm_backward(  # noqa: PLR0917
    doutputs: Tensor, dlast: Tensor, outputs: Tensor, saved: Tensor, states: Tensor, recurrent: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Describe the operator's results without computing them."""
    del doutputs, dlast, outputs
    records, heads, steps, _, head_width = saved.shape
    dinputs = saved.new_empty(records, steps, heads, 4, head_width)
    return dinputs, saved.new_empty(states.shape), saved.new_empty(recurrent.shape)


def keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Keep what the way back needs."""
    _, states, recurrent, _, _ = inputs
    outputs, _, saved = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(outputs, saved, states, recurrent)


def differentiate(
    context: Any, doutputs: Tensor | None, dlast: Tensor | None, dsaved: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
    """Give the gradients of the operator's arguments."""
    del dsaved
    outputs, saved, states, recurrent = context.saved_tensors
    doutputs = torch.zeros_like(outputs) if doutputs is None else doutputs
    dlast = torch.zeros_like(states) if dlast is None else dlast
    dinputs, dstates, drecurrent = slstm_fused_backward(doutputs, dlast, outputs, saved, states, recurrent)
    return dinputs, dstates, drecurrent, dinputs.sum((0, 1)), None


slstm_fused.register_autograd(differentiate, setup_context=keep_for_backward)


@torch.compiler.assume_constant_result
def numba_problem() -> str:
    """Say why numba cannot serve here; nothing if it can."""
    return find_numba_problem()


@lru_cache
def find_numba_problem() -> str:
    """Look for numba, which takes half a second, once."""
    try:
        import numba

        from ecgkit.models.kernels import slstm_numba  # noqa: F401 - says whether it can be imported
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "numba"
        return "numba is not installed" if missing else f"numba cannot be imported: {error}"
    settings: Any = numba.config
    return "numba's compiler is switched off" if settings.DISABLE_JIT else ""
