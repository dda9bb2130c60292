"""One answer holds what each step says of the ECG, whatever it comes from; R peaks are found once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgkit import EcgkitError, load_model, open_ecg
from ecgkit.inference import answers
from ecgkit.inference.answers import answer_ecg, answer_ecgs
from ecgkit.inference.predictor import Predictor
from ecgkit.readers import save_ecg
from ecgkit.signals import findings, measurements, prepare, rhythm
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.signals.findings import check_quality
from ecgkit.signals.measurements import measure_ecg
from ecgkit.signals.prepare import filter_microvolts
from ecgkit.sources.demo import Demo


@pytest.fixture(scope="module")
def model() -> Predictor:
    return load_model("resnet1d")


@pytest.fixture(scope="module")
def ecg() -> ECG:
    return Demo(n_records=20, sampling_rate=500).read("1")


def test_an_answer_is_what_the_steps_say(ecg: ECG, model: Predictor, tmp_path: Path) -> None:
    path = save_ecg(ecg, tmp_path / "one.npz")
    for source in (path, str(path), path.read_bytes(), open_ecg(path)):
        answer = answer_ecg(source, model, age=61, sex="female")
        assert answer.ecg is not None
        assert answer.prediction is not None
        assert (answer.ecg.age, answer.ecg.sex, answer.refusal) == (61, "female", None)
        expected = model.predict_proba([answer.ecg])[0]
        np.testing.assert_array_equal(answer.prediction.probabilities, expected)
        np.testing.assert_array_equal(answer.prediction.decisions, expected >= model.thresholds)
        assert answer.measurements == pytest.approx(measure_ecg(answer.ecg), nan_ok=True)
        assert answer.prediction.windows is None


def test_the_json_form_has_the_numbers(ecg: ECG, model: Predictor) -> None:
    inverted = replace(ecg, signal=-ecg.signal)
    data = json.loads(json.dumps(answer_ecg(inverted, model).to_dict(), allow_nan=False))
    assert (data["model"], data["backend"], data["error"]) == ("resnet1d", "torch", "")
    assert [entry["name"] for entry in data["classes"]] == list(model.classes)
    expected = model.predict_proba([inverted])[0]
    for entry, probability, threshold in zip(data["classes"], expected, model.thresholds, strict=True):
        assert np.float32(entry["probability"]) == probability
        assert np.float32(entry["threshold"]) == threshold
        assert entry["decision"] == (probability >= threshold)
    assert [item["name"] for item in data["findings"]] == [finding.name for finding in check_quality(inverted)]
    assert data["measurements"]["heart_rate"] == pytest.approx(measure_ecg(ecg)["heart_rate"])


def test_an_ensemble_has_the_extremes_of_its_members(ecg: ECG) -> None:
    answer = answer_ecg(ecg, "ensemble", measurements=False)
    members = [load_model(name).predict_proba([ecg])[0] for name in ("hybrid", "resnet1d", "xlstm")]
    for number, entry in enumerate(answer.to_dict()["classes"]):
        each = [float(member[number]) for member in members]
        assert (entry["lowest"], entry["highest"]) == pytest.approx((min(each), max(each)), abs=1e-6)
    assert answer.measurements == {}


@pytest.mark.parametrize(("known", "named"), [({}, "age and sex"), ({"age": 50.0}, "sex"), ({"sex": "male"}, "age")])
def test_a_model_of_age_and_sex_says_what_it_did_not_know(
    ecg: ECG, root: Path, known: dict[str, float | str], named: str
) -> None:
    some = replace(ecg, age=None, sex=None)
    model = load_model("session_3", root=root)
    answer = answer_ecg(replace(some, **known), model, measurements=False)
    (finding,) = [finding for finding in answer.findings if finding.name == "missing_metadata"]
    assert finding.text.startswith(f"{named} unknown")
    assert answer.prediction is not None
    for told in (answer_ecg(replace(some, age=50.0, sex="male"), model), answer_ecg(some, "resnet1d")):
        assert "missing_metadata" not in [finding.name for finding in told.findings]


def test_a_refused_ecg_keeps_what_is_known(ecg: ECG, model: Predictor) -> None:
    loud = replace(ecg, signal=1000 * ecg.signal)
    answer = answer_ecg(loud, model)
    assert "microvolts" in (answer.refusal or "")
    assert answer.prediction is None
    assert answer.measurements["heart_rate"] == pytest.approx(measure_ecg(loud)["heart_rate"])
    assert {entry["probability"] for entry in answer.to_dict()["classes"]} == {None}
    anyway = answer_ecg(loud, model, anyway=True)
    assert anyway.refusal is None
    assert anyway.findings[0].name == "unit"  # the reason is told nevertheless


def test_a_prediction_without_all_leads_is_marked(ecg: ECG, model: Predictor) -> None:
    limbs = replace(ecg, signal=np.where(np.arange(12)[:, None] < 6, ecg.signal, np.nan).astype(np.float32))
    assert answer_ecg(limbs, model).prediction is None
    answer = answer_ecg(limbs, model, allow_missing_leads=True)
    assert answer.prediction is not None
    (mark,) = [finding for finding in answer.findings if finding.name == "missing_leads"]
    assert (mark.level, mark.leads) == ("warning", LEADS[6:])


def test_an_ensemble_prepares_each_ecg_once(ecg: ECG, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = load_model("ensemble"), []

    def counted(*arguments: object, **keywords: object) -> np.ndarray:
        calls.append(arguments)
        return filter_microvolts(*arguments, **keywords)  # type: ignore[arg-type]

    expected = model.predict_proba([ecg, replace(ecg, signal=2 * ecg.signal)])
    monkeypatch.setattr(prepare, "filter_microvolts", counted)
    np.testing.assert_array_equal(model.predict_proba([ecg, replace(ecg, signal=2 * ecg.signal)]), expected)
    assert len(calls) == 2


def test_a_long_recording_has_windows(ecg: ECG, model: Predictor) -> None:
    signal = np.tile(ecg.signal, 3)
    signal[6, 5000:10000] = np.nan
    prediction = answer_ecg(replace(ecg, signal=signal), model, anyway=True).prediction
    assert prediction is not None
    assert prediction.windows is not None
    assert prediction.windows.starts == (0.0, 20.0)
    np.testing.assert_allclose(prediction.windows.probabilities[1], model.predict_proba([ecg])[0], atol=1e-6)


def test_r_peaks_are_found_once(ecg: ECG, model: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(signals: list[np.ndarray], rates: list[float]) -> list[np.ndarray]:
        calls.extend(rates)
        return rhythm.r_peaks_of_many(signals, rates)

    for module in (answers, findings):
        monkeypatch.setattr(module, "r_peaks_of_many", counted)
    monkeypatch.setattr(measurements, "r_peaks", lambda signal, *, sampling_rate: counted([signal], [sampling_rate])[0])
    answer_ecg(ecg, model)
    assert calls == [500]


def test_what_cannot_be_opened_is_an_error_of_one_and_an_answer_of_many(ecg: ECG, model: Predictor) -> None:
    with pytest.raises(EcgkitError, match="numbers"):
        answer_ecg(b"Dear colleague, the ECG is attached.", model)
    with pytest.raises(EcgkitError, match="unit"):
        answer_ecg(ecg, model, unit="uV")
    bad, good = answer_ecgs([("letter", b"Dear colleague"), ("ecg", ecg)], model)
    assert bad.ecg is None
    assert bad.refusal
    assert good.prediction is not None


def test_bad_files_among_many_do_not_change_the_others(ecg: ECG, model: Predictor) -> None:
    short = replace(ecg, signal=ecg.signal[:, :700])
    ecgs = [ecg, short, replace(ecg, signal=1000 * ecg.signal), replace(ecg, signal=2 * ecg.signal)]
    sources = [(str(i), source) for i, source in enumerate([*ecgs, b"Dear colleague", *ecgs, ecg])]
    together = list(answer_ecgs(sources, model))
    refused = [i for i, answer in enumerate(together) if answer.refusal]
    assert refused == [1, 2, 4, 6, 7]
    for answer, (name, source) in zip(together, sources, strict=True):
        if isinstance(source, ECG):
            alone = next(answer_ecgs([(name, source)], model))
            np.testing.assert_array_equal(answer.peaks, alone.peaks)
            assert [finding.text for finding in answer.findings] == [finding.text for finding in alone.findings]
            assert answer.refusal == alone.refusal
            assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
