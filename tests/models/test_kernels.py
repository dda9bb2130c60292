"""`accelerate` swaps upstream's cells in place: same names, same results, whatever runs around them."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from xlstm import (
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
)
from xlstm.blocks.slstm.cell import sLSTMCell_cuda, sLSTMCell_vanilla, sLSTMCellConfig

from ecgkit.errors import EcgkitError
from ecgkit.models import kernels
from ecgkit.models.kernels import accelerate

STEPS = 40


def make_stack() -> nn.Module:
    """Make a model of upstream's, with weights that make every part count."""
    torch.manual_seed(0)
    config = xLSTMBlockStackConfig(
        mlstm_block=mLSTMBlockConfig(mlstm=mLSTMLayerConfig(num_heads=2)),
        slstm_block=sLSTMBlockConfig(slstm=sLSTMLayerConfig(num_heads=2, backend="vanilla", dtype="float32")),
        context_length=STEPS,
        num_blocks=2,
        embedding_dim=16,
        slstm_at=[1],
    )
    stack = xLSTMBlockStack(config)
    for parameter in stack.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return stack


@pytest.fixture
def upstream() -> nn.Module:
    return make_stack()


@pytest.fixture
def signal() -> Tensor:
    return torch.randn(3, STEPS, 16, generator=torch.Generator().manual_seed(1))


def run(model: nn.Module, signal: Tensor) -> list[Tensor]:
    """Return the output and the gradients of the input and of all parameters."""
    leaf = signal.clone().requires_grad_()
    output = model(leaf)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    gradients = torch.autograd.grad((output * weights).sum(), [leaf, *model.parameters()])
    return [output.detach(), *gradients]


def assert_close(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine - reference).abs().max() <= 1e-5 * reference.abs().max()


@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_a_model_of_upstreams_gives_the_same(upstream: nn.Module, signal: Tensor, backend: str) -> None:
    ours = copy.deepcopy(upstream)
    assert accelerate(ours, backend=backend) is ours
    swapped = {type(module).__name__ for module in ours.modules() if type(module).__module__.startswith("ecgkit")}
    assert swapped == {"SLSTMCell", "MLSTMCell", "MergedLinear", "HeadNorm", "ChannelsLastConv"}
    assert_close(run(ours, signal), run(upstream, signal))


def test_weights_go_both_ways(upstream: nn.Module, signal: Tensor) -> None:
    ours = accelerate(make_stack())
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.2)
    upstream.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(signal), upstream(signal), rtol=1e-4, atol=1e-5)
    assert list(ours.state_dict()) == list(upstream.state_dict())
    for parameter in upstream.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(upstream.state_dict())
    torch.testing.assert_close(ours(signal), upstream(signal), rtol=1e-4, atol=1e-5)


def test_steps_give_what_the_sequence_gives(upstream: nn.Module, signal: Tensor) -> None:
    ours, state, outputs = accelerate(upstream).eval(), None, []
    with torch.no_grad():
        for step in signal.split(1, dim=1):
            output, state = ours.step(step, state)
            outputs.append(output)
        torch.testing.assert_close(torch.cat(outputs, 1), ours(signal), rtol=1e-4, atol=1e-5)


def test_states_go_from_call_to_call(upstream: nn.Module, signal: Tensor) -> None:
    theirs = upstream.blocks[1].xlstm
    ours = accelerate(copy.deepcopy(theirs))
    _, states = theirs(signal[:, :9], return_last_state=True)
    _, mine = ours(signal[:, :9], return_last_state=True)
    for name, state in states.items():
        torch.testing.assert_close(mine[name], state, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours(signal[:, 9:], **mine), theirs(signal[:, 9:], **states), rtol=1e-4, atol=1e-6)


def test_sequences_may_be_longer_than_upstreams_context(upstream: nn.Module, signal: Tensor) -> None:
    ours = accelerate(upstream)
    longer = torch.cat((signal, signal), 1)
    torch.testing.assert_close(ours(longer)[:, :STEPS], ours(signal), rtol=1e-5, atol=1e-5)


def test_twice_changes_nothing_but_the_backend(upstream: nn.Module) -> None:
    ours = accelerate(accelerate(upstream), backend="torch")
    assert {m.kernel for m in ours.modules() if type(m).__name__ == "SLSTMCell"} == {"torch"}


def test_a_copy_stays_swapped(upstream: nn.Module, signal: Tensor) -> None:
    ours = accelerate(upstream)
    other = copy.deepcopy(ours)
    assert [type(module) for module in other.modules()] == [type(module) for module in ours.modules()]
    torch.testing.assert_close(other(signal), ours(signal), rtol=0, atol=0)


def test_compiles_as_one_graph(upstream: nn.Module, signal: Tensor) -> None:
    ours = accelerate(upstream)
    # The compiler's last stage would need a C++ compiler, which is what these kernels spare their user.
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    assert_close(run(compiled, signal), run(ours, signal))


def test_exports_for_any_batch_and_length(upstream: nn.Module, signal: Tensor) -> None:
    ours = accelerate(upstream).eval()
    dynamic = ({0: torch.export.Dim("records"), 1: torch.export.Dim("steps", max=10_000)},)
    exported = torch.export.export(ours, (signal,), dynamic_shapes=dynamic)
    assert {"ecgkit.slstm.default", "ecgkit.mlstm.default"} <= {str(node.target) for node in exported.graph.nodes}
    other = torch.randn(5, 77, 16)
    torch.testing.assert_close(exported.module()(other), ours(other))


def types_of_cells(model: nn.Module, dtype: torch.dtype) -> list[torch.dtype]:
    """Return the types of both cells' results for inputs of one type."""
    of_mlstm = model.blocks[0].xlstm.mlstm_cell(*torch.randn(3, 2, 5, 64).to(dtype).unbind())
    of_slstm, state = model.blocks[1].xlstm.slstm_cell(torch.randn(2, 5, 64).to(dtype))
    return [of_mlstm.dtype, of_slstm.dtype, state.dtype]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_upstreams_types(upstream: nn.Module, signal: Tensor, dtype: torch.dtype) -> None:
    ours = accelerate(copy.deepcopy(upstream))
    exact = upstream(signal)
    with torch.autocast("cpu", dtype=dtype):
        for given in (torch.float32, dtype):
            assert types_of_cells(ours, given) == types_of_cells(upstream, given)
        theirs, mine = upstream(signal), ours(signal)
    assert mine.dtype == theirs.dtype
    assert (mine - exact).abs().max() <= 1.5 * (theirs - exact).abs().max()
    mine.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in ours.parameters())


def test_halves_and_doubles_keep_their_type(upstream: nn.Module, signal: Tensor) -> None:
    exact = accelerate(copy.deepcopy(upstream), backend="torch").double()
    half = accelerate(copy.deepcopy(upstream)).bfloat16()
    assert exact(signal.double()).dtype == torch.float64
    assert half(signal.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(half(signal.bfloat16()).double(), exact(signal.double()), rtol=0.1, atol=0.1)


def test_deterministic_mode_repeats_the_bits(upstream: nn.Module, signal: Tensor) -> None:
    ours = accelerate(upstream)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = run(ours, signal), run(ours, signal)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_a_cell_made_for_cuda_runs_on_the_cpu() -> None:
    torch.manual_seed(0)
    keywords = {"hidden_size": 16, "num_heads": 2, "dtype": "float32"}
    theirs = sLSTMCell_vanilla(sLSTMCellConfig(**keywords, backend="vanilla"))
    ours = sLSTMCell_cuda(sLSTMCellConfig(**keywords, backend="cuda"), skip_backend_init=True)
    nn.init.normal_(theirs._recurrent_kernel_, std=0.3)
    nn.init.normal_(theirs._bias_)
    ours.recurrent_kernel[:] = theirs.recurrent_kernel[:]
    ours.bias[:] = theirs.bias[:]
    inputs = torch.randn(2, 10, 64)
    for mine, reference in zip(accelerate(ours)(inputs), theirs(inputs), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


def test_what_the_kernels_do_not_know_is_left_alone() -> None:
    lstm = sLSTMCell_vanilla(sLSTMCellConfig(hidden_size=16, num_heads=2, backend="vanilla", function="lstm"))
    assert type(accelerate(lstm)) is sLSTMCell_vanilla
    clipped = sLSTMCellConfig(hidden_size=16, num_heads=2, forward_clipval=1.0)
    assert type(accelerate(sLSTMCell_cuda(clipped, skip_backend_init=True))) is sLSTMCell_cuda


def test_unknown_backends_are_refused(upstream: nn.Module) -> None:
    with pytest.raises(EcgkitError, match="unknown kernel backend 'cuda': choose one of auto, numba, torch"):
        accelerate(upstream, backend="cuda")


def test_the_record_says_which_ran() -> None:
    import numba

    assert kernels.backend("cpu") == f"sLSTM: numba {numba.__version__}; mLSTM: chunkwise in PyTorch"
    assert kernels.backend("cuda").startswith("sLSTM: scan in PyTorch (numba")


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import torch
from xlstm import sLSTMLayer, sLSTMLayerConfig
from ecgkit.errors import EcgkitError
from ecgkit.models.kernels import accelerate, backend
layer = sLSTMLayer(sLSTMLayerConfig(embedding_dim=8, num_heads=2, backend="vanilla", dtype="float32"))
signal = torch.randn(2, 5, 8)
expected = layer(signal)
torch.testing.assert_close(accelerate(layer)(signal), expected)
print(backend("cpu"))
try:
    accelerate(layer, backend="numba")
except EcgkitError as error:
    print(error)
"""


def test_without_numba_a_scan_serves() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True, check=True)
    record, refusal = done.stdout.splitlines()
    assert record.startswith("sLSTM: scan in PyTorch (numba is not installed)")
    assert refusal.startswith("kernel backend 'numba'")
