"""A class of another frequency than in training: its share is found, and one offset repairs the calibration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from ecgkit import stats
from ecgkit.stats.calibration_fit import fit_temperature
from ecgkit.stats.prior_shift import add_offset, difference_interval, fit_offset, prior_by_em

PRIOR = 0.5


def shifted(share: float, n_records: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes, and probabilities that are calibrated where the share is `PRIOR`: Bayes for two Gaussians."""
    rng = np.random.default_rng(0)
    truth = rng.random(n_records) < share
    score = rng.normal(np.where(truth, 1.0, -1.0), 1.0)
    return truth, expit(2 * score + logit(PRIOR))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_the_share_of_a_class_is_found_without_labels(share: float) -> None:
    _, prob = shifted(share)
    assert prior_by_em(prob, PRIOR) == pytest.approx(share, abs=0.01)


def test_an_offset_repairs_what_a_temperature_does_not() -> None:
    truth, prob = shifted(0.05)
    fitted, rest = slice(0, 1000), slice(1000, None)
    before = float(stats.ece(truth[rest], prob[rest]))
    slope = fit_temperature(truth[fitted], prob[fitted])
    by_temperature = float(stats.ece(truth[rest], expit(slope * logit(prob[rest]))))
    by_labels = float(stats.ece(truth[rest], add_offset(prob[rest], fit_offset(truth[fitted], prob[fitted]))))
    share = prior_by_em(prob[fitted], PRIOR)
    by_em = float(stats.ece(truth[rest], add_offset(prob[rest], logit(share) - logit(PRIOR))))
    assert before > 0.1
    assert by_temperature > before / 2
    assert max(by_labels, by_em) < before / 5


def test_with_its_offset_the_mean_probability_is_the_share() -> None:
    truth, prob = shifted(0.2, 500)
    assert add_offset(prob, fit_offset(truth, prob)).mean() == pytest.approx((truth.sum() + 0.5) / 501, abs=1e-6)
    assert np.isfinite(fit_offset(np.zeros(50, bool), prob[:50]))
    assert fit_offset(np.r_[truth, np.nan, np.nan], np.r_[prob, 0.9, 0.1]) == fit_offset(truth, prob)


def test_the_interval_of_a_difference_adds_the_widths_in_quadrature() -> None:
    value, low, high = difference_interval((0.9, 0.87, 0.93), (0.8, 0.76, 0.84))
    assert (value, low, high) == pytest.approx((0.1, 0.05, 0.15))
    # the limits of the difference come from opposite sides of skewed intervals
    assert difference_interval((0.9, 0.9, 1.0), (0.8, 0.7, 0.8))[1:] == pytest.approx((0.1, 0.1 + np.hypot(0.1, 0.1)))
