"""Ward's method, HDBSCAN and the number of clusters find what is planted, in folds 1-8 alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import fcluster, ward
from sklearn.metrics import adjusted_rand_score

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.clusters import fit, selection
from ecgkit.feature_space.clusters.fit import NOISE, fit_hdbscan, fit_ward, methods_table
from ecgkit.feature_space.clusters.selection import k_selection

N = 500


@pytest.fixture(scope="module")
def planted():
    """Three groups far apart, and every tenth record far from all and from each other."""
    random = np.random.default_rng(0)
    group = random.choice(3, N, p=[0.25, 0.5, 0.25])
    embeddings = random.standard_normal((N, 4)) + 12 * np.eye(3, 4)[group]
    stray = np.arange(N) % 11 == 0
    embeddings[stray] = random.uniform(-150, 150, (stray.sum(), 4))
    records = pd.DataFrame({"record_id": np.arange(N) + 7, "patient_id": np.arange(N) // 2})
    records["fold"] = records["patient_id"] % 10 + 1
    return embeddings.astype(np.float32), records, np.where(stray, NOISE, group)


def test_ward_is_that_of_scipy_and_the_rest_goes_to_the_nearest_centre(planted, monkeypatch) -> None:
    embeddings, records, group = planted
    kept = group >= 0
    embeddings, records, group = embeddings[kept], records[kept].reset_index(drop=True), group[kept]
    clusters = fit_ward(embeddings, records, k=5, seed=0)
    training = (records["fold"] <= 8).to_numpy()
    points = clusters.scaler.transform(embeddings[training])
    assert adjusted_rand_score(fcluster(ward(points), 5, "maxclust"), clusters.assigned[training]) == 1.0
    assert (clusters.k, clusters.n_fitted) == (5, training.sum())
    monkeypatch.setattr(fit, "WARD_RECORDS", 100)
    monkeypatch.setattr(fit, "WARD_COMPONENTS", 2)
    sampled = fit_ward(embeddings, records, k=3, seed=0)
    assert (sampled.n_fitted, sampled.n_dimensions) == (100, 2)
    assert adjusted_rand_score(group, sampled.assigned) > 0.98
    assert set(sampled.assigned[group == 1]) == {0}  # the largest


def test_hdbscan_finds_the_number_of_groups_and_leaves_strays_out(planted, monkeypatch) -> None:
    monkeypatch.setattr(fit, "MIN_CLUSTER_SIZE", 20)
    embeddings, records, group = planted
    clusters = fit_hdbscan(embeddings, records, seed=0)
    assert clusters.k == 3
    assert (clusters.assigned[group == NOISE] == NOISE).mean() > 0.9
    inside = (group >= 0) & (clusters.assigned >= 0)
    assert inside.sum() > 0.9 * (group >= 0).sum()
    assert adjusted_rand_score(group[inside], clusters.assigned[inside]) > 0.99
    table = methods_table({"HDBSCAN": clusters}, records.assign(fold=10))
    assert table["noise"]["HDBSCAN"] == pytest.approx((clusters.assigned == NOISE).mean())
    assert table["largest"]["HDBSCAN"] == (clusters.assigned == 0).sum()


@pytest.mark.parametrize("n", [2, 5, 24, 40])
def test_of_few_records_smaller_groups_are_looked_for(n) -> None:
    group = np.arange(n) // max(n // 2, 1) % 2
    points = 20 * np.eye(2)[group] + np.random.default_rng(0).standard_normal((n, 2))
    records = pd.DataFrame({"record_id": np.arange(n), "patient_id": np.arange(n), "fold": 1})
    clusters = fit_hdbscan(points.astype(np.float32), records, seed=0)
    assert len(clusters.assigned) == n
    if n >= 24:
        assert clusters.k == 2
        inside = clusters.assigned >= 0
        assert inside.mean() > 0.8
        assert adjusted_rand_score(group[inside], clusters.assigned[inside]) == 1


def test_where_nothing_is_dense_all_is_noise(planted, monkeypatch) -> None:
    monkeypatch.setattr(fit, "MIN_CLUSTER_SIZE", 150)
    _, records, _ = planted
    even = np.random.default_rng(0).uniform(size=(N, 5)).astype(np.float32)
    clusters = fit_hdbscan(even, records, seed=0)
    assert (clusters.k, set(clusters.assigned)) == (0, {NOISE})
    assert methods_table({"HDBSCAN": clusters}, records)["clusters"]["HDBSCAN"] == 0


@pytest.mark.parametrize("method", [partial(fit_ward, k=3), fit_hdbscan])
def test_fold_10_changes_nothing(planted, method, monkeypatch) -> None:
    embeddings, records, _ = planted
    for name, value in (("MIN_CLUSTER_SIZE", 20), ("WARD_COMPONENTS", 2), ("HDBSCAN_COMPONENTS", 2)):
        monkeypatch.setattr(fit, name, value)
    before = method(embeddings, records, seed=0)
    training = (records["fold"] <= 8).to_numpy()
    changed = np.where(training[:, None], embeddings, -30 * embeddings)
    after = method(changed, records, seed=0)
    np.testing.assert_array_equal(after.centres, before.centres)
    np.testing.assert_array_equal(after.assigned[training], before.assigned[training])


def test_settings_that_cannot_be_had_are_refused(planted) -> None:
    embeddings, records, _ = planted
    with pytest.raises(EcgkitError, match="k is 600"):
        fit_ward(embeddings, records, k=600, seed=0)
    with pytest.raises(EcgkitError, match="to 1"):
        fit_hdbscan(embeddings[:1], records[:1].assign(fold=1), seed=0)


@pytest.fixture(scope="module")
def selected(planted) -> pd.DataFrame:
    embeddings, records, group = planted
    kept = group >= 0
    return k_selection(embeddings[kept], records[kept].reset_index(drop=True), ks=(2, 3, 5, 8), seed=0, n_repeats=4)


def test_silhouette_and_stability_peak_at_the_number_of_groups(selected) -> None:
    table = selected.set_index("k")
    assert table["silhouette"].idxmax() == 3
    assert table["silhouette"][3] > table["silhouette_reference"][3] + 0.2
    assert (table["inertia"].diff().dropna() < 0).all()
    assert table["stability"][3] > 0.99 > table["stability_reference"][3] + 0.2
    assert table["stability"][8] < 0.9
    assert (table["stability_low"] <= table["stability"] + 1e-12).all()
    assert (table["stability"] <= table["stability_high"] + 1e-12).all()


def test_many_clusters_of_noise_are_not_stable(world) -> None:
    table = k_selection(world.noise, world.records, ks=(7,), seed=0, n_repeats=4)
    assert table["stability"][0] < 0.5
    assert table["silhouette"][0] == pytest.approx(table["silhouette_reference"][0], abs=0.02)
    assert table["stability"][0] == pytest.approx(table["stability_reference"][0], abs=0.15)


def test_the_number_of_clusters_is_chosen_in_folds_1_to_8(planted) -> None:
    embeddings, records, _ = planted
    training = (records["fold"] <= 8).to_numpy()
    changed = np.where(training[:, None], embeddings, -30 * embeddings)
    settings = dict(ks=(3,), seed=0, n_repeats=2)
    pd.testing.assert_frame_equal(
        k_selection(changed, records, **settings), k_selection(embeddings, records, **settings)
    )


def test_a_bootstrap_draws_patients_with_all_their_records(planted, monkeypatch) -> None:
    embeddings, records, _ = planted
    drawn = []

    def spy(points, **keywords):
        drawn.append(points)
        return fit_kmeans(points, **keywords)

    fit_kmeans = selection.fit_kmeans
    monkeypatch.setattr(selection, "fit_kmeans", spy)
    k_selection(embeddings, records, ks=(2,), seed=0, n_repeats=2)
    training = records[records["fold"] <= 8].reset_index(drop=True)
    for points in drawn[2:4]:  # after the fits of the records and of the reference
        times = np.array([(points == point).all(axis=1).sum() for point in drawn[0]])
        of_patient = training.assign(times=times).groupby("patient_id")["times"]
        assert (of_patient.min() == of_patient.max()).all()
        assert 0.2 < (times == 0).mean() < 0.5  # 1 / e of the patients are left out
    assert len(drawn) == 6
