"""Fold 10 is evaluated once, with the calibration and the thresholds of fold 9."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from made_predictions import make_predictions

from ecgkit.errors import EcgkitError
from ecgkit.evaluation import evaluate_session, evaluate_test_fold
from ecgkit.sessions import Session

CLASSES = ("NORM", "MI", "STTC")


@pytest.fixture
def predictions(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Predictions of both folds; those of fold 10 are what a stored model predicts."""
    table = make_predictions()

    def predict_folds(*_models: object, folds: tuple[int, ...]) -> pd.DataFrame:
        return table[table["fold"].isin(folds)].reset_index(drop=True)

    def open_trained(*_session: object, **_options: Any) -> SimpleNamespace:
        return SimpleNamespace(trained=SimpleNamespace(classes=CLASSES), dataset=None)

    monkeypatch.setattr("ecgkit.evaluation.fold_10.predict_folds", predict_folds)
    monkeypatch.setattr("ecgkit.evaluation.fold_10.open_trained", open_trained)
    monkeypatch.setattr("ecgkit.evaluation.fold_10.predict_unlabelled", lambda *_, **__: table.iloc[:0])
    return table


def evaluated(path: Path, table: pd.DataFrame) -> Session:
    path.mkdir()
    session = Session(path)
    evaluate_session(session, table, CLASSES)
    session.mark_done()
    return session


def test_fold_10_later_is_what_it_would_have_been_at_once(predictions: pd.DataFrame, tmp_path: Path) -> None:
    whole = evaluated(tmp_path / "session_1", predictions)
    closed = evaluated(tmp_path / "session_2", predictions[predictions["fold"] == 9])
    assert "fold_10" not in closed.read_json("metrics.json")

    results = evaluate_test_fold(closed, tmp_path)

    assert results == closed.read_json("metrics.json") == whole.read_json("metrics.json")
    for name in ("calibration.json", "thresholds.json", "classification_report.txt", "predictions.parquet"):
        assert (closed.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert "fold 10 evaluated on 20" in (closed.path / "training_log.txt").read_text()
    assert "macro AUC on fold 10" in (closed.path / "report.html").read_text()


def test_fold_10_is_evaluated_once_and_of_a_finished_session(predictions: pd.DataFrame, tmp_path: Path) -> None:
    session = evaluated(tmp_path / "session_1", predictions)
    with pytest.raises(EcgkitError, match="has been evaluated on fold 10"):
        evaluate_test_fold(session, tmp_path)
    (session.path / "DONE").unlink()
    with pytest.raises(EcgkitError, match="is not finished"):
        evaluate_test_fold(session, tmp_path)
