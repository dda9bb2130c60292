"""`ecgkit probe` of a pretrained encoder: age, sex, height, weight and classes, next to random weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecgkit import paths, sessions
from ecgkit.cli import main
from ecgkit.datasets import open_dataset
from ecgkit.feature_space.class_probes import METRICS, embed_both, measure_features
from ecgkit.feature_space.probes.linear import CS, patient_splits
from ecgkit.inference.weights import load_weights
from ecgkit.sessions import Session
from ecgkit.stats.folds import TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.training.pretraining.config import PretrainingConfig
from ecgkit.training.pretraining.fitting import new_encoder

SMALL = {"width": 16, "depth": 1, "n_heads": 2}


@pytest.fixture
def root(demo_root: Path, tmp_path: Path) -> Path:
    """Give a folder with the session of an encoder that was not trained."""
    (tmp_path / paths.PROCESSED).symlink_to(demo_root / paths.PROCESSED)
    config = PretrainingConfig.resolve(tmp_path, dataset="demo", seed=1, model_options=SMALL)
    dataset = open_dataset(demo_root / paths.PROCESSED / "demo")
    session = sessions.create(paths.PRETRAINING, tmp_path)
    new_encoder(config, dataset).save(session.best_weights)
    session.write_json("config.json", asdict(config) | config.inputs(tmp_path))
    session.write_json("environment.json", sessions.environment())
    session.mark_done()
    return tmp_path


def test_the_command_makes_a_probe_session(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["probe", f"{paths.PRETRAINING}/session_1", "--resamples", "20", "--root", str(root)]
    assert main(command) == 0
    session = Session(root / paths.PROBES / "session_1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(session.path)
    session.check_finished()
    told = session.read_json(METRICS)
    assert {"NORM", "macro"} < told.keys()
    table = pd.read_parquet(session.path / "probes.parquet").set_index(["target", "source", "metric"])
    for target in ("age", "sex", "height", "weight", "height_beyond_age_and_sex", "weight_beyond_age_and_sex"):
        assert {"probe", "untrained", "demographics"} <= set(table.loc[target].index.get_level_values("source"))
        assert any(line.startswith(target) for line in lines)
    predictions = pd.read_parquet(session.path / "age" / "predictions.parquet")
    records = pd.read_parquet(root / paths.PROCESSED / "demo" / "records.parquet").set_index("record_id")
    assert set(predictions["fold"]) == {10}
    ages = records.loc[predictions["record_id"], "age"].astype(float)
    expected = r2_score(ages, predictions["probe"])
    assert table.loc[("age", "probe", "r2"), "value"] == pytest.approx(expected, abs=1e-6)
    # The features stand next to age and sex, so that they cannot be much worse than these alone.
    beyond = table.loc[("height_beyond_age_and_sex", "demographics", "r2"), "difference"]
    alone = table.loc[("height", "demographics", "r2"), "difference"]
    assert np.isfinite(beyond)
    assert beyond > alone
    assert main(command) == 0  # the same again is not computed again
    assert len(list((root / paths.PROBES).iterdir())) == 1


def test_the_probe_of_a_class_is_that_of_scikit_learn(root: Path) -> None:
    trained = load_weights(Session(root / paths.PRETRAINING / "session_1").best_weights)
    data = open_dataset(root / paths.PROCESSED / "demo", label_set="superclass", folds=range(1, 10))
    results = measure_features(trained, data, seed=3, resamples=50)
    train, validation = data.folds(*TRAIN_FOLDS), data.folds(VALIDATION_FOLD)
    features = embed_both(trained, data, seed=3)["pretrained"].astype(float)
    outcome = data.labels["MI"].to_numpy(bool)
    splits = patient_splits(data.records["patient_id"].to_numpy()[train], seed=3)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(model, {"logisticregression__C": CS}, cv=splits, scoring="neg_log_loss")
    search.fit(features[train], outcome[train])
    expected = roc_auc_score(outcome[validation], search.decision_function(features[validation]))
    assert results["MI"]["pretrained"]["value"] == pytest.approx(expected, abs=0.01)
    for row in results.values():
        if row["pretrained"]["low"] is not None:  # a class that many resamples lack has no interval
            assert row["pretrained"]["low"] <= row["pretrained"]["value"] <= row["pretrained"]["high"]
        difference = row["pretrained"]["value"] - row["random"]["value"]
        assert row["difference"]["difference"] == pytest.approx(difference)
    classes = [results[name]["pretrained"]["value"] for name in data.classes]
    macro = results["macro"]["pretrained"]
    assert macro["value"] == pytest.approx(np.mean(classes))
    assert macro["low"] <= macro["value"] <= macro["high"]


def test_another_label_set_is_probed_by_the_same_features(root: Path) -> None:
    command = ["probe", f"{paths.PRETRAINING}/session_1", "--resamples", "20", "--root", str(root)]
    assert main([*command, "--label-set", "subclass"]) == 0
    session = Session(root / paths.PROBES / "session_1")
    classes = open_dataset(root / paths.PROCESSED / "demo", label_set="subclass").classes
    assert session.read_json(METRICS).keys() == {*classes, "macro"}
    assert main(command) == 0  # the label set of the pretraining is another session
    assert len(list((root / paths.PROBES).iterdir())) == 2


def test_what_only_a_training_has_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", f"{paths.PRETRAINING}/session_1", "--label-set", "none", "--root", str(root)]) == 2
    assert "none" in capsys.readouterr().err
    assert main(["probe", "1", "--label-set", "subclass", "--root", str(root)]) == 2
    assert "--label-set" in capsys.readouterr().err
    assert main(["probe", f"{paths.PRETRAINING}/session_1", "--clusters", "3", "--root", str(root)]) == 2
    assert "clusters" in capsys.readouterr().err
    assert main(["probe", f"{paths.PRETRAINING}/session_9", "--root", str(root)]) == 2
    assert "session_9" in capsys.readouterr().err
