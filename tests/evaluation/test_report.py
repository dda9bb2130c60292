"""The report of a session: its files, its numbers, and what it does with folds and classes that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from made_predictions import make_predictions

from ecgkit import stats
from ecgkit.errors import EcgkitError
from ecgkit.evaluation import (
    add_calibration,
    evaluate,
    evaluate_session,
    fit_calibration,
    fit_thresholds,
    fold_metrics,
    metrics_table,
)
from ecgkit.sessions import Session
from ecgkit.stats.labels import STATEMENTS

CLASSES = ("NORM", "MI", "STTC")
OF_DECISIONS = ("sensitivity", "specificity", "precision", "f1", "accuracy")
OF_CLASSES = [
    "auc",
    "average_precision",
    *OF_DECISIONS,
    *(f"{name}_at_half" for name in OF_DECISIONS),
    "brier",
    "ece",
    "ece_equal_mass",
]


def test_a_session_gets_its_files(tmp_path: Path) -> None:
    results = evaluate_session(Session(tmp_path), make_predictions(), CLASSES)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "calibration.json",
        "classification_report.txt",
        "metrics.json",
        "predictions.parquet",
        "report.html",
        "thresholds.json",
    ]
    assert json.loads((tmp_path / "metrics.json").read_text()) == results
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    of_classes = [f"{kind}_{name}" for name in CLASSES for kind in ("true", "prob", "calibrated")]
    assert list(table) == ["record_id", "patient_id", "fold", *of_classes]
    assert set(table[[f"true_{name}" for name in CLASSES]].dtypes.astype(str)) == {"bool"}
    assert set(table[[f"calibrated_{name}" for name in CLASSES]].dtypes.astype(str)) == {"float32"}


def test_what_was_written_can_be_evaluated_again_with_equal_numbers(tmp_path: Path) -> None:
    results = evaluate_session(Session(tmp_path), make_predictions(), CLASSES)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    thresholds = json.loads((tmp_path / "thresholds.json").read_text())
    assert evaluate(table, CLASSES, thresholds) == results
    assert evaluate_session(Session(tmp_path), table, CLASSES) == results


def test_the_layout_of_metrics_json(tmp_path: Path) -> None:
    results = evaluate_session(Session(tmp_path), make_predictions(), CLASSES)

    assert list(results) == ["version", "fold_9", "fold_10", "bootstrap"]
    assert results["version"] == 1
    for fold in ("fold_9", "fold_10"):
        assert list(results[fold]) == [*CLASSES, "macro", "micro", "samples"]
        for group in (*CLASSES, "macro"):
            assert list(results[fold][group]) == OF_CLASSES
        assert list(results[fold]["micro"]) == ["f1", "f1_at_half"]
        assert list(results[fold]["samples"]) == ["subset_accuracy", "hamming_loss", "f_max", "f_max_oracle"]
        entries = [entry for group in results[fold].values() for entry in group.values()]
        assert all(list(entry) == ["value", "low", "high"] for entry in entries)
        assert all(0 <= entry["low"] < entry["high"] <= 1 for entry in entries)
        inside = [entry["low"] <= entry["value"] <= entry["high"] for entry in entries]
        assert np.mean(inside) > 0.9
        assert results["bootstrap"][fold] == {
            "resamples": 1000,
            "of": "patients",
            "patients": 100,
            "percentiles": [2.5, 97.5],
            "without_auc": dict.fromkeys(CLASSES, 0),
        }


def test_the_numbers_are_those_of_scikit_learn_at_the_thresholds_of_fold_9() -> None:
    predictions = make_predictions()
    calibration = fit_calibration(predictions, CLASSES)
    thresholds = fit_thresholds(predictions, CLASSES, calibration)
    predictions = add_calibration(predictions, calibration, CLASSES)
    results = evaluate(predictions, CLASSES, thresholds)["fold_10"]

    test = predictions[predictions["fold"] == 10]
    truth = test[[f"true_{name}" for name in CLASSES]].to_numpy()
    prob = test[[f"prob_{name}" for name in CLASSES]].to_numpy()
    calibrated = test[[f"calibrated_{name}" for name in CLASSES]].to_numpy(np.float64)
    decided = calibrated >= [thresholds["thresholds"][name] for name in CLASSES]
    expected = {
        "auc": sklearn.metrics.roc_auc_score(truth, prob),
        "average_precision": sklearn.metrics.average_precision_score(truth, prob),
        "f1": sklearn.metrics.f1_score(truth, decided, average="macro"),
        "f1_at_half": sklearn.metrics.f1_score(truth, prob >= 0.5, average="macro"),
        "brier": np.mean([sklearn.metrics.brier_score_loss(truth[:, i], calibrated[:, i]) for i in range(3)]),
    }
    for name, value in expected.items():
        assert results["macro"][name]["value"] == pytest.approx(value, abs=1e-12), name
    assert results["micro"]["f1"]["value"] == pytest.approx(sklearn.metrics.f1_score(truth, decided, average="micro"))
    assert results["samples"]["subset_accuracy"]["value"] == sklearn.metrics.accuracy_score(truth, decided)
    assert results["samples"]["hamming_loss"]["value"] == pytest.approx(sklearn.metrics.hamming_loss(truth, decided))
    f_max = stats.f_max(truth, prob, threshold=thresholds["f_max_threshold"])
    assert results["samples"]["f_max"]["value"] == f_max


def test_fold_10_chooses_nothing() -> None:
    predictions = make_predictions()
    changed = predictions.copy()
    is_test = changed["fold"] == 10
    for name in CLASSES:
        changed.loc[is_test, f"true_{name}"] = ~changed.loc[is_test, f"true_{name}"]
        changed.loc[is_test, f"prob_{name}"] = np.float32(0.01)
    calibration = fit_calibration(predictions, CLASSES)
    assert fit_calibration(changed, CLASSES) == calibration
    assert fit_thresholds(changed, CLASSES, calibration) == fit_thresholds(predictions, CLASSES, calibration)


def test_a_class_that_is_not_in_a_fold_is_null_and_out_of_the_macro_mean(tmp_path: Path) -> None:
    predictions = make_predictions()
    predictions.loc[predictions["fold"] == 10, "true_MI"] = False
    predictions.loc[predictions["fold"] == 9, "true_STTC"] = False

    results = evaluate_session(Session(tmp_path), predictions, CLASSES)

    test = results["fold_10"]
    for name in ("auc", "average_precision", "sensitivity", "precision", "f1", "f1_at_half"):
        assert test["MI"][name]["value"] is None
        both = np.mean([test["NORM"][name]["value"], test["STTC"][name]["value"]])
        assert test["macro"][name]["value"] == pytest.approx(both)
    assert test["MI"]["specificity"]["value"] is not None
    thresholds = json.loads((tmp_path / "thresholds.json").read_text())
    assert thresholds["not_fitted"] == ["STTC"]
    assert thresholds["thresholds"]["STTC"] == 0.5
    assert json.loads((tmp_path / "calibration.json").read_text())["classes"]["STTC"]["method"] == "identity"
    report = (tmp_path / "classification_report.txt").read_text()
    assert "Not in this fold, counted as 0 in the averages below and left out of metrics.json: MI\n" in report
    assert "(not fitted: fold 9 lacks an outcome)" in report
    assert np.isnan(metrics_table(results)["auc"]["MI"])


def test_no_class_at_all_gives_nulls_and_no_warning(tmp_path: Path) -> None:
    predictions = make_predictions()
    for name in CLASSES:
        predictions[f"true_{name}"] = False
    results = evaluate_session(Session(tmp_path), predictions, CLASSES)
    assert results["fold_10"]["macro"]["auc"]["value"] is None
    assert results["fold_10"]["samples"]["f_max"]["value"] is None
    assert results["fold_10"]["micro"]["f1"]["value"] is None


def test_the_classification_report_says_what_it_describes(tmp_path: Path) -> None:
    evaluate_session(Session(tmp_path), make_predictions(), CLASSES)
    lines = (tmp_path / "classification_report.txt").read_text().splitlines()
    assert lines[0] == "fold 10, 200 records; best checkpoint (by macro AUC on fold 9)"
    threshold = json.loads((tmp_path / "thresholds.json").read_text())["thresholds"]["MI"]
    assert f"  MI    {threshold:.4f}" in lines
    assert any(line.split() == ["precision", "recall", "f1-score", "support"] for line in lines)


def test_one_class_alone_has_a_report(tmp_path: Path) -> None:
    evaluate_session(Session(tmp_path), make_predictions(classes=("MI",)), ["MI"])
    assert "MI" in (tmp_path / "classification_report.txt").read_text()


def test_a_table_without_fold_9_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    predictions = make_predictions()
    with pytest.raises(EcgkitError, match="no record of fold 9") as error:
        evaluate_session(Session(tmp_path), predictions[predictions["fold"] != 9], CLASSES)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_without_fold_10_the_report_is_about_fold_9(tmp_path: Path) -> None:
    predictions = make_predictions()
    both = evaluate_session(Session(tmp_path), predictions, CLASSES)
    results = evaluate_session(Session(tmp_path), predictions[predictions["fold"] == 9], CLASSES)
    assert list(results) == ["version", "fold_9", "bootstrap"]
    assert results["fold_9"] == both["fold_9"]
    assert (tmp_path / "classification_report.txt").read_text().startswith("fold 9, 200 records")


def test_a_quantity_has_r2_and_mean_absolute_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = make_predictions()[["record_id", "patient_id", "fold"]]
    true = rng.uniform(20, 90, len(table))
    table = table.assign(true_age=true, predicted_age=true + rng.normal(0, 5, len(table)))
    results = evaluate_session(Session(tmp_path), table, ["age"])
    test = table[table["fold"] == 10]
    found = results["fold_10"]["age"]
    assert found["r2"]["value"] == pytest.approx(sklearn.metrics.r2_score(test["true_age"], test["predicted_age"]))
    mae = sklearn.metrics.mean_absolute_error(test["true_age"], test["predicted_age"])
    assert found["mae"]["value"] == pytest.approx(mae)
    assert found["mae"]["low"] < mae < found["mae"]["high"]
    assert not (tmp_path / "thresholds.json").exists()
    assert "age R2 on fold 10" in (tmp_path / "report.html").read_text()


def test_nan_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    predictions = make_predictions()
    predictions.loc[399, "prob_MI"] = np.nan
    with pytest.raises(EcgkitError, match="NaN"):
        evaluate_session(Session(tmp_path), predictions, CLASSES)
    assert not list(tmp_path.iterdir())


def test_every_metric_can_be_computed_on_a_resample_of_the_records() -> None:
    predictions = make_predictions()
    predictions = add_calibration(predictions, fit_calibration(predictions, CLASSES), CLASSES)
    thresholds = fit_thresholds(predictions, CLASSES)
    scores = stats.fold_scores(predictions, CLASSES, 10)

    whole = fold_metrics(scores.take(np.arange(200)), thresholds)
    resampled = fold_metrics(scores.take(np.random.default_rng(0).integers(0, 200, 200)), thresholds)

    assert whole == fold_metrics(scores, thresholds)
    assert resampled["macro"]["auc"] != whole["macro"]["auc"]


def test_without_calibrated_probabilities_the_way_out_is_named() -> None:
    with pytest.raises(EcgkitError, match="add_calibration"):
        fold_metrics(stats.fold_scores(make_predictions(), CLASSES, 10), {})


def test_the_table_has_a_row_a_class_and_one_for_the_mean(tmp_path: Path) -> None:
    results = evaluate_session(Session(tmp_path), make_predictions(), CLASSES)
    table = metrics_table(results, fold="fold_9")
    assert list(table.index) == [*CLASSES, "macro"]
    assert list(table) == OF_CLASSES
    assert table.loc["macro", "auc"] == pytest.approx(table.loc[list(CLASSES), "auc"].mean())
    with pytest.raises(EcgkitError, match="'fold_8': choose one of fold_9, fold_10"):
        metrics_table(results, fold="fold_8")


def test_seventy_one_classes_with_rare_ones(tmp_path: Path) -> None:
    classes = tuple(f"C{i:02d}" for i in range(71))
    predictions = make_predictions(300, classes=classes)
    for i, name in enumerate(classes):
        predictions[f"true_{name}"] &= np.random.default_rng(i).random(300) < 0.02
    results = evaluate_session(Session(tmp_path), predictions, classes)
    values = [results["fold_10"][name]["auc"]["value"] for name in classes]
    assert None in values
    assert results["fold_10"]["macro"]["auc"]["value"] == pytest.approx(np.mean([v for v in values if v is not None]))


def without_label(n_records: int = 30) -> pd.DataFrame:
    """Predictions of records of folds 9 and 10 none of whose labels is true."""
    table = make_predictions(n_records, seed=5)
    table[["record_id", "patient_id"]] += 10_000
    return table.assign(**{f"true_{name}": False for name in CLASSES})


def test_records_without_a_label_are_counted_both_ways(tmp_path: Path) -> None:
    predictions, unlabelled = make_predictions(), without_label()
    plain = evaluate_session(Session(tmp_path), predictions, CLASSES)
    both = evaluate_session(Session(tmp_path), predictions, CLASSES, unlabelled=unlabelled)

    # Calibration, thresholds and the numbers of the labelled records are what they are without the others.
    counted = both.pop("with_unlabelled")
    assert both == plain
    assert counted["records"] == {"fold_9": 215, "fold_10": 215}
    assert counted["unlabelled"] == {"fold_9": 15, "fold_10": 15}
    everything = pd.concat([predictions, unlabelled])
    test = everything[everything["fold"] == 10]
    for name in CLASSES:
        expected = sklearn.metrics.roc_auc_score(test[f"true_{name}"], test[f"prob_{name}"])
        assert counted["fold_10"][name]["auc"]["value"] == pytest.approx(expected)
    assert counted["fold_10"]["macro"]["auc"]["low"] < counted["fold_10"]["macro"]["auc"]["value"]

    stored = pd.read_parquet(tmp_path / "unlabelled.parquet")
    assert stored["record_id"].tolist() == unlabelled["record_id"].tolist()
    assert list(stored) == list(pd.read_parquet(tmp_path / "predictions.parquet"))
    page = (tmp_path / "report.html").read_text()
    assert "200 records" in page
    assert "215 records" in page


@pytest.mark.parametrize(("label_set", "text"), [("all", "<small>anterior infarction</small>"), ("labels", "AMI</td>")])
def test_many_classes_are_spelled_out_in_the_table(tmp_path: Path, label_set: str, text: str) -> None:
    classes = tuple(list(STATEMENTS)[:20])
    session = Session(tmp_path)
    session.write_json("config.json", {"model": "cnn", "label_set": label_set})
    evaluate_session(session, make_predictions(classes=classes), classes)
    page = (tmp_path / "report.html").read_text()
    assert text in page
