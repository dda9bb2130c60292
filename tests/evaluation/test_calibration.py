"""Calibration: fitted on fold 9, monotone, and left alone where there is nothing to fit."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ecgkit import metrics
from ecgkit.errors import EcgkitError
from ecgkit.evaluation import add_calibration, apply_calibration, fit_calibration
from ecgkit.evaluation.calibration import fit_platt


def overconfident(n_records: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give outcomes, and probabilities whose logits are twice as large and 1 too low: slope 0.5, intercept 0.5."""
    rng = np.random.default_rng(seed)
    true_logit = rng.normal(-1.0, 1.5, n_records)
    return rng.random(n_records) < expit(true_logit), expit(2 * true_logit - 1.0)


def predictions_of(columns: dict[str, tuple[np.ndarray, np.ndarray]], n_validation: int) -> pd.DataFrame:
    n_records = len(next(iter(columns.values()))[0])
    table = {"record_id": np.arange(n_records), "patient_id": np.arange(n_records)}
    table["fold"] = np.where(np.arange(n_records) < n_validation, 9, 10)
    for name, (truth, prob) in columns.items():
        table |= {f"true_{name}": truth, f"prob_{name}": prob.astype(np.float32)}
    return pd.DataFrame(table)


def test_the_distortion_is_found_and_undone_on_the_other_fold() -> None:
    predictions = predictions_of({"MI": overconfident(20_000, seed=0)}, n_validation=10_000)

    calibration = fit_calibration(predictions, ["MI"])

    fitted = calibration["classes"]["MI"]
    assert fitted["method"] == "platt"
    assert fitted["slope"] == pytest.approx(0.5, abs=0.03)
    assert fitted["intercept"] == pytest.approx(0.5, abs=0.06)
    test = metrics.fold_scores(add_calibration(predictions, calibration, ["MI"]), ["MI"], 10)
    assert test.calibrated is not None
    assert metrics.ece(test.y_true, test.prob)[0] > 0.1
    assert metrics.ece(test.y_true, test.calibrated)[0] < 0.02
    assert metrics.brier(test.y_true, test.calibrated)[0] < metrics.brier(test.y_true, test.prob)[0]


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


def test_only_fold_9_is_read() -> None:
    predictions = predictions_of({"MI": overconfident(600, seed=2)}, n_validation=300)
    changed = predictions.copy()
    changed.loc[changed["fold"] == 10, "prob_MI"] = np.float32(0.5)
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
    assert reason in calibration["classes"]["MI"]["reason"]
    np.testing.assert_array_equal(apply_calibration(prob[:, None], calibration, ["MI"])[:, 0], prob.astype(np.float32))
    json.dumps(calibration, allow_nan=False)


def test_calibration_keeps_the_order_and_stays_between_0_and_1() -> None:
    calibration = fit_calibration(predictions_of({"MI": overconfident(500, seed=3)}, n_validation=500), ["MI"])
    prob = np.concatenate([[0.0], np.linspace(1e-6, 1 - 1e-6, 1000), [1.0]])
    calibrated = apply_calibration(prob[:, None], calibration, ["MI"])[:, 0]
    assert (np.diff(calibrated) >= 0).all()
    assert calibrated.min() >= 0
    assert calibrated.max() <= 1


def test_a_class_or_a_column_too_few_is_refused() -> None:
    calibration = fit_calibration(predictions_of({"MI": overconfident(500, seed=3)}, n_validation=500), ["MI"])
    with pytest.raises(EcgkitError, match="no calibration for CD"):
        apply_calibration(np.full((3, 1), 0.5), calibration, ["CD"])
    with pytest.raises(EcgkitError, match=r"\(3, 2\)"):
        apply_calibration(np.full((3, 2), 0.5), calibration, ["MI"])
