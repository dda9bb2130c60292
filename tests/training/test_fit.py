"""Training: deterministic, resumable to the same result, the best checkpoint kept, for every model."""

from __future__ import annotations

import csv
import io
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from resuming import check_resuming
from sklearn.metrics import roc_auc_score

from ecgkit import paths, sessions, training, workflow
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.tensor_file import tensor_bytes
from ecgkit.inference.weights import load_weights
from ecgkit.io import hold_folder, release_folder
from ecgkit.models import MODELS
from ecgkit.sessions import Session
from ecgkit.stats import macro_auc
from ecgkit.training.config import TrainingConfig
from ecgkit.training.fitting import HISTORY, SessionWriter, WholeCheckpoints, check_checkpoint, fit, read_history
from ecgkit.training.inference import open_trained, predict, predict_folds
from ecgkit.training.model import new_model
from ecgkit.training.module import parameter_groups

# Toy sizes: they only have to run.
TINY = {
    "resnet1d": {"widths": [8, 8], "blocks": 1},
    "token_encoder": {"width": 16, "depth": 1, "n_heads": 2},
    "xlstm": {"width": 16, "layout": "ms", "n_heads": 2},
    "hybrid": {"widths": [8, 16], "blocks": 1, "layout": "s", "n_heads": 2},
    "cross_lead_cnn": {"filters_per_lead": 1, "widths": [8], "kernel_sizes": [5], "strides": [4], "n_dense": 8},
    "cnn": {"widths": [8, 8], "kernel_sizes": [5, 3], "pool": 4, "n_dense": 8},
    "bilstm": {"lstm_width": 8, "n_layers": 1, "n_dense": 8, "frame_rate": 25},
    "cnn_bilstm": {"widths": [8], "kernel_sizes": [5], "pool": 8, "lstm_width": 8, "n_dense": 8},
    "residual_bilstm_attention": {"widths": [8], "kernel_sizes": [3], "lstm_width": 8, "n_dense": 8, "frame_rate": 25},
    "parallel_xlstm": {"width": 16, "n_blocks": 1, "n_heads": 2, "frames_per_token": 10, "hidden": [8], "branch": 4},
    "hierarchical_xlstm": {
        "width": 16,
        "n_blocks": 1,
        "n_heads": 2,
        "frames_per_token": 10,
        "hidden": [8],
        "branch": 4,
    },
    "recurrence_cnn": {"widths": [4, 8], "n_dense": 8, "frame_rate": 10},
}


def make_config(model: str, **settings: object) -> TrainingConfig:
    given = {"epochs": 2, "batch_size": 64, "learning_rate": 1e-3, "precision": "float32", "noise": 0.1} | settings
    return TrainingConfig(dataset="demo", model=model, model_options=TINY[model], **given)


@pytest.fixture(scope="module")
def few_records(demo_dataset: Dataset) -> Dataset:
    """Return folds 1 to 3, 9 and 10 of the demo: two steps per epoch with 32 records per batch."""
    return open_dataset(demo_dataset.path, label_set="superclass", folds=(1, 2, 3, 9, 10))


def new_session(tmp_path: Path) -> Session:
    return sessions.create(paths.TRAINING, tmp_path)


def test_every_model_has_a_toy_size() -> None:
    assert TINY.keys() == MODELS.keys()


def test_two_runs_give_equal_predictions(demo_dataset: Dataset, tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        trained = fit(new_session(tmp_path), make_config("resnet1d"), demo_dataset)
        results.append(predict_folds(trained, demo_dataset))
    pd.testing.assert_frame_equal(*results, check_exact=True)


def test_another_seed_gives_another_model(demo_dataset: Dataset, tmp_path: Path) -> None:
    results = [
        predict_folds(
            fit(new_session(tmp_path), make_config("resnet1d", seed=seed, epochs=1), demo_dataset), demo_dataset
        )
        for seed in (0, 1)
    ]
    assert not np.allclose(results[0]["prob_NORM"], results[1]["prob_NORM"])


@pytest.mark.parametrize("model", MODELS)
def test_a_killed_training_resumes_to_the_same_result(model: str, few_records: Dataset, tmp_path: Path) -> None:
    config = make_config(model, epochs=3, batch_size=32, metadata=True)
    check_resuming(config, few_records, tmp_path)


def test_crops_mixup_faults_averaged_weights_and_another_loss_resume_to_the_same_result(
    demo_dataset: Dataset, tmp_path: Path
) -> None:
    sizes = {"crop_seconds": 2.5, "crops_per_record": 2, "mixup": 0.4, "robustness": {"wander": 0.5, "leads": 0.5}}
    options = {"loss": "focal", "schedule": "cosine", "metadata": True, "weight_average": 0.9}
    config = make_config("resnet1d", **sizes, **options)
    resumed = check_resuming(config, demo_dataset, tmp_path)
    assert resumed.model.n_samples == 250
    assert predict_folds(resumed, demo_dataset).filter(like="prob_").notna().all().all()


def test_crops_longer_than_a_record_are_refused(demo_dataset: Dataset) -> None:
    with pytest.raises(EcgkitError, match="crop_seconds is 12: give up to 10, the length of a record"):
        new_model(make_config("resnet1d", crop_seconds=12.0), demo_dataset)


def test_every_epoch_is_reported_with_the_macro_auc_of_fold_9(demo_dataset: Dataset, tmp_path: Path) -> None:
    session, seen = new_session(tmp_path), []
    fit(session, make_config("resnet1d"), demo_dataset, on_epoch=lambda *call: seen.append(call))
    history = read_history(session)
    assert [epoch for epoch, _ in seen] == [1, 2]
    np.testing.assert_allclose([auc for _, auc in seen], history["validation_macro_auc"], rtol=1e-9)


@pytest.mark.parametrize("weight_average", [0.0, 0.8])
def test_the_best_epoch_is_kept_not_the_last(weight_average: float, demo_dataset: Dataset, tmp_path: Path) -> None:
    session = new_session(tmp_path)
    config = make_config("resnet1d", epochs=4, learning_rate=3e-2, weight_average=weight_average)
    trained = fit(session, config, demo_dataset)
    history = read_history(session)
    assert list(history["epoch"]) == [1, 2, 3, 4]
    table = predict_folds(trained, demo_dataset)
    fold_9 = table[table["fold"] == 9]
    classes = demo_dataset.classes
    truth, prob = (fold_9[[f"{kind}_{name}" for name in classes]].to_numpy() for kind in ("true", "prob"))
    assert macro_auc(truth.astype(bool), prob) == pytest.approx(history["validation_macro_auc"].max(), abs=1e-6)


def test_training_stops_early_when_fold_9_no_longer_improves(demo_dataset: Dataset, tmp_path: Path) -> None:
    session = new_session(tmp_path)
    fit(session, make_config("resnet1d", epochs=40, patience=1, learning_rate=3e-2), demo_dataset)
    history = read_history(session)
    assert len(history) < 40
    assert history["validation_macro_auc"].idxmax() == len(history) - 2


def test_a_training_that_stopped_early_does_not_train_on(demo_dataset: Dataset, tmp_path: Path) -> None:
    session, config = new_session(tmp_path), make_config("resnet1d", epochs=40, patience=1, learning_rate=3e-2)
    first = fit(session, config, demo_dataset)
    history = read_history(session)
    again = fit(session, config, demo_dataset)
    pd.testing.assert_frame_equal(read_history(session), history)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))


def test_every_epoch_can_be_kept(demo_dataset: Dataset, tmp_path: Path) -> None:
    session = new_session(tmp_path)
    best = fit(session, make_config("resnet1d", save_every_epoch=True), demo_dataset)
    kept = sorted((session.path / "weights").glob("epoch_*.safetensors"))
    assert [path.name for path in kept] == ["epoch_001.safetensors", "epoch_002.safetensors"]
    number = int(read_history(session)["validation_macro_auc"].argmax())
    for name, tensor in load_weights(kept[number]).model.state_dict().items():
        assert torch.equal(tensor, best.model.state_dict()[name])


def test_ctrl_c_is_an_interruption_and_stays_one(
    demo_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(SessionWriter, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(new_session(tmp_path), make_config("resnet1d"), demo_dataset)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_session_holds_plain_files(demo_dataset: Dataset, tmp_path: Path) -> None:
    session = new_session(tmp_path)
    fit(session, make_config("resnet1d"), demo_dataset)
    assert sorted(path.name for path in (session.path / "weights").iterdir()) == ["best.safetensors", "last.ckpt"]
    torch.load(session.path / "weights" / "last.ckpt", weights_only=True)
    with (session.path / HISTORY).open() as file:
        assert len(list(csv.DictReader(file))) == 2
    log = (session.path / "training_log.txt").read_text()
    assert log.count("\nepoch ") == 2
    assert "left" in log


def test_only_folds_1_to_8_are_trained_on(
    demo_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    step = training.module.Module.training_step
    read = training.data.Batches.__getitem__
    last: list[np.ndarray] = []

    def remember(self: object, positions: np.ndarray) -> object:
        last[:] = [positions]
        return read(self, positions)

    def check(self: object, batch: object, index: int) -> object:
        seen.update(demo_dataset.records["fold"].iloc[last[0]])
        return step(self, batch, index)

    monkeypatch.setattr(training.data.Batches, "__getitem__", remember)
    monkeypatch.setattr(training.module.Module, "training_step", check)
    fit(new_session(tmp_path), make_config("resnet1d"), demo_dataset)
    assert seen == set(range(1, 9))


def test_an_exploding_training_says_so(demo_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="lower learning_rate"):
        fit(new_session(tmp_path), make_config("resnet1d", learning_rate=1e30, gradient_clip=1e30), demo_dataset)


def test_biases_and_normalisation_do_not_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    decaying, free = parameter_groups(model, 0.1)
    assert [p.shape for p in decaying["params"]] == [(2, 3)]
    assert len(free["params"]) == 3
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_a_checkpoint_that_does_not_fit_is_refused(demo_dataset: Dataset, tmp_path: Path) -> None:
    session = new_session(tmp_path)
    trained = fit(session, make_config("resnet1d", epochs=1), demo_dataset)
    path = session.path / "weights" / "best.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        facts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    facts.pop("sha256")
    for change, message in (
        (lambda t: t.pop("head.bias"), "lacks .*'head.bias'"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra'"),
    ):
        changed = dict(tensors)
        change(changed)
        (tmp_path / "changed.safetensors").write_bytes(tensor_bytes(changed, facts))
        with pytest.raises(EcgkitError, match=message):
            load_weights(tmp_path / "changed.safetensors")
    safetensors.torch.save_file(tensors, tmp_path / "other.safetensors", {"format": "pt"})
    with pytest.raises(EcgkitError, match="ecgkit"):
        load_weights(tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(path.read_bytes()[:100])
    with pytest.raises(EcgkitError, match="cannot read the weights"):
        load_weights(tmp_path / "broken.safetensors")
    other = type(trained)(**(trained.__dict__ | {"classes": ("A", "B", "C", "D", "E")}))
    with pytest.raises(EcgkitError, match="classes"):
        predict(other, demo_dataset, demo_dataset.folds(9))


def test_a_session_is_bound_to_its_dataset(demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sessions.SESSION_VARIABLE, raising=False)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "epochs = 1\nbatch_size = 64\nlearning_rate = 1e-3\nmodel_options = {widths = [8, 8], blocks = 1}\n"
    )
    (tmp_path / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    run = workflow.start("train", root=tmp_path, dataset="demo", model="resnet1d", recipe=str(recipe))
    data = training.training_data(run.config, tmp_path)
    trained = training.fit(run.session, run.config, data)
    run.session.close()
    again = open_trained(run.session, tmp_path)
    assert again.config == run.config
    pd.testing.assert_frame_equal(
        predict_folds(again.trained, again.dataset), predict_folds(trained, data), check_exact=True
    )
    config = run.session.config
    run.session.write_json("config.json", config | {"dataset_fingerprint": "other"})
    with pytest.raises(EcgkitError, match=f"is not the dataset that {run.session.name} was trained on"):
        open_trained(run.session, tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    few_records: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, config = new_session(tmp_path), make_config("cnn", epochs=3)
    real, calls = torch.save, []

    def full(data: object, place: io.BytesIO) -> None:
        calls.append(place)
        if len(calls) == 2:
            place.write(b"half")
            raise OSError(28, "No space left on device")
        real(data, place)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            fit(session, config, few_records)
    last = session.path / "weights" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 0
    fit(session, config, few_records)
    assert read_history(session)["epoch"].tolist() == [1, 2, 3]


def test_a_flipped_byte_and_a_value_that_is_not_finite_are_noticed_in_a_checkpoint(
    few_records: Dataset, tmp_path: Path
) -> None:
    session = new_session(tmp_path)
    fit(session, make_config("cnn", epochs=1), few_records)
    last = session.path / "weights" / "last.ckpt"
    good = last.read_bytes()
    assert check_checkpoint(last)
    for place in (*np.random.default_rng(0).integers(0, len(good), 30), len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        last.write_bytes(bytes(bad))
        with pytest.raises(EcgkitError, match=r"last\.ckpt"):
            check_checkpoint(last)
    with pytest.raises(EcgkitError, match=r"last\.ckpt .*remove it"):
        fit(session, make_config("cnn", epochs=2), few_records)
    last.write_bytes(good)
    state = torch.load(last, weights_only=True)
    next(iter(state["state_dict"].values()))[:] = torch.nan
    WholeCheckpoints(session).save_checkpoint(state, last)
    with pytest.raises(EcgkitError, match=r"last\.ckpt .*finite"):
        check_checkpoint(last)


def test_a_session_that_is_deleted_during_its_training_ends_it(few_records: Dataset, tmp_path: Path) -> None:
    session = new_session(tmp_path)
    hold_folder(session.path)
    try:
        with pytest.raises(EcgkitError, match="moved or deleted"):
            fit(session, make_config("cnn", epochs=3), few_records, on_epoch=lambda *_: shutil.rmtree(session.path))
    finally:
        release_folder(session.path)
    assert not session.path.exists()


def test_a_damaged_checkpoint_is_named_with_the_way_out(few_records: Dataset, tmp_path: Path) -> None:
    session = new_session(tmp_path)
    (session.path / "weights").mkdir()
    (session.path / "weights" / "last.ckpt").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(EcgkitError, match=r"last\.ckpt .*remove it"):
        fit(session, make_config("cnn"), few_records)


def test_a_fold_9_that_cannot_choose_is_refused_before_training(demo_dataset: Dataset, tmp_path: Path) -> None:
    labels = demo_dataset.labels.copy()
    labels.iloc[demo_dataset.folds(9)] = True
    with pytest.raises(EcgkitError, match="NORM, MI, STTC, CD, HYP in fold 9"):
        fit(new_session(tmp_path), make_config("cnn"), replace(demo_dataset, labels=labels))


def test_unknown_labels_are_left_out_of_training_and_validation(few_records: Dataset, tmp_path: Path) -> None:
    labels = few_records.labels.astype("boolean")
    labels.loc[np.arange(len(labels)) % 3 == 0, "MI"] = pd.NA
    dataset = replace(few_records, labels=labels)
    session, config = new_session(tmp_path), make_config("resnet1d", epochs=1, batch_size=32, loss="weighted_bce")
    predictions = predict_folds(fit(session, config, dataset), dataset)
    history = read_history(session)
    assert history[["train_loss", "validation_loss"]].notna().all(axis=None)
    nine = predictions[predictions["fold"] == 9]
    assert nine["true_MI"].isna().any()
    aucs = []
    for name in dataset.classes:
        known = nine[nine[f"true_{name}"].notna()]
        aucs.append(roc_auc_score(known[f"true_{name}"].to_numpy(bool), known[f"prob_{name}"]))
    assert history["validation_macro_auc"].iloc[0] == pytest.approx(np.mean(aucs), abs=1e-6)
    predictions.to_parquet(tmp_path / "predictions.parquet")
    assert pd.read_parquet(tmp_path / "predictions.parquet")["true_MI"].dtype == "boolean"


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "epoch\nfirst\n", "\x00" * 20])
def test_a_damaged_history_is_named(tmp_path: Path, text: str) -> None:
    session = new_session(tmp_path)
    (session.path / HISTORY).write_text(text)
    with pytest.raises(EcgkitError, match=r"history\.csv"):
        read_history(session)
