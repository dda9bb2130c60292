from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.by_layer import probe_layers
from ecgkit.feature_space.probes.fit import fit_probes
from ecgkit.feature_space.probes.linear import ALPHAS, Problem, fit_linear, patient_splits
from ecgkit.feature_space.probes.targets import TARGETS, Target

AGE, SEX, HEIGHT, WEIGHT = TARGETS
DEVICE = Target("device", categories=("A", "B", "C"))


@dataclass(frozen=True)
class Network:
    records: pd.DataFrame
    layers: dict[str, np.ndarray]
    noise: np.ndarray


@pytest.fixture(scope="module")
def network() -> Network:
    """Age appears in the second layer and goes in the third; sex comes in the third only."""
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(700), random.integers(1, 3, 700))
    n = len(patients)
    age = random.uniform(20, 88, 700)[patients].round()
    female = random.random(700)[patients] < 0.5
    device = random.integers(0, 3, n)
    layers = {name: random.standard_normal((n, 8)).astype(np.float32) for name in ("first", "second", "third")}
    noise = random.standard_normal((n, 8)).astype(np.float32)
    layers["second"][:, 2] += (age - age.mean()) / age.std()
    layers["third"][:, 1] += 2 * female
    layers["third"][np.arange(n), 4 + device] += 2
    records = pd.DataFrame(
        {
            "patient_id": patients,
            "fold": patients % 10 + 1,
            "age": age,
            "sex": np.where(female, "female", "male"),
            "device": np.array(list("ABC"))[device],
            "weight": np.where(np.arange(n) < 30, 70.0, np.nan),
        }
    )
    return Network(records, layers, noise)


@pytest.fixture(scope="module")
def table(network: Network) -> pd.DataFrame:
    targets = (AGE, SEX, WEIGHT, DEVICE)
    untrained = {"third": network.noise}
    return probe_layers(network.layers, network.records, targets=targets, untrained=untrained, resamples=200)


def of(table: pd.DataFrame, target: str, layer: str, encoder: str = "trained") -> pd.Series:
    rows = table[(table["target"] == target) & (table["layer"] == layer) & (table["encoder"] == encoder)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_each_target_is_found_in_the_layer_that_holds_it_and_in_no_other(table: pd.DataFrame) -> None:
    assert of(table, "age", "second")["value"] == pytest.approx(0.5, abs=0.1)  # one deviation of age in one of noise
    assert of(table, "sex", "third")["value"] == pytest.approx(0.92, abs=0.05)  # two normals, two deviations apart
    assert of(table, "device", "third")["value"] > 0.85
    for target, layer in (("age", "first"), ("age", "third")):
        assert -0.1 < of(table, target, layer)["value"] < 0.05
    for target, layer in (("sex", "first"), ("sex", "second"), ("device", "first"), ("device", "second")):
        assert of(table, target, layer)["value"] == pytest.approx(0.5, abs=0.12)


def test_a_layer_of_noise_is_within_the_permutation_interval(network: Network, table: pd.DataFrame) -> None:
    training, test = network.records["fold"].to_numpy() <= 8, network.records["fold"].to_numpy() == 10
    female = (network.records["sex"] == "female").to_numpy()
    patients = network.records["patient_id"].to_numpy()[training]
    random = np.random.default_rng(1)
    for encoder, layer, points in (
        ("trained", "first", network.layers["first"]),
        ("untrained", "third", network.noise),
    ):
        probe = fit_linear(
            points[training], {0: Problem(female[training].astype(float), is_class=True)}, patients, seed=0
        )[0]
        logits = probe.outputs(points[test])[:, 0]
        by_chance = [roc_auc_score(random.permutation(female[test]), logits) for _ in range(300)]
        low, high = np.percentile(by_chance, [0.5, 99.5])
        assert low <= of(table, "sex", layer, encoder)["value"] <= high


def test_values_are_those_of_the_probes_on_fold_10(network: Network, table: pd.DataFrame) -> None:
    training, test = network.records["fold"].to_numpy() <= 8, network.records["fold"].to_numpy() == 10
    points, age = network.layers["second"], network.records["age"].to_numpy()
    patients = network.records["patient_id"].to_numpy()[training]
    probe = fit_linear(points[training], {0: Problem(age[training], is_class=False)}, patients, seed=0)[0]
    row = of(table, "age", "second")
    assert row["value"] == pytest.approx(r2_score(age[test], probe.outputs(points[test])[:, 0]))
    assert (row["strength"], row["features"], row["test"]) == (probe.strength, 8, test.sum())
    assert row["low"] < row["value"] < row["high"]


def test_a_probe_has_one_value_wherever_it_is_fitted(network: Network) -> None:
    embedding = np.concatenate([network.layers["second"], network.layers["third"], network.noise], axis=1)
    embedding = embedding @ np.random.default_rng(2).standard_normal((24, 60)).astype(np.float32)
    records = network.records.assign(record_id=np.arange(len(network.records)).astype(str))
    keywords = {"targets": (AGE, SEX, DEVICE), "seed": 3, "resamples": 50}
    results = fit_probes(embedding, records, untrained=[network.noise], **keywords)
    table = probe_layers({"embedding": embedding}, records, untrained={"embedding": network.noise}, **keywords)
    for row in table.to_dict("records"):
        source = {"trained": "probe", "untrained": "untrained"}[row["encoder"]]
        found = results[row["target"]].comparison.metrics[source][row["metric"]]
        assert {name: row[name] for name in found} == pytest.approx(found)
        assert row["strength"] == results[row["target"]].probes[source]["value"].strength


def test_a_search_by_scikit_learn_finds_the_same_probe(network: Network) -> None:
    rows = (network.records["fold"] <= 8).to_numpy()
    points, age = network.layers["second"][rows], network.records["age"].to_numpy()[rows]
    patients = network.records["patient_id"].to_numpy()[rows]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()),
        {"ridge__alpha": ALPHAS},
        scoring="neg_mean_squared_error",
        cv=patient_splits(patients, seed=1),
    ).fit(points, age)
    probe = fit_linear(points, {0: Problem(age, is_class=False)}, patients, seed=1)[0]
    assert search.best_params_ == {"ridge__alpha": probe.strength}
    np.testing.assert_allclose(search.predict(points), probe.outputs(points)[:, 0], rtol=1e-3)


def test_the_change_from_layer_to_layer_has_its_own_interval(table: pd.DataFrame) -> None:
    gain, loss = of(table, "age", "second"), of(table, "age", "third")
    assert np.isnan(of(table, "age", "first")["change"])
    assert gain["change"] == pytest.approx(gain["value"] - of(table, "age", "first")["value"])
    assert gain["change_low"] > 0 > loss["change_high"]
    nothing = of(table, "sex", "second")
    assert nothing["change_low"] < 0 < nothing["change_high"]
    assert np.isnan(of(table, "age", "third", "untrained")["change"])


def test_two_equal_layers_differ_by_nothing_for_certain(network: Network) -> None:
    twice = {"one": network.layers["second"], "two": network.layers["second"]}
    row = probe_layers(twice, network.records, targets=(AGE,), resamples=50).iloc[1]
    assert (row["change"], row["change_low"], row["change_high"]) == (0, 0, 0)


def test_all_layers_together_come_after_no_layer(network: Network) -> None:
    layers = dict(zip(("first", "all layers", "third"), network.layers.values(), strict=True))
    table = probe_layers(layers, network.records, targets=(AGE,), resamples=20)
    assert table["value"].notna().all()
    assert table["change"].isna().tolist() == [True, True, False]


def test_layers_and_targets_keep_their_order(table: pd.DataFrame) -> None:
    assert list(dict.fromkeys(table["target"])) == ["age", "sex", "weight", "device"]
    age = table[table["target"] == "age"]
    assert age["layer"].tolist() == ["first", "second", "third", "third"]
    assert age["encoder"].tolist() == ["trained"] * 3 + ["untrained"]


def test_a_target_that_too_few_know_is_skipped_with_its_reason(table: pd.DataFrame) -> None:
    weight = table[table["target"] == "weight"]
    assert weight["value"].isna().all()
    assert weight["skipped"].str.contains("are needed").all()
    assert (table.loc[table["target"] != "weight", "skipped"] == "").all()


def test_fold_9_takes_no_part(network: Network, table: pd.DataFrame) -> None:
    layer = network.layers["second"].copy()
    layer[network.records["fold"] == 9] = 1e3
    changed = probe_layers({"second": layer}, network.records, targets=(AGE,), resamples=200)
    columns = ["value", "low", "high", "strength"]
    assert changed.loc[0, columns].tolist() == of(table, "age", "second")[columns].tolist()


def test_a_patient_in_two_splits_is_refused(network: Network) -> None:
    records = network.records.copy()
    rows = np.flatnonzero(records["patient_id"].duplicated(keep=False))[:2]
    records.loc[rows, "fold"] = [1, 10]
    with pytest.raises(EcgkitError, match="1 patients"):
        probe_layers(network.layers, records, targets=(AGE,))


def test_what_cannot_be_probed_is_refused(network: Network) -> None:
    with pytest.raises(EcgkitError, match="no layer to probe"):
        probe_layers({}, network.records)
    with pytest.raises(EcgkitError, match="one row per record"):
        probe_layers({"short": network.noise[:-1]}, network.records, targets=(AGE,))
    with pytest.raises(EcgkitError, match="height"):
        probe_layers(network.layers, network.records, targets=(HEIGHT,))
