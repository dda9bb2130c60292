"""sLSTM over a sequence: the stabilised recurrence of Beck et al. (2024), arXiv:2405.04517, equations 8 to 17.

On the CPU it is fused over time (`ecgkit.models.kernels.slstm_numba`), as an operator of PyTorch, which
``torch.compile`` and ``torch.export`` treat as one node. On other devices, and without numba, it is a scan in plain
PyTorch whose backward pass is linear in the length. (The vanilla cell of the ``xlstm`` package writes every step into
one tensor in place; its backward pass copies that whole tensor in every step.)
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
    """Compute the sLSTM recurrence over a sequence, in float64 if any input is, otherwise in float32.

    The result depends on the stabiliser only in a first step whose normaliser is zero. The derivative is exact also
    where input and forget gate tie, which upstream's autograd counts twice.

    Parameters
    ----------
    inputs : Tensor, shape (records, steps, heads, 4, head_width)
        The input's contribution to the gates: input, forget, cell and output gate.
    states : Tensor, shape (4, records, heads * head_width)
        Output, cell, normaliser and stabiliser before the first step; zeros for a new sequence.
    recurrent : Tensor, shape (heads, head_width, 4, head_width)
        Weights from each unit's output to the gates of its head.
    bias : Tensor, shape (heads, 4, head_width)
        Bias of the gates.
    backend : str, default "auto"
        ``"numba"``, ``"torch"`` (which can be differentiated twice), or ``"auto"``: numba if available.

    Returns
    -------
    outputs : Tensor, shape (records, steps, heads * head_width)
    last : Tensor, shape (4, records, heads * head_width)
        States after the last step.
    """
    arguments = (inputs, states, recurrent, bias)
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in arguments) else torch.float32
    tensors = [tensor.to(dtype) for tensor in arguments]
    if backend == "torch" or inputs.device.type != "cpu" or numba_problem():
        with torch.autocast(inputs.device.type, enabled=False):
            return slstm_scan(*tensors)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    outputs, last, _ = slstm_fused(*tensors, keep)
    return outputs, last


def slstm_scan(inputs: Tensor, states: Tensor, recurrent: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the recurrence step by step in plain PyTorch, as `slstm`."""
    heads, head_width = recurrent.shape[:2]
    weights = recurrent.flatten(2)
    output, cell, normaliser, stabiliser = states.unflatten(-1, (heads, head_width)).unbind()
    # As upstream: in a new sequence the stabiliser is ignored. A tensor, which export can trace.
    fresh = (normaliser == 0).all()
    outputs = []
    for index, step in enumerate((inputs + bias).unbind(1)):
        mixed = torch.bmm(output.transpose(0, 1), weights).transpose(0, 1).unflatten(-1, (4, head_width))
        gate_in, gate_forget, cell_in, gate_out = (step + mixed).unbind(2)
        log_forget = stabiliser + logsigmoid(gate_forget)
        stabiliser = torch.maximum(gate_in, log_forget)
        if index == 0:
            stabiliser = torch.where(fresh, gate_in, stabiliser)
        # Upstream bounds both gates by one, which only the first step of a new sequence can exceed. The bound comes
        # before the exponential, since the gradient of a clipped infinity is NaN.
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
    """Compute the recurrence fused over time, by `ecgkit.models.kernels.slstm_numba.forward`."""
    from ecgkit.models.kernels import slstm_numba

    return slstm_numba.forward(inputs, states, recurrent, bias, keep=keep)


@slstm_fused.register_fake
def fake_slstm(inputs: Tensor, states: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return empty tensors with the shapes of the operator's results."""
    _, _, keep = others
    records, steps, heads, _, head_width = inputs.shape
    outputs = inputs.new_empty(records, steps, heads * head_width)
    saved = inputs.new_empty((records, heads, steps, SAVED, head_width) if keep else (0,))
    return outputs, inputs.new_empty(states.shape), saved


@torch.library.custom_op("ecgkit::slstm_backward", mutates_args=(), device_types="cpu")
def slstm_fused_backward(  # noqa: PLR0917 - the arguments of an operator
    doutputs: Tensor, dlast: Tensor, outputs: Tensor, saved: Tensor, states: Tensor, recurrent: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of `slstm_fused` by inputs, states and recurrent weights."""
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
def fake_slstm_backward(*arguments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return empty tensors with the shapes of the operator's results."""
    saved, states, recurrent = arguments[3:]
    records, heads, steps, _, head_width = saved.shape
    dinputs = saved.new_empty(records, steps, heads, 4, head_width)
    return dinputs, saved.new_empty(states.shape), saved.new_empty(recurrent.shape)


def keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Save what the backward pass needs."""
    _, states, recurrent, _, _ = inputs
    outputs, _, saved = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(outputs, saved, states, recurrent)


def differentiate(
    context: Any, doutputs: Tensor | None, dlast: Tensor | None, dsaved: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
    """Compute the gradients of the operator by its arguments."""
    del dsaved
    outputs, saved, states, recurrent = context.saved_tensors
    doutputs = torch.zeros_like(outputs) if doutputs is None else doutputs
    dlast = torch.zeros_like(states) if dlast is None else dlast
    dinputs, dstates, drecurrent = slstm_fused_backward(doutputs, dlast, outputs, saved, states, recurrent)
    return dinputs, dstates, drecurrent, dinputs.sum((0, 1)), None


slstm_fused.register_autograd(differentiate, setup_context=keep_for_backward)


def numba_problem() -> str:
    """Return the reason why numba cannot be used, or an empty string."""
    return find_numba_problem()


@lru_cache
def find_numba_problem() -> str:
    """Import numba, which takes half a second, once."""
    try:
        import numba

        from ecgkit.models.kernels import slstm_numba  # noqa: F401 - checks that it can be imported
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "numba"
        return "numba is not installed" if missing else f"numba cannot be imported: {error}"
    settings: Any = numba.config
    return "numba's compiler is switched off" if settings.DISABLE_JIT else ""


# What torch.compiler.assume_constant_result does, without its import of the whole compiler, which takes seconds.
numba_problem._dynamo_marked_constant = True  # type: ignore[attr-defined]
