"""The bootstrap of patients: what it draws, and that its 95 % are 95 %."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.stats.resampling import interval, metric_intervals, patient_weights


def test_all_records_of_a_patient_come_together() -> None:
    weights = patient_weights([7, 3, 7, 5, 3, 7], resamples=50)
    assert weights.shape == (50, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 5])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    # Three patients are drawn, whoever they are.
    assert set((weights[:, 0] + weights[:, 1] + weights[:, 3]).tolist()) == {3}


def test_the_same_seed_draws_the_same_patients() -> None:
    ids = np.arange(100) // 2
    np.testing.assert_array_equal(patient_weights(ids, resamples=10), patient_weights(ids, resamples=10))
    assert (patient_weights(ids, resamples=10) != patient_weights(ids, resamples=10, seed=1)).any()


def test_each_patient_is_drawn_once_on_average() -> None:
    weights = patient_weights(np.arange(50), resamples=4000)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(weights.var(axis=0), 1 - 1 / 50, atol=0.15)


def test_an_interval_leaves_out_what_is_not_defined() -> None:
    assert interval([np.nan, *range(1001)]) == (25, 975)
    assert np.isnan(interval([np.nan, np.nan])).all()


def test_a_metric_that_more_than_a_fortieth_of_the_resamples_lack_has_no_interval() -> None:
    drawn = np.linspace(0.8, 0.9, 100)
    three, two = (np.where(np.arange(100) < 7 + n, np.where(np.arange(100) < 7, drawn, np.nan), drawn) for n in (3, 2))
    of_draws = {"auc": three, "precision": two, "f1": drawn}
    found = metric_intervals({"PMI": dict.fromkeys(of_draws, 0.85)}, {"PMI": of_draws})["PMI"]
    assert found["auc"] == {"value": 0.85, "low": None, "high": None}
    assert (found["precision"]["low"], found["precision"]["high"]) == pytest.approx(np.nanpercentile(two, [2.5, 97.5]))
    assert found["f1"]["low"] == pytest.approx(0.8025)
    never = metric_intervals({"PMI": {"ece": 0.1}}, {"PMI": {"ece": np.full(10, np.nan)}})["PMI"]
    assert never["ece"] == {"value": 0.1, "low": None, "high": None}


def test_the_interval_of_a_calibration_error_lies_about_it() -> None:
    """Resampling adds noise to a mean of absolute gaps; moved down by it, the interval holds the value."""
    rng = np.random.default_rng(0)
    prob = rng.random((500, 2))
    truth = rng.random((500, 2)) < prob
    weights = patient_weights(np.arange(500), resamples=300)
    values, drawn = stats.ece(truth, prob), stats.ece(truth, prob, weights=weights)
    assert (drawn.mean(axis=0) > values + 0.005).all()
    found = metric_intervals({"a": {"ece": values[0]}}, {"a": {"ece": drawn[:, 0]}})["a"]["ece"]
    assert 0 <= found["low"] < found["value"] < found["high"]
    width = np.subtract(*np.percentile(drawn[:, 0], [97.5, 2.5]))
    assert found["high"] - found["low"] == pytest.approx(width, rel=0.05)


@pytest.mark.parametrize(
    "arguments", [{"patient_ids": [1, None]}, {"patient_ids": []}, {"patient_ids": [1, 2], "resamples": 0}]
)
def test_nothing_to_draw_is_refused(arguments: dict) -> None:
    with pytest.raises(EcgkitError):
        patient_weights(**arguments)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two records per patient, equal within a patient; the AUC of the population is known.

    Positives score N(1, 1) and negatives N(0, 1), so the AUC is Phi(1 / sqrt(2)). The score of a patient's two records
    is the same but for a little noise, and so is the outcome: an interval that resamples records is too narrow.
    """
    rng = np.random.default_rng(0)
    auc = norm.cdf(1 / np.sqrt(2))
    covered = {"patients": [], "records": []}
    for trial in range(300):
        sick = rng.random(120) < 0.4
        score = rng.normal(sick, 1)
        truth, scores = np.repeat(sick, 2), np.repeat(score, 2) + rng.normal(0, 0.01, 240)
        for unit, ids in (("patients", np.repeat(np.arange(120), 2)), ("records", np.arange(240))):
            low, high = interval(stats.auc(truth, scores, weights=patient_weights(ids, resamples=400, seed=trial)))
            covered[unit].append(low <= auc <= high)
    # 300 trials of 0.95 have a standard error of 0.013; a percentile bootstrap of 120 patients is a little narrow.
    assert 0.91 <= np.mean(covered["patients"]) <= 0.985
    assert np.mean(covered["records"]) < 0.88
