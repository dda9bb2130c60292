"""The commands evaluate and compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_sessions import CLASSES, CONFIG, make_predictions, make_session
from sklearn.metrics import roc_auc_score

from ecgkit import evaluation, paths, sessions
from ecgkit.cli import main
from ecgkit.cli.tables import shown_classes
from ecgkit.evaluation.comparison_session import ComparisonRun
from ecgkit.evaluation.config import ComparisonConfig
from ecgkit.evaluation.files import stored_predictions
from ecgkit.evaluation.leaderboard import leaderboard
from ecgkit.sessions import Session
from ecgkit.stats.labels import format_interval
from ecgkit.workflow import Outcome


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a good and a bad session."""
    folder = tmp_path_factory.mktemp("compared")
    make_session(folder, noise=0.5)
    make_session(folder, replace(CONFIG, model="xlstm"), noise=4.0)
    return folder


def theirs(root: Path) -> Path:
    return root / "training_sessions" / "session_1" / "predictions.parquet"


def test_evaluate_json_is_nothing_but_metrics_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(theirs(root)), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((theirs(root).parent / "metrics.json").read_text())
    assert err == ""


def test_evaluate_says_what_the_file_lacks(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_parquet(theirs(root))
    table[table["fold"] == 10].drop(columns="patient_id").to_csv(tmp_path / "theirs.csv", index=False)
    assert main(["evaluate", str(tmp_path / "theirs.csv"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)) == ["version", "fold_10", "bootstrap"]
    assert "no column patient_id" in err
    assert "no fold 9" in err


def test_evaluate_prints_a_table_for_people(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(theirs(root))]) == 0
    out = capsys.readouterr().out
    auc = json.loads((theirs(root).parent / "metrics.json").read_text())["fold_10"]["macro"]["auc"]
    assert f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})" in out


def test_compare_prints_the_leaderboard_and_its_folder(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["compare", "1", "session_2", "--no-ensembles", "--root", str(root)]
    assert main(command) == 0
    *table, standing, folder = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in table] == ["session", "session_1", "session_2"]
    assert "no published result" in standing or "published" in standing
    assert Path(folder) == root / "comparison_sessions" / "session_1"
    assert main([*command, "--json"]) == 0  # what is compared already is read again
    board = json.loads(capsys.readouterr().out)
    assert board["best_by_fold_9"] == "session_1"
    assert board["sessions"][1]["difference_high"] < 0
    asked: list[dict[str, object]] = []

    def compared(step: str, _: Path, **settings: object) -> Outcome:
        asked.append({name: value for name, value in settings.items() if value is not None})
        return Outcome(Path(folder), skipped=True)

    monkeypatch.setattr("ecgkit.cli.evaluation.run_step", compared)
    assert main(["compare", "--root", str(root)]) == 0
    assert asked == [{"force": False, "sessions": ""}]  # which means all of them


def test_compare_takes_a_table_from_elsewhere(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(theirs(root)), "2", "--root", str(root)]) == 0
    assert f"{theirs(root)} is better than 2: macro AUC on fold 10" in capsys.readouterr().out
    assert main(["compare", str(theirs(root)), "2", "--json", "--root", str(root)]) == 0
    (pair,) = json.loads(capsys.readouterr().out)
    assert pair["macro"]["auc"]["difference_low"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere.parquet"], "no file nowhere.parquet"),
        (["evaluate", "README.md"], "README.md"),
        (["compare", "nowhere.csv", "1"], "no file nowhere.csv"),
        (["compare", "nowhere.csv"], "nowhere.csv cannot"),
        (["compare", "a.csv", "a.csv"], "a.csv cannot be compared alone"),
        (["compare", "a.csv", "b.csv", "--no-ensembles"], "files of predictions are compared as they are"),
        (["compare", "1"], "session_1 alone cannot be compared"),
        (["compare", "7", "1"], "no session '7'"),
        (["compare", "--dataset", "mimic"], "no finished training of mimic"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ecgkit: {message}")
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def with_unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root whose two sessions also predicted 20 records of fold 10 without a label."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for model, noise in (("resnet1d", 0.5), ("xlstm", 4.0)):
        session = make_session(folder, replace(CONFIG, model=model), noise=noise, done=False)
        further = make_predictions(noise, seed=3).iloc[2::4].tail(20).reset_index(drop=True)
        further = further.assign(record_id=further["record_id"] + 1000, patient_id=further["patient_id"] + 1000)
        further = further.assign(**{f"true_{name}": False for name in CLASSES})
        further = evaluation.add_calibration(further, session.read_json("calibration.json"), CLASSES)
        predictions, thresholds = stored_predictions(session), session.read_json("thresholds.json")
        results = evaluation.evaluate(predictions, CLASSES, thresholds, unlabelled=further, resamples=20)
        session.write_table("unlabelled.parquet", further)
        session.write_json("metrics.json", results)
        session.mark_done()
    return folder


def test_both_ways_of_counting_are_shown_and_can_be_compared(
    with_unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, session = with_unlabelled, Session(with_unlabelled / "training_sessions" / "session_1")
    results, table = session.read_json("metrics.json"), pd.read_parquet(session.path / "predictions.parquet")
    board = leaderboard(sessions.list_sessions(paths.TRAINING, root), resamples=20)
    row = board.sessions.loc["session_1"]
    both = pd.concat([table, pd.read_parquet(session.path / "unlabelled.parquet")], ignore_index=True)
    test = both[both["fold"] == 10]
    aucs = [roc_auc_score(test[f"true_{name}"].astype(bool), test[f"prob_{name}"]) for name in CLASSES]
    assert row["fold_10_all_auc"] == pytest.approx(np.mean(aucs))
    assert (row["fold_10_records"], row["fold_10_all_records"]) == (len(test) - 20, len(test))

    counts = (results, results["with_unlabelled"])
    numbers = [format_interval(one["fold_10"]["macro"]["auc"], digits=4) for one in counts]
    both.assign(record_id=both["record_id"].astype(str)).to_parquet(tmp_path / "all.parquet")
    table.to_parquet(tmp_path / "labelled.parquet")
    for name, n_records in (("labelled", len(test) - 20), ("all", len(test))):
        assert main(["compare", str(tmp_path / f"{name}.parquet"), "1", "--root", str(root)]) == 0
        out = capsys.readouterr().out
        assert all(number in out for number in numbers)
        of_file, of_session = out.splitlines()[1:3]
        assert f"  {n_records}  " in of_file
        assert f"  {len(test) - 20}  " in of_session
        assert f"  {len(test)}  " in of_session
    made = sessions.create(paths.COMPARISONS, root)
    ComparisonRun(made, ComparisonConfig(), root, ()).save(board)
    monkeypatch.setattr("ecgkit.cli.evaluation.run_step", lambda *_, **__: Outcome(made.path, skipped=True))
    assert main(["compare", "1", "2", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert all(number in out for number in (*numbers, f"{len(test) - 20} records", f"all: {len(test)}"))


def test_of_many_classes_those_with_the_lowest_auc_are_shown() -> None:
    aucs = dict(zip((f"C{number}" for number in range(30)), np.linspace(0.9, 0.5, 30), strict=True))
    metrics = {name: {"auc": {"value": float(value), "low": float(value) - 0.1}} for name, value in aucs.items()}
    metrics["C31"] = {"auc": {"value": 0.1, "low": None}}  # three records: the lowest, by chance
    metrics |= {"C30": {"auc": {"value": None}}, "macro": {"auc": {"value": 0.7}}}
    assert shown_classes(metrics) == [*(f"C{number}" for number in range(29, 19, -1)), "macro"]
    few = {name: metrics[name] for name in ("C0", "C30", "macro")}
    assert shown_classes(few) == ["C0", "C30", "macro"]
