"""Weights are repetitions: a record with weight three equals three records."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import sklearn.metrics

from ecgkit import stats
from ecgkit.errors import EcgkitError

N_RECORDS = 120


def decided(function: Callable[..., object]) -> Callable[..., object]:
    return lambda truth, prob, **weights: function(truth, prob >= 0.5, **weights)


def of_decisions(name: str) -> Callable[..., object]:
    return lambda truth, prob, **weights: stats.threshold_metrics(truth, prob >= 0.5, **weights)[name]


OF_CLASSES = {
    "auc": stats.auc,
    "average_precision": stats.average_precision,
    "brier": stats.brier,
    "ece": stats.ece,
    **{name: of_decisions(name) for name in ("sensitivity", "specificity", "precision", "f1", "accuracy")},
}
OF_SAMPLES = {
    "micro_f1": decided(stats.micro_f1),
    "subset_accuracy": decided(stats.subset_accuracy),
    "hamming_loss": decided(stats.hamming_loss),
    "f_max": partial(stats.f_max, threshold=0.4),
    "f_max_oracle": stats.f_max_oracle,
}


def case(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes, scores and weights; in some resamples the rare last class is missing."""
    rng = np.random.default_rng(seed)
    prob = rng.random((N_RECORDS, 3))
    truth = rng.random((N_RECORDS, 3)) < prob * [0.9, 0.5, 0.03]
    weights = rng.multinomial(N_RECORDS, np.full(N_RECORDS, 1 / N_RECORDS), 20)
    return truth, np.round(prob, 1) if ties else prob, weights


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_SAMPLES])
def test_weights_repeat_records(name: str, ties: bool) -> None:
    function = (OF_CLASSES | OF_SAMPLES)[name]
    for seed in range(3):
        truth, prob, weights = case(seed, ties=ties)
        found = function(truth, prob, weights=weights)
        repeated = [function(np.repeat(truth, row, axis=0), np.repeat(prob, row, axis=0)) for row in weights]
        assert np.shape(found) == (20, 3) if name in OF_CLASSES else (20,)
        np.testing.assert_allclose(found, repeated, rtol=0, atol=1e-12)


def test_weights_agree_with_scikit_learn() -> None:
    truth, prob, weights = case(5, ties=True)
    for metric, theirs in (
        (stats.auc, sklearn.metrics.roc_auc_score),
        (stats.average_precision, sklearn.metrics.average_precision_score),
        (stats.brier, sklearn.metrics.brier_score_loss),
    ):
        expected = [[theirs(truth[:, i], prob[:, i], sample_weight=row) for i in (0, 1)] for row in weights]
        np.testing.assert_allclose(metric(truth, prob, weights=weights)[:, :2], expected, rtol=0, atol=1e-12)


def test_a_class_that_a_resample_lacks_is_nan_there_and_nowhere_else() -> None:
    truth, prob, weights = case(1, ties=False)
    has_both = ((weights @ truth) > 0) & ((weights @ ~truth) > 0)
    assert not has_both[:, 2].all()
    assert has_both[:, 2].any()
    np.testing.assert_array_equal(~np.isnan(stats.auc(truth, prob, weights=weights)), has_both)


def test_one_class_alone_has_one_value_a_resample() -> None:
    truth, prob, weights = case(2, ties=False)
    whole = stats.auc(truth, prob, weights=weights)
    np.testing.assert_array_equal(stats.auc(truth[:, 0], prob[:, 0], weights=weights), whole[:, 0])
    assert np.ndim(stats.auc(truth[:, 0], prob[:, 0])) == 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(N_RECORDS), "one row per resample"),
        (np.ones((2, N_RECORDS + 1)), "one row per resample"),
        (-np.ones((2, N_RECORDS)), "negative"),
        (np.full((2, N_RECORDS), np.nan), "NaN"),
    ],
)
def test_weights_that_do_not_fit(weights: np.ndarray, message: str) -> None:
    truth, prob, _ = case(0, ties=False)
    with pytest.raises(EcgkitError, match=message):
        stats.auc(truth, prob, weights=weights)
