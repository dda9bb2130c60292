"""The linear scan gives what upstream's vanilla sLSTM cell gives."""

from __future__ import annotations

import copy

import pytest
import torch
from xlstm import sLSTMLayer, sLSTMLayerConfig

from ecgkit.models.kernels import use_linear_scan


@pytest.mark.parametrize(("records", "steps", "width", "heads"), [(3, 1, 8, 2), (2, 17, 32, 4), (1, 50, 16, 1)])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_scan_equals_the_upstream_cell(records: int, steps: int, width: int, heads: int, scale: float) -> None:
    torch.manual_seed(0)
    config = sLSTMLayerConfig(embedding_dim=width, num_heads=heads, backend="vanilla", dtype="float32")
    upstream = sLSTMLayer(config)
    upstream.reset_parameters()
    for parameter in upstream.slstm_cell.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    ours = use_linear_scan(copy.deepcopy(upstream))
    assert ours.state_dict().keys() == upstream.state_dict().keys()

    signal = scale * torch.randn(records, steps, width)
    weights = torch.randn(records, steps, width)
    results = []
    for layer in (upstream, ours):
        leaf = signal.clone().requires_grad_()
        output = layer(leaf)
        (output * weights).sum().backward()
        results.append([output, leaf.grad, *(p.grad for p in layer.parameters())])
    for theirs, mine in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
