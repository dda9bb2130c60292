"""Fine-tuning: a training starts from trained weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_sources import cinc_folder

from ecgkit import datasets, load_model, paths, sessions, training
from ecgkit.errors import EcgkitError
from ecgkit.inference.metadata import TargetScale
from ecgkit.inference.model_folder import SHIPPED, WEIGHTS
from ecgkit.inference.weights import TrainedModel
from ecgkit.sources.cinc import Cinc
from ecgkit.stats.folds import TRAIN_FOLDS
from ecgkit.training.config import TrainingConfig
from ecgkit.training.inference import open_model_on
from ecgkit.training.initial import head_names, read_initial, with_fraction
from ecgkit.training.lineage import check_unseen
from ecgkit.training.pretraining.config import PretrainingConfig
from ecgkit.training.pretraining.fitting import new_encoder


def configure(root: Path, **settings: Any) -> TrainingConfig:
    return TrainingConfig.resolve(root, **{"dataset": "demo", "init": "resnet1d", "epochs": 1} | settings)


def trained_by(root: Path, config: TrainingConfig) -> TrainedModel:
    session = sessions.create(paths.TRAINING, root)
    return training.fit(session, config, training.training_data(config, root))


@pytest.fixture(scope="module")
def shipped() -> TrainedModel:
    return read_initial("resnet1d")


def test_the_same_classes_start_with_the_same_answers(demo_root: Path) -> None:
    config = configure(demo_root)
    assert (config.model, config.crop_seconds, config.init) == ("resnet1d", 2.5, "resnet1d")
    data = training.training_data(config, demo_root)
    started = training.new_model(config, data).model.eval()
    reference = load_model("resnet1d")
    signal, _, _ = training.Batches(data, None, read_initial("resnet1d").preparation)[np.arange(5)]
    with torch.no_grad():
        assert torch.equal(started(signal[..., :250]), reference.trained.model(signal[..., :250]))


def test_age_and_the_quantity_keep_the_scales_of_the_weights(demo_root: Path, tmp_path: Path) -> None:
    config = configure(demo_root, init="resnet1d_age_sex")
    model = training.new_model(config, training.training_data(config, demo_root))
    assert model.scaler == read_initial("resnet1d_age_sex").scaler
    config = TrainingConfig.resolve(demo_root, dataset="demo", model="cnn", target="age")
    data = training.training_data(config, demo_root)
    scale = TargetScale("age", "years", 40.0, 10.0)
    replace(training.new_model(config, data), target=scale).save(tmp_path / WEIGHTS)
    again = configure(demo_root, init=str(tmp_path), target="age")
    assert training.new_model(again, data).target == scale


def test_other_classes_get_a_new_last_layer(demo_root: Path, shipped: TrainedModel) -> None:
    config = configure(demo_root, target="sex")
    model = training.new_model(config, training.training_data(config, demo_root)).model
    head, state = head_names(shipped), shipped.model.state_dict()
    assert head
    for name, tensor in model.state_dict().items():
        assert (tensor.shape != state[name].shape) if name in head else torch.equal(tensor, state[name])


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_trunk_does_not_change(freeze: bool, demo_root: Path, shipped: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    trained = trained_by(tmp_path, configure(tmp_path, freeze=freeze, crops_per_record=1))
    head, before = head_names(shipped), shipped.model.state_dict()
    changed = {name for name, tensor in trained.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed <= head if freeze else changed - head
    assert changed & head
    np.testing.assert_array_equal(trained.mean, shipped.mean)


def test_the_learning_rate_is_a_tenth_of_the_recipes_for_a_whole_network(demo_root: Path) -> None:
    recipe = TrainingConfig.resolve(demo_root, dataset="demo", model="resnet1d").learning_rate
    assert configure(demo_root).learning_rate == pytest.approx(recipe / 10)
    assert configure(demo_root, freeze=True).learning_rate == recipe
    assert configure(demo_root, learning_rate=0.5).learning_rate == 0.5


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model": "cnn"}, "cnn.*resnet1d"),
        ({"init": "ensemble"}, "ensemble"),
        ({"init": "session_99"}, "session_99"),
        ({"init": "", "model": "cnn", "freeze": True}, "freeze"),
        ({"init": "random"}, "model"),
        ({"init": "random", "model": "cnn"}, "freeze"),
        ({"model_options": {"widths": [8, 8, 8, 8]}}, "widths"),
        ({"train_fraction": 1.5}, r"1\.5"),
        ({"train_fraction": 0.0}, "train_fraction"),
        ({"crop_seconds": 5.0}, "crop_seconds"),
    ],
)
def test_what_contradicts_the_weights_is_refused(settings: dict[str, Any], named: str, demo_root: Path) -> None:
    with pytest.raises(EcgkitError, match=named):
        configure(demo_root, **settings)


SMALL = {"width": 16, "depth": 1, "n_heads": 2, "dropout": 0.0}


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_an_attentive_probe_trains_pooling_and_head_of_a_frozen_encoder(
    init: str, demo_root: Path, tmp_path: Path
) -> None:
    (tmp_path / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    data = datasets.open_dataset(demo_root / paths.PROCESSED / "demo")
    pretraining = PretrainingConfig.resolve(tmp_path, dataset="demo", seed=1, model_options=SMALL)
    encoder = new_encoder(pretraining, data)
    encoder.save(tmp_path / "folder" / WEIGHTS)
    asked: dict[str, Any] = {"init": str(tmp_path / "folder"), "model_options": {"pooling": "attention"}}
    if init == "random":
        asked = {"init": "random", "model": "token_encoder", "model_options": {"pooling": "attention", **SMALL}}
    config = configure(tmp_path, freeze=True, crop_seconds=0.0, crops_per_record=1, train_fraction=0.5, **asked)
    before = training.new_model(config, training.training_data(config, tmp_path)).model.state_dict()
    after = trained_by(tmp_path, config).model.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert {"head.weight", "head.bias"} < changed
    assert changed - {"head.weight", "head.bias"} == {name for name in after if name.startswith("pooling.")}
    from_encoder = [torch.equal(after[name], value) for name, value in encoder.model.state_dict().items()]
    assert all(from_encoder) == (init == "pretrained")


def test_another_sampling_rate_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from ecgkit.sources.demo import Demo

    source = Demo(n_records=60, sampling_rate=500)
    datasets.build_dataset(source, tmp_path / paths.PROCESSED / "demo", progress=False, jobs=1)
    with pytest.raises(EcgkitError, match="500 Hz.*--rate 100"):
        configure(tmp_path)


def test_weights_that_have_learned_from_patients_of_fold_9_or_10_are_refused(tmp_path: Path) -> None:
    from ecgkit.sources.demo import Demo

    processed, source = tmp_path / paths.PROCESSED, Demo(n_records=60)
    datasets.build_dataset(source, processed / "demo", progress=False, jobs=1)
    source.divide((0.7, 0.15, 0.15))
    datasets.build_dataset(source, processed / "divided", progress=False, jobs=1)
    weights = shutil.copytree(SHIPPED / "resnet1d", tmp_path / "weights")
    (weights / "config.json").write_text(json.dumps({"dataset": "demo"}))
    check_unseen("weights", weights, "demo", tmp_path)
    with pytest.raises(EcgkitError, match=r"learned from demo.*divided"):
        configure(tmp_path, init=str(weights), dataset="divided")
    with pytest.raises(EcgkitError, match=r"learned from demo.*divided"):  # to probe or to explain
        open_model_on(weights, "divided", tmp_path)
    # from PTB-XL, which is also a part of PhysioNet/CinC, there with other folds
    check_unseen("resnet1d", SHIPPED / "resnet1d", "divided", tmp_path)
    made = Cinc(cinc_folder(tmp_path / "challenge", 60))
    made.records["fold"] = np.where(made.records["record_id"].str.startswith("HR"), 10, made.records["fold"])
    datasets.build_dataset(made, processed / "challenge", progress=False, jobs=1)
    with pytest.raises(EcgkitError, match=r"learned from ptbxl.*10 records.*HR"):
        configure(tmp_path, dataset="challenge")
    made.records["fold"] = np.where(made.records["record_id"].str.startswith("HR"), 1, made.records["fold"])
    datasets.build_dataset(made, processed / "challenge", progress=False, jobs=1, overwrite=True)
    check_unseen("resnet1d", SHIPPED / "resnet1d", "challenge", tmp_path)


def test_a_part_of_the_training_patients(demo_root: Path) -> None:
    data = training.training_data(configure(demo_root), demo_root)
    small, large = (with_fraction(data, share, seed=1) for share in (0.1, 0.3))
    patients = [set(part.records["patient_id"].iloc[part.folds(*TRAIN_FOLDS)]) for part in (small, large, data)]
    assert patients[0] < patients[1] < patients[2]
    assert len(patients[0]) == round(0.1 * len(patients[2]))
    assert len(small.folds(9)) == len(data.folds(9))
    row = small.records["record_id"].iloc[3]
    position = data.records["record_id"].tolist().index(row)
    np.testing.assert_array_equal(small.signal(3), data.signal(position))
    assert small.labels.iloc[3].tolist() == data.labels.iloc[position].tolist()
