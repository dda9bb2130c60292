"""Predictions of other programs: everything possible is reported, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from made_predictions import make_predictions

from ecgkit.errors import EcgkitError
from ecgkit.evaluation import evaluate_session
from ecgkit.evaluation.external import compare_predictions, read_predictions
from ecgkit.sessions import Session

CLASSES = ["NORM", "MI"]


def predictions() -> pd.DataFrame:
    table = make_predictions(classes=("NORM", "MI"))
    return table.astype({"prob_NORM": float, "prob_MI": float})


def write(table: pd.DataFrame, folder: Path, name: str = "theirs.parquet") -> Path:
    if name.endswith("csv"):
        table.to_csv(folder / name, index=False)
    else:
        table.to_parquet(folder / name, index=False)
    return folder / name


def test_a_session_s_own_file_gives_its_own_metrics(tmp_path: Path) -> None:
    results = evaluate_session(Session(tmp_path), predictions(), CLASSES)
    read = read_predictions(tmp_path / "predictions.parquet")
    assert read.metrics() == results
    assert read.notes == []


def test_a_csv_with_zeros_and_ones_gives_the_same(tmp_path: Path) -> None:
    table = predictions()
    from_parquet = read_predictions(write(table, tmp_path)).metrics(resamples=50)
    plain = table.astype(dict.fromkeys(["true_NORM", "true_MI"], int))
    assert read_predictions(write(plain, tmp_path, "theirs.csv")).metrics(resamples=50) == from_parquet


def test_decisions_next_to_the_probabilities_change_nothing(tmp_path: Path) -> None:
    table = predictions()
    expected = read_predictions(write(table, tmp_path)).metrics(resamples=50)
    decided = table.assign(predicted_NORM=table["prob_NORM"] >= 0.5, predicted_MI=table["prob_MI"] >= 0.5)
    assert read_predictions(write(decided, tmp_path)).metrics(resamples=50) == expected


def test_without_patients_each_record_counts_as_one_and_that_is_said(tmp_path: Path) -> None:
    table = predictions()
    read = read_predictions(write(table.drop(columns="patient_id"), tmp_path))
    (note,) = read.notes
    assert "each record counts as a patient" in note
    found = read.metrics(resamples=50)
    assert found["bootstrap"]["fold_10"]["patients"] == 200
    assert found["fold_10"]["macro"]["auc"]["value"] == pytest.approx(
        sklearn.metrics.roc_auc_score(
            table.loc[table.fold == 10, ["true_NORM", "true_MI"]], table.loc[table.fold == 10, ["prob_NORM", "prob_MI"]]
        ),
        abs=1e-12,
    )


def test_without_fold_9_nothing_is_tuned_and_that_is_said(tmp_path: Path) -> None:
    table = predictions()
    read = read_predictions(write(table[table["fold"] == 10], tmp_path))
    assert any("no thresholds are tuned" in note for note in read.notes)
    assert any("no fold 9 to fit them on" in note for note in read.notes)
    assert read.thresholds is None
    found = read.metrics(resamples=50)
    assert "fold_9" not in found
    fold = found["fold_10"]
    assert fold["NORM"]["f1"] == {"value": None, "low": None, "high": None}
    assert fold["samples"]["subset_accuracy"]["value"] is None
    assert fold["NORM"]["f1_at_half"]["value"] is not None
    assert fold["samples"]["f_max_oracle"]["value"] is not None
    test = table[table["fold"] == 10]
    expected = sklearn.metrics.brier_score_loss(test["true_NORM"], test["prob_NORM"])
    assert fold["NORM"]["brier"]["value"] == pytest.approx(expected)


def test_records_without_a_name_are_said(tmp_path: Path) -> None:
    (note,) = read_predictions(write(predictions().drop(columns="record_id"), tmp_path)).notes
    assert "no column record_id" in note


def test_without_folds_all_records_are_the_test_and_that_is_said(tmp_path: Path) -> None:
    read = read_predictions(write(predictions().drop(columns="fold"), tmp_path))
    assert any("all 400 records are taken as fold 10" in note for note in read.notes)
    assert read.metrics(resamples=20)["bootstrap"]["fold_10"]["patients"] == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="prob_MI"), "only one of true_MI and prob_MI"),
        (lambda table: table[["record_id", "fold"]], "no columns true_CLASS and prob_CLASS"),
        (lambda table: table.assign(prob_MI=np.nan), "nothing in column prob_MI, row 1"),
        (lambda table: table.assign(prob_MI=3.0), "divide percentages by 100"),
        (lambda table: table.assign(prob_MI=-3.0), "sigmoid"),
        (
            lambda table: table.assign(prob_MI=table["prob_MI"].mask(table.index == 2, 1.01)),
            "1.01 in column prob_MI, row 3",
        ),
        (lambda table: table.assign(prob_MI=np.inf), "inf in column prob_MI"),
        (lambda table: table.assign(true_MI=2), "2 in column true_MI, row 1"),
        (lambda table: table.assign(true_MI=0.5), "0.5 in column true_MI, row 1"),
        (lambda table: table[table["fold"] == 9], "no record of fold 10"),
        (lambda table: table.assign(prob_MI="high"), "'high' in column prob_MI, row 1"),
        (lambda table: table.assign(prob_MI="1,000.5"), "'1,000.5' in column prob_MI"),
        (lambda table: table.assign(fold="test"), "'test' in column fold"),
        (lambda table: table.assign(calibrated_MI=table["prob_MI"]), "calibrated_MI but no calibrated_NORM"),
        (lambda table: table.rename(columns=lambda name: name.replace("NORM", "macro")), "'macro'"),
        (lambda table: table.rename(columns=lambda name: name.replace("NORM", "")), "''"),
        (lambda table: table.assign(fold=9.5), "9.5 in column fold"),
        (
            lambda table: pd.concat([table, table.iloc[7:9]]),
            r"record 7 twice \(2 repeated rows",
        ),
        (lambda table: table.assign(record_id=table["record_id"].mask(table.index == 5)), "no record_id in row 6"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(change, message: str, tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match=message) as error_info:
        read_predictions(write(change(predictions()), tmp_path)).metrics(resamples=5)
    assert "\n" not in str(error_info.value)


def test_records_without_a_patient_count_for_themselves(tmp_path: Path) -> None:
    table = predictions()
    for ids in (table["patient_id"].astype(float), "p" + table["patient_id"].astype(str)):
        holed = table.assign(patient_id=ids.mask(table.index >= 350))
        read = read_predictions(write(holed, tmp_path, "theirs.csv"))
        assert read.notes == ["50 records have no patient_id: each of them counts as a patient"]
        assert read.metrics(resamples=5)["bootstrap"]["fold_10"]["patients"] == 75 + 50


def test_one_patient_alone_has_no_interval(tmp_path: Path) -> None:
    read = read_predictions(write(predictions().assign(patient_id=7, fold=10), tmp_path))
    auc = read.metrics(resamples=5)["fold_10"]["macro"]["auc"]
    assert auc["value"] is not None
    assert (auc["low"], auc["high"]) == (None, None)


def test_folds_and_outcomes_may_be_text(tmp_path: Path) -> None:
    table = predictions()
    plain = read_predictions(write(table, tmp_path)).metrics(resamples=5)
    text = table.assign(fold=table["fold"].astype(str), true_MI=table["true_MI"].map({True: "True", False: "False"}))
    assert read_predictions(write(text, tmp_path)).metrics(resamples=5) == plain


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.xlsx", b"", ".parquet, .csv, .csv.gz"),
        ("x.parquet", b"no parquet", "cannot be read"),
        ("x.csv", b"", "cannot be read"),
        ("x.csv", b"a,b\n\xff\xfe", "cannot be read"),
        ("x.csv.gz", b"a,b\n1,2\n", "cannot be read"),
        ("x.csv", b"true_A,prob_A,prob_A\n1,0.5,0.5\n", "'prob_A' twice"),
        ("x.csv", b"true_A,prob_A\n1,0.5,\n", "more values"),
        ("none.csv", None, "no file"),
    ],
)
def test_what_is_no_table_is_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EcgkitError, match=message):
        read_predictions(tmp_path / name)


def test_a_patient_in_both_folds_is_refused(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "fold": [9, 9, 10, 10],
            "patient_id": [1, 2, 2, 3],
            "true_A": [0, 1, 0, 1],
            "prob_A": [0.1, 0.9, 0.2, 0.8],
        }
    )
    table.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(EcgkitError, match="has 1 patients in two parts, the first is patient 2"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize("value", ["high", ""])
def test_a_calibrated_probability_that_is_no_number_is_named(tmp_path: Path, value: str) -> None:
    (tmp_path / "p.csv").write_text(f"fold,true_A,prob_A,calibrated_A\n10,1,0.4,0.5\n10,0,0.2,{value}\n")
    with pytest.raises(EcgkitError, match="in column calibrated_A, row 2"):
        read_predictions(tmp_path / "p.csv")


def test_a_spreadsheet_s_way_of_writing_numbers_gives_the_same(tmp_path: Path) -> None:
    table = predictions()
    plain = read_predictions(write(table, tmp_path)).metrics(resamples=5)
    comma = table.assign(prob_MI=[str(value).replace(".", ",") for value in table["prob_MI"]])
    assert read_predictions(write(comma, tmp_path, "comma.csv")).metrics(resamples=5) == plain
    path = tmp_path / "semicolons.csv.gz"
    comma.to_csv(path, index=False, sep=";", encoding="utf-16")
    assert read_predictions(path).metrics(resamples=5) == plain
    table.to_csv(tmp_path / "tabs.CSV", index=False, sep="\t", encoding="utf-8-sig")
    assert read_predictions(tmp_path / "tabs.CSV").metrics(resamples=5) == plain
    exact = table.assign(prob_MI=(table["prob_MI"] * 100).round() / 100)
    percent = exact.assign(prob_MI=[f"{round(value * 100)} %" for value in exact["prob_MI"]])
    whole = read_predictions(write(exact, tmp_path)).metrics(resamples=5)
    assert read_predictions(write(percent, tmp_path, "percent.csv")).metrics(resamples=5) == whole


def test_a_probability_that_is_outside_by_rounding_is_clipped_and_that_is_said(tmp_path: Path) -> None:
    table = predictions()
    table.loc[3, "prob_MI"], table.loc[5, "prob_NORM"] = 1.0000001, -1e-7
    read = read_predictions(write(table, tmp_path))
    assert [note.split()[0] for note in read.notes] == ["prob_NORM", "prob_MI"]
    assert read.table["prob_MI"].max() == 1
    assert read.table["prob_NORM"].min() == 0


def test_other_folds_are_left_out_and_counted(tmp_path: Path) -> None:
    table = predictions()
    more = table.assign(record_id=table["record_id"].astype(int) + 1000, patient_id=-1, fold=3)
    read = read_predictions(write(pd.concat([table, more]), tmp_path, "theirs.csv"))
    assert any("400 records of other folds" in note for note in read.notes)
    assert read.metrics(resamples=5) == read_predictions(write(table, tmp_path)).metrics(resamples=5)


def test_a_file_without_patients_is_compared_by_those_of_the_other(tmp_path: Path) -> None:
    table = predictions()
    other = table.assign(prob_MI=1 - table["prob_MI"])
    pairs = [
        {"a": read_predictions(write(table, tmp_path)), "b": read_predictions(write(second, tmp_path, "b.csv"))}
        for second in (other, other.drop(columns="patient_id"))
    ]
    first, second = (compare_predictions(pair, resamples=20) for pair in pairs)
    pd.testing.assert_frame_equal(first.macro, second.macro)
    assert first.n_patients == second.n_patients
    pairs[0]["b"] = read_predictions(write(other.drop(columns="record_id"), tmp_path, "b.csv"))
    with pytest.raises(EcgkitError, match="b has no column record_id"):
        compare_predictions(pairs[0])


@pytest.mark.parametrize(("column", "what"), [("patient_id", "other patients"), ("true_MI", "other true labels")])
def test_a_difference_is_called_by_its_name(tmp_path: Path, column: str, what: str) -> None:
    table = predictions()
    other = table.assign(**{column: ~table["true_MI"] if column == "true_MI" else "p" + table.index.astype(str)})
    pair = {"a": read_predictions(write(table, tmp_path)), "b": read_predictions(write(other, tmp_path, "b.csv"))}
    with pytest.raises(EcgkitError, match=what):
        compare_predictions(pair, resamples=5)
