"""Abstaining is decided on fold 9, areas are those of brute force, and what is gained is what scikit-learn counts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from made_predictions import as_calibrated
from scipy.special import expit, logit

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation import add_calibration, fit_calibration, fit_thresholds
from ecgkit.evaluation.selective import selective_report
from ecgkit.stats import FoldScores
from ecgkit.stats.selective import abstention_threshold, area_under_risk_coverage, confidence

CLASSES = ("NORM", "MI", "STTC")


def make_predictions(n_records: int = 800, seed: int = 0) -> pd.DataFrame:
    """Two records per patient; the network's log-odds are stretched, by more from class to class."""
    rng = np.random.default_rng(seed)
    table = {"record_id": np.arange(n_records), "patient_id": np.arange(n_records) // 2}
    table["fold"] = np.where(np.arange(n_records) < n_records // 2, 9, 10)
    for i, name in enumerate(CLASSES):
        score = rng.normal(-1, 2.0, n_records)
        prob = expit(score * (1 + i)).astype(np.float32)
        table |= {f"true_{name}": rng.random(n_records) < expit(score), f"prob_{name}": prob}
    predictions = pd.DataFrame(table)
    return add_calibration(predictions, fit_calibration(predictions, CLASSES), CLASSES)


def scores_of(prob: list[list[float]]) -> FoldScores:
    values = np.array(prob)
    return FoldScores(10, CLASSES[: values.shape[1]], values > 0.5, values, values)


def test_confidence_is_the_least_distance_in_calibrated_log_odds() -> None:
    scores = scores_of([[0.9, 0.2, 0.5], [0.3, 0.5, 0.999]])
    limits = {"NORM": 0.3, "MI": 0.1, "STTC": 0.6}
    expected = [
        logit(0.6) - logit(0.5),  # STTC of the first record
        0.0,  # NORM of the second is at its threshold
    ]
    np.testing.assert_allclose(confidence(scores, limits), expected, atol=1e-5)


def test_the_calibrated_probabilities_count_and_not_the_uncalibrated_ones() -> None:
    scores = FoldScores(10, ("MI",), np.array([[True]]), np.array([[0.9]]), np.array([[0.6]]))
    assert confidence(scores, {"MI": 0.5}) == pytest.approx([logit(0.6)], abs=1e-5)


def test_probabilities_of_0_and_1_have_a_finite_confidence() -> None:
    assert np.isfinite(confidence(scores_of([[0.0, 1.0, 1.0]]), dict.fromkeys(CLASSES, 0.5))).all()


def test_scores_without_calibrated_probabilities_are_refused() -> None:
    scores = FoldScores(10, ("MI",), np.array([[True]]), np.array([[0.9]]))
    with pytest.raises(EcgkitError, match="add_calibration"):
        confidence(scores, {"MI": 0.5})


@pytest.mark.parametrize(("abstain", "n_below"), [(0.0, 0), (0.1, 10), (0.29, 29), (0.105, 10), (0.99, 99)])
def test_the_share_asked_for_lies_below_the_abstention_threshold(abstain: float, n_below: int) -> None:
    values = np.random.default_rng(0).random(100)
    assert (values < abstention_threshold(values, abstain=abstain)).sum() == n_below


def test_abstaining_on_everything_is_refused() -> None:
    for share in (1.0, -0.1, float("nan")):
        with pytest.raises(EcgkitError, match="abstain is"):
            abstention_threshold([0.1, 0.2], abstain=share)


def brute_force_area(values: np.ndarray, loss: np.ndarray) -> float:
    losses = loss[np.argsort(-values, kind="stable")]
    return float(np.mean([losses[: k + 1].mean() for k in range(len(losses))]))


def test_the_area_is_the_mean_risk_over_all_coverages() -> None:
    rng = np.random.default_rng(0)
    values, loss = rng.random(60), rng.random(60)
    assert area_under_risk_coverage(values, loss) == pytest.approx(brute_force_area(values, loss))
    assert area_under_risk_coverage(np.zeros(60), loss) == pytest.approx(loss.mean())


def test_ties_count_as_their_order_would_on_average() -> None:
    rng = np.random.default_rng(0)
    values, loss = rng.integers(0, 4, 30).astype(float), rng.random(30)
    shuffled = [brute_force_area(values[order], loss[order]) for order in (rng.permutation(30) for _ in range(3000))]
    error = np.std(shuffled) / np.sqrt(len(shuffled))
    assert area_under_risk_coverage(values, loss) == pytest.approx(np.mean(shuffled), abs=4 * error)


def test_weights_count_records_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    values, loss, weights = rng.integers(0, 9, 40), rng.random(40), rng.integers(0, 4, (5, 40))
    areas = area_under_risk_coverage(values, loss, weights=weights)
    repeated = [area_under_risk_coverage(np.repeat(values, row), np.repeat(loss, row)) for row in weights]
    np.testing.assert_allclose(areas, repeated, rtol=1e-12)
    assert np.isnan(area_under_risk_coverage(values, loss, weights=np.zeros((1, 40)))).all()


def test_the_report_counts_what_is_abstained_on_and_what_is_gained() -> None:
    predictions = make_predictions()
    thresholds = fit_thresholds(predictions, CLASSES)
    report = selective_report(predictions, CLASSES, thresholds, resamples=100)
    assert json.loads(json.dumps(report, allow_nan=False)) == report

    scores = stats.fold_scores(predictions, CLASSES, 10)
    decided = stats.decide(scores, thresholds)
    accepted = confidence(scores, thresholds) >= report["confidence_threshold"]
    assert report["coverage"]["fold_9"] == 0.9
    assert report["coverage"]["fold_10"]["value"] == accepted.mean()
    assert report["n_abstained"] == (~accepted).sum()
    for key, rows in (("before", np.ones(400, bool)), ("after", accepted)):
        truth, of_rows = scores.y_true[rows], decided[rows]
        expected = {
            "hamming_loss": sklearn.metrics.hamming_loss(truth, of_rows),
            "subset_accuracy": sklearn.metrics.accuracy_score(truth, of_rows),
            "macro_f1": sklearn.metrics.f1_score(truth, of_rows, average="macro"),
            "macro_auc": sklearn.metrics.roc_auc_score(truth, scores.prob[rows]),
        }
        for name, value in expected.items():
            assert report["metrics"][name][key]["value"] == pytest.approx(value), name
    for entries in report["metrics"].values():
        assert entries["change"]["value"] == pytest.approx(entries["after"]["value"] - entries["before"]["value"])
    # The records that are least sure are wrong the most often.
    assert report["metrics"]["hamming_loss"]["change"]["high"] < 0
    for i, name in enumerate(CLASSES):
        found = report["classes"][name]
        assert found["n_positive"] == scores.y_true[:, i].sum()
        assert found["n_positive_abstained"] == (scores.y_true[:, i] & ~accepted).sum()
        assert found["n_wrong_abstained"] == ((scores.y_true != decided)[:, i] & ~accepted).sum()
        assert found["positives_abstained"]["value"] == found["n_positive_abstained"] / found["n_positive"]


def test_one_patient_has_no_interval() -> None:
    predictions = make_predictions().assign(patient_id=np.where(np.arange(800) % 2, "007", "7"))
    report = selective_report(predictions, CLASSES, fit_thresholds(predictions, CLASSES), resamples=100)
    found = report["metrics"]["hamming_loss"]["before"]
    assert found["value"] > 0
    assert (found["low"], found["high"], report["bootstrap"]["patients"]) == (None, None, 1)


def test_the_curve_begins_with_all_records_and_falls() -> None:
    predictions = make_predictions()
    thresholds = fit_thresholds(predictions, CLASSES)
    report = selective_report(predictions, CLASSES, thresholds, resamples=20)
    assert [point["coverage"] for point in report["curve"]] == pytest.approx(np.arange(20, 0, -1) / 20)
    assert report["curve"][0]["hamming_loss"] == report["metrics"]["hamming_loss"]["before"]
    assert report["curve"][0]["macro_auc"]["value"] == pytest.approx(report["metrics"]["macro_auc"]["before"]["value"])
    assert report["curve"][10]["hamming_loss"]["value"] < 0.8 * report["curve"][0]["hamming_loss"]["value"]
    scores = stats.fold_scores(predictions, CLASSES, 10)
    loss = (scores.y_true != stats.decide(scores, thresholds)).mean(axis=1)
    values = confidence(scores, thresholds)
    assert report["aurc"]["value"] == pytest.approx(brute_force_area(values, loss))
    assert report["aurc_random"]["value"] == pytest.approx(loss.mean())
    assert report["aurc_best"]["value"] == pytest.approx(np.mean(np.cumsum(np.sort(loss)) / np.arange(1, 401)))
    assert report["aurc_best"]["value"] < report["aurc"]["value"] < report["aurc_random"]["value"]


def test_log_odds_order_records_better_than_probabilities() -> None:
    predictions = make_predictions(8000)
    thresholds = fit_thresholds(predictions, CLASSES)
    scores = stats.fold_scores(predictions, CLASSES, 10)
    limits = stats.class_thresholds(thresholds, CLASSES)
    loss = (scores.y_true != stats.decide(scores, thresholds)).mean(axis=1)
    ways = {
        "calibrated": confidence(scores, thresholds),
        "probability": np.abs(scores.require_calibrated() - limits).min(axis=1),
    }
    areas = {name: float(area_under_risk_coverage(values, loss)) for name, values in ways.items()}
    assert areas["calibrated"] < areas["probability"]


def test_fold_10_chooses_nothing() -> None:
    predictions = make_predictions()
    thresholds = fit_thresholds(predictions, CLASSES)
    changed = predictions.copy()
    is_test = changed["fold"] == 10
    for name in CLASSES:
        changed.loc[is_test, [f"prob_{name}", f"calibrated_{name}"]] = np.float32(0.999)
    reports = [selective_report(t, CLASSES, thresholds, resamples=2) for t in (predictions, changed)]
    assert reports[0]["confidence_threshold"] == reports[1]["confidence_threshold"]
    assert reports[0]["coverage"]["fold_9"] == reports[1]["coverage"]["fold_9"]


def test_a_fold_10_that_is_all_unsure_is_abstained_on_altogether() -> None:
    predictions = make_predictions()
    is_test = predictions["fold"] == 10
    for name in CLASSES:
        predictions.loc[is_test, [f"prob_{name}", f"calibrated_{name}"]] = np.float32(0.4)
    thresholds = dict.fromkeys(CLASSES, 0.4)
    report = selective_report(predictions, CLASSES, thresholds, resamples=5)
    assert report["coverage"]["fold_10"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert report["metrics"]["hamming_loss"]["after"] == {"value": None, "low": None, "high": None}
    assert report["metrics"]["macro_f1"]["change"]["value"] is None
    assert [point["coverage"] for point in report["curve"]] == [1.0]


def test_a_class_that_abstaining_removes_is_out_of_the_change() -> None:
    predictions = make_predictions()
    # Confident that no record is MI, except the three positives, which are at the threshold.
    is_test = (predictions["fold"] == 10).to_numpy()
    positive = is_test & (np.cumsum(is_test) <= 3)
    predictions.loc[is_test, "true_MI"] = positive[is_test]
    predictions.loc[is_test, "prob_MI"] = np.where(positive[is_test], 0.5, 1e-6).astype(np.float32)
    predictions = as_calibrated(predictions)
    report = selective_report(predictions, CLASSES, dict.fromkeys(CLASSES, 0.5), resamples=5)
    assert report["classes"]["MI"]["n_positive_abstained"] == report["classes"]["MI"]["n_positive"] == 3
    before, after = (report["metrics"]["macro_f1"][key]["value"] for key in ("before", "after"))
    scores = stats.fold_scores(predictions, CLASSES, 10)
    f1 = sklearn.metrics.f1_score(scores.y_true, scores.prob >= 0.5, average=None)
    assert before == pytest.approx(f1.mean())
    assert report["metrics"]["macro_f1"]["change"]["value"] == pytest.approx(after - f1[[0, 2]].mean())
