"""The sLSTM kernels give what upstream's vanilla cell gives, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from xlstm.blocks.slstm.cell import sLSTMCell_vanilla, sLSTMCellConfig

from ecgkit.models.kernels.slstm import slstm, slstm_fused

# Compiling takes seconds for each width of a head and type: 8 in float32, 3 in float64.
SHAPES = [(3, 1, 2, 8), (9, 17, 1, 8), (2, 130, 3, 8)]


def make_arguments(
    records: int, steps: int, heads: int, head_width: int, *, scale: float = 1.0, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(records + steps)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    inputs = scale * draw(records, steps, heads, 4, head_width)
    states = torch.zeros(4, records, heads * head_width, dtype=dtype)
    recurrent, bias = 0.3 * draw(heads, head_width, 4, head_width), draw(heads, 4, head_width)
    return [inputs, states, recurrent, bias]


def upstream(inputs: Tensor, states: Tensor, recurrent: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Run upstream's vanilla cell in float64."""
    records, _, heads, _, head_width = inputs.shape
    config = sLSTMCellConfig(hidden_size=heads * head_width, num_heads=heads, backend="vanilla", output_shape="BSH")
    cell = sLSTMCell_vanilla(config).double()
    weights = {
        "_recurrent_kernel_": recurrent.permute(0, 2, 3, 1).reshape(heads, 4 * head_width, head_width),
        "_bias_": bias.transpose(0, 1).reshape(-1),
    }
    by_gate = inputs.transpose(2, 3).reshape(records, len(inputs[0]), -1)
    weights = {name: tensor.double() for name, tensor in weights.items()}
    return torch.func.functional_call(cell, weights, (by_gate.double(), states.double()))


def run(function, arguments: list[Tensor], **keywords: str) -> list[Tensor]:
    """Return outputs, last states and the gradients of all arguments."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in arguments]
    outputs, last = function(*leaves, **keywords)
    generator = torch.Generator().manual_seed(5)
    loss = sum(
        (x.double() * torch.randn(x.shape, generator=generator, dtype=torch.float64)).sum() for x in (outputs, last)
    )
    loss.backward()
    return [outputs.detach(), *last.detach(), *(leaf.grad for leaf in leaves)]


def assert_equal_to_1e5(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for mine, reference in zip(ours, theirs, strict=True):
        assert torch.isfinite(mine).all()
        # Upstream's gradients are NaN where a first forget gate outweighs its input gate by e^710.
        known = torch.isfinite(reference)
        error = (mine.double() - reference.double())[known].abs().max()
        assert error <= 1e-5 * reference[known].abs().max()


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("scale", [1.0, 20.0, 1000.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_upstream(shape: tuple[int, ...], scale: float, backend: str) -> None:
    arguments = make_arguments(*shape, scale=scale)
    assert_equal_to_1e5(run(slstm, arguments, backend=backend), run(upstream, arguments))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_equals_upstream_from_any_state(backend: str) -> None:
    arguments = make_arguments(9, 17, 2, 8)
    arguments[1] = torch.rand(4, 9, 16, generator=torch.Generator().manual_seed(0)) + 0.1
    assert_equal_to_1e5(run(slstm, arguments, backend=backend), run(upstream, arguments))
    arguments[1][2] = 0  # a normaliser of zero: fresh, whatever the cell says
    assert_equal_to_1e5(run(slstm, arguments, backend=backend), run(upstream, arguments))


def test_two_halves_make_a_whole() -> None:
    inputs, states, recurrent, bias = make_arguments(2, 20, 2, 8)
    whole, last = slstm(inputs, states, recurrent, bias)
    first, between = slstm(inputs[:, :7], states, recurrent, bias)
    second, end = slstm(inputs[:, 7:], between, recurrent, bias)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, rtol=0, atol=0)
    torch.testing.assert_close(end, last, rtol=0, atol=0)


def test_gradients_in_float64() -> None:
    arguments = make_arguments(3, 5, 2, 3, dtype=torch.float64)
    arguments[1] += 0.5
    leaves = [tensor.requires_grad_() for tensor in arguments]
    assert torch.autograd.gradcheck(slstm, leaves)


def test_gradient_where_input_and_forget_gate_tie() -> None:
    inputs, states, recurrent, bias = make_arguments(1, 3, 1, 3, dtype=torch.float64)
    inputs[:, :, :, 0], inputs[:, :, :, 1] = 2.0, 50.0  # sigmoid(50) is one to the last bit
    leaf = inputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda leaf: slstm(leaf, states, 0 * recurrent, 0 * bias)[0], leaf)


@pytest.mark.parametrize("value", [-1e30, -100.0, 100.0, 1e30])
@pytest.mark.parametrize("gate", range(4))
def test_extreme_gates_stay_finite(gate: int, value: float) -> None:
    arguments = make_arguments(2, 40, 2, 8)
    arguments[0][:, 10:20, :, gate] = value
    assert all(torch.isfinite(result).all() for result in run(slstm, arguments, backend="numba"))


def test_nan_stays_in_its_record() -> None:
    arguments = make_arguments(3, 10, 2, 8)
    arguments[0][1, 4] = float("nan")
    outputs, last = slstm(*arguments)
    assert outputs[1, 4:].isnan().all()
    assert last[:, 1].isnan().all()
    assert torch.isfinite(outputs[[0, 2]]).all()


def test_bits_do_not_depend_on_threads() -> None:
    arguments = make_arguments(20, 60, 2, 8)
    assert arguments[0].numel() > 1 << 16
    before, results = torch.get_num_threads(), []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            results.append(run(slstm, arguments))
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        torch.testing.assert_close(one, three, rtol=0, atol=0)


def test_any_strides_serve() -> None:
    inputs, *others = make_arguments(4, 6, 2, 8)
    expected, _ = slstm(inputs, *others)
    for order in [(1, 0, 2, 3, 4), (0, 1, 3, 2, 4), (4, 3, 2, 1, 0)]:
        strided = inputs.permute(order).contiguous().permute([order.index(i) for i in range(5)])
        torch.testing.assert_close(slstm(strided, *others)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("keep", [True, False])
def test_operator_keeps_the_rules(keep: bool) -> None:
    arguments = [tensor.requires_grad_(keep) for tensor in make_arguments(2, 4, 2, 8)]
    torch.library.opcheck(slstm_fused, (*arguments, keep))


def test_only_the_scan_differentiates_twice() -> None:
    arguments = [tensor.requires_grad_() for tensor in make_arguments(1, 3, 1, 3, dtype=torch.float64)]
    assert torch.autograd.gradgradcheck(lambda x: slstm(x, *arguments[1:], backend="torch")[0], arguments[:1])
    gradient = torch.autograd.grad(slstm(*arguments)[0].sum(), arguments[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match=r"ecgkit\.slstm_backward.*no autograd formula"):
        gradient.sum().backward()
