"""A session predicts ECGs from anywhere as it predicted those of its dataset."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit import evaluation, paths, sessions
from ecgkit.datasets.store import build, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.inference.predictor import open_predictor
from ecgkit.sessions import Session
from ecgkit.signals.ecg import ECG
from ecgkit.signals.filters import Filters, resample
from ecgkit.sources import Demo
from ecgkit.training import predict_folds
from ecgkit.training.config import configure
from ecgkit.training.model import new_model

WHOLE = {"crop_seconds": 0.0, "crops_per_record": 1}
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
        config = replace(configure(dataset="demo", model=model, source="demo", **WHOLE), metadata=metadata)
        session = sessions.create(paths.TRAINING, folder)
        trained = new_model(config, dataset).untrained(0)  # whose residual branches are not silent
        trained.save(session.path / "weights" / "best.safetensors")
        session.write_json("config.json", asdict(config) | {"dataset_fingerprint": dataset.fingerprint})
        evaluation.evaluate_session(session, predict_folds(trained, dataset), dataset.classes)
        session.mark_done()
    return folder


def expected(session: Session) -> pd.DataFrame:
    table = pd.read_parquet(session.path / "predictions.parquet")
    return table[table["fold"] == 10].head(8).reset_index(drop=True)


def ecgs(table: pd.DataFrame) -> list[ECG]:
    return [SOURCE.read(record_id) for record_id in table["record_id"]]


@pytest.mark.parametrize("name", ["session_1", "session_2"])
def test_raw_ecgs_get_what_the_session_predicted(name: str, root: Path) -> None:
    predictor = open_predictor(name, root)
    table = expected(predictor.session)
    found = predictor(ecgs(table))
    thresholds = predictor.session.read_json("thresholds.json")["thresholds"]
    assert found["record_id"].tolist() == table["record_id"].astype(str).tolist()
    for label in predictor.classes:
        for kind in ("prob", "calibrated"):
            np.testing.assert_allclose(found[f"{kind}_{label}"], table[f"{kind}_{label}"], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found[f"predicted_{label}"], found[f"prob_{label}"] >= thresholds[label])


def test_age_and_sex_are_asked_for_by_a_model_that_takes_them(root: Path) -> None:
    predictor = open_predictor("session_3", root)
    table = expected(predictor.session)
    with pytest.raises(EcgkitError, match="takes age and sex"):
        predictor(ecgs(table))
    records = SOURCE.records.set_index("record_id").loc[table["record_id"]].reset_index()
    found = predictor(ecgs(table), records)
    np.testing.assert_allclose(found["prob_NORM"], table["prob_NORM"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["mean_logit", "stacking"])
def test_an_ensemble_predicts_as_its_own_table_says(method: str, root: Path) -> None:
    ensemble = evaluation.write_ensemble(root, ["session_1", "session_2"], method)
    table = expected(ensemble)
    predictor = open_predictor(ensemble, root)
    found = predictor(ecgs(table))
    for label in ("NORM", "MI"):
        np.testing.assert_allclose(found[f"prob_{label}"], table[f"prob_{label}"], rtol=0, atol=1e-5)
    prob = predictor.predict_proba(np.stack([ecg.signal for ecg in ecgs(table)]), sampling_rate=100)
    np.testing.assert_allclose(prob[:, 0], table["calibrated_NORM"], rtol=0, atol=1e-5)
    assert (predictor.sampling_rate, predictor.n_samples, predictor.takes_metadata) == (100, 1000, False)
    assert predictor.label_set == "superclass"


def test_another_sampling_rate_is_converted(root: Path) -> None:
    predictor = open_predictor(1, root)
    ecg = SOURCE.read("3")
    fast = resample(ecg.signal, sampling_rate=100, target_rate=500).astype(np.float32)
    slow, converted = predictor([ecg]), predictor([ECG(fast, 500, 3)])
    np.testing.assert_allclose(converted["prob_NORM"], slow["prob_NORM"], atol=0.02)


def test_a_record_at_500_hz_is_that_at_100_hz(root: Path) -> None:
    predictor = open_predictor(1, root)
    fine = Demo(n_records=120, sampling_rate=500, seed=5)
    ids = SOURCE.records["record_id"].head(8)
    slow, fast = (np.stack([source.read(i).signal for i in ids]) for source in (SOURCE, fine))
    assert fast.shape == (8, 12, 5000)
    at_100, at_500 = predictor.predict_proba(slow, sampling_rate=100), predictor.predict_proba(fast, sampling_rate=500)
    # Taken for 100 Hz, the same samples are another ECG.
    mistaken = predictor.predict_proba(fast, sampling_rate=100)
    assert np.abs(at_500 - at_100).max() < 0.1 * np.abs(mistaken - at_100).max()


def test_arrays_get_what_ecgs_get(root: Path) -> None:
    predictor = open_predictor(1, root)
    some = ecgs(expected(predictor.session))
    signals, table = np.stack([ecg.signal for ecg in some]), predictor(some)
    prob = predictor.predict_proba(signals, sampling_rate=100)
    decided = predictor.predict(signals, sampling_rate=100)
    assert (prob.shape, prob.dtype, decided.dtype) == ((8, 5), np.float32, np.bool_)
    assert (predictor.label_set, predictor.sampling_rate, predictor.n_samples) == ("superclass", 100, 1000)
    for i, label in enumerate(predictor.classes):
        np.testing.assert_array_equal(prob[:, i], table[f"calibrated_{label}"])
        np.testing.assert_array_equal(decided[:, i], table[f"predicted_{label}"])
        np.testing.assert_array_equal(
            decided[:, i], table[f"prob_{label}"].astype(float) >= predictor.thresholds[label]
        )
    np.testing.assert_array_equal(predictor.predict_proba(signals.astype(np.float64), sampling_rate=100), prob)


def test_age_and_sex_as_arrays(root: Path) -> None:
    predictor = open_predictor("session_3", root)
    table = expected(predictor.session)
    signals = np.stack([ecg.signal for ecg in ecgs(table)])
    who = SOURCE.records.set_index("record_id").loc[table["record_id"]]
    prob = predictor.predict_proba(signals, sampling_rate=100, age=who["age"].tolist(), sex=who["sex"].tolist())
    np.testing.assert_allclose(prob[:, 0], table["calibrated_NORM"], rtol=0, atol=1e-5)
    columns = predictor.predict_proba(signals, sampling_rate=100, age=who["age"], sex=who["sex"])
    np.testing.assert_array_equal(columns, prob)
    one = predictor.predict_proba(signals[:2], sampling_rate=100, age=50, sex="female")
    each = predictor.predict_proba(signals[:2], sampling_rate=100, age=[50, 50.0], sex=["female", "female"])
    np.testing.assert_array_equal(one, each)
    unknown = predictor.predict_proba(signals[:2], sampling_rate=100, age=np.nan, sex=[None, None])
    assert np.isfinite(unknown).all()
    assert (unknown != one).any()


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ({}, "takes age and sex: give age="),
        ({"age": [50, 60]}, "takes age and sex: give age="),
        ({"age": [50], "sex": ["male", "male"]}, r"age has the shape \(1,\) for 2 records"),
        ({"age": [50, 60], "sex": ["male"]}, r"sex has the shape \(1,\) for 2 records"),
        ({"age": [50, 300], "sex": "male"}, "age is 300: give years up to 130"),
        ({"age": [-1, 30], "sex": "male"}, "age is -1"),
        ({"age": "old", "sex": "male"}, "age is 'old'"),
        ({"age": [50, 60], "sex": [0, 1]}, 'sex is 0: give "male"'),
        ({"age": [50, 60], "sex": "M"}, "sex is 'M'"),
    ],
)
def test_age_and_sex_that_do_not_fit_are_refused(who: dict[str, object], message: str, root: Path) -> None:
    with pytest.raises(EcgkitError, match=message):
        open_predictor("session_3", root).predict_proba(np.zeros((2, 12, 1000)), sampling_rate=100, **who)


def test_a_model_of_the_signal_alone_takes_no_age_and_no_sex(root: Path) -> None:
    with pytest.raises(EcgkitError, match="the model of session_1 takes the signal alone: leave age and sex out"):
        open_predictor(1, root).predict_proba(np.zeros((1, 12, 1000)), sampling_rate=100, age=[3], sex=["male"])


def test_longer_records_are_read_in_windows_among_others(root: Path) -> None:
    predictor = open_predictor(1, root)
    long = ECG(np.concatenate([SOURCE.read(i).signal for i in ("1", "2", "3")], axis=1), 100, "long")
    mixed = [SOURCE.read("1"), long, SOURCE.read("2"), SOURCE.read("3"), long]
    together = predictor.probabilities(mixed)
    alone = np.concatenate([predictor.probabilities([ecg]) for ecg in mixed])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(together[1], together[4])
    assert (together[1] != together[0]).any()


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (np.zeros((12, 1000)), r"shape \(12, 1000\), not \(records, 12, samples\): give one record as signal\[None\]"),
        (np.zeros((1, 1000, 12)), r"shape \(1, 1000, 12\), not \(records, 12, samples\): bring the axes"),
        (np.zeros((0, 12, 1000)), "give at least one record"),
        (np.zeros((1, 12, 1000), np.int16), "signals are of type int16: give floating-point numbers in mV"),
        ([[[0.0, 1.0]] * 11 + [[0.0]]], "signals are of different lengths"),
        (np.zeros((1, 12, 500)), "ECG 0 is 5 s long and the model of session_1 reads 10 s at once: give a longer one"),
        (np.full((1, 12, 1000), np.nan), "ECG 0 has no value"),
        (1000 * SOURCE.read("1").signal[None], "signals look like microvolts, divide by 1000"),
    ],
)
def test_what_is_no_array_of_signals_is_refused(signals: np.ndarray, message: str, root: Path) -> None:
    with pytest.raises(EcgkitError, match=message):
        open_predictor(1, root).predict_proba(signals, sampling_rate=100)


def test_a_rate_that_is_no_rate_is_refused(root: Path) -> None:
    with pytest.raises(EcgkitError, match="sampling_rate is 0"):
        open_predictor(1, root).predict_proba(np.zeros((1, 12, 1000)), sampling_rate=0)


def test_gaps_are_filled_as_in_a_dataset(root: Path) -> None:
    ecg = SOURCE.read("3")
    holed = ecg.signal.copy()
    holed[4, 100:120] = np.nan
    filled = holed.copy()
    filled[4, 99:121] = np.linspace(holed[4, 99], holed[4, 120], 22)
    predictor = open_predictor(1, root)
    found, same = (predictor([ECG(signal, 100)])["prob_NORM"] for signal in (holed, filled))
    np.testing.assert_allclose(found, same, rtol=0, atol=1e-5)


def test_what_cannot_be_predicted_is_refused(root: Path) -> None:
    predictor = open_predictor(1, root)
    with pytest.raises(EcgkitError, match="at least one"):
        predictor([])
    with pytest.raises(EcgkitError, match="is 5 s long and the model of session_1 reads 10 s"):
        predictor([ECG(np.zeros((12, 500), np.float32), 100, "x")])
    with pytest.raises(EcgkitError, match="no session 'session_99'"):
        open_predictor("session_99", root)
