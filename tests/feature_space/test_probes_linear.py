from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes.linear import ALPHAS, LinearProbe, Problem, fit_linear, patient_splits


def fit_ridge(points, values, patients, *, seed: int) -> LinearProbe:
    return fit_linear(points, {"": Problem(np.asarray(values, float), is_class=False)}, patients, seed=seed)[""]


def fit_logistic(points, classes, patients, *, seed: int, cs=()) -> LinearProbe:
    problem = Problem(np.asarray(classes, float), is_class=True, strengths=cs)
    return fit_linear(points, {"": problem}, patients, seed=seed)[""]


def in_folds(world, *folds):
    return world.records["fold"].isin(folds).to_numpy()


def test_ridge_is_scikit_learns_at_every_strength(world) -> None:
    rows = np.flatnonzero(in_folds(world, *range(1, 9)))
    points, age = world.embeddings[rows], world.records["age"].to_numpy()[rows]
    patients = world.records["patient_id"].to_numpy()[rows]
    probe = fit_ridge(points, age, patients, seed=4)
    for alpha, found in probe.trials.iloc[::5].itertuples(index=False):
        held_out = np.empty(len(age))
        for inner, outer in patient_splits(patients, seed=4):
            scaler = StandardScaler().fit(points[inner])
            model = Ridge(alpha=alpha).fit(scaler.transform(points[inner]), age[inner])
            held_out[outer] = model.predict(scaler.transform(points[outer]))
        assert found == pytest.approx(r2_score(age, held_out), abs=1e-5)
    best = probe.trials["r2"].idxmax()
    assert probe.strength == ALPHAS[best] == probe.trials["alpha"][best]
    scaler = StandardScaler().fit(points)
    by_hand = Ridge(alpha=probe.strength).fit(scaler.transform(points), age)
    np.testing.assert_allclose(
        probe.outputs(world.embeddings)[:, 0], by_hand.predict(scaler.transform(world.embeddings)), rtol=1e-4
    )


def test_more_features_than_records_are_scikit_learns_too() -> None:
    random = np.random.default_rng(0)
    points, patients = random.standard_normal((90, 300)) * random.uniform(0.1, 9, 300) + 4, np.arange(90) // 2
    points[:, 7] = 1.0
    age = points[:, :20].sum(axis=1) + random.normal(0, 9, 90)
    old = (age > np.median(age)).astype(float)
    problems = {"age": Problem(age, is_class=False), "old": Problem(old, is_class=True, strengths=(1e-3, 1e-2))}
    found = fit_linear(points.astype(np.float32), problems, patients, seed=4)
    splits = patient_splits(patients, seed=4)
    for name, values, models in (
        ("age", age, {alpha: Ridge(alpha=alpha) for alpha in ALPHAS[::4]}),
        ("old", old, {c: LogisticRegression(C=c, tol=1e-6) for c in (1e-3, 1e-2)}),
    ):
        trials = found[name].trials.set_index(found[name].strength_name).iloc[:, 0]
        for strength, model in models.items():
            held_out = np.empty(90)
            for inner, outer in splits:
                pipeline = make_pipeline(StandardScaler(), model).fit(points[inner], values[inner])
                new = points[outer]
                held_out[outer] = pipeline.predict(new) if name == "age" else pipeline.predict_proba(new)[:, 1]
            score = r2_score(age, held_out) if name == "age" else log_loss(old, held_out)
            assert trials[strength] == pytest.approx(score, abs=2e-3)
    best = make_pipeline(StandardScaler(), Ridge(alpha=found["age"].strength)).fit(points, age)
    np.testing.assert_allclose(found["age"].outputs(points)[:, 0], best.predict(points), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_is_scikit_learns(world, n_classes: int) -> None:
    rows = np.flatnonzero(in_folds(world, *range(1, 9)))
    points = world.embeddings[rows].astype(np.float64)
    classes = np.digitize(points[:, 3] + points[:, 4], np.arange(1, n_classes) * 8.0).astype(np.int64)
    patients = world.records["patient_id"].to_numpy()[rows]
    probe = fit_logistic(points, classes, patients, seed=4, cs=(1e-4, 1e-3))
    splits = patient_splits(patients, seed=4)[: 5 if n_classes == 2 else 3]
    scored = np.concatenate([outer for _, outer in splits])
    for c, found in probe.trials.itertuples(index=False):
        held_out = np.empty((len(classes), n_classes))
        for inner, outer in splits:
            scaler = StandardScaler().fit(points[inner])
            model = LogisticRegression(C=c, tol=1e-6).fit(scaler.transform(points[inner]), classes[inner])
            held_out[outer] = model.predict_proba(scaler.transform(points[outer]))
        assert found == pytest.approx(log_loss(classes[scored], held_out[scored]), abs=1e-3)
    assert probe.strength == 1e-3
    scaler = StandardScaler().fit(points)
    by_hand = LogisticRegression(C=1e-3, tol=1e-6).fit(scaler.transform(points), classes)
    expected = by_hand.predict_proba(scaler.transform(world.embeddings))
    np.testing.assert_allclose(probe.probability(world.embeddings), expected, atol=2e-3)
    assert (probe.decide(world.embeddings) == by_hand.predict(scaler.transform(world.embeddings))).mean() > 0.995


def test_all_records_of_a_patient_are_on_one_side_of_every_split() -> None:
    patients = np.random.default_rng(0).integers(0, 30, 200)
    seen = []
    for inner, outer in patient_splits(patients, seed=0):
        assert not set(patients[inner]) & set(patients[outer])
        seen.append(outer)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(200))


def test_what_only_recognises_patients_is_worth_nothing_in_cross_validation() -> None:
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 4)
    signature = random.standard_normal((60, 40)).astype(np.float32)[patients]
    age = random.uniform(20, 90, 60)[patients]
    probe = fit_ridge(signature, age, patients, seed=0)
    assert probe.trials["r2"].max() < 0.05
    assert probe.strength > 100


def test_problems_that_share_their_work_are_those_fitted_alone(world) -> None:
    rows = np.flatnonzero(in_folds(world, *range(1, 9)))
    points, patients = world.embeddings[rows], world.records["patient_id"].to_numpy()[rows]
    records = world.records.iloc[rows]
    age, height = records["age"].to_numpy(), records["height"].to_numpy()
    female = (records["sex"] == "female").to_numpy(dtype=float)
    problems = {
        "age": Problem(age, is_class=False),
        "height": Problem(height, is_class=False),
        "sex": Problem(female, is_class=True),
    }
    together = fit_linear(points, problems, patients, seed=2)
    known = np.isfinite(height)
    alone = {
        "age": fit_ridge(points, age, patients, seed=2),
        "height": fit_ridge(points[known], height[known], patients[known], seed=2),
        "sex": fit_logistic(points, female.astype(np.int64), patients, seed=2),
    }
    for name, probe in alone.items():
        assert together[name].strength == probe.strength
        np.testing.assert_allclose(together[name].outputs(points), probe.outputs(points), rtol=1e-6)
        pd.testing.assert_frame_equal(together[name].trials, probe.trials)


def test_predictions_do_not_depend_on_units_and_order_of_the_features(world) -> None:
    rows = np.flatnonzero(in_folds(world, *range(1, 9)))
    points = world.embeddings[rows].astype(np.float64)
    age, patients = world.records["age"].to_numpy()[rows], world.records["patient_id"].to_numpy()[rows]
    old = (age > 60).astype(np.int64)
    random = np.random.default_rng(0)
    order, scale = random.permutation(points.shape[1]), random.uniform(0.01, 100, points.shape[1])
    changed = (points * scale + 7)[:, order]
    for before, after in (
        (
            fit_ridge(points, age, patients, seed=0).outputs(points),
            fit_ridge(changed, age, patients, seed=0).outputs(changed),
        ),
        (
            fit_logistic(points, old, patients, seed=0).probability(points),
            fit_logistic(changed, old, patients, seed=0).probability(changed),
        ),
    ):
        np.testing.assert_allclose(after, before, rtol=2e-3)


def test_one_strength_alone_is_taken_without_splits(world) -> None:
    classes = (world.embeddings[:, 1] > 8).astype(np.float64)
    problem = Problem(classes, is_class=True, strengths=(0.01,))
    probe = fit_linear(world.embeddings, {"x": problem}, np.zeros(len(classes)), seed=0)["x"]
    assert probe.strength == 0.01
    assert probe.trials["log_loss"].isna().all()
    with pytest.raises(EcgkitError, match="the records of two patients"):
        fit_logistic(world.embeddings, classes.astype(np.int64), np.zeros(len(classes)), seed=0)
