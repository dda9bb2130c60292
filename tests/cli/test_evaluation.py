"""The commands evaluate and compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_sessions import CONFIG, make_session

from ecgkit.cli import main
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
