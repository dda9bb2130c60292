from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.feature_space import explained_variance, project_pca, project_umap


def test_pca_is_scikit_learns_on_folds_1_to_8(world) -> None:
    projection = project_pca(world.embeddings, world.records)
    training = (world.records["fold"] <= 8).to_numpy()
    scaler = StandardScaler().fit(world.embeddings[training])
    model = PCA(2, svd_solver="full").fit(scaler.transform(world.embeddings[training]))
    test = (world.records["fold"] == 10).to_numpy()
    np.testing.assert_array_equal(projection.positions, np.flatnonzero(test))
    expected = model.transform(scaler.transform(world.embeddings[test]))
    np.testing.assert_allclose(projection.coordinates, expected, atol=1e-3)
    assert (
        projection.axis_labels[0] == f"principal component 1 ({model.explained_variance_ratio_[0]:.0%} of the variance)"
    )
    shares = explained_variance(world.embeddings, world.records)
    assert len(shares) == world.embeddings.shape[1]
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) <= 0).all()


def test_fold_10_does_not_move_the_axes(world) -> None:
    changed = world.embeddings.copy()
    changed[world.records["fold"] > 8] += 100
    before = project_pca(world.embeddings, world.records, folds=(1, 2))
    after = project_pca(changed, world.records, folds=(1, 2))
    np.testing.assert_array_equal(after.coordinates, before.coordinates)


def test_a_choice_is_seeded_and_in_order(world) -> None:
    chosen = project_pca(world.embeddings, world.records, folds=None, max_records=50, seed=3).positions
    assert len(np.unique(chosen)) == 50
    assert (np.diff(chosen) > 0).all()
    again = project_pca(world.embeddings, world.records, folds=None, max_records=50, seed=3)
    np.testing.assert_array_equal(again.positions, chosen)
    assert len(project_pca(world.embeddings, world.records, folds=None).positions) == len(world.records)


def test_what_cannot_be_shown_is_refused(world) -> None:
    with pytest.raises(EcgkitError, match="3 records are too few for UMAP"):
        project_umap(world.embeddings, world.records, max_records=3)
    with pytest.raises(EcgkitError, match="n_components is 13"):
        project_pca(world.embeddings, world.records, n_components=13)


@pytest.mark.slow
def test_umap_keeps_groups_apart_and_is_the_same_for_the_same_seed(world) -> None:
    random = np.random.default_rng(0)
    group = random.integers(0, 2, len(world.records))
    embeddings = (world.noise + 10 * group[:, None]).astype(np.float32)
    first = project_umap(embeddings, world.records, seed=5, n_neighbors=10)
    shown = group[first.positions] == 1
    centres = first.coordinates[shown].mean(axis=0), first.coordinates[~shown].mean(axis=0)
    spread = max(first.coordinates[part].std() for part in (shown, ~shown))
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * spread
    again = project_umap(embeddings, world.records, seed=5, n_neighbors=10)
    np.testing.assert_array_equal(again.coordinates, first.coordinates)
    few = project_umap(embeddings, world.records, max_records=8, seed=5)  # fewer records than neighbours
    assert few.coordinates.shape == (8, 2)
