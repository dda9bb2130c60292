"""Tables describe the records of clusters, and clusters are matched to labels by the best assignment."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, hamming_loss, jaccard_score

from ecgkit.feature_space.clusters.content import cluster_members, cluster_table, nearest_records
from ecgkit.feature_space.clusters.fit import Clusters, fit_clusters
from ecgkit.feature_space.clusters.matching import match_clusters
from ecgkit.feature_space.standardize import Scaler

SCORES = ["exact_match", "jaccard", "hamming_loss"]


def clusters_of(assigned: np.ndarray, k: int | None = None) -> Clusters:
    number = int(assigned.max()) + 1 if k is None else k
    return Clusters(assigned, np.zeros((number, 1), np.float32), Scaler(np.zeros(1), np.ones(1)), 0)


@pytest.fixture(scope="module")
def carded(world):
    records = world.records.assign(
        device=pd.array(np.where(world.records["sex"] == "male", "AT-6", "CS-12"), dtype="string"),
        static_noise=pd.array(np.where(world.records["age"] > 70, "alles", None), dtype="string"),
    )
    records.loc[::5, "device"] = pd.NA
    labels = pd.DataFrame({"MI": world.records["age"] > 60, "CD": np.arange(len(world.records)) % 2 == 0, "HYP": False})
    clusters = fit_clusters(world.embeddings, records, k=4, seed=0)
    clusters.assigned[::40] = -1
    return clusters, world.embeddings, records, labels


def test_the_table_counts_what_the_records_hold(carded) -> None:
    clusters, embeddings, records, _ = carded
    table = cluster_table(clusters, embeddings, records.assign(fold=10))
    assert list(table.index) == ["cluster 0", "cluster 1", "cluster 2", "cluster 3", "noise", "all"]
    assert table["records"]["all"] == len(records) == table["records"][:-1].sum()
    for number in range(4):
        here, row = records[clusters.assigned == number], table.loc[f"cluster {number}"]
        assert row["records"] == len(here)
        assert row["patients"] == here["patient_id"].nunique()
        assert (row["age"], row["height"]) == (here["age"].median(), here["height"].median())
        assert row["female"] == (here["sex"] == "female").mean()
        shares = here["device"].dropna().value_counts(normalize=True)
        assert row["device"] == f"{shares.index[0]} ({shares.iloc[0]:.0%})"
    nearest = nearest_records(clusters, embeddings, records.assign(fold=10))
    assert table["nearest"]["cluster 0"].split(", ") == list(nearest.loc[nearest["cluster"] == 0, "record_id"])
    assert table["nearest"]["noise"] == ""
    plain = cluster_table(clusters, embeddings, records[["record_id", "patient_id", "fold"]])
    assert list(plain.columns) == ["records", "patients", "nearest"]


def test_the_nearest_records_are_those_with_the_shortest_distance_one_per_patient(carded) -> None:
    clusters, embeddings, records, _ = carded
    table = nearest_records(clusters, embeddings, records)
    assert table["cluster"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    standardized = (embeddings - clusters.scaler.mean) / clusters.scaler.scale
    for cluster, found in table.groupby("cluster"):
        rows = np.flatnonzero((clusters.assigned == cluster) & (records["fold"] == 10))
        distance = np.sqrt(np.square(standardized[rows] - clusters.centres[cluster]).sum(axis=1))
        order = rows[np.argsort(distance)]
        expected = order[~records["patient_id"].iloc[order].duplicated().to_numpy()][:3]
        assert found["record_id"].tolist() == records["record_id"].iloc[expected].tolist()
        np.testing.assert_allclose(
            found["distance"], np.sort(distance)[np.flatnonzero(np.isin(order, expected))], rtol=1e-4
        )


def test_members_of_clusters_are_those_of_the_folds(carded) -> None:
    clusters, _, records, _ = carded
    members = cluster_members(clusters, records)
    assert list(members) == ["cluster 0", "cluster 1", "cluster 2", "cluster 3", "noise"]
    assert (clusters.assigned[members["noise"]] == -1).all()
    assert (clusters.assigned[members["cluster 2"]] == 2).all()
    assert (records["fold"].iloc[np.concatenate(list(members.values()))] == 10).all()


def counted(tables: dict[tuple[int, str], int], folds: tuple[int, ...] = (1, 10)):
    """Make records of clusters and label combinations, so many of each in each fold; letters are classes."""
    rows = [(cluster, names, fold) for fold in folds for (cluster, names), n in tables.items() for _ in range(n)]
    assigned = np.array([row[0] for row in rows])
    labels = pd.DataFrame({name: [name in row[1] for row in rows] for name in "ABC"})
    records = pd.DataFrame({"patient_id": np.arange(len(rows)), "fold": [row[2] for row in rows]})
    return clusters_of(assigned), records, labels


def test_a_greedy_assignment_is_not_the_best() -> None:
    clusters, records, labels = counted({(0, "A"): 60, (0, "B"): 50, (1, "A"): 55, (1, "C"): 1})
    scores, combinations = match_clusters(clusters, records, labels)
    # With its most frequent combination for cluster 0, one match is left for cluster 1: 61 of 166.
    assert combinations.tolist() == ["B", "A"]
    assert scores["exact_match"]["matched clusters"] == pytest.approx(105 / 166)
    assert scores["exact_match"]["constant"] == pytest.approx(115 / 166)


@pytest.mark.parametrize("k", [3, 4])
def test_no_other_assignment_is_better(k) -> None:
    random = np.random.default_rng(k)
    names = ["", "A", "AB", "BC"]
    clusters, records, labels = counted({(c, name): int(random.integers(1, 30)) for c in range(k) for name in names})
    scores, _ = match_clusters(clusters, records, labels)
    truth, assigned = labels.to_numpy()[records["fold"] == 10], clusters.assigned[records["fold"] == 10]
    combinations = [np.array([letter in name for letter in "ABC"]) for name in names]
    found = [(np.array(chosen)[assigned] == truth).all(axis=1).mean() for chosen in permutations(combinations, k)]
    assert scores["exact_match"]["matched clusters"] == pytest.approx(max(found))


@pytest.fixture(scope="module")
def many() -> tuple[Clusters, pd.DataFrame, pd.DataFrame]:
    random = np.random.default_rng(0)
    n = 2000
    assigned = random.integers(-1, 4, n)
    labels = pd.DataFrame({name: (assigned == i) ^ (random.random(n) < 0.2) for i, name in enumerate("ABCD")})
    labels.loc[~labels.any(axis=1), "D"] = True
    records = pd.DataFrame({"patient_id": np.arange(n), "fold": np.arange(n) % 10 + 1})
    return clusters_of(assigned), records, labels


def test_scores_are_scikit_learns(many) -> None:
    clusters, records, labels = many
    scores, combinations = match_clusters(clusters, records, labels)
    rows = (records["fold"] == 10).to_numpy()
    truth = labels.to_numpy()[rows]
    training = labels[records["fold"] <= 8].value_counts().index[0]
    vectors = np.array([*([letter in name for letter in "ABCD"] for name in combinations), list(training)])
    for name, predicted in (
        ("matched clusters", vectors[clusters.assigned[rows]]),  # noise, -1, predicts the constant
        ("constant", np.repeat(vectors[-1:], rows.sum(), axis=0)),
    ):
        assert scores["exact_match"][name] == pytest.approx(accuracy_score(truth, predicted))
        assert scores["jaccard"][name] == pytest.approx(jaccard_score(truth, predicted, average="samples"))
        assert scores["hamming_loss"][name] == pytest.approx(hamming_loss(truth, predicted))
    one = scores.loc["matched clusters"]
    assert one["exact_match_p"] == pytest.approx(1 / 201)
    assert np.isnan(scores["exact_match_p"]["constant"])


def test_clusters_without_labels_are_within_chance(many) -> None:
    clusters, records, labels = many
    shuffled = clusters_of(np.random.default_rng(3).permutation(clusters.assigned))
    scores, _ = match_clusters(shuffled, records, labels)
    assert scores["exact_match_p"]["matched clusters"] > 0.02


def test_names_of_clusters_and_labels_of_fold_10_change_no_match(many) -> None:
    clusters, records, labels = many
    scores, combinations = match_clusters(clusters, records, labels)
    order = np.array([2, 0, 3, 1])
    after, renamed = match_clusters(clusters_of(np.append(order, -1)[clusters.assigned]), records, labels)
    np.testing.assert_allclose(after[SCORES], scores[SCORES])
    assert renamed[order].tolist() == combinations.tolist()
    changed = labels.copy()
    changed[records["fold"] == 10] = ~changed[records["fold"] == 10]
    pd.testing.assert_series_equal(match_clusters(clusters, records, changed)[1], combinations)


def test_unseen_clusters_and_noise_predict_the_constant(many) -> None:
    clusters, records, labels = many
    unseen = clusters_of(np.where(records["fold"] == 10, 4, clusters.assigned), k=5)
    noise = clusters_of(np.full(len(labels), -1), k=0)
    for some in (unseen, noise):
        scores, combinations = match_clusters(some, records, labels)
        assert len(combinations) == some.k
        for name in SCORES:
            assert len(set(scores[name])) == 1


def test_one_record_per_patient_is_scored(many) -> None:
    clusters, records, labels = many
    test = np.flatnonzero(records["fold"] == 10)
    patients = records["patient_id"].to_numpy().copy()
    patients[test[1::2]] = patients[test[::2]]
    found, _ = match_clusters(clusters, records.assign(patient_id=patients), labels)
    kept = np.delete(np.arange(len(records)), test[1::2])
    one_each, _ = match_clusters(
        clusters_of(clusters.assigned[kept]), records.iloc[kept], labels.iloc[kept].reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(found, one_each)
