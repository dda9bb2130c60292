"""DeLong's test agrees with its definition, and a bootstrap p value counts the resamples on the wrong side of zero."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from scipy.stats import norm

from ecgkit.stats.paired_tests import bootstrap_p, delong, paired_difference


def brute_force_delong(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the difference of the AUCs and its standard error as DeLong et al. 1988 define them, pair by pair."""
    kernel = []
    for scores in (first, second):
        over = scores[truth][:, None] - scores[~truth][None, :]
        kernel.append((over > 0) + 0.5 * (over == 0))
    n_positive, n_negative = truth.sum(), (~truth).sum()
    of_positives = np.cov(np.array([psi.mean(axis=1) for psi in kernel]))
    of_negatives = np.cov(np.array([psi.mean(axis=0) for psi in kernel]))
    covariance = of_positives / n_positive + of_negatives / n_negative
    contrast = np.array([1.0, -1.0])
    return float(kernel[0].mean() - kernel[1].mean()), float(np.sqrt(contrast @ covariance @ contrast))


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("seed", range(5))
def test_delong_is_what_the_definition_gives_with_and_without_ties(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(150) < 0.3
    first, second = (np.round(rng.random(150) + strength * truth, decimals) for strength in (0.5, 0.3))

    test = delong(truth, first, second)

    difference, error = brute_force_delong(truth, first, second)
    assert test.first == pytest.approx(sklearn.metrics.roc_auc_score(truth, first), abs=1e-12)
    assert test.second == pytest.approx(sklearn.metrics.roc_auc_score(truth, second), abs=1e-12)
    assert test.difference == pytest.approx(difference, abs=1e-12)
    assert test.standard_error == pytest.approx(error, rel=1e-10)
    assert test.p == pytest.approx(2 * norm.cdf(-abs(difference) / error), rel=1e-8)


def test_delong_finds_an_effect_that_is_not_there_one_time_in_twenty() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(200) < 60
    found = [delong(truth, rng.normal(truth, 1.0), rng.normal(truth, 1.0)).p < 0.05 for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.02)


def test_delong_where_nothing_can_be_said() -> None:
    scores = np.linspace(0, 1, 10)
    assert np.isnan(delong(np.ones(10, dtype=bool), scores, scores).p)
    alone = delong(np.arange(10) == 9, scores, scores[::-1])
    assert (alone.first, alone.second) == (1.0, 0.0)
    assert np.isnan(alone.standard_error)
    truth = np.arange(10) >= 5
    assert delong(truth, scores, 2 * scores).p == 1.0
    perfect = delong(truth, scores, -scores)
    assert perfect.difference == 1.0
    assert np.isnan(perfect.p)


def test_the_p_value_counts_the_resamples_on_the_wrong_side() -> None:
    assert bootstrap_p(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert bootstrap_p(np.r_[np.full(989, 0.1), np.full(10, -0.1), np.nan]) == pytest.approx(2 * 11 / 1000)
    assert bootstrap_p(-np.r_[np.full(989, 0.1), np.full(10, -0.1)]) == pytest.approx(2 * 11 / 1000)
    assert bootstrap_p(np.zeros(999)) == 1.0
    assert np.isnan(bootstrap_p([np.nan, np.nan]))


def test_a_difference_that_too_many_resamples_lack_has_neither_interval_nor_p_value() -> None:
    draws = np.full(1000, 0.3)
    assert paired_difference(0.9, 0.6, draws + 0.6, draws + 0.3)["p"] == pytest.approx(2 / 1001)
    draws[:26] = np.nan
    found = paired_difference(0.9, 0.6, draws + 0.6, draws + 0.3)
    assert found["difference"] == pytest.approx(0.3)
    assert np.isnan([found["difference_low"], found["difference_high"], found["p"]]).all()
