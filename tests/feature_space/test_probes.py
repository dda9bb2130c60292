from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, mean_absolute_error, r2_score, roc_auc_score

from ecgkit.errors import EcgkitError
from ecgkit.feature_space.probes import (
    TARGETS,
    all_targets,
    fit_probes,
    join_targets,
    probe_summary,
    probe_table,
)
from ecgkit.feature_space.probes.comparison import compare_with_controls
from ecgkit.feature_space.probes.targets import HEART_RATE, Target
from ecgkit.feature_space.probes.task import make_task

AGE, SEX, HEIGHT, _ = TARGETS


def values(result) -> dict[str, dict[str, float]]:
    """The metrics on fold 10 without their intervals, by probe or control."""
    metrics = result.comparison.metrics
    return {source: {name: one["value"] for name, one in entries.items()} for source, entries in metrics.items()}


def difference(result, control: str, metric: str) -> dict[str, object]:
    return result.comparison.differences[control][metric]


@pytest.fixture(scope="module")
def results(world):
    return fit_probes(world.embeddings, world.records, seed=1, untrained=[world.noise], resamples=300)


def in_folds(world, *folds):
    return world.records["fold"].isin(folds).to_numpy()


def test_a_planted_signal_is_found_and_beats_untrained_encoder_and_baseline(results) -> None:
    age, sex = values(results["age"]), values(results["sex"])
    assert age["probe"]["r2"] == pytest.approx(0.5, abs=0.08)  # one standard deviation of age in one of noise
    assert age["probe"]["f1"] > age["baseline"]["f1"] + 0.1
    assert sex["probe"]["auc"] == pytest.approx(0.92, abs=0.04)  # two normal distributions, two deviations apart
    assert sex["baseline"]["auc"] == 0.5
    for metrics, metric in ((age, "r2"), (sex, "auc"), (sex, "f1")):
        assert metrics["probe"][metric] > metrics["untrained"][metric] + 0.2


def test_an_absent_signal_is_not_found(results) -> None:
    for name in ("height", "weight"):
        comparison = results[name].comparison
        chance, found = comparison.metrics["permutation"]["r2"], comparison.metrics["probe"]["r2"]["value"]
        assert chance["low"] <= found <= chance["high"]
        assert comparison.p_value > 0.05
        assert difference(results[name], "baseline", "r2")["verdict"] != "better"
        assert probe_summary(results[name]).startswith("no evidence")


def test_noise_is_within_the_permutation_interval_of_every_target(world) -> None:
    found = fit_probes(world.noise, world.records, seed=3, targets=(AGE, SEX), resamples=200)
    for result, metric in ((found["age"], "r2"), (found["sex"], "auc")):
        chance = result.comparison.metrics["permutation"][metric]
        assert chance["low"] <= values(result)["probe"][metric] <= chance["high"]
        assert probe_summary(result).startswith("no evidence")


def test_a_planted_signal_is_above_chance(results) -> None:
    for name in ("age", "sex"):
        comparison = results[name].comparison
        assert comparison.p_value == pytest.approx(1 / (1 + comparison.resamples))
        for control in ("baseline", "untrained", "demographics", "shuffled_labels"):
            row = difference(results[name], control, results[name].target.main_metric)
            assert row["verdict"] == "better"
            assert 0 < row["low"] <= row["value"] <= row["high"]
        assert probe_summary(results[name]).startswith("linearly present")
        assert "not shown" not in probe_summary(results[name])


def test_shuffled_labels_are_at_chance(results) -> None:
    assert abs(values(results["sex"])["shuffled_labels"]["auc"] - 0.5) < 0.12
    assert -0.15 < values(results["age"])["shuffled_labels"]["r2"] < 0.03
    assert (
        results["age"].probes["shuffled_labels"]["value"].strength == results["age"].probes["probe"]["value"].strength
    )


def test_age_and_sex_alone_explain_what_follows_from_them(world) -> None:
    random = np.random.default_rng(2)
    female = (world.records["sex"] == "female").to_numpy(dtype=bool)
    height = 177 - 13 * female + random.normal(0, 5, len(female))
    found = fit_probes(world.embeddings, world.records.assign(height=height), seed=1, targets=(HEIGHT,), resamples=200)
    result = found["height"]
    expected = 6.5**2 / (6.5**2 + 5**2)
    assert values(result)["demographics"]["r2"] == pytest.approx(expected, abs=0.07)
    assert values(result)["probe"]["r2"] > 0.25
    assert difference(result, "demographics", "r2")["verdict"] == "worse"
    assert "not shown to be better than age and sex" in probe_summary(result)


def test_measurements_are_a_control_but_never_contain_the_target(world) -> None:
    random = np.random.default_rng(4)
    measurements = pd.DataFrame(
        {"heart_rate": random.normal(70, 10, len(world.records)), "r_V5": world.records["age"] / 50}
    )
    measurements.loc[::7, "r_V5"] = np.nan
    table = join_targets(world.records, measurements=measurements)
    found = fit_probes(
        world.embeddings,
        table,
        seed=1,
        targets=(AGE, HEART_RATE),
        measurements=measurements.sample(frac=1, random_state=0),
        resamples=100,
    )
    assert values(found["age"])["measurements"]["r2"] > 0.8
    assert difference(found["age"], "measurements", "r2")["verdict"] == "worse"
    assert values(found["heart_rate"])["measurements"]["r2"] < 0.02


def test_measurements_that_contain_the_target_are_left_out_of_its_control(world) -> None:
    random = np.random.default_rng(4)
    rate = 70 + 4 * world.embeddings[:, 4] + random.normal(0, 3, len(world.records))
    measurements = pd.DataFrame({"heart_rate": rate, "qt": 60 / rate, "r_V5": random.normal(1, 0.1, len(rate))})
    table = join_targets(world.records, measurements=measurements)
    found = fit_probes(
        world.embeddings, table, seed=1, targets=(AGE, HEART_RATE), measurements=measurements, resamples=100
    )
    assert "measurements" in probe_summary(found["heart_rate"])
    table = probe_table(found)
    named = table[table["source"] == "measurements"].drop_duplicates("target").set_index("target")["description"]
    assert named["heart_rate"] == "ECG measurements alone (without heart_rate, qt)"
    assert named["age"] == "ECG measurements alone"


def test_p_values_are_corrected_for_the_number_of_targets(results) -> None:
    p_values = np.array([result.comparison.p_value for result in results.values()])
    order = np.argsort(p_values)
    # Benjamini and Hochberg's step-up procedure: p times the number of tests over its rank, made monotonic from above.
    by_hand = np.minimum.accumulate((p_values[order] * len(order) / np.arange(1, len(order) + 1))[::-1])[::-1]
    adjusted = np.array([result.comparison.p_adjusted for result in results.values()])
    np.testing.assert_allclose(adjusted[order], np.minimum(by_hand, 1))
    assert (adjusted >= p_values).all()
    assert f"p = {results['age'].comparison.p_adjusted:.3f}" in probe_summary(results["age"])


def test_a_p_that_does_not_survive_the_correction_is_no_evidence(results) -> None:
    comparison = replace(results["age"].comparison, p_value=0.03, p_adjusted=0.09)
    assert probe_summary(replace(results["age"], comparison=comparison)).startswith("no evidence")


def test_a_metric_that_is_not_defined_has_no_p(world, results) -> None:
    task = make_task(SEX, world.records)
    female = task.test[task.known[task.test] == 1]
    alone = replace(task, test=female)
    predicted = alone.predict(results["sex"].probes["probe"]["value"], world.embeddings[female])
    found = compare_with_controls(alone, {"probe": [predicted]}, resamples=20, seed=0)
    assert np.isnan(found.p_value)
    assert np.isnan(found.metrics["probe"]["auc"]["value"])


def test_a_few_records_of_fold_10_or_of_one_patient_are_no_verdict(world) -> None:
    test = np.flatnonzero(in_folds(world, 10))
    for few, why in (
        (test[:4], " patients of fold 10"),
        (test[world.records["patient_id"].to_numpy()[test] == world.records["patient_id"][test[0]]], " 1 patients of"),
    ):
        records = world.records.copy()
        records.loc[test, "sex"] = "male"
        records.loc[few, "sex"] = "female"
        skipped = fit_probes(world.embeddings, records, seed=1, targets=(SEX,), resamples=5)["sex"].skipped
        assert skipped.startswith("sex is 'female' for")
        assert why in skipped
    constant = world.records.copy()
    constant.loc[test, "age"] = 50.0
    skipped = fit_probes(world.embeddings, constant, seed=1, targets=(AGE,), resamples=5)["age"].skipped
    assert skipped == "age is the same in all records of fold 10"


def test_a_device_that_fold_10_hardly_has_is_dropped_and_the_others_are_asked(world) -> None:
    device = np.array(["A", "B", "C"], dtype=object)[np.arange(len(world.records)) % 3]
    test = np.flatnonzero(in_folds(world, 10) & (device == "C"))
    device[test[3:]] = "A"
    records = world.records.assign(device=device)
    (target,) = [target for target in all_targets(records) if target.name == "device"]
    assert target.categories == ("A", "B", "C")
    task = make_task(target, records)
    assert task.target.categories == ("A", "B")
    assert task.why_skipped() == ""
    assert task.counts["rare"] == ((device == "C") & in_folds(world, *range(1, 9), 10)).sum()
    only = records.assign(device=np.where(in_folds(world, 10), "A", device))
    assert "of fold 10" in make_task(target, only).why_skipped()


def test_several_untrained_encoders_give_their_mean_and_range(world) -> None:
    random = np.random.default_rng(5)
    encoders = [world.embeddings + random.normal(0, sd, world.embeddings.shape) for sd in (1.0, 3.0, 9.0)]
    together = fit_probes(world.embeddings, world.records, seed=1, targets=(AGE,), untrained=encoders, resamples=50)
    entry = together["age"].comparison.metrics["untrained"]["r2"]
    alone = [
        values(fit_probes(one, world.records, seed=1, targets=(AGE,), resamples=50)["age"])["probe"]["r2"]
        for one in encoders
    ]
    assert entry["low"] == pytest.approx(min(alone), abs=0.01)
    assert entry["high"] == pytest.approx(max(alone), abs=0.01)
    assert entry["value"] == pytest.approx(np.mean(alone), abs=0.01)
    row = difference(together["age"], "untrained", "r2")
    assert row["value"] == pytest.approx(values(together["age"])["probe"]["r2"] - entry["high"])


def test_a_network_trained_for_the_target_is_scored_on_the_same_records(world) -> None:
    table = pd.DataFrame({"record_id": world.records["record_id"], "predicted": world.records["age"] + 2.0})
    found = fit_probes(
        world.embeddings, world.records, seed=1, targets=(AGE,), end_to_end={"age": table[::-1]}, resamples=50
    )["age"]
    assert values(found)["end_to_end"]["mae"] == pytest.approx(2.0)
    assert difference(found, "end_to_end", "r2")["verdict"] == "worse"
    for broken, why in (
        (table[world.records["fold"] != 10], "0 of"),
        (pd.concat([table, table[:1]]), "twice"),
    ):
        with pytest.raises(EcgkitError, match=why):
            fit_probes(world.embeddings, world.records, seed=1, targets=(AGE,), end_to_end={"age": broken})


def test_baseline_is_the_mean_and_the_most_frequent_class_of_folds_1_to_8(world, results) -> None:
    training, test = in_folds(world, *range(1, 9)), in_folds(world, 10)
    mean = world.records["age"][training].mean()
    expected = mean_absolute_error(world.records["age"][test], np.full(test.sum(), mean))
    assert values(results["age"])["baseline"]["mae"] == pytest.approx(expected)
    assert abs(values(results["age"])["baseline"]["r2"]) < 0.03
    common = world.records["sex"][training].mode()[0]
    assert values(results["sex"])["baseline"]["accuracy"] == pytest.approx(
        (world.records["sex"][test] == common).mean()
    )


def test_metrics_are_scikit_learns(world, results) -> None:
    test = in_folds(world, 10)
    probe = results["sex"].probes["probe"]["value"]
    female = (world.records["sex"] == "female").to_numpy(dtype=bool)[test]
    probability = probe.probability(world.embeddings[test])[:, 1]
    assert values(results["sex"])["probe"]["auc"] == pytest.approx(roc_auc_score(female, probability))
    expected = f1_score(female, probability > 0.5, average="macro")
    assert values(results["sex"])["probe"]["f1"] == pytest.approx(expected)


def test_nothing_of_folds_9_and_10_enters_what_is_fitted(world, results) -> None:
    held_out = in_folds(world, 9, 10)
    embeddings, records = world.embeddings.copy(), world.records.copy()
    embeddings[held_out] = np.random.default_rng(5).standard_normal((held_out.sum(), embeddings.shape[1])) * 100
    records.loc[held_out, "age"] = np.random.default_rng(6).uniform(20, 80, held_out.sum())
    records.loc[held_out, "sex"] = np.where(records.index[held_out] % 2, "female", "male")
    changed = fit_probes(embeddings, records, seed=1, resamples=20)
    for name in ("age", "sex"):
        for part, before in results[name].probes["probe"].items():
            after = changed[name].probes["probe"][part]
            np.testing.assert_array_equal(after.scaler.mean, before.scaler.mean)
            np.testing.assert_array_equal(after.coefficients, before.coefficients)
            pd.testing.assert_frame_equal(after.trials, before.trials)
    training = in_folds(world, *range(1, 9))
    np.testing.assert_allclose(before.scaler.mean, world.embeddings[training].mean(axis=0), rtol=1e-5)


def test_a_patient_in_two_splits_is_refused(world) -> None:
    records = world.records.copy()
    first, second = np.flatnonzero(records["patient_id"].duplicated(keep=False))[:2]
    records.loc[[first, second], "fold"] = [1, 10]
    patient = records["patient_id"][first]
    with pytest.raises(EcgkitError, match=f"patient {patient}"):
        fit_probes(world.embeddings, records, seed=1)


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
    assert found["sex"].counts["training"] == len(training) - 4
    assert found["sex"].counts["test"] == len(found["sex"].predictions) == in_folds(world, 10).sum()


def test_people_over_89_are_in_the_notes(world) -> None:
    records = world.records.copy()
    records.loc[records["age"] > 85, ["age", "age_over_89"]] = [90.0, True]
    result = fit_probes(world.embeddings, records, seed=1, targets=(AGE,), resamples=50)["age"]
    assert "count as 90" in result.notes[0]
    assert result.counts["capped"] == (records["age_over_89"] & ~in_folds(world, 9)).sum()
    table = result.predictions[result.predictions["true"] < 90]
    assert values(result)["probe"]["r2_uncapped"] == pytest.approx(r2_score(table["true"], table["probe"]))
    assert values(result)["probe"]["mae_uncapped"] == pytest.approx(mean_absolute_error(table["true"], table["probe"]))
    assert len(table) < len(result.predictions)


def test_a_target_that_cannot_be_probed_is_skipped_with_its_reason(world) -> None:
    records = world.records.assign(sex="male")
    records.loc[20:, "height"] = np.nan
    found = fit_probes(world.embeddings, records, seed=1, targets=(AGE, SEX, HEIGHT))
    assert not found["age"].skipped
    assert found["sex"].skipped.startswith("sex is 'female' for 0 patients")
    assert "40 are needed" in found["height"].skipped
    assert values(found["sex"]) == {}
    constant = fit_probes(world.embeddings, world.records.assign(age=50.0), seed=1, targets=(AGE,))
    assert "the same in all records" in constant["age"].skipped


def test_one_bin_only_leaves_the_regression(world) -> None:
    records = world.records.assign(age=40.0 + world.records["age"] % 10)
    found = fit_probes(world.embeddings, records, seed=1, targets=(AGE,))["age"]
    assert list(found.probes["probe"]) == ["value"]
    assert values(found)["probe"]["accuracy"] == 1.0
    assert "one bin only" in found.notes[-1]


def test_input_that_does_not_fit_is_refused(world) -> None:
    records, embeddings = world.records, world.embeddings
    with pytest.raises(EcgkitError, match="one row per record"):
        fit_probes(embeddings[1:], records, seed=1)
    broken = embeddings.copy()
    broken[7, 2] = np.nan
    with pytest.raises(EcgkitError, match="row 7"):
        fit_probes(embeddings, records, seed=1, untrained=[broken])
    with pytest.raises(EcgkitError, match="sex is 0"):
        fit_probes(embeddings, records.assign(sex=0), seed=1)
    with pytest.raises(EcgkitError, match="weight"):
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
    assert values(padded["age"])["probe"]["r2"] == pytest.approx(values(plain["age"])["probe"]["r2"], abs=0.01)


def test_more_features_than_records_go_through() -> None:
    random = np.random.default_rng(0)
    patients = np.arange(90)
    records = pd.DataFrame({"patient_id": patients, "fold": patients % 10 + 1, "age": random.uniform(20, 80, 90)})
    records["sex"] = np.where(random.random(90) < 0.5, "female", "male")
    records.loc[patients % 10 == 9, "fold"] = 8
    records.loc[patients >= 75, "fold"] = 10
    embeddings = random.standard_normal((90, 200)).astype(np.float32)
    found = fit_probes(
        embeddings, records, seed=0, untrained=[embeddings[::-1].copy()], targets=(AGE, SEX), resamples=50
    )
    for result in found.values():
        assert {"probe", "baseline", "untrained", "demographics", "shuffled_labels"} <= set(values(result))
        assert probe_summary(result).startswith("no evidence")


def test_devices_are_told_apart_as_several_classes(world) -> None:
    random = np.random.default_rng(0)
    feature = world.embeddings[:, 3]
    device = np.where(feature < 4, "A", np.where(feature < 7, "B", "C")).astype(object)
    device[random.choice(len(device), 30, replace=False)] = "D"
    records = world.records.assign(device=device)
    (target,) = [target for target in all_targets(records) if target.name == "device"]
    assert target.categories == ("A", "B", "C")
    result = fit_probes(world.embeddings, records, seed=1, targets=(target,), resamples=50)["device"]
    assert result.counts["rare"] == sum((device == "D") & in_folds(world, *range(1, 9), 10))
    assert values(result)["probe"]["auc"] > 0.9
    assert values(result)["probe"]["accuracy"] > 0.8
    assert set(result.predictions["true_class"]) == {"A", "B", "C"}


def test_the_same_seed_gives_the_same_numbers(world) -> None:
    first, again = (
        fit_probes(world.embeddings, world.records, seed=1, untrained=[world.noise], targets=(SEX,), resamples=50)[
            "sex"
        ]
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(again.predictions, first.predictions)
    assert again.comparison.metrics == first.comparison.metrics


def test_a_small_p_with_an_unclear_difference_to_the_baseline_is_no_evidence(results) -> None:
    comparison = results["age"].comparison
    unclear = comparison.differences["baseline"]["r2"] | {"verdict": "no evidence of a difference"}
    differences = comparison.differences | {"baseline": {"r2": unclear}}
    line = probe_summary(replace(results["age"], comparison=replace(comparison, differences=differences)))
    assert line.startswith("no evidence")
    assert line.endswith("not shown to be better than baseline")


def test_a_class_that_only_later_records_have_still_has_a_control_task() -> None:
    random = np.random.default_rng(0)
    patients = np.r_[np.repeat(np.arange(6), 2), np.arange(6, 200)]
    word = np.r_[np.tile(["without", "with"], 6), np.full(194, "without")]
    records = pd.DataFrame(
        {
            "record_id": np.arange(412),
            "patient_id": np.r_[patients, 1000 + patients],
            "fold": np.r_[np.ones(206, int), np.full(206, 10)],
            "X": np.r_[word, word],
        }
    )
    target = Target("X", categories=("without", "with"))
    embeddings = random.standard_normal((412, 5)).astype(np.float32)
    result = fit_probes(embeddings, records, seed=0, targets=(target,), resamples=50)["X"]
    assert np.isfinite(result.probes["shuffled_labels"]["value"].coefficients).all()
    assert any("shuffled over records" in note for note in result.notes)
