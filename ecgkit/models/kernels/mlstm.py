"""mLSTM over a sequence, chunk by chunk: linear in the length, in plain PyTorch on any device.

A chunk is computed in the parallel form of Beck et al. (2024), arXiv:2405.04517, appendix A.3. The state of the
recurrent form (matrix memory, normaliser and stabiliser) is passed from chunk to chunk (Beck et al., 2025,
arXiv:2503.14376). The backward pass recomputes each chunk from the state before it. It needs no derivatives of the
gate matrices: a gate weights products of a query and a key, so that its gradient follows from ``query * dquery`` and
``key * dkey``, summed over the units of the head.

The chunks are processed one after the other, so that their data stay in the cache. Forward and backward pass are
operators of PyTorch: ``torch.compile`` and ``torch.export`` treat each as one node.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

CHUNK = 50
"""Largest number of steps per chunk, measured on the CPU for heads of width 64, where 32 to 64 differ little."""

EPS = 1e-6
"""Added to the normaliser, as upstream does."""


def mlstm(queries: Tensor, keys: Tensor, values: Tensor, gate_in: Tensor, gate_forget: Tensor) -> Tensor:
    """Compute the mLSTM over a sequence, in float64 if any input is, otherwise in float32.

    Parameters
    ----------
    queries, keys : Tensor, shape (records, heads, steps, key_width)
    values : Tensor, shape (records, heads, steps, value_width)
    gate_in, gate_forget : Tensor, shape (records, heads, steps)
        Input and forget gate before their activations (exponential and sigmoid).

    Returns
    -------
    Tensor, shape (records, heads, steps, value_width)
        Outputs of the memory, of the same type as those of upstream's parallel form, also under autocast.
    """
    arguments = (queries, keys, values, gate_in, gate_forget)
    device = queries.device.type
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in arguments) else torch.float32
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments)
    outputs, *_ = mlstm_chunkwise(*(tensor.to(dtype) for tensor in arguments), keep)
    if torch.is_autocast_enabled(device) and dtype == torch.float32:
        return outputs.transpose(1, 2).to(torch.get_autocast_dtype(device))
    return outputs.transpose(1, 2).to(queries.dtype)


class Gates(NamedTuple):
    """The gates of a chunk; all but the last are ``(heads, steps)``, with the heads of all records."""

    decay: Tensor
    """Sum of the forget gates' logarithms from the chunk's first step to each."""
    weight: Tensor
    """Input gate minus the sum, so that step s has the weight ``exp(weight_s + decay_t)`` at step t."""
    largest: Tensor
    """Largest weight so far, including the past; plus the sum it is upstream's stabiliser."""
    leader: Tensor
    """The step of the chunk with the largest weight so far."""
    past: Tensor
    """Weight of the state before the chunk at each step."""
    recall: Tensor
    """The same with the scale of the products of queries and keys."""
    matrix: Tensor
    """Weight of step s at step t, with that scale, ``(heads, t, s)``."""


def weigh(gate_in: Tensor, gate_forget: Tensor, state: State | None, width: int) -> Gates:
    """Compute the weights of a chunk's steps and of the state before it, divided by the root of the keys' width."""
    stabiliser = gate_in.new_full((len(gate_in), 1), -math.inf) if state is None else state.stabiliser
    # A matrix product, since PyTorch's cumulative sum is not deterministic on a GPU.
    decay = logsigmoid(gate_forget) @ torch.ones_like(gate_in[:1]).expand(gate_in.shape[1], -1).triu()
    weight = gate_in - decay
    largest, leader = weight.cummax(1)
    largest = torch.maximum(largest, stabiliser)
    log_scale = 0.5 * math.log(width)
    past, recall = torch.exp(stabiliser - largest), torch.exp(stabiliser - largest - log_scale)
    matrix = torch.exp(weight[:, None] - (largest + log_scale)[:, :, None]).tril_()
    return Gates(decay, weight, largest, leader, past, recall, matrix)


class State(NamedTuple):
    """The state passed from chunk to chunk, for all heads; None before the first."""

    memory: Tensor
    normaliser: Tensor
    stabiliser: Tensor


def update(state: State | None, keys: Tensor, values: Tensor, gates: Gates) -> State:
    """Add a chunk to the state."""
    largest, past = gates.largest[:, -1:], gates.past[:, -1:]
    weighed = keys * torch.exp(gates.weight - largest)[:, :, None]
    memory, normaliser = torch.bmm(weighed.transpose(1, 2), values), weighed.sum(1)
    if state is not None:
        memory.addcmul_(state.memory, past[:, :, None])
        normaliser.addcmul_(state.normaliser, past)
    return State(memory, normaliser, gates.decay[:, -1:] + largest)


def chunks(n_steps: int) -> list[slice]:
    """Split a sequence into the fewest chunks of at most `CHUNK` steps, of about equal length."""
    length = -(-n_steps // -(-n_steps // CHUNK))
    return [slice(start, min(start + length, n_steps)) for start in range(0, n_steps, length)]


def cut(tensor: Tensor, chunk: slice) -> Tensor:
    """Return a chunk of ``(records, heads, steps, ...)`` as ``(records * heads, steps, ...)``."""
    return tensor[:, :, chunk].flatten(0, 1)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Compute the scalar products over the last axis."""
    return (first * second).sum(-1)


def attend(q: Tensor, k: Tensor, v: Tensor, gates: Gates, state: State | None) -> tuple[Tensor, Tensor]:
    """Compute the outputs of a chunk before normalisation, and the products of queries and normaliser."""
    scores = torch.bmm(q, k.transpose(1, 2)).mul_(gates.matrix)
    product, answer = scores.sum(2), torch.bmm(scores, v)
    if state is None:
        return answer, product
    weighed = q * gates.recall[:, :, None]
    product += torch.bmm(weighed, state.normaliser[:, :, None])[:, :, 0]
    return answer.baddbmm_(weighed, state.memory), product


@torch.library.custom_op("ecgkit::mlstm", mutates_args=())
def mlstm_chunkwise(  # noqa: PLR0917 - the arguments of an operator
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    gate_in: Tensor,
    gate_forget: Tensor,
    keep: bool,  # noqa: FBT001
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute all chunks; `empty_results` describes the results."""
    records, heads, steps, width = queries.shape
    results = empty_results(queries, values, keep=keep)
    outputs, products, *states = results
    for target in states:
        target[steps // CHUNK :] = 0
    state: State | None = None
    with torch.autocast(queries.device.type, enabled=False):
        for index, chunk in enumerate(chunks(steps)):
            q, k, v = cut(queries, chunk), cut(keys, chunk), cut(values, chunk)
            gates = weigh(cut(gate_in, chunk), cut(gate_forget, chunk), state, width)
            answer, product = attend(q, k, v, gates, state)
            floor = torch.exp(-gates.decay - gates.largest)
            answer /= (torch.maximum(product.abs(), floor) + EPS)[:, :, None]
            outputs.transpose(1, 2)[:, :, chunk] = answer.unflatten(0, (records, heads))
            if chunk.stop < steps:
                state = update(state, k, v, gates)
            if keep:
                products[:, chunk] = product
            if keep and chunk.stop < steps:
                for target, part in zip(states, state or (), strict=True):
                    target[index] = part
    return results


def empty_results(queries: Tensor, values: Tensor, *, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Create the results of `mlstm_chunkwise`; without ``keep``, those for the backward pass are empty."""
    records, heads, steps, width = queries.shape
    # More than needed, and never one or zero: such a size would fix the length of an exported program.
    n_heads, n_states = records * heads, (steps // CHUNK + 2 if keep else 0)
    outputs = values.new_empty(records, steps, heads, values.shape[-1])
    products = queries.new_empty(n_heads, steps if keep else 0)
    memory = queries.new_empty(n_states, n_heads, width, values.shape[-1])
    normaliser, stabiliser = (queries.new_empty(n_states, n_heads, n) for n in (width, 1))
    return outputs, products, memory, normaliser, stabiliser


@mlstm_chunkwise.register_fake
def fake_mlstm(queries: Tensor, _keys: Tensor, values: Tensor, *gates_and_keep: Any) -> tuple[Tensor, ...]:
    """Return empty tensors with the shapes of the operator's results."""
    return empty_results(queries, values, keep=gates_and_keep[-1])


class Gradients:
    """The backward pass: gradients of the state are passed from chunk to chunk, starting with the last."""

    def __init__(self, heads: Tensor) -> None:
        self.memory: Tensor | None = None
        self.normaliser = self.stabiliser = self.decay = heads

    def products(  # noqa: PLR0917
        self, q: Tensor, k: Tensor, v: Tensor, gates: Gates, danswer: Tensor, dproduct: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the gradients of queries, keys and values of a chunk from those of `attend`'s results."""
        dscores = torch.baddbmm(dproduct[:, :, None], danswer, v.transpose(1, 2)).mul_(gates.matrix)
        scores = torch.bmm(q, k.transpose(1, 2)).mul_(gates.matrix)
        dq, dk = torch.bmm(dscores, k), torch.bmm(dscores.transpose(1, 2), q)
        dv = torch.bmm(scores.transpose(1, 2), danswer)
        if self.memory is not None:
            ahead = torch.exp(gates.weight - gates.largest[:, -1:])[:, :, None]
            dk += (torch.bmm(v, self.memory.transpose(1, 2)) + self.normaliser[:, None]) * ahead
            dv.baddbmm_(k * ahead, self.memory)
        return dq, dk, dv

    def reach_back(
        self, q: Tensor, gates: Gates, state: State | None, danswer: Tensor, dproduct: Tensor
    ) -> Tensor | float:
        """Update the gradients of the state before the chunk; return its contribution to those of the queries."""
        if state is None:
            return 0.0
        recall, kept = gates.recall[:, :, None], gates.past[:, -1:]
        weighed = (q * recall).transpose(1, 2)
        memory, normaliser = torch.bmm(weighed, danswer), torch.bmm(weighed, dproduct[:, :, None])[:, :, 0]
        if self.memory is not None:
            memory.addcmul_(self.memory, kept[:, :, None])
            normaliser.addcmul_(self.normaliser, kept)
        self.memory, self.normaliser = memory, normaliser
        found = torch.bmm(danswer, state.memory.transpose(1, 2))
        return found.addcmul_(dproduct[:, :, None], state.normaliser[:, None]).mul_(recall)

    def gates(self, by_query: Tensor, by_key: Tensor, dstabiliser: Tensor, gates: Gates) -> tuple[Tensor, Tensor]:
        """Compute the gradients of input gates and of the logarithms of forget gates, both ``(heads, steps)``.

        The result depends on the stabiliser only through `EPS`; its gradient belongs to the step that set it.
        """
        ddecay = by_query + dstabiliser
        dstabiliser[:, -1] += self.stabiliser
        is_past = gates.past == 1
        self.stabiliser = (dstabiliser * is_past).sum(1)
        heads, steps = by_key.shape
        dgate_in = by_key.clone().view(-1)
        leader = gates.leader + steps * torch.arange(heads, device=by_key.device)[:, None]
        dgate_in.index_add_(0, leader.view(-1), (dstabiliser * ~is_past).view(-1))
        dgate_in = dgate_in.view(heads, steps)
        ddecay -= dgate_in
        # Each forget gate is in the sums of all later steps; a matrix product for determinism, as in `weigh`.
        dlog_forget = ddecay @ ddecay.new_ones(steps, steps).tril() + self.decay[:, None]
        self.decay = self.decay + ddecay.sum(1)
        return dgate_in, dlog_forget


@torch.library.custom_op("ecgkit::mlstm_backward", mutates_args=())
def mlstm_chunkwise_backward(  # noqa: PLR0917
    doutputs: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    gate_in: Tensor,
    gate_forget: Tensor,
    outputs: Tensor,
    products: Tensor,
    memory: Tensor,
    normaliser: Tensor,
    stabiliser: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of `mlstm_chunkwise`; those of queries, keys and values in the layout of its outputs."""
    records, heads, steps, width = queries.shape
    results = empty_gradients(queries, keys, values, gate_in, gate_forget)
    targets = [*(result.transpose(1, 2) for result in results[:3]), *results[3:]]
    gradients = Gradients(queries.new_zeros(records * heads))
    with torch.autocast(queries.device.type, enabled=False):
        for index, chunk in reversed(list(enumerate(chunks(steps)))):
            state = State(memory[index - 1], normaliser[index - 1], stabiliser[index - 1]) if index else None
            q, k, v, forget = (cut(tensor, chunk) for tensor in (queries, keys, values, gate_forget))
            gates = weigh(cut(gate_in, chunk), forget, state, width)
            product, floor = products[:, chunk], torch.exp(-gates.decay - gates.largest)
            divisor = torch.maximum(product.abs(), floor) + EPS
            danswer = cut(doutputs.transpose(1, 2), chunk) / divisor[:, :, None]
            drift = dot(danswer, cut(outputs.transpose(1, 2), chunk))
            dproduct = -drift * product.sign() * (product.abs() >= floor)
            dq, dk, dv = gradients.products(q, k, v, gates, danswer, dproduct)
            dq += gradients.reach_back(q, gates, state, danswer, dproduct)
            din, dlog_forget = gradients.gates(dot(q, dq), dot(k, dk), -EPS * drift, gates)
            dforget = dlog_forget * torch.sigmoid(-forget)
            for target, part in zip(targets, (dq, dk, dv, din, dforget), strict=True):
                target[:, :, chunk] = part.unflatten(0, (records, heads))
    return results


def empty_gradients(
    queries: Tensor, keys: Tensor, values: Tensor, gate_in: Tensor, gate_forget: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Create what `mlstm_chunkwise_backward` fills."""
    dq, dk, dv = (x.new_empty(x.transpose(1, 2).shape) for x in (queries, keys, values))
    return dq, dk, dv, gate_in.new_empty(gate_in.shape), gate_forget.new_empty(gate_forget.shape)


@mlstm_chunkwise_backward.register_fake
def fake_mlstm_backward(doutputs: Tensor, *saved: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return empty tensors with the shapes of the operator's results."""
    del doutputs
    return empty_gradients(*saved[:5])


def keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Save what the backward pass needs."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:5], *output)


def differentiate(ctx: Any, doutputs: Tensor | None, *others: None) -> tuple[Tensor | None, ...]:
    """Compute the gradients of the operator by its arguments."""
    del others
    if doutputs is None:
        return (None,) * 6
    dq, dk, dv, dgate_in, dgate_forget = mlstm_chunkwise_backward(doutputs, *ctx.saved_tensors)
    return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2), dgate_in, dgate_forget, None


mlstm_chunkwise.register_autograd(differentiate, setup_context=keep_for_backward)
