"""The recurrent cells in ONNX: how the exporter translates the two operators of this package.

sLSTM is a ``Scan`` over the steps. mLSTM is in its parallel form (Beck et al., 2024, arXiv:2405.04517, appendix A.3):
the sequences of an ECG are short, so that one product of all queries and keys is faster than a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import FLOAT, graph, script
from onnxscript import opset18 as op

from ecgkit.models.kernels import mlstm, slstm  # noqa: F401 - they register the operators

BEFORE = -1e30
"""The stabiliser before the first step, which no gate falls below."""


@script(default_opset=op)
def slstm_scan(inputs: FLOAT, recurrent: FLOAT, bias: FLOAT) -> FLOAT:  # type: ignore[no-untyped-def]
    """Translate ``ecgkit::slstm`` for a new sequence: the states before it are zero."""
    weights = op.Reshape(recurrent, [0, 0, -1])
    gates = op.Reshape(op.Transpose(inputs + bias, perm=[1, 2, 0, 3, 4]), [0, 0, 0, -1])
    width = op.Shape(recurrent, start=3)
    first = op.ConstantOfShape(op.Concat(op.Shape(gates, start=1, end=3), width, axis=0))
    before = first + BEFORE

    @graph()
    def step(output, cell, normaliser, stabiliser, gate):  # type: ignore[no-untyped-def]
        """Compute one step of all heads and records, ``(heads, records, head_width)``."""
        gate_in, gate_forget, cell_in, gate_out = op.Split(gate + op.MatMul(output, weights), num_outputs=4, axis=-1)
        log_forget = stabiliser - op.Softplus(-gate_forget)
        new_stabiliser = op.Max(gate_in, log_forget)
        weight = op.Exp(gate_in - new_stabiliser)
        kept = op.Exp(log_forget - new_stabiliser)
        new_cell = kept * cell + weight * op.Tanh(cell_in)
        new_normaliser = kept * normaliser + weight
        new_output = op.Sigmoid(gate_out) * new_cell / new_normaliser
        shown = op.Identity(new_output)
        return new_output, new_cell, new_normaliser, new_stabiliser, shown

    _output, _cell, _normaliser, _stabiliser, outputs = op.Scan(
        first, first, first, before, gates, body=step, num_scan_inputs=1
    )
    return op.Reshape(op.Transpose(outputs, perm=[2, 0, 1, 3]), [0, 0, -1])


@script(default_opset=op)
def mlstm_parallel(queries: FLOAT, keys: FLOAT, values: FLOAT, gate_in: FLOAT, gate_forget: FLOAT) -> FLOAT:  # type: ignore[no-untyped-def]
    """Translate ``ecgkit::mlstm`` for a new sequence."""
    decay = op.CumSum(-op.Softplus(-gate_forget), 2)
    step = op.Range(0, op.Squeeze(op.Shape(gate_in, start=2)), 1)
    is_past = op.LessOrEqual(op.Unsqueeze(step, [0]), op.Unsqueeze(step, [1]))
    weight = op.Where(is_past, op.Unsqueeze(gate_in - decay, [2]), BEFORE)
    largest = op.ReduceMax(weight, [3], keepdims=1)
    width = op.Cast(op.Shape(queries, start=3), to=1)
    scores = op.MatMul(queries, op.Transpose(keys, perm=[0, 1, 3, 2])) * op.Exp(weight - largest) / op.Sqrt(width)
    floor = op.Exp(-op.Unsqueeze(decay, [3]) - largest)
    divisor = op.Max(op.Abs(op.ReduceSum(scores, [3], keepdims=1)), floor) + 1e-6
    return op.Transpose(op.MatMul(scores, values) / divisor, perm=[0, 2, 1, 3])


def translate_slstm(inputs: Any, states: Any, recurrent: Any, bias: Any, keep: Any) -> tuple[Any, ...]:
    """Return the outputs, and in the places of the operator's other results something that nobody reads."""
    del keep
    return slstm_scan(inputs, recurrent, bias), op.Identity(states), op.Identity(bias)


def translate_mlstm(  # noqa: PLR0917 - the arguments of an operator
    queries: Any, keys: Any, values: Any, gate_in: Any, gate_forget: Any, keep: Any
) -> tuple[Any, ...]:
    """Return the outputs, and in the places of the operator's other results something that nobody reads."""
    del keep
    return mlstm_parallel(queries, keys, values, gate_in, gate_forget), *(op.Identity(keys) for _ in range(4))


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the table that `torch.onnx.export` takes as ``custom_translation_table``."""
    return {torch.ops.ecgkit.slstm.default: translate_slstm, torch.ops.ecgkit.mlstm.default: translate_mlstm}
