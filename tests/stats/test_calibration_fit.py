"""Calibration: chosen and fitted on fold 9, never falling, and left alone where there is nothing to fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from made_predictions import make_predictions
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, xlogy
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation import add_calibration, apply_calibration, fit_calibration
from ecgkit.stats import calibration_fit as module
from ecgkit.stats.calibration import METHODS, calibration_summary, uncalibrated_classes
from ecgkit.stats.calibration_fit import fit_beta, fit_isotonic, fit_platt, fit_temperature


def overconfident(n_records: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes, and probabilities whose logits are twice as large and 1 too low: slope 0.5, intercept 0.5."""
    rng = np.random.default_rng(seed)
    true_logit = rng.normal(-1.0, 1.5, n_records)
    return rng.random(n_records) < expit(true_logit), expit(2 * true_logit - 1.0)


def overconfident_only(n_records: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes, and probabilities whose logits are twice as large: slope 0.5, intercept 0."""
    rng = np.random.default_rng(seed)
    true_logit = rng.normal(-1.0, 1.5, n_records)
    return rng.random(n_records) < expit(true_logit), expit(2 * true_logit)


def stepped(n_records: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes with three rates only, which no curve with a slope and an intercept fits."""
    rng = np.random.default_rng(seed)
    prob = rng.random(n_records)
    return rng.random(n_records) < np.array([0.02, 0.5, 0.6])[np.digitize(prob, [0.3, 0.7])], prob


def one_sided(n_records: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes, and probabilities that are right near 1 and far too low near 0."""
    rng = np.random.default_rng(seed)
    prob = rng.beta(0.4, 0.6, n_records).clip(1e-6, 1 - 1e-6)
    return rng.random(n_records) < expit(0.25 * np.log(prob) - 1.5 * np.log1p(-prob) - 0.5), prob


def right_already(n_records: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prob = expit(rng.normal(-1.0, 1.5, n_records))
    return rng.random(n_records) < prob, prob


DISTORTIONS = {
    "identity": right_already,
    "temperature": overconfident_only,
    "platt": overconfident,
    "beta": one_sided,
    "isotonic": stepped,
}
"""The distortion that each method, and no simpler one, undoes."""


def predictions_of(columns: dict[str, tuple[np.ndarray, np.ndarray]], n_validation: int) -> pd.DataFrame:
    n_records = len(next(iter(columns.values()))[0])
    table = {"record_id": np.arange(n_records), "patient_id": np.arange(n_records)}
    table["fold"] = np.where(np.arange(n_records) < n_validation, 9, 10)
    for name, (truth, prob) in columns.items():
        table |= {f"true_{name}": truth, f"prob_{name}": prob.astype(np.float32)}
    return pd.DataFrame(table)


def test_the_distortion_is_found_and_undone_on_the_other_fold() -> None:
    predictions = predictions_of({"MI": overconfident(20_000, seed=2)}, n_validation=10_000)

    calibration = fit_calibration(predictions, ["MI"])

    fitted = calibration["classes"]["MI"]
    assert fitted["method"] == "platt"
    assert fitted["slope"] == pytest.approx(0.5, abs=0.03)
    assert fitted["intercept"] == pytest.approx(0.5, abs=0.06)
    test = stats.fold_scores(add_calibration(predictions, calibration, ["MI"]), ["MI"], 10)
    assert test.calibrated is not None
    assert stats.ece(test.y_true, test.prob)[0] > 0.1
    assert stats.ece(test.y_true, test.calibrated)[0] < 0.02
    assert stats.brier(test.y_true, test.calibrated)[0] < stats.brier(test.y_true, test.prob)[0]


@pytest.mark.parametrize("method", METHODS)
def test_the_simplest_method_that_undoes_the_distortion_is_chosen(method: str) -> None:
    predictions = predictions_of({"MI": DISTORTIONS[method](4_000, seed=1)}, n_validation=2_000)

    calibration = fit_calibration(predictions, ["MI"])
    fitted = calibration["classes"]["MI"]

    assert fitted["method"] == method
    assert uncalibrated_classes(calibration) == {}
    assert list(fitted["log_loss"]) == ["identity", "temperature", "platt", "beta", "isotonic"]
    assert ("reason" in fitted) == (method == "identity")
    assert min(fitted["log_loss"].values()) >= fitted["log_loss"][method] - 1e-6
    # The others but the last are identity with one to three parameters: a loss of 1/2 per parameter, not more.
    simple = [fitted["log_loss"][name] for name in METHODS[METHODS.index(method) : 4]]
    assert not simple or np.ptp(simple) < 0.003


def cross_validated_by_hand(truth: np.ndarray, prob: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    """Do the cross-validation over with the estimators of scikit-learn."""
    held_out = {name: np.empty(len(prob)) for name in METHODS}
    for rest, part in GroupKFold(5, shuffle=True, random_state=0).split(prob, groups=patients):
        assert not set(patients[rest]) & set(patients[part])
        n_positive, n_negative = truth[rest].sum(), (~truth[rest]).sum()
        high, low = (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2)
        weight = np.where(truth[rest], high, low)
        x, y, weight = (
            np.tile(logit(prob[rest]), 2)[:, None],
            np.repeat([1, 0], len(rest)),
            np.append(weight, 1 - weight),
        )
        for name in ("temperature", "platt"):
            model = LogisticRegression(C=np.inf, tol=1e-10, fit_intercept=name == "platt")
            model.fit(x, y, weight)
            held_out[name][part] = model.predict_proba(logit(prob[part])[:, None])[:, 1]
        sides = np.stack([np.log(prob), -np.log(1 - prob)], axis=1)
        model = LogisticRegression(C=np.inf, tol=1e-10).fit(np.tile(sides[rest], (2, 1)), y, weight)
        rising = model.coef_[0] > 0
        if not rising.all():  # then the best that does not fall has a slope of 0 there
            model.fit(np.tile(sides[rest][:, rising], (2, 1)), y, weight)
        held_out["beta"][part] = model.predict_proba(sides[part][:, rising])[:, 1]
        steps = IsotonicRegression(y_min=low, y_max=high).fit(prob[rest], truth[rest]).predict(prob[rest])
        centres = pd.Series(prob[rest]).groupby(steps).mean()
        value = np.interp(prob[part], centres.to_numpy(), centres.index.to_numpy())
        held_out["isotonic"][part] = value + np.minimum(0.0001, 1 - value) * prob[part]
        held_out["identity"][part] = prob[part]
    return {name: sklearn.metrics.log_loss(truth, values) for name, values in held_out.items()}


@pytest.mark.parametrize("make", DISTORTIONS.values())
def test_the_log_losses_are_those_of_a_cross_validation_by_hand(make: object) -> None:
    truth, prob = make(600, seed=4)  # type: ignore[operator]
    predictions = predictions_of({"MI": (truth, prob)}, n_validation=600)
    predictions["patient_id"] = np.random.default_rng(5).integers(0, 300, 600)

    found = fit_calibration(predictions, ["MI"])["classes"]["MI"]["log_loss"]

    prob = predictions["prob_MI"].to_numpy(np.float64)
    assert found == pytest.approx(cross_validated_by_hand(truth, prob, predictions["patient_id"].to_numpy()), rel=1e-5)


def test_a_patient_is_never_on_both_sides() -> None:
    # Each patient has 40 equal records, of outcomes that have nothing to do with the probability: a method that saw
    # some of them would know the others.
    rng = np.random.default_rng(0)
    prob = np.repeat(np.linspace(0.05, 0.95, 40), 40)
    truth = np.repeat(rng.random(40) < np.linspace(0.3, 0.7, 40), 40)
    predictions = predictions_of({"MI": (truth, prob)}, n_validation=1600)

    losses = []
    for patients in (np.repeat(np.arange(40), 40), np.arange(1600)):
        predictions["patient_id"] = patients
        losses.append(fit_calibration(predictions, ["MI"])["classes"]["MI"]["log_loss"]["isotonic"])

    assert losses[0] > losses[1] + 0.02


def test_without_patients_each_record_is_its_own() -> None:
    predictions = predictions_of({"MI": stepped(400, seed=2)}, n_validation=300)
    assert fit_calibration(predictions, ["MI"]) == fit_calibration(predictions.drop(columns="patient_id"), ["MI"])


@pytest.mark.parametrize("name_of", [int, "patient {:04d}".format])
def test_the_order_of_the_records_changes_no_choice(name_of: object) -> None:
    predictions = make_predictions(800)
    predictions["patient_id"] = [name_of(i) for i in predictions["patient_id"]]  # type: ignore[operator]
    shuffled = predictions.sample(frac=1, random_state=1)
    for name in ("NORM", "MI", "STTC"):
        one, other = (fit_calibration(table, [name])["classes"][name] for table in (predictions, shuffled))
        assert one["method"] == other["method"]
        assert one["log_loss"] == pytest.approx(other["log_loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ((0.3, 0.3, 0.3, 0.3, 0.3), "identity"),
        ((0.4, 0.3, 0.3 - 5e-7, 0.3 - 7e-7, 0.3 - 9e-7), "temperature"),
        ((0.4, 0.4, 0.3, 0.3, 0.3), "platt"),
        ((0.4, 0.4, 0.4, 0.3, 0.3), "beta"),
        ((0.4, 0.4, 0.3, 0.3, 0.29), "isotonic"),
    ],
)
def test_of_equal_log_losses_the_simpler_method_is_kept(
    monkeypatch: pytest.MonkeyPatch, losses: tuple[float, ...], chosen: str
) -> None:
    of_method = dict(zip(METHODS, losses, strict=True))
    monkeypatch.setattr(module, "_cross_validated", lambda method, *_: of_method[method])
    predictions = predictions_of({"MI": overconfident(200, seed=0)}, n_validation=200)
    assert fit_calibration(predictions, ["MI"])["classes"]["MI"]["method"] == chosen


def test_the_fit_is_the_logistic_regression_of_scikit_learn() -> None:
    truth, prob = overconfident(2_000, seed=1)
    n_positive, n_negative = truth.sum(), (~truth).sum()
    # Platt's targets, as a regression with weights: each record counts for both outcomes.
    weight = np.where(truth, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    x = np.tile(logit(prob), 2)[:, None]
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(x, np.repeat([1, 0], 2_000), np.append(weight, 1 - weight))

    slope, intercept = fit_platt(truth, prob)

    assert slope == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert intercept == pytest.approx(reference.intercept_[0], rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_temperature_has_the_least_cross_entropy(seed: int) -> None:
    truth, prob = overconfident_only(500, seed)
    n_positive, n_negative = truth.sum(), (~truth).sum()
    target = np.where(truth, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    def cross_entropy(slope: float) -> float:
        p = expit(slope * logit(prob))
        return float(-np.mean(xlogy(target, p) + xlogy(1 - target, 1 - p)))

    reference = minimize_scalar(cross_entropy, bounds=(0.01, 2), method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(truth, prob) == pytest.approx(reference.x, rel=1e-5)


def test_a_temperature_stays_finite_and_positive() -> None:
    truth = np.repeat([True, False], 50)
    assert 0 < fit_temperature(truth, truth.astype(float)) < 1
    assert fit_temperature(truth, np.where(truth, 0.51, 0.49)) == pytest.approx(logit(51 / 52) / logit(0.51))
    assert fit_temperature(truth, 1 - truth) == 0.001
    assert fit_temperature(truth, np.where(truth, 0.5 + 1e-6, 0.5 - 1e-6)) == 1000


@pytest.mark.parametrize("ties", [False, True])
def test_the_isotonic_points_are_the_centres_of_the_best_rising_steps(ties: bool) -> None:
    truth, prob = stepped(150, seed=3)
    prob = np.round(prob, 2) if ties else prob
    high, low = (truth.sum() + 1) / (truth.sum() + 2), 1 / ((~truth).sum() + 2)

    x, y = fit_isotonic(truth, prob)

    # The max-min formula: at each value the highest, over where it starts, of the lowest mean of a run through it.
    values = np.unique(prob)
    mean = [[truth[(prob >= a) & (prob <= b)].mean() if a <= b else np.nan for b in values] for a in values]
    best = np.clip([max(min(mean[a][i:]) for a in range(i + 1)) for i in range(len(values))], low, high).round(12)
    steps, centres = zip(*pd.Series(prob).groupby(best[np.searchsorted(values, prob)]).mean().items(), strict=True)
    np.testing.assert_allclose(y, steps, rtol=0, atol=1e-12)
    np.testing.assert_allclose(x, centres, rtol=0, atol=1e-12)


def test_a_perfect_separation_has_a_finite_isotonic_log_loss() -> None:
    truth, prob = np.repeat([True, False], 50), np.append(np.linspace(0.6, 0.9, 50), np.linspace(0.1, 0.4, 50))
    fitted = fit_calibration(predictions_of({"MI": (truth, prob)}, n_validation=100), ["MI"])["classes"]["MI"]
    np.testing.assert_allclose(fit_isotonic(truth, prob), [[0.25, 0.75], [1 / 52, 51 / 52]])
    # Half of the records lie outside the two points, at about 41/42 of what is right, the others on the line between.
    line = np.log(np.linspace(51 / 52, (1 / 52 + 51 / 52) / 2 + 0.2 * (50 / 52), 100)).mean()
    assert fitted["log_loss"]["isotonic"] == pytest.approx((-np.log(41 / 42) - line) / 2, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_beta_calibration_finds_the_two_sides_of_a_distortion(seed: int) -> None:
    truth, prob = one_sided(50_000, seed)
    assert fit_beta(truth, prob) == pytest.approx((0.25, 1.5, -0.5), abs=0.12)


def test_beta_calibration_never_falls() -> None:
    # Right near 1, and falling near 0: the side that falls has no part in it.
    prob = np.random.default_rng(0).uniform(0.001, 0.999, 20_000)
    truth = np.random.default_rng(1).random(20_000) < expit(-0.5 * np.log(prob) - 1.5 * np.log1p(-prob) - 1)
    a, b, _ = fit_beta(truth, prob)
    assert a == 0
    assert b == pytest.approx(0.9, abs=0.1)


def test_only_fold_9_is_read() -> None:
    predictions = predictions_of({"MI": stepped(600, seed=2)}, n_validation=300)
    changed = predictions.copy()
    changed.loc[changed["fold"] == 10, "prob_MI"] = np.float32(0.5)
    changed.loc[changed["fold"] == 10, "true_MI"] = True
    changed.loc[changed["fold"] == 10, "patient_id"] = 7
    assert fit_calibration(predictions, ["MI"]) == fit_calibration(changed, ["MI"])


def test_perfect_separation_stays_finite() -> None:
    slope, intercept = fit_platt(np.repeat([True, False], 50), np.repeat([1.0, 0.0], 50))
    assert 0 < slope < 1
    assert abs(intercept) < 1e-6


@pytest.mark.parametrize(
    ("truth", "prob", "reason"),
    [
        (np.arange(100) < 9, np.linspace(1, 0, 100), "9 positives, fewer than 10"),
        (np.arange(100) < 100, np.linspace(1, 0, 100), "0 negatives, fewer than 10"),
        (np.arange(100) < 50, np.full(100, 0.3), "the same for every record"),
        (np.arange(100) < 50, np.linspace(0, 1, 100), "slope is -"),
    ],
)
def test_where_nothing_can_be_fitted_the_probability_stays(truth: np.ndarray, prob: np.ndarray, reason: str) -> None:
    predictions = predictions_of({"MI": (truth, prob)}, n_validation=100)

    calibration = fit_calibration(predictions, ["MI"])

    assert calibration["classes"]["MI"]["method"] == "identity"
    assert reason in uncalibrated_classes(calibration)["MI"]
    assert list(calibration["classes"]["MI"]["log_loss"]) == ["identity"]
    np.testing.assert_array_equal(apply_calibration(prob[:, None], calibration, ["MI"])[:, 0], prob.astype(np.float32))
    json.dumps(calibration, allow_nan=False)


@pytest.mark.parametrize("n_patients", [1, 4])
def test_too_few_patients_to_cross_validate_leave_the_probability(n_patients: int) -> None:
    predictions = predictions_of({"MI": overconfident(200, seed=0)}, n_validation=200)
    predictions["patient_id"] %= n_patients
    fitted = fit_calibration(predictions, ["MI"])["classes"]["MI"]
    assert fitted["method"] == "identity"
    assert fitted["reason"] == "fold 9 has fewer than 5 patients"
    predictions["patient_id"] = np.arange(200) % 5
    assert fit_calibration(predictions, ["MI"])["classes"]["MI"]["method"] != "identity"


def test_positives_of_a_single_patient_can_be_cross_validated() -> None:
    # One of the five parts then has nothing but negatives to fit, and still every log loss is finite.
    predictions = predictions_of({"MI": (np.arange(300) < 12, np.linspace(0.9, 0.1, 300))}, n_validation=300)
    predictions["patient_id"] = np.where(np.arange(300) < 12, 0, np.arange(300))
    fitted = fit_calibration(predictions, ["MI"])["classes"]["MI"]
    assert np.isfinite(list(fitted["log_loss"].values())).all()
    assert fitted["method"] == min(fitted["log_loss"], key=lambda name: fitted["log_loss"][name])


@pytest.fixture(scope="module")
def one_of_each() -> tuple[pd.DataFrame, dict]:
    """Four classes, called like the methods that are chosen for them, and their calibration."""
    predictions = predictions_of({name: make(4_000, seed=1) for name, make in DISTORTIONS.items()}, n_validation=2_000)
    calibration = fit_calibration(predictions, METHODS)
    assert {name: fitted["method"] for name, fitted in calibration["classes"].items()} == {
        name: name for name in METHODS
    }
    return predictions, calibration


@pytest.mark.parametrize("method", METHODS)
def test_calibration_keeps_the_order_and_stays_between_0_and_1(
    one_of_each: tuple[pd.DataFrame, dict], method: str
) -> None:
    prob = np.concatenate([[0.0], np.geomspace(1e-9, 1e-6, 100), np.linspace(1e-6, 1 - 1e-6, 200_000), [1.0]])
    calibrated = apply_calibration(prob[:, None], one_of_each[1], [method])[:, 0]
    assert (np.diff(calibrated) >= 0).all()
    assert calibrated.min() >= 0
    assert calibrated.max() <= 1
    assert calibrated[0] < calibrated[-1]


def test_every_calibration_keeps_different_probabilities_apart(
    one_of_each: tuple[pd.DataFrame, dict],
) -> None:
    predictions, calibration = one_of_each
    calibrated = add_calibration(predictions, calibration, METHODS)
    n_before = calibrated[[f"prob_{name}" for name in METHODS]].nunique().to_numpy()
    n_after = calibrated[[f"calibrated_{name}" for name in METHODS]].nunique().to_numpy()
    different = dict(zip(METHODS, n_after / n_before, strict=True))
    assert min(different["identity"], different["temperature"], different["platt"]) > 0.99
    # An isotonic step rises by a part in ten thousand of the probability, of which float32 resolves hundreds of values.
    assert n_after[METHODS.index("isotonic")] > 50 * 14


def test_the_file_gives_the_same_bits_in_another_process(
    one_of_each: tuple[pd.DataFrame, dict], tmp_path: Path
) -> None:
    predictions, calibration = one_of_each
    prob = predictions[[f"prob_{name}" for name in METHODS]].to_numpy()
    (tmp_path / "calibration.json").write_text(json.dumps(calibration, allow_nan=False))
    np.save(tmp_path / "prob.npy", prob)
    code = """
import json, sys, numpy as np
from ecgkit.stats.calibration import METHODS, apply_calibration
with open(sys.argv[1] + "/calibration.json") as file:
    calibration = json.load(file)
np.save(sys.argv[1] + "/calibrated.npy", apply_calibration(np.load(sys.argv[1] + "/prob.npy"), calibration, METHODS))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)

    np.testing.assert_array_equal(
        np.load(tmp_path / "calibrated.npy"), apply_calibration(prob, calibration, METHODS), strict=True
    )


def test_a_file_from_before_there_was_a_choice_still_applies() -> None:
    before = {
        "fitted_on": "fold_9",
        "of": "prob",
        "formula": "1 / (1 + exp(-(slope * log(prob / (1 - prob)) + intercept)))",
        "classes": {
            "MI": {"method": "platt", "slope": 0.5, "intercept": 1.0},
            "CD": {"method": "identity", "slope": 1.0, "intercept": 0.0, "reason": "fold 9 has 3 positives"},
        },
    }
    prob = np.array([[0.8, 0.8], [0.5, 0.123]])
    # The odds of 0.8 are 4: their root times e is 2e.
    expected = np.array([[2 * np.e / (1 + 2 * np.e), 0.8], [np.e / (1 + np.e), 0.123]])
    np.testing.assert_allclose(apply_calibration(prob, before, ["MI", "CD"]), expected, rtol=1e-6)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(EcgkitError, match="unknown method of calibration 'spline': choose one of identity"):
        apply_calibration(np.full((3, 1), 0.5), {"classes": {"MI": {"method": "spline"}}}, ["MI"])


def test_a_class_or_a_column_too_few_is_refused() -> None:
    calibration = fit_calibration(predictions_of({"MI": overconfident(500, seed=3)}, n_validation=500), ["MI"])
    with pytest.raises(EcgkitError, match="no calibration for CD"):
        apply_calibration(np.full((3, 1), 0.5), calibration, ["CD"])
    with pytest.raises(EcgkitError, match=r"\(3, 2\)"):
        apply_calibration(np.full((3, 2), 0.5), calibration, ["MI"])


def calibrated_scores() -> stats.FoldScores:
    predictions = predictions_of(
        {"MI": overconfident(4_000, seed=0), "CD": stepped(4_000, seed=1), "HYP": right_already(4_000, seed=2)},
        n_validation=2_000,
    )
    classes = ["MI", "CD", "HYP"]
    return stats.fold_scores(add_calibration(predictions, fit_calibration(predictions, classes), classes), classes, 10)


def test_the_summary_compares_before_and_after() -> None:
    scores = calibrated_scores()
    assert scores.calibrated is not None

    table = calibration_summary(scores)

    assert list(table.index) == ["MI", "CD", "HYP", "macro"]
    columns = ["ece_before", "ece_after", "brier_before", "brier_after"]
    assert list(table) == [*columns, "perfect_low", "perfect_high", "inside"]
    for i, name in enumerate(scores.classes):
        truth, before, after = scores.y_true[:, i], scores.prob[:, i], scores.calibrated[:, i]
        assert table.loc[name, "brier_before"] == pytest.approx(sklearn.metrics.brier_score_loss(truth, before))
        assert table.loc[name, "brier_after"] == pytest.approx(sklearn.metrics.brier_score_loss(truth, after))
        assert table.loc[name, "ece_after"] == stats.ece(truth, after)
    np.testing.assert_allclose(
        table.loc["macro", columns].astype(float), table.loc[["MI", "CD", "HYP"], columns].mean()
    )
    assert (table.loc[["MI", "CD"], "ece_after"] < table.loc[["MI", "CD"], "ece_before"] / 3).all()


def test_the_summary_says_whether_more_than_chance_is_left() -> None:
    scores = calibrated_scores()
    after = calibration_summary(scores)
    before = calibration_summary(stats.FoldScores(10, scores.classes, scores.y_true, scores.prob, scores.prob))
    assert after["inside"].dtype == bool
    assert before["inside"].tolist() == [False, False, True, False]
    assert (after["inside"] == (after["ece_after"] <= after["perfect_high"])).all()
    # The interval of the mean of three classes is narrower than the mean of their intervals.
    width = after["perfect_high"] - after["perfect_low"]
    assert 0 < width["macro"] < 0.8 * width[["MI", "CD", "HYP"]].mean()


def test_the_summary_needs_calibrated_probabilities() -> None:
    with pytest.raises(EcgkitError, match="add_calibration"):
        calibration_summary(stats.fold_scores(make_predictions(), ("NORM",), 10))
