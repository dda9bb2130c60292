from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ecgkit import EcgkitError, load_model
from ecgkit.explain import truth
from ecgkit.explain.amplitude import amplitude_check
from ecgkit.explain.attributions import Explanation
from ecgkit.signals.ecg import LEADS
from ecgkit.sources.demo import Demo
from ecgkit.sources.demo.source import make_ecg

RATE = 100


@pytest.fixture(scope="module")
def table():
    ecgs = [replace(make_ecg(["MI"], sampling_rate=RATE, seed=seed), record_id=str(seed)) for seed in (3, 5)]
    ecgs = [replace(ecg, signal=ecg.signal[:, :250]) for ecg in ecgs]
    model = load_model("resnet1d")
    methods = ["integrated_gradients", "grad_cam"]
    return truth.check_records(model, ecgs, ["MI", "MI"], methods=methods, twin=model)


def mean(table, method: str, check: str) -> float:
    return table[(table["method"] == method) & (table["check"] == check)]["value"].mean()


def test_explanations_go_with_the_weights(table) -> None:
    for method in ("integrated_gradients", "grad_cam"):
        assert mean(table, method, "two seeds") == pytest.approx(1)  # the twin is the model itself
        assert mean(table, method, "noise") > 0.8
    assert abs(mean(table, "integrated_gradients", "randomised all")) < 0.3
    assert mean(table, "integrated_gradients", "completeness") < 0.05


def test_what_the_network_needs_is_deleted_before_what_is_drawn_by_chance(table) -> None:
    gain = truth.gain_over(table)
    assert set(gain["method"]) == {"integrated_gradients", "grad_cam", "amplitude"}
    assert mean(gain, "integrated_gradients", "over random order") > 0
    summary = truth.summarise(gain)
    assert (summary["low"] <= summary["value"]).all()
    assert (summary["value"] <= summary["high"]).all()


def test_a_method_fails_if_its_interval_reaches_the_limit() -> None:
    rows = {("a", "noise"): (0.7, 0.66, 0.8), ("b", "noise"): (0.7, 0.6, 0.8), ("a", "randomised all"): (0.1, 0, 0.3)}
    summary = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
    summary.index = pd.MultiIndex.from_tuples(summary.index)
    found = truth.verdict(summary)
    assert found.loc["a"].to_dict() == {"noise": "passes", "randomised all": "fails"}
    assert found.loc["b"].to_dict() == {"noise": "fails", "randomised all": ""}


def test_the_areas_of_a_known_model() -> None:
    signal = np.zeros((12, 100), np.float32)
    signal[4, 30:40] = 1
    right, wrong = np.zeros((12, 10)), np.zeros((12, 10))
    right[4, 3], wrong[7, 7] = 1, 1

    def predict(signals):
        return signals[:, 4, 35].astype(float)

    deleted, inserted = truth.deletion_and_insertion(predict, signal, right, RATE)
    assert deleted == pytest.approx(0.05)  # gone after the first tenth
    assert inserted == pytest.approx(0.95)
    deleted, inserted = truth.deletion_and_insertion(predict, signal, -right, RATE)
    assert deleted == pytest.approx(0.95)
    assert inserted == pytest.approx(0.05)


def test_randomised_layers_differ_and_the_others_do_not() -> None:
    model = load_model("resnet1d")
    names = truth.layers(model.trained.model)
    assert names[-1] == "head"
    changed = dict(truth.randomised(model))
    original, head, everything = (
        one.trained.model.state_dict() for one in (model, changed["randomised head"], changed["randomised all"])
    )
    differs = {name for name, value in head.items() if not value.equal(original[name])}
    assert differs == {"head.weight", "head.bias"}
    assert not everything["trunk.0.weight"].equal(original["trunk.0.weight"])


def test_correlation_and_cells() -> None:
    values = np.arange(24.0).reshape(12, 2)
    assert truth.correlation(values, 3 * values + 1) == pytest.approx(1)
    assert truth.correlation(values, np.ones((12, 2))) == 0
    assert truth.cells(np.ones((12, 25)), RATE).tolist() == [[10, 10, 5]] * 12


def test_territory_is_one_by_chance() -> None:
    relevance = np.ones((1, 12, 50), np.float32)
    found = Explanation("1", "m", "x", "logits", ("MI",), relevance, relevance[0], RATE, np.ones(1), np.ones(1))
    assert truth.territory(found, ("II", "III", "aVF")) == pytest.approx(1)
    relevance[0, [LEADS.index(lead) for lead in LEADS if lead not in ("II", "III", "aVF")]] = -1
    assert truth.territory(found, ("II", "III", "aVF")) == pytest.approx(4)


def test_a_planted_sign_is_found_where_the_relevance_is_the_sign(monkeypatch) -> None:
    demo = Demo(n_records=60)
    ill = [row for row, plan in demo._plans.items() if set(plan["findings"]) - {"NORM"}][:5]

    def ideal(predictor, ecg, *, method, classes):
        signs = np.abs(demo.planted_signs(ecg.record_id))[None]
        return Explanation(ecg.record_id, "m", method, "", tuple(classes), signs, ecg.signal, RATE, signs, signs)

    monkeypatch.setattr(truth, "explain_ecg", ideal)
    model = load_model("resnet1d")
    table = truth.point_at_signs(model, demo, ill, ["MI"] * 5, method="saliency")
    assert mean(table, "saliency", "pointing") == 1
    assert mean(table, "saliency", "chance") < 0.5
    with pytest.raises(EcgkitError, match="500"):
        truth.point_at_signs(model, Demo(n_records=20, sampling_rate=500), ["1"], ["MI"], method="saliency")


@pytest.mark.slow
@pytest.mark.parametrize(("wave", "lead"), [("R", "V4"), ("T", "V3"), ("P", "II")])
def test_a_network_that_reads_a_wave_is_explained_by_it(wave: str, lead: str) -> None:
    methods = ["saliency", "input_x_gradient", "integrated_gradients", "occlusion_segments"]
    table = amplitude_check(wave, lead, methods=methods)
    assert mean(table, "network", "r2") > 0.7
    for method in methods:
        share, chance = mean(table, method, f"amplitude {wave}"), mean(table, method, f"chance {wave}")
        assert share > 4 * chance, method
