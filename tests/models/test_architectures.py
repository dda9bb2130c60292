"""Properties of each architecture: sizes, layers, and the handling of sampling rates and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn
from torch.nn import functional

from ecgkit.errors import EcgkitError
from ecgkit.models import create_model, resolve_options
from ecgkit.models.layers import BiLSTM, ChannelsLastConv1d, MeanOfPairs, convolutions, made_faster, to_frame_rate
from ecgkit.models.recurrence_cnn import recurrence_plot
from ecgkit.models.residual_bilstm_attention import PooledResidualBlock, TanhAttentionPooling
from ecgkit.models.token_encoder import attend

SHAPE = {"n_leads": 12, "n_classes": 5, "n_samples": 1000, "sampling_rate": 100}


def make(name: str, **keywords: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model(name, **(SHAPE | keywords)).eval()


def count(model: torch.nn.Module) -> int:
    """Count as the designs' authors do: what is trained, and the running mean and variance of batch normalisation."""
    running = [buffer for key, buffer in model.named_buffers() if key.endswith(("running_mean", "running_var"))]
    return sum(tensor.numel() for tensor in [*model.parameters(), *running])


# The last three read age and sex in their authors' design; there the columns are three or two and here four.
@pytest.mark.parametrize(
    ("name", "n_metadata", "published"),
    [
        ("cross_lead_cnn", 0, 355_761),
        ("cnn", 0, 179_525),
        ("bilstm", 0, 574_213),
        ("cnn_bilstm", 0, 344_645),
        ("residual_bilstm_attention", 4, 957_957),
        ("parallel_xlstm", 4, 544_757),
        ("hierarchical_xlstm", 4, 544_757),
    ],
)
def test_sizes_are_the_published_ones_within_a_percent(name: str, n_metadata: int, published: int) -> None:
    assert count(make(name, n_metadata=n_metadata)) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", ["xlstm", "hybrid", "parallel_xlstm", "hierarchical_xlstm", "token_encoder"])
@pytest.mark.parametrize("n_heads", [0, 7])
def test_heads_that_do_not_divide_the_width_are_named(name: str, n_heads: int) -> None:
    with pytest.raises(EcgkitError, match=rf"n_heads( of \w+)? is {n_heads}"):
        make(name, n_heads=n_heads)


@pytest.mark.parametrize("name", ["bilstm", "cnn", "hybrid", "parallel_xlstm", "recurrence_cnn", "resnet1d"])
@pytest.mark.parametrize("frame_rate", [0, -1])
def test_a_frame_rate_is_positive(name: str, frame_rate: int) -> None:
    with pytest.raises(EcgkitError, match=rf"frame_rate( of \w+)? is {frame_rate}"):
        make(name, frame_rate=frame_rate)


def test_tokens_have_a_positive_length() -> None:
    with pytest.raises(EcgkitError, match=r"token_seconds( of \w+)? is 0"):
        make("token_encoder", token_seconds=0.0)


def test_the_recurrence_cnn_has_about_three_hundred_thousand_parameters() -> None:
    assert 250_000 < count(make("recurrence_cnn")) < 350_000


# Not here: the models that adapt their first kernel to the sampling rate and not the signal to the kernel.
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cnn", {}),
        ("cross_lead_cnn", {}),
        ("cnn_bilstm", {}),
        ("bilstm", {"lstm_width": 8}),
        ("residual_bilstm_attention", {"lstm_width": 8}),
        ("parallel_xlstm", {"width": 16, "n_blocks": 1, "frames_per_token": 25}),
        ("hierarchical_xlstm", {"width": 16, "n_blocks": 1, "frames_per_token": 25}),
        ("recurrence_cnn", {}),
    ],
)
def test_weights_mean_the_same_at_500_hz(name: str, options: dict[str, object]) -> None:
    slow = make(name, n_samples=500, **options)
    fast = make(name, n_samples=2500, sampling_rate=500, **options)
    fast.load_state_dict(slow.state_dict())
    signal = torch.randn(2, 12, 500, generator=torch.Generator().manual_seed(1))
    held = signal.repeat_interleave(5, dim=-1)
    torch.testing.assert_close(fast(held), slow(signal), rtol=1e-4, atol=1e-5)


def test_averaging_to_a_frame_rate_keeps_ten_hz_and_silences_mains_hum() -> None:
    seconds = np.arange(2500) / 500
    waves = np.stack([np.sin(2 * np.pi * 10 * seconds), np.sin(2 * np.pi * 100 * seconds)])
    slow, hum = to_frame_rate(500, 100)(torch.tensor(waves)[None])[0]
    assert len(slow) == 500
    assert float(slow.square().mean().sqrt()) == pytest.approx(np.sqrt(0.5), rel=0.02)
    assert float(hum.abs().max()) < 1e-6
    signal = torch.randn(1, 12, 250)
    assert to_frame_rate(100, 100)(signal) is signal
    assert to_frame_rate(50, 100)(signal) is signal


def test_the_first_layer_of_cross_lead_cnn_keeps_leads_apart() -> None:
    model = make("cross_lead_cnn")
    signal = torch.randn(1, 12, 1000)
    changed = signal.clone()
    changed[:, 7] += torch.randn(1000)
    moved = (model.leads(signal) - model.leads(changed)).abs().sum(dim=-1)[0]
    assert set(torch.nonzero(moved).flatten().tolist()) <= {21, 22, 23}
    assert (moved > 0).any()


def test_the_lstm_is_that_of_torch_and_reads_both_ways() -> None:
    torch.manual_seed(0)
    layer = BiLSTM(12, 8, n_layers=2).eval()
    signal = torch.randn(3, 12, 40)
    expected, _ = layer.lstm(signal.permute(2, 0, 1))
    torch.testing.assert_close(layer(signal), expected.permute(1, 2, 0))
    changed = signal.clone()
    changed[:, :, 20] += 1
    moved = (layer(signal) - layer(changed)).abs().sum(dim=(0, 1))
    assert moved[0] > 0
    assert moved[-1] > 0


def test_attention_over_time_is_its_formula() -> None:
    torch.manual_seed(0)
    pooling, features = TanhAttentionPooling(6), torch.randn(2, 6, 30)
    states = features.numpy().transpose(0, 2, 1)
    scores = np.tanh(states @ pooling.score.weight.detach().numpy()[0])
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = np.einsum("bt,btc->bc", weights, states)
    np.testing.assert_allclose(pooling(features).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_spatial_dropout_silences_whole_channels() -> None:
    torch.manual_seed(0)
    block = PooledResidualBlock(12, 64, kernel_size=3, dropout=0.25).train()
    alive = (block(torch.randn(2, 12, 100)) != 0).float().mean(dim=-1)
    silenced = float((alive == 0).float().mean())
    assert 0.1 < silenced < 0.4
    # ReLU alone leaves no channel of 50 frames silent, and batch normalisation leaves half of what it gets above zero.
    assert float(alive[alive > 0].min()) > 0.3


def outputs_of_the_second_mlstm(name: str, *, shift: float) -> torch.Tensor:
    model = make(name, width=16, n_heads=2, frames_per_token=50)
    with torch.no_grad():
        for parameter in model.slstm[0].parameters():
            parameter.add_(shift)
    seen = []
    model.mlstm[1].register_forward_hook(lambda *call: seen.append(call[2]))
    model(torch.randn(1, 12, 1000, generator=torch.Generator().manual_seed(1)))
    return seen[0]


def test_branches_meet_after_every_block_or_only_at_the_end() -> None:
    torch.testing.assert_close(
        *(outputs_of_the_second_mlstm("parallel_xlstm", shift=shift) for shift in (0.0, 0.1)), rtol=0, atol=0
    )
    still, moved = (outputs_of_the_second_mlstm("hierarchical_xlstm", shift=shift) for shift in (0.0, 0.1))
    assert not torch.allclose(still, moved)


@pytest.mark.parametrize("name", ["parallel_xlstm", "hierarchical_xlstm"])
def test_a_token_of_the_two_branches_sees_what_came_before_it(name: str) -> None:
    model = make(name, width=16, n_heads=2, n_blocks=1, frames_per_token=50)
    seen = []
    model.fused.register_forward_hook(lambda *call: seen.append(call[2]))
    signal = torch.randn(1, 12, 1000)
    changed = signal.clone()
    changed[:, :, 500:550] += 1  # token 10 of 20
    with torch.no_grad():
        model(signal)
        model(changed)
    moved = (seen[0] - seen[1]).abs().amax(dim=(0, 1))
    assert float(moved[:10].max()) == 0
    assert (moved[10:] > 0).all()


def test_the_last_token_may_be_shorter() -> None:
    model = make("parallel_xlstm", width=16, n_blocks=1, frames_per_token=300)
    assert model.tokens(torch.randn(1, 12, 1000)).shape == (1, 4, 16)
    assert torch.isfinite(model(torch.randn(1, 12, 1000))).all()


def test_a_recurrence_plot_holds_the_distances_of_the_embedded_signal() -> None:
    signal = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0))
    plot = recurrence_plot(signal, dimension=3, delay=4)
    moments = np.stack([signal[1, 2, start : start + 32].numpy() for start in (0, 4, 8)], axis=1)
    np.testing.assert_allclose(plot[1, 2].numpy(), cdist(moments, moments) / np.sqrt(3), atol=2e-3)


def test_a_periodic_signal_recurs_after_its_period_and_not_half_of_it() -> None:
    frames = torch.arange(125)
    plot = recurrence_plot(torch.sin(2 * np.pi * frames / 40)[None, None], dimension=3, delay=2)[0, 0]
    assert float(plot.diagonal(40).max()) < 0.01
    # Half a period later a sine is equally high only where it crosses zero, and there the embedding sees the slope.
    assert float(plot.diagonal(20).min()) > 0.3


def test_only_signed_plots_tell_an_inverted_wave_from_an_upright_one() -> None:
    wave = torch.exp(-0.5 * ((torch.arange(125.0) - 60) / 4) ** 2)[None, None]
    plain, inverted = (recurrence_plot(x, dimension=3, delay=2) for x in (wave, -wave))
    torch.testing.assert_close(plain, inverted)
    torch.testing.assert_close(plain, plain.transpose(2, 3))
    plain, inverted = (recurrence_plot(x, dimension=3, delay=2, signed=True) for x in (wave, -wave))
    assert float(plain[0, 0, 58, 5]) > 0.5
    assert float(inverted[0, 0, 58, 5]) < -0.5
    noise = torch.randn(1, 12, 60, generator=torch.Generator().manual_seed(0))
    plot = recurrence_plot(noise, dimension=3, delay=2, signed=True)
    torch.testing.assert_close(plot, -plot.transpose(2, 3), rtol=1e-4, atol=1e-4)
    magnitude = recurrence_plot(noise, dimension=3, delay=2)
    torch.testing.assert_close(plot.abs(), magnitude, rtol=1e-4, atol=2e-3)


def test_a_flat_lead_has_an_empty_plot_and_a_finite_gradient() -> None:
    signal = torch.randn(1, 12, 1000, generator=torch.Generator().manual_seed(0))
    signal[:, 3] = 0
    assert float(recurrence_plot(signal[:, 3:4], dimension=3, delay=2).abs().max()) < 1e-3
    signal.requires_grad_()
    make("recurrence_cnn")(signal).sum().backward()
    assert torch.isfinite(signal.grad).all()
    assert float(signal.grad.abs().max()) > 0


def test_a_qrs_complex_spans_at_least_four_pixels() -> None:
    model = make("recurrence_cnn")
    milliseconds_a_frame = 10_000 / model.frames(torch.zeros(1, 12, 1000)).shape[-1]
    assert 80 / milliseconds_a_frame >= 4


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(EcgkitError, match=r"widths \[8, 8\], kernel_sizes \[3\] and strides \[1, 1\] differ"):
        convolutions(12, [8, 8], [3])
    with pytest.raises(EcgkitError, match=r"widths \[8\] and kernel_sizes \[3, 7\] differ"):
        make("residual_bilstm_attention", widths=[8])
    with pytest.raises(EcgkitError, match=r"frames_per_token( of \w+)? is 0"):
        make("parallel_xlstm", frames_per_token=0)
    with pytest.raises(EcgkitError, match="4 frames hold no two moments of dimension 3 at a delay of 2"):
        recurrence_plot(torch.zeros(1, 12, 4), dimension=3, delay=2)
    with pytest.raises(EcgkitError, match="cnn has no option 'n_leads': choose from widths"):
        resolve_options("cnn", {"n_leads": 8})


def test_options_are_the_defaults_and_what_is_given() -> None:
    options = resolve_options("cnn", {"pool": 4})
    assert options["pool"] == 4
    assert options["widths"] == (64, 128, 256)
    assert not options.keys() & SHAPE.keys()


@pytest.mark.parametrize("name", ["resnet1d", "hybrid", "cnn"])
def test_a_faster_copy_gives_the_same_output(name: str) -> None:
    model, random = make(name), torch.Generator().manual_seed(0)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        for values in (norm.weight.data, norm.bias.data, norm.running_mean):
            values.copy_(torch.randn(values.shape, generator=random))
        norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=random) + 0.5)
    signal = torch.randn(2, 12, 1000, generator=random)
    model.eval()
    faster = made_faster(model)
    left = [module for module in faster.modules() if isinstance(module, nn.BatchNorm1d)]
    assert len(left) < len(norms)
    with torch.inference_mode():
        expected = model(signal)
        torch.testing.assert_close(faster(signal), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert any(isinstance(module, nn.BatchNorm1d) for module in model.modules())  # the model itself is as it was


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 2}, {"dilation": 3, "bias": False}])
@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last_convolutions_compute_the_same(options: dict[str, Any], *, channels_last: bool) -> None:
    torch.manual_seed(0)
    layer, signal = nn.Conv1d(6, 8, 5, **options), torch.randn(3, 6, 41)
    if channels_last:
        signal = signal.transpose(1, 2).contiguous().transpose(1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(made_faster(nn.Sequential(layer))(signal), layer(signal))


def test_only_convolutions_of_one_group_padded_with_zeros_are_channels_last() -> None:
    others = {"groups": 2}, {"padding": 1, "padding_mode": "circular"}, {"padding": "same"}
    layers = [nn.Conv1d(4, 4, 3), *(nn.Conv1d(4, 4, 3, **other) for other in others)]
    kinds = [type(module) for module in made_faster(nn.Sequential(*layers))]
    assert kinds == [ChannelsLastConv1d, nn.Conv1d, nn.Conv1d, nn.Conv1d]
    assert type(made_faster(nn.Sequential(layers[0]), channels_last=False)[0]) is nn.Conv1d


@pytest.mark.parametrize("length", [2, 63, 250])
def test_means_of_pairs_are_an_average_pooling(length: int) -> None:
    signal = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(0), requires_grad=True)
    means, expected = (pool(signal) for pool in (MeanOfPairs(), nn.AvgPool1d(2, ceil_mode=True)))
    torch.testing.assert_close(means, expected, rtol=0, atol=0)
    gradients = [torch.autograd.grad(output.square().sum(), signal)[0] for output in (means, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_means_of_pairs_are_one_operator_in_an_exported_graph() -> None:
    graph = torch.export.export(MeanOfPairs(), (torch.randn(2, 3, 63),)).graph
    assert [str(node.target) for node in graph.nodes if node.op == "call_function"] == ["aten.avg_pool1d.default"]


@pytest.mark.parametrize("n_tokens", [8, 50])
def test_attention_in_bfloat16_is_that_in_float32(n_tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    *inputs, weights = torch.randn(4, 4, 6, n_tokens, 32, generator=generator).bfloat16().unbind()
    queries, keys, values = (tensor.requires_grad_() for tensor in inputs)
    attended = attend(queries, keys, values)
    expected = functional.scaled_dot_product_attention(queries.float(), keys.float(), values.float())
    assert attended.dtype == torch.bfloat16
    torch.testing.assert_close(attended.float(), expected, atol=0.02, rtol=0.02)
    gradients, references = (
        torch.autograd.grad((output.float() * weights.float()).sum(), inputs) for output in (attended, expected)
    )
    torch.testing.assert_close(gradients, references, atol=0.03, rtol=0.03)
