from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score, roc_auc_score

from ecgkit.feature_space.probes.controls import exchange_patients
from ecgkit.feature_space.probes.metrics import Prediction, permutation_scores, score, with_intervals
from ecgkit.feature_space.probes.targets import TARGETS, Target
from ecgkit.stats.resampling import patient_weights

AGE, SEX = TARGETS[:2]
COLOUR = Target("colour", categories=("red", "green", "blue"))
N = 150


def prediction(target: Target, seed: int = 0) -> Prediction:
    random = np.random.default_rng(seed)
    if target.kind == "regression":
        true = random.uniform(20, 90, N)
        values = 30 + 0.5 * true + random.normal(0, 8, N)
        return Prediction(true, target.bin(true), values, target.bin(values))
    probability = random.dirichlet(np.ones(len(target.categories)), N).round(2)
    codes = np.array([random.choice(len(target.categories), p=row / row.sum()) for row in probability])
    values = probability[:, 1] if target.kind == "binary" else probability.max(axis=1)
    several = probability if target.kind == "multiclass" else None
    return Prediction(codes.astype(float), codes, values, probability.argmax(axis=1), several)


def by_scikit_learn(target: Target, one: Prediction, rows: np.ndarray) -> dict[str, float]:
    true, predicted, codes = one.true[rows], one.predicted[rows], one.true_codes[rows]
    if target.kind == "regression":
        line = LinearRegression().fit(predicted[:, None], true)
        error = predicted - true
        numbers = {
            "r2": r2_score(true, predicted),
            "mae": mean_absolute_error(true, predicted),
            "calibration_slope": line.coef_[0],
            "calibration_intercept": line.intercept_,
            "bias": error.mean(),
            "limit_low": error.mean() - 1.96 * error.std(ddof=1),
            "limit_high": error.mean() + 1.96 * error.std(ddof=1),
        }
    elif target.kind == "binary":
        numbers = {"auc": roc_auc_score(codes == 1, predicted)}
    else:
        each = [roc_auc_score(codes == i, one.probabilities[rows, i]) for i in range(len(target.categories))]
        numbers = {"auc": np.mean(each)}
    present = sorted(set(codes.tolist()))
    return numbers | {
        "accuracy": accuracy_score(codes, one.codes[rows]),
        "f1": f1_score(codes, one.codes[rows], labels=present, average="macro", zero_division=0),
    }


@pytest.mark.parametrize("target", [AGE, SEX, COLOUR], ids=lambda target: target.kind)
def test_metrics_and_their_resamples_are_those_of_a_loop(target: Target) -> None:
    one = prediction(target)
    patients = np.random.default_rng(1).integers(0, 60, N)
    weights = patient_weights(patients, resamples=25, seed=3)
    values, drawn = score(target, one), score(target, one, weights)
    expected = by_scikit_learn(target, one, np.arange(N))
    assert set(values) == set(expected)
    for metric, value in expected.items():
        assert values[metric][0] == pytest.approx(value)
    for i, of_record in enumerate(weights):
        rows = np.repeat(np.arange(N), of_record.astype(int))
        for metric, value in by_scikit_learn(target, one, rows).items():
            assert drawn[metric][i] == pytest.approx(value), metric


def test_an_interval_covers_what_the_records_were_drawn_from() -> None:
    covered = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        true = random.normal(60, 10, 200)
        values = true + random.normal(0, 5, 200)
        one = Prediction(true, AGE.bin(true), values, AGE.bin(values))
        weights = patient_weights(np.arange(200), resamples=200, seed=seed)
        entry = with_intervals([score(AGE, one)], [score(AGE, one, weights)])["r2"]
        covered += entry["low"] <= 0.75 <= entry["high"]
    assert covered >= 33  # 38 expected


def test_a_constant_prediction_has_no_calibration_line() -> None:
    true = np.arange(20.0, 60.0)
    mean = np.full(40, true.mean())
    found = score(AGE, Prediction(true, AGE.bin(true), mean, AGE.bin(mean)))
    assert found["r2"][0] == pytest.approx(0.0)
    assert np.isnan(found["calibration_slope"][0])
    assert found["bias"][0] == pytest.approx(0.0)
    same = score(AGE, Prediction(mean, AGE.bin(mean), true, AGE.bin(true)))
    assert np.isnan(same["r2"][0])


def test_capped_records_are_left_out_of_the_uncapped_metrics() -> None:
    one = prediction(AGE)
    capped = one.true > 80
    found = score(AGE, one, capped=capped)
    assert found["r2_uncapped"][0] == pytest.approx(r2_score(one.true[~capped], one.predicted[~capped]))
    assert found["mae_uncapped"][0] == pytest.approx(mean_absolute_error(one.true[~capped], one.predicted[~capped]))
    assert "r2_uncapped" not in score(AGE, one, capped=np.zeros(N, dtype=bool))


@pytest.mark.parametrize("target", [AGE, SEX, COLOUR], ids=lambda target: target.kind)
def test_permuted_scores_are_those_of_the_permuted_truth(target: Target) -> None:
    one = prediction(target)
    order = exchange_patients(np.random.default_rng(2).integers(0, 50, N), 20, seed=0)
    found = permutation_scores(target, one, order)
    for value, rows in zip(found, order, strict=True):
        shuffled = Prediction(one.true[rows], one.true_codes[rows], one.predicted, one.codes, one.probabilities)
        assert value == pytest.approx(by_scikit_learn(target, shuffled, np.arange(N))[target.main_metric])
