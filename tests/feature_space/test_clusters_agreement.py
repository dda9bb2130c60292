"""What clusters agree with is found, and distinguished from chance and from confounders."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.clusters.agreement import (
    EXACTLY_ONE,
    adjusted_mutual_information,
    agreement_table,
    conditional_information,
    conditional_information_table,
    contingency,
    mutual_information,
    partitions,
    permuted_tables,
)
from ecgkit.feature_space.clusters.fit import Clusters
from ecgkit.feature_space.standardize import Scaler
from ecgkit.plots import cluster_agreement
from ecgkit.stats.multiple_testing import benjamini_hochberg

N = 1500


def clusters_of(assigned: np.ndarray) -> Clusters:
    k = int(assigned.max()) + 1
    return Clusters(assigned, np.zeros((k, 1), np.float32), Scaler(np.zeros(1), np.ones(1)), 0)


def drawn(random: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """Draw one kind a record with the record's own shares."""
    return (random.random(len(shares))[:, None] > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)


def following(random: np.random.Generator, cause: np.ndarray, kinds: int, strength: float) -> np.ndarray:
    """Draw something that is its cause with this probability, and anything otherwise."""
    own = np.eye(kinds)[cause % kinds]
    return drawn(random, strength * own + (1 - strength) / kinds)


def world_of(diagnosis: np.ndarray, device: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    n = len(diagnosis)
    records = pd.DataFrame({"patient_id": np.arange(n), "fold": 10, "device": np.array(["A", "B", "C", "D"])[device]})
    return records, pd.DataFrame({name: diagnosis == i for i, name in enumerate(("NORM", "MI", "CD"))})


@pytest.mark.parametrize(("kinds", "clusters"), [(2, 5), (4, 3), (9, 12)])
def test_measures_are_scikit_learns(kinds, clusters) -> None:
    random = np.random.default_rng(kinds)
    truth = random.integers(0, kinds, 300)
    assigned = np.where(random.random(300) < 0.5, truth, random.integers(0, clusters, 300))
    table = contingency(assigned, truth)[None]
    assert adjusted_mutual_information(table)[0] == pytest.approx(adjusted_mutual_info_score(truth, assigned))
    assert mutual_information(table)[0] == pytest.approx(mutual_info_score(truth, assigned))


def test_drawn_tables_are_those_of_shuffled_records() -> None:
    random = np.random.default_rng(0)
    assigned, truth = random.choice(4, 400, p=[0.5, 0.3, 0.15, 0.05]), random.choice(3, 400, p=[0.7, 0.2, 0.1])
    table = contingency(assigned, truth)
    tables = permuted_tables(table, 2000, random)
    assert (tables.sum(axis=1) == table.sum(axis=0)).all()
    assert (tables.sum(axis=2) == table.sum(axis=1)).all()
    shuffled = np.stack([contingency(random.permutation(assigned), truth) for _ in range(2000)])
    for measure in (adjusted_mutual_information, mutual_information):
        one, other = measure(tables), measure(shuffled)
        for percentile in (50, 97.5):
            spread = other.std()
            assert np.percentile(one, percentile) == pytest.approx(np.percentile(other, percentile), abs=0.3 * spread)


def test_p_values_of_noise_are_even() -> None:
    random = np.random.default_rng(1)
    truth = random.choice(3, 400, p=[0.5, 0.3, 0.2])
    records, labels = world_of(truth, np.zeros(400, int))
    noise = {str(i): clusters_of(random.integers(0, 5, 400)) for i in range(200)}
    table = agreement_table(noise, records, labels, n_permutations=99).xs(EXACTLY_ONE, level="partition")
    assert 0.01 <= (table["p"] <= 0.05).mean() <= 0.10
    assert table["p"].mean() == pytest.approx(0.5, abs=0.08)
    assert abs(table["ami_permuted"].mean()) < 0.002


def test_partitions_leave_out_what_is_unknown() -> None:
    records = pd.DataFrame(
        {
            "age": [9.0, 10.0, 90.0, np.nan],
            "sex": pd.array(["male", None, "female", "female"], dtype="string"),
            "device": pd.array(["A", "A", None, "B"], dtype="string"),
            "static_noise": pd.array([None, "alles", None, None], dtype="string"),
            "burst_noise": pd.array([None, None, "V1", None], dtype="string"),
        }
    )
    labels = pd.DataFrame({"MI": [True, True, False, False], "CD": [True, False, True, False]})
    table = partitions(records, labels, labels[["CD"]].rename(columns={"CD": "LBBB"}))
    assert table["person", "age band"].tolist()[:3] == ["0 to 9", "10 to 19", "90 to 99"]
    assert table["class", EXACTLY_ONE].isna().tolist() == [True, False, False, True]
    assert table["class", EXACTLY_ONE].tolist()[1:3] == ["MI", "CD"]
    assert table["recording", "noise"].tolist() == ["none noted", "noted", "noted", "none noted"]
    assert table["recording", "device"].isna().tolist() == [False, False, True, False]
    assert list(dict.fromkeys(table.columns.get_level_values("group"))) == [
        *("class", "subclass", "person", "recording")
    ]
    assert ("person", "height band") not in table
    assert len(table["subclass"].columns) == 2


def test_a_method_without_clusters_is_left_out() -> None:
    truth = np.random.default_rng(0).integers(0, 3, 90)
    records, labels = world_of(truth, np.zeros(90, int))
    noise = clusters_of(np.full(90, -1))
    table = agreement_table({"KMeans": clusters_of(truth), "HDBSCAN": noise}, records, labels, n_permutations=5)
    assert set(table.index.get_level_values("method")) == {"KMeans"}
    assert len(cluster_agreement(table).axes[0].lines) == 1 + table["ami"].notna().sum()
    with pytest.raises(EcgkitError, match="HDBSCAN"):
        agreement_table({"HDBSCAN": noise}, records, labels)


@pytest.fixture(scope="module")
def compared() -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Clusters follow the device, a little the class, and nothing else; two records per patient, one fold."""
    random = np.random.default_rng(2)
    patient = np.arange(2 * N) // 2
    device = random.integers(0, 4, N)[patient]
    assigned = following(random, device, 4, 0.5)
    records, labels = world_of(following(random, assigned, 3, 0.15), device)
    sex = np.array(["female", "male"])[random.integers(0, 2, N)][patient]
    age = random.uniform(20, 88, N)[patient].round()
    return records.assign(patient_id=patient, sex=sex, age=age), labels, assigned


def test_the_planted_is_found_and_the_absent_is_not(compared) -> None:
    records, labels, assigned = compared
    noise = np.random.default_rng(5).integers(0, 4, len(assigned))
    table = agreement_table({"KMeans": clusters_of(assigned), "noise": clusters_of(noise)}, records, labels)
    first = records.index[::2]
    device = table.loc["KMeans", "recording", "device"]
    assert device["records"] == N  # one per patient
    assert device["ami"] == pytest.approx(adjusted_mutual_info_score(records["device"][first], assigned[first]))
    assert device["ami"] > 10 * device["ami_permuted_97.5"] > 0
    assert device["p"] == pytest.approx(1 / 2001)
    assert device["p_adjusted"] <= 0.05
    one = table.loc["KMeans", "class", EXACTLY_ONE]
    assert one["ami_permuted_97.5"] < one["ami"] < device["ami"]
    for absent in (table.loc["KMeans", "person"], table.loc["noise"]):
        assert (absent["p_adjusted"] > 0.05).all()
        assert (absent["ami"].abs() < 0.01).all()


def test_names_of_clusters_do_not_matter(compared) -> None:
    records, labels, assigned = compared
    renamed = np.array([2, -1, 7, 0])[assigned]  # noise is one more kind
    tables = [
        agreement_table({"A": clusters_of(names)}, records, labels, n_permutations=0)[["kinds", "ami"]]
        for names in (assigned, renamed)
    ]
    pd.testing.assert_frame_equal(*tables)
    information = [
        conditional_information_table(clusters_of(names), records, labels, n_permutations=0)[["information"]]
        for names in (assigned, renamed)
    ]
    pd.testing.assert_frame_equal(*information)


def test_one_cluster_of_all_agrees_with_nothing(compared) -> None:
    records, labels, assigned = compared
    table = agreement_table({"HDBSCAN": clusters_of(np.zeros(len(assigned), int))}, records, labels, n_permutations=20)
    assert (table["ami"].abs() < 1e-9).all()
    assert (table["p"] == 1).all()
    constant = agreement_table({"A": clusters_of(assigned)}, records.assign(device="A"), labels, n_permutations=5)
    assert np.isnan(constant["ami"]["A", "recording", "device"])


def brute_force(assigned: np.ndarray, target: np.ndarray, strata: np.ndarray) -> float:
    """Sum p(c, t, s) log2(p(c, t | s) / p(c | s) p(t | s)) over all that occurs."""
    total, n = 0.0, len(target)
    for c, t, s in product(set(assigned.tolist()), set(target.tolist()), set(strata.tolist())):
        here = strata == s
        joint = (here & (assigned == c) & (target == t)).sum()
        if joint:
            c_share, t_share = (assigned[here] == c).mean(), (target[here] == t).mean()
            total += joint / n * np.log2(joint / here.sum() / (c_share * t_share))
    return total


def test_conditional_information_is_that_of_the_definition() -> None:
    random = np.random.default_rng(3)
    strata = random.choice(5, 300, p=[0.6, 0.2, 0.15, 0.04, 0.01])
    target = following(random, strata, 3, 0.4)
    assigned = following(random, target, 4, 0.5)
    found = conditional_information(assigned, target, strata, seed=0, n_permutations=200)
    assert found["information"] == pytest.approx(brute_force(assigned, target, strata))
    alone = conditional_information(assigned, target, seed=0, n_permutations=200)
    assert alone["information"] == pytest.approx(mutual_info_score(assigned, target) / np.log(2))
    # The interaction information is symmetric.
    swapped = conditional_information(assigned, strata, target, seed=0, n_permutations=0)
    swapped_alone = conditional_information(assigned, strata, seed=0, n_permutations=0)
    taken = alone["information"] - found["information"]
    assert taken == pytest.approx(swapped_alone["information"] - swapped["information"])
    # A shuffle within each stratum by hand.
    shuffled = []
    for _ in range(100):
        moved = assigned.copy()
        for s in range(5):
            moved[strata == s] = random.permutation(assigned[strata == s])
        shuffled.append(brute_force(moved, target, strata))
    assert found["chance"] == pytest.approx(np.mean(shuffled), abs=5 * np.std(shuffled) / np.sqrt(100))
    assert found["beyond"] == pytest.approx(found["information"] - found["chance"])


def test_a_cluster_that_is_the_target_has_all_of_its_information() -> None:
    random = np.random.default_rng(4)
    target, strata = random.integers(0, 3, 500), random.integers(0, 4, 500)
    found = conditional_information(target, target, seed=0, n_permutations=10)
    assert found["information"] == pytest.approx(entropy(np.bincount(target), base=2))
    nothing = conditional_information(target, strata, strata, seed=0, n_permutations=10)
    assert nothing["information"] == pytest.approx(0.0)


def test_clusters_of_the_device_are_distinguished_from_clusters_of_the_diagnosis() -> None:
    random = np.random.default_rng(0)
    device = random.integers(0, 4, N)
    diagnosis = following(random, device, 3, 0.5)  # certain patients are recorded on certain devices
    records, labels = world_of(diagnosis, device)
    of_device = conditional_information_table(clusters_of(following(random, device, 4, 0.6)), records, labels)
    rows = of_device.loc["device"]
    assert rows["p"]["diagnosis"] < 0.05  # alone, the clusters seem to know the diagnosis
    assert rows["p"]["diagnosis given factor"] > 0.05
    assert abs(rows["beyond"]["diagnosis given factor"]) < 0.01
    assert rows["p"]["factor given diagnosis"] < 0.05
    of_diagnosis = conditional_information_table(clusters_of(following(random, diagnosis, 3, 0.6)), records, labels)
    rows = of_diagnosis.loc["device"]
    assert rows["p"]["diagnosis given factor"] < 0.05 < rows["p"]["factor given diagnosis"]
    with pytest.raises(EcgkitError, match="device"):
        conditional_information_table(clusters_of(diagnosis), records.assign(device=pd.NA), labels)


def test_p_values_within_strata_are_even_where_all_follows_the_device() -> None:
    random = np.random.default_rng(7)
    p = []
    for i in range(150):
        device = random.integers(0, 3, 300)
        diagnosis, assigned = following(random, device, 3, 0.5), following(random, device, 3, 0.5)
        p.append(conditional_information(assigned, diagnosis, device, seed=i, n_permutations=99)["p"])
    assert (np.array(p) <= 0.05).mean() <= 0.11
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)


def test_two_equal_causes_have_equal_information() -> None:
    # Two independent halves make the cluster, and each has one bit of it.
    half, other = np.random.default_rng(11).integers(0, 2, (2, 2 * N))
    records, labels = world_of(half, other)
    clusters = clusters_of(2 * half + other)
    table = conditional_information_table(clusters, records, labels[["NORM", "MI"]], n_permutations=200)
    given = table.loc["device"].loc[["diagnosis given factor", "factor given diagnosis"]]
    np.testing.assert_allclose(given["beyond"], 1.0, atol=0.01)
    np.testing.assert_allclose(table["p_adjusted"], benjamini_hochberg(table["p"]))


def test_of_many_tests_of_noise_hardly_any_table_has_a_find() -> None:
    random = np.random.default_rng(13)
    found, found_raw = 0, 0
    for _ in range(8):
        labels = pd.DataFrame(random.random((200, 15)) < 0.3, columns=[f"C{i}" for i in range(15)])
        records = pd.DataFrame({"patient_id": np.arange(200), "fold": 10})
        clusters = {name: clusters_of(random.integers(0, 4, 200)) for name in "AB"}
        table = agreement_table(clusters, records, labels, n_permutations=300)
        for name in "AB":
            np.testing.assert_allclose(table.loc[name, "p_adjusted"], benjamini_hochberg(table.loc[name, "p"]))
        found += (table["p_adjusted"] <= 0.05).groupby(level="method").any().sum()
        found_raw += (table["p"] <= 0.05).groupby(level="method").any().sum()
    assert found <= 3
    assert found_raw >= 5
