"""Cards count what a table of the records says, and clusters are matched to labels as well as they can be."""

from __future__ import annotations

import tracemalloc
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, hamming_loss, jaccard_score

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.clusters.cards import cards_table, cluster_cards, cluster_positions, nearest_records
from ecgkit.feature_space.clusters.fit import Clusters, fit_clusters
from ecgkit.feature_space.clusters.matching import RULES, SCORES, match_clusters
from ecgkit.feature_space.standardize import Scaler


def clusters_of(assigned: np.ndarray, k: int | None = None) -> Clusters:
    number = int(assigned.max()) + 1 if k is None else k
    return Clusters(assigned, np.zeros((number, 1), np.float32), Scaler(np.zeros(1), np.ones(1)), 0.0, 0)


@pytest.fixture(scope="module")
def carded(world):
    records = world.records.assign(
        device=pd.array(np.where(world.records["sex"] == "male", "AT-6", "CS-12"), dtype="string"),
        static_noise=pd.array(np.where(world.records["age"] > 70, "alles", None), dtype="string"),
    )
    records.loc[::5, "device"] = pd.NA
    labels = pd.DataFrame({"MI": world.records["age"] > 60, "CD": np.arange(len(world.records)) % 2 == 0, "HYP": False})
    clusters = fit_clusters(world.embeddings, records, k=4, seed=0, n_init=2)
    clusters.assigned[::40] = -1
    return clusters, world.embeddings, records, labels


def test_a_card_counts_what_the_table_of_records_says(carded) -> None:
    clusters, embeddings, records, labels = carded
    cards = cluster_cards(clusters, embeddings, records, labels, folds=None)
    assert [card.cluster for card in cards] == [0, 1, 2, 3, -1]
    assert sum(card.records for card in cards) == len(records)
    for card in cards:
        here = records[clusters.assigned == card.cluster]
        assert card.records == len(here)
        assert card.patients == here["patient_id"].nunique()
        assert card.age == tuple(here["age"].quantile([0.5, 0.25, 0.75]))
        assert card.female == (here["sex"] == "female").mean()
        assert card.height == (here["height"].median(), here["height"].notna().sum())
        annotated = here["device"].notna() | here["static_noise"].notna()
        assert card.remarked == (here["age"] > 70)[annotated].mean()
        share = labels["MI"][here.index].mean()
        assert card.classes["lift"]["MI"] == pytest.approx(share / labels["MI"].mean())
        assert np.isnan(card.classes["lift"]["HYP"])
        known = here["device"].dropna()
        commonest = known.value_counts(normalize=True)
        assert card.devices["share"].to_dict() == pytest.approx(commonest.to_dict())
    assert cards[-1].nearest.empty
    assert [card.name for card in cards] == ["cluster 0", "cluster 1", "cluster 2", "cluster 3", "noise"]
    assert cards[0].overall["age"] == records["age"].median()
    table = cards_table(cards)
    assert list(table.index) == [0, 1, 2, 3, "noise"]
    assert table["nearest"][0].split(", ") == [str(name) for name in cards[0].nearest["record_id"]]


def test_the_nearest_records_are_those_with_the_shortest_distance_one_a_patient(carded) -> None:
    clusters, embeddings, records, _ = carded
    table = nearest_records(clusters, embeddings, records, folds=(9, 10), number=2)
    assert table["cluster"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    standardised = (embeddings - clusters.scaler.mean) / clusters.scaler.scale
    for cluster, found in table.groupby("cluster"):
        rows = np.flatnonzero((clusters.assigned == cluster) & records["fold"].isin((9, 10)))
        distance = np.sqrt(np.square(standardised[rows] - clusters.centres[cluster]).sum(axis=1))
        order = rows[np.argsort(distance)]
        expected = order[~records["patient_id"].iloc[order].duplicated().to_numpy()][:2]
        assert found["position"].tolist() == expected.tolist()
        assert found["record_id"].tolist() == records["record_id"].iloc[expected].tolist()
        np.testing.assert_allclose(
            found["distance"], np.sort(distance)[[0, *np.flatnonzero(np.isin(order, expected))[1:]]], rtol=1e-4
        )


def test_positions_of_clusters_are_those_of_the_folds(carded) -> None:
    clusters, _, records, _ = carded
    positions = cluster_positions(clusters, records)
    assert list(positions) == ["cluster 0", "cluster 1", "cluster 2", "cluster 3", "noise"]
    assert (clusters.assigned[positions["noise"]] == -1).all()
    assert (clusters.assigned[positions["cluster 2"]] == 2).all()
    assert (records["fold"].iloc[np.concatenate(list(positions.values()))] == 10).all()


def test_records_without_a_column_are_refused(carded) -> None:
    clusters, embeddings, records, labels = carded
    with pytest.raises(EcgkitError, match="the records have no column device: add it, blank where unknown"):
        cluster_cards(clusters, embeddings, records.drop(columns="device"), labels)


def counted(tables: dict[tuple[int, str], int], folds: tuple[int, ...] = (1, 10)):
    """Make records of clusters and label combinations, so many of each in each fold; letters are classes."""
    rows = [(cluster, names, fold) for fold in folds for (cluster, names), n in tables.items() for _ in range(n)]
    assigned = np.array([row[0] for row in rows])
    labels = pd.DataFrame({name: [name in row[1] for row in rows] for name in "ABC"})
    records = pd.DataFrame({"patient_id": np.arange(len(rows)), "fold": [row[2] for row in rows]})
    return clusters_of(assigned), records, labels


def test_the_best_first_is_not_the_best_in_all() -> None:
    clusters, records, labels = counted({(0, "A"): 60, (0, "B"): 50, (1, "A"): 55, (1, "C"): 1})
    matching = match_clusters(clusters, records, labels)
    # Who gives cluster 0 its commonest first is left with one match in cluster 1: 61 of 166.
    assert matching.prototypes["one to one"].tolist() == ["B", "A"]
    assert matching.scores["exact_match"]["one to one"] == pytest.approx(105 / 166)
    assert matching.prototypes["commonest"].tolist() == ["A", "A"]
    assert matching.scores["exact_match"]["commonest"] == matching.scores["exact_match"]["constant"]
    assert (matching.n_records, matching.n_combinations) == (166, 3)


@pytest.mark.parametrize("objective", SCORES)
@pytest.mark.parametrize("k", [3, 4, 6])
def test_no_other_assignment_is_better(objective, k) -> None:
    random = np.random.default_rng(k)
    names = ["", "A", "AB", "BC"]  # more or fewer clusters than combinations
    clusters, records, labels = counted({(c, name): int(random.integers(1, 30)) for c in range(k) for name in names})
    matching = match_clusters(clusters, records, labels, objective=objective)
    truth, assigned = labels.to_numpy()[records["fold"] == 10], clusters.assigned[records["fold"] == 10]
    combinations = [np.array([letter in name for letter in "ABC"]) for name in names]
    constant = combinations[names.index(matching.prototypes["constant"].iloc[0].replace("+", "").replace("none", ""))]
    options = combinations + [constant] * max(k - len(names), 0)
    found = []
    for chosen in permutations(range(len(options)), k):
        predicted = np.array([options[i] for i in chosen])[assigned]
        both, either = (predicted & truth).sum(axis=1), (predicted | truth).sum(axis=1)
        found.append(
            {
                "exact_match": (predicted == truth).all(axis=1).mean(),
                "jaccard": np.where(either > 0, both / np.maximum(either, 1), 1.0).mean(),
                "hamming_loss": (predicted != truth).mean(),
            }[objective]
        )
    best = min(found) if objective == "hamming_loss" else max(found)
    assert matching.scores[objective]["one to one"] == pytest.approx(best)


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
    matching = match_clusters(clusters, records, labels)
    rows = (records["fold"] == 10).to_numpy()
    truth = labels.to_numpy()[rows]
    for rule in RULES:
        vectors = [[letter in name for letter in "ABCD"] for name in matching.prototypes[rule]]
        constant = [letter in matching.prototypes["constant"].iloc[0] for letter in "ABCD"]
        predicted = np.array([*vectors, constant])[clusters.assigned[rows]]  # noise, -1, predicts the constant
        scores = matching.scores.loc[rule]
        assert scores["exact_match"] == pytest.approx(accuracy_score(truth, predicted))
        assert scores["jaccard"] == pytest.approx(jaccard_score(truth, predicted, average="samples"))
        assert scores["hamming_loss"] == pytest.approx(hamming_loss(truth, predicted))
    one = matching.scores.loc["one to one"]
    assert one["exact_match"] > one["exact_match_high"] > one["exact_match_low"]
    assert one["hamming_loss"] < one["hamming_loss_low"]
    assert one["exact_match_p"] == one["jaccard_p"] == one["hamming_loss_p"] == pytest.approx(1 / 201)
    random = np.random.default_rng(1)
    vectors = np.array(
        [[letter in name for letter in "ABCD"] for name in [*matching.prototypes["one to one"], constant_of(matching)]]
    )
    shuffled = [accuracy_score(truth, vectors[random.permutation(clusters.assigned[rows])]) for _ in range(200)]
    assert one["exact_match_permuted"] == pytest.approx(np.mean(shuffled), abs=0.01)
    assert matching.scores.loc["constant"].drop(list(SCORES)).isna().all()


def constant_of(matching) -> str:
    return matching.prototypes["constant"].iloc[0]


def test_clusters_without_labels_are_within_chance(many) -> None:
    clusters, records, labels = many
    shuffled = clusters_of(np.random.default_rng(3).permutation(clusters.assigned))
    scores = match_clusters(shuffled, records, labels).scores
    for rule in RULES[:3]:
        for name in SCORES:
            assert scores[f"{name}_p"][rule] > 0.02
            assert scores[f"{name}_low"][rule] - 1e-9 <= scores[name][rule] <= scores[f"{name}_high"][rule] + 0.02


def test_names_of_clusters_and_labels_of_fold_10_change_no_match(many) -> None:
    clusters, records, labels = many
    before = match_clusters(clusters, records, labels)
    order = np.array([2, 0, 3, 1])
    renamed = clusters_of(np.append(order, -1)[clusters.assigned])
    after = match_clusters(renamed, records, labels)
    np.testing.assert_allclose(after.scores[list(SCORES)], before.scores[list(SCORES)])
    for i, name in enumerate(before.prototypes["one to one"]):
        assert after.prototypes["one to one"][order[i]] == name
    changed = labels.copy()
    changed[records["fold"] == 10] = ~changed[records["fold"] == 10]
    pd.testing.assert_frame_equal(match_clusters(clusters, records, changed).prototypes, before.prototypes)


def test_clusters_that_were_never_seen_and_noise_predict_the_constant(many) -> None:
    clusters, records, labels = many
    unseen = clusters_of(np.where(records["fold"] == 10, 4, clusters.assigned), k=5)
    matching = match_clusters(unseen, records, labels)
    assert matching.prototypes["records"][4] == 0
    for name in SCORES:
        assert len(set(matching.scores[name])) == 1
    noise = match_clusters(clusters_of(np.full(len(labels), -1), k=0), records, labels)
    assert noise.prototypes.empty
    for name in SCORES:
        assert len(set(noise.scores[name])) == 1


def test_matching_on_what_it_was_fitted_on_is_refused(many) -> None:
    clusters, records, labels = many
    with pytest.raises(EcgkitError, match="give 9 or 10"):
        match_clusters(clusters, records, labels, folds=(8, 9))
    with pytest.raises(EcgkitError, match="unknown objective 'greedy': choose one of exact_match"):
        match_clusters(clusters, records, labels, objective="greedy")


def test_one_record_a_patient_is_scored(many) -> None:
    clusters, records, labels = many
    test = np.flatnonzero(records["fold"] == 10)
    patients = records["patient_id"].to_numpy().copy()
    patients[test[1::2]] = patients[test[::2]]
    matching = match_clusters(clusters, records.assign(patient_id=patients), labels)
    dropped = np.delete(np.arange(len(records)), test[1::2])
    one_each = match_clusters(
        clusters_of(clusters.assigned[dropped]), records.iloc[dropped], labels.iloc[dropped].reset_index(drop=True)
    )
    assert matching.n_records == one_each.n_records == len(test[::2])
    pd.testing.assert_frame_equal(matching.scores, one_each.scores)


def test_thousands_of_combinations_of_many_classes_fit_into_memory() -> None:
    # With an axis of classes the comparison of all combinations would take 5 GB.
    random = np.random.default_rng(0)
    n = 3400
    labels = pd.DataFrame(random.random((n, 60)) < 0.3, columns=[f"C{i}" for i in range(60)])
    records = pd.DataFrame({"patient_id": np.arange(n), "fold": np.arange(n) % 10 + 1})
    tracemalloc.start()
    matching = match_clusters(clusters_of(random.integers(0, 5, n)), records, labels, n_permutations=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert matching.n_combinations > 2700
    assert peak < 0.5e9
