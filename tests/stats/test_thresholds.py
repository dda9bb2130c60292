"""Thresholds by policy: none is better on fold 9, and what each promises holds there."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from made_predictions import as_calibrated, make_predictions

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.stats.calibration import add_calibration
from ecgkit.stats.thresholds import POLICIES, fit_thresholds, policy_table

CLASSES = ("NORM", "MI", "STTC")


def case(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return 40 to 80 outcomes and probabilities, which are independent for every other seed."""
    rng = np.random.default_rng(seed)
    prob = rng.random(40 + seed).astype(np.float32)
    truth = rng.random(len(prob)) < (0.05 + 0.8 * prob if seed % 2 else 0.3)
    return truth, np.round(0.9 * prob, 1) if ties else prob


def quality(truth: np.ndarray, prob: np.ndarray, threshold: float) -> dict[str, float]:
    """Judge a threshold by the definitions."""
    decided = prob >= threshold
    return {
        "sensitivity": decided[truth].mean(),
        "specificity": (~decided[~truth]).mean(),
        "f1": 2 * (truth & decided).sum() / (truth.sum() + decided.sum()),
    }


def score(policy: str, found: dict[str, float]) -> tuple[float, ...]:
    """Return the quality of a threshold for a policy, as a tuple to compare."""
    sensitivity, specificity = found["sensitivity"], found["specificity"]
    return {
        "best_f1": (found["f1"],),
        "sensitivity_90": (sensitivity >= 0.9, specificity, sensitivity),
        "specificity_95": (specificity >= 0.95, sensitivity, specificity),
        "youden": (round(sensitivity + specificity, 12),),
    }[policy]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_threshold_is_better(policy: str, ties: bool) -> None:
    for seed in range(40):
        truth, prob = case(seed, ties=ties)
        chosen = score(policy, quality(truth, prob, POLICIES[policy](truth, prob)))
        # 1.1, which nothing reaches, is the decision to predict nothing.
        of_all = [score(policy, quality(truth, prob, value)) for value in [*np.unique(prob), 1.1]]
        assert chosen == max(of_all), seed


def test_of_equal_specificities_the_most_sensitive_is_taken() -> None:
    # From 0.80 and from 0.30 on there is no false alarm; the gap below 0.80 is the wider one, but misses a positive.
    truth = np.array([True] * 9 + [True, False, False])
    prob = np.array([0.9] * 8 + [0.8, 0.3, 0.2, 0.1])
    assert stats.sensitivity_threshold(truth, prob, at_least=0.9) == pytest.approx(0.25)
    # The reverse: sensitivity is 1 from 0.80 on already, below it are false alarms only.
    truth, prob = ~truth[::-1], 1 - prob[::-1]
    assert stats.specificity_threshold(truth, prob, at_least=0.8) == pytest.approx(0.75)


def test_a_specificity_that_leaves_no_hit_predicts_nothing() -> None:
    truth = np.arange(20) >= 10
    prob = np.append(np.full(10, 0.8), np.full(10, 0.2))
    assert stats.specificity_threshold(truth, prob, at_least=0.95) == pytest.approx(0.9)
    # One false alarm in ten would be allowed here, but finds nothing.
    prob[1:10] = 0.7
    assert stats.specificity_threshold(truth, prob, at_least=0.9) == pytest.approx(0.9)
    # Of false positives with a probability of 1, only a threshold above 1 leaves none.
    assert stats.specificity_threshold(truth, (~truth).astype(float), at_least=0.9) == np.float32(1 + 2**-23)


def test_rounding_does_not_part_equal_youden_indices() -> None:
    # 2/10 - 0/10 from 0.89 on and 3/10 - 1/10 from 0.87 on; in floating point the second is smaller by 3e-17.
    truth = np.array([True, True, False, True] + [True] * 7 + [False] * 9)
    prob = np.array([0.90, 0.89, 0.88, 0.87] + [0.1] * 16)
    assert 3 / 10 - 1 / 10 < 2 / 10
    assert stats.youden_threshold(truth, prob) == pytest.approx((0.87 + 0.1) / 2)


@pytest.mark.parametrize("at_least", [0.0, 1.01, float("nan")])
def test_a_share_that_cannot_be_asked_for_is_refused(at_least: float) -> None:
    for find in (stats.sensitivity_threshold, stats.specificity_threshold):
        with pytest.raises(EcgkitError, match="at_least is"):
            find([True, False], [0.7, 0.2], at_least=at_least)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_what_a_policy_promises_holds_on_fold_9(precision: type) -> None:
    predictions = make_predictions(1000)
    policies = fit_thresholds(as_calibrated(predictions), CLASSES)["policies"]
    fold = predictions[predictions["fold"] == 9]
    for name in CLASSES:
        truth, prob = fold[f"true_{name}"].to_numpy(), fold[f"prob_{name}"].to_numpy(precision)
        found = {policy: quality(truth, prob, precision(policies[policy][name])) for policy in POLICIES}
        assert found["sensitivity_90"]["sensitivity"] >= 0.9
        assert found["specificity_95"]["specificity"] >= 0.95
        assert found["best_f1"]["f1"] == max(one["f1"] for one in found.values())
        sums = {policy: one["sensitivity"] + one["specificity"] for policy, one in found.items()}
        assert sums["youden"] == pytest.approx(max(sums.values()), abs=1e-12)


def test_the_layout_of_thresholds_json() -> None:
    predictions = make_predictions()
    fitted = fit_thresholds(as_calibrated(predictions), CLASSES)
    assert json.loads(json.dumps(fitted, allow_nan=False)) == fitted
    keys = ["policy", "fitted_on", "of", "thresholds", "not_fitted", "f_max_threshold", "policies"]
    assert list(fitted) == keys
    assert fitted["policy"] == "best_f1"
    assert list(fitted["policies"]) == ["best_f1", "sensitivity_90", "specificity_95", "youden"]
    assert all(list(of_classes) == list(CLASSES) for of_classes in fitted["policies"].values())
    for name in CLASSES:
        fold = predictions[predictions["fold"] == 9]
        best = stats.best_f1_threshold(fold[f"true_{name}"], fold[f"prob_{name}"])
        assert fitted["thresholds"][name] == fitted["policies"]["best_f1"][name] == best
        assert best == np.float32(best)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_policy_says_which_thresholds_decide_and_nothing_else(policy: str) -> None:
    default = fit_thresholds(as_calibrated(make_predictions()), CLASSES)
    fitted = fit_thresholds(as_calibrated(make_predictions()), CLASSES, policy=policy)
    assert fitted["thresholds"] == fitted["policies"][policy]
    assert fitted == default | {"policy": policy, "thresholds": default["policies"][policy]}


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(EcgkitError, match="'f1': choose one of best_f1, sensitivity_90, specificity_95, youden"):
        fit_thresholds(as_calibrated(make_predictions()), CLASSES, policy="f1")


def test_fold_10_decides_nothing() -> None:
    predictions = make_predictions()
    changed = predictions.copy()
    is_test = changed["fold"] == 10
    changed.loc[is_test, "prob_MI"] = np.float32(0.01)
    changed.loc[is_test, "true_MI"] = ~changed.loc[is_test, "true_MI"]
    assert fit_thresholds(as_calibrated(changed), CLASSES) == fit_thresholds(as_calibrated(predictions), CLASSES)


@pytest.mark.parametrize("outcome", [False, True])
def test_a_class_without_both_outcomes_in_fold_9_has_a_half_by_every_policy(outcome: bool) -> None:
    predictions = make_predictions()
    predictions.loc[predictions["fold"] == 9, "true_MI"] = outcome
    fitted = fit_thresholds(as_calibrated(predictions), CLASSES)
    assert fitted["not_fitted"] == ["MI"]
    assert {of_classes["MI"] for of_classes in fitted["policies"].values()} == {0.5}
    assert 0.5 not in [fitted["thresholds"]["NORM"], fitted["thresholds"]["STTC"]]


def test_the_policy_table_is_what_scikit_learn_says_of_fold_10() -> None:
    predictions = make_predictions(1000)
    fitted = fit_thresholds(as_calibrated(predictions), CLASSES)

    table = policy_table(stats.fold_scores(as_calibrated(predictions), CLASSES, 10), fitted)

    assert list(table) == ["threshold", "sensitivity", "specificity", "precision", "f1"]
    assert list(table.index) == [(name, policy) for name in CLASSES for policy in POLICIES]
    assert table.index.names == ["class", "policy"]
    fold = predictions[predictions["fold"] == 10]
    for (name, policy), row in table.iterrows():
        truth, prob = fold[f"true_{name}"].to_numpy(), fold[f"prob_{name}"].to_numpy()
        assert row["threshold"] == fitted["policies"][policy][name]
        decided = prob >= row["threshold"]
        expected = {
            "sensitivity": sklearn.metrics.recall_score(truth, decided),
            "specificity": sklearn.metrics.recall_score(~truth, ~decided),
            "precision": sklearn.metrics.precision_score(truth, decided),
            "f1": sklearn.metrics.f1_score(truth, decided),
        }
        assert row.drop("threshold").to_dict() == pytest.approx(expected, abs=1e-12)


def test_the_policy_table_of_a_fold_without_a_class() -> None:
    predictions = make_predictions()
    fitted = fit_thresholds(as_calibrated(predictions), CLASSES)
    predictions.loc[predictions["fold"] == 10, "true_MI"] = False
    table = policy_table(stats.fold_scores(as_calibrated(predictions), CLASSES, 10), fitted)
    assert table.loc["MI", ["sensitivity", "precision", "f1"]].isna().all(axis=None)
    assert table.loc[["NORM", "STTC"]].notna().all(axis=None)
    assert table["specificity"].notna().all()


def test_the_policy_table_reads_a_file_in_any_order_and_refuses_one_without_policies() -> None:
    predictions = make_predictions()
    predictions = as_calibrated(predictions)
    scores, fitted = stats.fold_scores(predictions, CLASSES, 10), fit_thresholds(predictions, CLASSES)
    shuffled = {"policies": dict(sorted(fitted["policies"].items(), reverse=True))}
    pd.testing.assert_frame_equal(policy_table(scores, shuffled), policy_table(scores, fitted))
    with pytest.raises(EcgkitError, match="policy 'best_f1'"):
        policy_table(scores, {"thresholds": fitted["thresholds"], "policy": "best_f1"})


def test_calibrated_thresholds_leave_the_decisions_as_they_are() -> None:
    predictions = make_predictions(2000)
    # Where such a calibration is constant, only the part that keeps the order of records is left.
    points = {"method": "isotonic", "x": [0.0, 0.3, 0.3001, 0.7, 1.0], "y": [0.1, 0.1, 0.4, 0.4, 0.9]}
    calibration = {"classes": dict.fromkeys(CLASSES, points)}
    limits = fit_thresholds(as_calibrated(predictions), CLASSES)
    fitted = fit_thresholds(predictions, CLASSES, calibration)
    table = add_calibration(predictions, calibration, CLASSES)
    for name in CLASSES:
        for policy in POLICIES:
            decided = table[f"prob_{name}"] >= limits["policies"][policy][name]
            differs = decided != (table[f"calibrated_{name}"] >= fitted["policies"][policy][name])
            assert differs.sum() <= 4  # of 2,000, next to the threshold, which float32 does not resolve
            assert fitted["policies"][policy][name] == np.float32(fitted["policies"][policy][name])


@pytest.mark.parametrize("seed", range(6))
def test_a_calibration_that_rounds_probabilities_to_one_number_keeps_what_the_policies_promise(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(800) < 0.3
    prob = (1 / (1 + np.exp(-12 * (random.normal(0, 1, 800) + 1.5 * truth)))).astype(np.float32)
    names = {"record_id": np.arange(800).astype(str), "patient_id": np.arange(800).astype(str), "fold": 9}
    table = pd.DataFrame(names | {"true_MI": truth, "prob_MI": prob})
    steps = {"method": "isotonic", "x": [0.0, 0.4, 0.6, 1.0], "y": [0.2, 0.5, 0.5, 0.8]}
    calibration = {"classes": {"MI": steps}}
    policies = fit_thresholds(table, ["MI"], calibration)["policies"]
    calibrated = add_calibration(table, calibration, ["MI"])["calibrated_MI"].to_numpy()
    assert quality(truth, calibrated, policies["sensitivity_90"]["MI"])["sensitivity"] >= 0.9
    assert quality(truth, calibrated, policies["specificity_95"]["MI"])["specificity"] >= 0.95
