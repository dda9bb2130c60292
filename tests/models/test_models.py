"""Every registered model keeps the contract: shapes, embedding, saving, loading, exporting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgkit.errors import EcgkitError
from ecgkit.inference.metadata import MetadataScaler
from ecgkit.inference.weights import TrainedModel, load_weights
from ecgkit.models import MODELS, create_model, resolve_options
from ecgkit.models.xlstm_blocks import BidirectionalXLSTM
from ecgkit.signals.prepare import Preparation

SHAPE = {"n_leads": 12, "n_classes": 5, "n_samples": 1000, "sampling_rate": 100}

# Models that would compute a thousand steps one by one: fewer steps, where the size does not matter.
FEW_STEPS = {
    "bilstm": {"frame_rate": 5},
    "cnn_bilstm": {"frame_rate": 20},
    "residual_bilstm_attention": {"frame_rate": 20},
    "parallel_xlstm": {"frames_per_token": 50},
    "hierarchical_xlstm": {"frames_per_token": 50},
}


def make(name: str, seed: int = 0, **keywords: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_model(name, **(SHAPE | keywords)).eval()


@pytest.fixture
def signal() -> torch.Tensor:
    return torch.randn(3, 12, 1000, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_forward_returns_one_logit_per_class(name: str, signal: torch.Tensor) -> None:
    logits = make(name)(signal)
    assert logits.shape == (3, 5)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", MODELS)
def test_under_two_million_parameters(name: str) -> None:
    assert sum(p.numel() for p in make(name, n_metadata=4).parameters()) < 2_000_000


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("rate", "samples"), [(100, 1000), (500, 5000), (100, 250)])
def test_other_rates_and_lengths(name: str, rate: int, samples: int) -> None:
    model = make(name, sampling_rate=rate, n_samples=samples, **FEW_STEPS.get(name, {}))
    assert model(torch.randn(2, 12, samples)).shape == (2, 5)


@pytest.mark.parametrize("name", MODELS)
def test_a_record_does_not_depend_on_its_batch(name: str, signal: torch.Tensor) -> None:
    model = make(name)
    torch.testing.assert_close(model(signal)[:1], model(signal[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_age_and_sex_reach_the_logits_and_not_the_embedding(name: str, signal: torch.Tensor) -> None:
    model = make(name, n_metadata=4)
    young, old = torch.tensor([[-2.0, 0, 1, 0]] * 3), torch.tensor([[2.0, 0, 0, 1]] * 3)
    assert not torch.allclose(model(signal, young), model(signal, old))
    assert model.embed(signal).shape == (3, model.n_features)
    with pytest.raises(EcgkitError, match="4 metadata columns"):
        model(signal)
    with pytest.raises(EcgkitError, match="0 metadata columns"):
        make(name)(signal, young)


@pytest.mark.parametrize("name", MODELS)
def test_grad_cam_layer_gives_a_map_over_time(name: str, signal: torch.Tensor) -> None:
    model = make(name)
    seen = []
    model.get_submodule(model.gradcam_layer).register_forward_hook(lambda *call: seen.append(call[2]))
    model(signal)
    assert seen[0].ndim == 3
    assert seen[0].shape[0] == 3
    assert 10 <= seen[0].shape[2] <= 1000


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str, signal: torch.Tensor) -> None:
    # With this seed no squeeze-and-excitation layer begins with all of its few ReLU units off.
    model = make(name, seed=2, n_metadata=4, **FEW_STEPS.get(name, {})).train()
    # Some steps: residual branches begin as zero, so that the first gradients do not reach all of them.
    optimizer, learned = torch.optim.AdamW(model.parameters(), lr=1e-2), set()
    for _ in range(4):
        optimizer.zero_grad()
        model(signal, torch.randn(3, 4)).square().sum().backward()
        optimizer.step()
        learned |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    idle = dict(model.named_parameters()).keys() - learned
    assert idle == set()


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_gives_the_same(name: str, signal: torch.Tensor, tmp_path) -> None:
    keywords = SHAPE | {"n_metadata": 4}
    model = make(name, n_metadata=4)
    mean, std = np.arange(12, dtype=np.float32), np.full(12, 0.2, np.float32)
    preparation = Preparation(SHAPE["sampling_rate"], SHAPE["n_samples"], mean, std)
    trained = TrainedModel(model, name, keywords, tuple("ABCDE"), "", preparation, MetadataScaler(60.0, 15.0))
    loaded = load_weights(trained.save(tmp_path / "best.safetensors"))
    metadata = torch.randn(3, 4)
    torch.testing.assert_close(loaded.model(signal, metadata), model(signal, metadata), rtol=0, atol=0)
    assert loaded.classes == tuple("ABCDE")
    assert loaded.scaler == MetadataScaler(60.0, 15.0)
    np.testing.assert_array_equal(loaded.mean, mean)
    assert not torch.allclose(trained.untrained(7).model(signal, metadata), model(signal, metadata))


@pytest.mark.parametrize("name", MODELS)
def test_the_exported_model_gives_the_same(name: str, signal: torch.Tensor) -> None:
    model = make(name, **FEW_STEPS.get(name, {}))
    exported = torch.export.export(model, (signal,)).module()
    torch.testing.assert_close(exported(signal), model(signal), rtol=1e-4, atol=1e-5)


def test_blocks_read_in_both_directions() -> None:
    torch.manual_seed(0)
    stack = BidirectionalXLSTM(width=16, layout="ms", n_heads=2, dropout=0.0).eval()
    tokens = torch.randn(1, 16, 20)
    changed = tokens.clone()
    changed[:, :, 10] += 1
    moved = (stack(tokens) - stack(changed)).abs().sum(dim=(0, 1))
    assert (moved[:10] > 0).all()
    assert (moved[10:] > 0).all()


def test_xlstm_reads_a_token_every_80_ms_and_needs_no_compiler() -> None:
    assert make("xlstm", sampling_rate=500).patches(torch.randn(1, 12, 5000)).shape[-1] == 125
    model = make("xlstm")
    assert model.patches(torch.randn(1, 12, 1000)).shape[-1] == 125
    backends = {m.config.backend for m in model.modules() if type(m).__name__ == "sLSTMLayer"}
    assert backends == {"vanilla"}


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        ("cnn", {"dropout": "0.1"}, "dropout of cnn is '0.1'"),
        ("cnn", {"widths": [8, "x"]}, "widths of cnn"),
        ("cnn", {"widths": "abc"}, "widths of cnn is 'abc'"),
        ("resnet1d", {"blocks": 1.5}, "blocks of resnet1d is 1.5"),
        ("cnn", {"dropout": 2.0}, "dropout of cnn is 2.0"),
        ("resnet1d", {"stochastic_depth": -0.1}, "stochastic_depth of resnet1d is -0.1"),
        ("resnet1d", {"widths": []}, r"widths \[\] \(default: \(32"),
        ("resnet1d", {"widths": [8, 0]}, r"widths of resnet1d is \[8, 0\]"),
        ("xlstm", {"width": 0}, "width of xlstm is 0"),
    ],
)
def test_a_wrong_value_of_an_option_is_named(model: str, options: dict[str, object], named: str) -> None:
    with pytest.raises(EcgkitError, match=named):
        create_model(model, **SHAPE, **options)


@pytest.mark.parametrize("name", MODELS)
def test_no_model_takes_a_number_out_of_range(name: str) -> None:
    for option, default in resolve_options(name, {}).items():
        wrong: tuple[float, ...] = (float("nan"), -1.0) if isinstance(default, float) else (0, -1)
        for value in () if isinstance(default, (bool, str)) else wrong:
            given = [value] if isinstance(default, tuple) else value
            with pytest.raises(EcgkitError, match=rf"{option} of {name} is"):
                resolve_options(name, {option: given})


def test_an_integer_serves_as_an_option_that_is_a_number() -> None:
    assert resolve_options("cnn", {"dropout": 0, "widths": [8, 8, 8]})["dropout"] == 0


def test_unknown_names_are_refused() -> None:
    with pytest.raises(EcgkitError, match="unknown model 'resnet'.*resnet1d"):
        create_model("resnet", **SHAPE)
    with pytest.raises(EcgkitError, match="unknown pooling 'max'"):
        create_model("resnet1d", **SHAPE, pooling="max")
    with pytest.raises(EcgkitError, match="unknown xLSTM block 'x'"):
        create_model("xlstm", **SHAPE, layout="mx")
    with pytest.raises(EcgkitError, match="resnet1d has no option 'depth'.*widths"):
        create_model("resnet1d", **SHAPE, depth=3)
