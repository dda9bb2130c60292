"""A session predicts ECGs from anywhere as it predicted those of its dataset, which need not exist any more."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import ecgkit
from ecgkit import ECG, EcgkitError, paths
from ecgkit.inference.model_folder import shipped
from ecgkit.inference.predictor import Predictor
from ecgkit.inference.weights import load_weights
from ecgkit.sessions import Session
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import resample
from ecgkit.sources.demo import Demo


@pytest.fixture(scope="module")
def model(root: Path) -> Predictor:
    return ecgkit.load_model("session_1", root=root)


def predictions(root: Path, number: int, n_records: int = 8) -> pd.DataFrame:
    table = pd.read_parquet(root / paths.TRAINING / f"session_{number}" / "predictions.parquet")
    return table[table["fold"] == 10].head(n_records).reset_index(drop=True)


def read_ecgs(table: pd.DataFrame, source: Demo) -> list[ECG]:
    """Read the records of a table, with the age and sex of their patients."""
    who = source.records.set_index("record_id").loc[table["record_id"]]
    return [
        ECG(source.read(record_id).signal, 100, record_id, None if pd.isna(age) else float(age), sex)
        for record_id, age, sex in zip(table["record_id"], who["age"], who["sex"].astype(object), strict=True)
    ]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_raw_ecgs_get_what_the_session_predicted_with_its_dataset_gone(number: int, root: Path, source: Demo) -> None:
    assert not (root / paths.PROCESSED / "demo").exists()
    model, table = ecgkit.load_model(number, root=root), predictions(root, number)
    found = model(read_ecgs(table, source))
    assert found["record_id"].tolist() == table["record_id"].tolist()
    for name in model.classes:
        for kind in ("prob", "calibrated"):
            np.testing.assert_allclose(found[f"{kind}_{name}"], table[f"{kind}_{name}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_class_is_predicted_where_its_probability_reaches_its_threshold(
    number: int, root: Path, source: Demo
) -> None:
    model, table = ecgkit.load_model(number, root=root), predictions(root, number, 40)
    ecgs = read_ecgs(table, source)
    prob = model.predict_proba(ecgs)
    assert (model.thresholds.dtype, model.thresholds.shape) == (np.float32, (len(model.classes),))
    np.testing.assert_array_equal(model.predict(ecgs), prob >= model.thresholds)
    np.testing.assert_array_equal(
        model(ecgs)[[f"predicted_{name}" for name in model.classes]], prob >= model.thresholds
    )
    model.thresholds = prob[0].copy()  # equality counts
    assert model.predict(ecgs)[0].all()


def test_weights_of_a_file_of_one_s_own_are_those_that_are_named(root: Path, tmp_path: Path, source: Demo) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from ecgkit.models.resnet1d import ResNet1d\n\n\nclass Mine(ResNet1d):\n    pass\n")
    folder = tmp_path / "model"
    shutil.copytree(root / paths.TRAINING / "session_1", folder)
    best, other = (folder / "weights" / f"{name}.safetensors" for name in ("best", "epoch_001"))
    trained = load_weights(best).untrained(7)
    trained.save(other)
    ecgs = read_ecgs(predictions(root, 1), source)
    expected = ecgkit.load_model(folder).predict_proba(ecgs)
    np.testing.assert_array_equal(ecgkit.load_model(f"{file}:Mine {best}").predict_proba(ecgs), expected)
    model = ecgkit.load_model(f"{file}:Mine {other}")
    alone = ecgkit.load_model(f"{file}:Mine {shutil.copy(other, tmp_path / 'alone.safetensors')}")
    np.testing.assert_array_equal(model.predict_proba(ecgs), alone.predict_proba(ecgs))
    assert (model.predict_proba(ecgs) != expected).any()
    assert (model.thresholds == 0.5).all()
    other.unlink()
    with pytest.raises(EcgkitError, match="epoch_001"):
        ecgkit.load_model(f"{file}:Mine {other}")


def test_arrays_get_what_ecgs_get(model: Predictor, root: Path, source: Demo) -> None:
    ecgs = read_ecgs(predictions(root, 1), source)
    signals = np.stack([ecg.signal for ecg in ecgs])
    prob = model.predict_proba(signals, sampling_rate=100)
    assert (prob.shape, prob.dtype) == ((8, 5), np.float32)
    np.testing.assert_array_equal(model.predict_proba(ecgs), prob)
    np.testing.assert_array_equal(model.predict_proba(signals.astype(np.float64), sampling_rate=100), prob)
    np.testing.assert_allclose(model.predict_proba(ecgs[0]), prob[:1], rtol=0, atol=1e-6)


def test_embeddings_are_the_features_before_the_head(model: Predictor, root: Path, source: Demo) -> None:
    ecgs = read_ecgs(predictions(root, 1), source)
    features = model.embed(ecgs)
    assert (features.dtype, features.shape) == (np.float32, (8, model.trained.model.n_features))
    head = model.trained.model.head
    logits = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    prob = model([*ecgs])[[f"prob_{name}" for name in model.classes]].to_numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), prob, rtol=0, atol=1e-5)
    aged = ecgkit.load_model(3, root=root)
    signals = np.stack([ecg.signal for ecg in ecgs])
    np.testing.assert_array_equal(aged.embed(signals, sampling_rate=100), aged.embed(ecgs))
    with pytest.raises(EcgkitError, match=r"session_4 .*session_1, session_2"):
        ecgkit.load_model(4, root=root).embed(ecgs)


@pytest.mark.parametrize("change", [{"members": []}, {"members": ["session_4"]}, {"classes": [*"ABCDE"]}])
def test_an_ensemble_whose_members_do_not_fit_is_refused(
    change: dict[str, list[str]], root: Path, tmp_path: Path
) -> None:
    for name in ("session_1", "session_2", "session_4"):
        shutil.copytree(root / paths.TRAINING / name, tmp_path / paths.TRAINING / name)
    file = tmp_path / paths.TRAINING / "session_4" / "ensemble.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(EcgkitError, match="session_4"):
        ecgkit.load_model(4, root=tmp_path)


@pytest.mark.parametrize("checksums", ["weights", "predictions", "none"])
def test_another_model_of_the_same_name_is_no_member(checksums: str, root: Path, tmp_path: Path) -> None:
    member, ensemble = (Session(tmp_path / paths.TRAINING / f"session_{number}") for number in (2, 4))
    for name in ("session_1", "session_2", "session_4"):
        shutil.copytree(root / paths.TRAINING / name, tmp_path / paths.TRAINING / name)
    if checksums != "weights":  # an ensemble of an earlier version
        ensemble.write_json("ensemble.json", drop(ensemble.read_json("ensemble.json"), "weights_sha256"))
        if checksums == "none":
            ensemble.write_json("config.json", drop(ensemble.config, "predictions_sha256"))
        ensemble.mark_done()
    assert set(ecgkit.load_model(4, root=tmp_path).members) == {"session_1", "session_2"}
    load_weights(member.best_weights).untrained(1).save(member.best_weights)
    predictions = pd.read_parquet(member.path / "predictions.parquet")
    member.write_table("predictions.parquet", predictions.assign(prob_NORM=0.5))
    member.mark_done()
    if checksums == "none":
        assert set(ecgkit.load_model(4, root=tmp_path).members) == {"session_1", "session_2"}
        return
    with pytest.raises(EcgkitError, match="member session_2"):
        ecgkit.load_model(4, root=tmp_path)


def drop(data: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in data.items() if name != key}


def test_age_and_sex_as_arrays(root: Path, source: Demo) -> None:
    model, table = ecgkit.load_model("session_3", root=root), predictions(root, 3)
    ecgs = read_ecgs(table, source)
    signals = np.stack([ecg.signal for ecg in ecgs])
    who = source.records.set_index("record_id").loc[table["record_id"]]
    prob = model.predict_proba(signals, sampling_rate=100, age=who["age"], sex=who["sex"])
    np.testing.assert_array_equal(prob, model.predict_proba(ecgs))
    one = model.predict_proba(signals[:2], sampling_rate=100, age=50, sex="female")
    each = model.predict_proba(signals[:2], sampling_rate=100, age=[50, 50.0], sex=["female", "female"])
    np.testing.assert_array_equal(one, each)
    unknown = model.predict_proba(signals[:2], sampling_rate=100, age=np.nan, sex=[None, np.nan])
    assert np.isfinite(unknown).all()
    assert (unknown != one).any()
    from_table = {"age": pd.Series([pd.NA, pd.NA], dtype="Float64"), "sex": pd.Series([pd.NA, pd.NA], dtype="string")}
    np.testing.assert_array_equal(model.predict_proba(signals[:2], sampling_rate=100, **from_table), unknown)
    np.testing.assert_array_equal(unknown, model.predict_proba([ECG(signal, 100) for signal in signals[:2]]))


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ({}, "age and sex"),
        ({"age": [50, 60]}, "age and sex"),
        ({"age": [50, 60, 70], "sex": ["male", "male"]}, "age .* for 2 records"),
        ({"age": [50, 60], "sex": ["male"]}, "sex .* for 2 records"),
        ({"age": [50, 300], "sex": "male"}, "age is 300"),
        ({"age": [-1, 30], "sex": "male"}, "age is -1"),
        ({"age": "old", "sex": "male"}, "'old'"),
        ({"age": [50, 60], "sex": [0, 1]}, "sex 0"),
        ({"age": [50, 60], "sex": "M"}, "'M'"),
    ],
)
def test_age_and_sex_that_do_not_fit_are_refused(who: dict[str, object], message: str, root: Path) -> None:
    with pytest.raises(EcgkitError, match=message):
        ecgkit.load_model(3, root=root).predict_proba(np.zeros((2, 12, 1000)), sampling_rate=100, **who)


def test_a_model_of_the_signal_alone_says_once_that_age_and_sex_are_not_used(root: Path, source: Demo) -> None:
    model = ecgkit.load_model(1, root=root)
    signals = source.read("1").signal[None]
    with pytest.warns(UserWarning, match="session_1 takes no age and sex"):
        prob = model.predict_proba(signals, sampling_rate=100, age=[3], sex=["male"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(prob, model.predict_proba(signals, sampling_rate=100, age=50))


def test_another_sampling_rate_is_converted(model: Predictor, source: Demo) -> None:
    ids = source.records["record_id"].head(8)
    fine = Demo(n_records=120, sampling_rate=500, seed=5)
    slow, fast = (np.stack([one.read(i).signal for i in ids]) for one in (source, fine))
    assert fast.shape == (8, 12, 5000)
    at_100, at_500 = model.predict_proba(slow, sampling_rate=100), model.predict_proba(fast, sampling_rate=500)
    # Taken for 100 Hz, the same samples are another ECG.
    mistaken = model.predict_proba(fast, sampling_rate=100)
    assert np.abs(at_500 - at_100).max() < 0.25 * np.abs(mistaken - at_100).max()
    again = resample(slow, sampling_rate=100, target_rate=500).astype(np.float32)
    np.testing.assert_allclose(model.predict_proba(again, sampling_rate=500), at_100, atol=0.02)


def test_longer_records_are_read_in_windows_among_others(model: Predictor, source: Demo) -> None:
    first, second, third = (source.read(i) for i in ("1", "2", "3"))
    long = ECG(np.concatenate([first.signal, second.signal, third.signal], axis=1), 100, "long")
    mixed = [first, long, second, third, long]
    together = model.predict_proba(mixed)
    alone = np.concatenate([model.predict_proba(ecg) for ecg in mixed])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    assert (together[1] != together[0]).any()


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (np.zeros((12, 1000)), r"\(12, 1000\), not \(records, 12, samples\).*signal\[None\]"),
        (np.zeros((1, 1000, 12)), r"\(1, 1000, 12\), not \(records, 12, samples\)"),
        (np.zeros((0, 12, 1000)), "at least one record"),
        ([], "at least one record"),
        (np.zeros((1, 12, 1000), np.int16), "int16.*mV"),
        ([[[0.0, 1.0]] * 11 + [[0.0]]], "different lengths"),
        (np.zeros((1, 12, 500)), "ECG 0 is 5 s long and the model reads 10 s"),
        (np.full((1, 12, 1000), np.nan), "ECG 0 has no value"),
        (300 * np.random.default_rng(0).normal(size=(1, 12, 1000)), "microvolts"),
    ],
)
def test_what_is_no_array_of_signals_is_refused(signals: np.ndarray, message: str, model: Predictor) -> None:
    with pytest.raises(EcgkitError, match=message):
        model.predict_proba(signals, sampling_rate=100)


def test_the_sampling_rate_belongs_to_an_array_and_must_be_one(model: Predictor, source: Demo) -> None:
    ecg = source.read("1")
    for x, keywords, message in (
        (np.zeros((1, 12, 1000)), {"sampling_rate": 0}, "sampling_rate is 0"),
        (np.zeros((1, 12, 1000)), {}, "give sampling_rate"),
        ([ecg], {"sampling_rate": 100}, "an ECG has its own"),
        ([ecg], {"age": 50}, "an ECG has its own"),
    ):
        with pytest.raises(EcgkitError, match=message):
            model.predict_proba(x, **keywords)


def test_an_offset_of_a_lead_changes_no_probability(model: Predictor, source: Demo) -> None:
    ecg = source.read("1")
    moved = ECG(ecg.signal + np.linspace(-30, 30, 12, dtype=np.float32)[:, None], 100)
    np.testing.assert_allclose(model.predict_proba(moved), model.predict_proba(ecg), rtol=0, atol=2e-3)


@pytest.mark.parametrize("factor", [0.0, 1e-3, 1e3])
def test_one_record_of_wrong_levels_is_refused_in_any_form_and_predicted_anyway(
    factor: float, model: Predictor, source: Demo
) -> None:
    signals = np.stack([source.read(str(i)).signal for i in range(1, 8)])
    signals[4] *= factor
    ecgs = [ECG(signal, 100, str(i)) for i, signal in enumerate(signals)]
    for call in (model.predict_proba, model.predict, model.embed, model):
        for keywords in ({"x": ecgs}, {"x": signals, "sampling_rate": 100}, {"x": list(signals), "sampling_rate": 100}):
            with pytest.raises(EcgkitError, match="ECG 4"):
                call(**keywords)
            assert len(call(**keywords, anyway=True)) == 7


def test_a_record_without_a_lead_is_refused_unless_it_may_lack_leads(model: Predictor, source: Demo) -> None:
    signals = np.stack([source.read(str(i)).signal for i in (1, 2, 3)])
    signals[1, [2, 8]] = np.nan
    ecgs = [ECG(signal, 100, str(i)) for i, signal in enumerate(signals)]
    zeros = np.nan_to_num(signals)
    for call in (model.predict_proba, model.predict, model.embed, model):
        for keywords in ({"x": ecgs}, {"x": signals, "sampling_rate": 100}):
            with pytest.raises(EcgkitError, match="ECG 1 lacks III, V3"):
                call(**keywords)
            with pytest.raises(EcgkitError, match="ECG 1 lacks III, V3"):
                call(**keywords, anyway=True)  # which is about levels
            assert len(call(**keywords, allow_missing_leads=True)) == 3
    found = model.predict_proba(ecgs, allow_missing_leads=True)
    np.testing.assert_array_equal(found, model.predict_proba(zeros, sampling_rate=100))
    classifier = ecgkit.ECGClassifier(model, sampling_rate=100, allow_missing_leads=True).fit(signals)
    np.testing.assert_array_equal(classifier.predict_proba(signals), found)


def test_masked_samples_of_arrays_are_gaps(model: Predictor, source: Demo) -> None:
    signals = np.stack([source.read(str(i)).signal for i in (1, 2)])
    mask = np.zeros(signals.shape, bool)
    mask[:, :, 100:200] = True
    expected = model.predict_proba(np.where(mask, np.nan, signals), sampling_rate=100)
    masked = np.ma.masked_array(np.where(mask, 9.0, signals), mask)
    for x in (masked, list(masked), [masked[0], masked[1]]):
        np.testing.assert_array_equal(model.predict_proba(x, sampling_rate=100), expected)


def test_ecgs_and_arrays_are_not_mixed(model: Predictor, source: Demo) -> None:
    ecg = source.read("1")
    for mixed in ([ecg, ecg.signal], [ecg.signal, ecg]):
        with pytest.raises(EcgkitError):
            model.predict_proba(mixed, sampling_rate=100)
        with pytest.raises(EcgkitError):
            model.predict_proba(mixed)


def test_gaps_are_filled_as_in_a_dataset(model: Predictor, source: Demo) -> None:
    holed = source.read("3").signal.copy()
    holed[4, 100:120] = np.nan
    filled = holed.copy()
    filled[4, 99:121] = np.linspace(holed[4, 99], holed[4, 120], 22)
    found, same = (model.predict_proba(ECG(signal, 100)) for signal in (holed, filled))
    np.testing.assert_allclose(found, same, rtol=0, atol=1e-5)


def test_a_model_prints_as_what_it_is(root: Path) -> None:
    assert repr(ecgkit.load_model(1, root=root)) == (
        "<NetworkPredictor session_1: 12 leads at 100 Hz from 10 s on -> 5 classes (NORM, MI, STTC, CD, HYP)>"
    )
    assert "age and sex" in repr(ecgkit.load_model(3, root=root))


def test_names_that_are_no_finished_model_are_refused(root: Path, tmp_path: Path) -> None:
    names = shipped()
    assert ecgkit.list_models(root) == [*names, *(f"session_{i}" for i in (1, 2, 3, 4))]
    for name, message in (
        ("alexnet", "'alexnet'.*resnet1d"),
        (99, "'99'"),
        (tmp_path, "best.safetensors"),
        ("session_5", "session_5 is not finished"),
    ):
        with pytest.raises(EcgkitError, match=message):
            ecgkit.load_model(name, root=root)


def test_bfloat16_is_close_and_chosen_only_where_it_was_shown_to_be_safe(root: Path, source: Demo) -> None:
    ecgs = [source.read(i) for i in ("1", "2", "3", "4")]
    exact, fast = (ecgkit.load_model(1, root=root, precision=name) for name in ("float32", "bfloat16"))
    np.testing.assert_allclose(fast.predict_proba(ecgs), exact.predict_proba(ecgs), rtol=0, atol=0.03)
    assert (fast.embed(ecgs) != exact.embed(ecgs)).any()
    assert ecgkit.load_model(1, root=root, precision="auto").precision == "float32"
    with pytest.raises(EcgkitError, match="float16"):
        ecgkit.load_model(1, root=root, precision="float16")


def test_a_model_is_a_classifier_of_scikit_learn(model: Predictor, session: Session, source: Demo) -> None:
    signals = np.stack([source.read(i).signal for i in ("1", "2", "3")])
    pipeline = make_pipeline(FunctionTransformer(np.nan_to_num), ecgkit.ECGClassifier(session.path, sampling_rate=100))
    fitted = clone(pipeline).fit(signals)
    assert fitted[-1].class_names_.tolist() == list(model.classes)
    np.testing.assert_array_equal(fitted.predict_proba(signals), model.predict_proba(signals, sampling_rate=100))
    np.testing.assert_array_equal(fitted.predict(signals), model.predict(signals, sampling_rate=100))
    with pytest.raises(EcgkitError, match="fit"):
        ecgkit.ECGClassifier("resnet1d", sampling_rate=100).predict(signals)
    with pytest.raises(EcgkitError, match="12, samples"):
        ecgkit.ECGClassifier("resnet1d", sampling_rate=100).fit(signals[0])


class FirstSamples(Predictor):
    """A model whose logits are the first sample of the first leads, one per class."""

    sampling_rate, n_samples, takes_metadata = 100, 250, False

    def __init__(self, n_classes: int) -> None:
        classes = LEADS[:n_classes]
        calibration = {"classes": {name: {"method": "identity"} for name in classes}}
        super().__init__("first", classes, "", decisions=({"thresholds": dict.fromkeys(classes, 0.5)}, calibration))

    def _computed(self, ecgs, **_: object):
        prob = [1 / (1 + np.exp(-ecg.signal[: len(self.classes), 0])) for ecg in ecgs]
        return np.array(prob, np.float32), np.zeros(len(ecgs))

    def _embed(self, ecgs, **_: object) -> None: ...


@pytest.mark.filterwarnings("ignore:The y_pro:UserWarning")  # of several classes, they do not sum to 1
@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_scikit_learn_scores_a_model_as_its_metrics_do(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    signals = rng.normal(0, 1, (60, 12, 250))
    truth = (signals[:, :n_classes, 0] + rng.normal(0, 1, (60, n_classes)) > 0).astype(int).squeeze()
    classifier = ecgkit.ECGClassifier(FirstSamples(n_classes), sampling_rate=100, anyway=True).fit(signals)
    prob = 1 / (1 + np.exp(-signals[:, :n_classes, 0])).squeeze()
    columns = np.stack([1 - prob, prob], axis=1) if n_classes == 1 else prob
    found = cross_val_predict(classifier, signals, truth, method="predict_proba", cv=3)
    np.testing.assert_allclose(found, columns, rtol=1e-5)
    np.testing.assert_array_equal(cross_val_predict(classifier, signals, truth, cv=3), prob >= 0.5)
    whole = [(np.arange(30), np.arange(60))]
    for scoring, metric in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
        assert cross_val_score(classifier, signals, truth, scoring=scoring, cv=whole) == metric(truth, prob)
    loss = cross_val_score(classifier, signals, truth, scoring="neg_log_loss", cv=whole)
    assert -loss == pytest.approx(log_loss(truth, columns), rel=1e-5)
