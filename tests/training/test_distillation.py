"""Soft labels: each record by models that have not seen its patient, and mixed with its labels in training."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgkit import paths, sessions, training
from ecgkit.cli import main
from ecgkit.errors import EcgkitError
from ecgkit.sessions import Session
from ecgkit.stats import macro_auc
from ecgkit.stats.folds import TRAIN_FOLDS
from ecgkit.training.config import TrainingConfig
from ecgkit.training.config import configure as resolve_config
from ecgkit.training.distillation import soft_labels, soften

FIRST, SECOND = [1, 2, 3, 4], [5, 6, 7, 8]
TINY: dict[str, Any] = {"model_options": {"widths": [8, 8], "kernel_sizes": [5, 3], "pool": 4, "n_dense": 8}}


def configure(root: Path, **settings: Any) -> TrainingConfig:
    return TrainingConfig.resolve(root, dataset="demo", model="cnn", epochs=1, test=False, **TINY, **settings)


def train(root: Path, **settings: Any) -> Session:
    config = configure(root, **settings)
    session = sessions.create(paths.TRAINING, root)
    session.write_json("config.json", asdict(config) | config.inputs(root))
    training.fit(session, config, training.training_data(config, root))
    session.mark_done()
    return session


@pytest.fixture(scope="module")
def root(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with two members: session_1 has not seen folds 1-4, session_2 has not seen folds 5-8."""
    folder = tmp_path_factory.mktemp("distillation")
    (folder / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    for held_out in (FIRST, SECOND):
        train(folder, hold_out_folds=held_out)
    return folder


def member(root: Path, number: int) -> Session:
    return sessions.find(f"session_{number}", root, paths.TRAINING)


def test_held_out_folds_are_not_trained_on(root: Path) -> None:
    data = training.training_data(configure(root, hold_out_folds=FIRST), root)
    assert sorted(data.records["fold"].unique()) == [5, 6, 7, 8, 9]


def test_each_record_is_predicted_by_the_member_that_held_it_out(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "soft.parquet"
    assert main(["soft-labels", "1", "2", "--to", str(file), "--root", str(root)]) == 0
    table = pd.read_parquet(file)

    data = training.training_data(configure(root), root)
    positions = data.folds(*TRAIN_FOLDS)
    ids = data.records["record_id"].iloc[positions]
    assert set(ids) < set(table["record_id"])  # and those without a label
    assert table["record_id"].is_unique
    for number, folds in ((1, FIRST), (2, SECOND)):
        trained = training.load_weights(member(root, number).best_weights)
        expected = training.predict(trained, data, data.folds(*folds))
        own = table.set_index("record_id").loc[data.records["record_id"].iloc[data.folds(*folds)]]
        np.testing.assert_allclose(own[list(data.classes)], expected, atol=1e-4)
        assert table.attrs["members"][number - 1]["predicts"] == folds
    prob = table.set_index("record_id").loc[ids, list(data.classes)].to_numpy()
    # Records without a label count as negative in the stored number, so that the two are only close.
    assert table.attrs["macro_auc"] == pytest.approx(macro_auc(data.labels.iloc[positions], prob), abs=0.02)


def test_a_member_that_has_seen_the_records_is_refused(root: Path) -> None:
    with pytest.raises(EcgkitError, match="fold 5 6 7 8"):
        soft_labels([member(root, 1)], root)
    seen = train(root)
    with pytest.raises(EcgkitError, match=seen.name):
        soft_labels([member(root, 1), seen], root)


def test_a_member_that_has_seen_a_patient_in_another_fold_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = training.training_data

    def one_patient(*arguments: Any, **keywords: Any) -> Any:
        data = original(*arguments, **keywords)
        return replace(data, records=data.records.assign(patient_id="the same"))

    monkeypatch.setattr("ecgkit.training.distillation.training_data", one_patient)
    monkeypatch.setattr("ecgkit.training.inference.training_data", one_patient)
    with pytest.raises(EcgkitError, match="the same"):
        soft_labels([member(root, 1), member(root, 2)], root)


def test_soft_labels_are_mixed_into_the_training_folds_only(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "soft.parquet"
    data = training.training_data(configure(root), root)
    table = data.records[["record_id"]].assign(**dict.fromkeys(data.classes, 0.2))
    table.to_parquet(file)
    config = configure(root, distill=str(file), distill_weight=0.25)
    labels = training.Batches(data).labels
    mixed = soften(labels, data, config)
    folds = data.folds(*TRAIN_FOLDS)
    np.testing.assert_allclose(mixed[folds], 0.75 * labels[folds] + 0.05, rtol=1e-6)
    np.testing.assert_array_equal(mixed[data.folds(9)], labels[data.folds(9)])

    for shift, is_refused in ((0, False), (1, True)):  # the folds of this dataset, and those of another
        table.assign(fold=data.records["fold"] % 10 + shift).to_parquet(file)
        with pytest.raises(EcgkitError, match="other folds") if is_refused else nullcontext():
            soften(labels, data, config)
    table.to_parquet(file)

    student = train(root, distill=str(file))
    assert len(student.config["distill_sha256"]) == 64
    with pytest.raises(EcgkitError, match="distill"):
        soft_labels([train(root, distill=str(file), hold_out_folds=FIRST)], root)
    table.iloc[5:].to_parquet(file)
    with pytest.raises(EcgkitError, match=r"soft\.parquet"):
        soften(labels, data, config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold_out_folds": [9]},
        {"hold_out_folds": [1, 1]},
        {"hold_out_folds": list(range(1, 9))},
        {"distill_weight": 1.5},
    ],
)
def test_what_cannot_be_held_out_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EcgkitError, match=next(iter(wrong))):
        TrainingConfig(dataset="demo", model="cnn", **wrong)


def test_a_recipe_has_soft_labels_for_one_label_set_and_for_whole_trainings(tmp_path: Path) -> None:
    file = tmp_path / "soft.parquet"
    file.touch()
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'epochs = 3\n[source.ptbxl.label_set.superclass]\ndistill = "{file}"\n')

    def distill(source: str = "ptbxl", **settings: Any) -> str:
        config = resolve_config(dataset="some", model="cnn", source=source, recipe=recipe, **settings)
        assert config.epochs == 3
        return config.distill

    assert distill() == str(file)
    for part in ({"label_set": "all"}, {"target": "sex"}, {"hold_out_folds": FIRST}, {"train_fraction": 0.1}):
        assert distill(**part) == ""
    assert distill("demo") == ""
    assert distill(distill="", label_set="superclass") == ""
    assert distill(train_fraction=0.1, distill=str(file)) == str(file)
    recipe.write_text("[source.ptbxl.label_set]\nsuperclass = 3\n")
    with pytest.raises(EcgkitError, match=r"mine\.toml.*superclass"):
        distill()


def test_a_file_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(EcgkitError, match=r"nowhere\.parquet"):
        configure(root, distill="nowhere.parquet")
