"""The chunkwise mLSTM equals upstream's parallel form, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from xlstm.blocks.mlstm.backends import parallel_stabilized_simple

from ecgkit.models.kernels.mlstm import CHUNK, mlstm, mlstm_chunkwise

SHAPES = [(2, 2, 1, 8), (3, 1, CHUNK, 16), (1, 3, CHUNK + 1, 4), (2, 2, 5 * CHUNK - 7, 8)]


def make_arguments(
    records: int, heads: int, steps: int, width: int, *, gate_scale: float = 1.0, forget: float = 2.0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(steps)

    def draw(*shape: int) -> Tensor:
        return torch.randn(records, heads, steps, *shape, generator=generator)

    return [*(draw(width) for _ in range(3)), gate_scale * draw(), gate_scale * draw() + forget]


def upstream(queries: Tensor, keys: Tensor, values: Tensor, gate_in: Tensor, gate_forget: Tensor) -> Tensor:
    return parallel_stabilized_simple(queries, keys, values, gate_in[..., None], gate_forget[..., None])


def run(function, arguments: list[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return outputs and the gradients of all arguments."""
    leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in arguments]
    outputs = function(*leaves)
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(5))
    (outputs * weights).sum().backward()
    return [outputs.detach(), *(leaf.grad for leaf in leaves)]


def worst(ours: list[Tensor], theirs: list[Tensor]) -> list[float]:
    """Return the largest difference of each tensor, relative to its largest value if that is not zero."""
    pairs = zip(ours, theirs, strict=True)
    return [float((mine - reference).abs().max() / (reference.abs().max() + 1e-2)) for mine, reference in pairs]


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_upstream(shape: tuple[int, ...]) -> None:
    arguments = make_arguments(*shape)
    reference = run(upstream, arguments, torch.float64)
    assert max(worst(run(mlstm, arguments), reference)) < 1e-5
    assert max(worst(run(mlstm, arguments, torch.float64), reference)) < 1e-12


@pytest.mark.parametrize(
    ("gate_scale", "forget"), [(10, 0), (100, 3), (1, -1000), (1, 1000), (1000, 0), (0, 0)], ids=str
)
def test_extreme_gates_in_float64(gate_scale: float, forget: float) -> None:
    # In float32 neither form is exact here: where a gate leads by far, a product of query and key divides itself.
    arguments = make_arguments(1, 2, 3 * CHUNK - 5, 8, gate_scale=gate_scale, forget=forget)
    reference = run(upstream, arguments, torch.float64)
    assert max(worst(run(mlstm, arguments, torch.float64), reference)) < 1e-6
    assert all(torch.isfinite(result).all() for result in run(mlstm, arguments))


def test_float32_is_as_exact_as_upstream() -> None:
    arguments = make_arguments(2, 2, 4 * CHUNK, 16, gate_scale=10, forget=0)
    reference = run(upstream, arguments, torch.float64)
    ours, theirs = (worst(run(function, arguments), reference) for function in (mlstm, upstream))
    assert all(mine <= 2 * their for mine, their in zip(ours, theirs, strict=True))


def test_gradients_in_float64() -> None:
    leaves = [tensor.double().requires_grad_() for tensor in make_arguments(1, 2, CHUNK + 3, 2)]
    assert torch.autograd.gradcheck(mlstm, leaves, fast_mode=True)


def test_head_widths_of_keys_and_values_may_differ() -> None:
    queries, keys, values, *gates = make_arguments(2, 2, 50, 8)
    wide = torch.cat((values, values.flip(2)), -1)
    expected = torch.cat([mlstm(queries, keys, part, *gates) for part in wide.split(8, -1)], -1)
    torch.testing.assert_close(mlstm(queries, keys, wide, *gates), expected)


def test_is_causal() -> None:
    arguments = make_arguments(1, 2, 2 * CHUNK, 4)
    changed = [tensor.clone() for tensor in arguments]
    for tensor in changed:
        tensor[:, :, CHUNK + 3 :] += 1
    before, after = mlstm(*arguments), mlstm(*changed)
    torch.testing.assert_close(before[:, :, : CHUNK + 3], after[:, :, : CHUNK + 3], rtol=0, atol=0)
    assert not torch.equal(before, after)


def test_nan_stays_in_its_record() -> None:
    arguments = make_arguments(2, 1, 2 * CHUNK, 4)
    arguments[0][1, 0, 5] = float("nan")
    outputs = mlstm(*arguments)
    assert outputs[1, 0, 5].isnan().all()
    assert torch.isfinite(outputs[0]).all()


@pytest.mark.parametrize("keep", [True, False])
def test_operator_keeps_the_rules(keep: bool) -> None:
    arguments = [tensor.requires_grad_(keep) for tensor in make_arguments(1, 2, CHUNK + 2, 4)]
    torch.library.opcheck(mlstm_chunkwise, (*arguments, keep))
