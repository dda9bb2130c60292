"""Trainings for age, sex, height and weight, and trainings that leave fold 10 closed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score

from ecgkit import paths, sessions, training
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.training.config import TrainingConfig, configure
from ecgkit.training.data import training_data
from ecgkit.training.fitting import fit, read_history
from ecgkit.training.targets import QUANTITIES, with_target

TINY = {"widths": [8, 8], "kernel_sizes": [5, 3], "pool": 4, "n_dense": 8}


def make_config(**settings: object) -> TrainingConfig:
    tiny = {"epochs": 2, "batch_size": 64, "learning_rate": 1e-3, "crop_seconds": 0.0, "crops_per_record": 1}
    return configure(dataset="demo", model="cnn", model_options=TINY, **(tiny | settings))


def test_a_training_for_age_predicts_years(demo_root: Path, tmp_path: Path) -> None:
    config = make_config(target="age", learning_rate=1e-2, epochs=3)
    data, session = training_data(config, demo_root), sessions.create(paths.TRAINING, tmp_path)
    assert data.classes == ("age",)
    trained = fit(session, config, data)
    table = training.predict_folds(trained, data)
    fold_9 = table[table["fold"] == 9]
    assert set(table["fold"]) == {9, 10}
    best = read_history(session)["validation_r2"].max()
    assert r2_score(fold_9["true_age"], fold_9["predicted_age"]) == pytest.approx(best, abs=1e-4)
    known = data.records.iloc[data.folds(*range(1, 9))]["age"].astype(float)
    assert (trained.target.name, trained.target.unit) == ("age", "years")
    assert trained.target.mean == pytest.approx(known.mean())
    # Standardised outputs of an untrained network are close to the mean age.
    assert abs(table["predicted_age"].mean() - known.mean()) < known.std()


def test_a_training_for_sex_is_a_training_for_one_class(demo_root: Path, tmp_path: Path) -> None:
    config = make_config(target="sex")
    data = training_data(config, demo_root)
    table = training.predict_folds(fit(sessions.create(paths.TRAINING, tmp_path), config, data), data)
    sex = data.records.set_index("record_id")["sex"].loc[table["record_id"]]
    np.testing.assert_array_equal(table["true_female"], (sex == "female").to_numpy())
    assert table["prob_female"].between(0, 1).all()


@pytest.mark.parametrize("target", ["age", "sex", "height", "weight"])
def test_unknown_values_are_left_out(target: str, demo_root: Path) -> None:
    everything = training_data(make_config(target="age"), demo_root)
    records = everything.records.copy()
    half = np.arange(len(records)) % 2 == 0
    records.loc[~half, target] = None
    if target in QUANTITIES:
        records[target] = pd.to_numeric(records[target]).where(half, 1000.0)
        records.loc[half, target] = 50.0 + np.arange(half.sum()) % 30
    else:
        records.loc[half, target] = "female"
    found = with_target(type(everything)(**(vars(everything) | {"records": records})), target)
    assert found.records["record_id"].tolist() == records["record_id"][half].tolist()
    assert found.n_unlabelled == (~half).sum()
    np.testing.assert_array_equal(found.rows, everything.rows[half])


def test_too_few_known_values_are_refused(demo_root: Path) -> None:
    everything = training_data(make_config(target="age"), demo_root)
    records = everything.records.assign(height=np.nan)
    with pytest.raises(EcgkitError, match="height is known for 0 records of folds 1-8"):
        with_target(type(everything)(**(vars(everything) | {"records": records})), "height")


def test_fold_10_stays_closed_without_a_test(demo_root: Path, demo_dataset: Dataset, tmp_path: Path) -> None:
    closed, opened = make_config(test=False, epochs=1), make_config(epochs=1)
    data = training_data(closed, demo_root)
    assert not len(data.folds(10))
    results = [
        fit(sessions.create(paths.TRAINING, tmp_path), config, training_data(config, demo_root))
        for config in (closed, opened)
    ]
    for name, tensor in results[0].model.state_dict().items():
        assert torch.equal(tensor, results[1].model.state_dict()[name])
    assert set(training.predict_folds(results[0], data)["fold"]) == {9}


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] can't allocate memory")],
)
def test_out_of_memory_names_the_batch_size(
    error: Exception, demo_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("ecgkit.training.module.Module.training_step", fail)
    with pytest.raises(EcgkitError, match="out of memory on cpu with batch_size 64"):
        fit(sessions.create(paths.TRAINING, tmp_path), make_config(device="cpu"), demo_dataset)
