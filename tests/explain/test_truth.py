from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit import EcgkitError, load_model
from ecgkit.explain import truth
from ecgkit.explain.amplitude import amplitude_check
from ecgkit.explain.methods import METHODS, Method
from ecgkit.models import create_model
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
    return truth.check_records(model, ecgs, ["MI", "MI"], methods=methods, twin=model, n_randomised=1)


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


def test_layers_are_randomised_from_the_last_to_the_first() -> None:
    trained = load_model("xlstm").trained
    names = truth.layers(trained.model)
    assert names[0] == "patches.0"
    assert names[-1] == "head"
    assert {"sequence.blocks.0", "sequence.blocks.1"} < set(names)
    original = {name: value.clone() for name, value in trained.model.state_dict().items()}
    changed = list[set[str]]()
    for _, model in truth.randomised(trained):
        state = model.state_dict()
        changed.append({name for name, value in state.items() if not value.equal(original[name])})
    assert changed[0] == {"head.weight", "head.bias"}
    assert all(before < after for before, after in pairwise(changed))
    assert {name for name in original if name.endswith("weight") and original[name].dim() > 1} <= changed[-1]
    assert all(value.equal(original[name]) for name, value in trained.model.state_dict().items())


def test_a_picture_of_the_ecg_does_not_survive_random_weights(monkeypatch) -> None:
    """A method that paints the voltage whatever the network is stays the same; gradients do not."""
    picture = Method("", lambda inputs: (np.abs(inputs.signals)[:, None], np.full((len(inputs), 1), np.nan)))
    monkeypatch.setitem(METHODS, "picture", picture)
    torch.manual_seed(0)
    folder = load_model("resnet1d")
    keywords = folder.trained.keywords | {"widths": (8, 16)}
    small = replace(folder.trained, model=create_model("resnet1d", **keywords).eval(), keywords=keywords)
    folder.trained = small
    ecgs = [make_ecg(["MI"], sampling_rate=RATE, seed=seed) for seed in range(6)]
    ecgs = [replace(ecg, record_id=str(number), signal=ecg.signal[:, :250]) for number, ecg in enumerate(ecgs)]
    table = truth.check_records(folder, ecgs, ["MI"] * 6, methods=["picture", "saliency"], n_randomised=4)
    random = table[table["check"].str.startswith("randomised")]
    assert list(random["check"].unique())[:2] == ["randomised from head", "randomised from trunk.4"]
    assert random.groupby(["method", "check"])["record_id"].nunique().eq(4).all()
    assert random[random["method"] == "picture"]["value"].to_numpy() == pytest.approx(1)
    assert abs(mean(table, "saliency", "randomised all")) < 0.2
    assert truth.verdict(truth.summarise(table)).loc["picture", "randomised all"] == "fails"


def test_correlation_and_cells() -> None:
    values = np.arange(48.0).reshape(2, 12, 2)
    other = np.stack([3 * values[0] + 1, np.ones((12, 2))])
    assert truth.correlation(values, other) == pytest.approx([1, 0])
    random = np.random.default_rng(0).normal(size=(2, 5, 12, 3))
    assert truth.correlation(*random) == pytest.approx(
        [np.corrcoef(one.ravel(), two.ravel())[0, 1] for one, two in zip(*random, strict=True)]
    )
    assert truth.cells(np.ones((12, 25)), RATE).tolist() == [[10, 10, 5]] * 12


def test_territory_is_one_by_chance() -> None:
    relevance = np.ones((3, 12, 50), np.float32)
    relevance[1, [LEADS.index(lead) for lead in LEADS if lead not in ("II", "III", "aVF")]] = -1
    relevance[2] = -1
    assert truth.territory(relevance, ("II", "III", "aVF")) == pytest.approx([1, 4, 1])


def test_a_planted_sign_is_found_where_the_relevance_is_the_sign() -> None:
    demo = Demo(n_records=60)
    ill = [row for row, plan in demo._plans.items() if set(plan["findings"]) - {"NORM"}][:5]
    for row in ill:
        signs = np.abs(demo.planted_signs(row))
        hit, chance = truth.pointing(signs, signs, RATE)
        assert hit == 1
        assert 0 < chance < 0.5
        assert truth.pointing(-signs, signs, RATE)[0] == 0
    model = load_model("resnet1d")
    table = truth.point_at_signs(model, demo, ill, ["MI"] * 5, method="saliency")
    assert table["record_id"].nunique() == 5
    assert set(table["value"][table["check"] == "pointing"]) <= {0.0, 1.0}
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
