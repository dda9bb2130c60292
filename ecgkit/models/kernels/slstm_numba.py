"""sLSTM fused over time for the CPU, compiled by numba on first use.

Heads and records are independent: a task is one head of a few records, which runs through all steps with its recurrent
weights in the cache. Threads share the tasks; the result does not depend on their number.

The data of a task are one array with one row per record, at offsets that are constants when numba compiles (the head
width is one). This lets LLVM see that nothing overlaps, and use vector instructions.
"""

# ruff: noqa: PLR0917 - numba has no keywords that cost nothing

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic, overload, register_jitable
from torch import Tensor

from ecgkit.models.kernels.layout import SAVED

BLOCK = 8
"""Records per task; even, since they are multiplied in pairs."""

SMALL = 1 << 16
"""Gate values per batch below which starting threads takes longer than it saves."""

OPTIONS: Any = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}
"""LLVM may fuse a product and a sum, but not reorder sums or assume that there is no NaN; division by zero is not
checked."""


def bitcast(to: Any) -> Any:
    """Create a function that reads the bits of a number as a number of another type."""

    @intrinsic
    def cast(context: Any, value: Any) -> Any:
        del context

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            return builder.bitcast(arguments[0], context.get_value_type(to))

        return to(value), generate

    return cast


bits_of, float_of = bitcast(types.int32), bitcast(types.float32)

# As float32, since numba computes a float32 with a Python number in float64.
ONE, TWO = np.float32(1), np.float32(2)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
LOWEST, HIGHEST = np.float32(-87), np.float32(88)
# Adding 1.5 * 2^23 rounds a float32 to a whole number, and leaves it in the lowest bits.
ROUNDER, MANTISSA, EXPONENT_ZERO = np.float32(12582912), np.int32(23), np.int32(127 << 23)
E2, E3, E4, E5, E6, E7 = (np.float32(1 / math.factorial(i)) for i in range(2, 8))
A0, A1, A2, A3, A4, A5, A6, A7 = (np.float32(2 / (2 * i + 1)) for i in range(8))


@register_jitable(**OPTIONS)
def split_exp(x: Any) -> Any:
    """Return ``p``, a power of two, and ``r`` with ``exp(x) = p + p * r`` (Cody and Waite, 1980, chapter 6)."""
    x = LOWEST if x < LOWEST else x
    x = HIGHEST if x > HIGHEST else x
    shifted = x * LOG2_E + ROUNDER
    whole = shifted - ROUNDER
    r = (x - whole * LN2_HIGH) - whole * LN2_LOW
    power = float_of(types.int32((bits_of(shifted) << MANTISSA) + EXPONENT_ZERO))
    return power, r + r * r * (E2 + r * (E3 + r * (E4 + r * (E5 + r * (E6 + r * E7)))))


def exp(x: Any) -> Any:
    """Compute the exponential, in float32 with vector instructions."""
    return math.exp(x)


def tanh(x: Any) -> Any:
    """Compute the hyperbolic tangent, in float32 with vector instructions."""
    return math.tanh(x)


def log1p(x: Any) -> Any:
    """Compute the logarithm of 1 + x for x from 0 to 1, in float32 with vector instructions."""
    return math.log1p(x)


def exp_of_c(x: Any) -> Any:
    """Call the C library."""
    return math.exp(x)


@overload(exp, jit_options=OPTIONS)
def overload_exp(x: Any) -> Any:
    """Choose by type: float64 uses the C library's functions, which cannot be vectorised."""
    if x != types.float32:
        return exp_of_c

    def exp_float32(x: Any) -> Any:
        power, rest = split_exp(x)
        return power + power * rest

    return exp_float32


def tanh_of_c(x: Any) -> Any:
    """Call the C library."""
    return math.tanh(x)


@overload(tanh, jit_options=OPTIONS)
def overload_tanh(x: Any) -> Any:
    """Choose by type; exp(2x) - 1 without cancellation keeps small values exact."""
    if x != types.float32:
        return tanh_of_c

    def tanh_float32(x: Any) -> Any:
        power, rest = split_exp(x + x)
        grown = (power - ONE) + power * rest
        return grown / (grown + TWO)

    return tanh_float32


def log1p_of_c(x: Any) -> Any:
    """Call the C library."""
    return math.log1p(x)


@overload(log1p, jit_options=OPTIONS)
def overload_log1p(x: Any) -> Any:
    """Choose by type; log(1 + x) = 2 artanh(x / (2 + x)), as its series up to the 15th power."""
    if x != types.float32:
        return log1p_of_c

    def log1p_float32(x: Any) -> Any:
        s = x / (x + TWO)
        q = s * s
        return s * (A0 + q * (A1 + q * (A2 + q * (A3 + q * (A4 + q * (A5 + q * (A6 + q * A7)))))))

    return log1p_float32


@register_jitable(inline="always", **OPTIONS)
def multiply_pair(weights: Any, rows: Any, second: int, n_in: int, n_out: int, source: int, target: int) -> None:
    """Add to two rows' ``n_out`` values at ``target`` their ``n_in`` values at ``source`` times the weights.

    ``n_in`` is a multiple of four: four products per addition, for two rows at a time, use the multipliers fully.
    """
    for k in range(0, n_in, 4):
        a0, a1, a2, a3 = rows[source + k], rows[source + k + 1], rows[source + k + 2], rows[source + k + 3]
        other = second + source + k
        b0, b1, b2, b3 = rows[other], rows[other + 1], rows[other + 2], rows[other + 3]
        w = weights[k * n_out : (k + 4) * n_out]
        for j in range(n_out):
            w0, w1, w2, w3 = w[j], w[n_out + j], w[2 * n_out + j], w[3 * n_out + j]
            rows[target + j] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
            rows[second + target + j] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3


@register_jitable(inline="always", **OPTIONS)
def copy(source: Any, start: int, target: Any, at: int, n: int) -> None:
    """Copy ``n`` values."""
    values, place = source[start : start + n], target[at : at + n]
    for j in range(n):
        place[j] = values[j]


@register_jitable(inline="always", **OPTIONS)
def add(source: Any, start: int, place: Any, n: int) -> None:
    """Add ``n`` values to the first of a row."""
    values = source[start : start + n]
    for j in range(n):
        place[j] += values[j]


@register_jitable(inline="always", **OPTIONS)
def clear(row: Any, n: int) -> None:
    """Set the first ``n`` values of a row to zero."""
    for j in range(n):
        row[j] = 0


@register_jitable(inline="always", **OPTIONS)
def add_gates(inputs: Any, start: int, stride: int, bias: Any, row: Any, n: int, gates: int) -> None:
    """Initialise a step's gates with input and bias."""
    for gate in range(4):
        values = inputs[start + gate * stride : start + gate * stride + n]
        shift, place = bias[gate * n : gate * n + n], row[gates + gate * n : gates + gate * n + n]
        for j in range(n):
            place[j] = values[j] + shift[j]


@register_jitable(inline="always", **OPTIONS)
def open_gates(row: Any, n: int, m: int, saved: int, gates: int, fresh: bool) -> None:  # noqa: FBT001
    """Apply the exponential gates with their stabiliser; one of the two is always one.

    In a fresh step the input gate alone sets the stabiliser, and both gates are bounded by one, as upstream.
    """
    zero, one = row.dtype.type(0), row.dtype.type(1)
    for j in range(n):
        gate_forget = row[gates + n + j]
        u = exp(-abs(gate_forget))
        inverse = one / (one + u)
        is_open = gate_forget >= zero
        row[saved + 4 * n + j] = u * inverse if is_open else inverse
        log_forget = row[m + j] + ((zero if is_open else gate_forget) - log1p(u))
        distance = row[gates + j] - log_forget
        lesser = exp(-abs(distance))
        input_leads = distance >= zero
        row[saved + j] = one if input_leads else lesser
        row[saved + n + j] = lesser if input_leads else one
        row[m + j] = row[gates + j] if input_leads else log_forget
    if fresh:
        for j in range(n):
            row[saved + j] = one
            row[m + j] = row[gates + j]


@register_jitable(inline="always", **OPTIONS)
def update_states(row: Any, n: int, h: int, c: int, s: int, saved: int, gates: int) -> None:
    """Compute output, cell and normaliser (at ``h``, ``c`` and ``s``) from the gates."""
    one = row.dtype.type(1)
    for j in range(n):
        row[saved + 2 * n + j] = tanh(row[gates + 2 * n + j])
    for j in range(n):
        row[saved + 3 * n + j] = one / (one + exp(-row[gates + 3 * n + j]))
    for j in range(n):
        gate_in, forget = row[saved + j], row[saved + n + j]
        cell = forget * row[c + j] + gate_in * row[saved + 2 * n + j]
        normaliser = forget * row[s + j] + gate_in
        row[c + j] = row[saved + 5 * n + j] = cell
        row[s + j] = row[saved + 6 * n + j] = normaliser
        row[h + j] = row[saved + 3 * n + j] * cell / normaliser


@register_jitable(inline="always", **OPTIONS)
def backward_row(row: Any, n: int, fresh: bool, dh: int, dstates: int, saved: int, dgates: int) -> None:  # noqa: FBT001
    """Compute the gradients of a step's gates and of the states before it from those of its output and states.

    The previous cell and normaliser follow the saved values; the gradients of cell, normaliser and stabiliser are at
    ``dstates``. Where the input gate set the stabiliser, only the forget gate varies, and vice versa; only the last
    states depend on the stabiliser itself.
    """
    zero, one = row.dtype.type(0), row.dtype.type(1)
    for j in range(n):
        gate_in, forget = row[saved + j], row[saved + n + j]
        cell_in, gate_out = row[saved + 2 * n + j], row[saved + 3 * n + j]
        inverse = one / row[saved + 6 * n + j]
        ratio = row[saved + 5 * n + j] * inverse
        doutput = row[dh + j]
        scaled = doutput * gate_out * inverse
        dcell = row[dstates + j] + scaled
        dnormaliser = row[dstates + n + j] - scaled * ratio
        dstabiliser = row[dstates + 2 * n + j]
        input_leads = gate_in >= one
        dlesser = dcell * row[saved + 7 * n + j] + dnormaliser * row[saved + 8 * n + j]
        dlesser = dlesser * forget if input_leads else (dcell * cell_in + dnormaliser) * gate_in
        dlesser = zero if fresh and forget >= one else dlesser
        rest = dstabiliser - dlesser
        dlog_forget = dlesser if input_leads else rest
        row[dgates + j] = rest if input_leads else dlesser
        row[dgates + n + j] = dlog_forget * row[saved + 4 * n + j]
        row[dgates + 2 * n + j] = dcell * gate_in * (one - cell_in * cell_in)
        row[dgates + 3 * n + j] = doutput * ratio * gate_out * (one - gate_out)
        row[dstates + j] = dcell * forget
        row[dstates + n + j] = dnormaliser * forget
        row[dstates + 2 * n + j] = dlog_forget


@register_jitable(inline="always", **OPTIONS)
def state_at(state: int, n: int) -> int:
    """Return the offset of a state in a row; states are numbered as upstream.

    The output comes last, since the weights read beyond its end where the width is not a multiple of four.
    """
    return (state + 3) % 4 * n


@lru_cache
def make_forward(n: int) -> Any:
    """Compile the forward pass for heads of a width; arguments as in `forward`."""
    padded = -(-n // 4) * 4
    c, s, m, h, values, gates = 0, n, 2 * n, 3 * n, 3 * n + padded, 10 * n + padded
    size = gates + 4 * n

    def slstm_forward(
        inputs: Any,
        strides: Any,
        states: Any,
        recurrent: Any,
        bias: Any,
        outputs: Any,
        last: Any,
        saved: Any,
        shape: Any,
        head: int,
        first: int,
        fresh: bool,  # noqa: FBT001
    ) -> None:
        records, steps, heads = shape
        n_rows = min(BLOCK, records - first)
        weights = np.zeros(padded * 4 * n, states.dtype)
        copy(recurrent, head * 4 * n * n, weights, 0, 4 * n * n)
        shift = bias[head * 4 * n : (head + 1) * 4 * n]
        rows = np.zeros(BLOCK * size, states.dtype)
        for b, state in np.ndindex(n_rows, 4):
            start = ((state * records + first + b) * heads + head) * n
            copy(states, start, rows, b * size + state_at(state, n), n)
        for t in range(steps):
            for b in range(n_rows):
                start = (first + b) * strides[0] + t * strides[1] + head * strides[2]
                add_gates(inputs, start, strides[3], shift, rows[b * size : (b + 1) * size], n, gates)
            for b in range(0, n_rows, 2):
                multiply_pair(weights, rows[b * size : (b + 2) * size], size, padded, 4 * n, h, gates)
            for b in range(n_rows):
                row = rows[b * size : (b + 1) * size]
                open_gates(row, n, m, values, gates, fresh and t == 0)
                update_states(row, n, h, c, s, values, gates)
                copy(row, h, outputs, (((first + b) * steps + t) * heads + head) * n, n)
                if saved.size > 0:
                    copy(row, values, saved, (((first + b) * heads + head) * steps + t) * SAVED * n, SAVED * n)
        for b, state in np.ndindex(n_rows, 4):
            start = ((state * records + first + b) * heads + head) * n
            copy(rows, b * size + state_at(state, n), last, start, n)

    return compile_cached(slstm_forward, n)


@lru_cache
def make_backward(n: int) -> Any:
    """Compile the backward pass for heads of a width; arguments as in `backward`."""
    dh, dstates, values, before, dgates, size = 0, n, 4 * n, 11 * n, 13 * n, 17 * n

    def slstm_backward(
        doutputs: Any,
        dlast: Any,
        saved: Any,
        states: Any,
        recurrent: Any,
        dinputs: Any,
        dfirst: Any,
        shape: Any,
        head: int,
        first: int,
        fresh: bool,  # noqa: FBT001
    ) -> None:
        records, steps, heads = shape
        n_rows = min(BLOCK, records - first)
        weights = recurrent[head * 4 * n * n : (head + 1) * 4 * n * n]
        rows = np.zeros(BLOCK * size, states.dtype)
        for b, state in np.ndindex(n_rows, 4):
            copy(dlast, ((state * records + first + b) * heads + head) * n, rows, b * size + state * n, n)
        for t in range(steps - 1, -1, -1):
            for b in range(n_rows):
                row = rows[b * size : (b + 1) * size]
                step = ((first + b) * heads + head) * steps + t
                copy(saved, step * SAVED * n, row, values, SAVED * n)
                if t > 0:
                    copy(saved, ((step - 1) * SAVED + 5) * n, row, before, 2 * n)
                else:
                    copy(states, ((records + first + b) * heads + head) * n, row, before, n)
                    copy(states, ((2 * records + first + b) * heads + head) * n, row, before + n, n)
                step = ((first + b) * steps + t) * heads + head
                add(doutputs, step * n, row, n)
                backward_row(row, n, fresh and t == 0, dh, dstates, values, dgates)
                copy(row, dgates, dinputs, step * 4 * n, 4 * n)
                clear(row, n)
            for b in range(0, n_rows, 2):
                multiply_pair(weights, rows[b * size : (b + 2) * size], size, 4 * n, n, dgates, dh)
        for b, state in np.ndindex(n_rows, 4):
            copy(rows, b * size + state * n, dfirst, ((state * records + first + b) * heads + head) * n, n)

    return compile_cached(slstm_backward, n)


def compile_cached(function: Callable[..., None], n: int) -> Any:
    """Compile on first use for heads of a width, and cache the machine code on disk if possible."""
    # numba keeps one index per name, without a lock: two widths compiled at once could swap their code.
    function.__qualname__ += f"_{n}"
    try:
        return njit(nogil=True, cache=True, **OPTIONS)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return njit(nogil=True, **OPTIONS)(function)


def forward(
    inputs: Tensor, states: Tensor, recurrent: Tensor, bias: Tensor, *, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the recurrence.

    Parameters
    ----------
    inputs : Tensor, shape (records, steps, heads, 4, head_width)
        The input's contribution to the gates, float32 or float64, on the CPU.
    states : Tensor, shape (4, records, heads * head_width)
        Output, cell, normaliser and stabiliser before the first step.
    recurrent : Tensor, shape (heads, head_width, 4, head_width)
        Weights from each unit's output to the gates.
    bias : Tensor, shape (heads, 4, head_width)
        Of the gates.
    keep : bool
        Whether to save what `backward` needs.

    Returns
    -------
    outputs : Tensor, shape (records, steps, heads * head_width)
    last : Tensor, shape (4, records, heads * head_width)
        States after the last step.
    saved : Tensor, shape (records, heads, steps, SAVED, head_width), or empty
    """
    records, steps, heads, _, n = inputs.shape
    outputs = inputs.new_empty(records, steps, heads * n)
    last = torch.empty_like(states, memory_format=torch.contiguous_format)
    saved = inputs.new_empty((records, heads, steps, SAVED, n) if keep else 0)
    view = inputs if inputs.stride(-1) == 1 else inputs.contiguous()
    span = sum((extent - 1) * stride for extent, stride in zip(view.shape, view.stride(), strict=True)) + 1
    span = max(span, 0)
    arrays = [flat(view.as_strided((span,), (1,))), view.stride()[:4], *map(flat, (states, recurrent, bias))]
    arrays += [*map(flat, (outputs, last, saved)), (records, steps, heads)]
    run_tasks(make_forward(n), arrays, inputs.shape, fresh=is_fresh(states))
    return outputs, last, saved


def backward(
    doutputs: Tensor, dlast: Tensor, saved: Tensor, states: Tensor, recurrent: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the recurrence.

    Parameters
    ----------
    doutputs, dlast : Tensor
        Gradients of `forward`'s outputs and last states.
    saved : Tensor, shape (records, heads, steps, SAVED, head_width)
        As returned by `forward`.
    states, recurrent : Tensor
        As passed to `forward`.

    Returns
    -------
    dinputs : Tensor, shape (records, steps, heads, 4, head_width)
    dfirst : Tensor, shape (4, records, heads * head_width)
        Gradient of the states before the first step.
    """
    records, heads, steps, _, n = saved.shape
    dinputs = saved.new_empty(records, steps, heads, 4, n)
    dfirst = torch.empty_like(states, memory_format=torch.contiguous_format)
    transposed = recurrent.permute(0, 2, 3, 1)
    arrays = [*map(flat, (doutputs, dlast, saved, states, transposed, dinputs, dfirst)), (records, steps, heads)]
    run_tasks(make_backward(n), arrays, dinputs.shape, fresh=is_fresh(states))
    return dinputs, dfirst


def flat(tensor: Tensor) -> Any:
    """Return a tensor as a flat array for numba."""
    return tensor.detach().contiguous().view(-1).numpy()


def is_fresh(states: Tensor) -> bool:
    """Return True if a new sequence starts, whose stabiliser is ignored."""
    return bool((states[2] == 0).all())


def run_tasks(kernel: Any, arrays: list[Any], shape: torch.Size, *, fresh: bool) -> None:
    """Run a kernel over all heads and blocks of records, with as many threads as torch uses."""
    tasks = [(head, first) for first in range(0, shape[0], BLOCK) for head in range(shape[2])]
    n_threads = min(torch.get_num_threads(), len(tasks))
    if n_threads < 2 or shape.numel() < SMALL:
        for task in tasks:
            kernel(*arrays, *task, fresh)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(lambda task: kernel(*arrays, *task, fresh), tasks))
