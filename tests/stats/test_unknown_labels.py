"""Unknown labels: every metric equals scikit-learn's on the records, or labels, that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as skm
from made_predictions import make_predictions
from numpy.typing import NDArray

from ecgkit import evaluation, plots, stats
from ecgkit.evaluation.comparison import align
from ecgkit.evaluation.ensembles import fit_ensemble
from ecgkit.evaluation.mistakes import confident_mistakes, cooccurrence_tables, threshold_examples
from ecgkit.evaluation.selective import selective_report
from ecgkit.evaluation.subgroups import subgroup_report
from ecgkit.stats.calibration import add_calibration, apply_calibration, calibration_summary
from ecgkit.stats.calibration_fit import fit_calibration
from ecgkit.stats.paired_tests import delong
from ecgkit.stats.thresholds import fit_thresholds, policy_table

CLASSES = ("A", "B", "C")
"""C is known for every record."""


@pytest.fixture(scope="module")
def case() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outcomes, half of A's and a fifth of B's NaN, and probabilities with ties."""
    rng = np.random.default_rng(3)
    truth = (rng.random((300, 3)) < 0.3).astype(float)
    prob = np.round((truth * 0.4 + rng.random((300, 3))) / 1.4, 2)
    truth[rng.random((300, 3)) < (0.5, 0.2, 0.0)] = np.nan
    return truth, prob


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """Folds 9 and 10 with unknown labels of the first class, as ``predictions.parquet`` holds them."""
    table = make_predictions(240, classes=CLASSES)
    table["true_A"] = table["true_A"].astype("boolean")
    table.loc[np.random.default_rng(1).random(len(table)) < 0.4, "true_A"] = pd.NA
    return table


def of_known(metric, truth: NDArray, values: NDArray) -> list[float]:
    """Compute a metric of scikit-learn class by class on the known labels."""
    columns = range(truth.shape[1])
    return [metric(truth[~np.isnan(truth[:, i]), i] == 1, values[~np.isnan(truth[:, i]), i]) for i in columns]


def test_metrics_of_a_class_are_those_of_its_known_records(case) -> None:
    truth, prob = case
    decided = prob >= 0.4
    np.testing.assert_allclose(stats.auc(truth, prob), of_known(skm.roc_auc_score, truth, prob))
    np.testing.assert_allclose(stats.average_precision(truth, prob), of_known(skm.average_precision_score, truth, prob))
    np.testing.assert_allclose(stats.brier(truth, prob), of_known(skm.brier_score_loss, truth, prob))
    found = stats.threshold_metrics(truth, decided)
    for name, metric in (
        ("f1", skm.f1_score),
        ("precision", skm.precision_score),
        ("sensitivity", skm.recall_score),
        ("accuracy", skm.accuracy_score),
    ):
        np.testing.assert_allclose(found[name], of_known(metric, truth, decided))
    for bins in ("width", "mass"):
        known = ~np.isnan(truth[:, 0])
        expected = stats.ece(truth[known, 0] == 1, prob[known, 0], bins=bins)
        np.testing.assert_allclose(stats.ece(truth, prob, bins=bins)[0], expected)
        assert stats.reliability(truth[:, 0], prob[:, 0], bins=bins)["count"].sum() == known.sum()


def test_metrics_of_all_classes_count_known_labels_or_fully_labelled_records(case) -> None:
    truth, prob = case
    decided, known = prob >= 0.4, ~np.isnan(truth)
    complete = known.all(axis=1)
    exact = skm.accuracy_score(truth[complete] == 1, decided[complete])
    assert stats.subset_accuracy(truth, decided) == pytest.approx(exact)
    assert stats.hamming_loss(truth, decided) == pytest.approx(skm.zero_one_loss(truth[known] == 1, decided[known]))
    assert stats.micro_f1(truth, decided) == pytest.approx(skm.f1_score(truth[known] == 1, decided[known]))
    # By hand for each record: precision and recall of its known labels.
    precision, recall = [], []
    for labels, marked, is_known in zip(truth, decided, known, strict=True):
        hits = (labels[is_known] == 1) & marked[is_known]
        if marked[is_known].any():
            precision.append(hits.sum() / marked[is_known].sum())
        if (labels[is_known] == 1).any():
            recall.append(hits.sum() / (labels[is_known] == 1).sum())
    p, r = np.mean(precision), np.mean(recall)
    assert stats.f_max(truth, prob, threshold=0.4) == pytest.approx(2 * p * r / (p + r))
    best = stats.f_max_threshold(truth, prob)
    others = [stats.f_max(truth, prob, threshold=one) for one in np.unique(prob)]
    assert stats.f_max(truth, prob, threshold=best) == pytest.approx(max(others))


def test_resamples_are_those_of_the_records_repeated(case) -> None:
    truth, prob = case
    weights = np.random.default_rng(0).integers(0, 3, (4, len(truth))).astype(float)
    for metric in (stats.auc, stats.average_precision, stats.brier, stats.ece, stats.f_max_oracle):
        drawn = metric(truth, prob, weights=weights)
        for counts, values in zip(weights.astype(int), drawn, strict=True):
            repeated = np.repeat(np.arange(len(truth)), counts)
            np.testing.assert_allclose(values, metric(truth[repeated], prob[repeated]))
    for metric in (stats.subset_accuracy, stats.hamming_loss, stats.micro_f1):
        drawn = metric(truth, prob >= 0.4, weights=weights)
        for counts, values in zip(weights.astype(int), drawn, strict=True):
            repeated = np.repeat(np.arange(len(truth)), counts)
            np.testing.assert_allclose(values, metric(truth[repeated], prob[repeated] >= 0.4))


@pytest.mark.parametrize("make", [pd.array, np.ma.masked_invalid, list])
def test_every_kind_of_missing_value_is_unknown(case, make) -> None:
    truth, prob = case
    column = truth[:, 0]
    if make is pd.array:
        outcomes = pd.array(column, dtype="Float64").astype("boolean")
    else:
        outcomes = make([None if np.isnan(v) else bool(v) for v in column]) if make is list else make(column)
    known = ~np.isnan(column)
    assert stats.auc(outcomes, prob[:, 0]) == pytest.approx(skm.roc_auc_score(column[known], prob[known, 0]))


def test_a_class_that_is_unknown_throughout_has_no_metrics(case) -> None:
    truth, prob = case
    truth = np.column_stack([np.full(len(truth), np.nan), truth[:, 2]])
    for metric in (stats.auc, stats.average_precision, stats.brier, stats.ece):
        assert np.isnan(metric(truth, prob[:, :2])[0])
        assert np.isfinite(metric(truth, prob[:, :2])[1])
    assert np.isnan(stats.best_f1_threshold(truth[:, 0], prob[:, 0]))


def test_paired_tests_leave_out_the_unknown(case) -> None:
    truth, prob = case
    known = ~np.isnan(truth[:, 0])
    second = prob[:, ::-1]
    assert delong(truth[:, 0], prob[:, 0], second[:, 0]) == delong(truth[known, 0], prob[known, 0], second[known, 0])


def test_calibration_and_thresholds_are_fitted_on_the_known_records(predictions: pd.DataFrame) -> None:
    fitted = fit_calibration(predictions, CLASSES)
    alone = fit_calibration(predictions[predictions["true_A"].notna()], ("A",))
    # The split of the patients differs, and with it the cross-validated choice may: compare the fit of one method.
    if fitted["classes"]["A"]["method"] == alone["classes"]["A"]["method"] != "identity":
        for key in ("slope", "intercept") if "slope" in alone["classes"]["A"] else ("x", "y"):
            np.testing.assert_allclose(fitted["classes"]["A"][key], alone["classes"]["A"][key], rtol=1e-6)
    thresholds = fit_thresholds(predictions, CLASSES, fitted)
    nine = predictions[(predictions["fold"] == 9) & predictions["true_A"].notna()]
    best = stats.best_f1_threshold(nine["true_A"].to_numpy(bool), nine["prob_A"])
    same = {"classes": {"A": fitted["classes"]["A"]}}
    assert thresholds["thresholds"]["A"] == pytest.approx(float(apply_calibration([[best]], same, ["A"])[0, 0]))
    calibrated = add_calibration(predictions, fitted, CLASSES)
    assert calibrated["true_A"].dtype == "boolean"
    assert calibrated["true_A"].isna().sum() == predictions["true_A"].isna().sum()
    assert calibrated["true_C"].dtype == bool
    scores = stats.fold_scores(calibrated, CLASSES, 10)
    ten = calibrated[(calibrated["fold"] == 10) & calibrated["true_A"].notna()]
    summary = calibration_summary(scores)
    of_known = calibration_summary(stats.fold_scores(ten, ("A",), 10))
    np.testing.assert_allclose(summary.loc["A"].astype(float), of_known.loc["A"].astype(float), atol=1e-12)
    np.testing.assert_allclose(
        policy_table(scores, thresholds).loc["A"],
        policy_table(stats.fold_scores(ten, ("A",), 10), thresholds).loc["A"],
    )


def test_every_report_of_a_fold_leaves_out_the_unknown(predictions: pd.DataFrame, tmp_path: Path) -> None:
    calibration = fit_calibration(predictions, CLASSES)
    table = add_calibration(predictions, calibration, CLASSES)
    thresholds = fit_thresholds(table, CLASSES, calibration)
    results = evaluation.evaluate(table, CLASSES, thresholds, resamples=20)
    ten = table[(table["fold"] == 10) & table["true_A"].notna()]
    truth = ten["true_A"].to_numpy(bool)
    decided = ten["calibrated_A"].to_numpy() >= thresholds["thresholds"]["A"]
    assert results["fold_10"]["A"]["auc"]["value"] == pytest.approx(skm.roc_auc_score(truth, ten["prob_A"]))
    assert results["fold_10"]["A"]["f1"]["value"] == pytest.approx(skm.f1_score(truth, decided))
    scores = stats.fold_scores(table, CLASSES, 10)
    text = evaluation.classification_report(scores, thresholds)
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["A"] and len(line.split()) == 5)
    expected = [skm.precision_score(truth, decided), skm.recall_score(truth, decided), skm.f1_score(truth, decided)]
    assert row[1:] == [*(f"{value:.3f}" for value in expected), str(truth.sum())]

    records = pd.DataFrame({"patient_id": table.loc[table["fold"] == 10, "patient_id"], "sex": "male"})
    groups = subgroup_report(scores, records.reset_index(drop=True), thresholds, resamples=20)
    assert groups["all"]["n_positive"]["A"] == truth.sum()
    assert groups["divisions"]["comorbidity"]["unknown"] == (~scores.known.all(axis=1)).sum()
    selected = selective_report(table, list(CLASSES), thresholds, resamples=20)
    assert selected["classes"]["A"]["n_wrong"] == (truth != decided).sum()

    wrong = confident_mistakes(scores, thresholds, n=200)
    assert all(scores.known[row.position, CLASSES.index(row["class"])] for _, row in wrong.iterrows())
    examples = threshold_examples(scores, thresholds)
    assert all(scores.known[row.position, CLASSES.index(row["class"])] for _, row in examples.iterrows())
    shares = cooccurrence_tables(scores, thresholds)["truth"]
    both_known = scores.known[:, 0]
    of_c = scores.positive[:, 2] & both_known
    assert shares.loc["C", "A"] == pytest.approx((of_c & scores.positive[:, 0]).sum() / of_c.sum())
    for figure in (
        plots.roc_curves(scores, thresholds),
        plots.precision_recall_curves(scores, thresholds),
        plots.confusion_matrices(scores, thresholds),
        plots.score_histograms(scores, thresholds),
        plots.reliability(scores),
    ):
        figure.savefig(tmp_path / "figure.png")
    counts = plots.confusion_matrix(scores, "A", thresholds).axes[0].texts
    assert sum(int(text.get_text().split("\n")[0]) for text in counts) == len(ten)


def test_models_are_compared_on_the_known_labels(predictions: pd.DataFrame) -> None:
    other = predictions.assign(**{f"prob_{name}": predictions[f"prob_{name}"] ** 2 for name in CLASSES})
    other.loc[other["fold"] == 10, "prob_B"] = 0.5
    comparison = evaluation.compare({"a": predictions, "b": other}, resamples=20)
    ten = predictions[(predictions["fold"] == 10) & predictions["true_A"].notna()]
    assert comparison.classes.loc["A", "first"] == pytest.approx(
        skm.roc_auc_score(ten["true_A"].to_numpy(bool), ten["prob_A"])
    )
    assert comparison.classes.loc["A", "difference"] == pytest.approx(0)
    unlike = other.assign(true_A=other["true_A"].fillna(value=False))
    with pytest.raises(ValueError, match="true labels"):
        align({"first": predictions, "second": unlike})
    for method in ("mean_prob", "weights", "stacking"):
        ensemble = fit_ensemble({"first": predictions, "second": other}, method)
        assert ensemble.predictions["true_A"].isna().sum() == predictions["true_A"].isna().sum()
        assert ensemble.predictions["prob_A"].between(0, 1).all()
