from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.clusters import agreement_table, cluster_composition, fit_clusters
from ecgkit.feature_space.clusters.agreement import EXACTLY_ONE


@pytest.fixture(scope="module")
def blobs():
    """Three groups far apart, one of them twice as large; the labels follow them but for some records."""
    random = np.random.default_rng(0)
    group = random.choice(3, 600, p=[0.25, 0.5, 0.25])
    embeddings = random.standard_normal((600, 5)) + 8 * np.eye(3, 5)[group]
    records = pd.DataFrame({"patient_id": np.arange(600), "fold": np.arange(600) % 10 + 1})
    labels = pd.DataFrame({name: group == i for i, name in enumerate(("A", "B", "C"))})
    labels.loc[::7, "A"] = True
    return embeddings.astype(np.float32), records, labels, group


def test_groups_are_found_and_the_largest_is_cluster_0(blobs) -> None:
    embeddings, records, _, group = blobs
    clusters = fit_clusters(embeddings, records, k=3, seed=0)
    assert adjusted_rand_score(group, clusters.assigned) > 0.99
    assert set(clusters.assigned[group == 1]) == {0}
    assert clusters.k == 3
    again = fit_clusters(embeddings, records, k=3, seed=0)
    np.testing.assert_array_equal(again.assigned, clusters.assigned)


def test_fold_10_changes_nothing_in_the_clusters(blobs) -> None:
    embeddings, records, _, _ = blobs
    before = fit_clusters(embeddings, records, k=3, seed=0)
    changed = embeddings.copy()
    changed[records["fold"] > 8] *= -30
    after = fit_clusters(changed, records, k=3, seed=0)
    np.testing.assert_array_equal(after.centres, before.centres)
    np.testing.assert_array_equal(after.scaler.mean, before.scaler.mean)
    training = embeddings[records["fold"] <= 8].astype(np.float64)
    np.testing.assert_allclose(before.scaler.mean, training.mean(axis=0))
    np.testing.assert_allclose(before.scaler.scale, training.std(axis=0))


def test_agreement_is_scikit_learns_class_by_class_and_on_single_label_records(blobs) -> None:
    embeddings, records, labels, _ = blobs
    clusters = fit_clusters(embeddings, records, k=3, seed=0)
    table = agreement_table({"KMeans": clusters}, records, labels, n_permutations=5)
    table = table.loc["KMeans"].loc["class"]
    assert list(table.index) == ["A", "B", "C", EXACTLY_ONE]
    rows = (records["fold"] == 10).to_numpy()
    assigned, truth = clusters.assigned[rows], labels[rows]
    for name in labels:
        assert table["ami"][name] == pytest.approx(adjusted_mutual_info_score(truth[name], assigned))
        assert table["records"][name] == 60
    single = (truth.sum(axis=1) == 1).to_numpy()
    only = truth.to_numpy()[single].argmax(axis=1)
    assert 0 < table["records"][EXACTLY_ONE] == single.sum() < 60
    assert table["ami"][EXACTLY_ONE] == pytest.approx(adjusted_mutual_info_score(only, assigned[single]))


def test_agreement_with_a_class_that_nobody_has_is_unknown(blobs) -> None:
    embeddings, records, labels, _ = blobs
    clusters = {"KMeans": fit_clusters(embeddings, records, k=2, seed=0)}
    row = agreement_table(clusters, records, labels.assign(D=False), n_permutations=5).loc["KMeans", "class", "D"]
    assert row[["ami", "p", "p_adjusted"]].isna().all()


def test_composition_counts_every_class_of_a_record(blobs) -> None:
    embeddings, records, labels, _ = blobs
    clusters = fit_clusters(embeddings, records, k=3, seed=0)
    table = cluster_composition(clusters, records.assign(fold=10), labels)
    assert list(table.index) == ["cluster 0", "cluster 1", "cluster 2", "all"]
    assert table.loc["all"].tolist() == [600, *labels.sum()]
    assert table["B"]["cluster 1"] == labels["B"][clusters.assigned == 1].sum()


def test_numbers_of_clusters_that_cannot_be_had_are_refused(blobs) -> None:
    embeddings, records, labels, _ = blobs
    for k in (1, 481):
        with pytest.raises(EcgkitError, match=f"k is {k}"):
            fit_clusters(embeddings, records, k=k, seed=0)
    clusters = fit_clusters(embeddings, records, k=2, seed=0)
    with pytest.raises(EcgkitError, match="no record of fold 10"):
        cluster_composition(clusters, records.assign(fold=9), labels)
