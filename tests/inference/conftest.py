"""A project's folder with finished training sessions, whose dataset is gone."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from ecgkit import evaluation, paths, sessions
from ecgkit.datasets import build_dataset, open_dataset
from ecgkit.sessions import Session
from ecgkit.signals.filters import Filters
from ecgkit.sources.demo import Demo
from ecgkit.stats.calibration import add_calibration
from ecgkit.stats.calibration_fit import fit_calibration
from ecgkit.stats.thresholds import fit_thresholds
from ecgkit.training import predict_folds
from ecgkit.training.config import configure
from ecgkit.training.model import new_model

SOURCE = Demo(n_records=120, seed=5)
WHOLE = {"crop_seconds": 0.0, "crops_per_record": 1}


@pytest.fixture(scope="session")
def source() -> Demo:
    return SOURCE


def write_decisions(session: Session, predictions: pd.DataFrame, classes: tuple[str, ...]) -> None:
    """Write what a prediction needs of a report."""
    calibration = fit_calibration(predictions, classes)
    calibrated = add_calibration(predictions, calibration, classes)
    session.write_table("predictions.parquet", calibrated)
    session.write_json("calibration.json", calibration)
    session.write_json("thresholds.json", fit_thresholds(calibrated, classes, calibration))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give sessions of untrained networks: two of the signal alone, one with age and sex; then an ensemble of two."""
    folder = tmp_path_factory.mktemp("inference")
    processed = folder / paths.PROCESSED / "demo"
    build_dataset(SOURCE, processed, filters=Filters(bandpass=(0.5, 40.0)), progress=False)
    dataset = open_dataset(processed, label_set="superclass")
    small = {"resnet1d": {"widths": [8, 8, 8, 8], "blocks": 1}, "xlstm": {}}
    for model, metadata in (("resnet1d", False), ("xlstm", False), ("resnet1d", True)):
        settings = {"dataset": "demo", "model": model, "source": "demo", "model_options": small[model], **WHOLE}
        config = replace(configure(**settings), metadata=metadata, precision="float32")
        session = sessions.create(paths.TRAINING, folder)
        trained = new_model(config, dataset).untrained(0)  # whose residual branches are not silent
        trained.save(session.best_weights)
        session.write_json("config.json", asdict(config) | {"dataset_fingerprint": dataset.fingerprint})
        session.write_json("environment.json", sessions.environment())
        write_decisions(session, predict_folds(trained, dataset), dataset.classes)
        session.mark_done()
    evaluation.write_ensemble(folder, ["session_1", "session_2"], "stacking")
    sessions.create(paths.TRAINING, folder)
    shutil.rmtree(processed)
    return folder


@pytest.fixture(scope="session")
def session(root: Path) -> Session:
    return Session(root / paths.TRAINING / "session_1")
