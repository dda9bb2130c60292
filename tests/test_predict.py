"""A session predicts ECGs from anywhere as it predicted those of its dataset."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit import evaluation, paths, sessions
from ecgkit.ecg import ECG
from ecgkit.errors import EcgkitError
from ecgkit.filters import Filters, resample
from ecgkit.predict import open_predictor
from ecgkit.sessions import Session
from ecgkit.sources import Demo
from ecgkit.store import build, open_dataset
from ecgkit.training import predict_folds
from ecgkit.training.config import configure
from ecgkit.training.weights import new_model

SOURCE = Demo(n_records=120, seed=5)


@pytest.fixture(scope="module", params=["plain", "band-pass"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with sessions of untrained networks: two of the signal alone, and one with age and sex."""
    folder = tmp_path_factory.mktemp("predict")
    filters = Filters(bandpass=(0.5, 40.0)) if request.param == "band-pass" else Filters()
    build(SOURCE, folder / paths.PROCESSED / "demo", filters=filters, progress=False)
    dataset = open_dataset(folder / paths.PROCESSED / "demo", label_set="superclass")
    for model, metadata in (("resnet1d", False), ("xlstm", False), ("resnet1d", True)):
        torch.manual_seed(0)
        config = replace(configure(dataset="demo", model=model, source="demo"), metadata=metadata)
        session = sessions.create(paths.TRAINING, folder)
        trained = new_model(config, dataset)
        trained.save(session.path / "weights" / "best.safetensors")
        session.write_json("config.json", asdict(config) | {"dataset_fingerprint": dataset.fingerprint})
        evaluation.evaluate_session(session, predict_folds(trained, dataset), dataset.classes)
        session.mark_done()
    return folder


def expected(session: Session) -> pd.DataFrame:
    table = pd.read_parquet(session.path / "predictions.parquet")
    return table[table["fold"] == 10].head(8).reset_index(drop=True)


def ecgs(table: pd.DataFrame) -> list[ECG]:
    return [SOURCE.read(int(record_id)) for record_id in table["record_id"]]


@pytest.mark.parametrize("name", ["session_1", "session_2"])
def test_raw_ecgs_get_what_the_session_predicted(name: str, root: Path) -> None:
    predictor = open_predictor(name, root)
    table = expected(predictor.session)
    found = predictor(ecgs(table))
    thresholds = predictor.session.read_json("thresholds.json")["thresholds"]
    assert found["record_id"].tolist() == table["record_id"].tolist()
    for label in predictor.classes:
        for kind in ("prob", "calibrated"):
            np.testing.assert_allclose(found[f"{kind}_{label}"], table[f"{kind}_{label}"], rtol=0, atol=1e-4)
        np.testing.assert_array_equal(found[f"predicted_{label}"], found[f"prob_{label}"] >= thresholds[label])


def test_age_and_sex_are_asked_for_by_a_model_that_takes_them(root: Path) -> None:
    predictor = open_predictor("session_3", root)
    table = expected(predictor.session)
    with pytest.raises(EcgkitError, match="takes age and sex"):
        predictor(ecgs(table))
    records = SOURCE.records.set_index("record_id").loc[table["record_id"]].reset_index()
    found = predictor(ecgs(table), records)
    np.testing.assert_allclose(found["prob_NORM"], table["prob_NORM"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["mean_logit", "stacking"])
def test_an_ensemble_predicts_as_its_own_table_says(method: str, root: Path) -> None:
    ensemble = evaluation.write_ensemble(root, ["session_1", "session_2"], method)
    table = expected(ensemble)
    found = open_predictor(ensemble, root)(ecgs(table))
    for label in ("NORM", "MI"):
        np.testing.assert_allclose(found[f"prob_{label}"], table[f"prob_{label}"], rtol=0, atol=1e-3)


def test_another_sampling_rate_is_converted(root: Path) -> None:
    predictor = open_predictor(1, root)
    ecg = SOURCE.read(3)
    fast = resample(ecg.signal, sampling_rate=100, target_rate=500).astype(np.float32)
    slow, converted = predictor([ecg]), predictor([ECG(fast, 500, 3)])
    np.testing.assert_allclose(converted["prob_NORM"], slow["prob_NORM"], atol=0.02)


def test_gaps_are_filled_as_in_a_dataset(root: Path) -> None:
    ecg = SOURCE.read(3)
    holed = ecg.signal.copy()
    holed[4, 100:120] = np.nan
    assert open_predictor(1, root)([ECG(holed, 100)])["prob_NORM"].notna().all()


def test_what_cannot_be_predicted_is_refused(root: Path) -> None:
    predictor = open_predictor(1, root)
    with pytest.raises(EcgkitError, match="at least one"):
        predictor([])
    with pytest.raises(EcgkitError, match="is 5 s long and the model of session_1 takes 10 s"):
        predictor([ECG(np.zeros((12, 500), np.float32), 100, "x")])
    with pytest.raises(EcgkitError, match="no session 'session_99'"):
        open_predictor("session_99", root)
