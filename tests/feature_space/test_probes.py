from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, log_loss, mean_absolute_error, r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from ecgkit.errors import EcgkitError
from ecgkit.feature_space import TARGETS, fit_probes
from ecgkit.feature_space.linear import ALPHAS, fit_logistic, fit_ridge, patient_splits
from ecgkit.feature_space.probes import score
from ecgkit.store import Dataset

AGE, SEX, HEIGHT, WEIGHT = TARGETS


@pytest.fixture(scope="module")
def results(world):
    return fit_probes(world.embeddings, world.records, seed=1, untrained=world.noise)


def in_folds(world, *folds):
    return world.records["fold"].isin(folds).to_numpy()


def test_a_planted_signal_is_found_and_beats_untrained_encoder_and_baseline(results) -> None:
    age, sex = results["age"].metrics, results["sex"].metrics
    assert age["probe"]["r2"] == pytest.approx(0.5, abs=0.08)  # one standard deviation of age in one of noise
    assert age["probe"]["f1"] > age["baseline"]["f1"] + 0.1
    assert sex["probe"]["auc"] == pytest.approx(0.92, abs=0.04)  # two normal distributions, two deviations apart
    assert sex["baseline"]["auc"] == 0.5
    for metrics, metric in ((age, "r2"), (sex, "auc"), (sex, "f1")):
        assert metrics["probe"][metric] > metrics["untrained"][metric] + 0.2


@pytest.mark.parametrize("encoder", ["probe", "untrained"])
def test_an_absent_signal_is_not_found(results, encoder: str) -> None:
    assert -0.05 < results["weight"].metrics[encoder]["r2"] <= 0.02
    assert -0.05 < results["height"].metrics[encoder]["r2"] <= 0.04
    table = results["sex"].predictions
    random = np.random.default_rng(0)
    shuffled = [roc_auc_score(random.permutation(table["true"]), table["untrained"]) for _ in range(300)]
    low, high = np.percentile(shuffled, [0.5, 99.5])
    assert low <= results["sex"].metrics["untrained"]["auc"] <= high


def test_baseline_is_the_mean_and_the_commonest_class_of_folds_1_to_8(world, results) -> None:
    training, test = in_folds(world, *range(1, 9)), in_folds(world, 10)
    mean = world.records["age"][training].mean()
    expected = mean_absolute_error(world.records["age"][test], np.full(test.sum(), mean))
    assert results["age"].metrics["baseline"]["mae"] == pytest.approx(expected)
    assert abs(results["age"].metrics["baseline"]["r2"]) < 0.03
    common = world.records["sex"][training].mode()[0]
    assert results["sex"].metrics["baseline"]["accuracy"] == pytest.approx(
        (world.records["sex"][test] == common).mean()
    )


def test_ridge_is_scikit_learns_at_every_strength(world) -> None:
    rows = np.flatnonzero(in_folds(world, *range(1, 9)))
    points, age = world.embeddings[rows], world.records["age"].to_numpy()[rows]
    patients = world.records["patient_id"].to_numpy()[rows]
    probe = fit_ridge(points, age, patients, seed=4)
    for alpha, found in probe.trials.iloc[::5].itertuples(index=False):
        held_out = np.empty(len(age))
        for inner, outer in patient_splits(patients, 4):
            scaler = StandardScaler().fit(points[inner])
            model = Ridge(alpha=alpha).fit(scaler.transform(points[inner]), age[inner])
            held_out[outer] = model.predict(scaler.transform(points[outer]))
        assert found == pytest.approx(r2_score(age, held_out), abs=1e-5)
    best = probe.trials["r2"].idxmax()
    assert probe.strength == ALPHAS[best] == probe.trials["alpha"][best]
    scaler = StandardScaler().fit(points)
    by_hand = Ridge(alpha=probe.strength).fit(scaler.transform(points), age)
    np.testing.assert_allclose(
        probe.value(world.embeddings), by_hand.predict(scaler.transform(world.embeddings)), rtol=1e-4
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_is_scikit_learns(world, n_classes: int) -> None:
    rows = np.flatnonzero(in_folds(world, *range(1, 9)))
    points = world.embeddings[rows].astype(np.float64)
    classes = np.digitize(points[:, 3] + points[:, 4], np.arange(1, n_classes) * 8.0).astype(np.int64)
    patients = world.records["patient_id"].to_numpy()[rows]
    probe = fit_logistic(points, classes, patients, seed=4, cs=(1e-4, 1e-3), n_splits=2)
    for c, found in probe.trials.itertuples(index=False):
        held_out = np.empty((len(classes), n_classes))
        for inner, outer in patient_splits(patients, 4, 2):
            scaler = StandardScaler().fit(points[inner])
            model = LogisticRegression(C=c, tol=1e-6).fit(scaler.transform(points[inner]), classes[inner])
            held_out[outer] = model.predict_proba(scaler.transform(points[outer]))
        assert found == pytest.approx(log_loss(classes, held_out), abs=1e-3)
    assert probe.strength == 1e-3
    scaler = StandardScaler().fit(points)
    by_hand = LogisticRegression(C=1e-3, tol=1e-6).fit(scaler.transform(points), classes)
    expected = by_hand.predict_proba(scaler.transform(world.embeddings))
    np.testing.assert_allclose(probe.probability(world.embeddings), expected, atol=2e-3)
    assert (probe.decide(world.embeddings) == by_hand.predict(scaler.transform(world.embeddings))).mean() > 0.995


def test_metrics_are_scikit_learns(world, results) -> None:
    test = in_folds(world, 10)
    probe = results["sex"].probes["probe"]["value"]
    female = (world.records["sex"] == "female").to_numpy(dtype=bool)[test]
    probability = probe.probability(world.embeddings[test])[:, 1]
    assert results["sex"].metrics["probe"]["auc"] == pytest.approx(roc_auc_score(female, probability))
    expected = f1_score(female, probability > 0.5, average="macro")
    assert results["sex"].metrics["probe"]["f1"] == pytest.approx(expected)


def test_nothing_of_folds_9_and_10_enters_what_is_fitted(world, results) -> None:
    held_out = in_folds(world, 9, 10)
    embeddings, records = world.embeddings.copy(), world.records.copy()
    embeddings[held_out] = np.random.default_rng(5).standard_normal((held_out.sum(), embeddings.shape[1])) * 100
    records.loc[held_out, "age"] = np.random.default_rng(6).uniform(20, 80, held_out.sum())
    records.loc[held_out, "sex"] = np.where(records.index[held_out] % 2, "female", "male")
    changed = fit_probes(embeddings, records, seed=1, targets=(AGE, SEX))
    for name in ("age", "sex"):
        for part, before in results[name].probes["probe"].items():
            after = changed[name].probes["probe"][part]
            np.testing.assert_array_equal(after.scaler.mean, before.scaler.mean)
            np.testing.assert_array_equal(after.coefficients, before.coefficients)
            pd.testing.assert_frame_equal(after.trials, before.trials)
    training = in_folds(world, *range(1, 9))
    np.testing.assert_allclose(before.scaler.mean, world.embeddings[training].mean(axis=0), rtol=1e-5)


def test_a_patient_in_two_parts_is_refused(world) -> None:
    records = world.records.copy()
    first, second = np.flatnonzero(records["patient_id"].duplicated(keep=False))[:2]
    records.loc[[first, second], "fold"] = [1, 10]
    patient = records["patient_id"][first]
    with pytest.raises(EcgkitError, match=f"1 patients are in two parts, the first is patient {patient}: assign folds"):
        fit_probes(world.embeddings, records, seed=1)


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


def test_a_higher_feature_of_women_raises_the_probability_of_female(world, results) -> None:
    probe = results["sex"].probes["probe"]["value"]
    low, high = world.embeddings[:1].repeat(2, axis=0)
    pair = np.stack([low, high])
    pair[1, 1] += 6
    before, after = probe.probability(pair)[:, 1]
    assert after > before
    table = results["sex"].predictions
    assert table.loc[table["true_class"] == "female", "probe"].mean() > 0.5
    assert (table["true"] == (table["true_class"] == "female")).all()


def test_unknown_and_implausible_values_are_left_out_and_counted(world) -> None:
    records = world.records.copy()
    training = np.flatnonzero(in_folds(world, *range(1, 9)))
    records["height"] = 170.0 + np.arange(len(records)) % 7
    records.loc[training[:3], "height"] = [6.0, np.nan, np.nan]
    records.loc[training[:4], "sex"] = pd.NA
    found = fit_probes(world.embeddings, records, seed=1, targets=(SEX, HEIGHT))
    counts = found["height"].counts
    assert (counts["training"], counts["training_unknown"], counts["implausible"]) == (len(training) - 3, 3, 1)
    assert "1 values outside 40 to 250 cm" in found["height"].notes[0]
    assert found["sex"].counts["training"] == len(training) - 4
    assert found["sex"].counts["test"] == len(found["sex"].predictions) == in_folds(world, 10).sum()


def test_people_over_89_are_told_of(world) -> None:
    records = world.records.copy()
    records.loc[records["age"] > 85, ["age", "age_over_89"]] = [90.0, True]
    notes = fit_probes(world.embeddings, records, seed=1, targets=(AGE,))["age"].notes
    assert "count as 90" in notes[0]
    assert f"{(in_folds(world, 10) & records['age_over_89']).sum()} in fold 10" in notes[0]


def test_bins_begin_at_their_lower_edge() -> None:
    assert AGE.classes == ("under 30", "30-39", "40-49", "50-59", "60-69", "70-79", "80 and over")
    assert AGE.bin(np.array([2.0, 29.9, 30.0, 79.0, 80.0, 90.0])).tolist() == [0, 0, 1, 5, 6, 6]
    assert HEIGHT.classes[0] == "under 150"
    assert len(WEIGHT.classes) == len(WEIGHT.edges) + 1


def test_scores_of_a_table_by_hand() -> None:
    table = pd.DataFrame({"true": [20.0, 35.0, 35.0], "probe": [25.0, 35.0, 45.0]})
    table["true_class"] = ["under 30", "30-39", "30-39"]
    table["probe_class"] = ["under 30", "30-39", "40-49"]
    numbers = score(AGE, table, "probe")
    assert numbers["mae"] == pytest.approx(5.0)
    assert numbers["r2"] == pytest.approx(1 - 125 / 150)
    assert numbers["accuracy"] == pytest.approx(2 / 3)
    assert numbers["f1"] == pytest.approx((1 + 2 / 3) / 2)  # the class that nobody has does not count


def test_a_target_that_cannot_be_probed_is_skipped_with_its_reason(world) -> None:
    records = world.records.assign(sex="male")
    records.loc[20:, "height"] = np.nan
    found = fit_probes(world.embeddings, records, seed=1, targets=(AGE, SEX, HEIGHT))
    assert not found["age"].skipped
    assert found["sex"].skipped.startswith("sex is 'female' in 0 records of folds 1-8")
    assert "at least 40 and 10 are needed" in found["height"].skipped
    assert found["sex"].metrics == {}
    constant = fit_probes(world.embeddings, world.records.assign(age=50.0), seed=1, targets=(AGE,))
    assert "the same in all records" in constant["age"].skipped


def test_one_bin_only_leaves_the_regression(world) -> None:
    records = world.records.assign(age=40.0 + world.records["age"] % 10)
    found = fit_probes(world.embeddings, records, seed=1, targets=(AGE,))["age"]
    assert list(found.probes["probe"]) == ["value"]
    assert found.metrics["probe"]["accuracy"] == 1.0
    assert "one bin only" in found.notes[-1]


def test_input_that_does_not_fit_is_refused(world) -> None:
    records, embeddings = world.records, world.embeddings
    with pytest.raises(EcgkitError, match="one row a record"):
        fit_probes(embeddings[1:], records, seed=1)
    broken = embeddings.copy()
    broken[7, 2] = np.nan
    with pytest.raises(EcgkitError, match="row 7 is not finite"):
        fit_probes(embeddings, records, seed=1, untrained=broken)
    with pytest.raises(EcgkitError, match="sex is 0 in a record: write male or female"):
        fit_probes(embeddings, records.assign(sex=0), seed=1)
    with pytest.raises(EcgkitError, match="no column 'weight'"):
        fit_probes(embeddings, records.drop(columns="weight"), seed=1)
    with pytest.raises(EcgkitError, match="no record of folds 1-8"):
        fit_probes(embeddings, records.assign(fold=10), seed=1)


def test_constant_and_dead_features_do_no_harm(world) -> None:
    dead = np.zeros((len(world.records), 3), np.float32)
    dead[:, 1] = 1e6
    dead[:, 2] = 1e6 + np.arange(len(dead)) % 2 * 0.0625
    plain = fit_probes(world.embeddings, world.records, seed=1, targets=(replace(AGE, edges=(50,)),))
    padded = fit_probes(
        np.concatenate([world.embeddings, dead], axis=1), world.records, seed=1, targets=(replace(AGE, edges=(50,)),)
    )
    assert padded["age"].metrics["probe"]["r2"] == pytest.approx(plain["age"].metrics["probe"]["r2"], abs=0.01)


def test_a_small_data_set_goes_through(demo_dataset: Dataset) -> None:
    random = np.random.default_rng(0)
    positions = demo_dataset.folds(*range(1, 9), 10)
    embeddings = random.standard_normal((len(positions), 64)).astype(np.float32)
    found = fit_probes(embeddings, demo_dataset.records.iloc[positions], seed=0, untrained=embeddings[::-1].copy())
    assert list(found) == ["age", "sex", "height", "weight"]
    for result in found.values():
        assert result.skipped or set(result.metrics) == {"probe", "baseline", "untrained"}
    assert not found["age"].skipped


def test_the_same_seed_gives_the_same_numbers(world, results) -> None:
    again = fit_probes(world.embeddings, world.records, seed=1, untrained=world.noise, targets=(SEX,))
    pd.testing.assert_frame_equal(again["sex"].predictions, results["sex"].predictions)
