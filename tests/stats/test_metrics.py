"""Metrics against scikit-learn, torchmetrics, brute force, and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as tm

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.stats.multiple_testing import benjamini_hochberg, holm

HALF_BY_HAND = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.2])
TRUE_BY_HAND = np.array([True, False, True, True, False, False])


def random_case(seed: int, *, ties: bool, n_records: int = 400, n_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prob = rng.random((n_records, n_classes))
    truth = rng.random((n_records, n_classes)) < 0.1 + 0.6 * prob
    return truth, np.round(prob, 1) if ties else prob


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_auc_and_average_precision_are_those_of_scikit_learn(seed: int, ties: bool) -> None:
    truth, prob = random_case(seed, ties=ties)

    expected = [sklearn.metrics.roc_auc_score(truth[:, i], prob[:, i]) for i in range(5)]
    np.testing.assert_allclose(stats.auc(truth, prob), expected, rtol=0, atol=1e-12)
    expected = [sklearn.metrics.average_precision_score(truth[:, i], prob[:, i]) for i in range(5)]
    np.testing.assert_allclose(stats.average_precision(truth, prob), expected, rtol=0, atol=1e-12)
    assert stats.macro_auc(truth, prob) == pytest.approx(sklearn.metrics.roc_auc_score(truth, prob), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_ranking_and_calibration_are_those_of_torchmetrics(ties: bool) -> None:
    truth, prob = random_case(7, ties=ties)
    scores, labels = torch.tensor(prob), torch.tensor(truth).long()
    columns = [(scores[:, i].contiguous(), labels[:, i].contiguous()) for i in range(5)]

    auc = tm.multilabel_auroc(scores, labels, num_labels=5, average="none")
    np.testing.assert_allclose(stats.auc(truth, prob), auc, atol=1e-6)
    precision = tm.multilabel_average_precision(scores, labels, num_labels=5, average="none")
    np.testing.assert_allclose(stats.average_precision(truth, prob), precision, atol=1e-6)
    error = [tm.binary_calibration_error(*column, n_bins=15) for column in columns]
    np.testing.assert_allclose(stats.ece(truth, prob), error, atol=1e-6)


def test_an_auc_worked_out_by_hand() -> None:
    # Nine pairs of a positive and a negative: the positives at 0.7 and 0.6 are below the negative at 0.8.
    assert stats.auc(TRUE_BY_HAND, HALF_BY_HAND) == pytest.approx(7 / 9)
    assert stats.auc([True, False], [0.5, 0.5]) == 0.5
    assert stats.average_precision(TRUE_BY_HAND, HALF_BY_HAND) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_decisions_are_judged_as_by_scikit_learn() -> None:
    truth, prob = random_case(3, ties=False)
    decided = prob >= 0.55
    decided[:, 4] = False  # a class that is there and is never predicted

    found = stats.threshold_metrics(truth, decided)
    kwargs = dict(average=None, zero_division=0)
    np.testing.assert_allclose(found["sensitivity"], sklearn.metrics.recall_score(truth, decided, **kwargs))
    np.testing.assert_allclose(found["specificity"], sklearn.metrics.recall_score(~truth, ~decided, **kwargs))
    np.testing.assert_allclose(found["precision"], sklearn.metrics.precision_score(truth, decided, **kwargs))
    np.testing.assert_allclose(found["f1"], sklearn.metrics.f1_score(truth, decided, **kwargs))
    accuracy = [sklearn.metrics.accuracy_score(truth[:, i], decided[:, i]) for i in range(5)]
    np.testing.assert_allclose(found["accuracy"], accuracy)
    assert found["precision"][4] == 0
    assert stats.micro_f1(truth, decided) == pytest.approx(sklearn.metrics.f1_score(truth, decided, average="micro"))
    assert stats.subset_accuracy(truth, decided) == pytest.approx(sklearn.metrics.accuracy_score(truth, decided))
    assert stats.hamming_loss(truth, decided) == pytest.approx(sklearn.metrics.hamming_loss(truth, decided))
    brier = [sklearn.metrics.brier_score_loss(truth[:, i], prob[:, i]) for i in range(5)]
    np.testing.assert_allclose(stats.brier(truth, prob), brier)


def test_what_a_class_cannot_have_is_nan_and_never_a_half() -> None:
    truth = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 0]], dtype=bool)  # never, always, sometimes
    prob = np.array([[0.1, 0.9, 0.8], [0.2, 0.8, 0.3], [0.9, 0.7, 0.6], [0.4, 0.6, 0.1]])

    np.testing.assert_array_equal(stats.auc(truth, prob), [np.nan, np.nan, 1.0])
    np.testing.assert_array_equal(stats.average_precision(truth, prob), [np.nan, np.nan, 1.0])
    assert stats.macro_auc(truth, prob) == 1.0
    assert np.isnan(stats.macro_auc(truth[:, :2], prob[:, :2]))
    found = stats.threshold_metrics(truth, prob >= 0.5)
    np.testing.assert_array_equal(found["sensitivity"], [np.nan, 1.0, 1.0])
    np.testing.assert_array_equal(found["specificity"], [0.75, np.nan, 1.0])
    np.testing.assert_array_equal(found["precision"], [np.nan, 1.0, 1.0])
    np.testing.assert_array_equal(found["f1"], [np.nan, 1.0, 1.0])
    np.testing.assert_array_equal(found["accuracy"], [0.75, 1.0, 1.0])
    assert np.isnan(stats.best_f1_threshold(truth[:, 0], prob[:, 0]))
    assert np.isnan(stats.best_f1_threshold(truth[:, 1], prob[:, 1]))
    assert np.isnan(stats.micro_f1(truth[:, :1], prob[:, :1] >= 0.5))
    assert np.isnan(stats.f_max(truth[:, :1], prob[:, :1], threshold=0.5))
    assert np.isnan(stats.f_max_threshold(truth[:, :1], prob[:, :1]))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_higher_f1(seed: int, ties: bool) -> None:
    truth, prob = random_case(seed, ties=ties, n_records=60, n_classes=1)
    truth, prob = truth[:, 0], prob[:, 0]

    best = stats.best_f1_threshold(truth, prob)

    of_all = [sklearn.metrics.f1_score(truth, prob >= value, zero_division=0) for value in np.unique(prob)]
    assert sklearn.metrics.f1_score(truth, prob >= best) == pytest.approx(max(of_all), abs=1e-15)


def test_a_threshold_lies_in_the_middle_of_its_gap() -> None:
    # From 0.6 on, all three positives and one negative are found: F1 6/7. Anything in (0.4, 0.6] decides so.
    assert stats.best_f1_threshold(TRUE_BY_HAND, HALF_BY_HAND) == pytest.approx(0.5)


def test_of_equally_good_gaps_the_widest_is_taken() -> None:
    # F1 is 2/3 for {0.9}, and again for all four of them; the second gap, below 0.6, is the wider one.
    truth, prob = np.array([True, False, False, True]), np.array([0.9, 0.8, 0.7, 0.6])
    assert stats.best_f1_threshold(truth, prob) == pytest.approx(0.3)
    assert stats.best_f1_threshold(truth, np.array([0.9, 0.5, 0.3, 0.2])) == pytest.approx(0.7)


def test_a_threshold_between_neighbouring_floats_parts_them_in_either_precision() -> None:
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    truth, prob = np.array([True, True, False, False]), np.array([high, high, low, low])

    threshold = stats.best_f1_threshold(truth, prob)

    np.testing.assert_array_equal(prob >= threshold, truth)
    np.testing.assert_array_equal(prob.astype(np.float64) >= threshold, truth)
    np.testing.assert_array_equal(torch.tensor(prob).numpy() >= np.float32(threshold), truth)


def test_a_constant_probability_has_a_threshold_that_predicts_everything() -> None:
    threshold = stats.best_f1_threshold(np.array([True, False, False]), np.full(3, 0.3))
    assert threshold == pytest.approx(0.15)
    assert stats.best_f1_threshold(np.array([True, False]), np.zeros(2)) == 0.0


def f_max_by_brute_force(truth: np.ndarray, prob: np.ndarray, threshold: float) -> float:
    precisions, recalls = [], []
    for record_truth, record_prob in zip(truth, prob, strict=True):
        decided = record_prob >= threshold
        if decided.any():
            precisions.append((record_truth & decided).sum() / decided.sum())
        if record_truth.any():
            recalls.append((record_truth & decided).sum() / record_truth.sum())
    precision, recall = np.mean(precisions), np.mean(recalls)
    return float(2 * precision * recall / (precision + recall)) if recall else 0.0


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_f_max_is_the_best_sample_centric_f_of_all_thresholds(seed: int, ties: bool) -> None:
    truth, prob = random_case(seed, ties=ties, n_records=40, n_classes=4)
    truth[3] = False  # a record without a class has no recall

    threshold = stats.f_max_threshold(truth, prob)

    best = max(f_max_by_brute_force(truth, prob, value) for value in np.unique(prob))
    assert stats.f_max(truth, prob, threshold=threshold) == pytest.approx(best, abs=1e-12)
    assert stats.f_max(truth, prob, threshold=0.5) == pytest.approx(f_max_by_brute_force(truth, prob, 0.5), abs=1e-12)


def test_f_max_by_hand() -> None:
    truth = np.array([[True, True], [True, False], [False, True]])
    prob = np.array([[0.9, 0.2], [0.8, 0.7], [0.1, 0.3]])
    # At 0.5 two records have predictions: precisions 1 and 1/2; the recalls of the three are 1/2, 1 and 0.
    assert stats.f_max(truth, prob, threshold=0.5) == pytest.approx(2 * 0.75 * 0.5 / (0.75 + 0.5))
    assert stats.f_max(truth, prob, threshold=0.95) == 0.0


def test_calibration_error_by_hand() -> None:
    # Two records at 0.2 of which one is positive, three at 1 that all are: gaps 0.3 and 0.
    truth, prob = np.array([1, 0, 1, 1, 1]), np.array([0.2, 0.2, 1.0, 1.0, 1.0])
    assert stats.ece(truth, prob) == pytest.approx(0.3 * 2 / 5)
    table = stats.reliability(truth, prob)
    assert table["count"].tolist() == [2, 3]
    assert table["observed"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    "function",
    [stats.auc, stats.average_precision, stats.macro_auc, stats.brier, stats.ece, stats.f_max_threshold],
)
def test_nan_is_refused(function: object) -> None:
    prob = np.full((4, 2), 0.5)
    prob[2, 1] = np.nan
    with pytest.raises(EcgkitError, match="1 of 8 scores are NaN"):
        function(np.eye(4, 2, dtype=bool), prob)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("truth", "scores", "message"),
    [
        ([True, False], [0.1, 0.2, 0.3], "shape"),
        ([], [], "no record"),
        ([0, 2], [0.1, 0.2], "neither 0 nor 1"),
        (["yes", "no"], [0.1, 0.2], "neither 0 nor 1"),
        ([True, False], ["high", "low"], "not numbers"),
        ([[[True, False]]], [[[0.1, 0.2]]], r"\(1, 1, 2\)"),
        (True, 0.5, r"\(\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(truth: list, scores: list, message: str) -> None:
    with pytest.raises(EcgkitError, match=message) as error:
        stats.auc(truth, scores)
    assert "\n" not in str(error.value)


def test_bins_and_p_values_that_cannot_be_are_refused() -> None:
    with pytest.raises(EcgkitError, match="n_bins is 0"):
        stats.ece([True, False], [0.9, 0.2], n_bins=0)
    for correct in (holm, benjamini_hochberg):
        with pytest.raises(EcgkitError, match="0 to 1"):
            correct([0.5, 1.5])
        with pytest.raises(EcgkitError, match=r"\(1, 2\)"):
            correct([[0.5, 0.1]])


def test_logits_are_no_probabilities() -> None:
    with pytest.raises(EcgkitError, match="not logits"):
        stats.best_f1_threshold([True, False], [1.3, -0.2])
    with pytest.raises(EcgkitError, match="not logits"):
        stats.brier([True, False], [1.3, -0.2])


def table_of(folds: tuple[int, ...] = (9, 10)) -> pd.DataFrame:
    truth, prob = random_case(0, ties=False, n_records=20, n_classes=2)
    columns = {"fold": np.resize(folds, 20)}
    for i, name in enumerate(("MI", "CD")):
        columns |= {f"true_{name}": truth[:, i], f"prob_{name}": prob[:, i].astype(np.float32)}
    return pd.DataFrame(columns)


def test_a_fold_is_read_out_of_the_table_in_the_order_of_the_classes() -> None:
    table = table_of()
    scores = stats.fold_scores(table, ["CD", "MI"], 9)
    assert scores.prob.shape == (10, 2)
    np.testing.assert_array_equal(scores.prob[:, 0], table.loc[table["fold"] == 9, "prob_CD"].to_numpy(np.float64))
    assert scores.calibrated is None
    np.testing.assert_array_equal(scores.take(np.array([3, 3])).prob, scores.prob[[3, 3]])


def test_a_table_that_lacks_something_is_refused_by_name() -> None:
    with pytest.raises(EcgkitError, match=r"no record of fold 10 \(there: 8, 9\)"):
        stats.fold_scores(table_of((8, 9)), ["MI", "CD"], 10)
    with pytest.raises(EcgkitError, match="no column 'true_HYP' and 1 more"):
        stats.fold_scores(table_of(), ["MI", "HYP"], 9)
    table = table_of()
    table.loc[0, "prob_MI"] = np.nan
    with pytest.raises(EcgkitError, match="NaN"):
        stats.fold_scores(table, ["MI", "CD"], 9)
    table.loc[0, "prob_MI"] = 1.5
    with pytest.raises(EcgkitError, match="a prob is outside 0 to 1"):
        stats.fold_scores(table, ["MI", "CD"], 9)


def test_thresholds_are_taken_from_the_file_or_from_a_plain_mapping() -> None:
    plain = {"MI": 0.2, "CD": 0.4}
    np.testing.assert_array_equal(stats.class_thresholds(plain, ["CD", "MI"]), [0.4, 0.2])
    np.testing.assert_array_equal(stats.class_thresholds({"thresholds": plain}, ["MI"]), [0.2])
    with pytest.raises(EcgkitError, match="no threshold for HYP"):
        stats.class_thresholds(plain, ["HYP"])
