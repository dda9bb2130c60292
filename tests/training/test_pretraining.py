"""Pretraining: what the objectives see, what they move, and that a resumed one is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resuming import check_resuming

from ecgkit import paths, sessions, training
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.model_folder import read_model
from ecgkit.models.token_encoder import TokenEncoder
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.training.config import TrainingConfig
from ecgkit.training.pretraining.config import BACKBONES, PretrainingConfig
from ecgkit.training.pretraining.fitting import (
    PretrainingModule,
    effective_rank,
    new_encoder,
    pretraining_data,
)
from ecgkit.training.pretraining.objectives import CPC, JEPA, STEPS_AHEAD

TINY = {"width": 16, "depth": 1, "n_heads": 2}
ALL = [(method, backbone) for method, backbones in BACKBONES.items() for backbone in backbones]


def resolve(root: Path, **settings: Any) -> PretrainingConfig:
    given = {"dataset": "demo", "epochs": 2, "batch_size": 128, "precision": "float32", "model_options": TINY}
    return PretrainingConfig.resolve(root, **given | settings)


def make_encoder(backbone: str, **keywords: Any) -> TokenEncoder:
    torch.manual_seed(0)
    shape = {"n_leads": 12, "n_classes": 0, "n_samples": 1000, "sampling_rate": 100}
    return TokenEncoder(backbone=backbone, **shape | TINY | keywords).eval()


@pytest.fixture
def signal() -> torch.Tensor:
    return torch.randn(4, 12, 800, generator=torch.Generator().manual_seed(1))


def test_a_causal_network_reads_no_later_sample(signal: torch.Tensor) -> None:
    encoder, changed = make_encoder("causal"), signal.clone()
    changed[..., 400:] += 1
    with torch.no_grad():
        before, after = (encoder.backbone(encoder.tokens(one)) for one in (signal, changed))
    assert torch.equal(before[..., :20], after[..., :20])
    assert not torch.isclose(before[..., 20:], after[..., 20:]).all(dim=1).any()


@pytest.mark.parametrize("rate", [50, 100, 250, 257, 500, 1000])
def test_tokens_of_about_200_ms_at_every_rate(rate: int) -> None:
    for backbone in ("transformer", "causal"):
        encoder = make_encoder(backbone, sampling_rate=rate, n_samples=10 * rate)
        assert encoder.token_samples / rate == pytest.approx(0.2, rel=0.2)
        n_tokens = -(-10 * rate // encoder.token_samples)
        assert encoder.tokens(torch.zeros(1, 12, 10 * rate)).shape == (1, 16, n_tokens)


def test_a_crop_has_the_tokens_of_its_place_in_the_record(signal: torch.Tensor) -> None:
    encoder = make_encoder("transformer")
    whole = encoder.tokens(signal)
    cropped = encoder.tokens(signal[..., 60:], torch.full((4,), 60))
    torch.testing.assert_close(cropped, whole[..., 3:])


def test_masks_hide_whole_blocks_of_the_stated_share(demo_root: Path) -> None:
    config = resolve(demo_root, least_context=0.2, most_context=0.3, block_tokens=4)
    visible, hidden = JEPA(make_encoder("transformer"), config).draw_masks(100, 48, torch.Generator().manual_seed(0))
    assert 0.2 * 48 - 1 <= visible.shape[1] <= 0.3 * 48 + 1
    for seen, unseen in zip(visible.tolist(), hidden.tolist(), strict=True):
        assert sorted(seen + unseen) == list(range(48))
        runs = np.split(np.array(seen), np.flatnonzero(np.diff(seen) > 1) + 1)
        whole = [run for run in runs if run[0] > 0 and run[-1] < 47]  # a block may be cut at the ends of the record
        assert sum(len(run) % 4 > 0 for run in whole) <= 1  # and one by the number of tokens
    assert len({tuple(row) for row in visible.tolist()}) > 90


def test_the_encoder_sees_only_the_visible_tokens(signal: torch.Tensor, demo_root: Path) -> None:
    objective = JEPA(make_encoder("transformer"), resolve(demo_root))
    seen: list[torch.Tensor] = []
    objective.encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    losses = []
    visible, hidden = objective.draw_masks(4, 40, torch.Generator().manual_seed(5))
    for change in (0.0, 1.0):
        changed = signal.clone().unflatten(-1, (40, 20))
        index = hidden[:, None, :, None].expand(-1, 12, -1, 20)
        changed.scatter_add_(2, index, torch.full(index.shape, change))
        losses.append(
            objective.loss(changed.flatten(2), torch.zeros(4).long(), torch.arange(4), torch.Generator().manual_seed(5))
        )
    assert seen[0].shape == (4, 16, visible.shape[1])
    assert torch.equal(seen[0], seen[1])
    assert not torch.isclose(losses[0], losses[1])  # the targets differ


def test_the_target_encoder_is_a_moving_average_without_a_gradient(signal: torch.Tensor, demo_root: Path) -> None:
    objective = JEPA(make_encoder("transformer"), resolve(demo_root, least_momentum=0.5, most_momentum=0.9))
    before = objective.target.patches.weight.clone()
    with torch.no_grad():
        objective.encoder.patches.weight += 1
    loss = objective.loss(signal, torch.zeros(4).long(), torch.arange(4), torch.Generator().manual_seed(0))
    loss.backward()
    assert all(parameter.grad is None for parameter in objective.target.parameters())
    assert objective.encoder.patches.weight.grad.abs().sum() > 0
    objective.after_step(0.0)
    torch.testing.assert_close(objective.target.patches.weight, before + 0.5)
    objective.after_step(1.0)
    torch.testing.assert_close(objective.target.patches.weight, before + 0.5 + 0.05)


def test_halves_of_one_patient_are_no_negatives(signal: torch.Tensor, demo_root: Path) -> None:
    objective = CPC(make_encoder("causal"), resolve(demo_root, method="cpc"))
    features = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    assert objective.disagreement(features, torch.zeros(4).long()).item() == pytest.approx(0.0, abs=1e-6)
    two, four = (objective.disagreement(features, torch.tensor(ids)) for ids in ([0, 0, 1, 1], [0, 1, 2, 3]))
    assert 0 < two < four


def test_knowing_what_follows_solves_the_contrastive_task(demo_root: Path) -> None:
    """A signal that repeats every 12 tokens: identity predicts what comes 12 later, among 12 kinds of tokens."""
    objective = CPC(make_encoder("causal"), resolve(demo_root, method="cpc", agreement=0.0, temperature=0.01))
    kinds = torch.nn.functional.normalize(torch.randn(12, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    tokens = kinds[torch.arange(20) % 12].T.expand(2, -1, -1)
    objective.encoder.tokens = lambda _: tokens
    objective.encoder.backbone = torch.nn.Identity()
    objective.predictors = torch.nn.ModuleList(torch.nn.Identity() for _ in STEPS_AHEAD)
    none = torch.zeros(1).long()
    chance = objective.loss(torch.zeros(1, 12, 800), none, none, torch.Generator())
    rolled = [kinds.roll(-ahead, 0) for ahead in STEPS_AHEAD]
    for k, following in enumerate(rolled):
        linear = torch.nn.Linear(16, 16, bias=False)
        linear.weight.data = torch.linalg.lstsq(kinds, following).solution.T
        objective.predictors[k] = linear
    # Two of the twenty tokens are of the same kind in most places, so that the loss is at most that of a fair coin.
    assert objective.loss(torch.zeros(1, 12, 800), none, none, torch.Generator()) < 0.75 < chance


@pytest.mark.parametrize(("method", "backbone"), ALL)
def test_a_killed_pretraining_resumes_to_the_same_result(
    method: str, backbone: str, demo_dataset: Dataset, tmp_path: Path
) -> None:
    config = resolve(demo_dataset.path.parents[1], method=method, backbone=backbone)
    data = open_dataset(demo_dataset.path, folds=(1, 2, 3, 9))
    resumed = check_resuming(config, data, tmp_path)
    start = new_encoder(config, data).model.state_dict()
    assert any(not torch.equal(tensor, start[name]) for name, tensor in resumed.model.state_dict().items())


def test_fold_10_is_not_opened(demo_root: Path) -> None:
    data = pretraining_data(resolve(demo_root), demo_root)
    assert set(data.records["fold"]) == {*TRAIN_FOLDS, VALIDATION_FOLD}
    assert data.classes == ()


def test_the_effective_rank_counts_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(1000, 8, generator=generator) - 0.0)
    basis = torch.linalg.qr(basis - basis.mean(dim=0)).Q
    assert effective_rank(basis[:, :1] @ torch.randn(1, 20, generator=generator)).item() == pytest.approx(1, abs=1e-3)
    assert effective_rank(basis).item() == pytest.approx(8, rel=1e-3)


@pytest.mark.parametrize(("method", "backbone"), ALL)
def test_a_training_starts_from_the_encoder(method: str, backbone: str, demo_root: Path, tmp_path: Path) -> None:
    (tmp_path / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    config = resolve(tmp_path, method=method, backbone=backbone)
    session = sessions.create(paths.PRETRAINING, tmp_path)
    encoder = new_encoder(config, pretraining_data(config, tmp_path))
    encoder.save(session.best_weights)
    name = f"{paths.PRETRAINING}/{session.name}"
    with pytest.raises(EcgkitError, match="not finished"):
        TrainingConfig.resolve(tmp_path, dataset="demo", init=name)
    (session.path / "DONE").touch()
    recipe = TrainingConfig.resolve(tmp_path, dataset="demo", model="token_encoder").learning_rate
    assert TrainingConfig.resolve(tmp_path, dataset="demo", init=name).learning_rate == recipe
    resolved = TrainingConfig.resolve(tmp_path, dataset="demo", init=name, freeze=True)
    model = training.new_model(resolved, training.training_data(resolved, tmp_path)).model
    for key, tensor in encoder.model.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor)
    assert {key for key, value in model.named_parameters() if value.requires_grad} == {"head.weight", "head.bias"}
    with pytest.raises(EcgkitError, match="no class"):
        read_model(session.path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"method": "mae"}, "mae"),
        ({"backbone": "causal"}, "causal"),
        ({"method": "cpc", "backbone": "xlstm"}, "xlstm"),
        ({"dataset": "nowhere"}, "nowhere"),
        ({"dataset": "../demo"}, "../demo"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "nan"),
        ({"least_context": 0.5}, "least_context is 0.5"),
        ({"most_momentum": 1.0}, "most_momentum is 1.0"),
        ({"crop_seconds": 11.0}, "crop_seconds is 11"),
        ({"crop_seconds": 2.0}, "crop_seconds is 2"),
        ({"method": "cpc", "model_options": {"token_seconds": 0.4}}, r"crop_seconds is 8, .*10\.4"),
        ({"label_set": "colour"}, "colour"),
        ({"model_options": {"depht": 3}}, "depht"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], named: str, demo_root: Path) -> None:
    with pytest.raises(EcgkitError, match=named):
        resolve(demo_root, **settings)


def test_a_loss_that_is_not_finite_ends_the_pretraining(demo_root: Path) -> None:
    config = resolve(demo_root)
    data = pretraining_data(config, demo_root)
    module = PretrainingModule(new_encoder(config, data), config)
    with torch.no_grad():
        module.objective.encoder.patches.weight.fill_(torch.nan)
    with pytest.raises(EcgkitError, match="learning_rate"):
        module.training_step((torch.zeros(2, 12, 1000), torch.arange(2)), 0)
