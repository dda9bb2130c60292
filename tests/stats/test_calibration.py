"""Metrics of calibration against formulae from the papers, simulations done over, and bins counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm

from ecgkit import stats
from ecgkit.errors import EcgkitError


def case(seed: int, n_records: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes that are rarer than their probabilities."""
    rng = np.random.default_rng(seed)
    prob = rng.beta(0.6, 1.4, n_records)
    return rng.random(n_records) < prob**1.5, prob


@pytest.mark.parametrize("n_bins", [5, 10, 15])
def test_bins_of_equal_mass_differ_by_one_record_at_most(n_bins: int) -> None:
    for n_records in (*range(n_bins, 70), 2158):
        truth, prob = case(n_records, n_records)
        table = stats.reliability(truth, prob, n_bins=n_bins, bins="mass")
        assert len(table) == n_bins
        assert table["count"].sum() == n_records
        assert np.ptp(table["count"]) <= 1


def test_bins_of_equal_mass_are_slices_of_the_sorted_records() -> None:
    truth, prob = case(7, 600)
    order = np.argsort(prob)
    slices = np.array_split(order, 15)

    table = stats.reliability(truth, prob, bins="mass")

    np.testing.assert_allclose(table["predicted"], [prob[rows].mean() for rows in slices])
    np.testing.assert_allclose(table["observed"], [truth[rows].mean() for rows in slices])
    gaps = [abs(prob[rows].mean() - truth[rows].mean()) * len(rows) / 600 for rows in slices]
    assert stats.ece(truth, prob, bins="mass") == pytest.approx(sum(gaps), abs=1e-12)


def test_equal_probabilities_share_a_bin_of_equal_mass() -> None:
    prob = np.repeat([0.0, 0.2, 0.5, 1.0], [50, 10, 30, 10])
    table = stats.reliability(np.arange(100) % 2 == 0, prob, bins="mass")
    assert table["predicted"].tolist() == pytest.approx([0.0, 0.2, 0.5, 1.0])
    assert table["count"].tolist() == [50, 10, 30, 10]


def test_fewer_records_than_bins_of_equal_mass_have_one_each() -> None:
    table = stats.reliability([False, True, True], [0.1, 0.5, 0.9], bins="mass")
    assert table["count"].tolist() == [1, 1, 1]
    assert stats.ece([False, True, True], [0.1, 0.5, 0.9], bins="mass") == pytest.approx((0.1 + 0.5 + 0.1) / 3)


def test_bins_of_equal_mass_stay_where_they_are_under_weights() -> None:
    truth, prob = case(3, 150)
    weights = np.random.default_rng(3).multinomial(150, np.full(150, 1 / 150), 4)
    slices = np.array_split(np.argsort(prob), 15)
    expected = [sum(abs((row * (prob - truth))[rows].sum()) for rows in slices) / row.sum() for row in weights]
    np.testing.assert_allclose(stats.ece(truth, prob, bins="mass", weights=weights), expected)


def test_an_unknown_kind_of_bins_is_refused() -> None:
    with pytest.raises(EcgkitError, match="unknown kind of bins 'quantile': choose one of width, mass"):
        stats.reliability([True, False], [0.7, 0.2], bins="quantile")


def test_the_interval_of_a_calibrated_model_is_that_of_another_simulation() -> None:
    rng = np.random.default_rng(11)
    prob = np.stack([rng.beta(0.5, 2.0, 300), rng.beta(2.0, 2.0, 300)], axis=1)

    low, high, of_macro = stats.calibrated_ece_interval(prob, resamples=4000, seed=5)

    # Outcome by outcome from another generator, and the error from torchmetrics.
    draw = np.random.default_rng(99)
    errors = np.empty((1500, 2))
    for row in errors:
        outcomes = torch.tensor(draw.binomial(1, prob))
        row[:] = [
            tm.binary_calibration_error(torch.tensor(prob[:, i]), outcomes[:, i], n_bins=15, validate_args=False)
            for i in range(2)
        ]
    expected = np.percentile(errors, [2.5, 97.5], axis=0)
    np.testing.assert_allclose([low, high], expected, atol=0.002)
    np.testing.assert_allclose(of_macro, np.percentile(errors.mean(axis=1), [2.5, 97.5]), atol=0.002)
    # Errors of two classes seldom are large together.
    assert np.ptp(of_macro) < (high - low).mean()


def test_a_calibrated_model_lies_in_the_interval_95_times_in_100() -> None:
    rng = np.random.default_rng(4)
    prob = rng.beta(0.5, 2.0, 400)
    low, high, _ = stats.calibrated_ece_interval(prob)
    errors = np.array([stats.ece(rng.random(400) < prob, prob) for _ in range(600)])
    # 600 trials at 0.95 have a standard error of 0.009.
    assert np.mean((errors >= low[0]) & (errors <= high[0])) == pytest.approx(0.95, abs=0.03)


def test_who_is_certain_and_right_has_no_error_at_all() -> None:
    low, high, of_macro = stats.calibrated_ece_interval(np.repeat([0.0, 1.0], 50), resamples=50)
    assert (low[0], high[0], *of_macro) == (0, 0, 0, 0)


def test_the_interval_narrows_as_records_are_added() -> None:
    prob = np.random.default_rng(0).random(4000)
    high = [stats.calibrated_ece_interval(prob[:n])[1][0] for n in (100, 1000, 4000)]
    # The noise of a bin's frequency falls with the root of its records.
    assert high[0] / high[1] == pytest.approx(np.sqrt(10), rel=0.2)
    assert high[1] / high[2] == pytest.approx(2, rel=0.2)
